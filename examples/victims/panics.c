/* panics SERVER HOLE NAME-SERVER: calls every function that the library hooks, in every situation that matters to it, once as it is
 * and then again and again while the library panics: at each of its looks in turn, and at all. A process of its own for each
 * call. Lines of "SITUATION FUNCTION WHEN: RESULT", where WHEN is "never", "at N" or "always".
 * panics list: the functions. Without the library: what the system itself does, in the situations that are no look-ups. */
#include "panics_sockets.h"

/* Connected to an echo server before the library panics; the server's word is there to be read. */
static int relayed(void)
{
    struct target to = resolve(server, "7");
    int fd = new_socket(&to);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (connect_to(fd, &to) != 0 || send(fd, "hello", 5, 0) != 5 || poll(&wait, 1, 5000) != 1)
        say("no connection: %s", strerrorname_np(errno));
    return fd;
}

/* A connect() that has returned EINPROGRESS and whose handshake has come as far as it will. */
static int pending(void)
{
    struct target to = resolve(hole, "7");
    int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    if (connect_to(fd, &to) == 0 || errno != EINPROGRESS || poll(&wait, 1, 20) != 0)
        say("not pending: %s", strerrorname_np(errno));
    return fd;
}

/* One of which nobody has looked at what its gateway says, in an epoll set. */
static int undriven(void)
{
    int fd = socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    register_in_set(fd);
    if (connect_to(fd, &target) == 0 || errno != EINPROGRESS)
        say("not pending: %s", strerrorname_np(errno));
    usleep(20000);
    return fd;
}

/* A connection that is not relayed. */
static int plain(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0 || connect(fd, (struct sockaddr *)&at, len) != 0)
        say("no connection: %s", strerrorname_np(errno));
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (send(accept(listener, NULL, NULL), "hello", 5, 0) != 5 || poll(&wait, 1, 5000) != 1)
        say("no octets: %s", strerrorname_np(errno));
    return fd;
}

/* The same in a process that has a handshake under way, so that the library looks at every descriptor. */
static int relayed_beside(void)
{
    pending();
    return relayed();
}

static int plain_beside(void)
{
    pending();
    return plain();
}

static int unconnected(void) { return new_socket(&target); }

static int datagram(void) { return socket(target.address.ss_family, SOCK_DGRAM, 0); }

