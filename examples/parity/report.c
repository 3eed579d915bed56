/* What a row saw, as text that does not depend on which run it was. */
#define _GNU_SOURCE
#include "parity.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define REPORT_OCTETS 65536

static char *report;
static struct ifaddrs *interfaces;

char *report_begin(void)
{
    report = mmap(NULL, REPORT_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        err(2, "report");
    if (getifaddrs(&interfaces) != 0)
        err(2, "getifaddrs");
    return report;
}

void say(const char *format, ...)
{
    int saved = errno;
    size_t used = strlen(report);
    va_list args;
    va_start(args, format);
    vsnprintf(report + used, REPORT_OCTETS - used, format, args);
    va_end(args);
    errno = saved;
}

const char *errno_name(int error)
{
    const char *name = error == 0 ? "0" : strerrorname_np(error);
    return name ? name : "unknown errno";
}

void say_result(const char *what, long result)
{
    if (result == -1)
        say("%s -1 %s; ", what, errno_name(errno));
    else
        say("%s %ld; ", what, result);
}

const char *gai_name(int error)
{
    static const struct {
        int code;
        const char *name;
    } codes[] = {
        {0, "0"}, {EAI_BADFLAGS, "EAI_BADFLAGS"}, {EAI_NONAME, "EAI_NONAME"},
        {EAI_AGAIN, "EAI_AGAIN"}, {EAI_FAIL, "EAI_FAIL"}, {EAI_NODATA, "EAI_NODATA"},
        {EAI_FAMILY, "EAI_FAMILY"}, {EAI_SOCKTYPE, "EAI_SOCKTYPE"}, {EAI_SERVICE, "EAI_SERVICE"},
        {EAI_ADDRFAMILY, "EAI_ADDRFAMILY"}, {EAI_MEMORY, "EAI_MEMORY"}, {EAI_SYSTEM, "EAI_SYSTEM"},
        {EAI_OVERFLOW, "EAI_OVERFLOW"}, {EAI_INPROGRESS, "EAI_INPROGRESS"},
        {EAI_CANCELED, "EAI_CANCELED"}, {EAI_NOTCANCELED, "EAI_NOTCANCELED"},
        {EAI_ALLDONE, "EAI_ALLDONE"}, {EAI_INTR, "EAI_INTR"}, {EAI_IDN_ENCODE, "EAI_IDN_ENCODE"},
    };
    for (size_t i = 0; i < COUNT(codes); i++)
        if (codes[i].code == error)
            return codes[i].name;
    return "unknown EAI code";
}

const char *h_errno_name(int error)
{
    switch (error) {
    case NETDB_INTERNAL: return "NETDB_INTERNAL";
    case NETDB_SUCCESS: return "NETDB_SUCCESS";
    case HOST_NOT_FOUND: return "HOST_NOT_FOUND";
    case TRY_AGAIN: return "TRY_AGAIN";
    case NO_RECOVERY: return "NO_RECOVERY";
    case NO_DATA: return "NO_DATA";
    default: return "unknown h_errno";
    }
}

const char *family_name(int family)
{
    switch (family) {
    case AF_UNSPEC: return "unspec";
    case AF_INET: return "inet";
    case AF_INET6: return "inet6";
    case AF_UNIX: return "unix";
    default: return "other family";
    }
}

static void say_escaped(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        say(*c > 0x20 && *c < 0x7f && *c != '|' ? "%c" : "\\x%02x", *c);
}

void say_text(const char *text)
{
    if (!text) {
        say("NULL");
        return;
    }
    say("\"");
    say_escaped(text);
    say("\"");
}

bool is_own_address(int family, const void *address)
{
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != family)
            continue;
        const void *own = family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)i->ifa_addr)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)i->ifa_addr)->sin6_addr;
        if (memcmp(own, address, family == AF_INET ? 4 : 16) == 0)
            return true;
    }
    return false;
}

static bool needs_no_symbol(int family, const void *address)
{
    if (family == AF_INET) {
        in_addr_t v4 = ntohl(((const struct in_addr *)address)->s_addr);
        return v4 >> 24 == 127 || v4 == INADDR_ANY;
    }
    return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)address)
        || IN6_IS_ADDR_UNSPECIFIED((const struct in6_addr *)address);
}

/* A real and a fake address of one name have that name in common, and getnameinfo knows it: the
 * name server has a PTR for each real one. */
