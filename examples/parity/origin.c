/* The destination: echoes, on one port after a greeting. Runs until it is killed. */
#define _GNU_SOURCE
#include "parity.h"

#include <err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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

int serve(void)
{
    signal(SIGPIPE, SIG_IGN);
    struct pollfd sockets[] = {
        {.fd = listener(SOCK_STREAM, ECHO), .events = POLLIN},
        {.fd = listener(SOCK_STREAM, BANNER), .events = POLLIN},
        {.fd = listener(SOCK_DGRAM, ECHO), .events = POLLIN},
    };
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(sockets, COUNT(sockets), -1) < 0)
            err(2, "poll");
        if (sockets[2].revents)
            echo_datagram(sockets[2].fd);
        for (size_t i = 0; i < 2; i++) {
            int fd = sockets[i].revents ? accept(sockets[i].fd, NULL, NULL) : -1;
            if (fd < 0)
                continue;
            if (i == 1)
                send(fd, "hello\n", 6, 0);
            pthread_t thread;
            if (pthread_create(&thread, &detached, echo, (void *)(intptr_t)fd) != 0)
                close(fd);
        }
    }
}
