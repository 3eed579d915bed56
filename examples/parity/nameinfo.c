/* getnameinfo: addresses × flags × buffers × lengths. */
#define _GNU_SOURCE
#include "parity.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define UNUSED UINT32_MAX /* a NULL buffer */

struct question {
    const char *name;
    enum way way;
    bool literal;
    int port, flags, len_change, family; /* family: put in place of the true one unless 0 */
    uint32_t host_room, service_room;
    unsigned scope;
};

static void ask(const void *arg)
{
    const struct question *q = arg;
    struct target at = q->literal ? numeric(q->name, q->port) : target(q->way, q->name, q->port);
    if (q->scope)
        ((struct sockaddr_in6 *)&at.address)->sin6_scope_id = q->scope;
    if (q->family)
        at.address.ss_family = (sa_family_t)q->family;
    char host[NI_MAXHOST + 1], service[NI_MAXSERV + 1];
    memset(host, '#', sizeof host);
    memset(service, '#', sizeof service);
    bool no_host = q->host_room == UNUSED, no_service = q->service_room == UNUSED;
    int error = getnameinfo(sa(&at), at.len + (socklen_t)q->len_change, no_host ? NULL : host,
        no_host ? 0 : q->host_room, no_service ? NULL : service, no_service ? 0 : q->service_room, q->flags);
    say("%s; ", gai_name(error));
    if (error == 0 && !no_host && q->host_room) {
        say("host ");
        /* A numeric fake is no difference: what matters is that it is this name's. */
        struct target again = {.len = 0};
        struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *list;
        if (!q->literal && getaddrinfo(host, NULL, &hints, &list) == 0) {
            memcpy(&again.address, list->ai_addr, list->ai_addrlen);
            say_address(sa(&again), list->ai_addrlen);
            freeaddrinfo(list);
        } else {
            say_text(host);
        }
        say("; ");
    }
    if (error == 0 && !no_service && q->service_room) {
        say("service ");
        say_text(service);
        say("; ");
    }
    if (host[NI_MAXHOST] != '#' || service[NI_MAXSERV] != '#')
        say("wrote behind a buffer; ");
}

static void ask_unix(const void *arg)
{
    (void)arg;
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/tmp/parity"};
    char host[NI_MAXHOST], service[NI_MAXSERV];
    int error = getnameinfo((struct sockaddr *)&un, sizeof un, host, sizeof host, service, sizeof service, 0);
    say("%s; ", gai_name(error));
    if (error == 0) {
        say_text(host);
        say(" ");
        say_text(service);
        say("; ");
    }
}

static const struct question plain = {.port = 80, .host_room = NI_MAXHOST, .service_room = NI_MAXSERV};

static void rows_by_flag(void)
{
    static const struct {
        const char *name;
        int flags;
    } flag_sets[] = {
        {"0", 0}, {"numerichost", NI_NUMERICHOST}, {"numericserv", NI_NUMERICSERV}, {"namereqd", NI_NAMEREQD},
        {"nofqdn", NI_NOFQDN}, {"dgram", NI_DGRAM}, {"numerichost-namereqd", NI_NUMERICHOST | NI_NAMEREQD},
        {"numeric", NI_NUMERICHOST | NI_NUMERICSERV}, {"idn", NI_IDN}, {"bad", 0x8000}, {"all-ones", -1},
    };
    static const struct {
        const char *id, *name;
        enum way way;
        bool literal;
        unsigned scope;
    } addresses[] = {
        {"v4", DUAL, V4, false, 0}, {"v6", DUAL, V6, false, 0}, {"mapped", DUAL, MAPPED, false, 0},
        {"loopback-v4", "127.0.0.1", V4, true, 0}, {"loopback-v6", "::1", V6, true, 0},
        {"loopback-mapped", "::ffff:127.0.0.1", V6, true, 0}, {"other-loopback", "127.9.9.9", V4, true, 0},
        {"any-v4", "0.0.0.0", V4, true, 0}, {"any-v6", "::", V6, true, 0}, {"literal-v4", LITERAL4, V4, true, 0},
        {"literal-v6", LITERAL6, V6, true, 0}, {"own-v4", "192.0.2.2", V4, true, 0},
        {"own-v6", "2001:db8:1::2", V6, true, 0}, {"etc-hosts-v4", "192.0.2.201", V4, true, 0},
        {"etc-hosts-v6", "2001:db8:1::201", V6, true, 0}, {"link-local", "fe80::1", V6, true, 1},
        {"link-local-bad-scope", "fe80::1", V6, true, 9999}, {"fake-with-scope", DUAL, V6, false, 1},
    };
    for (size_t a = 0; a < COUNT(addresses); a++) {
        for (size_t f = 0; f < COUNT(flag_sets); f++) {
            struct question q = plain;
            q.name = addresses[a].name;
            q.way = addresses[a].way;
            q.literal = addresses[a].literal;
            q.scope = addresses[a].scope;
            q.flags = flag_sets[f].flags;
            row(ask, &q, sizeof q, "getnameinfo/%s/%s", addresses[a].id, flag_sets[f].name);
        }
    }
}

