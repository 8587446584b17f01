/* A thousand sessions while other threads allocate: no crash, every block of a session is seen in it, and no block is blamed
 * on a session that was not its own. */
#include "check.h"

#include <pthread.h>

#define SESSIONS 1000
#define LOAD_SIZE 3001 /* nobody else's */

static volatile bool done;

static void *load(void *unused) {
    (void)unused;
    unsigned char *p[32] = {NULL};
    for (unsigned i = 0; !done; i++) {
        unsigned char **slot = &p[i % 32], mark = (unsigned char)(i % 32 + 1);
        if (*slot != NULL) CHECK(**slot == mark);
        if (i % 5 == 0) {
            CHECK((*slot = realloc(*slot, LOAD_SIZE)) != NULL);
        } else {
            free(*slot);
            *slot = malloc(LOAD_SIZE);
        }
        **slot = mark;
    }
    for (int i = 0; i < 32; i++) free(p[i]);
    return NULL;
}

static void count_load(uintptr_t address, struct live live, void *context) {
    (void)address;
    if (live.session == shim.ledger->session && live.epoch != NLT_EPOCH_OLDER && live.size_bytes == LOAD_SIZE) ++*(uint32_t *)context;
}

int main(int argc, char **argv) {
    alarm(120);
    CHECK(is_mode(argc, argv, "late"));
    load_shim();
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, load, NULL), 0);
    for (int session = 0; session < SESSIONS; session++) {
        void *p[10];
        install_and_record();
        shim.thread_scope(shim.scope);
        for (int i = 0; i < 10; i++) CHECK(is_live(p[i] = malloc(200 + (size_t)i), 200 + (uint64_t)i));
        for (int i = 0; i < 10; i += 2) {
            uintptr_t address = (uintptr_t)p[i];
            free(p[i]);
            CHECK(!live_at(address).there);
        }
        for (int i = 1; i < 10; i += 2) CHECK(is_live(p[i], 200 + (uint64_t)i));
        if (session == SESSIONS - 1) {
            /* The last session lasts until the threads have freed everything: none of their blocks may be outstanding. */
            done = true;
            for (int i = 0; i < 2; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
            uint32_t outstanding = 0;
            for_each_live(count_load, &outstanding);
            CHECK_EQUAL(outstanding, 0);
            CHECK_EQUAL(live_blocks_of_tag(shim.tag), 5);
        }
        shim.thread_scope(0);
        CHECK_EQUAL(shim.detach(), NLT_OK);
        for (int i = 1; i < 10; i += 2) free(p[i]);
    }
    CHECK_EQUAL(shim.ledger->losses.dropped_blocks, 0);
    return 0;
}
