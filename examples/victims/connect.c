/* connect HOST PORT [SECONDS]: one blocking connect, with SO_SNDTIMEO if SECONDS are given; says how it went. */
#include "victim.h"

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    struct target to = resolve(argv[1], argv[2]);
    int fd = new_socket(&to);
    if (argc > 3) {
        struct timeval limit = {.tv_sec = atoi(argv[3])};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    int connected = connect_to(fd, &to);
    printf("connect: %s\n", result(connected));
    if (connected == 0) {
        printf("getpeername: %s\n", has_peer(fd, &to));
        printf("again: %s\n", result(connect_to(fd, &to)));
        shutdown(fd, SHUT_WR);
        char octets[4096];
        ssize_t n;
        while ((n = recv(fd, octets, sizeof octets, 0)) > 0)
            fwrite(octets, 1, (size_t)n, stdout);
        printf("end: %s\n", result((int)n));
    } else {
        int error = -1;
        socklen_t len = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
        printf("SO_ERROR: %d\n", error);
        printf("getpeername: %s\n", has_peer(fd, &to));
    }
    return 0;
}
