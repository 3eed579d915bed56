/* A program that was told to speak IPv6 alone: AF_INET6 in its hints and in its socket. It knows nothing of SOCKS. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s HOST\n", argv[0]);
        return 2;
    }

    struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = SOCK_STREAM}, *to;
    int error = getaddrinfo(argv[1], "80", &hints, &to);
    if (error != 0) {
        fprintf(stderr, "v6-only: getaddrinfo(\"%s\"): %s\n", argv[1], gai_strerror(error));
        return 1;
    }
    char text[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &((struct sockaddr_in6 *)to->ai_addr)->sin6_addr, text, sizeof text);
    printf("v6-only: getaddrinfo(\"%s\") gave me %s\n", argv[1], text);

    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
        perror("v6-only: connect");
        return 1;
    }
    freeaddrinfo(to);

    struct sockaddr_in6 peer;
    socklen_t len = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
        printf("v6-only: connected to %s port %d\n",
               inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text), ntohs(peer.sin6_port));

    dprintf(fd, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
    char answer[4096];
    size_t have = 0;
    ssize_t n;
    while (have + 1 < sizeof answer && (n = read(fd, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)n;
    answer[have] = '\0';
    char *body = strstr(answer, "\r\n\r\n");
    printf("v6-only: the server says: %s", body != NULL ? body + 4 : "(nothing)\n");
    return body == NULL;
}
