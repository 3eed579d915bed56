/* Numbers: dup and its kin, close and its kin, low ones, high ones, none left. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/resource.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void dup_arguments(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO), closed = stream(way);
    close(closed);
    say_result("dup -1", dup(-1));
    say_result("dup closed", dup(closed));
    say_result("dup2 itself", dup2(fd, fd));
    say_result("dup2 closed itself", dup2(closed, closed));
    say_result("dup2 to -1", dup2(fd, -1));
    say_result("dup2 beyond the limit", dup2(fd, INT_MAX));
    say_result("dup3 itself", dup3(fd, fd, 0));
    say_result("dup3 bad flags", dup3(fd, 60, 1));
    say_result("dup3 closed", dup3(closed, 60, 0));
    say_result("F_DUPFD negative", fcntl(fd, F_DUPFD, -1));
    say_result("F_DUPFD beyond", fcntl(fd, F_DUPFD, INT_MAX));
    say_result("F_DUPFD closed", fcntl(closed, F_DUPFD, 0));
    say_result("F_DUPFD", fcntl(fd, F_DUPFD, 70));
    say_result("F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 70));
    say_result("F_GETFD", fcntl(71, F_GETFD));
    say_result("F_SETFD", fcntl(70, F_SETFD, FD_CLOEXEC));
    say_result("F_GETFD", fcntl(70, F_GETFD));
    say_result("bad command", fcntl(fd, 9999, 0));
    say_peer(fd);
    say_peer(70);
}

static void dup_over(const void *arg)
{
    WAY;
    int echo = connected(way, DUAL, ECHO), banner = connected(way, DUAL, BANNER), fresh = stream(way);
    unsigned long identity = inode_of(banner);
    say_result("dup2", dup2(banner, echo));
    say_identity("now", echo, identity);
    say_peer(echo);
    say_received(echo);
    say_result("dup2 of a fresh one", dup2(fresh, banner));
    say_peer(banner);
    say_so_error(banner);
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", banner, &to);
    say_peer(fresh);
    say_peer(echo);
    int null = open("/dev/null", O_RDONLY);
    say_result("dup3 of a file", dup3(null, echo, O_CLOEXEC));
    say_peer(echo);
    say_echo(fresh, "through the other");
}

static void closes(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO), copy = dup(fd);
    say_result("close", close(fd));
    say_result("again", close(fd));
    say_result("-1", close(-1));
    say_result("INT_MAX", close(INT_MAX));
    say_peer(fd);
    say_peer(copy);
    say_echo(copy, "the copy lives");
    say_result("close", close(copy));
    say_peer(copy);
}

static void ranges(const void *arg)
{
    WAY;
    int first = connected(way, DUAL, ECHO), second = connected(way, DUAL, BANNER), third = connected(way, DUAL, ECHO);
    say_result("close_range", close_range((unsigned)second, (unsigned)second, 0));
    say_peer(first);
    say_peer(second);
    say_peer(third);
    say_result("cloexec", close_range((unsigned)first, ~0U, CLOSE_RANGE_CLOEXEC));
    say("FD %x; ", fcntl(third, F_GETFD));
    say_peer(third);
    say_result("wrong way round", close_range(10, 5, 0));
    say_result("bad flags", close_range(3, ~0U, 0x100));
    say_result("all", close_range(3, ~0U, 0));
    say_peer(first);
    int again = connected(way, DUAL, ECHO);
    say("number %d; ", again);
    say_peer(again);
    closefrom(3);
    say_peer(again);
    again = connected(way, DUAL, BANNER);
    say_peer(again);
    say_received(again);
}

/* What daemons do before they look anything up. */
static void close_loop(const void *arg)
{
    WAY;
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    int fd = connected(way, DUAL, ECHO);
    say("number %d; ", fd);
    say_echo(fd, "after the loop");
    say_peer(fd);
}

static void without_stdio(const void *arg)
{
    WAY;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    int fd = connected(way, DUAL, ECHO);
    say("number %d; ", fd);
    say_echo(fd, "as standard input");
    say_peer(fd);
    say_local(fd);
}

static void high_number(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way), high = fcntl(fd, F_DUPFD, 1000);
    close(fd);
    say("number %d; ", high);
    say_dial("connect", high, &to);
    say_peer(high);
    say_echo(high, "from above");
}

static void limit_numbers(rlim_t to)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = to;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        say_result("setrlimit", -1);
}

/* Not one number is left for anybody's help, nor does one below the limit have to be in use. */
static void no_number_left(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO), closed = target(way, DUAL, CLOSED);
    int fd = stream(way), other = stream(way);
    limit_numbers((rlim_t)other + 1);
    say_result("socket", stream(way));
    say_dial("connect", fd, &to);
    say_dial("refused", other, &closed);
    say_result("dup", dup(fd));
    say_echo(fd, "the last");
    limit_numbers((rlim_t)fd);
    say_echo(fd, "beyond the limit");
    say_result("getpeername", getpeername(fd, (struct sockaddr *)&to.address, &to.len));
    limit_numbers(1024); /* to say whose address that is takes descriptors */
    say_peer(fd);
}

static void by_stdio(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    FILE *file = fdopen(fd, "r+");
    char line[32] = "";
    fputs("a line\n", file);
    fflush(file);
    say("%s; ", fgets(line, sizeof line, file) && strcmp(line, "a line\n") == 0 ? "the line" : "another line");
    say_peer(fd);
    say_result("fclose", fclose(file));
    say_peer(fd);
    int next = stream(way);
    say("%s number; ", next == fd ? "same" : "another");
    say_peer(next);
    say_so_error(next);
    struct target to = target(way, DUAL, BANNER);
    say_dial("connect", next, &to);
    say_received(next);
}

static void by_vector(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    struct iovec parts[] = {{"one ", 4}, {"two", 3}};
    say_result("writev", writev(fd, parts, 2));
    char text[32];
    volatile size_t room = sizeof text;
    await_octets(fd, 7);
    say_result("read", read(fd, text, room));
    say_result("write", write(fd, "three", 5));
    struct iovec into[] = {{text, 2}, {text + 2, 30}};
    await_octets(fd, 5);
    say_result("readv", readv(fd, into, 2));
    say_result("lseek", lseek(fd, 0, SEEK_SET));
    say_result("pread", pread(fd, text, room, 0));
}

void rows_descriptors(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"dup-arguments", dup_arguments}, {"dup-over", dup_over}, {"close", closes}, {"close_range", ranges},
        {"close-loop", close_loop}, {"without-stdio", without_stdio}, {"high-number", high_number},
        {"no-number-left", no_number_left}, {"stdio", by_stdio}, {"vector", by_vector},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "descriptors/%s/%s", of_every_way[i].name, ways[way]);
}
