/* storm CONNECTS THREADS FORKS DOMAIN PORT CLOSED-PORT [blocking]: many connections in one process. THREADS threads share one epoll
 * set; each connection does not block, is waited for in the set by whichever thread comes first, and is then used once and closed,
 * so that its number is the next one's at once. Every eighth goes to CLOSED-PORT and must be refused, every sixteenth is closed
 * in mid-handshake. FORKS children are forked meanwhile; each of them connects too, and hands its socket to a program of its own.
 * With "blocking", no set: each thread connects and waits.
 * The destinations are names of DOMAIN, 0.DOMAIN, 1.DOMAIN and so on: 16 that are looked up at the start, 256 that come in the
 * course of it, and one for each child.
 * Says what came of them, whether each name still has its address and no other name has it, and whether descriptors, memory and
 * the number of connects that can be under way at once are as they were. */
#include "victim.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { IN_FLIGHT = 16, LATE_SECONDS = 20, AT_START = 16, MOST_LATER = 256 };

enum purpose { TO_OPEN, TO_CLOSED, TO_NOBODY };

struct attempt {
    _Atomic int fd; /* -1: free */
    enum purpose purpose;
    atomic_bool is_ended;
    double began;
};

static const char *domain, *open_port, *closed_port;
/* Of each name as it was first looked up; in memory that children share. */
static struct target *addresses;
static long connects, later;
/* A handshake that is closed while it is a child's too is kept for that child: such a child is not made. */
static pthread_rwlock_t forking = PTHREAD_RWLOCK_INITIALIZER;
static int set, other_set, threads, is_blocking;
static struct attempt *attempts;
static atomic_long begun, opened, refused, abandoned, wrong;

static void complain(const char *what, int error)
{
    if (atomic_fetch_add(&wrong, 1) < 10)
        fprintf(stderr, "%s: %s\n", what, error ? strerrorname_np(error) : "-");
}

static struct target look_up(long name)
{
    char host[256];
    snprintf(host, sizeof host, "%ld.%s", name, domain);
    return resolve(host, open_port);
}

/* Where connection NUMBER goes: to a name that is new, or to one of the first. */
static struct target target_of(long number, enum purpose purpose)
{
    long every = connects / later, name = number % AT_START;
    if (number % every == 0 && number / every < later) {
        name = AT_START + number / every;
        addresses[name] = look_up(name);
    }
    struct target to = addresses[name];
    in_port_t port = htons((uint16_t)atoi(purpose == TO_CLOSED ? closed_port : open_port));
    if (to.address.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&to.address)->sin6_port = port;
    else
        ((struct sockaddr_in *)&to.address)->sin_port = port;
    return to;
}

/* How many of the first COUNT names have another address than they had, or the address of another name. */
static int moved(long count)
{
    int moved = 0;
    for (long name = 0; name < count; name++) {
        struct sockaddr_storage again = look_up(name).address;
        int is_moved = memcmp(&again, &addresses[name].address, sizeof again) != 0;
        for (long other = 0; other < name; other++)
            is_moved |= memcmp(&again, &addresses[other].address, sizeof again) == 0;
        moved += is_moved;
    }
    return moved;
}

/* How many connects can be under way at once: as many as the library has room for, less what has been lost of that in the last 135
 * seconds. What was lost before is taken for that of a socket closed behind its back, and used again. */
static int at_once(void)
{
    enum { MANY = 16384 };
    static int fds[MANY];
    int count = 0, open = 0, is_under_way = 1;
    while (open < MANY && is_under_way) {
        fds[open] = socket(addresses[0].address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        is_under_way = connect_to(fds[open], &addresses[0]) == -1 && errno == EINPROGRESS;
        count += is_under_way;
        open += fds[open] >= 0;
    }
    for (int i = 0; i < open; i++)
        close(fds[i]);
    return count;
}

static int error_of(int fd)
{
    int error = -1;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    return error;
}

/* A word to the server and back, if there is one. */
static void settle(int fd, enum purpose purpose, int error)
{
    if (purpose == TO_OPEN && error == 0) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char back[6] = "";
        if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5)
            complain("send", errno);
        else if (is_blocking ? recv(fd, back, 5, MSG_WAITALL) != 5
                             : poll(&wait, 1, LATE_SECONDS * 1000) != 1 || recv(fd, back, 5, 0) != 5)
            complain("recv", errno);
        atomic_fetch_add(&opened, 1);
    } else if (purpose == TO_CLOSED && error == ECONNREFUSED) {
        atomic_fetch_add(&refused, 1);
    } else {
        complain(purpose == TO_OPEN ? "open" : "closed", error);
    }
    close(fd);
}

