/* Random operations on 64 threads that hand blocks to each other, compared block by block with a model: each address, each
 * size, and nothing else of that scope. */
#include "check.h"

#include <pthread.h>

#define THREADS 64
#define OPERATIONS 4000
#define OWN 50
#define MAILBOXES 128
#define ROUNDS 4

struct block {
    void *start;
    size_t size_bytes;
};
static struct mailbox {
    pthread_mutex_t lock;
    struct block block;
} mailboxes[MAILBOXES];
static struct block owned[THREADS][OWN];
static uint32_t scope, tag;

static size_t random_size(unsigned *seed) {
    unsigned n = (unsigned)rand_r(seed);
    if (n % 1000 == 0) return 140000 + n % 300000; /* mmapped */
    if (n % 50 == 0) return 32000 + n % 3000;
    return n % 700;
}

static struct block allocate(unsigned *seed) {
    struct block block = {NULL, random_size(seed)};
    switch (rand_r(seed) % 4) {
    case 0: block.start = calloc(1, block.size_bytes); break;
    case 1: block.start = aligned_alloc(64, block.size_bytes); break;
    case 2: CHECK_EQUAL(posix_memalign(&block.start, 32u << rand_r(seed) % 6, block.size_bytes), 0); break;
    default: block.start = malloc(block.size_bytes); break;
    }
    CHECK(block.start != NULL);
    return block;
}

static void *work(void *argument) {
    intptr_t index = (intptr_t)argument;
    unsigned seed = (unsigned)index * 7919u + tag;
    struct block *own = owned[index];
    shim.thread_scope(scope);
    for (int i = 0; i < OPERATIONS; i++) {
        struct block *block = &own[rand_r(&seed) % OWN];
        switch (rand_r(&seed) % 4) {
        case 0:
            if (block->start != NULL) {
                size_t size = random_size(&seed) + 1;
                block->start = realloc(block->start, size);
                CHECK(block->start != NULL);
                block->size_bytes = size;
                break;
            }
            /* fall through */
        case 1:
            free(block->start);
            *block = allocate(&seed);
            break;
        case 2:
            free(block->start);
            *block = (struct block){NULL, 0};
            break;
        default: { /* to whoever comes next, who resizes or frees it */
            struct mailbox *mailbox = &mailboxes[rand_r(&seed) % MAILBOXES];
            pthread_mutex_lock(&mailbox->lock);
            struct block other = mailbox->block;
            mailbox->block = *block;
            pthread_mutex_unlock(&mailbox->lock);
            *block = other;
        }
        }
    }
    shim.thread_scope(0);
    return NULL;
}

static uint32_t check_block(struct block *block) {
    if (block->start == NULL) return 0;
    struct live live = live_word(block->start);
    CHECK(live.there);
    CHECK_EQUAL(live.size_bytes, block->size_bytes);
    CHECK_EQUAL(live.tag, tag);
    CHECK(live.context > NLT_CONTEXT_ROOT);
    return 1;
}

static void release(struct block *block) {
    free(block->start);
    *block = (struct block){NULL, 0};
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int i = 0; i < MAILBOXES; i++) pthread_mutex_init(&mailboxes[i].lock, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        scope = shim.scope_open(0, &tag);
        CHECK(scope != 0);
        for (intptr_t i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, work, (void *)i), 0);
        for (int i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);

        uint32_t expected = 0;
        for (int i = 0; i < THREADS * OWN; i++) expected += check_block(&owned[0][0] + i);
        for (int i = 0; i < MAILBOXES; i++) expected += check_block(&mailboxes[i].block);
        CHECK(expected > THREADS);
        CHECK_EQUAL(live_blocks_of_tag(tag), expected);
        for (int i = 0; i < THREADS * OWN; i++) release(&owned[0][0] + i);
        for (int i = 0; i < MAILBOXES; i++) release(&mailboxes[i].block);
        CHECK_EQUAL(live_blocks_of_tag(tag), 0);
        shim.scope_close(scope);
    }
    CHECK_EQUAL(shim.ledger->losses.dropped_blocks, 0);
    CHECK_EQUAL(shim.ledger->losses.missed_frees, 0);
    return 0;
}
