/* getpeername and getsockname: buffers of every size, and every number that leads to the socket. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

typedef int name_function(int fd, struct sockaddr *address, socklen_t *len);

/* How much of the buffer was written, and what length came back. */
static void say_room(name_function *function, int fd, socklen_t room)
{
    unsigned char buffer[160], other[160];
    socklen_t len = room, len_again = room;
    memset(buffer, 0xaa, sizeof buffer);
    memset(other, 0x55, sizeof other);
    int result = function(fd, (struct sockaddr *)buffer, &len);
    function(fd, (struct sockaddr *)other, &len_again);
    size_t written = sizeof buffer;
    while (written > 0 && buffer[written - 1] == 0xaa && other[written - 1] == 0x55)
        written--;
    say("%d octets: ", (int)room);
    say_result("returns", result);
    say("says %u, writes %zu; ", len, written);
}

static void rooms(name_function *function, int fd)
{
    static const socklen_t sizes[] = {0, 1, 2, 4, 8, 15, 16, 17, 27, 28, 29, 128, 160};
    for (size_t i = 0; i < COUNT(sizes); i++)
        say_room(function, fd, sizes[i]);
    say_room(function, fd, UINT32_MAX); /* negative to the kernel */
    socklen_t len = sizeof(struct sockaddr_storage);
    struct sockaddr_storage storage;
    void *volatile null = NULL;
    say_result("NULL address", function(fd, null, &len));
    say_result("NULL length", function(fd, (struct sockaddr *)&storage, null));
    say_result("bad address", function(fd, (struct sockaddr *)(uintptr_t)64, &len));
    len = 0;
    say_result("NULL address of 0", function(fd, null, &len));
    say("says %u; ", len);
}

/* glibc declares the address as a transparent union, which no pointer to function takes. */
static int peer_name(int fd, struct sockaddr *address, socklen_t *len)
{
    return getpeername(fd, address, len);
}

static int own_name(int fd, struct sockaddr *address, socklen_t *len)
{
    return getsockname(fd, address, len);
}

static void peer_rooms(const void *arg)
{
    WAY;
    rooms(peer_name, connected(way, DUAL, ECHO));
}

static void local_rooms(const void *arg)
{
    WAY;
    rooms(own_name, connected(way, DUAL, ECHO));
}

static void unconnected_rooms(const void *arg)
{
    WAY;
    rooms(peer_name, stream(way));
}

static void bad_length(const void *arg)
{
    WAY;
    struct sockaddr_storage storage;
    socklen_t *unreadable = (socklen_t *)(uintptr_t)64;
    say_result("unconnected", getpeername(stream(way), (struct sockaddr *)&storage, unreadable));
    int fd = connected(way, DUAL, ECHO);
    say_result("getpeername", getpeername(fd, (struct sockaddr *)&storage, unreadable));
    say_result("getsockname", getsockname(fd, (struct sockaddr *)&storage, unreadable));
}

static void after_dup(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    int copies[] = {dup(fd), dup2(fd, 40), dup3(fd, 41, O_CLOEXEC), fcntl(fd, F_DUPFD, 50),
        fcntl(fd, F_DUPFD_CLOEXEC, 50)};
    for (size_t i = 0; i < COUNT(copies); i++) {
        say("%d: ", copies[i]);
        say_peer(copies[i]);
        say_local(copies[i]);
    }
    close(fd);
    for (size_t i = 0; i < COUNT(copies); i++)
        say_peer(copies[i]);
    say_peer(fd);
    say_echo(copies[3], "by the copy");
    say_dial("again", copies[1], &(struct target){.len = 0});
    struct target to = target(way, DUAL, ECHO);
    say_dial("again", copies[1], &to);
}

