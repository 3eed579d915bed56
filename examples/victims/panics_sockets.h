/* The calls of panics.c on sockets and descriptors. */
#include "panics.h"

CALL(connect) { said(AS(connect)(fd, (struct sockaddr *)&target.address, target.len)); }

CALL(dissolving)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    said(AS(connect)(fd, &nobody, sizeof nobody));
}

CALL(syscall_connect) { said(AS(syscall)(SYS_connect, fd, &target.address, target.len)); }

CALL(syscall_read) { said(AS(syscall)(SYS_read, fd, room, sizeof room)); }

static struct msghdr *with_piece(void *octets, size_t size)
{
    piece = (struct iovec){octets, size};
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
    return &message.msg_hdr;
}

static struct msghdr *to_target(void)
{
    message.msg_hdr.msg_name = &target.address;
    message.msg_hdr.msg_namelen = target.len;
    return with_piece(octets, len);
}

CALL(sendto) { said(AS(sendto)(fd, octets, len, flags, (struct sockaddr *)&target.address, target.len)); }

CALL(sendmsg) { said(AS(sendmsg)(fd, to_target(), flags)); }

CALL(sendmmsg)
{
    to_target();
    said(AS(sendmmsg)(fd, &message, 1, flags));
}

CALL(sendto_peer) { said(AS(sendto)(fd, octets, len, 0, NULL, 0)); }

CALL(sendmsg_peer) { said(AS(sendmsg)(fd, with_piece(octets, len), 0)); }

CALL(sendmmsg_peer)
{
    with_piece(octets, len);
    said(AS(sendmmsg)(fd, &message, 1, 0));
}

CALL(send) { said(AS(send)(fd, octets, len, 0)); }

CALL(write) { said(AS(write)(fd, octets, len)); }

CALL(writev) { said(AS(writev)(fd, with_piece(octets, len)->msg_iov, 1)); }

CALL(pwritev2) { said(AS(pwritev2)(fd, with_piece(octets, len)->msg_iov, 1, -1, 0)); }

CALL(sendfile) { said(AS(sendfile)(fd, file, NULL, 5)); }

CALL(splice) { said(AS(splice)(filled[0], NULL, fd, NULL, 5, 0)); }

CALL(read) { said(AS(read)(fd, room, sizeof room)); }

CALL(read_chk) { said(((ssize_t (*)(int, void *, size_t, size_t))f)(fd, room, sizeof room, sizeof room)); }

CALL(readv) { said(AS(readv)(fd, with_piece(room, sizeof room)->msg_iov, 1)); }

CALL(preadv2) { said(AS(preadv2)(fd, with_piece(room, sizeof room)->msg_iov, 1, -1, 0)); }

CALL(recv) { said(AS(recv)(fd, room, sizeof room, 0)); }

CALL(recv_chk) { said(((ssize_t (*)(int, void *, size_t, size_t, int))f)(fd, room, sizeof room, sizeof room, 0)); }

/* Who a datagram is from is for the program to know; a stream says nobody. */
static void received(long value, socklen_t size)
{
    if (value == -1 || size == 0)
        said(value);
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &((struct sockaddr_in *)&name)->sin_addr, text, sizeof text);
    say("octets of %s", strcmp(text, name_server) == 0 ? "the server" : "another");
}

CALL(recvfrom)
{
    socklen_t size = sizeof name;
    long value = AS(recvfrom)(fd, room, sizeof room, 0, (struct sockaddr *)&name, &size);
    received(value, size);
}

CALL(recvfrom_chk)
{
    socklen_t size = sizeof name;
    long value = ((ssize_t (*)(int, void *, size_t, size_t, int, void *, socklen_t *))f)(fd, room, sizeof room, sizeof room, 0, &name, &size);
    received(value, size);
}

static struct msghdr *with_name(void)
{
    message.msg_hdr.msg_name = &name;
    message.msg_hdr.msg_namelen = sizeof name;
    return with_piece(room, sizeof room);
}

CALL(recvmsg)
{
    long value = AS(recvmsg)(fd, with_name(), 0);
    received(value, message.msg_hdr.msg_namelen);
}

