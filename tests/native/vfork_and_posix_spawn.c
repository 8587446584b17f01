/* A vforked child runs in the parent's memory: its frees are real. Helpers started by posix_spawn, system and popen leave
 * nothing behind but what libc itself keeps. */
#include "check.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static NOINLINE pid_t vfork_and_free(void *p) {
    pid_t pid = vfork();
    if (pid == 0) {
        free(p);
        _exit(7);
    }
    return pid;
}

static NOINLINE pid_t vfork_and_exec(const char *program) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl(program, program, (char *)NULL);
        _exit(8);
    }
    return pid;
}

static int status_of(pid_t pid) {
    int status;
    CHECK(pid > 0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int i = 0; i < 50; i++) {
        void *p = malloc(100);
        uintptr_t address = (uintptr_t)p;
        CHECK_EQUAL(status_of(vfork_and_free(p)), 7);
        CHECK(!live_at(address).there);
        CHECK_EQUAL(status_of(vfork_and_exec("/bin/true")), 0);
        CHECK_EQUAL(status_of(vfork_and_exec("/nonexistent")), 8);
    }
    CHECK_EQUAL(shim.ledger->pid, getpid());

    struct nlt_thread before = {0};
    for (int i = 0; i < 30; i++) {
        if (i == 1) before = totals(); /* the first round may fill caches of libc's */
        pid_t pid;
        char *arguments[] = {"true", NULL}, line[16];
        CHECK_EQUAL(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ), 0);
        CHECK_EQUAL(status_of(pid), 0);
        CHECK_EQUAL(system("exit 3"), 3 << 8);
        FILE *output = popen("echo out", "r");
        CHECK(output != NULL && fgets(line, sizeof line, output) != NULL);
        CHECK_EQUAL(pclose(output), 0);
        CHECK_EQUAL(strcmp(line, "out\n"), 0);
    }
    struct nlt_thread after = totals();
    CHECK(after.allocated_blocks - before.allocated_blocks >= 29);
    CHECK_EQUAL(after.allocated_blocks - before.allocated_blocks, after.freed_blocks - before.freed_blocks);
    CHECK_EQUAL(after.allocated_bytes - before.allocated_bytes, after.freed_bytes - before.freed_bytes);

    void *p = malloc(123); /* and recording goes on */
    CHECK(is_live(p, 123));
    free(p);
    return 0;
}
