/* Runs one program and says what it took: measure RESULT_FILE SECONDS [NAME=VALUE...] PROGRAM [ARGUMENT...].
 * Writes wall_ns, maxrss_kb (of the largest process that was waited for) and how it ended to RESULT_FILE.
 * A program that runs for longer is killed with its process group. The variables are set in the child only: what
 * measures is never preloaded, and there is no shell and no env between the clock and the program. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static volatile sig_atomic_t expired;
static pid_t child;

static void expire(int signal) {
    (void)signal;
    expired = 1;
    kill(-child, SIGKILL);
}

int main(int argc, char **argv) {
    int program = 3;
    while (program < argc && strchr(argv[program], '=') != NULL) program++;
    if (program >= argc) {
        fputs("usage: measure RESULT_FILE SECONDS [NAME=VALUE...] PROGRAM [ARGUMENT...]\n", stderr);
        return 2;
    }
    uint64_t start = now_ns();
    child = fork();
    if (child < 0) {
        perror("measure: fork");
        return 1;
    }
    if (child == 0) {
        setpgid(0, 0);
        for (int i = 3; i < program; i++) putenv(argv[i]);
        execvp(argv[program], argv + program);
        fprintf(stderr, "%s: %s\n", argv[program], strerror(errno));
        _exit(127);
    }
    setpgid(child, child); /* in both, whoever is first */
    struct sigaction action = {.sa_handler = expire};
    sigaction(SIGALRM, &action, NULL);
    alarm((unsigned)atoi(argv[2]));
    int status;
    struct rusage usage;
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR) return 1;
    uint64_t wall = now_ns() - start;
    alarm(0);

    FILE *result = fopen(argv[1], "w");
    if (result == NULL) {
        perror(argv[1]);
        return 1;
    }
    fprintf(result, "wall_ns=%llu\nmaxrss_kb=%ld\n", (unsigned long long)wall, usage.ru_maxrss);
    if (expired)
        fprintf(result, "end=no end within %s s\n", argv[2]);
    else if (WIFSIGNALED(status))
        fprintf(result, "end=killed by signal %d\n", WTERMSIG(status));
    else
        fprintf(result, "end=exit code %d\n", WEXITSTATUS(status));
    return fclose(result) != 0;
}
