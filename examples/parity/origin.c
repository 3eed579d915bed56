/* The destination: echoes, and ends streams in each way there is. Runs until it is killed. */
#define _GNU_SOURCE
#include "parity.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *echo(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char octets[4096];
    ssize_t got;
    while ((got = recv(fd, octets, sizeof octets, 0)) > 0)
        for (ssize_t sent = 0, n; sent < got; sent += n)
            if ((n = send(fd, octets + sent, (size_t)(got - sent), 0)) < 0)
                break;
    close(fd);
    return NULL;
}

static int listener(int type, int port)
{
    int fd = socket(AF_INET6, type, 0), one = 1;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0)
        err(2, "bind port %d", port);
    if (type == SOCK_STREAM && listen(fd, 100) != 0)
        err(2, "listen on port %d", port);
    return fd;
}

/* From the address that the datagram was sent to: a connected socket takes no other's answer. */
static void echo_datagram(int fd)
{
    struct sockaddr_storage peer;
    char octets[2048];
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
    struct iovec part = {octets, sizeof octets};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &part, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, 0);
    part.iov_len = got < 0 ? 0 : (size_t)got;
    if (got >= 0)
        sendmsg(fd, &message, 0);
}

/* Greets, then as echo. */
static void *banner(void *arg)
{
    send((int)(intptr_t)arg, "hello\n", 6, 0);
    return echo(arg);
}

static size_t receive_all(int fd, char *octets, size_t room, int *error)
{
    size_t have = 0;
    ssize_t got = 0;
    while (have < room && (got = recv(fd, octets + have, room - have, 0)) > 0)
        have += (size_t)got;
    *error = got < 0 ? errno : 0;
    return have;
}

/* Speaks only when the client has ended its half. */
static void *late(void *arg)
{
    int fd = (int)(intptr_t)arg, error;
    char octets[256];
    size_t have = receive_all(fd, octets, sizeof octets, &error);
    send(fd, octets, have, 0);
    close(fd);
    return NULL;
}

/* What the last connection to LAST_WORD brought, for whoever asks at LAST_WORDS. The rows come one after another. */
static char last_words[300];
static size_t last_len;
static sem_t heard;

/* Ends its half first, and listens on. */
static void *last_word(void *arg)
{
    int fd = (int)(intptr_t)arg, one = 1, error;
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
    send(fd, "bye\n", 4, 0);
    shutdown(fd, SHUT_WR);
    last_len = receive_all(fd, last_words, 256, &error);
    if (error)
        last_len += (size_t)snprintf(last_words + last_len, sizeof last_words - last_len, "<%s>", errno_name(error));
    sem_post(&heard);
    close(fd);
    return NULL;
}

static void *say_last_words(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 4;
    if (sem_timedwait(&heard, &limit) == 0)
        send(fd, last_words, last_len, 0);
    close(fd);
    return NULL;
}

/* Waits for an octet, and cuts the connection. */
static void *reset(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char octet;
    struct linger none = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    recv(fd, &octet, 1, 0);
    close(fd);
    return NULL;
}

static const struct {
    int port;
    void *(*serve)(void *arg);
} services[] = {
    {ECHO, echo}, {BANNER, banner}, {LATE, late}, {LAST_WORD, last_word}, {LAST_WORDS, say_last_words}, {RESET, reset},
};

int serve(void)
{
    signal(SIGPIPE, SIG_IGN);
    sem_init(&heard, 0, 0);
    struct pollfd sockets[COUNT(services) + 1];
    for (size_t i = 0; i < COUNT(services); i++)
        sockets[i] = (struct pollfd){.fd = listener(SOCK_STREAM, services[i].port), .events = POLLIN};
    struct pollfd *datagrams = &sockets[COUNT(services)];
    *datagrams = (struct pollfd){.fd = listener(SOCK_DGRAM, ECHO), .events = POLLIN};
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(sockets, COUNT(sockets), -1) < 0)
            err(2, "poll");
        if (datagrams->revents)
            echo_datagram(datagrams->fd);
        for (size_t i = 0; i < COUNT(services); i++) {
            int fd = sockets[i].revents ? accept(sockets[i].fd, NULL, NULL) : -1;
            pthread_t thread;
            if (fd >= 0 && pthread_create(&thread, &detached, services[i].serve, (void *)(intptr_t)fd) != 0)
                close(fd);
        }
    }
}
