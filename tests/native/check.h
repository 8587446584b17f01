/* What every C test of the shim shares: CHECK, the control functions, and reading the ledger.
 *
 * A test says `start(argc, argv)` where recording must be on. Run as it is, it expects the shim to be preloaded; run with the
 * argument "late", it loads the shim and puts the hooks in at that point. One source, two registrations. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nlt_control.h"

#define SKIPPED 77
#define MAYBE_UNUSED __attribute__((unused))
#define NOINLINE __attribute__((noinline))
/* Behind a call: the call stays a call, and the frame stays a frame. */
#define NO_TAIL_CALL() __asm__ volatile("")

/* _exit: a failed check may stand in a forked child or in a signal handler. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            dprintf(2, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition);                                   \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                                                  \
    do {                                                                                                               \
        long long check_actual = (long long)(actual), check_expected = (long long)(expected);                          \
        if (check_actual != check_expected) {                                                                          \
            dprintf(2, "%s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #actual, check_actual,           \
                    #expected, check_expected);                                                                        \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- the shim ------------------------------------------------------------------------------------------------------ */

static struct {
    const struct nlt_header *ledger;
    const struct nlt_header *(*get_ledger)(void);
    uint32_t scope, tag; /* of the scope that a late start opened; 0 under preload */
    int (*install)(void);
    int (*detach)(void);
    uint32_t (*scope_open)(uint32_t, uint32_t *);
    void (*scope_close)(uint32_t);
    void (*thread_scope)(uint32_t);
    uint32_t (*rebind)(void);
    uint32_t (*walk_here)(uint64_t *, uint32_t);
    int (*freeze)(struct nlt_frozen *, struct nlt_frozen_thread *, uint32_t);
    void (*thaw)(int32_t);
    int64_t (*read_memory)(int32_t, uint64_t, void *, uint64_t);
} shim MAYBE_UNUSED;

MAYBE_UNUSED static bool is_mode(int argc, char **argv, const char *mode) {
    return argc > 1 && strcmp(argv[1], mode) == 0;
}

/* Finds the control functions; RTLD_DEFAULT: those of a preloaded shim. */
MAYBE_UNUSED static void find_shim(void *handle) {
    shim.get_ledger = (const struct nlt_header *(*)(void))dlsym(handle, "nlt_ledger");
    CHECK(shim.get_ledger != NULL);
    shim.install = (int (*)(void))dlsym(handle, "nlt_install");
    shim.detach = (int (*)(void))dlsym(handle, "nlt_detach");
    shim.scope_open = (uint32_t(*)(uint32_t, uint32_t *))dlsym(handle, "nlt_scope_open");
    shim.scope_close = (void (*)(uint32_t))dlsym(handle, "nlt_scope_close");
    shim.thread_scope = (void (*)(uint32_t))dlsym(handle, "nlt_thread_scope");
    shim.rebind = (uint32_t(*)(void))dlsym(handle, "nlt_rebind");
    shim.walk_here = (uint32_t(*)(uint64_t *, uint32_t))dlsym(handle, "nlt_walk_here");
    shim.freeze = (int (*)(struct nlt_frozen *, struct nlt_frozen_thread *, uint32_t))dlsym(handle, "nlt_freeze");
    shim.thaw = (void (*)(int32_t))dlsym(handle, "nlt_thaw");
    shim.read_memory = (int64_t(*)(int32_t, uint64_t, void *, uint64_t))dlsym(handle, "nlt_read_memory");
    CHECK(shim.install && shim.detach && shim.scope_open && shim.scope_close && shim.thread_scope && shim.rebind &&
          shim.walk_here && shim.freeze && shim.thaw && shim.read_memory);
    shim.ledger = shim.get_ledger();
}

/* Loads the shim without its hooks. */
MAYBE_UNUSED static void load_shim(void) {
    void *handle = dlopen(NLT_SHIM_PATH, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) dprintf(2, "%s\n", dlerror());
    CHECK(handle != NULL);
    find_shim(handle);
}

/* Hooks in, recording on. */
MAYBE_UNUSED static void install_and_record(void) {
    CHECK_EQUAL(shim.install(), NLT_OK);
    shim.ledger = shim.get_ledger();
    shim.scope = shim.scope_open(0, &shim.tag);
    CHECK(shim.scope != 0);
}

