/* names FUNCTION QUESTION: asks one of libc's name functions, and prints the addresses or the name that it gave; what it said
 * in their place goes to stderr: an EAI_ code, or h_errno.
 * QUESTION is a host name for those that give addresses and an address for those that give names. */
#include "victim.h"

#include <arpa/nameser.h>
#include <poll.h>
#include <resolv.h>

static void show_address(int family, const void *address)
{
    char text[INET6_ADDRSTRLEN];
    puts(inet_ntop(family, address, text, sizeof text));
}

static void show_hostent(const struct hostent *host)
{
    for (char **address = host->h_addr_list; *address != NULL; address++)
        show_address(host->h_addrtype, *address);
}

static void show_list(const struct addrinfo *list)
{
    for (; list != NULL; list = list->ai_next)
        if (list->ai_family == AF_INET)
            show_address(AF_INET, &((struct sockaddr_in *)list->ai_addr)->sin_addr);
        else
            show_address(AF_INET6, &((struct sockaddr_in6 *)list->ai_addr)->sin6_addr);
}

/* The addresses or the name in a DNS message. */
static int show_message(const unsigned char *octets, int len)
{
    ns_msg message;
    ns_rr record;
    if (len < 0 || ns_initparse(octets, len, &message) != 0)
        return 1;
    for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
        if (ns_parserr(&message, ns_s_an, i, &record) != 0)
            return 1;
        if (ns_rr_type(record) == ns_t_a)
            show_address(AF_INET, ns_rr_rdata(record));
        else if (ns_rr_type(record) == ns_t_aaaa)
            show_address(AF_INET6, ns_rr_rdata(record));
    }
    return ns_msg_count(message, ns_s_an) == 0;
}

static int address_of(const char *text, void *octets, socklen_t *len)
{
    int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    *len = family == AF_INET ? 4 : 16;
    return inet_pton(family, text, octets) == 1 ? family : AF_UNSPEC;
}

static char buffer[8192];
static unsigned char message[4096];
static struct hostent space, *found;

static int failed(int code)
{
    fprintf(stderr, "%d\n", code);
    return code != 0;
}

static int by_getaddrinfo(const char *host)
{
    struct addrinfo *list;
    int eai = getaddrinfo(host, "80", &(struct addrinfo){.ai_socktype = SOCK_STREAM}, &list);
    if (eai != 0)
        return failed(eai);
    show_list(list);
    freeaddrinfo(list);
    return 0;
}

static int by_getaddrinfo_a(const char *host)
{
    struct gaicb request = {.ar_name = host, .ar_service = "80"}, *requests[] = {&request};
    if (getaddrinfo_a(GAI_WAIT, requests, 1, NULL) != 0)
        return 1;
    if (gai_error(&request) != 0)
        return failed(gai_error(&request));
    show_list(request.ar_result);
    freeaddrinfo(request.ar_result);
    return 0;
}

static int hostent(const struct hostent *host)
{
    if (host == NULL)
        return failed(h_errno);
    show_hostent(host);
    return 0;
}

static int by_gethostbyname(const char *host) { return hostent(gethostbyname(host)); }

static int by_gethostbyname2(const char *host) { return hostent(gethostbyname2(host, AF_INET6)); }

static int by_gethostbyname_r(const char *host)
{
    gethostbyname_r(host, &space, buffer, sizeof buffer, &found, &h_errno);
    return hostent(found);
}

static int by_gethostbyname2_r(const char *host)
{
    gethostbyname2_r(host, AF_INET6, &space, buffer, sizeof buffer, &found, &h_errno);
    return hostent(found);
}

static int by_gethostbyaddr(const char *text)
{
    unsigned char octets[16];
    socklen_t len;
    int family = address_of(text, octets, &len);
    found = gethostbyaddr(octets, len, family);
    if (found == NULL)
        return failed(h_errno);
    puts(found->h_name);
    return 0;
}

static int by_gethostbyaddr_r(const char *text)
{
    unsigned char octets[16];
    socklen_t len;
    int family = address_of(text, octets, &len);
    gethostbyaddr_r(octets, len, family, &space, buffer, sizeof buffer, &found, &h_errno);
    if (found == NULL)
        return failed(h_errno);
    puts(found->h_name);
    return 0;
}

static int by_getnameinfo(const char *text)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {0};
    socklen_t len;
    int v6 = strchr(text, ':') != NULL;
    address.any.sa_family = (sa_family_t)address_of(text, v6 ? (void *)&address.v6.sin6_addr : &address.v4.sin_addr, &len);
    socklen_t size = v6 ? sizeof address.v6 : sizeof address.v4;
    int eai = getnameinfo(&address.any, size, buffer, sizeof buffer, NULL, 0, NI_NAMEREQD);
    if (eai != 0)
        return failed(eai);
    puts(buffer);
    return 0;
}

