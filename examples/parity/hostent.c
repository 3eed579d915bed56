/* gethostbyname, gethostbyname2 and their _r forms: hosts × families × buffers. */
#define _GNU_SOURCE
#include "parity.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum function { BYNAME, BYNAME2, BYNAME_R, BYNAME2_R };
static const char *const functions[] = {"gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r"};

struct question {
    const char *host;
    enum function function;
    int family;
    size_t buffer, offset; /* octets, and how far from alignment it starts */
};

static void ask(const void *arg)
{
    const struct question *q = arg;
    h_errno = 0;
    struct hostent *host = q->function == BYNAME ? gethostbyname(q->host) : gethostbyname2(q->host, q->family);
    if (host)
        say_hostent(host);
    else
        say("NULL %s; ", h_errno_name(h_errno));
}

/* Every pointer that the caller is given must lie in the caller's own buffer. */
static bool is_within(const struct hostent *host, const char *buffer, size_t octets)
{
    uintptr_t begin = (uintptr_t)buffer, end = begin + octets;
#define INSIDE(pointer) ((uintptr_t)(pointer) >= begin && (uintptr_t)(pointer) < end)
    bool within = INSIDE(host->h_name) && INSIDE(host->h_aliases) && INSIDE(host->h_addr_list);
    for (char **alias = host->h_aliases; *alias; alias++)
        within = within && INSIDE(*alias);
    for (char **address = host->h_addr_list; *address; address++)
        within = within && INSIDE(*address) && INSIDE(*address + host->h_length - 1);
#undef INSIDE
    return within;
}

static void ask_r(const void *arg)
{
    const struct question *q = arg;
    char *buffer = malloc(q->buffer + q->offset + 1);
    struct hostent host, *found = (struct hostent *)1;
    int error = 0;
    char *start = buffer + q->offset;
    buffer[q->buffer + q->offset] = '#'; /* is never written to */
    int result = q->function == BYNAME_R
        ? gethostbyname_r(q->host, &host, start, q->buffer, &found, &error)
        : gethostbyname2_r(q->host, q->family, &host, start, q->buffer, &found, &error);
    /* On failure errno may be anything but must be the result, and h_errno says which. */
    say("%s ", errno_name(result));
    if (found == &host) {
        say_hostent(&host);
        if (!is_within(&host, start, q->buffer))
            say("not within the buffer; ");
    } else {
        say("%s %s; ", found ? "neither NULL nor ours" : "NULL", h_errno_name(error));
    }
    if (buffer[q->buffer + q->offset] != '#')
        say("wrote behind the buffer; ");
    free(buffer);
}

static void add(const struct host *host, enum function function, int family, size_t buffer, size_t offset)
{
    struct question q = {host->text, function, family, buffer, offset};
    bool sized = function >= BYNAME_R;
    char size[32] = "";
    if (sized && (buffer != 8192 || offset != 0))
        snprintf(size, sizeof size, "/%zu%s", buffer, offset ? "-unaligned" : "");
    if (function == BYNAME || function == BYNAME_R)
        row(sized ? ask_r : ask, &q, sizeof q, "%s/%s%s", functions[function], host->id, size);
    else
        row(sized ? ask_r : ask, &q, sizeof q, "%s/%s/%s%s", functions[function], host->id, family_name(family), size);
}

void rows_hostent(void)
{
    for (const struct host *host = hosts; host->id; host++) {
        for (enum function function = BYNAME; function <= BYNAME2_R; function++) {
            add(host, function, AF_INET, 8192, 0);
            if (function == BYNAME2 || function == BYNAME2_R)
                add(host, function, AF_INET6, 8192, 0);
        }
    }
    static const size_t sizes[] = {0, 1, 16, 40, 1024};
    static const char *const small[] = {"dual", "v6", "unknown", "loopback-v4", "localhost", "etc-hosts-alias", "literal-v4"};
    for (const struct host *host = hosts; host->id; host++) {
        for (size_t i = 0; i < COUNT(small); i++) {
            if (strcmp(host->id, small[i]) != 0)
                continue;
            for (size_t s = 0; s < COUNT(sizes); s++) {
                add(host, BYNAME_R, AF_INET, sizes[s], 0);
                add(host, BYNAME2_R, AF_INET6, sizes[s], 0);
            }
            add(host, BYNAME_R, AF_INET, 8192, 1);
            add(host, BYNAME2_R, AF_INET6, 8192, 3);
        }
        if (strcmp(host->id, "dual") == 0 || strcmp(host->id, "loopback-v4") == 0) {
            static const int odd[] = {AF_UNSPEC, AF_UNIX, 99};
            for (size_t i = 0; i < COUNT(odd); i++) {
                add(host, BYNAME2, odd[i], 8192, 0);
                add(host, BYNAME2_R, odd[i], 8192, 0);
            }
        }
    }
}
