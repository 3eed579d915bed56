/* Sockets and addresses, and what can be said about them. */
#define _GNU_SOURCE
#include "parity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

const char *const ways[3] = {"v4", "v6", "mapped"};

int socket_family(enum way way)
{
    return way == V4 ? AF_INET : AF_INET6;
}

static void give_up(void)
{
    say_descriptors();
    _exit(0);
}

static void map(struct target *target)
{
    struct sockaddr_in v4;
    memcpy(&v4, &target->address, sizeof v4);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port};
    v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6.sin6_addr.s6_addr[12], &v4.sin_addr, 4);
    memcpy(&target->address, &v6, sizeof v6);
    target->len = sizeof v6;
}

struct target target(enum way way, const char *name, int port)
{
    struct addrinfo hints = {.ai_family = way == V6 ? AF_INET6 : AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    struct target target = {.len = 0};
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(name, service, &hints, &list);
    if (error) {
        say("getaddrinfo %s; ", gai_name(error));
        give_up();
    }
    memcpy(&target.address, list->ai_addr, list->ai_addrlen);
    target.len = list->ai_addrlen;
    freeaddrinfo(list);
    if (way == MAPPED)
        map(&target);
    return target;
}

struct target numeric(const char *text, int port)
{
    struct target target = {.len = 0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        memcpy(&target.address, &v4, sizeof v4);
        target.len = sizeof v4;
    } else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
        memcpy(&target.address, &v6, sizeof v6);
        target.len = sizeof v6;
    } else {
        say("%s is no address; ", text);
        give_up();
    }
    return target;
}

struct target loopback(enum way way, int port)
{
    return numeric(way == V4 ? "127.0.0.1" : way == V6 ? "::1" : "::ffff:127.0.0.1", port);
}

const struct sockaddr *sa(const struct target *target)
{
    return (const struct sockaddr *)&target->address;
}

int stream(enum way way)
{
    return socket(socket_family(way), SOCK_STREAM, 0);
}

int dial(int fd, const struct target *target)
{
    return connect(fd, sa(target), target->len);
}

void say_dial(const char *what, int fd, const struct target *target)
{
    say_result(what, dial(fd, target));
}

int connected(enum way way, const char *name, int port)
{
    struct target to = target(way, name, port);
    int fd = stream(way);
    if (dial(fd, &to) != 0) {
        say_result("connect", -1);
        give_up();
    }
    return fd;
}

int listening(enum way way, int *port)
{
    int fd = stream(way);
    struct target any = loopback(way, 0);
    if (bind(fd, sa(&any), any.len) != 0 || listen(fd, 5) != 0) {
        say_result("listen", -1);
        give_up();
    }
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &len);
    *port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                             : ((struct sockaddr_in6 *)&bound)->sin6_port);
    return fd;
}

void say_peer(int fd)
{
    struct target peer = {.len = sizeof peer.address};
    errno = 0;
    if (getpeername(fd, (struct sockaddr *)&peer.address, &peer.len) != 0) {
        say_result("peer", -1);
        return;
    }
    say("peer ");
    say_address(sa(&peer), peer.len);
    say("; ");
}

void say_local(int fd)
{
    struct target local = {.len = sizeof local.address};
    if (getsockname(fd, (struct sockaddr *)&local.address, &local.len) != 0) {
        say_result("local", -1);
        return;
    }
    /* The port is where both families keep it. */
    struct sockaddr_in *in = (struct sockaddr_in *)&local.address;
    bool ephemeral = (in->sin_family == AF_INET || in->sin_family == AF_INET6) && ntohs(in->sin_port) > 10000;
    if (ephemeral)
        in->sin_port = 0;
    say("local ");
    say_address(sa(&local), local.len);
    say("%s; ", ephemeral ? " but ephemeral" : "");
}

void say_so_error(int fd)
{
    int error = -1;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        say_result("SO_ERROR", -1);
    else
        say("SO_ERROR %s; ", errno_name(error));
}

void say_received(int fd)
{
    char text[65];
    /* The length is read from a volatile, so that the fortified build calls __recv_chk. */
    volatile size_t room = sizeof text - 1;
    ssize_t got = recv(fd, text, room, 0);
    if (got < 0) {
        say_result("received", -1);
        return;
    }
    text[got] = '\0';
    say("received ");
    say_text(text);
    say("; ");
}

void say_echo(int fd, const char *message)
{
    timeout(fd, SO_RCVTIMEO, 5000);
    ssize_t sent = send(fd, message, strlen(message), MSG_NOSIGNAL);
    if (sent != (ssize_t)strlen(message)) {
        say_result("sent", sent);
        return;
    }
    say_received(fd);
}

void await_octets(int fd, int octets)
{
    int waiting = 0;
    for (int i = 0; i < 500 && ioctl(fd, FIONREAD, &waiting) == 0 && waiting < octets; i++)
        sleep_ms(10);
}

unsigned long inode_of(int fd)
{
    struct stat stat;
    return fstat(fd, &stat) == 0 ? stat.st_ino : 0;
}

void say_identity(const char *what, int fd, unsigned long inode)
{
    say("%s %s; ", what, inode_of(fd) == inode ? "same" : "another");
}

void timeout(int fd, int option, int ms)
{
    struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
}

void sleep_ms(int ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0)
        ;
}
