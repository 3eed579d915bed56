/* cancelled HOST: a thread that looks HOST up is cancelled after half a second; says how many descriptors are open then. */
#include "victim.h"

#include <dirent.h>
#include <pthread.h>

static void *look_up(void *host)
{
    struct addrinfo *list;
    getaddrinfo(host, "80", NULL, &list);
    return NULL;
}

static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    pthread_t thread;
    void *end;
    int before = descriptors();
    pthread_create(&thread, NULL, look_up, argv[1]);
    usleep(500 * 1000);
    printf("looking up: %d\n", descriptors() - before);
    pthread_cancel(thread);
    pthread_join(thread, &end);
    printf("%s: %d\n", end == PTHREAD_CANCELED ? "cancelled" : "returned", descriptors() - before);
    return 0;
}
