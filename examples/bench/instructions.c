/* instructions CALL COUNT: makes one call of libc COUNT times, and nothing else. Under valgrind, two counts tell what one call takes. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int zero, null, pair[2], set;
static char octet;

static void call_read(void) { if (read(zero, &octet, 1) != 1) abort(); }
static void call_write(void) { if (write(null, &octet, 1) != 1) abort(); }
static void call_send(void) { if (send(pair[0], &octet, 1, MSG_DONTWAIT) < 0) octet++; } /* its queue is full one day */
static void call_recv(void) { if (recv(pair[1], &octet, 1, MSG_DONTWAIT | MSG_PEEK) != 1) abort(); }

static void call_poll(void)
{
    struct pollfd one = {.fd = pair[1], .events = POLLIN};
    if (poll(&one, 1, 0) != 1)
        abort();
}

static void call_select(void)
{
    fd_set to_read;
    struct timeval none = {0};
    FD_ZERO(&to_read);
    FD_SET(pair[1], &to_read);
    if (select(pair[1] + 1, &to_read, NULL, NULL, &none) != 1)
        abort();
}

static void call_epoll_wait(void)
{
    struct epoll_event event;
    if (epoll_wait(set, &event, 1, 0) != 1)
        abort();
}

static void call_syscall(void) { if (syscall(SYS_getppid) < 0) abort(); }

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {
        {"read", call_read}, {"write", call_write}, {"recv", call_recv}, {"send", call_send}, {"poll", call_poll},
        {"select", call_select}, {"epoll_wait", call_epoll_wait}, {"syscall", call_syscall},
    };
    if (argc != 3)
        return 2;
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    set = epoll_create1(0);
    if (zero < 0 || null < 0 || set < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
        return 1;
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(set, EPOLL_CTL_ADD, pair[1], &event) != 0)
        return 1;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(argv[1], calls[i].name) == 0) {
            call_send(); /* what the others find */
            for (long n = atol(argv[2]); n > 0; n--)
                calls[i].call();
            return 0;
        }
    return 2;
}
