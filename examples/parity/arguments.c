/* connect() and its neighbours with descriptors and addresses that are wrong, and special addresses. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

static void bad_descriptor(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int closed = stream(way);
    close(closed);
    say_dial("-1", -1, &to);
    say_dial("closed", closed, &to);
    say_dial("2^20+5", (1 << 20) + 5, &to);
    say_dial("INT_MAX", INT32_MAX, &to);
    say_dial("INT_MIN", INT32_MIN, &to);
    say_peer(-1);
    say_local(closed);
    say_so_error(INT32_MAX);
}

static void not_a_socket(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int pipes[2], null = open("/dev/null", O_RDWR), directory = open("/", O_PATH), memory = memfd_create("m", 0);
    if (pipe(pipes) != 0)
        return;
    say_dial("pipe", pipes[0], &to);
    say_dial("device", null, &to);
    say_dial("O_PATH", directory, &to);
    say_dial("file", memory, &to);
    say_peer(null);
    say_local(memory);
    say_so_error(pipes[1]);
}

static void bad_length(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target to = target(way, DUAL, ECHO);
    const struct sockaddr *null = (const struct sockaddr *)*(void *volatile *)&(void *){NULL};
    say_result("NULL", connect(fd, null, to.len));
    say_result("NULL of 0", connect(fd, null, 0));
    say_result("0 octets", connect(fd, sa(&to), 0));
    say_result("1 octet", connect(fd, sa(&to), 1));
    say_result("2 octets", connect(fd, sa(&to), 2));
    say_result("8 octets", connect(fd, sa(&to), 8));
    say_result("one short", connect(fd, sa(&to), way == V4 ? 15 : 23));
    say_result("129 octets", connect(fd, sa(&to), 129));
    say_result("2^31 octets", connect(fd, sa(&to), 1U << 31));
    say_result("2^32-1 octets", connect(fd, sa(&to), UINT32_MAX));
    say_dial("right", fd, &to);
    say_result("NULL when connected", connect(fd, null, to.len));
    say_result("8 octets when connected", connect(fd, sa(&to), 8));
}

static void unreadable(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    say_result("connect", connect(stream(way), (const struct sockaddr *)(uintptr_t)64, to.len));
}

static void half_readable(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    long page = sysconf(_SC_PAGESIZE);
    char *end = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(end + page, (size_t)page);
    const struct sockaddr *over_the_end = (const struct sockaddr *)memcpy(end + page - 8, &to.address, 8);
    say_result("connect", connect(stream(way), over_the_end, to.len));
}

static void bad_family(const void *arg)
{
    WAY;
    int fd = stream(way);
    struct target to = target(way, DUAL, ECHO), other = target(way == V4 ? V6 : V4, DUAL, ECHO);
    say_dial("other family", fd, &other);
    to.address.ss_family = 99;
    say_dial("family 99", fd, &to);
    to.address.ss_family = AF_UNIX;
    say_dial("unix", fd, &to);
    to.address.ss_family = (sa_family_t)(way == V4 ? AF_INET6 : AF_INET);
    say_dial("family of the other", fd, &to);
    say_peer(fd);
    struct target right = target(way, DUAL, ECHO);
    say_dial("right", fd, &right);
    say_dial("other family when connected", fd, &other);
    say_peer(fd);
}

struct special {
    const char *address;
    int port;
};

static void special_address(const void *arg)
{
    const struct special *special = arg;
    struct target to = numeric(special->address, special->port);
    int fd = socket(to.address.ss_family, SOCK_STREAM, 0);
    timeout(fd, SO_SNDTIMEO, 400); /* some of these are answered by nobody */
    say_dial("connect", fd, &to);
    say_peer(fd);
}

static void link_local(const void *arg)
{
    (void)arg;
    int fd = stream(V6);
    struct target to = numeric("fe80::1", ECHO);
    say_dial("without scope", fd, &to);
    ((struct sockaddr_in6 *)&to.address)->sin6_scope_id = 9999;
    say_dial("bad scope", fd, &to);
    ((struct sockaddr_in6 *)&to.address)->sin6_scope_id = 1;
    say_dial("of lo", fd, &to);
}

static void other_protocol(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int raw = socket(socket_family(way), SOCK_RAW, way == V4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    say_result("raw", raw == -1 ? -1 : 0);
    if (raw >= 0) {
        struct target near = loopback(way, 0);
        say_dial("connect to loopback", raw, &near);
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
        say_dial("unix pair to inet", pair[0], &to);
    int netlink = socket(AF_NETLINK, SOCK_RAW, 0);
    say_dial("netlink to inet", netlink, &to);
}

static void calls_on_unconnected(const void *arg)
{
    WAY;
    int fd = stream(way);
    char octet;
    volatile size_t room = 1;
    say_peer(fd);
    say_local(fd);
    say_so_error(fd);
    say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say_result("recv", recv(fd, &octet, room, 0));
    say_result("read", read(fd, &octet, room));
    struct target to = target(way, DUAL, ECHO);
    say_result("sendto", sendto(fd, "x", 1, MSG_NOSIGNAL, sa(&to), to.len));
    say_dial("connect", fd, &to);
    say_result("sendto when connected", sendto(fd, "ping", 4, MSG_NOSIGNAL, sa(&to), to.len));
    say_received(fd);
}

/* Linux remembers it: the connection that follows is shut. */
static void shut_before(const void *arg)
{
    WAY;
    int fd = stream(way);
    say_result("shutdown", shutdown(fd, SHUT_RDWR));
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
}

void rows_arguments(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"bad-descriptor", bad_descriptor}, {"not-a-socket", not_a_socket}, {"bad-length", bad_length},
        {"unreadable", unreadable}, {"half-readable", half_readable},
        {"bad-family", bad_family}, {"other-protocol", other_protocol}, {"unconnected", calls_on_unconnected},
        {"shut-before", shut_before},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "arguments/%s/%s", of_every_way[i].name, ways[way]);
    static const struct special specials[] = {
        {"224.0.0.1", 80}, {"ff02::1", 80}, {"ff0e::1", 80}, {"255.255.255.255", 80}, {"192.0.2.255", 80},
        {"240.0.0.1", 80}, {"0.0.0.1", 80}, {"169.254.1.1", 80}, {"127.0.0.1", CLOSED}, {"127.255.0.1", CLOSED},
        {"::1", CLOSED}, {"0.0.0.0", CLOSED}, {"::", CLOSED}, {"::ffff:127.0.0.1", CLOSED}, {"::ffff:0.0.0.0", CLOSED},
        {"192.0.2.2", CLOSED}, {"2001:db8:1::2", CLOSED}, {"192.0.2.1", CLOSED}, {"2001:db8:1::1", CLOSED},
        {"203.0.113.99", ECHO}, {"2001:db8:3::99", ECHO}, {"::127.0.0.1", 80}, {"64:ff9b::7f00:1", 80},
    };
    for (size_t i = 0; i < COUNT(specials); i++)
        row(special_address, &specials[i], sizeof specials[i], "connect/special/%s/%d", specials[i].address, specials[i].port);
    ROW(link_local, "connect/special/link-local");
}
