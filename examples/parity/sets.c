/* Waits for something else than the socket that is connecting: an epoll set that has it, a set within a set, a listener
 * that its connection will come to. And what a set was told before connect(). */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg
#define LEAST_MS 300 /* of the 400 that the way there and back takes */
#define MOST_MS 5000

static int non_blocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static void say_time(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
    if (ms >= LEAST_MS && ms <= MOST_MS)
        say("in time; ");
    else
        say("after %ld ms; ", ms);
}

static int set_of(int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    int set = epoll_create1(0);
    say_result("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    return set;
}

static void say_wait(int set, int ms)
{
    struct epoll_event got = {0};
    int n = epoll_wait(set, &got, 1, ms);
    say_result("wait", n);
    if (n > 0)
        say("events %x data %d; ", got.events, (int)got.data.u64);
}

/* A socket of SLOW's that is connecting, and a set that has it. */
static int slow_set(enum way way, int *fd, struct timespec *start)
{
    struct target to = target(way, SLOW, ECHO);
    *fd = non_blocking(stream(way));
    clock_gettime(CLOCK_MONOTONIC, start);
    say_dial("connect", *fd, &to);
    return set_of(*fd, EPOLLIN | EPOLLOUT, 1);
}

static void within(enum way way, uint32_t events)
{
    struct timespec start;
    int fd, inner = slow_set(way, &fd, &start);
    int middle = set_of(inner, events, 2), outer = set_of(middle, events, 3);
    say_wait(outer, 0);
    say_wait(outer, MOST_MS);
    say_time(&start);
    say_wait(middle, 0);
    say_wait(inner, 0);
    say_so_error(fd);
    say_wait(outer, 0);
}

static void nested(const void *arg)
{
    WAY;
    within(way, EPOLLIN);
}

static void nested_edge(const void *arg)
{
    WAY;
    within(way, EPOLLIN | EPOLLET);
}

/* A program that looks at everything whatever the event says. */
static void nested_alike(const void *arg)
{
    WAY;
    struct timespec start;
    int fd, inner = slow_set(way, &fd, &start), outer = set_of(inner, EPOLLIN, 7), bell = eventfd(1, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
    epoll_ctl(outer, EPOLL_CTL_ADD, bell, &event);
    say_wait(outer, 200);
    say("bell %d; ", (int)read(bell, &start, 8));
}

static void polled(const void *arg)
{
    WAY;
    struct timespec start;
    int fd, set = slow_set(way, &fd, &start);
    struct pollfd one = {.fd = set, .events = POLLIN};
    say_result("at once", poll(&one, 1, 0));
    say_result("poll", poll(&one, 1, MOST_MS));
    say_time(&start);
    say_wait(set, 0);
}

static void selected(const void *arg)
{
    WAY;
    struct timespec start;
    int fd, set = slow_set(way, &fd, &start);
    fd_set read;
    FD_ZERO(&read);
    FD_SET(set, &read);
    struct timeval limit = {.tv_sec = MOST_MS / 1000};
    say_result("select", select(set + 1, &read, NULL, NULL, &limit));
    say_time(&start);
    say_wait(set, 0);
}

/* What was a set is a socket by now. */
static void reused(const void *arg)
{
    WAY;
    struct target slow = target(way, SLOW, ECHO);
    int port, listener = listening(way, &port), pending = non_blocking(stream(way));
    struct target to = loopback(way, port);
    int number = set_of(listener, EPOLLIN, 1);
    say_dial("connect", pending, &slow);
    close(number);
    int fd = stream(way), set = set_of(fd, EPOLLOUT, 2);
    say("%s number; ", fd == number ? "the same" : "another");
    say_dial("connect", fd, &to);
    say_wait(set, 200);
}

/* An unconnected socket is ready for a set: a one-shot registration is spent at once, and stays so. */
static void spent(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = non_blocking(stream(way)), set = set_of(fd, EPOLLOUT | EPOLLONESHOT, 1);
    say_wait(set, 0);
    say_dial("connect", fd, &to);
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    say_result("poll", poll(&one, 1, MOST_MS));
    say_wait(set, 50);
    struct epoll_event again = {.events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 2};
    say_result("modify", epoll_ctl(set, EPOLL_CTL_MOD, fd, &again));
    say_wait(set, MOST_MS);
    say_wait(set, 50);
}

/* Armed again in the middle. */
static void spent_and_armed(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = non_blocking(stream(way)), set = set_of(fd, EPOLLOUT | EPOLLONESHOT, 1);
    struct epoll_event again = {.events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 2};
    say_wait(set, 0);
    say_dial("connect", fd, &to);
    say_result("modify", epoll_ctl(set, EPOLL_CTL_MOD, fd, &again));
    say_wait(set, 0);
    say_wait(set, MOST_MS);
    say_wait(set, 50);
    say_so_error(fd);
}

/* One thread on both sides. */
static int own_listener(enum way way, int port, int *fd)
{
    const char *own = way == V4 ? "192.0.2.2" : way == V6 ? "2001:db8:1::2" : "::ffff:192.0.2.2";
    struct target to = numeric(own, port);
    int listener = stream(way), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say_result("bind", bind(listener, sa(&to), to.len));
    say_result("listen", listen(listener, 5));
    *fd = non_blocking(stream(way));
    say_dial("connect", *fd, &to);
    return listener;
}

static void say_both(int listener, int fd)
{
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    say("accepted %d; ", accepted >= 0);
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    say_result("poll", poll(&one, 1, MOST_MS));
    say_so_error(fd);
    say_result("send", send(accepted, "hello", 5, MSG_NOSIGNAL));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    say_received(fd);
}

static void accepts(const void *arg)
{
    WAY;
    int fd, listener = own_listener(way, 7792, &fd);
    say_both(listener, fd);
}

static void polls_listener(const void *arg)
{
    WAY;
    int fd, listener = own_listener(way, 7793, &fd);
    struct pollfd one = {.fd = listener, .events = POLLIN};
    say_result("poll", poll(&one, 1, MOST_MS));
    say_both(listener, fd);
}

static void selects_listener(const void *arg)
{
    WAY;
    int fd, listener = own_listener(way, 7794, &fd);
    fd_set read;
    FD_ZERO(&read);
    FD_SET(listener, &read);
    struct timeval limit = {.tv_sec = MOST_MS / 1000};
    say_result("select", select(listener + 1, &read, NULL, NULL, &limit));
    say_both(listener, fd);
}

static void waits_for_listener(const void *arg)
{
    WAY;
    int fd, listener = own_listener(way, 7795, &fd), set = set_of(listener, EPOLLIN, 1);
    say_wait(set, MOST_MS);
    say_both(listener, fd);
}

/* Somebody else's connection is under way for ever. */
static void accept_limited(const void *arg)
{
    WAY;
    struct target to = target(way, HOLE, ECHO);
    int fd = non_blocking(stream(way)), port, listener = listening(way, &port);
    say_dial("connect", fd, &to);
    timeout(listener, SO_RCVTIMEO, 400);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    say_result("accept", accept(listener, NULL, NULL));
    say_time(&start);
    say_result("without waiting", accept(non_blocking(listener), NULL, NULL));
}

void rows_sets(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"nested", nested}, {"nested-edge", nested_edge}, {"nested-alike", nested_alike}, {"poll", polled},
        {"select", selected}, {"reused", reused}, {"spent", spent}, {"spent-and-armed", spent_and_armed}, {"accept", accepts},
        {"poll-listener", polls_listener}, {"select-listener", selects_listener},
        {"epoll-listener", waits_for_listener}, {"accept-limited", accept_limited},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "sets/%s/%s", of_every_way[i].name, ways[way]);
}