/* A copy made before the connection is the same open socket. */
static void dup_before(const void *arg)
{
    WAY;
    int fd = stream(way), copy = dup(fd), far = fcntl(fd, F_DUPFD, 100);
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
    say_peer(fd);
    say_peer(copy);
    say_peer(far);
    say_local(far);
    say_identity("copy", copy, inode_of(fd));
    say_identity("far copy", far, inode_of(fd));
    close(fd);
    say_peer(copy);
    say_echo(far, "by the copy");
    say_dial("again by the copy", copy, &to);
}

static void number_reused(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    close(fd);
    int next = stream(way);
    say("%s number; ", next == fd ? "same" : "another");
    say_peer(next);
    say_so_error(next);
    struct target other = target(way, DUAL, BANNER);
    say_dial("connect", next, &other);
    say_peer(next);
    say_received(next);
}

/* Closed behind the library's back, by the bare system call. */
static void number_reused_raw(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    syscall(SYS_close, fd);
    int next = stream(way);
    say_peer(next);
    struct target other = target(way, DUAL, BANNER);
    say_dial("connect", next, &other);
    say_peer(next);
    say_received(next);
    int plain = stream(way);
    syscall(SYS_dup2, plain, next);
    say_peer(next);
    say_dial("over it", next, &other);
    say_peer(next);
    say_peer(plain);
    int pipes[2];
    if (pipe(pipes) == 0)
        syscall(SYS_dup3, pipes[0], next, 0);
    say_peer(next);
    say_so_error(next);
}

/* SO_PEERNAME is getpeername by another door. */
static void by_option(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    struct target peer = {.len = way == V4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &peer.address, &peer.len) != 0) {
        say_result("SO_PEERNAME", -1);
    } else {
        say("SO_PEERNAME ");
        say_address(sa(&peer), peer.len);
        say("; ");
    }
}

static void of_received(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, BANNER);
    struct target from = {.len = sizeof from.address};
    char text[32];
    volatile size_t room = sizeof text;
    say_result("recvfrom", recvfrom(fd, text, room, 0, (struct sockaddr *)&from.address, &from.len));
    say("says %u; ", from.len);
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &part, .msg_iovlen = 1};
    send(fd, "x", 1, MSG_NOSIGNAL);
    say_result("recvmsg", recvmsg(fd, &message, 0));
    say("says %u flags %x; ", message.msg_namelen, message.msg_flags);
}

/* Until the kernel is through with both directions. */
static void await_closed(int fd)
{
    struct tcp_info info = {.tcpi_state = 0};
    socklen_t len = sizeof info;
    for (int i = 0; i < 500 && info.tcpi_state != TCP_CLOSE; i++) {
        sleep_ms(10);
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
    }
}

static void after_end(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    send(fd, "last", 4, MSG_NOSIGNAL);
    say_result("shutdown", shutdown(fd, SHUT_WR));
    say_received(fd);
    say_received(fd); /* the end */
    await_closed(fd);
    say_peer(fd);
    say_local(fd);
    say_so_error(fd);
    say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say_result("shutdown again", shutdown(fd, SHUT_RDWR));
    struct target to = target(way, DUAL, ECHO);
    say_dial("connect", fd, &to);
}

static void shut_for_reading(const void *arg)
{
    WAY;
    int fd = connected(way, DUAL, ECHO);
    say_result("shutdown", shutdown(fd, SHUT_RD));
    say_received(fd);
    say_peer(fd);
    say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say_result("bad how", shutdown(fd, 7));
}

void rows_names(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"getpeername/buffers", peer_rooms}, {"getsockname/buffers", local_rooms},
        {"getpeername/unconnected", unconnected_rooms}, {"getpeername/bad-length", bad_length}, {"getpeername/dup", after_dup},
        {"getpeername/dup-before", dup_before}, {"getpeername/reused", number_reused},
        {"getpeername/reused-raw", number_reused_raw}, {"getpeername/option", by_option},
        {"getpeername/receive", of_received}, {"getpeername/after-end", after_end},
        {"getpeername/shut-rd", shut_for_reading},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "%s/%s", of_every_way[i].name, ways[way]);
}
