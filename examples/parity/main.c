/* The rows in their order, each in a child of its own. */
#define _GNU_SOURCE
#include "parity.h"

#include <err.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROW_SECONDS 20 /* a row that takes longer is reported as killed by SIGALRM */

static struct row {
    char name[112];
    void (*run)(const void *arg);
    void *arg;
} *rows;
static size_t count, capacity;

void row(void (*run)(const void *arg), const void *arg, size_t arg_octets, const char *name, ...)
{
    if (count == capacity) {
        capacity = capacity ? 2 * capacity : 1024;
        rows = reallocarray(rows, capacity, sizeof *rows);
        if (!rows)
            err(2, "rows");
    }
    struct row *new = &rows[count++];
    va_list args;
    va_start(args, name);
    vsnprintf(new->name, sizeof new->name, name, args);
    va_end(args);
    new->run = run;
    new->arg = NULL;
    if (arg_octets > 0) {
        new->arg = malloc(arg_octets);
        if (!new->arg)
            err(2, "rows");
        memcpy(new->arg, arg, arg_octets);
    }
}

static void collect(void)
{
    rows_getaddrinfo();
    rows_services();
    rows_hostent();
    rows_hostaddr();
    rows_nameinfo();
    rows_resolver();
    rows_questions();
    rows_connect();
    rows_arguments();
    rows_names();
    rows_options();
    rows_descriptors();
    rows_fastopen();
    rows_waiting();
    rows_slow();
    rows_sets();
    rows_streams();
    rows_local();
    rows_processes();
    rows_threads();
}

static void run_in_child(const struct row *row, char *report)
{
    report[0] = '\0';
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        err(2, "fork");
    if (child == 0) {
        alarm(ROW_SECONDS);
        row->run(row->arg);
        say_descriptors();
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            err(2, "waitpid");
    printf("%s: %s", row->name, report);
    if (WIFSIGNALED(status))
        printf("; killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        printf("; exit %d", WEXITSTATUS(status));
    putchar('\n');
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--serve") == 0)
        return serve();
    if (argc == 6 && strcmp(argv[1], "--far") == 0)
        return far(argv + 2);
    if (argc >= 2 && strcmp(argv[1], "--child") == 0)
        return report_child(argc, argv);

    close_range(3, ~0U, 0); /* whatever the runner's own start left open */
    char *report = report_begin();
    collect();
    bool listing = argc == 2 && strcmp(argv[1], "--list") == 0;
    bool in_process = argc == 3 && strcmp(argv[1], "--here") == 0; /* for a debugger */
    const char *wanted = argc == 2 ? argv[1] : argc == 3 ? argv[2] : "*";
    if (argc > 3 || (argc == 3 && !in_process))
        errx(2, "usage: parity [--list | [--here] ROW-PATTERN | --serve | --far NAMESPACE DEVICE NAMESPACE DEVICE]");
    for (size_t i = 0; i < count; i++) {
        if (listing) {
            puts(rows[i].name);
        } else if (fnmatch(wanted, rows[i].name, 0) == 0) {
            if (in_process) {
                rows[i].run(rows[i].arg);
                say_descriptors();
                printf("%s: %s\n", rows[i].name, report);
                report[0] = '\0';
            } else {
                run_in_child(&rows[i], report);
            }
        }
    }
    return 0;
}
