/* What the calls of panics.c have in common, and those of names and processes; panics_sockets.h has the rest. There is one for each
 * signature among the functions that the library hooks: every function is found by its name and called through a pointer, so that
 * none of its aliases is forgotten. Each call ends its process by saying what came of it. */
#include "victim.h"

#include <arpa/nameser.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <resolv.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <wordexp.h>

enum { NEVER = 0, ALWAYS = -1, HAS_NOT_PANICKED = 1, HAS_PANICKED = 7 };

static const char *server, *hole, *name_server;
static struct target target;
static int *panics; /* the library's word: it panics at the look that this counts down to, or at every one below zero */
static int when, has_panicked;
static char label[128];

/* Whether the library is as good as before. */
static const char *afterwards(void)
{
    struct target to = resolve(server, "7");
    int fd = new_socket(&to);
    return connect_to(fd, &to) == 0 ? echo(fd) : strerrorname_np(errno);
}

static void calm_down(void)
{
    if (when == NEVER)
        return;
    has_panicked = when == ALWAYS ? *panics < ALWAYS : *panics == 0;
    *panics = when = NEVER;
}

/* Ends the process. A call that was to panic and did not even look says so. */
__attribute__((noreturn, format(printf, 1, 2))) static void say(const char *format, ...)
{
    int is_to_panic = when != NEVER || has_panicked;
    calm_down();
    va_list list;
    va_start(list, format);
    printf("%s: ", label);
    vprintf(format, list);
    va_end(list);
    if (panics != NULL && strcmp(afterwards(), "echoed") != 0)
        printf("; a connection afterwards: %s", afterwards());
    puts(is_to_panic && !has_panicked ? "; no panic" : "");
    fflush(stdout);
    _exit(has_panicked ? HAS_PANICKED : HAS_NOT_PANICKED);
}

/* What a function returned, with errno where that is -1. */
static void said(long value)
{
    if (value == -1)
        say("-1 %s", strerrorname_np(errno));
    say("%ld", value);
}

static void eai(int code)
{
    if (code == EAI_FAIL)
        say("EAI_FAIL");
    say("%d", code);
}

static void host(int value, const struct hostent *found, int error)
{
    if (found == NULL)
        say("%d, %s", value, error == NO_RECOVERY ? "NO_RECOVERY" : hstrerror(error));
    say("%d, found", value);
}

/* What the calls need, made before the library panics. */
static unsigned char octets[512], room[4096];
static size_t len = 5;
static int flags, set = -1, filled[2], file;
static struct __res_state resolver;
static struct sockaddr_storage name;
static struct iovec piece;
static struct mmsghdr message;
static struct epoll_event in_set = {.events = EPOLLOUT, .data.u64 = 77};
static struct pollfd polled;
static struct hostent entry, *found;

static int question(unsigned char *into)
{
    return res_mkquery(ns_o_query, server, ns_c_in, ns_t_a, NULL, 0, NULL, into, sizeof octets);
}

static void register_in_set(int fd)
{
    set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &in_set);
}

static void before(int fd, int is_asking)
{
    int type = 0;
    socklen_t size = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    flags = type == SOCK_STREAM ? MSG_FASTOPEN : 0;
    memcpy(octets, "hello", len);
    if (is_asking)
        len = (size_t)question(octets);
    res_ninit(&resolver);
    if (set < 0)
        register_in_set(fd);
    file = open("/etc/hosts", O_RDONLY);
    if (pipe(filled) != 0 || write(filled[1], "hello", 5) != 5)
        exit(1);
    polled = (struct pollfd){.fd = fd, .events = POLLOUT};
}

#define AS(function) ((__typeof__(&function))f)
#define CALL(name) static void by_##name(__attribute__((unused)) void *f, __attribute__((unused)) int fd)

CALL(getaddrinfo)
{
    struct addrinfo *list;
    eai(AS(getaddrinfo)(server, "7", NULL, &list));
}

CALL(getaddrinfo_a)
{
    struct gaicb request = {.ar_name = server}, *requests[] = {&request};
    int code = AS(getaddrinfo_a)(GAI_WAIT, requests, 1, NULL);
    eai(code != 0 ? code : gai_error(&request));
}

CALL(gethostbyname)
{
    found = AS(gethostbyname)(server);
    host(0, found, h_errno);
}

CALL(gethostbyname2)
{
    found = AS(gethostbyname2)(server, AF_INET6);
    host(0, found, h_errno);
}

CALL(gethostbyname_r)
{
    int error, value = AS(gethostbyname_r)(server, &entry, (char *)room, sizeof room, &found, &error);
    host(value, found, error);
}

CALL(gethostbyname2_r)
{
    int error, value = AS(gethostbyname2_r)(server, AF_INET, &entry, (char *)room, sizeof room, &found, &error);
    host(value, found, error);
}

