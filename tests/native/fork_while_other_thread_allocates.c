/* A forked child has a copy of the heap and of the tables, in whatever state the other threads left them. It must be able to
 * go on; and whatever it does must not show in the parent's tables. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

#define FORKS 300
#define KEPT 100

static volatile bool done;

static void *allocate(void *unused) {
    void *p[64] = {NULL};
    (void)unused;
    for (unsigned i = 0; !done; i++) {
        void **slot = &p[i % 64];
        if (i % 3 == 0) *slot = realloc(*slot, 1 + i % 5000);
        else free(*slot), *slot = malloc(1 + i % 700);
    }
    for (int i = 0; i < 64; i++) free(p[i]);
    return NULL;
}

static _Noreturn void child(void **kept, int answer, int round) {
    void *mine[50];
    for (int i = 0; i < 50; i++) {
        CHECK((mine[i] = malloc(4000 + (size_t)i)) != NULL);
        memset(mine[i], 1, 4000);
    }
    for (int i = 0; i < KEPT; i++) free(kept[i]);
    for (int i = 0; i < 50; i += 2) free(mine[i]);
    uintptr_t address = (uintptr_t)mine[1];
    CHECK_EQUAL(write(answer, &address, sizeof address), sizeof address);
    if (round % 2 == 0) exit(0); /* with destructors */
    _exit(0);
}

int main(int argc, char **argv) {
    alarm(60); /* a child that hangs on a lock hangs the test: better killed */
    start(argc, argv);
    void *kept[KEPT];
    for (int i = 0; i < KEPT; i++) kept[i] = malloc(2000);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, allocate, NULL), 0);

    for (int round = 0; round < FORKS; round++) {
        int pipes[2], status;
        uintptr_t address;
        CHECK_EQUAL(pipe(pipes), 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) child(kept, pipes[1], round);
        close(pipes[1]);
        CHECK_EQUAL(read(pipes[0], &address, sizeof address), sizeof address);
        close(pipes[0]);
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 0);
        for (int i = 0; i < KEPT; i++) CHECK(is_live(kept[i], 2000));
        CHECK(!is_live((void *)address, 4001));
    }
    CHECK_EQUAL(shim.ledger->pid, getpid());

    done = true;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK_EQUAL(shim.ledger->losses.dropped_blocks, 0);
    return 0;
}