static enum purpose next_purpose(long number)
{
    return number % 8 == 3 ? TO_CLOSED : !is_blocking && number % 16 == 5 ? TO_NOBODY : TO_OPEN;
}

/* Begins one in this place, unless there are enough. */
static int begin(struct attempt *one)
{
    long number = atomic_fetch_add(&begun, 1);
    if (number >= connects)
        return 0;
    enum purpose purpose = next_purpose(number);
    struct target to = target_of(number, purpose);
    int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    one->purpose = purpose;
    one->began = now();
    atomic_store(&one->is_ended, 0);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.ptr = one};
    if (number % 2) /* half of them are in another set before */
        epoll_ctl(other_set, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN | EPOLLET, .data.ptr = one});
    atomic_store(&one->fd, fd);
    if (purpose == TO_NOBODY)
        pthread_rwlock_rdlock(&forking);
    if (connect_to(fd, &to) == 0 || errno != EINPROGRESS)
        complain("connect", errno);
    if (purpose == TO_NOBODY) {
        atomic_store(&one->fd, -1);
        close(fd);
        pthread_rwlock_unlock(&forking);
        atomic_fetch_add(&abandoned, 1);
        return 1;
    }
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0)
        complain("epoll_ctl", errno);
    return 1;
}

static void *in_the_set(void *arg)
{
    struct attempt *own = arg;
    double last = now();
    for (;;) {
        int free = 0, left = 0;
        for (int i = 0; i < IN_FLIGHT; i++) {
            while (atomic_load(&own[i].fd) < 0 && begin(&own[i]))
                ;
            free += atomic_load(&own[i].fd) < 0;
        }
        for (int i = 0; i < threads * IN_FLIGHT; i++)
            left += atomic_load(&attempts[i].fd) >= 0;
        if (left == 0 && free == IN_FLIGHT && atomic_load(&begun) >= connects)
            return NULL;
        struct epoll_event events[8];
        int count = epoll_wait(set, events, 8, 50);
        if (count < 0)
            complain("epoll_wait", errno);
        for (int i = 0; i < count; i++) {
            struct attempt *one = events[i].data.ptr;
            if (one < attempts || one >= attempts + threads * IN_FLIGHT) {
                complain("another's data", 0);
                continue;
            }
            int fd = atomic_load(&one->fd);
            if (fd < 0 || atomic_exchange(&one->is_ended, 1)) {
                complain("a second event", 0);
                continue;
            }
            enum purpose purpose = one->purpose;
            int error = error_of(fd);
            settle(fd, purpose, error);
            last = now();
            atomic_store(&one->fd, -1);
        }
        if (now() - last > LATE_SECONDS) {
            complain("one is lost", 0);
            return NULL;
        }
    }
}

static void *one_by_one(void *arg)
{
    (void)arg;
    long number;
    while ((number = atomic_fetch_add(&begun, 1)) < connects) {
        enum purpose purpose = next_purpose(number);
        struct target to = target_of(number, purpose);
        int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        settle(fd, purpose, connect_to(fd, &to) == 0 ? 0 : errno);
    }
    return NULL;
}

static int descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (fscanf(file, "%ld %ld", &pages, &resident) != 2)
        exit(1);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void *answer(void *arg)
{
    char octets[64];
    ssize_t got;
    int fd = (int)(intptr_t)arg;
    while ((got = read(fd, octets, sizeof octets)) > 0 && write(fd, octets, (size_t)got) == got)
        ;
    close(fd);
    return NULL;
}

