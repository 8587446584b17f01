/* Blocks that were never recorded are freed and resized like any others, and change nothing but one counter. */
#include "check.h"

#define COUNT 1000

/* glibc's own names, which nobody interposes: for the tables such a block is as old as one from before the start. */
extern void *__libc_malloc(size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static void *unrecorded(int i) {
    static const size_t sizes[] = {1, 24, 40, 1000, 40000, 300000};
    size_t size = sizes[i % 6];
    return i % 7 == 0 ? __libc_memalign(256, size) : __libc_malloc(size);
}

int main(int argc, char **argv) {
    void *before[COUNT];
    for (int i = 0; i < COUNT; i++) before[i] = unrecorded(i);
    start(argc, argv);
    for (int i = 0; i < COUNT; i++) CHECK(!live_word(before[i]).there);

    struct nlt_thread sums = totals();
    for (int i = 0; i < COUNT; i += 2) free(before[i]);
    CHECK_EQUAL(totals().untracked_frees - sums.untracked_frees, COUNT / 2);
    CHECK_EQUAL(totals().freed_blocks, sums.freed_blocks);
    CHECK_EQUAL(totals().freed_bytes, sums.freed_bytes);

    /* Resized, it is still a block from before: known by now, but of nobody's scope. */
    for (int i = 1; i < COUNT; i += 2) {
        CHECK((before[i] = realloc(before[i], 777)) != NULL);
        CHECK(live_word(before[i]).there);
        CHECK_EQUAL(live_word(before[i]).size_bytes, 777);
        CHECK_EQUAL(live_word(before[i]).epoch, NLT_EPOCH_OLDER);
    }
    sums = totals();
    for (int i = 1; i < COUNT; i += 2) {
        uintptr_t address = (uintptr_t)before[i];
        free(before[i]);
        CHECK(!live_at(address).there);
    }
    CHECK_EQUAL(totals().freed_blocks - sums.freed_blocks, COUNT / 2);
    CHECK_EQUAL(totals().untracked_frees, sums.untracked_frees);
    CHECK_EQUAL(shim.ledger->losses.dropped_blocks, 0);
    return 0;
}
