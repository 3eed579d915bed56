/* Questions to port 53 by sockets of the program's own, as resolvers that are not libc's send them. */
#define _GNU_SOURCE
#include "parity.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <resolv.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAY enum way way = *(const enum way *)arg

enum { DOMAIN = 53, QUESTION_OCTETS = 27, FRAMED_OCTETS = 2 + QUESTION_OCTETS };
enum call { SEND, WRITE, WRITEV, SENDTO, SENDTO_ADDRESS, SENDMSG, SENDMMSG, CALLS };
static const char *const calls[] = {"send", "write", "writev", "sendto", "sendto-address", "sendmsg", "sendmmsg"};

struct question {
    enum way way;
    enum call call;
};

static struct target name_server(enum way way)
{
    return numeric(way == V4 ? "192.0.2.1" : way == V6 ? "2001:db8:1::1" : "::ffff:192.0.2.1", DOMAIN);
}

static int datagrams(enum way way)
{
    int fd = socket(socket_family(way), SOCK_DGRAM, 0);
    timeout(fd, SO_RCVTIMEO, 3000);
    return fd;
}

static int questions(enum way way)
{
    int fd = stream(way);
    timeout(fd, SO_RCVTIMEO, 3000);
    return fd;
}

/* For the address of DUAL; in a stream its length goes before it (RFC 1035 4.2.2). */
static void write_question(unsigned char room[FRAMED_OCTETS], unsigned id)
{
    int len = res_mkquery(ns_o_query, DUAL, ns_c_in, ns_t_a, NULL, 0, NULL, room + 2, QUESTION_OCTETS);
    if (len != QUESTION_OCTETS)
        say("a question of %d octets; ", len);
    room[0] = 0;
    room[1] = QUESTION_OCTETS;
    room[2] = (unsigned char)(id >> 8);
    room[3] = (unsigned char)id;
}

/* In two pieces, where the call can. What is sent at once by sendmmsg is two questions. */
static long send_by(enum call call, int fd, unsigned char *octets, size_t len, const struct target *to, int flags)
{
    struct iovec parts[] = {{octets, 2}, {octets + 2, len - 2}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    struct mmsghdr messages[] = {{.msg_hdr = message}, {.msg_hdr = message}};
    errno = 0;
    switch (call) {
    case SEND: return send(fd, octets, len, flags);
    case WRITE: return write(fd, octets, len);
    case WRITEV: return writev(fd, parts, 2);
    case SENDTO: return sendto(fd, octets, len, flags, NULL, 0);
    case SENDTO_ADDRESS: return sendto(fd, octets, len, flags, sa(to), to->len);
    case SENDMSG: return sendmsg(fd, &message, flags);
    default: {
        long sent = sendmmsg(fd, messages, 2, flags);
        return sent == 2 ? messages[0].msg_len + messages[1].msg_len : sent;
    }
    }
}

static void say_reply(const unsigned char *octets, ssize_t len)
{
    if (len < NS_HFIXEDSZ)
        say_result("answer", len);
    else
        say("%s %x, rcode %d, %d of address; ", octets[2] & 0x80 ? "answer" : "question", octets[0] << 8 | octets[1],
            octets[3] & 15, octets[6] << 8 | octets[7]);
}

static void say_from(const struct target *from)
{
    say("from ");
    say_address(sa(from), from->len);
    say(": ");
}

static void say_answer(int fd)
{
    unsigned char octets[512];
    volatile size_t room = sizeof octets; /* so that the fortified build calls __recvfrom_chk */
    struct target from = {.len = sizeof from.address};
    ssize_t len = recvfrom(fd, octets, room, 0, (struct sockaddr *)&from.address, &from.len);
    if (len >= 0)
        say_from(&from);
    say_reply(octets, len);
}

static void say_answer_by_recvmsg(int fd)
{
    unsigned char octets[512];
    struct iovec room = {octets, sizeof octets};
    struct target from;
    struct msghdr message = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &room, .msg_iovlen = 1};
    ssize_t len = recvmsg(fd, &message, 0);
    from.len = message.msg_namelen;
    if (len >= 0)
        say_from(&from);
    say_reply(octets, len);
}

/* Two, of which only the second has room for a name. */
static void say_answers_by_recvmmsg(int fd)
{
    unsigned char octets[2][512];
    struct iovec rooms[] = {{octets[0], sizeof octets[0]}, {octets[1], sizeof octets[1]}};
    struct target from;
    struct mmsghdr messages[] = {
        {.msg_hdr = {.msg_iov = &rooms[0], .msg_iovlen = 1}},
        {.msg_hdr = {.msg_name = &from.address, .msg_namelen = sizeof from.address, .msg_iov = &rooms[1], .msg_iovlen = 1}},
    };
    int count = recvmmsg(fd, messages, 2, 0, NULL);
    for (int i = 0; i < count; i++)
        say_reply(octets[i], messages[i].msg_len);
    from.len = messages[1].msg_hdr.msg_namelen;
    if (count == 2)
        say_from(&from);
    say_result("recvmmsg", count);
}

