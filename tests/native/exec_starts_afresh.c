/* exec replaces the program and its tables. A preloaded shim begins anew in the new program; a late one is gone; a failed exec
 * changes nothing. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

static char *self, *after_exec;

static void *exec_from_thread(void *unused) {
    (void)unused;
    execl(self, self, after_exec, (char *)NULL);
    return NULL;
}

static int new_program(int argc, char **argv) {
    if (is_mode(argc, argv, "after-late")) {
        CHECK(dlsym(RTLD_DEFAULT, "nlt_ledger") == NULL);
        return 0;
    }
    start(1, argv);
    CHECK_EQUAL(shim.ledger->pid, getpid());
    CHECK_EQUAL(shim.ledger->mode, NLT_MODE_PRELOAD);
    CHECK(totals().allocated_blocks < 1000); /* the old program's are not in it */
    void *p = malloc(77);
    CHECK(is_live(p, 77));
    free(p);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strncmp(argv[1], "after-", 6) == 0) return new_program(argc, argv);
    start(argc, argv);
    self = argv[0];
    after_exec = is_mode(argc, argv, "late") ? "after-late" : "after-preloaded";
    void *kept[1000];
    for (int i = 0; i < 1000; i++) kept[i] = malloc(100);

    CHECK_EQUAL(execl("/nonexistent", "x", (char *)NULL), -1);
    CHECK_EQUAL(errno, ENOENT);
    for (int i = 0; i < 1000; i++) CHECK(is_live(kept[i], 100));

    for (int from_thread = 0; from_thread < 2; from_thread++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            pthread_t thread;
            if (!from_thread) exec_from_thread(NULL);
            pthread_create(&thread, NULL, exec_from_thread, NULL);
            pthread_join(thread, NULL);
            _exit(1);
        }
        int status;
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 0);
    }
    for (int i = 0; i < 1000; i++) CHECK(is_live(kept[i], 100));
    return 0;
}
