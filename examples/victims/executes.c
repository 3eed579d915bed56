/* executes CASE HOST PORT: starts itself with a cleaned environment, by each function that has its arguments in a list or hands on
 * the environment from inside libc. PORT is an echo server's. */
#include "victim.h"

#include <spawn.h>
#include <sys/wait.h>
#include <wordexp.h>

#define TIMES_8(x) x, x, x, x, x, x, x, x
#define MANY(x) TIMES_8(TIMES_8(TIMES_8(TIMES_8(x)))) /* 4096 */

static const char *self, *host, *port;
static char *const only_a[] = {"A=b", NULL};
static char long_preload[11 + 6000 + 1] = "LD_PRELOAD=";
static char *const with_long_preload[] = {"A=b", long_preload, NULL};

static void child(int argc, char **argv)
{
    const char *preload = getenv("LD_PRELOAD"), *ours = preload ? strstr(preload, "libsocks6.so") : NULL;
    const char *theirs = ours ? strchr(ours, ':') : preload;
    unsigned sum = 0;
    for (int i = 1; i < argc; i++)
        for (const char *at = argv[i]; *at; at++)
            sum = sum * 31 + (unsigned char)*at;
    struct target to = resolve(argv[2], argv[3]);
    int fd = new_socket(&to);
    if (connect_to(fd, &to) != 0)
        printf("connect: %s\n", strerrorname_np(errno));
    printf("child: %d arguments %x, A %s, HOME %s, LD_PRELOAD of %zu, %s\n", argc, sum, getenv("A"), getenv("HOME"),
           theirs ? strlen(theirs + (ours != NULL)) : 0, echo(fd));
}

static void execl_few(void) { execl(self, self, "-child", host, port, NULL); }
static void execl_some(void) { execl(self, self, "-child", host, port, "4", "5", "6", "7", "8", NULL); }
static void execl_many(void) { execl(self, self, "-child", host, port, MANY("x"), "y", NULL); }
static void execlp_few(void) { execlp("env", "env", self, "-child", host, port, NULL); }
static void execlp_many(void) { execlp(self, self, "-child", host, port, MANY("x"), "y", NULL); }
static void execle_few(void) { execle(self, self, "-child", host, port, NULL, only_a); }
static void execle_some(void) { execle(self, self, "-child", host, port, "4", "5", NULL, only_a); }
static void execle_many(void) { execle(self, self, "-child", host, port, MANY("x"), "y", NULL, only_a); }
static void execle_long(void) { execle(self, self, "-child", host, port, NULL, with_long_preload); }
static void execle_nothing(void) { execle(self, self, "-child", host, port, NULL, NULL); }

static void fails(void)
{
    printf("execl: %d %s\n", execl("/nowhere", "x", MANY("x"), NULL), strerrorname_np(errno));
    printf("execlp: %d %s\n", execlp("no-such-program", "x", NULL), strerrorname_np(errno));
    printf("execle: %d %s\n", execle("/nowhere", "x", "1", "2", "3", "4", "5", "6", NULL, with_long_preload), strerrorname_np(errno));
    execl_few();
}

static char *command(void)
{
    static char text[4096];
    snprintf(text, sizeof text, "'%s' -child %s %s", self, host, port);
    return text;
}

static void by_system(void)
{
    printf("system: %d\n", system(command()));
    fflush(stdout);
}

static void by_popen(void)
{
    char line[256];
    FILE *child = popen(command(), "r");
    while (fgets(line, sizeof line, child) != NULL)
        fputs(line, stdout);
    printf("pclose: %d\n", pclose(child));
}

static void by_wordexp(void)
{
    char text[4200];
    wordexp_t words;
    snprintf(text, sizeof text, "\"$(%s)\"", command());
    int error = wordexp(text, &words, 0);
    printf("wordexp: %d %s\n", error, error == 0 ? words.we_wordv[0] : "");
}

static void by_posix_spawn(void)
{
    char *const argv[] = {(char *)self, "-child", (char *)host, (char *)port, NULL};
    pid_t child;
    int status = -1;
    printf("posix_spawn: %d\n", posix_spawn(&child, self, NULL, NULL, argv, with_long_preload));
    fflush(stdout);
    waitpid(child, &status, 0);
    printf("child: %x\n", status);
}

/* The new program's arguments are on a stack that is the parent's. */
static void by_vfork(void)
{
    int status = -1;
    pid_t child = vfork();
    if (child == 0) {
        execle(self, self, "-child", host, port, "4", "5", "6", "7", "8", NULL, only_a);
        _exit(127);
    }
    waitpid(child, &status, 0);
    printf("vfork: %x\n", status);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"execl", execl_few}, {"execl-some", execl_some}, {"execl-many", execl_many}, {"execlp", execlp_few},
        {"execlp-many", execlp_many}, {"execle", execle_few}, {"execle-some", execle_some}, {"execle-many", execle_many},
        {"execle-long", execle_long}, {"execle-nothing", execle_nothing}, {"fails", fails}, {"system", by_system},
        {"popen", by_popen}, {"wordexp", by_wordexp}, {"posix_spawn-long", by_posix_spawn}, {"vfork", by_vfork},
    };
    if (argc >= 4 && strcmp(argv[1], "-child") == 0) {
        child(argc, argv);
        return 0;
    }
    if (argc != 4)
        return 2;
    self = argv[0];
    host = argv[2];
    port = argv[3];
    while (strlen(long_preload) + strlen(":libresolv.so.2") < sizeof long_preload)
        strcat(strcat(long_preload, long_preload[11] ? ":" : ""), "libresolv.so.2");
    clearenv();
    char *plus = strchr(argv[1], '+'); /* CASE+: with an LD_PRELOAD of its own */
    if (plus != NULL) {
        *plus = '\0';
        setenv("LD_PRELOAD", "libresolv.so.2", 1);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 0;
        }
    return 2;
}
