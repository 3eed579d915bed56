/* Non-blocking sockets, time limits and signals. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void non_blocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Waits for the end of the attempt, without a word about it. */
static short settle(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    volatile nfds_t one = 1; /* __poll_chk */
    return poll(&poll_fd, one, 5000) == 1 ? poll_fd.revents : 0;
}

static void start(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = socket(socket_family(way), SOCK_STREAM | SOCK_NONBLOCK, 0);
    say_dial("connect", fd, &to);
    settle(fd);
    say_dial("again", fd, &to); /* Linux: 0 once, then EISCONN */
    say_dial("again", fd, &to);
}

static void outcome(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way);
    unsigned long inode = inode_of(fd);
    non_blocking(fd);
    dial(fd, &to);
    say("poll %x; ", settle(fd));
    say_so_error(fd);
    say_peer(fd);
    say_local(fd);
    say_identity("socket", fd, inode);
    say("FL %x; ", fcntl(fd, F_GETFL));
    say_result("send", send(fd, "ping", 4, MSG_NOSIGNAL));
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    say_result("poll", poll(&poll_fd, 1, 5000));
    say_received(fd);
    say_received(fd);
}

static void refused(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, CLOSED);
    int fd = stream(way);
    non_blocking(fd);
    say_dial("connect", fd, &to);
    say("poll %x; ", settle(fd));
    say_so_error(fd);
    say_so_error(fd);
    say("poll %x; ", settle(fd));
}

/* The errno, by whatever door it comes. */
static void refused_outcome(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, CLOSED), open = target(way, DUAL, ECHO);
    int fd = stream(way);
    non_blocking(fd);
    int error = dial(fd, &to) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        socklen_t len = sizeof error;
        settle(fd);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    say("%s; ", errno_name(error));
    say_so_error(fd);
    say_peer(fd);
    if (dial(fd, &open) != 0 && errno == ECONNABORTED) /* the failed attempt's last word */
        dial(fd, &open);
    settle(fd);
    say_peer(fd);
}

static void by_epoll(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way), epoll = epoll_create1(EPOLL_CLOEXEC);
    non_blocking(fd);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.u64 = 0x123456789abcdef0}, got[4];
    dial(fd, &to);
    say_result("add", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    say_result("wait", epoll_wait(epoll, got, 4, 5000));
    say("events %x data %s; ", got[0].events, got[0].data.u64 == event.data.u64 ? "ours" : "another");
    say_result("wait", epoll_wait(epoll, got, 4, 50));
    say_so_error(fd);
    say_peer(fd);
}

/* Registered first, as nginx does. */
static void by_epoll_before(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way), epoll = epoll_create1(0);
    non_blocking(fd);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.fd = 77}, got[4];
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    dial(fd, &to);
    settle(fd);
    say_result("wait", epoll_wait(epoll, got, 4, 5000));
    say("events %x data %d; ", got[0].events, got[0].data.fd);
    say_echo(fd, "");
    event.events = EPOLLIN;
    say_result("modify", epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
    send(fd, "x", 1, MSG_NOSIGNAL);
    say_result("wait", epoll_wait(epoll, got, 4, 5000));
    say("events %x; ", got[0].events);
    say_result("delete", epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
}

static void by_select(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way);
    non_blocking(fd);
    dial(fd, &to);
    fd_set to_write, to_read;
    FD_ZERO(&to_write);
    FD_ZERO(&to_read);
    FD_SET(fd, &to_write);
    FD_SET(fd, &to_read);
    struct timeval time = {.tv_sec = 5};
    say_result("select", select(fd + 1, &to_read, &to_write, NULL, &time));
    say("read %d write %d; ", FD_ISSET(fd, &to_read), FD_ISSET(fd, &to_write));
    say_so_error(fd);
    say_peer(fd);
}

static void slow(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_echo(fd, "far away");
}

static long ms_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

/* Whether it took about as long as it may; a busy machine is given seconds. */
static void say_time(const struct timespec *start, long least, long most)
{
    long ms = ms_since(start);
    if (ms >= least && ms <= most)
        say("in time; ");
    else
        say("after %ld ms; ", ms);
}

static void limited(const void *arg)
{
    WAY;
    struct target to = target(way, HOLE, ECHO);
    int fd = stream(way);
    timeout(fd, SO_SNDTIMEO, 300);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    say_dial("connect", fd, &to);
    say_time(&start, 250, 5000);
    say_peer(fd);
    say_so_error(fd);
    clock_gettime(CLOCK_MONOTONIC, &start);
    say_dial("again", fd, &to);
    say_time(&start, 250, 5000);
    non_blocking(fd);
    clock_gettime(CLOCK_MONOTONIC, &start);
    say_dial("without waiting", fd, &to);
    say_time(&start, 0, 2000);
    char octet;
    say_result("recv", recv(fd, &octet, 1, 0));
}

/* The limit passes, the connection goes on, a further connect() ends it. */
static void limited_then_done(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    timeout(fd, SO_SNDTIMEO, 100);
    say_dial("connect", fd, &to);
    timeout(fd, SO_SNDTIMEO, 5000);
    say_dial("again", fd, &to);
    say_peer(fd);
    say_dial("once more", fd, &to);
    say_echo(fd, "at last");
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static void alarm_in(int ms, int flags)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};
    struct itimerval time = {.it_value = {.tv_sec = 0, .tv_usec = ms * 1000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &time, NULL);
}

