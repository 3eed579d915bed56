/* getaddrinfo: hosts × families × flags, and the arguments that are wrong. */
#define _GNU_SOURCE
#include "parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

const struct host hosts[] = {
    {"v4", "v4.test"},
    {"v6", "v6.test"},
    {"dual", DUAL},
    {"unknown", "unknown.test"},
    {"no-address", "nodata.test"}, /* has a TXT record only */
    {"cname", "cname.test"},
    {"two-addresses", "multi.test"},
    {"one-label", "short"},      /* short.test by the search list */
    {"unknown-label", "nowhere"},
    {"upper-case", "DUAL.Test"},
    {"trailing-dot", "dual.test."},
    {"etc-hosts-v4", "hosts4.test"},
    {"etc-hosts-v6", "hosts6.test"},
    {"etc-hosts-both", "hostsboth.test"},
    {"etc-hosts-alias", "hostsalias"},
    {"etc-hosts-upper-case", "HOSTS4.test"},
    {"own-name", "parity-host"},
    {"localhost", "localhost"},
    {"localhost-dot", "localhost."},
    {"under-localhost", "sub.localhost"},
    {"ip6-localhost", "ip6-localhost"},
    {"empty", ""},
    {"dot", "."},
    {"loopback-v4", "127.0.0.1"},
    {"loopback-v6", "::1"},
    {"short-v4", "127.1"},
    {"hex-v4", "0x7f.1"},
    {"number", "1"},
    {"literal-v4", LITERAL4},
    {"literal-v6", LITERAL6},
    {"literal-mapped", "::ffff:198.51.100.77"},
    {"scoped", "fe80::1%lo"},
    {"bad-scope", "fe80::1%nothere"},
    {"five-octets", "1.2.3.4.5"},
    {"octet-256", "256.1.1.1"},
    {"bracketed", "[::1]"},
    {"label-63", LABEL63 ".test"},
    {"label-64", LABEL63 "a.test"},
    {"name-255", LABEL63 "." LABEL63 "." LABEL63 "." LABEL63},
    {"name-319", LABEL63 "." LABEL63 "." LABEL63 "." LABEL63 "." LABEL63},
    {"empty-label", "a..test"},
    {"leading-dot", ".dual.test"},
    {"leading-hyphen", "-dual.test"},
    {"underscore", "_dual.test"},
    {"space", "dual test"},
    {"newline", "dual.test\n"},
    {"utf-8", "d\xc3\xbc" "al.test"},
    {"odd-octets", "\xff\x80.test"},
    {"escape", "dual\\.test"},
    {NULL, NULL},
};

struct question {
    const char *host, *service;
    struct addrinfo hints;
    bool no_hints;
};

static const char *type_name(int type)
{
    switch (type) {
    case 0: return "any";
    case SOCK_STREAM: return "stream";
    case SOCK_DGRAM: return "dgram";
    case SOCK_RAW: return "raw";
    default: return "other";
    }
}

static void say_entry(const struct addrinfo *entry)
{
    say("%s ", type_name(entry->ai_socktype));
    say("%d flags %x ", entry->ai_protocol, entry->ai_flags);
    say_address(entry->ai_addr, entry->ai_addrlen);
    if (entry->ai_family != entry->ai_addr->sa_family)
        say(" but family %s", family_name(entry->ai_family));
    if (entry->ai_canonname) {
        say(" canonical ");
        say_text(entry->ai_canonname);
    }
    say("; ");
}

static void ask(const void *arg)
{
    const struct question *q = arg;
    struct addrinfo *list = NULL;
    int error = getaddrinfo(q->host, q->service, q->no_hints ? NULL : &q->hints, &list);
    say("%s; ", gai_name(error));
    if (error == 0) {
        for (const struct addrinfo *entry = list; entry; entry = entry->ai_next)
            say_entry(entry);
        freeaddrinfo(list);
    } else if (list) {
        say("a list in spite of it; ");
    }
}

static const struct {
    const char *name;
    int flags;
} flag_sets[] = {
    {"0", 0},
    {"numerichost", AI_NUMERICHOST},
    {"numericserv", AI_NUMERICSERV},
    {"passive", AI_PASSIVE},
    {"canonname", AI_CANONNAME},
    {"addrconfig", AI_ADDRCONFIG},
    {"v4mapped", AI_V4MAPPED},
    {"all", AI_ALL},
    {"v4mapped-all", AI_V4MAPPED | AI_ALL},
    {"v4mapped-addrconfig", AI_V4MAPPED | AI_ADDRCONFIG},
    {"canonname-addrconfig", AI_CANONNAME | AI_ADDRCONFIG},
    {"canonname-numerichost", AI_CANONNAME | AI_NUMERICHOST},
    {"passive-numerichost", AI_PASSIVE | AI_NUMERICHOST},
    {"idn-canonidn", AI_IDN | AI_CANONIDN | AI_CANONNAME},
};

static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6};

static void rows_by_host(void)
{
    for (const struct host *host = hosts; host->id; host++) {
        struct question none = {.host = host->text, .service = "80", .no_hints = true};
        row(ask, &none, sizeof none, "getaddrinfo/%s/no-hints", host->id);
        for (size_t family = 0; family < COUNT(families); family++) {
            for (size_t set = 0; set < COUNT(flag_sets); set++) {
                struct question q = {.host = host->text, .service = "80"};
                q.hints.ai_family = families[family];
                q.hints.ai_flags = flag_sets[set].flags;
                q.hints.ai_socktype = SOCK_STREAM;
                row(ask, &q, sizeof q, "getaddrinfo%s/%s/%s/%s", q.hints.ai_flags & AI_NUMERICHOST ? "-numerichost" : "",
                    host->id, family_name(families[family]), flag_sets[set].name);
            }
        }
    }
}