/* A datagram socket whose question is answered, and one that is connected to a name server. */
static int answered(void)
{
    struct target to = resolve(name_server, "53");
    int fd = socket(to.address.ss_family, SOCK_DGRAM, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (sendto(fd, octets, (size_t)question(octets), 0, (struct sockaddr *)&to.address, to.len) < 0 || poll(&wait, 1, 5000) != 1)
        say("no answer: %s", strerrorname_np(errno));
    return fd;
}

static int asking(void)
{
    struct target to = resolve(name_server, "53");
    int fd = socket(to.address.ss_family, SOCK_DGRAM, 0);
    if (connect_to(fd, &to) != 0)
        say("not connected: %s", strerrorname_np(errno));
    return fd;
}

static int nothing(void) { return -1; }

static const struct situation {
    const char *name;
    int (*make)(void);
} situations[] = {
    {"nowhere", nothing},        {"unconnected", unconnected},      {"relayed", relayed}, {"relayed-beside", relayed_beside},
    {"plain", plain},            {"plain-beside", plain_beside},    {"pending", pending}, {"datagram", datagram},
    {"answered", answered},      {"asking", asking},             {"undriven", undriven},
};

#define CONNECTED "relayed relayed-beside plain plain-beside pending"

static const struct {
    const char *situations, *names;
    void (*call)(void *function, int fd);
} rows[] = {
    {"nowhere", "getaddrinfo", by_getaddrinfo},
    {"nowhere", "getaddrinfo_a", by_getaddrinfo_a},
    {"nowhere", "gethostbyname", by_gethostbyname},
    {"nowhere", "gethostbyname2", by_gethostbyname2},
    {"nowhere", "gethostbyname_r", by_gethostbyname_r},
    {"nowhere", "gethostbyname2_r", by_gethostbyname2_r},
    {"nowhere", "getnameinfo", by_getnameinfo},
    {"nowhere", "gethostbyaddr", by_gethostbyaddr},
    {"nowhere", "gethostbyaddr_r", by_gethostbyaddr_r},
    {"nowhere", "gethostid", by_gethostid},
    {"nowhere", "res_query __res_query res_search __res_search", by_res_query},
    {"nowhere", "res_querydomain __res_querydomain", by_res_querydomain},
    {"nowhere", "res_nquery __res_nquery res_nsearch __res_nsearch", by_res_nquery},
    {"nowhere", "res_nquerydomain __res_nquerydomain", by_res_nquerydomain},
    {"nowhere", "res_send __res_send", by_res_send},
    {"nowhere", "res_nsend __res_nsend", by_res_nsend},
    {"nowhere", "rcmd rcmd_af rexec rexec_af ruserok ruserok_af iruserok iruserok_af", by_remote},
    {"nowhere", "execve", by_execve},
    {"nowhere", "execv", by_execv},
    {"nowhere", "execvp", by_execvp},
    {"nowhere", "execvpe", by_execvpe},
    {"nowhere", "fexecve", by_fexecve},
    {"nowhere", "execveat", by_execveat},
    {"nowhere", "execl", by_execl},
    {"nowhere", "execlp", by_execlp},
    {"nowhere", "execle", by_execle},
    {"nowhere", "system", by_system},
    {"nowhere", "popen", by_popen},
    {"nowhere", "wordexp", by_wordexp},
    {"nowhere", "posix_spawn posix_spawnp", by_posix_spawn},
    {"nowhere " CONNECTED, "fork", by_fork},
    {"unconnected", "connect __connect", by_connect},
    {"unconnected", "sendto", by_sendto},
    {"unconnected", "sendmsg", by_sendmsg},
    {"unconnected", "sendmmsg", by_sendmmsg},
    {"unconnected", "syscall", by_syscall_connect},
    {CONNECTED, "connect", by_dissolving},
    {CONNECTED, "syscall", by_syscall_read},
    {"datagram", "connect", by_connect},
    {"datagram", "sendto", by_sendto},
    {"datagram", "sendmsg", by_sendmsg},
    {"datagram", "sendmmsg", by_sendmmsg},
    {"answered", "recvfrom", by_recvfrom},
    {"answered", "__recvfrom_chk", by_recvfrom_chk},
    {"answered", "recvmsg", by_recvmsg},
    {"answered", "recvmmsg", by_recvmmsg},
    {"asking " CONNECTED, "send __send", by_send},
    {"asking " CONNECTED, "write __write", by_write},
    {"asking " CONNECTED, "writev", by_writev},
    {"asking " CONNECTED, "pwritev2 pwritev64v2", by_pwritev2},
    {"asking " CONNECTED, "sendfile sendfile64", by_sendfile},
    {"asking " CONNECTED, "splice", by_splice},
    {"asking " CONNECTED, "sendto", by_sendto_peer},
    {"asking " CONNECTED, "sendmsg", by_sendmsg_peer},
    {"asking " CONNECTED, "sendmmsg", by_sendmmsg_peer},
    {CONNECTED, "read __read", by_read},
    {CONNECTED, "__read_chk", by_read_chk},
    {CONNECTED, "readv", by_readv},
    {CONNECTED, "preadv2 preadv64v2", by_preadv2},
    {CONNECTED, "recv", by_recv},
    {CONNECTED, "__recv_chk", by_recv_chk},
    {CONNECTED, "recvfrom", by_recvfrom},
    {CONNECTED, "__recvfrom_chk", by_recvfrom_chk},
    {CONNECTED, "recvmsg", by_recvmsg},
    {CONNECTED, "recvmmsg", by_recvmmsg},
    {"asking " CONNECTED, "getpeername", by_getpeername},
    {"asking " CONNECTED, "getsockname", by_getsockname},
    {CONNECTED, "getsockopt", by_getsockopt},
    {CONNECTED, "ioctl", by_ioctl},
    {CONNECTED, "accept", by_accept},
    {CONNECTED, "accept4", by_accept4},
    {CONNECTED, "shutdown", by_shutdown},
    {CONNECTED, "poll __poll", by_poll},
    {CONNECTED, "__poll_chk", by_poll_chk},
    {CONNECTED, "ppoll", by_ppoll},
    {CONNECTED, "__ppoll_chk", by_ppoll_chk},
    {CONNECTED, "select __select", by_select},
    {CONNECTED, "pselect", by_pselect},
    {CONNECTED, "epoll_ctl", by_epoll_ctl},
    {"undriven " CONNECTED, "epoll_wait", by_epoll_wait},
    {"undriven " CONNECTED, "epoll_pwait", by_epoll_pwait},
    {"undriven " CONNECTED, "epoll_pwait2", by_epoll_pwait2},
    {CONNECTED, "close __close", by_close},
    {CONNECTED, "dup", by_dup},
    {CONNECTED, "dup2 __dup2", by_dup2},
    {CONNECTED, "dup3", by_dup3},
    {CONNECTED, "fcntl fcntl64 __fcntl", by_fcntl},
};

static int has_word(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == 0))
            return 1;
    return 0;
}

/* Calls one function in a process of its own; whether the library has panicked. */
static int run(size_t row, const struct situation *situation, const char *function, int at)
{
    char moment[16] = "always";
    when = at;
    if (when != ALWAYS)
        snprintf(moment, sizeof moment, when == NEVER ? "never" : "at %d", when);
    snprintf(label, sizeof label, "%s %s %s", situation->name, function, moment);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* nothing waits so long */
        target = resolve(server, "7");
        int fd = situation->make();
        before(fd, situation->make == nothing || situation->make == asking);
        if (panics != NULL)
            *panics = when;
        rows[row].call(dlsym(RTLD_DEFAULT, function), fd);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s: signal %d\n", label, WTERMSIG(status));
    return WIFSIGNALED(status) || WEXITSTATUS(status) == HAS_PANICKED;
}

int main(int argc, char **argv)
{
    int is_list = argc == 2 && strcmp(argv[1], "list") == 0;
    if (argc != 4 && !is_list)
        return 2;
    panics = dlsym(RTLD_DEFAULT, "socks6_panics");
    if (!is_list)
        server = argv[1], hole = argv[2], name_server = argv[3];
    signal(SIGPIPE, SIG_IGN);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        char names[256], *rest;
        strcpy(names, rows[row].names);
        for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
            if (is_list)
                puts(name);
            for (size_t i = 0; !is_list && i < sizeof situations / sizeof *situations; i++) {
                const struct situation *situation = &situations[i];
                int is_systems = has_word(CONNECTED, situation->name);
                if (!has_word(rows[row].situations, situation->name) || (panics == NULL && !is_systems))
                    continue;
                run(row, situation, name, NEVER);
                for (int at = 1; panics != NULL && at < 20 && run(row, situation, name, at); at++)
                    ;
                if (panics != NULL)
                    run(row, situation, name, ALWAYS);
            }
        }
    }
    return 0;
}
