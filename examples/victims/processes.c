/* processes CASE HOST PORT: names, sockets and descriptors that pass from process to process. PORT is an echo server's. */
#include "victim.h"

#include <sys/epoll.h>
#include <sys/wait.h>

static char *self;

static void report(int fd, const struct target *to)
{
    printf("getpeername: %s\n", has_peer(fd, to));
    printf("%s\n", echo(fd));
}

static int connected(const struct target *to)
{
    int fd = new_socket(to);
    printf("connect: %s\n", result(connect_to(fd, to)));
    return fd;
}

static void end_of(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    printf("child: %d\n", status);
}

/* Octets as an argument for exec. */
static char *spell(const struct target *to)
{
    static char text[2 * sizeof to->address + 1];
    for (size_t i = 0; i < to->len; i++)
        sprintf(text + 2 * i, "%02x", ((const unsigned char *)&to->address)[i]);
    return text;
}

static struct target unspell(const char *text)
{
    struct target to = {.len = (socklen_t)(strlen(text) / 2)};
    for (size_t i = 0; i < to.len; i++) {
        unsigned octet = 0;
        sscanf(text + 2 * i, "%2x", &octet);
        ((unsigned char *)&to.address)[i] = (unsigned char)octet;
    }
    return to;
}

/* A helper process resolves, as in programs that do not trust their resolver; the parent connects. */
static void resolve_in_child(const char *host, const char *port)
{
    int pair[2];
    if (pipe(pair) != 0)
        exit(1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct target to = resolve(host, port);
        _exit(write(pair[1], &to, sizeof to) != sizeof to);
    }
    struct target to;
    if (read(pair[0], &to, sizeof to) != sizeof to)
        exit(1);
    end_of(child);
    report(connected(&to), &to);
}

static void resolve_then_exec(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    fflush(stdout);
    execl(self, self, "connect-after-exec", spell(&to), "-", NULL);
}

static void connect_then_exec(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    char number[16];
    sprintf(number, "%d", connected(&to));
    fflush(stdout);
    execl(self, self, "use-after-exec", spell(&to), number, NULL);
}

/* daemon(3) in short: the parent is gone before the child connects. */
static void orphan(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    pid_t parent = getpid();
    if (fork() != 0)
        _exit(0);
    while (getppid() == parent)
        usleep(1000);
    report(connected(&to), &to);
    printf("done\n");
}

/* unix(7), SCM_RIGHTS: the receiver gets the same open socket. */
static void pass_over_unix_socket(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(1);
    fflush(stdout);
    pid_t child = fork(); /* before the connection: what the child knows of it comes by the socket alone */
    char octet = 0;
    struct iovec io = {&octet, 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (child == 0) {
        if (recvmsg(pair[1], &message, 0) != 1)
            _exit(1);
        int fd;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        report(fd, &to);
        fflush(stdout);
        _exit(0);
    }
    int fd = connected(&to);
    fflush(stdout);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    if (sendmsg(pair[0], &message, 0) != 1)
        exit(1);
    close(fd);
    end_of(child);
}

static void use_in_forked_child(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    int fd = connected(&to);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        report(fd, &to);
        fflush(stdout);
        _exit(0);
    }
    end_of(child);
    report(fd, &to);
}

/* Daemons close everything that they did not open, by any of these. */
static void close_all_first(const char *host, const char *port)
{
    printf("close_range: %s\n", result(close_range(3, ~0U, 0)));
    struct target to = resolve(host, port);
    report(connected(&to), &to);
    closefrom(3);
    to = resolve(host, port);
    report(connected(&to), &to);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    to = resolve(host, port);
    report(connected(&to), &to);
}

static void duplicates(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    int fd = connected(&to);
    int copies[] = {dup(fd), dup2(fd, 100), dup3(fd, 101, 0)};
    close(fd);
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++)
        report(copies[i], &to);
    close(copies[0]);
    int reused = new_socket(&to); /* the number of one that is gone is a new socket's now */
    printf("same number: %d\n", reused == fd || reused == copies[0]);
    printf("getpeername: %s\n", has_peer(reused, &to));
}

/* A set does not hear of the socket that has the number of one that was closed in it. */
static void closed_in_a_set(const char *host, const char *port)
{
    struct target to = resolve(host, port);
    int set = epoll_create1(0), fd = new_socket(&to);
    struct epoll_event event = {.events = EPOLLOUT};
    printf("epoll_ctl: %s\n", result(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)));
    close(fd);
    int again = connected(&to);
    printf("same number: %d\n", again == fd);
    printf("%s\n", echo(again));
    printf("epoll_wait: %d\n", epoll_wait(set, &event, 1, 0));
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    self = argv[0];
    setvbuf(stdout, NULL, _IOFBF, 4096);
    static const struct {
        const char *name;
        void (*run)(const char *host, const char *port);
    } cases[] = {
        {"resolve-in-child", resolve_in_child},
        {"resolve-then-exec", resolve_then_exec},
        {"connect-then-exec", connect_then_exec},
        {"orphan", orphan},
        {"pass-over-unix-socket", pass_over_unix_socket},
        {"use-in-forked-child", use_in_forked_child},
        {"close-all-first", close_all_first},
        {"duplicates", duplicates},
        {"closed-in-a-set", closed_in_a_set},
    };
    struct target to;
    if (strcmp(argv[1], "connect-after-exec") == 0) {
        to = unspell(argv[2]);
        report(connected(&to), &to);
        return 0;
    }
    if (strcmp(argv[1], "use-after-exec") == 0) {
        to = unspell(argv[2]);
        report(atoi(argv[3]), &to);
        return 0;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run(argv[2], argv[3]);
            return 0;
        }
    return 2;
}
