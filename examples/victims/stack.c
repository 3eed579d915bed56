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

static struct target open_one, closed_one, domain;
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

/* RFC 1035 4.1: a length as in a stream, and two questions: for the address of a name that was not asked for before, and for
 * the name of an address. */
enum { FIRST = 2 + 12 + 15 + 4, SECOND = 2 + 12 + 28 + 4 };
static unsigned char questions[FIRST + SECOND] = "\0\37\0\1\1\0\0\1\0\0\0\0\0\0" "\5" "a0000\7example\0" "\0\1\0\1"
    "\0\54\0\2\1\0\0\1\0\0\0\0\0\0" "\0019\0019\00218\003198\7in-addr\4arpa\0" "\0\14\0\1";

static void fresh_question(int type)
{
    static int count;
    fresh(&domain, 0);
    if (type == SOCK_DGRAM) {
        close(fd);
        fd = socket(domain.address.ss_family, SOCK_DGRAM, 0);
    }
    count++;
    for (int rest = count, i = 0; i < 4; i++, rest /= 10)
        questions[16 + i] = (unsigned char)('0' + rest % 10);
}

static void unconnected_datagram(void) { fresh_question(SOCK_DGRAM); }
static void unconnected_stream(void) { fresh_question(SOCK_STREAM); }
static void connected_datagram(void) { unconnected_datagram(); connect_to(fd, &domain); }
static void connected_stream(void) { unconnected_stream(); connect_to(fd, &domain); }
static void duplicated_datagram(void) { unconnected_datagram(); other = dup(fd); }
static void call_connect_to_domain(void) { connect_to(fd, &domain); }
static void call_ask(void) { if (send(fd, questions + 2, FIRST - 2, 0) < 0) abort(); }
static void call_ask_back(void) { if (send(fd, questions + FIRST + 2, SECOND - 2, 0) < 0) abort(); }
static void call_ask_in_stream(void) { if (send(fd, questions, sizeof questions, 0) < 0) abort(); }

static void call_ask_by_address(void)
{
    if (sendto(fd, questions + 2, FIRST - 2, 0, (const struct sockaddr *)&domain.address, domain.len) < 0)
        abort();
}

static void answered(void) { unconnected_datagram(); call_ask_by_address(); }

static void call_recvfrom(void)
{
    char octets[512];
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    if (recvfrom(fd, octets, sizeof octets, MSG_DONTWAIT, (struct sockaddr *)&from, &len) < 0)
        abort();
}

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
        {"connect to a name server", unconnected_datagram, call_connect_to_domain},
        {"connect to a name server with a duplicate", duplicated_datagram, call_connect_to_domain},
        {"stream to a name server", unconnected_stream, call_connect_to_domain},
        {"question", connected_datagram, call_ask},
        {"question for a name", connected_datagram, call_ask_back},
        {"question in a stream", connected_stream, call_ask_in_stream},
        {"question by sendto", unconnected_datagram, call_ask_by_address},
        {"question by sendto with a duplicate", duplicated_datagram, call_ask_by_address},
        {"recvfrom of an answer", answered, call_recvfrom},
    };
    open_one = resolve(argv[1], argv[2]);
    closed_one = resolve(argv[1], argv[3]);
    domain = resolve(argv[1], "53");
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
