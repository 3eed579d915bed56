/* children CASE HOST PORT: children by every door, system calls by syscall(2), and numbers that are closed behind everybody's back.
 * PORT is an echo server's. */
#include "victim.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *self, *host, *port;
static struct target to;
extern char **environ;

static void report(const char *who, int fd)
{
    printf("%s: getpeername: %s, %s\n", who, has_peer(fd, &to), echo(fd));
    fflush(stdout);
}

static int connected(void)
{
    int fd = new_socket(&to);
    if (connect_to(fd, &to) != 0)
        printf("connect: %s\n", strerrorname_np(errno));
    return fd;
}

static void end_of(pid_t child)
{
    int status = 0;
    if (waitpid(child, &status, 0) < 0)
        perror("waitpid");
    printf("child: %x\n", status);
    fflush(stdout);
}

static void in_child(int inherited)
{
    report("inherited", inherited);
    report("its own", connected());
    _exit(0);
}

/* Chromium's zygote: a copy that libc has not heard of. */
static void by_clone(void)
{
    int fd = connected();
    fflush(stdout);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        in_child(fd);
    end_of(child);
    report("parent", fd);
}

static void by_clone3(void)
{
    int fd = connected();
    fflush(stdout);
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (child == 0)
        in_child(fd);
    end_of(child);
    report("parent", fd);
}

static int cloned(void *arg)
{
    in_child(*(int *)arg);
    return 0;
}

static void by_libcs_clone(void)
{
    int fd = connected();
    char *stack = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    end_of(clone(cloned, stack + (1 << 16), SIGCHLD, &fd));
    report("parent", fd);
}

static void new_program(int fd)
{
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    execl(self, self, "-used", host, port, number, NULL);
    _exit(127);
}

static void by_vfork(void)
{
    int fd = connected();
    fflush(stdout);
    pid_t child = vfork();
    if (child == 0)
        new_program(fd);
    end_of(child);
    report("parent", fd);
}

static void by_posix_spawn(void)
{
    int fd = connected();
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    char *const args[] = {(char *)self, "-used", (char *)host, (char *)port, number, NULL};
    fflush(stdout);
    pid_t child = -1;
    printf("posix_spawn: %d\n", posix_spawn(&child, self, NULL, NULL, args, environ));
    fflush(stdout);
    end_of(child);
    report("parent", fd);
}

static char *command(int fd)
{
    static char text[4096];
    snprintf(text, sizeof text, "exec '%s' -used %s %s %d", self, host, port, fd);
    return text;
}

static void by_system(void)
{
    int fd = connected();
    fflush(stdout);
    printf("system: %d\n", system(command(fd)));
    fflush(stdout);
    report("parent", fd);
}

static void by_popen(void)
{
    int fd = connected();
    char line[256];
    FILE *child = popen(command(fd), "r");
    while (fgets(line, sizeof line, child) != NULL)
        fputs(line, stdout);
    printf("pclose: %d\n", pclose(child));
    report("parent", fd);
}

/* A daemon as the books have it: two forks, a session of its own, no folder, no descriptor but the one that says it is done. */
static void by_daemon(void)
{
    int done[2];
    char octet, name[4096];
    if (realpath(".", name) == NULL || pipe(done) != 0)
        exit(1);
    fflush(stdout);
    if (fork() == 0) {
        setsid();
        signal(SIGHUP, SIG_IGN);
        if (fork() != 0)
            _exit(0);
        umask(0);
        if (chdir("/") != 0)
            _exit(1);
        for (long fd = sysconf(_SC_OPEN_MAX) < 1024 ? sysconf(_SC_OPEN_MAX) : 1024; fd >= 0; fd--)
            if (fd != done[1] && fd != 1)
                close((int)fd);
        if (open("/dev/null", O_RDWR) != 0)
            _exit(1);
        to = resolve(host, port);
        report("daemon", connected());
        _exit(0);
    }
    wait(NULL);
    close(done[1]);
    printf("done: %zd\n", read(done[0], &octet, 1));
}

