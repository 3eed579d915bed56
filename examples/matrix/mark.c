// Preloaded in front of a socksifier, for strace: marks where the program enters a connect() that must not block, and where
// it comes back.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static int (*next)(int, const struct sockaddr *, socklen_t);

__attribute__((constructor)) static void look_up(void)
{
    next = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
}

// A call that does nothing and that strace shows.
static void mark(const char *text, size_t octets)
{
    int before = errno;
    if (write(-1, text, octets) < 0)
        errno = before;
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
    if (!next)
        look_up();
    int is_internet = to && (to->sa_family == AF_INET || to->sa_family == AF_INET6);
    if (!is_internet || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
        return next(fd, to, len);
    mark("connect(", 8);
    int result = next(fd, to, len);
    mark("connected", 9);
    return result;
}