static int by_res_query(const char *host)
{
    return show_message(message, res_query(host, ns_c_in, ns_t_a, message, sizeof message));
}

static int by_res_search(const char *host)
{
    return show_message(message, res_search(host, ns_c_in, ns_t_aaaa, message, sizeof message));
}

static int by_res_querydomain(const char *host)
{
    return show_message(message, res_querydomain(host, "", ns_c_in, ns_t_a, message, sizeof message));
}

static int by_res_nquery(const char *host)
{
    struct __res_state state = {0};
    return res_ninit(&state) != 0 ||
           show_message(message, res_nquery(&state, host, ns_c_in, ns_t_a, message, sizeof message));
}

static int by_res_nsearch(const char *host)
{
    struct __res_state state = {0};
    return res_ninit(&state) != 0 ||
           show_message(message, res_nsearch(&state, host, ns_c_in, ns_t_aaaa, message, sizeof message));
}

static int by_res_nquerydomain(const char *host)
{
    struct __res_state state = {0};
    return res_ninit(&state) != 0 ||
           show_message(message, res_nquerydomain(&state, host, "", ns_c_in, ns_t_a, message, sizeof message));
}

static int by_res_send(const char *host)
{
    unsigned char question[512];
    int len = res_mkquery(ns_o_query, host, ns_c_in, ns_t_a, NULL, 0, NULL, question, sizeof question);
    return len < 0 || show_message(message, res_send(question, len, message, sizeof message));
}

static int by_res_nsend(const char *host)
{
    struct __res_state state = {0};
    unsigned char question[512];
    if (res_ninit(&state) != 0)
        return 1;
    int len = res_nmkquery(&state, ns_o_query, host, ns_c_in, ns_t_a, NULL, 0, NULL, question, sizeof question);
    return len < 0 || show_message(message, res_nsend(&state, question, len, message, sizeof message));
}

/* A resolver of the program's own: a datagram to a name server, on a connected socket or not. */
static int by_datagram_to(const char *server, const char *host, int is_connected)
{
    unsigned char question[512];
    int len = res_mkquery(ns_o_query, host, ns_c_in, ns_t_a, NULL, 0, NULL, question, sizeof question);
    struct target to = resolve(server, "53");
    int fd = socket(to.address.ss_family, SOCK_DGRAM, 0);
    ssize_t sent;
    if (is_connected)
        sent = connect_to(fd, &to) == 0 ? send(fd, question, (size_t)len, 0) : -1;
    else
        sent = sendto(fd, question, (size_t)len, 0, (struct sockaddr *)&to.address, to.len);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (len < 0 || sent != len || poll(&wait, 1, 3000) != 1)
        return 1;
    return show_message(message, (int)recv(fd, message, sizeof message, 0));
}

/* The first name server of resolv.conf. */
static const char *configured_server(void)
{
    static char server[64];
    FILE *conf = fopen("/etc/resolv.conf", "r");
    if (conf == NULL || fscanf(conf, "nameserver %63s", server) != 1)
        exit(2);
    fclose(conf);
    return server;
}

static int by_datagram(const char *host) { return by_datagram_to(configured_server(), host, 0); }

static int by_connected_datagram(const char *host) { return by_datagram_to(configured_server(), host, 1); }

/* As systemd-resolved has it: a name server on the host itself, which asks others. */
static int by_local_datagram(const char *host) { return by_datagram_to("127.0.0.1", host, 0); }

static int by_connected_local_datagram(const char *host) { return by_datagram_to("127.0.0.1", host, 1); }

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*ask)(const char *question);
    } functions[] = {
        {"getaddrinfo", by_getaddrinfo},
        {"getaddrinfo_a", by_getaddrinfo_a},
        {"gethostbyname", by_gethostbyname},
        {"gethostbyname2", by_gethostbyname2},
        {"gethostbyname_r", by_gethostbyname_r},
        {"gethostbyname2_r", by_gethostbyname2_r},
        {"gethostbyaddr", by_gethostbyaddr},
        {"gethostbyaddr_r", by_gethostbyaddr_r},
        {"getnameinfo", by_getnameinfo},
        {"res_query", by_res_query},
        {"res_search", by_res_search},
        {"res_querydomain", by_res_querydomain},
        {"res_nquery", by_res_nquery},
        {"res_nsearch", by_res_nsearch},
        {"res_nquerydomain", by_res_nquerydomain},
        {"res_send", by_res_send},
        {"res_nsend", by_res_nsend},
        {"datagram", by_datagram},
        {"connected-datagram", by_connected_datagram},
        {"local-datagram", by_local_datagram},
        {"connected-local-datagram", by_connected_local_datagram},
    };
    if (argc == 3)
        for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
            if (strcmp(argv[1], functions[i].name) == 0)
                return functions[i].ask(argv[2]);
    return 2;
}