static void rows_of_bad_hints(void)
{
    static const struct {
        const char *name, *host, *service;
        struct addrinfo hints;
    } bad[] = {
        {"flags", DUAL, "80", {.ai_flags = 0x8000}},
        {"flags-all-ones", DUAL, "80", {.ai_flags = -1}},
        {"canonname-without-host", NULL, "80", {.ai_flags = AI_CANONNAME}},
        {"no-host-no-service", NULL, NULL, {.ai_flags = 0}},
        {"family-unix", DUAL, "80", {.ai_family = AF_UNIX}},
        {"family-99", DUAL, "80", {.ai_family = 99}},
        {"family-negative", DUAL, "80", {.ai_family = -1}},
        {"socktype-99", DUAL, "80", {.ai_socktype = 99}},
        {"socktype-rdm", DUAL, "80", {.ai_socktype = SOCK_RDM}},
        {"socktype-seqpacket", DUAL, "80", {.ai_socktype = SOCK_SEQPACKET}},
        {"stream-udp", DUAL, "80", {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_UDP}},
        {"dgram-tcp", DUAL, "80", {.ai_socktype = SOCK_DGRAM, .ai_protocol = IPPROTO_TCP}},
        {"protocol-99", DUAL, "80", {.ai_protocol = 99}},
        {"literal-of-other-family", LITERAL4, "80", {.ai_family = AF_INET6}},
        {"literal-v6-as-inet", LITERAL6, "80", {.ai_family = AF_INET}},
        {"literal-of-other-family-numerichost", LITERAL4, "80", {.ai_family = AF_INET6, .ai_flags = AI_NUMERICHOST}},
        {"literal-v6-as-inet-numerichost", LITERAL6, "80", {.ai_family = AF_INET, .ai_flags = AI_NUMERICHOST}},
        {"literal-v4-as-inet6-v4mapped", LITERAL4, "80", {.ai_family = AF_INET6, .ai_flags = AI_V4MAPPED}},
        {"literal-v4-as-inet6-v4mapped-all", LITERAL4, "80", {.ai_family = AF_INET6, .ai_flags = AI_V4MAPPED | AI_ALL}},
        {"unused-fields-set", DUAL, "80", {.ai_addrlen = 7, .ai_canonname = (char *)1, .ai_next = (struct addrinfo *)1}},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct question q = {.host = bad[i].host, .service = bad[i].service, .hints = bad[i].hints};
        row(ask, &q, sizeof q, "getaddrinfo/hints/%s", bad[i].name);
    }
}

static void rows_by_type(void)
{
    static const struct {
        int type, protocol;
    } pairs[] = {
        {0, 0}, {0, IPPROTO_TCP}, {0, IPPROTO_UDP}, {0, IPPROTO_ICMP}, {SOCK_STREAM, 0},
        {SOCK_STREAM, IPPROTO_TCP}, {SOCK_DGRAM, 0}, {SOCK_DGRAM, IPPROTO_UDP}, {SOCK_RAW, 0},
        {SOCK_RAW, IPPROTO_ICMP}, {SOCK_DCCP, 0},
    };
    static const char *const names[] = {DUAL, "v4.test", "v6.test", LITERAL4, "unknown.test", NULL};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        for (size_t n = 0; n < COUNT(names); n++) {
            struct question q = {.host = names[n], .service = "80"};
            q.hints.ai_socktype = pairs[i].type;
            q.hints.ai_protocol = pairs[i].protocol;
            row(ask, &q, sizeof q, "getaddrinfo/type/%s/%s-%d", names[n] ? names[n] : "null",
                type_name(pairs[i].type), pairs[i].protocol);
        }
    }
}

void rows_getaddrinfo(void)
{
    rows_by_host();
    rows_of_bad_hints();
    rows_by_type();
}

void rows_services(void)
{
    static const struct {
        const char *id, *text;
    } services[] = {
        {"null", NULL}, {"80", "80"}, {"http", "http"}, {"upper-case", "HTTP"}, {"alias", "www"},
        {"unknown", "nosuchservice"}, {"empty", ""}, {"domain", "domain"}, {"udp-only", "tftp"},
        {"tcp-only", "imaps"}, {"0", "0"}, {"65535", "65535"}, {"65536", "65536"}, {"-1", "-1"},
        {"plus", "+80"}, {"space", " 80"}, {"octal", "010"}, {"hex", "0x50"}, {"trailing", "80x"},
        {"long", "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"},
    };
    /* The first four go with every service, the others with the first few. */
    static const char *const names[] = {NULL, DUAL, LITERAL6, "unknown.test", "v4.test", "127.0.0.1", "hosts4.test", "localhost"};
    static const int types[] = {0, SOCK_STREAM, SOCK_DGRAM};
    static const int flags[] = {0, AI_NUMERICSERV};
    static const char *const flag_names[] = {"0", "numericserv"};
    for (size_t s = 0; s < COUNT(services); s++)
        for (size_t n = 0; n < (s < 6 ? COUNT(names) : 4); n++)
            for (size_t t = 0; t < COUNT(types); t++)
                for (size_t f = 0; f < COUNT(flags); f++) {
                    struct question q = {.host = names[n], .service = services[s].text};
                    q.hints.ai_socktype = types[t];
                    q.hints.ai_flags = flags[f];
                    row(ask, &q, sizeof q, "getaddrinfo/service/%s/%s/%s/%s", services[s].id,
                        names[n] ? names[n] : "null", type_name(types[t]), flag_names[f]);
                }
}