void rows_nameinfo(void)
{
    rows_by_flag();
    static const struct {
        const char *id;
        uint32_t host, service;
        int len_change, family, port, flags;
    } odd[] = {
        {"host-only", NI_MAXHOST, UNUSED, 0, 0, 80, 0}, {"service-only", UNUSED, NI_MAXSERV, 0, 0, 80, 0},
        {"neither", UNUSED, UNUSED, 0, 0, 80, 0}, {"neither-namereqd", UNUSED, UNUSED, 0, 0, 80, NI_NAMEREQD},
        {"host-0", 0, NI_MAXSERV, 0, 0, 80, 0}, {"service-0", NI_MAXHOST, 0, 0, 0, 80, 0},
        {"host-1", 1, NI_MAXSERV, 0, 0, 80, 0}, {"host-9", 9, NI_MAXSERV, 0, 0, 80, 0},
        {"host-10", 10, NI_MAXSERV, 0, 0, 80, 0}, {"host-9-namereqd", 9, NI_MAXSERV, 0, 0, 80, NI_NAMEREQD},
        {"service-1", NI_MAXHOST, 1, 0, 0, 80, 0}, {"service-4", NI_MAXHOST, 4, 0, 0, 80, 0},
        {"service-5", NI_MAXHOST, 5, 0, 0, 80, 0}, {"port-0", NI_MAXHOST, NI_MAXSERV, 0, 0, 0, 0},
        {"port-unknown", NI_MAXHOST, NI_MAXSERV, 0, 0, 64999, 0},
        {"port-udp", NI_MAXHOST, NI_MAXSERV, 0, 0, 69, NI_DGRAM}, {"port-udp-as-tcp", NI_MAXHOST, NI_MAXSERV, 0, 0, 69, 0},
        {"length-0", NI_MAXHOST, NI_MAXSERV, -1000, 0, 80, 0}, {"length-short", NI_MAXHOST, NI_MAXSERV, -1, 0, 80, 0},
        {"length-of-family", NI_MAXHOST, NI_MAXSERV, -14, 0, 80, 0}, {"length-long", NI_MAXHOST, NI_MAXSERV, 4, 0, 80, 0},
        {"family-99", NI_MAXHOST, NI_MAXSERV, 0, 99, 80, 0}, {"family-of-v4", NI_MAXHOST, NI_MAXSERV, 0, AF_INET, 80, 0},
        {"family-of-v6", NI_MAXHOST, NI_MAXSERV, 0, AF_INET6, 80, 0},
    };
    for (enum way way = V4; way <= V6; way++) {
        for (size_t i = 0; i < COUNT(odd); i++) {
            struct question q = plain;
            q.name = DUAL;
            q.way = way;
            q.host_room = odd[i].host;
            q.service_room = odd[i].service;
            q.len_change = odd[i].len_change == -1000 ? (way == V4 ? -16 : -28) : odd[i].len_change;
            q.family = odd[i].family;
            q.port = odd[i].port;
            q.flags = odd[i].flags;
            row(ask, &q, sizeof q, "getnameinfo/%s-%s", ways[way], odd[i].id);
        }
    }
    ROW(ask_unix, "getnameinfo/unix");
}
