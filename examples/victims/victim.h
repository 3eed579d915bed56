/* What the victims share. They know nothing of SOCKS; what they print is the same wherever the program cannot tell that it
 * is relayed, so the tests run each of them twice, plainly beside the gateway and under the shim, and compare. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SHARED __attribute__((unused)) static /* not every victim needs everything */

struct target {
    struct sockaddr_storage address;
    socklen_t len;
};

/* The first address of HOST. */
SHARED struct target resolve(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int error = getaddrinfo(host, port, &hints, &list);
    if (error != 0) {
        printf("getaddrinfo: %s\n", gai_strerror(error));
        exit(1);
    }
    struct target to = {.len = list->ai_addrlen};
    memcpy(&to.address, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return to;
}

SHARED int new_socket(const struct target *to)
{
    int fd = socket(to->address.ss_family, SOCK_STREAM, 0);
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    return fd;
}

SHARED int connect_to(int fd, const struct target *to)
{
    return connect(fd, (const struct sockaddr *)&to->address, to->len);
}

SHARED const char *result(int value)
{
    return value == 0 ? "0" : strerrorname_np(errno);
}

/* Whether getpeername gives what the program connected to. */
SHARED const char *has_peer(int fd, const struct target *to)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
        return strerrorname_np(errno);
    return len == to->len && memcmp(&peer, &to->address, len) == 0 ? "as connected" : "another";
}

/* Sends a word to an echo server and reads it back. */
SHARED const char *echo(int fd)
{
    char back[6] = "";
    if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5 || recv(fd, back, 5, MSG_WAITALL) != 5)
        return strerrorname_np(errno);
    return strcmp(back, "hello") == 0 ? "echoed" : "other octets";
}

/* Seconds since some moment, and a length of time in a form that is equal for equal behaviour. */
SHARED double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

SHARED double halves(double seconds)
{
    return (double)(int)(seconds * 2 + 0.5) / 2;
}
