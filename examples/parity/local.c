/* What stays on this machine: loopback, own addresses, unix sockets, datagrams. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void say_accepted(int listener, int flags)
{
    struct target from = {.len = sizeof from.address};
    timeout(listener, SO_RCVTIMEO, 3000);
    int fd = accept4(listener, (struct sockaddr *)&from.address, &from.len, flags);
    if (fd < 0) {
        say_result("accept", -1);
        return;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&from.address;
    in->sin_port = 0; /* of the kernel's choice */
    say("accepted FD %x FL %x from ", fcntl(fd, F_GETFD), fcntl(fd, F_GETFL));
    say_address(sa(&from), from.len);
    say("; ");
    say_local(fd);
    say_result("sent", send(fd, "hello", 5, MSG_NOSIGNAL));
}

static void own_listener(const void *arg)
{
    WAY;
    int port, listener = listening(way, &port), fd = stream(way);
    struct target to = loopback(way, port);
    say_dial("connect", fd, &to);
    send(fd, "hi", 2, MSG_NOSIGNAL);
    say_accepted(listener, SOCK_CLOEXEC);
    say_local(fd);
    say_received(fd);
    say_dial("again", fd, &to);
    say_peer(listener);
    struct target peer = {.len = sizeof peer.address};
    getpeername(fd, (struct sockaddr *)&peer.address, &peer.len);
    say("%s port; ", ((struct sockaddr_in *)&peer.address)->sin_port == htons((uint16_t)port) ? "right" : "wrong");
}

static void own_listener_by_name(const void *arg)
{
    WAY;
    int port, listener = listening(way, &port), fd = stream(way);
    struct target to = target(way, "localhost", port);
    say_dial("connect", fd, &to);
    say_accepted(listener, SOCK_NONBLOCK);
    say_received(fd);
}

static void own_address(const void *arg)
{
    WAY;
    struct target own = numeric(way == V4 ? "192.0.2.2" : way == V6 ? "2001:db8:1::2" : "::ffff:192.0.2.2", 7790);
    int listener = stream(way), fd = stream(way), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say_result("bind", bind(listener, sa(&own), own.len));
    say_result("listen", listen(listener, 5));
    say_dial("connect", fd, &own);
    say_peer(fd);
    say_local(fd);
    say_accepted(listener, 0);
    say_received(fd);
}

static void any_address(const void *arg)
{
    WAY;
    int port, listener = listening(way, &port), fd = stream(way);
    struct target any = numeric(way == V4 ? "0.0.0.0" : way == V6 ? "::" : "::ffff:0.0.0.0", port);
    say_dial("connect", fd, &any);
    say_accepted(listener, 0);
    say_received(fd);
}

static void own_name(const void *arg)
{
    (void)arg;
    struct target to = target(V4, "parity-host", 7791);
    int listener = stream(V4), fd = stream(V4), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say_result("bind", bind(listener, sa(&to), to.len));
    say_result("listen", listen(listener, 5));
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_accepted(listener, 0);
    say_received(fd);
}

static void unix_sockets(const void *arg)
{
    (void)arg;
    char folder[] = "/tmp/parity.XXXXXX";
    if (!mkdtemp(folder))
        return;
    struct sockaddr_un at = {.sun_family = AF_UNIX}, hidden = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/socket", folder);
    snprintf(hidden.sun_path + 1, sizeof hidden.sun_path - 1, "parity.%d", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), secret = socket(AF_UNIX, SOCK_STREAM, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), other = socket(AF_UNIX, SOCK_STREAM, 0);
    say_result("connect to nothing", connect(fd, (struct sockaddr *)&at, sizeof at));
    say_result("bind", bind(listener, (struct sockaddr *)&at, sizeof at));
    say_result("connect to no listener", connect(fd, (struct sockaddr *)&at, sizeof at));
    listen(listener, 5);
    say_result("connect", connect(fd, (struct sockaddr *)&at, sizeof at));
    say_result("again", connect(fd, (struct sockaddr *)&at, sizeof at));
    say_peer(fd);
    say_local(fd);
    bind(secret, (struct sockaddr *)&hidden, sizeof hidden);
    listen(secret, 5);
    say_result("abstract", connect(other, (struct sockaddr *)&hidden, sizeof hidden));
    say_peer(other);
    struct target inet = loopback(V4, 80);
    say_dial("inet", socket(AF_UNIX, SOCK_STREAM, 0), &inet);
    unlink(at.sun_path);
    rmdir(folder);
}

static void unix_pair(const void *arg)
{
    (void)arg;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return;
    say_peer(pair[0]);
    say_local(pair[1]);
    say_result("send", send(pair[0], "x", 1, 0));
    say_received(pair[1]);
}

static int datagram(enum way way)
{
    return socket(socket_family(way), SOCK_DGRAM, 0);
}

static void udp_loopback(const void *arg)
{
    WAY;
    int server = datagram(way), fd = datagram(way);
    struct target at = loopback(way, 7792);
    say_result("bind", bind(server, sa(&at), at.len));
    say_dial("connect", fd, &at);
    say_peer(fd);
    say_local(fd);
    say_result("send", send(fd, "hi", 2, 0));
    say_received(server);
    say_result("sendto", sendto(fd, "ho", 2, 0, sa(&at), at.len));
    say_received(server);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_result("unspec", connect(fd, &none, sizeof none));
    say_peer(fd);
    say_result("sendto", sendto(fd, "hm", 2, 0, sa(&at), at.len));
    say_received(server);
}

/* Programs connect a datagram socket to see whether there is a way, and sort addresses by it. */
static void udp_connect(const void *arg)
{
    WAY;
    int fd = datagram(way);
    struct target to = target(way, DUAL, ECHO), other = target(way, DUAL, 99);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_local(fd);
    say_dial("elsewhere", fd, &other);
    say_peer(fd);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_result("unspec", connect(fd, &none, sizeof none));
    say_peer(fd);
}

static void udp_send(const void *arg)
{
    WAY;
    int fd = datagram(way);
    struct target to = target(way, DUAL, ECHO);
    timeout(fd, SO_RCVTIMEO, 1000);
    dial(fd, &to);
    say_result("send", send(fd, "datagram", 8, 0));
    say_received(fd);
}

static void udp_sendto(const void *arg)
{
    WAY;
    int fd = datagram(way);
    struct target to = target(way, DUAL, ECHO);
    timeout(fd, SO_RCVTIMEO, 1000);
    say_result("sendto", sendto(fd, "datagram", 8, 0, sa(&to), to.len));
    say_received(fd);
}

static void udp_literal(const void *arg)
{
    WAY;
    int fd = datagram(way);
    struct target to = way == MAPPED ? numeric("::ffff:" LITERAL4, ECHO) : numeric(way == V4 ? LITERAL4 : LITERAL6, ECHO);
    timeout(fd, SO_RCVTIMEO, 1000);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_result("send", send(fd, "datagram", 8, 0));
    say_received(fd);
}

void rows_local(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"listener", own_listener}, {"listener-by-name", own_listener_by_name}, {"own-address", own_address},
        {"any-address", any_address}, {"udp-loopback", udp_loopback}, {"udp-connect", udp_connect},
        {"udp-send", udp_send}, {"udp-sendto", udp_sendto}, {"udp-literal", udp_literal},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            if (way != MAPPED || of_every_way[i].run != own_listener_by_name)
                row(of_every_way[i].run, &way, sizeof way, "local/%s/%s", of_every_way[i].name, ways[way]);
    ROW(own_name, "local/own-name");
    ROW(unix_sockets, "local/unix");
    ROW(unix_pair, "local/unix-pair");
}