MAYBE_UNUSED static void start(int argc, char **argv) {
    if (is_mode(argc, argv, "late")) {
        load_shim();
        install_and_record();
    } else {
        find_shim(RTLD_DEFAULT);
    }
    CHECK(shim.ledger != NULL);
    CHECK_EQUAL(shim.ledger->magic, NLT_LEDGER_MAGIC);
}

/* The engine that doubts its own walks (NLT_VERIFY_WALKS) counts here; the others never do. */
__attribute__((destructor)) static void check_walks(void) {
    if (shim.ledger != NULL) CHECK_EQUAL(shim.ledger->losses.walk_differences, 0);
}

/* ---- reading the ledger --------------------------------------------------------------------------------------------- */

MAYBE_UNUSED static const void *table(enum nlt_table_id id) {
    return (const char *)shim.ledger + shim.ledger->tables[id].offset_bytes;
}

MAYBE_UNUSED static uint32_t table_count(enum nlt_table_id id) {
    return __atomic_load_n(&shim.ledger->tables[id].count, __ATOMIC_ACQUIRE);
}

/* Sums over all threads, which are at rest. */
MAYBE_UNUSED static struct nlt_thread totals(void) {
    const struct nlt_thread *threads = (const struct nlt_thread *)table(NLT_TABLE_THREADS);
    const struct nlt_pending *pending = (const struct nlt_pending *)table(NLT_TABLE_PENDING);
    const uint64_t byte_mask = (UINT64_C(1) << NLT_AMOUNT_BYTE_BITS) - 1;
    struct nlt_thread sum;
    memset(&sum, 0, sizeof sum);
    for (uint32_t i = 0; i < table_count(NLT_TABLE_THREADS); i++) {
        sum.allocated_blocks += threads[i].allocated_blocks;
        sum.allocated_bytes += threads[i].allocated_bytes;
        sum.freed_blocks += threads[i].freed_blocks;
        sum.freed_bytes += threads[i].freed_bytes;
        sum.untracked_frees += threads[i].untracked_frees;
        sum.approximate_stacks += threads[i].approximate_stacks;
        sum.broken_stacks += threads[i].broken_stacks;
        for (uint32_t slot = 0; slot < NLT_PENDING_SLOTS; slot++) {
            sum.allocated_blocks += pending[i].slots[slot].allocated >> NLT_AMOUNT_BYTE_BITS;
            sum.allocated_bytes += pending[i].slots[slot].allocated & byte_mask;
            sum.freed_blocks += pending[i].slots[slot].freed >> NLT_AMOUNT_BYTE_BITS;
            sum.freed_bytes += pending[i].slots[slot].freed & byte_mask;
        }
    }
    return sum;
}

struct live {
    bool there;
    uint32_t context, epoch, session, tag;
    uint64_t size_bytes;
};

/* NULL where no block ever lived. */
MAYBE_UNUSED static const uint64_t *word_of(uintptr_t address) {
    const uint64_t *directory = (const uint64_t *)table(NLT_TABLE_DIRECTORY);
    const uint64_t *chunk = (const uint64_t *)__atomic_load_n(&directory[address >> NLT_CHUNK_HEAP_SHIFT], __ATOMIC_ACQUIRE);
    return chunk == NULL ? NULL : &chunk[(address >> NLT_WORD_HEAP_SHIFT) & (NLT_CHUNK_WORDS - 1)];
}

