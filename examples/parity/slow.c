/* Non-blocking connects to a destination that takes its time: what each kind of wait says, and when. Sockets of all
 * three ways at once, so that a row costs one wait. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define WAYS 3
#define LEAST_MS 300 /* of the 400 that the way there and back takes */
#define MOST_MS 5000 /* a busy machine is given seconds */

static struct timespec start;

static void begin(void)
{
    clock_gettime(CLOCK_MONOTONIC, &start);
}

static void say_time(long least, long most)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    if (ms >= least && ms <= most)
        say("in time; ");
    else
        say("after %ld ms; ", ms);
}

static int non_blocking_socket(enum way way)
{
    int fd = socket(socket_family(way), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    return fd;
}

static void dial_all(const int fds[], size_t n, int port)
{
    struct target to[WAYS];
    for (size_t way = 0; way < WAYS; way++)
        to[way] = target((enum way)way, SLOW, port);
    begin();
    for (size_t i = 0; i < n; i++)
        say_dial("connect", fds[i], &to[i % WAYS]);
    say_time(0, LEAST_MS / 2);
}

static void start_all(int fds[], size_t n, int port)
{
    for (size_t i = 0; i < n; i++)
        fds[i] = non_blocking_socket((enum way)(i % WAYS));
    dial_all(fds, n, port);
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    getsockopt(fd, level, option, &value, &len);
    return value;
}

static void say_connection(int fd)
{
    say_so_error(fd);
    say_peer(fd);
    say("FD %x FL %x NODELAY %d KEEPALIVE %d; ", fcntl(fd, F_GETFD), fcntl(fd, F_GETFL),
        option_of(fd, IPPROTO_TCP, TCP_NODELAY), option_of(fd, SOL_SOCKET, SO_KEEPALIVE));
}

static void by_poll(const void *arg)
{
    (void)arg;
    int fds[WAYS];
    struct pollfd polled[WAYS];
    char octet;
    start_all(fds, WAYS, ECHO);
    for (size_t i = 0; i < WAYS; i++) {
        struct target to = target((enum way)i, SLOW, ECHO);
        say_dial("again", fds[i], &to);
        say_result("send", send(fds[i], "x", 1, MSG_NOSIGNAL));
        say_result("recv", recv(fds[i], &octet, 1, 0));
        say_peer(fds[i]);
        say_so_error(fds[i]);
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN | POLLOUT | POLLRDHUP};
    }
    say_result("at once", poll(polled, WAYS, 0));
    say_time(0, LEAST_MS);
    for (size_t i = 0; i < WAYS; i++) {
        say_result("poll", poll(&polled[i], 1, MOST_MS));
        say("events %x; ", polled[i].revents);
    }
    say_time(LEAST_MS, MOST_MS);
    for (size_t i = 0; i < WAYS; i++)
        say_connection(fds[i]);
    fcntl(fds[V6], F_SETFL, fcntl(fds[V6], F_GETFL) & ~O_NONBLOCK);
    say_echo(fds[V6], "at last");
}

static void by_select(const void *arg)
{
    (void)arg;
    int fds[WAYS];
    start_all(fds, WAYS, ECHO);
    for (size_t i = 0; i < WAYS; i++) {
        fd_set to_read, to_write;
        FD_ZERO(&to_read);
        FD_ZERO(&to_write);
        FD_SET(fds[i], &to_read);
        FD_SET(fds[i], &to_write);
        struct timeval limit = {.tv_sec = MOST_MS / 1000};
        say_result("select", select(fds[i] + 1, &to_read, &to_write, NULL, &limit));
        say("read %d write %d; ", FD_ISSET(fds[i], &to_read), FD_ISSET(fds[i], &to_write));
    }
    say_time(LEAST_MS, MOST_MS);
    for (size_t i = 0; i < WAYS; i++)
        say_connection(fds[i]);
}

/* Level, edge and one-shot: each with its events and data, once or for ever. */
static const struct {
    const char *name;
    uint32_t flags;
} triggers[] = {{"level", 0}, {"edge", EPOLLET}, {"one-shot", EPOLLONESHOT}};
#define SOCKETS (WAYS * COUNT(triggers))

static void add(int set, int fd, size_t index)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | triggers[index / WAYS].flags, .data.u64 = 0xabcd00000000 + index};
    say_result("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

/* What the set says until each socket has been heard of, in the order of the sockets. */
static void say_events(int set)
{
    uint32_t heard[SOCKETS] = {0};
    size_t missing = SOCKETS;
    while (missing > 0) {
        struct epoll_event events[SOCKETS];
        int n = epoll_wait(set, events, SOCKETS, MOST_MS);
        if (n <= 0) {
            say_result("wait", n);
            break;
        }
        for (int i = 0; i < n; i++) {
            size_t index = events[i].data.u64 - 0xabcd00000000;
            if (index >= SOCKETS) {
                say("data of nobody; ");
                return;
            }
            missing -= heard[index] == 0;
            heard[index] |= events[i].events;
        }
    }
    for (size_t i = 0; i < SOCKETS; i++)
        say("%s/%s %x; ", triggers[i / WAYS].name, ways[i % WAYS], heard[i]);
}

static void say_events_again(int set)
{
    struct epoll_event events[SOCKETS];
    int n = epoll_wait(set, events, SOCKETS, 50);
    say("then %d; ", n);
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 - 0xabcd00000000 >= WAYS)
            say("not level-triggered; ");
}

static void by_epoll(bool is_before, int port)
{
    int fds[SOCKETS], set = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < SOCKETS; i++)
        fds[i] = non_blocking_socket((enum way)(i % WAYS));
    for (size_t i = 0; is_before && i < SOCKETS; i++)
        add(set, fds[i], i);
    dial_all(fds, SOCKETS, port);
    for (size_t i = 0; !is_before && i < SOCKETS; i++)
        add(set, fds[i], i);
    struct epoll_event event;
    say_result("at once", epoll_wait(set, &event, 1, 0));
    say_events(set);
    say_time(LEAST_MS, MOST_MS);
    say_events_again(set);
    for (size_t i = 0; i < SOCKETS; i++)
        say_connection(fds[i]);
    say_events_again(set);
}

static void by_epoll_after(const void *arg)
{
    (void)arg;
    by_epoll(false, ECHO);
}

static void by_epoll_before(const void *arg)
{
    (void)arg;
    by_epoll(true, ECHO);
}

static void refused_by_epoll(const void *arg)
{
    (void)arg;
    by_epoll(false, CLOSED);
}

void rows_slow(void)
{
    ROW(by_poll, "slow/poll");
    ROW(by_select, "slow/select");
    ROW(by_epoll_after, "slow/epoll-after");
    ROW(by_epoll_before, "slow/epoll-before");
    ROW(refused_by_epoll, "slow/epoll-refused");
}
