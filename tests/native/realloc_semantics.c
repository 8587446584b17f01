/* realloc is a release and an allocation in one call: no word may be lost, doubled or left behind at the old address. */
#include "check.h"

#include <malloc.h>

static volatile size_t huge = PTRDIFF_MAX;
#define CHUNK_HEAP (1ull << NLT_CHUNK_HEAP_SHIFT)

static void *resize(void *old, size_t size) {
    uintptr_t old_address = (uintptr_t)old;
    struct live before = live_at(old_address);
    void *p = realloc(old, size);
    CHECK(p != NULL);
    CHECK(is_live(p, size));
    if ((uintptr_t)p != old_address) CHECK(!live_at(old_address).there);
    if (old != NULL && before.there) CHECK_EQUAL(live_word(p).epoch, before.epoch); /* the same block, resized */
    return p;
}

static void zero_releases(void) {
    void *p = malloc(100);
    uintptr_t address = (uintptr_t)p;
    struct nlt_thread before = totals();
    CHECK(realloc(p, 0) == NULL);
    CHECK(!live_at(address).there);
    CHECK_EQUAL(totals().freed_blocks - before.freed_blocks, 1);
    CHECK_EQUAL(totals().freed_bytes - before.freed_bytes, 100);
}

static void failure_keeps_the_block(size_t size) {
    void *p = malloc(size);
    struct live before = live_word(p);
    struct nlt_thread sums = totals();
    CHECK(realloc(p, huge) == NULL);
    CHECK(is_live(p, size));
    CHECK_EQUAL(live_word(p).context, before.context);
    CHECK_EQUAL(live_word(p).epoch, before.epoch);
    CHECK_EQUAL(totals().freed_blocks, sums.freed_blocks);
    CHECK_EQUAL(totals().freed_bytes, sums.freed_bytes);
    CHECK_EQUAL(totals().allocated_blocks, sums.allocated_blocks);
    free(p);
}

/* Sizes around the border between the word's own field and the word behind it, around mmap's threshold, and the sizes where
 * realloc moves mmapped blocks with mremap. */
static void sizes_are_exact(void) {
    static const size_t sizes[] = {1,       24,      25,        16382,     16383,   16384,     32766,     32767,   32768,     40000,   131071,    131072,  140000,
                                   1 << 20, 5 << 20, 100 << 20, 130 << 20, 3 << 20, 200 << 20, 1 << 16, 33 << 20, 32767, 16};
    void *p = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) p = resize(p, sizes[i]);
    uintptr_t address = (uintptr_t)p;
    free(p);
    CHECK(!live_at(address).there);
}

/* A block whose word is the last of its chunk keeps its size in the first word of the next chunk. glibc cuts such blocks from
 * the top of the heap, back to back, so a filler of the right size puts one there. */
static void block_at_a_chunk_border(uintptr_t distance) {
    enum { HEADER = 8 };
    uintptr_t top = (uintptr_t)malloc(200008) + 200008 + HEADER; /* the next block's address */
    uintptr_t border = ((top + 4096) | (CHUNK_HEAP - 1)) + 1;
    void *filler = malloc(border - distance - top - HEADER);
    CHECK_EQUAL((uintptr_t)filler, top);
    void *block = malloc(20000);
    CHECK_EQUAL(border - (uintptr_t)block, distance);
    CHECK(is_live(block, 20000));
    CHECK(is_live(filler, border - distance - top - HEADER));
    for (size_t size = 20000; size > 15000; size -= 1000) CHECK_EQUAL((uintptr_t)(block = resize(block, size)), border - distance);
    CHECK(realloc(block, huge) == NULL);
    CHECK(is_live(block, 16000));
    CHECK((block = resize(block, 40)) != NULL);
    free(resize(block, 300000));
    CHECK(!live_at(border - distance).there);
}

static void blocks_at_chunk_borders(void) {
    mallopt(M_MMAP_MAX, 0); /* all in one heap, which does not shrink */
    mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    block_at_a_chunk_border(32);
    block_at_a_chunk_border(16);
    block_at_a_chunk_border(64);
    /* And one at a chunk's first word. */
    void *aligned = aligned_alloc(CHUNK_HEAP, 50000);
    CHECK((uintptr_t)aligned % CHUNK_HEAP == 0);
    CHECK(is_live(aligned, 50000));
    free(resize(aligned, 70 << 20));
}

static void runs_of_resizes(void) {
    enum { COUNT = 200 };
    void *p[COUNT] = {NULL};
    size_t size[COUNT] = {0};
    unsigned seed = 1;
    struct nlt_thread before = totals();
    for (int step = 0; step < 20000; step++) {
        int i = rand_r(&seed) % COUNT;
        size[i] = 1 + (size_t)rand_r(&seed) % (step % 50 == 0 ? 200000 : 500);
        p[i] = resize(p[i], size[i]);
    }
    uint64_t bytes = 0;
    for (int i = 0; i < COUNT; i++) {
        CHECK(is_live(p[i], size[i]));
        bytes += size[i];
    }
    CHECK_EQUAL(totals().allocated_bytes - before.allocated_bytes - (totals().freed_bytes - before.freed_bytes), bytes);
    for (int i = 0; i < COUNT; i++) free(p[i]);
}

int main(int argc, char **argv) {
    start(argc, argv);
    void *p = realloc(NULL, 50);
    CHECK(is_live(p, 50));
    free(p);
    zero_releases();
    failure_keeps_the_block(100);
    failure_keeps_the_block(50000);
    failure_keeps_the_block(1 << 20);
    sizes_are_exact();
    blocks_at_chunk_borders();
    runs_of_resizes();
    return 0;
}
