/* A connection, and a name, that outlive the process that made them. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg
#define SELF "/proc/self/exe"

extern char **environ;

static void await(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        say("child ended with %x; ", status);
}

static void forked(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    pid_t child = fork();
    if (child == 0) {
        say_peer(fd);
        say_local(fd);
        say_echo(fd, "from the child");
        close(fd);
        say_peer(fd);
        _exit(0);
    }
    await(child);
    say_peer(fd);
    say_echo(fd, "from the parent");
}

static void resolved_by_child(const void *arg)
{
    WAY;
    int pipes[2];
    struct target to = {.len = 0};
    if (pipe(pipes) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        to = target(way, DUAL, ECHO);
        _exit(write(pipes[1], &to, sizeof to) != sizeof to);
    }
    say_result("read", read(pipes[0], &to, sizeof to) == sizeof to);
    await(child);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_echo(fd, "by the parent");
}

static void connected_by_child(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way);
    pid_t child = fork();
    if (child == 0)
        _exit(dial(fd, &to) != 0);
    await(child);
    say_peer(fd);
    say_echo(fd, "by the parent");
    say_dial("again", fd, &to);
}

/* A child of vfork shares the memory but not the descriptors. */
static void vforked(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO), other = connected(way, DUAL, BANNER);
    pid_t child = vfork();
    if (child == 0) {
        close(fd);
        dup2(fd, other);
        dup2(2, other);
        close_range(3, ~0U, 0);
        _exit(0);
    }
    await(child);
    say_peer(fd);
    say_echo(fd, "still there");
    say_peer(other);
    say_received(other);
}

/* A copied process that no library heard of. */
static void cloned(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    pid_t child = (pid_t)syscall(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
    if (child == 0) {
        say_peer(fd);
        int other = connected(way, DUAL, BANNER);
        say_peer(other);
        say_received(other);
        _exit(0);
    }
    await(child);
    say_peer(fd);
}

/* The output of an exec'd copy of this program. */
static void say_child(const char *what, int fd, bool spawned)
{
    int pipes[2];
    char number[16], text[4096];
    snprintf(number, sizeof number, "%d", fd);
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return;
    char *const args[] = {"parity", "--child", (char *)what, number, NULL};
    pid_t child = -1;
    if (spawned) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
        int error = posix_spawn(&child, SELF, &actions, NULL, args, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (error)
            say("posix_spawn %s; ", errno_name(error));
    } else {
        child = fork();
        if (child == 0) {
            dup2(pipes[1], 1);
            execve(SELF, args, environ);
            _exit(127);
        }
    }
    close(pipes[1]);
    size_t have = 0;
    ssize_t got;
    while (have < sizeof text - 1 && (got = read(pipes[0], text + have, sizeof text - 1 - have)) > 0)
        have += (size_t)got;
    text[have] = '\0';
    close(pipes[0]);
    await(child);
    say("after exec: %s", text);
}

int report_child(int argc, char **argv)
{
    char *report = report_begin();
    if (argc != 4)
        return 2;
    int fd = atoi(argv[3]);
    if (strcmp(argv[2], "peer") == 0) {
        say_peer(fd);
        say_local(fd);
        say_so_error(fd);
        int copy = dup(fd);
        say_peer(copy);
        say_echo(copy, "from the new program");
        struct sockaddr none = {.sa_family = AF_UNSPEC};
        say_result("unspec", connect(fd, &none, sizeof none));
        say_peer(fd);
    } else if (strcmp(argv[2], "connect") == 0) {
        struct target to = {.len = 0};
        /* An address that the old program left in its standard input. */
        if (read(fd, &to, sizeof to) != sizeof to)
            return 3;
        int socket_fd = socket(to.address.ss_family, SOCK_STREAM, 0);
        say_dial("connect", socket_fd, &to);
        say_peer(socket_fd);
        say_echo(socket_fd, "from the new program");
    }
    fputs(report, stdout);
    return 0;
}

static void executed(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    say_child("peer", fd, false);
    say_peer(fd);
}

static void spawned(const void *arg)
{
    WAY;
    say_child("peer", connected(way, DUAL, ECHO), true);
}

static void resolved_then_executed(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int pipes[2];
    if (pipe(pipes) != 0 || write(pipes[1], &to, sizeof to) != sizeof to)
        return;
    say_child("connect", pipes[0], false);
}

/* The parent is gone before its child connects. */
static void orphaned(const void *arg)
{
    WAY;
    int pipes[2];
    char octet;
    if (pipe(pipes) != 0)
        return;
    pid_t parent = fork();
    if (parent == 0) {
        struct target to = target(way, DUAL, ECHO);
        if (fork() == 0) {
            sleep_ms(50);
            int fd = stream(way);
            say_dial("connect", fd, &to);
            say_peer(fd);
            say_echo(fd, "from the orphan");
            _exit(0);
        }
        _exit(0);
    }
    await(parent);
    close(pipes[1]);
    say_result("read", read(pipes[0], &octet, 1)); /* the orphan holds the other end until it ends */
}

static int send_descriptor(int over, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    return (int)sendmsg(over, &message, 0);
}

static int receive_descriptor(int over)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char octet;
    struct iovec part = {&octet, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    int fd = -1;
    if (recvmsg(over, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* To a process that was there before the connection. */
static void passed(const void *arg)
{
    WAY;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        int fd = receive_descriptor(pair[1]);
        say("received %d; ", fd);
        say_peer(fd);
        say_local(fd);
        say_echo(fd, "by the receiver");
        _exit(0);
    }
    int fd = connected(way, DUAL, ECHO), sent = send_descriptor(pair[0], fd);
    await(child);
    say_result("sent", sent);
}

/* Back to the sender itself, under another number. */
static void passed_to_itself(const void *arg)
{
    WAY;
    int pair[2], fd = connected(way, DUAL, ECHO);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || send_descriptor(pair[0], fd) != 1)
        return;
    close(fd);
    int again = receive_descriptor(pair[1]);
    say("received %d; ", again);
    say_peer(again);
    say_echo(again, "back again");
}

void rows_processes(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"fork", forked}, {"resolved-by-child", resolved_by_child}, {"connected-by-child", connected_by_child},
        {"vfork", vforked}, {"clone", cloned}, {"exec", executed}, {"posix_spawn", spawned},
        {"resolve-exec-connect", resolved_then_executed}, {"orphan", orphaned}, {"scm-rights", passed},
        {"scm-rights-to-itself", passed_to_itself},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "processes/%s/%s", of_every_way[i].name, ways[way]);
}