/* As many as there are in the stream, which are read to the last octet. */
static void say_answers(int fd, int wanted)
{
    int good = 0;
    for (int i = 0; i < wanted; i++) {
        unsigned char octets[512];
        if (recv(fd, octets, 2, MSG_WAITALL) != 2)
            break;
        size_t len = (size_t)octets[0] << 8 | octets[1];
        if (len > sizeof octets || recv(fd, octets, len, MSG_WAITALL) != (ssize_t)len)
            break;
        if (wanted <= 2)
            say_reply(octets, (ssize_t)len);
        good += len > NS_HFIXEDSZ && octets[2] & 0x80 && octets[7] == 1;
    }
    say("%d of %d answers; ", good, wanted);
}

static void say_waiting(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = poll(&one, 1, 100);
    say("poll %d, %x; ", ready, one.revents);
}

static void say_sent(const char *what, long sent)
{
    say_result(what, sent);
    if (sent >= 0)
        say("errno %d; ", errno);
}

static void connected_datagram(const void *arg)
{
    const struct question *q = arg;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x1234);
    struct target to = name_server(q->way);
    int fd = datagrams(q->way);
    errno = 0;
    say_dial("connect", fd, &to);
    say_sent(calls[q->call], send_by(q->call, fd, octets + 2, QUESTION_OCTETS, &to, 0));
    say_answer(fd);
    if (q->call == SENDMMSG)
        say_answer_by_recvmsg(fd);
    say_waiting(fd);
    say_peer(fd);
}

/* Where there is nothing to read, whatever is said of its length. */
static void no_octets(const void *arg)
{
    WAY;
    struct target to = name_server(way);
    int connected = datagrams(way), other = datagrams(way), fd = questions(way);
    say_dial("connect", connected, &to);
    say_dial("connect", fd, &to);
    static struct iovec nowhere[1];
    nowhere[0] = (struct iovec){NULL, QUESTION_OCTETS};
    struct msghdr piece = {.msg_iov = nowhere, .msg_iovlen = 1}, none = {.msg_iovlen = 1};
    void *volatile null = NULL;
    int sockets[] = {connected, fd};
    for (size_t i = 0; i < COUNT(sockets); i++) {
        say_result("send", send(sockets[i], null, QUESTION_OCTETS, MSG_NOSIGNAL));
        say_result("sendmsg of a null piece", sendmsg(sockets[i], &piece, MSG_NOSIGNAL));
        say_result("sendmsg of null pieces", sendmsg(sockets[i], &none, MSG_NOSIGNAL));
        say_result("writev", writev(sockets[i], nowhere, 1));
    }
    say_result("sendto", sendto(other, null, QUESTION_OCTETS, 0, sa(&to), to.len));
    piece.msg_name = none.msg_name = &to.address;
    piece.msg_namelen = none.msg_namelen = to.len;
    say_result("sendmsg of a null piece", sendmsg(other, &piece, 0));
    say_result("sendmsg of null pieces", sendmsg(other, &none, 0));
    say_result("sendto of nothing", sendto(connected, null, 0, 0, NULL, 0));
}

static void datagram_dup_before(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x2345);
    struct target to = name_server(way);
    int fd = datagrams(way), other = dup(fd);
    say_dial("connect", fd, &to);
    say_peer(other);
    for (int twice = 0; twice < 2; twice++) {
        say_sent("send", send_by(SEND, other, octets + 2, QUESTION_OCTETS, NULL, 0));
        say_answer(twice ? other : fd);
    }
    close(fd);
    say_sent("send", send_by(SEND, other, octets + 2, QUESTION_OCTETS, NULL, 0));
    say_answer(other);
}

static void unconnected_dup_before(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x3456);
    struct target to = name_server(way);
    int fd = datagrams(way), other = dup(fd);
    say_sent("sendto", send_by(SENDTO_ADDRESS, fd, octets + 2, QUESTION_OCTETS, &to, 0));
    say_answer(other);
}

static void *wait_for_answer(void *fd)
{
    say_answer_by_recvmsg(*(int *)fd);
    return NULL;
}

static void waiting(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x4567);
    struct target to = name_server(way), any = numeric(way == V4 ? "0.0.0.0" : "::", 0);
    int fd = datagrams(way);
    bind(fd, sa(&any), any.len);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_answer, &fd);
    sleep_ms(200);
    long sent = send_by(SENDTO_ADDRESS, fd, octets + 2, QUESTION_OCTETS, &to, 0);
    pthread_join(thread, NULL);
    say_sent("sendto", sent);
}

