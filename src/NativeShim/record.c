/* The one place where recording is ordered against the real call.
 *
 * A release is recorded BEFORE the real call: afterwards the allocator may hand the same address to another thread, whose
 * recording would be wiped out. An allocation is recorded AFTER the real call: before it there is no address. Between
 * the two the block exists and is not in the table; nobody can see it there, because only its owner knows the address. */
#include "shim.h"

/* 0: not recording. */
static inline uint32_t current_epoch(void) {
    return NLTP_UNLIKELY(nltp_load_acquire(nltp_gate) == 0) ? 0 : nltp_load(&nltp_scopes[nltp_tls.scope].epoch);
}

static inline void put(void *pointer, size_t size_bytes, uint32_t epoch, uintptr_t return_address, const uintptr_t *hook_frame) {
    struct nltp_thread *thread = nltp_thread_enter();
    if (NLTP_UNLIKELY(thread == NULL)) {
        nltp_add(&nltp_ledger->losses.dropped_blocks, 1);
        return;
    }
    uint32_t context = nltp_walk(thread, return_address, (uintptr_t)(hook_frame + 2), hook_frame[0]);
    enum nltp_put put = nltp_block_put((uintptr_t)pointer, size_bytes, context, epoch);
    if (NLTP_LIKELY(put == NLTP_PUT)) {
        nltp_totals_allocated(thread, context, size_bytes);
        nltp_tls.last_recorded = pointer;
    } else if (put == NLTP_NO_MEMORY) {
        nltp_add(&nltp_ledger->losses.dropped_blocks, 1);
    }
    nltp_thread_leave(thread);
}

void nltp_record_allocation(void *pointer, size_t size_bytes, uintptr_t return_address, const uintptr_t *hook_frame) {
    NLTP_WINDOW();
    uint32_t epoch = current_epoch();
    if (NLTP_UNLIKELY(epoch == 0 || pointer == NULL || nltp_tls.quiet != 0)) return;
    put(pointer, size_bytes, epoch, return_address, hook_frame);
}

/* A thread without memory for a state of its own still takes its blocks away. */
static NLTP_NOINLINE void count_stateless(struct nltp_block block) {
    struct nlt_thread *shared = nltp_table(NLT_TABLE_THREADS);
    nltp_add(block.word != 0 ? &shared->freed_blocks : &shared->untracked_frees, 1);
    nltp_add(&shared->freed_bytes, block.size_bytes);
    nltp_add(&nltp_ledger->losses.lost_threads, 1);
}

static inline struct nltp_block take(void *pointer) {
    struct nltp_block block = nltp_block_take((uintptr_t)pointer);
    struct nltp_thread *thread = nltp_thread_enter();
    if (NLTP_UNLIKELY(thread == NULL)) {
        count_stateless(block);
        return block;
    }
    if (NLTP_LIKELY(block.word != 0)) {
        nltp_totals_freed(thread, nltp_word_context(block.word), block.size_bytes);
    } else {
        nltp_bump(&thread->entry->untracked_frees, 1);
    }
    nltp_thread_leave(thread);
    return block;
}

/* Somebody did not dispose what the finalizer now releases: both stacks are kept for the scope that the block was made in. */
static NLTP_NOINLINE void note_finalized(uintptr_t address, struct nltp_block block, uintptr_t return_address,
                                         const uintptr_t *hook_frame) {
    if (!nltp_is_of_open_scope(block.word)) return;
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return;
    uint32_t context = nltp_walk(thread, return_address, (uintptr_t)(hook_frame + 2), hook_frame[0]);
    nltp_thread_leave(thread);
    nltp_note_finalized(address, block.word, block.size_bytes, context);
}

static inline bool may_release(const void *pointer) {
    return NLTP_LIKELY(nltp_directory != NULL && pointer != NULL) && *nltp_may_write != 0;
}

bool nltp_record_release(void *pointer, uintptr_t return_address, const uintptr_t *hook_frame) {
    if (!may_release(pointer)) return false;
    struct nltp_block block = take(pointer);
    if (NLTP_UNLIKELY(nltp_tls.finalizer) && block.word != 0)
        note_finalized((uintptr_t)pointer, block, return_address, hook_frame);
    NLTP_WINDOW();
    return block.word != 0;
}

void nltp_record_missed_release(struct nltp_block block) {
    nltp_add(&nltp_ledger->losses.missed_frees, 1);
    struct nltp_thread *thread = nltp_thread_enter(); /* a borrowed one: the thread is recording */
    if (thread == NULL) return;
    nltp_totals_freed(thread, nltp_word_context(block.word), block.size_bytes);
    nltp_thread_leave(thread);
}

struct nltp_block nltp_record_resize_begin(void *pointer) {
    if (!may_release(pointer)) return (struct nltp_block){0, 0};
    struct nltp_block block = take(pointer);
    NLTP_WINDOW();
    return block;
}

/* The release that was recorded did not happen. */
static NLTP_NOINLINE void put_back(void *pointer, struct nltp_block block) {
    nltp_block_put((uintptr_t)pointer, block.size_bytes, nltp_word_context(block.word), nltp_word_epoch(block.word));
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return;
    nltp_totals_unfreed(thread, nltp_word_context(block.word), block.size_bytes);
    nltp_thread_leave(thread);
}

void nltp_record_resize_end(void *pointer, struct nltp_block old, void *result, size_t size_bytes, uintptr_t return_address,
                            const uintptr_t *hook_frame) {
    NLTP_WINDOW();
    if (result == NULL) {
        /* A size of zero released the block (glibc); any other size failed and left the block as it was. */
        if (old.word != 0 && size_bytes != 0) put_back(pointer, old);
        return;
    }
    /* A resized block is the same block: it keeps its epoch, and one from before the recording stays from before. */
    if (old.word != 0) {
        put(result, size_bytes, nltp_word_epoch(old.word), return_address, hook_frame);
    } else if (current_epoch() != 0 && nltp_tls.quiet == 0) {
        uint32_t epoch = pointer == NULL ? current_epoch() : NLT_EPOCH_OLDER;
        put(result, size_bytes, epoch, return_address, hook_frame);
    }
}
