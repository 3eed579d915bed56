/* Threads, cancellation, signal handlers, small stacks. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

struct attempt {
    struct target to;
    int fd, result, error;
};

static void *attempt(void *arg)
{
    struct attempt *one = arg;
    errno = 0;
    one->result = dial(one->fd, &one->to);
    one->error = errno;
    return NULL;
}

static void many(const void *arg)
{
    WAY;
    enum { THREADS = 16 };
    struct attempt attempts[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        attempts[i] = (struct attempt){.to = target(way, DUAL, i % 4 == 3 ? CLOSED : i % 2 ? BANNER : ECHO), .fd = stream(way)};
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, attempt, &attempts[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        say("%s; ", errno_name(attempts[i].error));
        say_peer(attempts[i].fd);
    }
}

static void small_stack(const void *arg)
{
    WAY;
    struct attempt one = {.to = target(way, DUAL, ECHO), .fd = stream(way)};
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    say_result("size", pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN));
    say_result("create", pthread_create(&thread, &attributes, attempt, &one));
    pthread_join(thread, NULL);
    say("%s; ", errno_name(one.error));
    say_peer(one.fd);
}

static void *resolve(void *arg)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int *failures = arg;
    for (int i = 0; i < 20; i++) {
        if (getaddrinfo(i % 2 ? DUAL : "v4.test", "80", &hints, &list) != 0)
            ++*failures;
        else
            freeaddrinfo(list);
    }
    return NULL;
}

static void resolving(const void *arg)
{
    (void)arg;
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    int failures[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, resolve, &failures[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        say("%d ", failures[i]);
    }
    say("failures; ");
}

static void on_cancel(void *arg)
{
    *(bool *)arg = true;
}

static bool cleaned;

static void *attempt_with_cleanup(void *arg)
{
    pthread_cleanup_push(on_cancel, &cleaned);
    attempt(arg);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(const void *arg)
{
    WAY;
    struct attempt one = {.to = target(way, HOLE, ECHO), .fd = stream(way)};
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, attempt_with_cleanup, &one);
    sleep_ms(100);
    say_result("cancel", pthread_cancel(thread));
    pthread_join(thread, &result);
    say("%s %s; ", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled", cleaned ? "cleaned up" : "not cleaned up");
    say_peer(one.fd);
    int other = connected(way, DUAL, ECHO); /* the library is as usable as before */
    say_echo(other, "afterwards");
}

static void *cancel_itself(void *arg)
{
    pthread_cleanup_push(on_cancel, &cleaned);
    pthread_cancel(pthread_self());
    attempt(arg);
    pthread_cleanup_pop(0);
    return NULL;
}

/* A request that was there before the call acts upon it too. */
static void cancelled_before(const void *arg)
{
    WAY;
    struct attempt one = {.to = target(way, DUAL, ECHO), .fd = stream(way)};
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, cancel_itself, &one);
    pthread_join(thread, &result);
    say("%s %s; ", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled", cleaned ? "cleaned up" : "not cleaned up");
    say_peer(one.fd);
}

static struct attempt in_handler;

static void handler(int signal)
{
    (void)signal;
    attempt(&in_handler);
}

static void by_handler(const void *arg)
{
    WAY;
    static char room[16384];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    in_handler = (struct attempt){.to = target(way, DUAL, ECHO), .fd = stream(way)};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    say("%s; ", errno_name(in_handler.error));
    say_peer(in_handler.fd);
}

/* Another connection from a handler that interrupts one. */
static void inside_another(const void *arg)
{
    WAY;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval time = {.it_value = {.tv_sec = 0, .tv_usec = 100000}};
    struct target to = target(way, SLOW, ECHO);
    in_handler = (struct attempt){.to = target(way, DUAL, BANNER), .fd = stream(way)};
    int fd = stream(way);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &time, NULL);
    say_dial("connect", fd, &to);
    say("%s; ", errno_name(in_handler.error));
    say_peer(fd);
    say_peer(in_handler.fd);
    say_received(in_handler.fd);
}

static sigjmp_buf back;

static void jump(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

static void jumped(const void *arg)
{
    WAY;
    struct sigaction action = {.sa_handler = jump};
    struct itimerval time = {.it_value = {.tv_sec = 0, .tv_usec = 100000}};
    struct target to = target(way, HOLE, ECHO);
    volatile int fd = stream(way);
    sigaction(SIGALRM, &action, NULL);
    if (sigsetjmp(back, 1) == 0) {
        setitimer(ITIMER_REAL, &time, NULL);
        say_dial("connect", fd, &to);
    }
    say("jumped; ");
    say_peer(fd);
    say_result("close", close(fd));
    int other = connected(way, DUAL, ECHO);
    say_peer(other);
    say_echo(other, "afterwards");
}

/* Looks again and again whether anything has come by a pipe. */
static void *busy(void *pipe_end)
{
    struct pollfd one = {.fd = *(int *)pipe_end, .events = POLLIN};
    while (poll(&one, 1, 0) == 0)
        ;
    return NULL;
}

/* Each thread waits for its own, and none takes another's wake-up. */
static void beside_another(const void *arg)
{
    WAY;
    struct target to = target(way, DUAL, ECHO);
    int ends[2], in_time = 0;
    pthread_t thread;
    if (pipe(ends) != 0)
        return;
    pthread_create(&thread, NULL, busy, &ends[0]);
    for (int i = 0; i < 200; i++) {
        int fd = socket(socket_family(way), SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct pollfd one = {.fd = fd, .events = POLLOUT};
        dial(fd, &to);
        in_time += poll(&one, 1, 5000) == 1;
        close(fd);
    }
    say_result("write", write(ends[1], "x", 1));
    pthread_join(thread, NULL);
    say("%d in time; ", in_time);
}

void rows_threads(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"many", many}, {"small-stack", small_stack}, {"cancelled", cancelled}, {"cancelled-before", cancelled_before},
        {"handler", by_handler}, {"handler-inside", inside_another}, {"siglongjmp", jumped},
        {"beside-another", beside_another},
    };
    for (size_t i = 0; i < COUNT(of_every_way); i++)
        for (enum way way = V4; way <= MAPPED; way++)
            row(of_every_way[i].run, &way, sizeof way, "threads/%s/%s", of_every_way[i].name, ways[way]);
    ROW(resolving, "threads/resolving");
}