/* The same number, closed without a word to anybody, is a new socket's. */
static void reused(void)
{
    for (int way = 0; way < 4; way++) {
        int fd = connected();
        if (way == 0) {
            close_range((unsigned)fd, (unsigned)fd, 0);
        } else if (way == 1) {
            fclose(fdopen(fd, "r+"));
        } else if (way == 2) {
            closefrom(fd);
        } else {
            syscall(SYS_close, fd);
        }
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
            exit(1);
        printf("same number: %d, getpeername: %s, ", pair[0] == fd, has_peer(pair[0], &to));
        close(pair[0]);
        close(pair[1]);
        int next = new_socket(&to);
        printf("same number: %d, ", next == fd);
        printf("getpeername: %s, ", has_peer(next, &to));
        printf("connect: %s, ", result(connect_to(next, &to)));
        report("after", next);
        close(next);
    }
}

static void say(const char *what, long result)
{
    printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
}

static void by_syscall(void)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    char back[6] = "";
    int fd = (int)syscall(SYS_socket, to.address.ss_family, SOCK_STREAM, 0);
    say("connect", syscall(SYS_connect, fd, &to.address, to.len));
    say("again", syscall(SYS_connect, fd, &to.address, to.len));
    memset(&peer, 0, sizeof peer);
    say("getpeername", syscall(SYS_getpeername, fd, &peer, &len));
    printf("peer: %d\n", len == to.len && memcmp(&peer, &to.address, len) == 0);
    int copy = (int)syscall(SYS_dup, fd);
    printf("copy: %s\n", has_peer(copy, &to));
    say("sendto", syscall(SYS_sendto, copy, "he", 2, MSG_NOSIGNAL, NULL, 0));
    say("write", syscall(SYS_write, fd, "llo", 3));
    say("recvfrom", syscall(SYS_recvfrom, fd, back, 5, MSG_WAITALL, NULL, NULL));
    printf("back: %s\n", back);
    say("close", syscall(SYS_close, fd));
    say("close", syscall(SYS_close, fd));
    report("copy", copy);

    int slow = (int)syscall(SYS_socket, to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int set = (int)syscall(SYS_epoll_create1, 0);
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 77}, got = {0};
    say("non-blocking", syscall(SYS_connect, slow, &to.address, to.len));
    say("epoll_ctl", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, slow, &event));
    say("epoll_pwait", syscall(SYS_epoll_pwait, set, &got, 1, 5000, NULL, 8));
    printf("event: %x %d\n", got.events, (int)got.data.u64);
    printf("slow: %s\n", has_peer(slow, &to));

    struct pollfd one = {.fd = copy, .events = POLLOUT};
    struct timespec limit = {.tv_sec = 1};
    say("ppoll", syscall(SYS_ppoll, &one, 1, &limit, NULL, 8));
    say("getpid", syscall(SYS_getpid) == getpid());
    say("nothing", syscall(9999));
    say("below", syscall(-1));
    int pair[2];
    say("pipe2", syscall(SYS_pipe2, pair, O_CLOEXEC));
    say("write", syscall(SYS_write, pair[1], "x", 1));
    say("preadv2", syscall(SYS_preadv2, pair[0], &(struct iovec){back, 5}, 1, -1, -1, 0));
    void *six = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("six words", syscall(SYS_munmap, six, 4096));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    self = realpath("/proc/self/exe", NULL);
    host = argv[2], port = argv[3];
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"clone", by_clone}, {"clone3", by_clone3}, {"libcs-clone", by_libcs_clone}, {"vfork", by_vfork},
        {"posix_spawn", by_posix_spawn}, {"system", by_system}, {"popen", by_popen}, {"daemon", by_daemon},
        {"reused", reused}, {"syscall", by_syscall},
    };
    to = resolve(host, port);
    if (strcmp(argv[1], "-used") == 0) {
        report("after exec", atoi(argv[4]));
        return 0;
    }
    if (strcmp(argv[1], "io_uring") == 0) {
        say("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
        return 0;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    return 2;
}
