/* Flags and options of a socket outlive its connect(), whatever happens underneath. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void say_option(const char *name, int fd, int level, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    if (getsockopt(fd, level, option, &value, &len) != 0)
        say_result(name, -1);
    else
        say("%s %d/%u; ", name, value, len);
}

static void kind(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    say_option("SO_TYPE", fd, SOL_SOCKET, SO_TYPE);
    say_option("SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
    say_option("SO_PROTOCOL", fd, SOL_SOCKET, SO_PROTOCOL);
    say_option("SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
    say_option("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
    say_option("IPV6_V6ONLY", fd, IPPROTO_IPV6, IPV6_V6ONLY);
    struct tcp_info info;
    socklen_t len = sizeof info;
    say_result("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
    say("state %d; ", info.tcpi_state);
    int waiting = -1;
    say_result("FIONREAD", ioctl(fd, FIONREAD, &waiting));
    say("%d waiting; ", waiting);
}


static void flags_kept(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int plain = stream(way), exec = socket(socket_family(way), SOCK_STREAM | SOCK_CLOEXEC, 0);
    int late = stream(way);
    fcntl(late, F_SETFD, FD_CLOEXEC);
    fcntl(late, F_SETFL, fcntl(late, F_GETFL) | O_APPEND | O_ASYNC);
    int fds[] = {plain, exec, late};
    for (size_t i = 0; i < COUNT(fds); i++) {
        say_dial("connect", fds[i], &to);
        say("FD %x FL %x; ", fcntl(fds[i], F_GETFD), fcntl(fds[i], F_GETFL));
    }
    fcntl(plain, F_SETFL, fcntl(plain, F_GETFL) | O_NONBLOCK);
    say("FL %x; ", fcntl(plain, F_GETFL));
    char octet;
    volatile size_t room = 1;
    say_result("recv", recv(plain, &octet, room, 0));
}

static const struct {
    const char *name;
    int level, option, value;
} integers[] = {
    {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1}, {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1},
    {"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1}, {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
    {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 3}, {"SO_MARK", SOL_SOCKET, SO_MARK, 0},
    {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 2}, {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 50000},
    {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 60000}, {"SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, 5},
    {"SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1}, {"SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1},
    {"SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE, 0}, {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
    {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77}, {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 11},
    {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 4}, {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 3},
    {"TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, 20}, {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 5000},
    {"TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 9999},
    {"TCP_THIN_LINEAR_TIMEOUTS", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1},
    {"IP_TOS", IPPROTO_IP, IP_TOS, 0x10}, {"IP_TTL", IPPROTO_IP, IP_TTL, 33},
    {"IP_MTU_DISCOVER", IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO}, {"IP_FREEBIND", IPPROTO_IP, IP_FREEBIND, 1},
    {"IP_RECVTTL", IPPROTO_IP, IP_RECVTTL, 1}, {"IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS, 0x20},
    {"IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44}, {"IPV6_RECVTCLASS", IPPROTO_IPV6, IPV6_RECVTCLASS, 1},
};

static void options_kept(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way);
    for (size_t i = 0; i < COUNT(integers); i++)
        setsockopt(fd, integers[i].level, integers[i].option, &integers[i].value, sizeof(int));
    struct linger linger = {1, 7};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    timeout(fd, SO_RCVTIMEO, 1500);
    timeout(fd, SO_SNDTIMEO, 2500);
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    say_dial("connect", fd, &to);
    for (size_t i = 0; i < COUNT(integers); i++)
        say_option(integers[i].name, fd, integers[i].level, integers[i].option);
    socklen_t len = sizeof linger;
    memset(&linger, 0, sizeof linger);
    say_result("SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
    say("%d %d; ", linger.l_onoff, linger.l_linger);
    struct timeval time[2];
    len = sizeof time[0];
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time[0], &len);
    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time[1], &len);
    say("timeouts %ld %ld; ", time[0].tv_sec * 1000 + time[0].tv_usec / 1000, time[1].tv_sec * 1000 + time[1].tv_usec / 1000);
    char congestion[16] = "";
    len = sizeof congestion;
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &len);
    say("TCP_CONGESTION %s; ", congestion);
}

static void bad_options(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO), value = 1, pipes[2];
    socklen_t len = sizeof value, zero = 0, one = 1;
    void *volatile null = NULL;
    say_result("unknown option", getsockopt(fd, SOL_SOCKET, 9999, &value, &len));
    say_result("unknown level", getsockopt(fd, 9999, SO_ERROR, &value, &len));
    say_result("SO_ERROR of 0", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &zero));
    value = 0x11223344;
    say_result("SO_ERROR of 1", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &one));
    say("value %x; ", (unsigned)value);
    value = 0x11223344;
    one = 1;
    say_result("SO_DOMAIN of 1", getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &one));
    say("value %x; ", (unsigned)value);
    len = UINT32_MAX;
    say_result("negative length", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
    len = sizeof value;
    say_result("NULL value", getsockopt(fd, SOL_SOCKET, SO_ERROR, null, &len));
    say_result("NULL length", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, null));
    say_result("set SO_ERROR", setsockopt(fd, SOL_SOCKET, SO_ERROR, &value, sizeof value));
    say_result("set NULL", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, null, sizeof value));
    say_result("set of 1", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 1));
    say_result("set V6ONLY", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof value));
    if (pipe(pipes) == 0)
        say_result("pipe", getsockopt(pipes[0], SOL_SOCKET, SO_ERROR, &value, &len));
    say_result("-1", setsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
}

static void receive_timeout(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    timeout(fd, SO_RCVTIMEO, 100);
    say_received(fd);
    say_echo(fd, "after the time");
    char text[16];
    volatile size_t room = sizeof text;
    send(fd, "peek", 4, MSG_NOSIGNAL);
    await_octets(fd, 4);
    say_result("peek", recv(fd, text, room, MSG_PEEK));
    int waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    say("%d waiting; ", waiting);
    say_received(fd);
    say_result("at once", recv(fd, text, room, MSG_DONTWAIT));
}

void rows_options(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"kind", kind}, {"flags", flags_kept}, {"kept", options_kept}, {"bad", bad_options}, {"receive", receive_timeout},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "options/%s/%s", of_every_way[i].name, ways[way]);
}