static void several_at_once(const void *arg)
{
    (void)arg;
    unsigned char octets[FRAMED_OCTETS];
    int fd = datagrams(V6);
    for (enum way way = V6; way <= MAPPED; way++) {
        struct target to = name_server(way);
        write_question(octets, 0x5600u + way);
        say_sent("sendto", send_by(SENDTO_ADDRESS, fd, octets + 2, QUESTION_OCTETS, &to, 0));
        say_answer(fd);
    }
    for (int i = 0; i < 2; i++) {
        struct target to = name_server(V6);
        send_by(SENDTO_ADDRESS, fd, octets + 2, QUESTION_OCTETS, &to, 0);
    }
    sleep_ms(100);
    say_answers_by_recvmmsg(fd);
}

/* To an address or to none; the port stays what it was. */
static void bound(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x5678);
    struct target to[] = {name_server(way), target(way, DUAL, ECHO)};
    const char *const own[] = {way == V4 ? "0.0.0.0" : "::", way == V4 ? "192.0.2.2" : way == V6 ? "2001:db8:1::2" : "::ffff:192.0.2.2"};
    for (size_t i = 0; i < COUNT(to) * COUNT(own); i++) {
        int fd = datagrams(way);
        struct target at = numeric(own[i % 2], 0);
        say_result("bind", bind(fd, sa(&at), at.len));
        struct sockaddr_in before, after; /* the port is where both families keep it */
        socklen_t len = sizeof before;
        getsockname(fd, (struct sockaddr *)&before, &len);
        say_dial("connect", fd, &to[i / 2]);
        len = sizeof after;
        getsockname(fd, (struct sockaddr *)&after, &len);
        say("%s port; ", before.sin_port == after.sin_port ? "same" : "another");
        if (i % 2)
            say_local(fd);
        say_peer(fd);
        if (i / 2 == 0) {
            say_sent("send", send_by(SEND, fd, octets + 2, QUESTION_OCTETS, NULL, 0));
            say_answer(fd);
        }
        close(fd);
    }
}

/* What a connected socket is sent by others never reaches it, nor does what it asks of others. */
static void strangers(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x6789);
    struct target to[] = {name_server(way), target(way, DUAL, ECHO)};
    struct target elsewhere = numeric(way == V4 ? LITERAL4 : way == V6 ? LITERAL6 : "::ffff:" LITERAL4, DOMAIN);
    for (size_t i = 0; i < COUNT(to); i++) {
        int fd = datagrams(way), other = datagrams(way);
        say_dial("connect", fd, &to[i]);
        struct sockaddr_in own;
        socklen_t len = sizeof own;
        getsockname(fd, (struct sockaddr *)&own, &len);
        struct target at = loopback(way, ntohs(own.sin_port));
        sendto(other, "intruder", 8, 0, sa(&at), at.len);
        say_waiting(fd);
        if (way != MAPPED)
            say_sent("sendto elsewhere", send_by(SENDTO_ADDRESS, fd, octets + 2, QUESTION_OCTETS, &elsewhere, 0));
        say_waiting(fd);
        say_peer(fd);
    }
}

/* As programs do that sort addresses by whether there is a way. */
static void connected_again(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x789a);
    struct target to[] = {name_server(way), target(way, DUAL, ECHO), name_server(way)};
    int fd = datagrams(way);
    for (size_t i = 0; i < COUNT(to); i++) {
        say_dial("connect", fd, &to[i]);
        say_peer(fd);
        if (i != 1) {
            say_sent("send", send_by(SEND, fd, octets + 2, QUESTION_OCTETS, NULL, 0));
            say_answer(fd);
        }
    }
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_result("unspec", connect(fd, &none, sizeof none));
    say_peer(fd);
    say_local(fd);
    say_result("send", send_by(SEND, fd, octets + 2, QUESTION_OCTETS, NULL, 0));
    int server = datagrams(way);
    struct target here = loopback(way, 0);
    bind(server, sa(&here), here.len);
    getsockname(server, (struct sockaddr *)&here.address, &here.len);
    say_dial("connect", fd, &to[0]);
    say_result("connect here", dial(fd, &here));
    say_result("send", send(fd, "hi", 2, 0));
    say_received(server);
}

static void connected_stream(const void *arg)
{
    const struct question *q = arg;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x89ab);
    struct target to = name_server(q->way);
    int fd = questions(q->way);
    errno = 0;
    say_dial("connect", fd, &to);
    say_sent(calls[q->call], send_by(q->call, fd, octets, sizeof octets, &to, MSG_NOSIGNAL));
    say_answers(fd, q->call == SENDMMSG ? 2 : 1);
    say_peer(fd);
}