static void interrupted(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    alarm_in(100, 0);
    say_dial("connect", fd, &to);
    say("%d alarms; ", (int)alarms);
    say_peer(fd);
    say_dial("again", fd, &to);
    say_peer(fd);
    say_dial("once more", fd, &to);
    say_echo(fd, "at last");
}

static void restarted(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    alarm_in(100, SA_RESTART);
    say_dial("connect", fd, &to);
    say("%d alarms; ", (int)alarms);
    say_peer(fd);
    say_echo(fd, "at last");
}

/* With a limit nothing is restarted: signal(7). */
static void restart_and_limit(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    timeout(fd, SO_SNDTIMEO, 5000);
    alarm_in(100, SA_RESTART);
    say_dial("connect", fd, &to);
    say("%d alarms; ", (int)alarms);
    say_dial("again", fd, &to);
    say_peer(fd);
}

static void ignored_signal(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    struct itimerval time = {.it_value = {.tv_sec = 0, .tv_usec = 100000}};
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &time, NULL);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

/* What the kernel tells of a socket that is still connecting, by its options and by what waits in it. */
static void looked_at(const void *arg)
{
    WAY;
    static const struct {
        const char *name;
        unsigned long request;
    } counts[] = {{"FIONREAD", FIONREAD}, {"SIOCOUTQ", SIOCOUTQ}, {"SIOCOUTQNSD", SIOCOUTQNSD}};
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way), value;
    struct tcp_info info;
    non_blocking(fd);
    say_dial("connect", fd, &to);
    for (int round = 0; round < 3; round++) {
        if (round == 2)
            settle(fd);
        else
            sleep_ms(round * 100);
        value = 77;
        say_result("by syscall", syscall(SYS_ioctl, fd, FIONREAD, &value));
        say("%d; ", value);
        for (size_t i = 0; i < COUNT(counts); i++) {
            value = 77;
            say_result(counts[i].name, ioctl(fd, counts[i].request, &value));
            say("%d; ", value);
        }
        for (socklen_t room = 0; room < 2; room++) {
            socklen_t len = room;
            info.tcpi_state = 77;
            say_result("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
            say("length %u state %d; ", len, info.tcpi_state);
        }
    }
    int *volatile null = NULL;
    say_result("NULL", ioctl(fd, FIONREAD, null));
    say_result("FIONBIO", ioctl(fd, FIONBIO, &(int){0}));
    say("FL %x; ", fcntl(fd, F_GETFL));
    say_echo(fd, "ping");
}

/* shutdown(2) of a socket that is still connecting ends the attempt. */
static void shut_midway(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO), open = target(way, DUAL, ECHO);
    int fd = stream(way);
    non_blocking(fd);
    say_dial("connect", fd, &to);
    say_result("bad", shutdown(fd, 77));
    say_result("shutdown", shutdown(fd, SHUT_WR));
    say_so_error(fd);
    say_result("shutdown", shutdown(fd, SHUT_WR));
    int other = stream(way);
    non_blocking(other);
    say_dial("another", other, &open);
    settle(other);
    say_result("shutdown", shutdown(other, SHUT_WR));
}

/* The socket's other number knows no more than its first. */
static void duplicated_before(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way), copy = dup(fd), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = 5}, got[4];
    non_blocking(fd);
    say_result("add", epoll_ctl(epoll, EPOLL_CTL_ADD, copy, &event));
    say_dial("connect", fd, &to);
    say_result("send", send(copy, "early", 5, MSG_NOSIGNAL));
    say_peer(copy);
    say("poll %x; ", settle(copy));
    say_result("wait", epoll_wait(epoll, got, 4, 5000));
    say("events %x data %d; ", got[0].events, got[0].data.fd);
    say_peer(copy);
    say_result("send", send(copy, "ping", 4, MSG_NOSIGNAL));
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    say_result("poll", poll(&poll_fd, 1, 5000));
    say_received(fd);
}

/* A signal that came before the call, and that the call's mask lets through. */
static void masked_signal(const void *arg)
{
    WAY;
    struct target to = target(way, SLOW, ECHO);
    int fd = stream(way);
    sigset_t alarm_only, before;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm_only, &before);
    alarm_in(10, 0);
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    non_blocking(fd);
    say_dial("connect", fd, &to);
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    say_result("ppoll", ppoll(&poll_fd, 1, &(struct timespec){.tv_sec = 5}, &before));
    say("%d alarms; ", (int)alarms);
    say("poll %x; ", settle(fd));
    say_so_error(fd);
}

void rows_waiting(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"start", start}, {"outcome", outcome}, {"refused", refused}, {"refused-outcome", refused_outcome},
        {"epoll", by_epoll}, {"epoll-before", by_epoll_before}, {"select", by_select}, {"slow", slow},
        {"limit", limited}, {"limit-then-done", limited_then_done}, {"interrupted", interrupted},
        {"restarted", restarted}, {"restart-and-limit", restart_and_limit}, {"ignored-signal", ignored_signal},
        {"looked-at", looked_at}, {"shutdown", shut_midway}, {"duplicated-before", duplicated_before},
        {"masked-signal", masked_signal},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "waiting/%s/%s", of_every_way[i].name, ways[way]);
}
