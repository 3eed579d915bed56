/* A program from before IPv6: it knows gethostbyname() and struct sockaddr_in, and nothing of SOCKS. */
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

    struct hostent *host = gethostbyname(argv[1]);
    if (host == NULL) {
        fprintf(stderr, "v4-only: gethostbyname(\"%s\"): %s\n", argv[1], hstrerror(h_errno));
        return 1;
    }

    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    memcpy(&to.sin_addr, host->h_addr_list[0], sizeof to.sin_addr);
    printf("v4-only: gethostbyname(\"%s\") gave me %s\n", argv[1], inet_ntoa(to.sin_addr));

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("v4-only: connect");
        return 1;
    }

    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
        printf("v4-only: connected to %s port %d\n", inet_ntoa(peer.sin_addr), ntohs(peer.sin_port));

    dprintf(fd, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
    char answer[4096];
    size_t have = 0;
    ssize_t n;
    while (have + 1 < sizeof answer && (n = read(fd, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)n;
    answer[have] = '\0';
    char *body = strstr(answer, "\r\n\r\n");
    printf("v4-only: the server says: %s", body != NULL ? body + 4 : "(nothing)\n");
    return body == NULL;
}
