/* Parity: one program, run plain and under the shim, must say the same.
 *
 * A row is a name and a function. Each row runs in a forked child that starts with descriptors 0, 1
 * and 2 only, writes what it saw into its report and leaves its descriptors open: they are listed
 * after it. Addresses are reported by what they lead back to, since a fake and a real address of
 * the same name are the same answer. */
#ifndef PARITY_H
#define PARITY_H

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The world that scripts/parity builds: names of the name server, and ports of the destination. */
#define DUAL "dual.test"       /* both families */
#define SLOW "slow.test"       /* both, 400 ms away */
#define HOLE "hole.test"       /* both, and never an answer */
#define NO_ROUTE "noroute.test" /* both, and the router knows no way */
#define LITERAL4 "198.51.100.77" /* the destination's too, without any name */
#define LITERAL6 "2001:db8:2::77"
#define ECHO 7001 /* gives back what it gets, until the end of it */
#define BANNER 7002 /* speaks first, then as ECHO */
#define LATE 7003 /* says what it got when the client has ended its half */
#define LAST_WORD 7004 /* ends its half at once, and listens on */
#define LAST_WORDS 7005 /* what the last one of these got */
#define RESET 7006 /* cuts the connection after an octet */
#define CLOSED 7009 /* nobody listens */

/* rows */
void row(void (*run)(const void *arg), const void *arg, size_t arg_octets, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
#define ROW(run, name) row(run, NULL, 0, "%s", name)
void rows_getaddrinfo(void);
void rows_services(void);
void rows_hostent(void);
void rows_hostaddr(void);
void rows_nameinfo(void);
void rows_resolver(void);
void rows_questions(void);
void rows_connect(void);
void rows_arguments(void);
void rows_names(void);
void rows_options(void);
void rows_descriptors(void);
void rows_fastopen(void);
void rows_waiting(void);
void rows_slow(void);
void rows_sets(void);
void rows_streams(void);
void rows_local(void);
void rows_processes(void);
void rows_threads(void);

/* the report of the row that runs */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_result(const char *what, long result); /* "what 0" or "what -1 ECONNREFUSED", from errno */
void say_address(const struct sockaddr *address, socklen_t len); /* family, symbolic address, port */
void say_octets(int family, const void *address);                /* symbolic address only */
void say_hostent(const struct hostent *host);
void say_text(const char *text);                                 /* quoted, odd octets as \xNN */
void say_descriptors(void);
const char *errno_name(int error);
const char *gai_name(int error);
const char *h_errno_name(int error);
const char *family_name(int family);
bool is_own_address(int family, const void *address); /* of one of this host's interfaces */
char *report_begin(void);                             /* shared with the children */
int report_child(int argc, char **argv);              /* the exec'd half of the rows of processes.c */
int serve(void);                                      /* origin.c: the destination */
int far(char *const ends[4]);                         /* far.c: the long way to SLOW */

/* Hosts that every look-up is asked for; NULL ends the list. */
struct host {
    const char *id, *text;
};
extern const struct host hosts[];

/* An address to connect to, found as an application finds it. */
struct target {
    struct sockaddr_storage address;
    socklen_t len;
};
enum way { V4, V6, MAPPED }; /* MAPPED: an AF_INET6 socket and ::ffff:a.b.c.d */
extern const char *const ways[3];
int socket_family(enum way way);
struct target target(enum way way, const char *name, int port); /* ends the row if there is none */
struct target numeric(const char *text, int port);
struct target loopback(enum way way, int port);
const struct sockaddr *sa(const struct target *target);
int stream(enum way way);                          /* a TCP socket */
int connected(enum way way, const char *name, int port); /* ends the row if it fails */
int listening(enum way way, int *port);            /* on loopback */
int dial(int fd, const struct target *target);
void say_dial(const char *what, int fd, const struct target *target);
void say_peer(int fd);   /* getpeername */
void say_local(int fd);  /* getsockname; ports of the kernel's choice as "ephemeral" */
void say_so_error(int fd);
void say_echo(int fd, const char *message);  /* sends it and says what comes back */
void say_received(int fd); /* up to the end or 64 octets of one receive */
void say_identity(const char *what, int fd, unsigned long inode); /* the same open socket as before? */
unsigned long inode_of(int fd);
void await_octets(int fd, int octets); /* until so many have arrived */
void timeout(int fd, int option, int ms);
void sleep_ms(int ms);

#endif
