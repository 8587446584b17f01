/* The one place where recording is ordered against the real call.
 *
 * A release is recorded BEFORE the real call: afterwards the allocator may hand the same address to another thread, whose
 * recording would be wiped out. An allocation is recorded AFTER the real call: before it there is no address. Between
 * the two the block exists and is not in the table; nobody can see it there, because only its owner knows the address. */
#include "shim.h"

/* Kept out of line so that the hooks' own frames stay small. */
static NLTP_NOINLINE void put(void *pointer, size_t size_bytes, uint32_t epoch, const struct nltp_registers *caller) {
    uint32_t context = nltp_walk(caller);
    struct nlt_thread *entry = nltp_thread_entry();
    if (!nltp_block_put((uintptr_t)pointer, size_bytes, context, epoch)) {
        nltp_add(&nltp_ledger->losses.dropped_blocks, 1);
        return;
    }
    nltp_count(entry, &entry->allocated_blocks, 1);
    nltp_count(entry, &entry->allocated_bytes, size_bytes);
}

/* 0: not recording. */
static inline uint32_t current_epoch(void) {
    uint32_t everybody = NLTP_UNLIKELY(nltp_ledger == NULL) ? 0 : nltp_load(&nltp_ledger->current_epoch);
    return everybody != 0 && nltp_tls.scope_epoch != 0 ? nltp_tls.scope_epoch : everybody;
}

void nltp_record_allocation(void *pointer, size_t size_bytes, struct nltp_registers caller) {
    uint32_t epoch = current_epoch();
    if (epoch == 0 || pointer == NULL || nltp_tls.quiet != 0) return;
    put(pointer, size_bytes, epoch, &caller);
}

static inline struct nltp_block take(void *pointer) {
    struct nltp_block block = nltp_block_take((uintptr_t)pointer);
    struct nlt_thread *entry = nltp_thread_entry();
    if (block.word == 0) {
        nltp_count(entry, &entry->untracked_frees, 1);
        return block;
    }
    nltp_count(entry, &entry->freed_blocks, 1);
    nltp_count(entry, &entry->freed_bytes, block.size_bytes);
    return block;
}

void nltp_record_release(void *pointer) {
    if (nltp_ledger != NULL && pointer != NULL) take(pointer);
}

struct nltp_block nltp_record_resize_begin(void *pointer) {
    if (nltp_ledger == NULL || pointer == NULL) return (struct nltp_block){0, 0};
    return take(pointer);
}

void nltp_record_resize_end(void *pointer, struct nltp_block old, void *result, size_t size_bytes,
                            struct nltp_registers caller) {
    if (result == NULL) {
        /* A size of zero released the block (glibc); any other size failed and left the block as it was. */
        if (old.word != 0 && size_bytes != 0) {
            struct nlt_thread *entry = nltp_thread_entry();
            nltp_block_restore((uintptr_t)pointer, old);
            nltp_count(entry, &entry->freed_blocks, (uint64_t)-1);
            nltp_count(entry, &entry->freed_bytes, -old.size_bytes);
        }
        return;
    }
    /* A resized block is the same block: it keeps its epoch, and one from before the recording stays from before. */
    if (old.word != 0) {
        put(result, size_bytes, nltp_word_epoch(old.word), &caller);
    } else if (current_epoch() != 0 && nltp_tls.quiet == 0) {
        put(result, size_bytes, pointer == NULL ? current_epoch() : NLT_EPOCH_OLDER, &caller);
    }
}
