/* While the hooks are out, frees pass unseen. What the first session recorded proves nothing in the second. */
#include "check.h"

#define COUNT 400

static bool is_of_this_session(uintptr_t address) {
    struct live live = live_at(address);
    return live.there && live.session == shim.ledger->session;
}

/* A block that was large enough to keep its size in the word behind its own; later, small blocks live where it was. The old
 * word must not make anybody take a small block's word for a size, or wipe it out. */
static void stale_words_of_large_blocks(void) {
    char *large = malloc(100000);
    uintptr_t old = (uintptr_t)large;
    CHECK(is_live(large, 100000));
    CHECK_EQUAL(shim.detach(), NLT_OK);
    free(large);
    enum { TRIES = 20000 };
    static void *tries[TRIES];
    int unrecorded = -1;
    for (int i = 0; i < TRIES && unrecorded < 0; i++)
        if ((uintptr_t)(tries[i] = malloc(24)) == old) unrecorded = i;
    CHECK(unrecorded >= 0); /* glibc splits the freed block from its start */
    install_and_record();
    void *next = malloc(24);
    CHECK_EQUAL((uintptr_t)next - old, 32);
    CHECK(is_live(next, 24));
    CHECK(!is_of_this_session(old));
    shim.thread_scope(shim.scope);
    void *in_scope = malloc(24);
    shim.thread_scope(0);
    CHECK_EQUAL(live_blocks_of_tag(shim.tag), 1);
    free(tries[unrecorded]); /* its word, if there is one, is the large block's */
    CHECK(is_live(next, 24));
    free(in_scope);
    CHECK_EQUAL(live_blocks_of_tag(shim.tag), 0);
}

int main(int argc, char **argv) {
    void *block[COUNT], *again[COUNT];
    start(argc, argv);
    uint32_t first_session = shim.ledger->session;
    for (int i = 0; i < COUNT; i++) CHECK(is_live(block[i] = malloc(100), 100));

    CHECK_EQUAL(shim.detach(), NLT_OK);
    for (int i = 0; i < COUNT; i += 2) free(block[i]);
    install_and_record();
    CHECK(shim.ledger->session > first_session);
    for (int i = 0; i < COUNT; i++) CHECK(!is_of_this_session((uintptr_t)block[i]));

    /* The allocator hands the same addresses out again: they are this session's now. */
    for (int i = 0; i < COUNT; i++) CHECK(is_live(again[i] = malloc(100), 100));
    for (int i = 0; i < COUNT; i++) {
        uintptr_t address = (uintptr_t)again[i];
        free(again[i]);
        CHECK(!live_at(address).there);
    }
    for (int i = 1; i < COUNT; i += 2) free(block[i]);
    stale_words_of_large_blocks();
    return 0;
}
