/* Under a limit of address space the tables shrink, and in the end recording stops. The program lives, and the counters say
 * what is missing. */
#include "check.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define BLOCKS 1000

/* Every block is in the table or in the counter of dropped ones. */
static int limited_program(void) {
    const struct nlt_header *(*ledger)(void) = (const struct nlt_header *(*)(void))dlsym(RTLD_DEFAULT, "nlt_ledger");
    CHECK(ledger != NULL);
    static void *blocks[BLOCKS];
    uint64_t dropped = 0;
    if (ledger() != NULL) {
        find_shim(RTLD_DEFAULT);
        dropped = shim.ledger->losses.dropped_blocks;
    }
    int made = 0;
    for (; made < BLOCKS; made++) {
        blocks[made] = malloc(2000);
        if (blocks[made] == NULL) break;
        memset(blocks[made], 1, 2000);
    }
    CHECK(made > 100);
    if (shim.ledger != NULL) {
        uint64_t live = 0;
        for (int i = 0; i < made; i++) live += live_word(blocks[i]).there;
        CHECK_EQUAL(live + shim.ledger->losses.dropped_blocks - dropped, made);
    }
    for (int i = 0; i < made; i++) free(blocks[i]);
    while (malloc(1 << 20) != NULL) { /* until nothing is left at all */
    }
    CHECK_EQUAL(errno, ENOMEM);
    for (int i = 0; i < 100; i++) free(malloc(10));
    return shim.ledger != NULL ? 0 : 3;
}

int main(int argc, char **argv) {
    if (is_mode(argc, argv, "limited")) return limited_program();
    start(argc, argv);
    static const unsigned limits_mb[] = {16, 32, 64, 100, 150, 250, 400, 600, 1000};
    bool recorded = false;
    for (size_t i = 0; i < sizeof limits_mb / sizeof limits_mb[0]; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            rlim_t bytes = (rlim_t)limits_mb[i] << 20;
            CHECK_EQUAL(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}), 0);
            execl(argv[0], argv[0], "limited", (char *)NULL);
            _exit(2);
        }
        int status;
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
        recorded |= WEXITSTATUS(status) == 0;
    }
    CHECK(recorded); /* at 1 GB at the latest */
    return 0;
}
