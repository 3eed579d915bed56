/* A link of 400 ms from one network namespace to another: two TUN devices and a queue between them. The kernel has
 * netem for this, but not every kernel has netem. */
#define _GNU_SOURCE
#include "parity.h"

#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DELAY_MS 400

struct packet {
    long due_ms;
    ssize_t octets;
    char data[2048];
};

static struct packet queue[256];
static size_t first, waiting;

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int device(const char *namespace, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int place = open(path, O_RDONLY | O_CLOEXEC);
    if (place < 0 || setns(place, CLONE_NEWNET) != 0)
        err(2, "%s", path);
    close(place);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        err(2, "TUN device %s", name);
    return fd;
}

int far(char *const ends[4])
{
    struct pollfd fds[] = {
        {.fd = device(ends[0], ends[1]), .events = POLLIN},
        {.fd = device(ends[2], ends[3]), .events = POLLIN},
    };
    puts("ready");
    fflush(stdout);
    for (;;) {
        long left = waiting ? queue[first].due_ms - now_ms() : -1;
        if (poll(fds, 2, waiting && left < 0 ? 0 : (int)left) < 0)
            err(2, "poll");
        struct packet *last = &queue[(first + waiting) % COUNT(queue)];
        if (fds[0].revents && waiting < COUNT(queue)) {
            last->octets = read(fds[0].fd, last->data, sizeof last->data);
            last->due_ms = now_ms() + DELAY_MS;
            waiting += last->octets > 0;
        }
        for (; waiting && queue[first].due_ms <= now_ms(); first = (first + 1) % COUNT(queue), waiting--)
            if (write(fds[1].fd, queue[first].data, (size_t)queue[first].octets) < 0)
                warn("packet lost");
        if (fds[1].revents) { /* back at once */
            char data[2048];
            ssize_t octets = read(fds[1].fd, data, sizeof data);
            if (octets > 0 && write(fds[0].fd, data, (size_t)octets) < 0)
                warn("packet lost");
        }
    }
}
