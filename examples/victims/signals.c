/* signals CASE HOST PORT: what a signal, a timeout or a cancellation does to a connect() that waits. */
#include "victim.h"

#include <pthread.h>
#include <signal.h>

static void on_alarm(int signal) { (void)signal; }

static void alarm_after(double seconds, int flags)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    timer_t timer;
    timer_create(CLOCK_MONOTONIC, NULL, &timer);
    long whole = (long)seconds;
    struct itimerspec when = {.it_value = {whole, (long)((seconds - (double)whole) * 1e9)}};
    timer_settime(timer, 0, &when, NULL);
}

static void timed_connect(int fd, const struct target *to)
{
    double start = now();
    int connected = connect_to(fd, to);
    const char *what = result(connected);
    printf("connect: %s after %.1f s\n", what, halves(now() - start));
}

/* signal(7): connect(2) fails with EINTR if the handler was installed without SA_RESTART; connect(2): the connection goes on. */
static void interrupted(const struct target *to)
{
    int fd = new_socket(to);
    alarm_after(0.5, 0);
    timed_connect(fd, to);
    printf("getpeername: %s\n", has_peer(fd, to));
    timed_connect(fd, to);
    printf("getpeername: %s\n", has_peer(fd, to));
    timed_connect(fd, to);
    printf("%s\n", echo(fd));
}

static void restarted(const struct target *to)
{
    int fd = new_socket(to);
    alarm_after(0.5, SA_RESTART);
    timed_connect(fd, to);
    printf("%s\n", echo(fd));
}

/* socket(7): SO_SNDTIMEO gives up a connect() with EINPROGRESS. */
static void timed_out(const struct target *to)
{
    int fd = new_socket(to);
    struct timeval limit = {.tv_usec = 500000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    timed_connect(fd, to);
    printf("getpeername: %s\n", has_peer(fd, to));
    limit.tv_sec = 5;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    timed_connect(fd, to);
    printf("%s\n", echo(fd));
}

static int cleaned_up;

static void clean_up(void *unused)
{
    (void)unused;
    cleaned_up = 1;
}

static void *connect_for_ever(void *to)
{
    pthread_cleanup_push(clean_up, NULL);
    int fd = new_socket(to);
    connect_to(fd, to);
    pthread_cleanup_pop(0);
    return NULL;
}

/* pthreads(7): connect() is a cancellation point. Nothing may be left locked or half done by the thread that went. */
static void cancelled(const struct target *to, const char *host, const char *port)
{
    pthread_t thread;
    void *ended;
    double start = now();
    pthread_create(&thread, NULL, connect_for_ever, (void *)to);
    usleep(500000);
    pthread_cancel(thread);
    pthread_join(thread, &ended);
    printf("thread: %s after %.1f s\n", ended == PTHREAD_CANCELED ? "cancelled" : "returned", halves(now() - start));
    printf("cleanup handler: %d\n", cleaned_up);
    struct target again = resolve(host, port);
    int fd = new_socket(&again);
    timed_connect(fd, &again);
    printf("%s\n", echo(fd));
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    struct target to = resolve(argv[2], argv[3]);
    if (strcmp(argv[1], "interrupted") == 0)
        interrupted(&to);
    else if (strcmp(argv[1], "restarted") == 0)
        restarted(&to);
    else if (strcmp(argv[1], "timed-out") == 0)
        timed_out(&to);
    else if (strcmp(argv[1], "cancelled") == 0 && argc == 6)
        cancelled(&to, argv[4], argv[5]);
    else
        return 2;
    return 0;
}