MAYBE_UNUSED static struct live decode(uintptr_t address, uint64_t word) {
    struct live live;
    live.there = word != 0;
    const struct nlt_epoch *epochs = (const struct nlt_epoch *)table(NLT_TABLE_EPOCHS);
    live.context = (uint32_t)(word >> NLT_WORD_CONTEXT_SHIFT);
    live.epoch = (uint32_t)word & ((1u << NLT_EPOCH_BITS) - 1);
    live.session = epochs[live.epoch].session;
    live.tag = epochs[live.epoch].scope_tag;
    live.size_bytes = (word >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE;
    if (live.there && live.size_bytes == NLT_SIZE_ESCAPE) {
        const uint64_t *wide = word_of(address + (1u << NLT_WORD_HEAP_SHIFT));
        live.size_bytes = wide == NULL ? 0 : *wide;
    }
    return live;
}

/* By address, because most of what is asked about has been freed. */
MAYBE_UNUSED static struct live live_at(uintptr_t address) {
    const uint64_t *word = word_of(address);
    uint64_t found = word == NULL ? 0 : __atomic_load_n(word, __ATOMIC_RELAXED);
    if (((found >> NLT_WORD_QUARTER_SHIFT) & 3) != ((address >> 3) & 3)) found = 0;
    return decode(address, found);
}

MAYBE_UNUSED static struct live live_word(const void *block) {
    return live_at((uintptr_t)block);
}

/* Live, of the session that runs now, and of exactly that size. */
MAYBE_UNUSED static bool is_live(const void *block, uint64_t size_bytes) {
    struct live live = live_word(block);
    return live.there && live.size_bytes == size_bytes && live.session == shim.ledger->session;
}

/* Every block in the table (glibc's need no fine chunks), by address. Other threads must be at rest. */
MAYBE_UNUSED static void for_each_live(void (*visit)(uintptr_t address, struct live live, void *context), void *context) {
    const uint64_t *directory = (const uint64_t *)table(NLT_TABLE_DIRECTORY);
    bool is_size = false; /* the word belongs to the block before it */
    for (uint64_t i = 0; i < NLT_DIRECTORY_ENTRIES; i++) {
        const uint64_t *chunk = (const uint64_t *)directory[i];
        if (chunk == NULL) is_size = false;
        for (uint64_t w = 0; chunk != NULL && w < NLT_CHUNK_WORDS; w++) {
            bool skip = is_size;
            is_size = false;
            if (skip || chunk[w] == 0) continue;
            uintptr_t address = i << NLT_CHUNK_HEAP_SHIFT | w << NLT_WORD_HEAP_SHIFT | ((chunk[w] >> NLT_WORD_QUARTER_SHIFT) & 3) << 3;
            is_size = ((chunk[w] >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE) == NLT_SIZE_ESCAPE;
            visit(address, decode(address, chunk[w]), context);
        }
    }
}

MAYBE_UNUSED static void count_if_of_tag(uintptr_t address, struct live live, void *context) {
    uint32_t *tag_and_count = (uint32_t *)context;
    (void)address;
    if (live.tag == tag_and_count[0]) tag_and_count[1]++;
}

MAYBE_UNUSED static uint32_t live_blocks_of_tag(uint32_t tag) {
    uint32_t tag_and_count[2] = {tag, 0};
    for_each_live(count_if_of_tag, tag_and_count);
    return tag_and_count[1];
}

/* ---- stacks -------------------------------------------------------------------------------------------------------------- */

#define STACK_CAPACITY 4200

/* Innermost first. */
struct stack {
    uint32_t count;
    uint8_t flags; /* of all frames together */
    uint64_t pcs[STACK_CAPACITY];
};

MAYBE_UNUSED static void stack_of(uint32_t context, struct stack *stack) {
    const struct nlt_context *nodes = (const struct nlt_context *)table(NLT_TABLE_CONTEXTS);
    stack->count = 0;
    stack->flags = 0;
    for (uint32_t id = context; id > NLT_CONTEXT_ROOT && stack->count < STACK_CAPACITY; id = nodes[id].parent) {
        stack->flags |= nodes[id].flags;
        stack->pcs[stack->count++] = nodes[id].pc;
    }
}

/* Test programs are linked with -rdynamic, so that their functions have names. */
MAYBE_UNUSED static bool is_in(uint64_t pc, const char *function) {
    Dl_info info;
    return dladdr((void *)(pc - 1), &info) != 0 && info.dli_sname != NULL && strcmp(info.dli_sname, function) == 0;
}

MAYBE_UNUSED static bool stack_contains(const struct stack *stack, const char *function) {
    for (uint32_t i = 0; i < stack->count; i++)
        if (is_in(stack->pcs[i], function)) return true;
    return false;
}

#endif
