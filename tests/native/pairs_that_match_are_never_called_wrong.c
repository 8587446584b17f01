/* Every kind of allocation, released once: on the thread that made it, on another, resized, unrecorded, reused at once. Nothing is
 * listed, and nothing looks wrong. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>

#include "pairing.h"

enum { PAIRS = 12000, THREADS = 4, HELD = 64 };

static void *allocate(unsigned kind, size_t size) {
    void *p = NULL;
    switch (kind % 10) {
    case 0: return malloc(size);
    case 1: return calloc(3, size / 3 + 1);
    case 2: return realloc(NULL, size);
    case 3: CHECK_EQUAL(posix_memalign(&p, 64, size), 0); return p;
    case 4: return aligned_alloc(32, (size + 31) & ~(size_t)31);
    case 5: return memalign(128, size);
    case 6: return valloc(size);
    case 7: return strdup("a text that the C library copies");
    case 8: return reallocarray(malloc(10), size / 8 + 1, 8);
    default: return realloc(realloc(malloc(16), size), size / 2 + 1);
    }
}

/* Taken out by any thread, put in by any thread. */
static void *held[HELD];

static void *work(void *seed_of_thread) {
    unsigned seed = (unsigned)(uintptr_t)seed_of_thread;
    for (int i = 0; i < PAIRS * 10; i++) {
        bool unrecorded = i % 7 == 0;
        size_t size = (size_t)rand_r(&seed) % (i % 100 == 0 ? 300000 : 700);
        if (unrecorded) pairing.quiet(1);
        char *p = allocate((unsigned)i, size + 1);
        if (unrecorded) pairing.quiet(0);
        CHECK(p != NULL);
        p[0] = 1;
        free(__atomic_exchange_n(&held[rand_r(&seed) % HELD], p, __ATOMIC_ACQ_REL));
        if (i % 50 == 0) CHECK(realloc(NULL, PTRDIFF_MAX) == NULL);
    }
    return NULL;
}

/* The address stays the caller's own when it cannot be resized. */
static void failed_realloc_keeps_the_block(void) {
    static volatile size_t huge = PTRDIFF_MAX;
    for (int i = 0; i < PAIRS; i++) {
        void *p = malloc(100);
        CHECK(realloc(p, huge) == NULL);
        free(p);
    }
}

static void unrecorded_reuse_of_a_recorded_address(void) {
    for (int i = 0; i < PAIRS; i++) {
        void *recorded = malloc(56);
        free(recorded);
        pairing.quiet(1);
        void *unrecorded = malloc(56);
        pairing.quiet(0);
        CHECK(unrecorded == recorded);
        free(unrecorded);
    }
}

/* In a late start the dynamic linker makes such texts past the hooks, and the C library releases them. */
static void texts_of_the_dynamic_linker(void) {
    char name[64];
    for (int i = 0; i < PAIRS; i++) {
        for (size_t size = 16; size <= 128; size += 16) free(malloc(size));
        snprintf(name, sizeof name, "/nowhere/%d.so", i);
        CHECK(dlopen(name, RTLD_NOW) == NULL);
        CHECK(i % 2 == 0 || dlerror() != NULL);
    }
}

static void blocks_from_before(void **blocks, int count) {
    for (int i = 0; i < count; i++) free(blocks[i]);
}

int main(int argc, char **argv) {
    static void *before[PAIRS];
    for (int i = 0; i < PAIRS; i++) before[i] = allocate((unsigned)i, 40);
    start(argc, argv);
    find_pairing();
    CHECK(pairing.begin());
    uint64_t missed = shim.ledger->losses.missed_frees;
    blocks_from_before(before, PAIRS);
    failed_realloc_keeps_the_block();
    unrecorded_reuse_of_a_recorded_address();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < HELD; i++) free(held[i]);
    CHECK_EQUAL(shim.ledger->losses.uncertain_releases, 0);
    texts_of_the_dynamic_linker();
    CHECK_EQUAL(listed(), 0);
    CHECK_EQUAL(shim.ledger->losses.missed_frees, missed);
    pairing.end();
    return 0;
}
