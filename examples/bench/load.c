/* The load for scripts/bench: both ends of a stream, a program that only connects, one that only looks up, one that only
 * starts others. Each mode prints one number. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <netdb.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, SERVERS = 8 };

/* What a client says first. It is as long as "GET / HTTP/1.1\r\n", so that curl can say something too. */
struct order {
    char what;   /* 'D': send me len octets, 'U': I send you len octets, 'G': curl */
    char copies; /* 1: move them as programs do, 0: without touching them, so that a relay between us is all the work */
    char unused[6];
    uint64_t len;
};

static char buffer[CHUNK];
static int pages = -1; /* CHUNK octets of page cache for sendfile(2) */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void send_all(int fd, const void *octets, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)octets + done, len - done, MSG_NOSIGNAL);
        if (n < 0)
            err(1, "send");
        done += (size_t)n;
    }
}

static void receive_all(int fd, void *octets, size_t len)
{
    ssize_t n = recv(fd, octets, len, MSG_WAITALL);
    if (n < 0 || (size_t)n != len)
        err(1, "recv gave %zd octets of %zu", n, len);
}

static void produce(int fd, struct order order)
{
    while (order.len > 0) {
        size_t len = order.len < CHUNK ? (size_t)order.len : CHUNK;
        off_t start = 0;
        ssize_t n = order.copies ? send(fd, buffer, len, MSG_NOSIGNAL) : sendfile(fd, pages, &start, len);
        if (n < 0)
            err(1, "send");
        order.len -= (uint64_t)n;
    }
}

static void consume(int fd, struct order order)
{
    while (order.len > 0) {
        size_t len = order.len < CHUNK ? (size_t)order.len : CHUNK;
        ssize_t n = recv(fd, buffer, len, order.copies ? 0 : MSG_TRUNC); /* MSG_TRUNC: TCP drops them, tcp(7) */
        if (n <= 0)
            err(1, "the stream ended %ju octets too early", (uintmax_t)order.len);
        order.len -= (uint64_t)n;
    }
}

static struct addrinfo *resolve(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int error = getaddrinfo(host, port, &hints, &list);
    if (error != 0)
        errx(1, "getaddrinfo(\"%s\"): %s", host, gai_strerror(error));
    return list;
}

/* As many programs do it: the first address is good enough. */
static int connected(const char *host, const char *port)
{
    struct addrinfo *to = resolve(host, port);
    int fd = socket(to->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) != 0)
        err(1, "connect to %s port %s", host, port);
    freeaddrinfo(to);
    return fd;
}

/* RFC 1928 without an error worth telling apart: NO AUTHENTICATION REQUIRED, CONNECT, ATYP 03. */
static void ask_gateway(int fd, const char *host, const char *port)
{
    unsigned char request[4 + 1 + 255 + 2] = {5, 1, 0, 3}, answer[10];
    size_t len = strlen(host);
    unsigned number = (unsigned)atoi(port);
    send_all(fd, "\5\1", 3); /* VER, one METHOD, and the string's own NUL for 00 */
    receive_all(fd, answer, 2);
    request[4] = (unsigned char)len;
    memcpy(request + 5, host, len);
    request[5 + len] = (unsigned char)(number >> 8);
    request[6 + len] = (unsigned char)number;
    send_all(fd, request, len + 7);
    receive_all(fd, answer, sizeof answer);
    if (answer[1] != 0)
        errx(1, "the gateway answers REP %d", answer[1]);
    if (answer[3] == 4)
        receive_all(fd, buffer, 12);
}

static void answer(int fd)
{
    struct order order;
    ssize_t n = recv(fd, &order, sizeof order, MSG_WAITALL);
    if (n == (ssize_t)sizeof order) {
        if (order.what == 'D') {
            produce(fd, order);
        } else if (order.what == 'U') {
            consume(fd, order);
            send_all(fd, "!", 1);
        } else {
            static const char none[] = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
            recv(fd, buffer, sizeof buffer, 0);
            send_all(fd, none, sizeof none - 1);
            shutdown(fd, SHUT_WR);
        }
    }
    while (recv(fd, buffer, sizeof buffer, 0) > 0) /* the client closes first: TIME_WAIT is its business */
        continue;
}

_Noreturn static void serve(const char *address, const char *port)
{
    struct addrinfo *at = resolve(address, port);
    int on = 1, listener = socket(at->ai_family, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, at->ai_addr, at->ai_addrlen) != 0 || listen(listener, 1024) != 0)
        err(1, "listen on %s port %s", address, port);
    for (int i = 1; i < SERVERS && fork() != 0;)
        i++;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            err(1, "accept");
        answer(fd);
        close(fd);
    }
}

/* argv: HOST PORT [GATEWAY PORT] */
static int reached(char **argv)
{
    int fd = connected(argv[2] ? argv[2] : argv[0], argv[2] ? argv[3] : argv[1]);
    if (argv[2] != NULL)
        ask_gateway(fd, argv[0], argv[1]);
    return fd;
}

static double stream(char what, char copies, uint64_t len, char **argv)
{
    struct order order = {.what = what, .copies = copies, .len = len};
    int fd = reached(argv);
    double start = seconds();
    send_all(fd, &order, sizeof order);
    if (what == 'D') {
        consume(fd, order);
    } else {
        produce(fd, order);
        receive_all(fd, buffer, 1);
    }
    return (double)len / (1 << 30) / (seconds() - start);
}

static double connects(int count, char **argv)
{
    double start = seconds();
    for (int i = 0; i < count; i++)
        close(reached(argv));
    return count / (seconds() - start);
}

static double names(int count)
{
    double start = seconds();
    for (int i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "host-%d.some-department.example.com", i);
        freeaddrinfo(resolve(name, "80"));
    }
    return seconds() - start;
}

static double starts(int count, char **argv)
{
    for (; *argv != NULL && strchr(*argv, '=') != NULL; argv++)
        putenv(*argv);
    double start = seconds();
    for (int i = 0; i < count; i++) {
        pid_t pid;
        int status, error = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
        if (error != 0 || waitpid(pid, &status, 0) != pid || status != 0)
            errx(1, "%s does not start", argv[0]);
    }
    return (seconds() - start) / count * 1e3;
}

int main(int argc, char **argv)
{
    pages = memfd_create("pages", MFD_CLOEXEC);
    if (ftruncate(pages, CHUNK) != 0 || write(pages, buffer, CHUNK) != CHUNK)
        err(1, "memfd_create");

    const char *mode = argc > 2 ? argv[1] : "";
    double figure;
    if (!strcmp(mode, "serve") && argc == 4)
        serve(argv[2], argv[3]);
    if (!strcmp(mode, "stream") && (argc == 6 || argc == 8))
        figure = stream(argv[2][0], argv[2][1] == 'c', strtoull(argv[3], NULL, 10) << 20, argv + 4);
    else if (!strcmp(mode, "connects") && (argc == 5 || argc == 7))
        figure = connects(atoi(argv[2]), argv + 3);
    else if (!strcmp(mode, "names") && argc == 3)
        figure = names(atoi(argv[2]));
    else if (!strcmp(mode, "starts") && argc > 3)
        figure = starts(atoi(argv[2]), argv + 3);
    else
        errx(2, "usage: load serve ADDRESS PORT"
                " | stream {D|U}[c] MIB HOST PORT [GATEWAY PORT]  (GiB/s)"
                " | connects N HOST PORT [GATEWAY PORT]  (per second)"
                " | names N  (seconds)"
                " | starts N [VARIABLE=VALUE...] PROGRAM  (ms each)");
    printf("%.9g\n", figure);
    return 0;
}