/* storm serve ADDRESS PORT: the echo server for those who have none. */
_Noreturn static void serve(const char *address, const char *port)
{
    struct target at = resolve(address, port);
    int on = 1, listener = new_socket(&at);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at.address, at.len) != 0 || listen(listener, 1024) != 0)
        exit(1);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        pthread_t one;
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && pthread_create(&one, NULL, answer, (void *)(intptr_t)fd) == 0)
            pthread_detach(one);
    }
}

/* In a child: connects to a name of its own, and lets another program see whether it has that peer. */
_Noreturn static void connect_and_exec(const char *program, long name)
{
    addresses[name] = look_up(name);
    int fd = new_socket(&addresses[name]);
    if (connect_to(fd, &addresses[name]) != 0)
        _exit(errno);
    char number[16], name_text[24];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(name_text, sizeof name_text, "%ld", name);
    execl(program, program, "inherited", number, name_text, domain, open_port, (char *)NULL);
    _exit(127);
}

/* storm inherited DESCRIPTOR NAME DOMAIN PORT */
_Noreturn static void inherited(char **argv)
{
    int fd = atoi(argv[0]);
    domain = argv[2];
    open_port = argv[3];
    struct target to = look_up(atol(argv[1]));
    _exit(strcmp(has_peer(fd, &to), "as connected") != 0 || strcmp(echo(fd), "echoed") != 0);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        serve(argv[2], argv[3]);
    if (argc == 6 && strcmp(argv[1], "inherited") == 0)
        inherited(argv + 2);
    if (argc < 7)
        return 2;
    connects = atol(argv[1]);
    threads = atoi(argv[2]);
    int forks = atoi(argv[3]);
    is_blocking = argc > 7;
    domain = argv[4];
    open_port = argv[5];
    closed_port = argv[6];
    later = connects < MOST_LATER ? connects : MOST_LATER;
    long names = AT_START + later + forks;
    addresses = mmap(NULL, (size_t)names * sizeof *addresses, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (long name = 0; name < AT_START; name++)
        addresses[name] = look_up(name);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int at_once_before = at_once();
    set = epoll_create1(EPOLL_CLOEXEC);
    other_set = epoll_create1(EPOLL_CLOEXEC);
    attempts = calloc((size_t)(threads * IN_FLIGHT), sizeof *attempts);
    for (int i = 0; i < threads * IN_FLIGHT; i++)
        atomic_init(&attempts[i].fd, -1);
    int fds_before = descriptors();
    long kib_before = resident_kib(), kib_half = 0;
    pthread_t running[64];
    double began = now();
    for (int i = 0; i < threads && i < 64; i++)
        pthread_create(&running[i], NULL, is_blocking ? one_by_one : in_the_set, attempts + i * IN_FLIGHT);
    int good_children = 0;
    for (int i = 0; i < forks; i++) {
        while (atomic_load(&begun) < connects / (forks + 1) * (i + 1) && atomic_load(&wrong) == 0)
            usleep(1000);
        if (i == forks / 2)
            kib_half = resident_kib();
        fflush(NULL);
        pthread_rwlock_wrlock(&forking);
        pid_t child = fork();
        if (child == 0)
            connect_and_exec(argv[0], AT_START + later + i);
        usleep(2000); /* the library tells what is older than the child by the millisecond */
        pthread_rwlock_unlock(&forking);
        int status = -1;
        waitpid(child, &status, 0);
        good_children += status == 0;
    }
    for (int i = 0; i < threads && i < 64; i++)
        pthread_join(running[i], NULL);
    double seconds = now() - began;
    fprintf(stderr, "%.0f connects a second; resident KiB: %ld before, %ld at half, %ld after\n", (double)connects / seconds,
            kib_before, kib_half, resident_kib());
    int at_once_after = at_once();
    fprintf(stderr, "%d connects under way at once before, %d after\n", at_once_before, at_once_after);
    printf("opened %ld refused %ld abandoned %ld wrong %ld children %d names %ld moved %d at once %+d descriptors %+d\n", opened, refused,
           abandoned, wrong, good_children, names, moved(names), at_once_after - at_once_before, descriptors() - fds_before);
    return 0;
}
