/* How a stream ends: by whom, in which direction first, and in what order the other side hears of it. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void say_events(int fd, short wanted)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    for (int i = 0; i < 500 && (polled.revents & wanted) != wanted; i++)
        if (poll(&polled, 1, 10) >= 0 && (polled.revents & wanted) != wanted)
            sleep_ms(10);
    say("events %x; ", polled.revents);
}

/* What the destination got by the connection to LAST_WORD before. */
static void say_last_words(enum way way)
{
    int fd = connected(way, DUAL, LAST_WORDS);
    timeout(fd, SO_RCVTIMEO, 5000);
    say("arrived: ");
    say_received(fd);
}

static void ended_by_us(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, LATE);
    say_result("send", send(fd, "all of it", 9, MSG_NOSIGNAL));
    say_result("shutdown", shutdown(fd, SHUT_WR));
    say_result("send", send(fd, "more", 4, MSG_NOSIGNAL));
    timeout(fd, SO_RCVTIMEO, 5000);
    say_received(fd);
    say_received(fd);
    say_events(fd, POLLHUP);
    say_peer(fd);
    say_so_error(fd);
    say_result("shutdown", shutdown(fd, SHUT_RDWR));
}

static void ended_by_peer(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, LAST_WORD);
    timeout(fd, SO_RCVTIMEO, 5000);
    say_received(fd);
    say_received(fd);
    say_events(fd, POLLRDHUP);
    say_peer(fd);
    say_result("send", send(fd, "we go on", 8, MSG_NOSIGNAL));
    say_events(fd, POLLRDHUP);
    say_received(fd);
    say_result("shutdown", shutdown(fd, SHUT_WR));
    say_events(fd, POLLHUP);
    close(fd);
    say_last_words(way);
}

static void ended_at_once(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, LATE);
    say_result("shutdown", shutdown(fd, SHUT_RDWR));
    say_events(fd, POLLHUP);
    say_received(fd);
}

static void reset_by_peer(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, RESET);
    timeout(fd, SO_RCVTIMEO, 5000);
    say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say_events(fd, POLLHUP);
    say_received(fd);
    say_received(fd);
    say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say_peer(fd);
}

/* SO_ERROR instead of a failed read. */
static void reset_by_peer_outcome(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, RESET);
    send(fd, "x", 1, MSG_NOSIGNAL);
    say_events(fd, POLLHUP);
    say_so_error(fd);
    say_so_error(fd);
    say_events(fd, POLLHUP);
}

/* close(2) with SO_LINGER at zero: the destination hears of a reset, not of an end. */
static void reset_by_us(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, LAST_WORD);
    struct linger none = {.l_onoff = 1};
    timeout(fd, SO_RCVTIMEO, 5000);
    say_received(fd);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    say_result("send", send(fd, "cut", 3, MSG_NOSIGNAL));
    sleep_ms(50);
    close(fd);
    say_last_words(way);
}

/* The octet behind an urgent mark is one of the stream's at a destination that takes it in line. */
static void urgent(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, LAST_WORD);
    say_result("send", send(fd, "ABOR\r\n", 6, MSG_OOB | MSG_NOSIGNAL));
    say_result("shutdown", shutdown(fd, SHUT_WR));
    say_events(fd, POLLHUP);
    close(fd);
    say_last_words(way);
}

void rows_streams(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"ended-by-us", ended_by_us}, {"ended-by-peer", ended_by_peer}, {"ended-at-once", ended_at_once},
        {"reset-by-peer", reset_by_peer}, {"reset-by-peer-outcome", reset_by_peer_outcome},
        {"reset-by-us", reset_by_us}, {"urgent", urgent},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "streams/%s/%s", of_every_way[i].name, ways[way]);
}