CALL(getnameinfo)
{
    eai(AS(getnameinfo)((struct sockaddr *)&target.address, target.len, (char *)room, sizeof room, NULL, 0, 0));
}

/* Of the fake address, of whichever family. */
static const void *address(socklen_t *size)
{
    int is_v4 = target.address.ss_family == AF_INET;
    *size = is_v4 ? 4 : 16;
    return is_v4 ? (void *)&((struct sockaddr_in *)&target.address)->sin_addr
                 : (void *)&((struct sockaddr_in6 *)&target.address)->sin6_addr;
}

CALL(gethostbyaddr)
{
    socklen_t size;
    const void *at = address(&size);
    found = AS(gethostbyaddr)(at, size, target.address.ss_family);
    host(0, found, h_errno);
}

CALL(gethostbyaddr_r)
{
    socklen_t size;
    const void *at = address(&size);
    int error, value = AS(gethostbyaddr_r)(at, size, target.address.ss_family, &entry, (char *)room, sizeof room, &found, &error);
    host(value, found, error);
}

CALL(gethostid) { said(AS(gethostid)()); }

static void answer(int size)
{
    if (size == -1)
        said(-1);
    say("an answer");
}

CALL(res_query) { answer(AS(res_query)(server, ns_c_in, ns_t_a, room, sizeof room)); }

CALL(res_querydomain) { answer(AS(res_querydomain)(server, "", ns_c_in, ns_t_a, room, sizeof room)); }

CALL(res_nquery) { answer(AS(res_nquery)(&resolver, server, ns_c_in, ns_t_a, room, sizeof room)); }

CALL(res_nquerydomain) { answer(AS(res_nquerydomain)(&resolver, server, "", ns_c_in, ns_t_a, room, sizeof room)); }

CALL(res_send) { answer(AS(res_send)(octets, (int)len, room, sizeof room)); }

CALL(res_nsend) { answer(AS(res_nsend)(&resolver, octets, (int)len, room, sizeof room)); }

/* None of them looks at its arguments. */
CALL(remote) { said(((int (*)(const char **, int, const char *, const char *, const char *, int *))f)(&server, 0, "", "", "", &fd)); }

CALL(fork)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status = -1;
    waitpid(child, &status, 0);
    said(status);
}

/* A program that is started with a cleaned environment, and says whether the library is with it all the same. */
static char script[] = "echo \"$0: started $(test -n \"$LD_PRELOAD\" && echo with || echo without) the library\"; exit 1", *clean[] = {"PATH=/bin", NULL};
static char *program[] = {"sh", "-c", script, label, NULL};

CALL(execve) { said(AS(execve)("/bin/sh", program, clean)); }

CALL(execv)
{
    environ = clean;
    said(AS(execv)("/bin/sh", program));
}

CALL(execvp)
{
    environ = clean;
    said(AS(execvp)("sh", program));
}

CALL(execvpe) { said(AS(execvpe)("sh", program, clean)); }

CALL(fexecve) { said(AS(fexecve)(open("/bin/sh", O_RDONLY), program, clean)); }

CALL(execveat) { said(AS(execveat)(AT_FDCWD, "/bin/sh", program, clean, 0)); }

CALL(execl)
{
    environ = clean;
    said(AS(execl)("/bin/sh", "sh", "-c", script, label, NULL));
}

CALL(execlp)
{
    environ = clean;
    said(AS(execlp)("sh", "sh", "-c", script, label, NULL));
}

CALL(execle) { said(AS(execle)("/bin/sh", "sh", "-c", script, label, NULL, clean)); }

static const char *const is_with = "test -n \"$LD_PRELOAD\" && echo with || echo without";

CALL(system)
{
    environ = clean;
    int status = AS(system)("test -n \"$LD_PRELOAD\"");
    if (status == -1)
        said(status);
    say("started %s the library", status == 0 ? "with" : "without");
}

CALL(popen)
{
    environ = clean;
    char text[16] = "";
    FILE *pipe = AS(popen)(is_with, "r");
    if (pipe == NULL)
        said(-1);
    if (fscanf(pipe, "%15s", text) != 1 || pclose(pipe) != 0)
        say("no text");
    say("started %s the library", text);
}

CALL(wordexp)
{
    environ = clean;
    char command[128];
    wordexp_t expansion = {0};
    snprintf(command, sizeof command, "$(%s)", is_with);
    int error = AS(wordexp)(command, &expansion, 0);
    if (error != 0)
        said(-1);
    say("started %s the library", expansion.we_wordv[0]);
}

CALL(posix_spawn)
{
    pid_t child;
    int status, error = AS(posix_spawn)(&child, "/bin/sh", NULL, NULL, (char *[]){"sh", "-c", "test -n \"$LD_PRELOAD\"", NULL}, clean);
    if (error != 0)
        say("%s", strerrorname_np(error));
    waitpid(child, &status, 0);
    say("started %s the library", status == 0 ? "with" : "without");
}