static void length_first(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0x9abc);
    struct target to = name_server(way);
    int fd = questions(way);
    say_dial("connect", fd, &to);
    say_sent("length", send_by(SEND, fd, octets, 2, NULL, MSG_NOSIGNAL));
    say_sent("question", send_by(SEND, fd, octets + 2, QUESTION_OCTETS, NULL, MSG_NOSIGNAL));
    say_answers(fd, 1);
}

static void stream_dup_before(const void *arg)
{
    WAY;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0xabcd);
    struct target to = name_server(way);
    int fd = questions(way), other = dup(fd);
    say_dial("connect", fd, &to);
    say_peer(other);
    say_sent("send", send_by(SEND, other, octets, sizeof octets, NULL, MSG_NOSIGNAL));
    say_answers(fd, 1);
    say_sent("send", send_by(SENDMSG, other, octets, sizeof octets, NULL, MSG_NOSIGNAL));
    say_answers(other, 1);
}

static void fast_open(const void *arg)
{
    const struct question *q = arg;
    unsigned char octets[FRAMED_OCTETS];
    write_question(octets, 0xbcde);
    struct target to = name_server(q->way);
    int fd = questions(q->way), one = 1;
    struct iovec part = {octets, sizeof octets};
    struct mmsghdr message = {.msg_hdr = {.msg_name = &to.address, .msg_namelen = to.len, .msg_iov = &part, .msg_iovlen = 1}};
    errno = 0;
    switch (q->call) {
    case SENDTO: say_sent("sendto", sendto(fd, octets, sizeof octets, MSG_FASTOPEN, sa(&to), to.len)); break;
    case SENDMSG: say_sent("sendmsg", sendmsg(fd, &message.msg_hdr, MSG_FASTOPEN)); break;
    case SENDMMSG: say_sent("sendmmsg", sendmmsg(fd, &message, 1, MSG_FASTOPEN)); break;
    default:
        setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
        say_dial("connect", fd, &to);
        say_sent("send", send(fd, octets, sizeof octets, MSG_NOSIGNAL));
    }
    say_answers(fd, 1);
    say_peer(fd);
}

static void many_in_one(const void *arg)
{
    const struct question *q = arg;
    enum { MANY = 40 };
    static unsigned char octets[MANY * FRAMED_OCTETS];
    for (unsigned i = 0; i < MANY; i++)
        write_question(octets + i * FRAMED_OCTETS, i);
    struct target to = name_server(q->way);
    int fd = questions(q->way);
    say_dial("connect", fd, &to);
    /* Again, behind a length that was sent before. */
    for (int twice = 0; twice < 2; twice++) {
        if (twice)
            say_sent("length", send_by(SEND, fd, octets, 2, NULL, MSG_NOSIGNAL));
        unsigned char *first = octets + (twice ? 2 : 0);
        size_t len = sizeof octets - (twice ? 2 : 0);
        say_sent(calls[q->call], send_by(q->call, fd, first, len, NULL, MSG_NOSIGNAL));
        say_answers(fd, MANY);
    }
}

void rows_questions(void)
{
    static const struct {
        const char *name;
        void (*run)(const void *arg);
    } of_every_way[] = {
        {"no-octets", no_octets}, {"datagram/dup-before", datagram_dup_before}, {"unconnected/dup-before", unconnected_dup_before},
        {"unconnected/waiting", waiting}, {"datagram/strangers", strangers}, {"datagram/connected-again", connected_again},
        {"datagram/bound", bound}, {"stream/length-first", length_first}, {"stream/dup-before", stream_dup_before},
    };
    static const enum call fast[] = {SEND, SENDTO, SENDMSG, SENDMMSG}, longer[] = {SEND, WRITE, WRITEV, SENDMSG};
    for (enum way way = V4; way <= MAPPED; way++) {
        for (size_t i = 0; i < COUNT(of_every_way); i++)
            row(of_every_way[i].run, &way, sizeof way, "questions/%s/%s", of_every_way[i].name, ways[way]);
        for (enum call call = SEND; call < CALLS; call++) {
            struct question q = {way, call};
            row(connected_datagram, &q, sizeof q, "questions/datagram/%s/%s", calls[call], ways[way]);
            row(connected_stream, &q, sizeof q, "questions/stream/%s/%s", calls[call], ways[way]);
        }
        for (size_t i = 0; i < COUNT(fast); i++) {
            struct question q = {way, fast[i]};
            row(fast_open, &q, sizeof q, "questions/stream/fast-open/%s/%s", fast[i] == SEND ? "option" : calls[fast[i]], ways[way]);
        }
        for (size_t i = 0; i < COUNT(longer); i++) {
            struct question q = {way, longer[i]};
            row(many_in_one, &q, sizeof q, "questions/stream/many/%s/%s", calls[longer[i]], ways[way]);
        }
    }
    ROW(several_at_once, "questions/unconnected/several");
}