CALL(recvmmsg)
{
    with_name();
    long value = AS(recvmmsg)(fd, &message, 1, 0, NULL);
    received(value, message.msg_hdr.msg_namelen);
}

CALL(getpeername)
{
    socklen_t size = sizeof name;
    said(AS(getpeername)(fd, (struct sockaddr *)&name, &size));
}

CALL(getsockname)
{
    socklen_t size = sizeof name;
    said(AS(getsockname)(fd, (struct sockaddr *)&name, &size));
}

CALL(getsockopt)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (AS(getsockopt)(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        said(-1);
    say("0, %s", error == 0 ? "no error" : strerrorname_np(error));
}

CALL(shutdown) { said(AS(shutdown)(fd, SHUT_WR)); }

CALL(poll) { said(AS(poll)(&polled, 1, 0)); }

CALL(poll_chk) { said(((int (*)(struct pollfd *, nfds_t, int, size_t))f)(&polled, 1, 0, sizeof polled)); }

static const struct timespec at_once;

CALL(ppoll) { said(AS(ppoll)(&polled, 1, &at_once, NULL)); }

CALL(ppoll_chk)
{
    said(((int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))f)(&polled, 1, &at_once, NULL, sizeof polled));
}

CALL(select)
{
    fd_set writing;
    FD_ZERO(&writing);
    FD_SET(fd, &writing);
    said(AS(select)(fd + 1, NULL, &writing, NULL, &(struct timeval){0}));
}

CALL(pselect)
{
    fd_set writing;
    FD_ZERO(&writing);
    FD_SET(fd, &writing);
    said(AS(pselect)(fd + 1, NULL, &writing, NULL, &at_once, NULL));
}

CALL(epoll_ctl)
{
    int other = epoll_create1(0), operations[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
    for (int i = 0; i < 3; i++)
        if (AS(epoll_ctl)(other, operations[i], fd, &in_set) != 0)
            said(-1);
    said(0);
}

/* The data that comes back is the program's own. */
static void waited(int count, const struct epoll_event *event)
{
    if (count != 1)
        said(count);
    say("1, %s", event->data.u64 == 77 ? "as it was set" : "of somebody else");
}

CALL(epoll_wait)
{
    struct epoll_event event;
    waited(AS(epoll_wait)(set, &event, 1, 0), &event);
}

CALL(epoll_pwait)
{
    struct epoll_event event;
    waited(AS(epoll_pwait)(set, &event, 1, 0, NULL), &event);
}

CALL(epoll_pwait2)
{
    struct epoll_event event;
    waited(AS(epoll_pwait2)(set, &event, 1, &at_once, NULL), &event);
}

CALL(ioctl)
{
    int waiting = -1, value = AS(ioctl)(fd, FIONREAD, &waiting);
    if (value == -1)
        said(value);
    say("%d octets", waiting);
}

/* Of a socket that does not listen. */
CALL(accept) { said(AS(accept)(fd, NULL, NULL)); }

CALL(accept4) { said(AS(accept4)(fd, NULL, NULL, SOCK_CLOEXEC)); }

CALL(close)
{
    int value = AS(close)(fd);
    say("%d, %s", value, fcntl(fd, F_GETFD) == -1 && errno == EBADF ? "closed" : "open");
}

/* A number for the same socket, and what becomes of octets that are written to it. */
static void copied(int fd, int copy)
{
    struct stat one, other;
    if (copy == -1)
        said(copy);
    if (fstat(fd, &one) != 0 || fstat(copy, &other) != 0 || one.st_ino != other.st_ino)
        say("no copy");
    calm_down();
    long sent = send(copy, "hello", 5, 0);
    say("a copy, to which send() gives %ld %s", sent, sent == -1 ? strerrorname_np(errno) : "");
}

CALL(dup) { copied(fd, AS(dup)(fd)); }

CALL(dup2) { copied(fd, AS(dup2)(fd, 200)); }

CALL(dup3) { copied(fd, AS(dup3)(fd, 200, O_CLOEXEC)); }

CALL(fcntl) { copied(fd, AS(fcntl)(fd, F_DUPFD, 200)); }
