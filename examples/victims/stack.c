/* stack HOST PORT CLOSED-PORT: how much stack each call takes that may be made in a signal handler. Each runs in a handler on a
 * painted stack of its own, after it has run once elsewhere, so that no symbol is looked up on it. Prints octets. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/select.h>

enum { OCTETS = 1 << 18, PAINT = 0xa5 };

static unsigned char stack[OCTETS] __attribute__((aligned(64)));
static void (*measured)(void);
static unsigned char *entered; /* where the handler's own frame is */

static struct target open_one, closed_one;
static int fd = -1, other = -1, pair[2];

static void by_handler(int signal)
{
    (void)signal;
    entered = __builtin_frame_address(0);
    measured();
}

static size_t taken(void (*call)(void))
{
    measured = call;
    memset(stack, PAINT, sizeof stack);
    raise(SIGUSR1);
    unsigned char *lowest = stack;
    while (*lowest == PAINT)
        lowest++;
    return (size_t)(entered - lowest);
}

static void fresh(const struct target *to, int flags)
{
    if (fd >= 0)
        close(fd);
    fd = socket(to->address.ss_family, SOCK_STREAM | flags, 0);
}

static void open_socket(void) { fresh(&open_one, 0); }
static void closed_socket(void) { fresh(&closed_one, 0); }
static void open_non_blocking(void) { fresh(&open_one, SOCK_NONBLOCK); }
static void closed_non_blocking(void) { fresh(&closed_one, SOCK_NONBLOCK); }
static void nothing(void) {}

static void pending(void)
{
    open_non_blocking();
    connect_to(fd, &open_one);
}

static void pending_to_fail(void)
{
    closed_non_blocking();
    connect_to(fd, &closed_one);
}

static void call_connect(void) { connect_to(fd, &open_one); }
static void call_connect_refused(void) { connect_to(fd, &closed_one); }
static void call_send(void) { send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT); }
static void call_recv(void) { char octet; recv(fd, &octet, 1, MSG_DONTWAIT); }
static void call_write(void) { if (write(pair[1], "x", 1) != 1) abort(); }
static void call_read(void) { char octet; if (read(pair[0], &octet, 1) != 1) abort(); }
static void call_dup(void) { other = dup(fd); }
static void call_dup2(void) { dup2(fd, other); }
static void call_fcntl(void) { other = fcntl(fd, F_DUPFD, 0); }
static void call_close(void) { close(fd); fd = -1; }
static void call_sendto(void) { sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0); }

static void call_poll(void)
{
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    poll(&one, 1, 2000);
}

static void call_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = {.tv_sec = 2};
    select(fd + 1, NULL, &set, NULL, &limit);
}

static void call_pselect(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timespec limit = {.tv_sec = 2};
    pselect(fd + 1, NULL, &set, NULL, &limit, NULL);
}

static void call_getpeername(void) { has_peer(fd, &open_one); }

static void call_ioctl(void)
{
    int waiting;
    ioctl(fd, FIONREAD, &waiting);
}

static void call_execl(void) { execl("/nowhere", "nowhere", "argument", NULL); }
static void call_execle(void) { execle("/nowhere", "nowhere", "argument", NULL, (char *[]){NULL}); }

static void call_getsockname(void)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof own;
    getsockname(fd, (struct sockaddr *)&own, &len);
}

static void call_getsockopt(void)
{
    int error;
    socklen_t len = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    static const struct {
        const char *name;
        void (*before)(void), (*call)(void);
    } calls[] = {
        {"connect", open_socket, call_connect},
        {"connect refused", closed_socket, call_connect_refused},
        {"connect that does not block", open_non_blocking, call_connect},
        {"refused connect that does not block", closed_non_blocking, call_connect_refused},
        {"send", pending, call_send},
        {"recv", pending, call_recv},
        {"sendto", pending, call_sendto},
        {"poll", pending, call_poll},
        {"poll of a failure", pending_to_fail, call_poll},
        {"select", pending, call_select},
        {"pselect", pending, call_pselect},
        {"getsockopt", pending_to_fail, call_getsockopt},
        {"getpeername", pending, call_getpeername},
        {"getsockname", pending, call_getsockname},
        {"ioctl", pending, call_ioctl},
        {"execl", nothing, call_execl},
        {"execle", nothing, call_execle},
        {"dup", pending, call_dup},
        {"dup2", pending, call_dup2},
        {"fcntl", pending, call_fcntl},
        {"close", pending, call_close},
        {"write", nothing, call_write},
        {"read", nothing, call_read},
    };
    open_one = resolve(argv[1], argv[2]);
    closed_one = resolve(argv[1], argv[3]);
    stack_t room = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = by_handler, .sa_flags = SA_ONSTACK};
    if (pipe(pair) != 0 || sigaltstack(&room, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
        return 1;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        calls[i].before();
        calls[i].call(); /* looks symbols up */
        calls[i].before();
        printf("%zu %s\n", taken(calls[i].call), calls[i].name);
        if (other >= 0)
            close(other);
        other = -1;
    }
    return 0;
}
