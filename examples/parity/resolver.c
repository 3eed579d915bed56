/* The stub resolver's own functions, and the asynchronous getaddrinfo. */
#define _GNU_SOURCE
#include "parity.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <resolv.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say_answer(int len, const unsigned char *answer, const struct __res_state *state)
{
    if (len < 0)
        say("-1 %s, %s in the state; ", h_errno_name(h_errno), state ? h_errno_name(state->res_h_errno) : "none");
    else if (len < NS_HFIXEDSZ)
        say("%d octets; ", len);
    else
        say("%d octets, rcode %d, %d answers; ", len, answer[3] & 15, answer[6] << 8 | answer[7]);
}

struct question {
    const char *function, *name;
    int type, room;
};

static void ask(const void *arg)
{
    const struct question *q = arg;
    unsigned char answer[4096] = {0}, query[512];
    int room = q->room;
    struct __res_state state;
    memset(&state, 0, sizeof state);
    int len = -1;
    h_errno = 0;
    bool has_state = q->function[4] == 'n';
    if (has_state && res_ninit(&state) != 0) {
        say("res_ninit fails; ");
        return;
    }
    if (strcmp(q->function, "res_query") == 0)
        len = res_query(q->name, ns_c_in, q->type, answer, room);
    else if (strcmp(q->function, "res_search") == 0)
        len = res_search(q->name, ns_c_in, q->type, answer, room);
    else if (strcmp(q->function, "res_querydomain") == 0)
        len = res_querydomain("dual", "test", ns_c_in, q->type, answer, room);
    else if (strcmp(q->function, "res_nquery") == 0)
        len = res_nquery(&state, q->name, ns_c_in, q->type, answer, room);
    else if (strcmp(q->function, "res_nsearch") == 0)
        len = res_nsearch(&state, q->name, ns_c_in, q->type, answer, room);
    else if (strcmp(q->function, "res_nquerydomain") == 0)
        len = res_nquerydomain(&state, "dual", "test", ns_c_in, q->type, answer, room);
    else {
        int octets = res_mkquery(ns_o_query, q->name, ns_c_in, q->type, NULL, 0, NULL, query, sizeof query);
        say("query of %d; ", octets);
        if (octets < 0)
            return;
        len = has_state ? res_nsend(&state, query, octets, answer, room)
                        : res_send(query, octets, answer, room);
    }
    say_answer(len, answer, has_state ? &state : NULL);
    if (has_state)
        res_nclose(&state);
}

static void ask_later(const void *arg)
{
    bool waits = arg != NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    static const char *const names[] = {DUAL, "127.0.0.1", "unknown.test", "localhost"};
    struct gaicb requests[COUNT(names)], *list[COUNT(names)];
    for (size_t i = 0; i < COUNT(names); i++) {
        requests[i] = (struct gaicb){.ar_name = names[i], .ar_service = "80", .ar_request = &hints};
        list[i] = &requests[i];
    }
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    int error = getaddrinfo_a(waits ? GAI_WAIT : GAI_NOWAIT, list, COUNT(names), &none);
    say("%s; ", gai_name(error));
    if (error)
        return;
    for (size_t i = 0; i < COUNT(names); i++) {
        const struct gaicb *one = &requests[i];
        struct timespec time = {.tv_sec = 5};
        while (gai_error(&requests[i]) == EAI_INPROGRESS && gai_suspend(&one, 1, &time) == 0)
            ;
        say("%s %s", names[i], gai_name(gai_error(&requests[i])));
        for (struct addrinfo *entry = gai_error(&requests[i]) ? NULL : requests[i].ar_result; entry; entry = entry->ai_next) {
            say(" ");
            say_address(entry->ai_addr, entry->ai_addrlen);
        }
        say("; ");
    }
}

static sem_t notified;
static struct {
    int signal, code, value;
    bool is_ours;
} notice;

static void by_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    notice.signal = number;
    notice.code = info->si_code;
    notice.value = info->si_value.sival_int;
    notice.is_ours = info->si_pid == getpid() && info->si_uid == getuid();
    sem_post(&notified);
}

static void by_thread(union sigval value)
{
    notice.value = value.sival_int;
    sem_post(&notified);
}

struct notification {
    int mode, how;
};

static void be_told(const void *arg)
{
    const struct notification *wanted = arg;
    struct sigaction action = {.sa_sigaction = by_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&notified, 0, 0);
    struct gaicb request = {.ar_name = "127.0.0.1", .ar_service = "80"}, *list = &request;
    struct sigevent event = {.sigev_notify = wanted->how, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
    if (wanted->how == SIGEV_THREAD)
        event.sigev_notify_function = by_thread;
    say("%s; ", gai_name(getaddrinfo_a(wanted->mode, &list, 1, &event)));
    /* Well below a second, after which libc's own idle threads end, and open libgcc for that. */
    int told = -1;
    for (int tries = wanted->mode == GAI_NOWAIT ? 50 : 5; tries > 0 && told != 0; tries--) {
        told = sem_trywait(&notified);
        if (told != 0)
            usleep(50000);
    }
    say("%s; signal %d, code %d, value %d, %s; %s; ", told == 0 ? "told" : "not told", notice.signal, notice.code,
        notice.value, notice.is_ours ? "of this process" : "-", gai_name(gai_error(&request)));
}

void rows_resolver(void)
{
    static const char *const functions[] = {"res_query", "res_search", "res_querydomain", "res_send",
        "res_nquery", "res_nsearch", "res_nquerydomain", "res_nsend"};
    static const struct {
        const char *id, *name;
        int type;
    } questions[] = {
        {"a", DUAL, ns_t_a}, {"aaaa", DUAL, ns_t_aaaa}, {"txt", "nodata.test", ns_t_txt},
        {"unknown", "unknown.test", ns_t_a}, {"mx", DUAL, ns_t_mx}, {"https", DUAL, 65},
        {"no-name", "a..b", ns_t_a}, {"literal", "192.0.2.1", ns_t_a}, {"ptr", "10.100.51.198.in-addr.arpa", ns_t_ptr},
    };
    static const int rooms[] = {0, 11, 12, 20};
    for (size_t f = 0; f < COUNT(functions); f++)
        for (size_t i = 0; i < COUNT(questions); i++) {
            struct question q = {functions[f], questions[i].name, questions[i].type, 4096};
            row(ask, &q, sizeof q, "%s/%s", functions[f], questions[i].id);
        }
    for (size_t i = 0; i < COUNT(rooms); i++) {
        struct question q = {i % 2 ? "res_query" : "res_nsend", DUAL, ns_t_a, rooms[i]};
        row(ask, &q, sizeof q, "%s/room-%d", q.function, rooms[i]);
    }
    ROW(ask_later, "getaddrinfo_a/nowait");
    row(ask_later, "", 1, "getaddrinfo_a/wait");
    static const struct {
        const char *id;
        struct notification wanted;
    } notifications[] = {
        {"signal", {GAI_NOWAIT, SIGEV_SIGNAL}},
        {"thread", {GAI_NOWAIT, SIGEV_THREAD}},
        {"wait-and-signal", {GAI_WAIT, SIGEV_SIGNAL}},
    };
    for (size_t i = 0; i < COUNT(notifications); i++)
        row(be_told, &notifications[i].wanted, sizeof notifications[i].wanted, "notification/%s", notifications[i].id);
}
