/* gethostbyaddr and gethostbyaddr_r: addresses × types × lengths. */
#define _GNU_SOURCE
#include "parity.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct question {
    const char *name; /* looked up first, as an application would have it from somewhere */
    enum way way;
    bool literal;
    int family; /* as said to the function; 0: the true one */
    int len;    /* -1: the true one */
    size_t buffer;
};

/* The address as octets; false if the look-up gave none. */
static void octets_of(const struct question *q, unsigned char octets[16], int *family, socklen_t *len)
{
    struct target at = q->literal ? numeric(q->name, 0) : target(q->way, q->name, 0);
    *family = at.address.ss_family;
    *len = *family == AF_INET ? 4 : 16;
    if (*family == AF_INET)
        memcpy(octets, &((struct sockaddr_in *)&at.address)->sin_addr, 4);
    else
        memcpy(octets, &((struct sockaddr_in6 *)&at.address)->sin6_addr, 16);
    if (q->family)
        *family = q->family;
    if (q->len >= 0)
        *len = (socklen_t)q->len;
}

static void ask(const void *arg)
{
    unsigned char octets[16] = {0};
    int family;
    socklen_t len;
    octets_of(arg, octets, &family, &len);
    h_errno = 0;
    struct hostent *host = gethostbyaddr(octets, len, family);
    if (host)
        say_hostent(host);
    else
        say("NULL %s; ", h_errno_name(h_errno));
}

static void ask_r(const void *arg)
{
    const struct question *q = arg;
    unsigned char octets[16] = {0};
    int family, error = 0;
    socklen_t len;
    octets_of(q, octets, &family, &len);
    char *buffer = malloc(q->buffer + 1);
    struct hostent host, *found = (struct hostent *)1;
    int result = gethostbyaddr_r(octets, len, family, &host, buffer, q->buffer, &found, &error);
    say("%s ", errno_name(result));
    if (found == &host)
        say_hostent(&host);
    else
        say("%s %s; ", found ? "neither NULL nor ours" : "NULL", h_errno_name(error));
    free(buffer);
}

static void add(const char *id, struct question q)
{
    row(ask, &q, sizeof q, "gethostbyaddr/%s", id);
    q.buffer = 8192;
    row(ask_r, &q, sizeof q, "gethostbyaddr_r/%s", id);
}

void rows_hostaddr(void)
{
    static const struct {
        const char *id, *text;
    } literals[] = {
        {"loopback-v4", "127.0.0.1"}, {"loopback-v6", "::1"}, {"loopback-mapped", "::ffff:127.0.0.1"},
        {"other-loopback", "127.9.9.9"}, {"any-v4", "0.0.0.0"}, {"any-v6", "::"},
        {"literal-v4", LITERAL4}, {"literal-v6", LITERAL6}, {"own-v4", "192.0.2.2"},
        {"own-v6", "2001:db8:1::2"}, {"etc-hosts-v4", "192.0.2.201"}, {"etc-hosts-v6", "2001:db8:1::201"},
        {"link-local", "fe80::1"}, {"broadcast", "255.255.255.255"},
    };
    for (enum way way = V4; way <= MAPPED; way++) {
        char id[64];
        snprintf(id, sizeof id, "%s", ways[way]);
        add(id, (struct question){.name = DUAL, .way = way, .len = -1});
        static const struct {
            const char *id;
            int family, len;
        } wrong[] = {
            {"length-0", 0, 0}, {"length-3", 0, 3}, {"length-5", 0, 5}, {"length-15", 0, 15},
            {"length-16", 0, 16}, {"as-inet", AF_INET, -1}, {"as-inet6", AF_INET6, -1},
            {"as-unix", AF_UNIX, -1}, {"as-99", 99, -1},
        };
        for (size_t i = 0; i < COUNT(wrong); i++) {
            snprintf(id, sizeof id, "%s-%s", ways[way], wrong[i].id);
            add(id, (struct question){.name = DUAL, .way = way, .family = wrong[i].family, .len = wrong[i].len});
        }
        static const size_t sizes[] = {0, 16, 40, 1024};
        for (size_t i = 0; i < COUNT(sizes); i++) {
            struct question q = {.name = DUAL, .way = way, .len = -1, .buffer = sizes[i]};
            row(ask_r, &q, sizeof q, "gethostbyaddr_r/%s/%zu", ways[way], sizes[i]);
        }
    }
    add("only-v4", (struct question){.name = "v4.test", .way = V4, .len = -1});
    add("only-v6", (struct question){.name = "v6.test", .way = V6, .len = -1});
    for (size_t i = 0; i < COUNT(literals); i++)
        add(literals[i].id, (struct question){.name = literals[i].text, .literal = true, .len = -1});
}
