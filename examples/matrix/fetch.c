// Fetches http://NAME/ from several hosts at once, by one thread that waits for all of them: fetch WAIT NAME...
// WAIT is poll, select, or {level,edge,oneshot}-{after,before}: epoll, the sockets registered after or before connect().
// What a host sends goes into the file NAME; what goes wrong is said on stdout as "NAME: ERROR".

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 64 };

struct transfer {
    const char *name;
    int fd, out, is_connected;
    size_t head; // octets of "\r\n\r\n" seen so far, 4 behind the head
};

static struct transfer transfers[MOST];
static int count, open_count, set = -1, is_before;
static uint32_t flags; // of epoll, besides EPOLLIN and EPOLLOUT

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void end(struct transfer *t, int error)
{
    if (error)
        printf("%s: %s\n", t->name, strerrorname_np(error));
    close(t->fd);
    close(t->out);
    t->fd = -1;
    open_count--;
}

static void watch(struct transfer *t, int operation)
{
    uint32_t wanted = flags & EPOLLET ? EPOLLIN | EPOLLOUT : t->is_connected ? EPOLLIN : EPOLLOUT;
    struct epoll_event event = {.events = wanted | flags, .data.ptr = t};
    if (set >= 0 && epoll_ctl(set, operation, t->fd, &event) < 0)
        die("epoll_ctl");
}

static void begin(struct transfer *t)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(t->name, "80", &hints, &found);
    if (error) {
        printf("%s: %s\n", t->name, gai_strerror(error));
        exit(1);
    }
    t->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    t->out = open(t->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (t->fd < 0 || t->out < 0)
        die(t->name);
    open_count++;
    if (is_before)
        watch(t, EPOLL_CTL_ADD);
    if (connect(t->fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS)
        end(t, errno);
    else if (!is_before)
        watch(t, EPOLL_CTL_ADD);
    freeaddrinfo(found);
}

static void ask(struct transfer *t)
{
    int error;
    socklen_t len = sizeof error;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        die("getsockopt");
    if (error) {
        end(t, error);
        return;
    }
    char request[300];
    int octets = snprintf(request, sizeof request, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", t->name);
    if (send(t->fd, request, (size_t)octets, MSG_NOSIGNAL) != octets) {
        end(t, errno);
        return;
    }
    t->is_connected = 1;
    if (!(flags & (EPOLLET | EPOLLONESHOT)))
        watch(t, EPOLL_CTL_MOD);
}

static void receive(struct transfer *t)
{
    char buffer[1 << 14];
    ssize_t got;
    do {
        got = recv(t->fd, buffer, sizeof buffer, 0);
        ssize_t begin = 0;
        for (; begin < got && t->head < 4; begin++)
            t->head = buffer[begin] == "\r\n\r\n"[t->head] ? t->head + 1 : buffer[begin] == '\r';
        if (got > begin && write(t->out, buffer + begin, (size_t)(got - begin)) != got - begin)
            die("write");
    } while (got > 0 && flags & EPOLLET);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        end(t, got < 0 ? errno : 0);
}

static void ready(struct transfer *t)
{
    if (!t->is_connected)
        ask(t);
    else
        receive(t);
    if (flags & EPOLLONESHOT && t->fd >= 0)
        watch(t, EPOLL_CTL_MOD);
}

static void by_poll(void)
{
    struct pollfd fds[MOST];
    for (int i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = transfers[i].fd, .events = transfers[i].is_connected ? POLLIN : POLLOUT};
    if (poll(fds, (nfds_t)count, -1) < 0)
        die("poll");
    for (int i = 0; i < count; i++)
        if (fds[i].fd >= 0 && fds[i].revents)
            ready(&transfers[i]);
}

static void by_select(void)
{
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    for (int i = 0; i < count; i++)
        if (transfers[i].fd >= 0)
            FD_SET(transfers[i].fd, transfers[i].is_connected ? &readable : &writable);
    if (select(FD_SETSIZE, &readable, &writable, NULL, NULL) < 0)
        die("select");
    for (int i = 0; i < count; i++)
        if (transfers[i].fd >= 0 && (FD_ISSET(transfers[i].fd, &readable) || FD_ISSET(transfers[i].fd, &writable)))
            ready(&transfers[i]);
}

static void by_epoll(void)
{
    struct epoll_event events[MOST];
    int found = epoll_wait(set, events, MOST, -1);
    if (found < 0)
        die("epoll_wait");
    for (int i = 0; i < found; i++)
        ready(events[i].data.ptr);
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 2 + MOST)
        return 2;
    const char *wait = argv[1];
    void (*step)(void) = strcmp(wait, "poll") == 0 ? by_poll : strcmp(wait, "select") == 0 ? by_select : by_epoll;
    if (step == by_epoll) {
        set = epoll_create1(EPOLL_CLOEXEC);
        is_before = strstr(wait, "-before") != NULL;
        flags = strncmp(wait, "edge", 4) == 0 ? EPOLLET : strncmp(wait, "oneshot", 7) == 0 ? EPOLLONESHOT : 0;
    }
    for (; count < argc - 2; count++) {
        transfers[count].name = argv[2 + count];
        begin(&transfers[count]);
    }
    while (open_count > 0)
        step();
    return 0;
}
