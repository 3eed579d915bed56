/* The connection that a send makes. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { SENDTO, SENDMSG, SENDMMSG };
static const char *const calls[] = {"sendto", "sendmsg", "sendmmsg"};

struct question {
    enum way way;
    enum call call;
};

#define QUESTION const struct question *q = arg

static ssize_t send_by(enum call call, int fd, const char *text, const struct target *to)
{
    struct iovec parts[] = {{(char *)text, 1}, {(char *)text + 1, strlen(text) - 1}};
    struct mmsghdr message = {.msg_hdr = {.msg_name = to ? (void *)&to->address : NULL, .msg_namelen = to ? to->len : 0,
        .msg_iov = parts, .msg_iovlen = 2}};
    int flags = MSG_FASTOPEN | MSG_NOSIGNAL;
    switch (call) {
    case SENDTO: return sendto(fd, text, strlen(text), flags, to ? sa(to) : NULL, to ? to->len : 0);
    case SENDMSG: return sendmsg(fd, &message.msg_hdr, flags);
    case SENDMMSG: {
        int sent = sendmmsg(fd, &message, 1, flags);
        return sent == 1 ? (ssize_t)message.msg_len : sent;
    }
    }
    return -1;
}

static void open_port(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = target(q->way, DUAL, ECHO);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    say_received(fd);
    say_peer(fd);
    say_local(fd);
    say_so_error(fd);
    say_result("again", send_by(q->call, fd, "more", &to));
    say_dial("connect", fd, &to);
    say_echo(fd, "and more");
}

static void refused(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = target(q->way, DUAL, CLOSED);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    say_so_error(fd);
    say_peer(fd);
}

static void no_route(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = target(q->way, NO_ROUTE, ECHO);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    say_peer(fd);
}

static void unknown(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = target(q->way, "unknown.test", ECHO);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    say_peer(fd);
}

static void literal(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = q->way == MAPPED ? numeric("::ffff:" LITERAL4, ECHO) : numeric(q->way == V4 ? LITERAL4 : LITERAL6, ECHO);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    say_received(fd);
    say_peer(fd);
}

static void loopback_port(const void *arg)
{
    QUESTION;
    int port, listener = listening(q->way, &port), fd = stream(q->way);
    struct target to = loopback(q->way, port);
    say_result(calls[q->call], send_by(q->call, fd, "first octets", &to));
    int other = accept(listener, NULL, NULL);
    say_received(other);
}

static void arguments(const void *arg)
{
    QUESTION;
    int fd = stream(q->way), pipes[2];
    struct target to = target(q->way, DUAL, ECHO), other = target(q->way == V4 ? V6 : V4, DUAL, ECHO);
    say_result("no address", send_by(q->call, fd, "xx", NULL));
    to.len = 8;
    say_result("short address", send_by(q->call, fd, "xx", &to));
    say_result("other family", send_by(q->call, fd, "xx", &other));
    say_result("-1", send_by(q->call, -1, "xx", &to));
    if (pipe(pipes) == 0)
        say_result("pipe", send_by(q->call, pipes[1], "xx", &to));
    say_peer(fd);
}

static void two_messages(const void *arg)
{
    QUESTION;
    int fd = stream(q->way);
    struct target to = target(q->way, DUAL, ECHO);
    struct iovec parts[] = {{"one", 3}, {"two", 3}};
    struct mmsghdr messages[2] = {
        {.msg_hdr = {.msg_name = &to.address, .msg_namelen = to.len, .msg_iov = &parts[0], .msg_iovlen = 1}},
        {.msg_hdr = {.msg_iov = &parts[1], .msg_iovlen = 1}},
    };
    say_result("sendmmsg", sendmmsg(fd, messages, 1, MSG_FASTOPEN | MSG_NOSIGNAL));
    say_result("sendmmsg", sendmmsg(fd, messages + 1, 1, MSG_NOSIGNAL));
    say_result("none", sendmmsg(fd, messages, 0, MSG_NOSIGNAL));
    say("lengths %u %u; ", messages[0].msg_len, messages[1].msg_len);
    await_octets(fd, 6);
    say_received(fd);
    say_peer(fd);
}

static void by_option(const void *arg)
{
    enum way way = *(const enum way *)arg;
    int fd = stream(way), one = 1;
    socklen_t len = sizeof one;
    struct target to = target(way, DUAL, ECHO);
    say_result("set", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one));
    say_dial("connect", fd, &to);
    say_echo(fd, "first octets");
    say_peer(fd);
    say_local(fd);
    say_so_error(fd);
    say_dial("again", fd, &to);
    one = -1;
    getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, &len);
    say("TCP_FASTOPEN_CONNECT %d; ", one);
}

static void by_option_refused(const void *arg)
{
    enum way way = *(const enum way *)arg;
    int fd = stream(way), one = 1;
    struct target to = target(way, DUAL, CLOSED);
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    say_dial("connect", fd, &to);
    say_so_error(fd);
    say_peer(fd);
}

void rows_fastopen(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_call[] = {
        {"open", open_port}, {"refused", refused}, {"no-route", no_route}, {"unknown-name", unknown},
        {"literal", literal}, {"loopback", loopback_port}, {"arguments", arguments},
    };
    for (size_t i = 0; i < COUNT(of_every_call); i++)
        for (enum call call = SENDTO; call <= SENDMMSG; call++)
            for (enum way way = V4; way <= MAPPED; way++) {
                struct question q = {way, call};
                row(of_every_call[i].run, &q, sizeof q, "fastopen/%s/%s/%s", of_every_call[i].name, calls[call], ways[way]);
            }
    for (enum way way = V4; way <= MAPPED; way++) {
        struct question q = {way, SENDMMSG};
        row(two_messages, &q, sizeof q, "fastopen/two-messages/%s", ways[way]);
        row(by_option, &way, sizeof way, "fastopen/option/%s", ways[way]);
        row(by_option_refused, &way, sizeof way, "fastopen/option-refused/%s", ways[way]);
    }
}
