/* connect() of a blocking TCP socket, for each family and each end that it can come to. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void open_port(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int fd = stream(way);
    unsigned long inode = inode_of(fd);
    errno = 4242; /* libc leaves errno alone on success */
    say_result("connect", dial(fd, &to));
    say("errno %s; ", errno == 4242 ? "untouched" : errno_name(errno));
    say_so_error(fd);
    say_peer(fd);
    say_local(fd);
    say_echo(fd, "one");
    say_echo(fd, "two");
    say_identity("socket", fd, inode);
}

static void banner(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, BANNER);
    say_received(fd);
    say_echo(fd, "after the greeting");
}

static void refused(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, CLOSED), open = target(way, DUAL, ECHO);
    int fd = stream(way);
    unsigned long inode = inode_of(fd);
    say_dial("connect", fd, &to);
    say_so_error(fd);
    say_peer(fd);
    say_dial("again", fd, &to);
    say_dial("to the open port", fd, &open); /* Linux: a refused socket may try again */
    say_peer(fd);
    say_echo(fd, "after all");
    say_identity("socket", fd, inode);
}

static void twice(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO), other = target(way, DUAL, CLOSED);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_dial("again", fd, &to);
    say_dial("elsewhere", fd, &other);
    say_peer(fd);
    say_echo(fd, "still here");
}

static void disconnected(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_result("unspec", connect(fd, &none, sizeof none));
    say_peer(fd);
    struct target to = target(way, DUAL, BANNER);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_received(fd);
}

static void unspec_first(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_result("unspec", connect(fd, &none, sizeof none));
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void no_route(const void *arg)
{
    WAY;
    struct target to = target(way, NO_ROUTE, ECHO), open = target(way, DUAL, ECHO);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_so_error(fd);
    say_peer(fd);
    say_dial("to an open port", fd, &open);
}

static void unknown(const void *arg)
{
    WAY;
    struct target to = target(way, "unknown.test", ECHO);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void by_literal(const void *arg)
{
    WAY;
    struct target to = way == MAPPED ? numeric("::ffff:" LITERAL4, ECHO) : numeric(way == V4 ? LITERAL4 : LITERAL6, ECHO);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_local(fd);
    say_echo(fd, "by number");
}

static void refused_literal(const void *arg)
{
    WAY;
    struct target to = way == MAPPED ? numeric("::ffff:" LITERAL4, CLOSED) : numeric(way == V4 ? LITERAL4 : LITERAL6, CLOSED);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_so_error(fd);
    say_peer(fd);
}

static void port_0(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, 0);
    int fd = stream(way);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void bound(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target own = numeric(way == V4 ? "192.0.2.2" : way == V6 ? "2001:db8:1::2" : "::ffff:192.0.2.2", 7770 + (int)way);
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say_result("bind", bind(fd, sa(&own), own.len));
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_local(fd);
    say_peer(fd);
    say_echo(fd, "bound");
}

static int bound_to_any(enum way way, int port)
{
    int fd = stream(way), one = 1;
    struct target any = numeric(way == V4 ? "0.0.0.0" : "::", port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say_result("bind", bind(fd, sa(&any), any.len));
    return fd;
}

static void bound_to_port(const void *arg)
{
    WAY;
    int fd = bound_to_any(way, 7780 + (int)way);
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_local(fd);
    say_peer(fd);
}

/* One port of ours, two destinations: two different connections to the kernel. */
static void bound_port_twice(const void *arg)
{
    WAY;
    int first = bound_to_any(way, 7790 + (int)way), second = bound_to_any(way, 7790 + (int)way);
    struct target echo = target(way, DUAL, ECHO), banner = target(way, DUAL, BANNER);
    say_dial("first", first, &echo);
    say_dial("second", second, &banner);
    say_peer(second);
}

static void bound_to_loopback(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target own = loopback(way, 0);
    say_result("bind", bind(fd, sa(&own), own.len));
    struct target to = target(way, DUAL, ECHO);
    timeout(fd, SO_SNDTIMEO, 300); /* for ever, with IPv6 */
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void to_listening(const void *arg)
{
    WAY;
    int port, fd = listening(way, &port);
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void v6only_mapped(const void *arg)
{
    (void)arg;
    int fd = stream(V6), one = 1;
    say_result("V6ONLY", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    struct target to = target(MAPPED, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void v6only_v6(const void *arg)
{
    (void)arg;
    int fd = stream(V6), one = 1;
    socklen_t len = sizeof one;
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    struct target to = target(V6, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
    one = -1;
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, &len);
    say("V6ONLY %d; ", one);
    say_echo(fd, "only v6");
}

/* 28 octets, the last four of them scope: 24, as RFC 2133 had it, is enough for the kernel. */
static void v6_of_24_octets(const void *arg)
{
    (void)arg;
    int fd = stream(V6);
    struct target to = target(V6, DUAL, ECHO);
    say_result("connect", connect(fd, sa(&to), 24));
    say_peer(fd);
}

static void longer_address(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target to = target(way, DUAL, ECHO);
    say_result("connect", connect(fd, sa(&to), sizeof to.address));
    say_peer(fd);
}

static void flow_and_scope(const void *arg)
{
    (void)arg;
    int fd = stream(V6);
    struct target to = target(V6, DUAL, ECHO);
    ((struct sockaddr_in6 *)&to.address)->sin6_flowinfo = htonl(0x12345);
    ((struct sockaddr_in6 *)&to.address)->sin6_scope_id = 1; /* means nothing with a global address */
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void unaligned_address(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target to = target(way, DUAL, ECHO);
    char octets[sizeof to.address + 1];
    memcpy(octets + 1, &to.address, to.len);
    const void *odd = octets + 1;
    say_result("connect", connect(fd, odd, to.len));
    say_peer(fd);
}

void rows_connect(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"open", open_port}, {"banner", banner}, {"refused", refused}, {"twice", twice},
        {"disconnected", disconnected}, {"unspec-first", unspec_first}, {"no-route", no_route},
        {"unknown-name", unknown}, {"literal", by_literal}, {"literal-refused", refused_literal}, {"port-0", port_0},
        {"bound", bound}, {"bound-to-port", bound_to_port}, {"bound-port-twice", bound_port_twice}, {"bound-to-loopback", bound_to_loopback},
        {"listening-socket", to_listening}, {"longer-address", longer_address}, {"unaligned", unaligned_address},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "connect/%s/%s", of_every_way[i].name, ways[way]);
    ROW(v6only_mapped, "connect/v6only/mapped");
    ROW(v6only_v6, "connect/v6only/v6");
    ROW(v6_of_24_octets, "connect/24-octets/v6");
    ROW(flow_and_scope, "connect/flow-and-scope/v6");
}