void say_octets(int family, const void *address)
{
    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address)) {
        say("mapped ");
        say_octets(AF_INET, (const char *)address + 12);
        return;
    }
    char text[NI_MAXHOST];
    const char *version = family == AF_INET ? "v4" : "v6";
    if (!needs_no_symbol(family, address)) {
        if (is_own_address(family, address)) {
            say("<own %s>", version);
            return;
        }
        struct sockaddr_storage storage = {.ss_family = (sa_family_t)family};
        if (family == AF_INET)
            memcpy(&((struct sockaddr_in *)&storage)->sin_addr, address, 4);
        else
            memcpy(&((struct sockaddr_in6 *)&storage)->sin6_addr, address, 16);
        socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if (getnameinfo((struct sockaddr *)&storage, len, text, sizeof text, NULL, 0, NI_NAMEREQD) == 0) {
            say("<%s of ", version);
            say_escaped(text);
            say(">");
            return;
        }
    }
    say("%s", inet_ntop(family, address, text, sizeof text));
}

void say_address(const struct sockaddr *address, socklen_t len)
{
    if (len < sizeof address->sa_family) {
        say("no address");
        return;
    }
    say("%s ", family_name(address->sa_family));
    if (address->sa_family == AF_INET && len == sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        say_octets(AF_INET, &v4->sin_addr);
        say(" port %u", ntohs(v4->sin_port));
    } else if (address->sa_family == AF_INET6 && len == sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        say_octets(AF_INET6, &v6->sin6_addr);
        char name[IF_NAMESIZE];
        if (v6->sin6_scope_id)
            say("%%%s", if_indextoname(v6->sin6_scope_id, name) ? name : "no interface");
        say(" port %u", ntohs(v6->sin6_port));
        if (v6->sin6_flowinfo)
            say(" flow %x", ntohl(v6->sin6_flowinfo));
    } else if (address->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)address;
        size_t path = offsetof(struct sockaddr_un, sun_path);
        say("%s", len <= path ? "unnamed" : un->sun_path[0] ? "path" : "abstract");
    } else {
        say("of %u octets", len);
    }
}

void say_hostent(const struct hostent *host)
{
    say("%s ", family_name(host->h_addrtype));
    say_text(host->h_name);
    for (char **alias = host->h_aliases; *alias; alias++) {
        say(" alias ");
        say_text(*alias);
    }
    say(" length %d", host->h_length);
    for (char **address = host->h_addr_list; *address; address++) {
        say(" ");
        say_octets(host->h_addrtype, *address);
    }
    say("; ");
}

static void say_descriptor(int fd)
{
    struct stat stat;
    char link[64], path[256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (fstat(fd, &stat) != 0 || readlink(link, path, sizeof path - 1) < 0) {
        say(" %d:unknown", fd);
        return;
    }
    int domain = -1, type = -1;
    socklen_t len = sizeof(int);
    switch (stat.st_mode & S_IFMT) {
    case S_IFSOCK:
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
        len = sizeof(int);
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
        say(" %d:%s/%s", fd, family_name(domain),
            type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "dgram" : "other");
        break;
    case S_IFIFO: say(" %d:pipe", fd); break;
    case S_IFCHR: say(" %d:%s", fd, path); break;
    case S_IFREG: say(" %d:file", fd); break;
    case S_IFDIR: say(" %d:directory", fd); break;
    default: say(" %d:%s", fd, path);
    }
}

/* Not for the row's own sake alone: whatever the shim opens and forgets shows here. */
void say_descriptors(void)
{
    say("descriptors");
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) {
        say(" unreadable");
        return;
    }
    int numbers[1024], found = 0, present = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) && found < (int)COUNT(numbers)) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory))
            continue;
        if (fd <= 2)
            present++;
        int at = found++;
        for (; at > 0 && numbers[at - 1] > fd; at--)
            numbers[at] = numbers[at - 1];
        numbers[at] = fd;
    }
    closedir(directory);
    bool standard = present == 3; /* 0, 1, 2 are the runner's, and only worth a word if one is gone */
    say(" %d", found - (standard ? 3 : 0));
    for (int i = 0; i < found; i++)
        if (!standard || numbers[i] > 2)
            numbers[i] <= 2 ? say(" %d", numbers[i]) : say_descriptor(numbers[i]);
}
