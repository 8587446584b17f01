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
        nltp_tls.not_last_recorded = ~(uintptr_t)pointer;
    } else if (put == NLTP_NO_MEMORY) {
        nltp_add(&nltp_ledger->losses.dropped_blocks, 1);
    }
    nltp_thread_leave(thread);
}

/* The tracker's own memory is in no count and no report. But it is known as what it is: pointers in it hold nothing, and whoever
 * takes every block that is not recorded for one from before the recording would believe them. */
static NLTP_NOINLINE void put_own(void *pointer, size_t size_bytes) {
    nltp_block_put((uintptr_t)pointer, size_bytes, NLT_CONTEXT_ROOT, NLT_EPOCH_OLDER);
}
static inline bool is_own(uint64_t word) {
    return nltp_word_context(word) == NLT_CONTEXT_ROOT && nltp_word_epoch(word) == NLT_EPOCH_OLDER;
}

void nltp_record_allocation(void *pointer, size_t size_bytes, uintptr_t return_address, const uintptr_t *hook_frame) {
    NLTP_WINDOW();
    if (NLTP_UNLIKELY(nltp_load(&nltp_pairing_period) != 0)) nltp_pairing_handed_out(pointer); /* recorded or not */
    uint32_t epoch = current_epoch();
    if (NLTP_UNLIKELY(epoch == 0 || pointer == NULL)) return;
    if (NLTP_UNLIKELY(nltp_tls.quiet != 0)) put_own(pointer, size_bytes);
    else put(pointer, size_bytes, epoch, return_address, hook_frame);
}

/* A thread without memory for a state of its own still takes its blocks away. */
static NLTP_NOINLINE void count_stateless(struct nltp_block block) {
    struct nlt_thread *shared = nltp_table(NLT_TABLE_THREADS);
    bool is_counted = block.word != 0 && !is_own(block.word);
    nltp_add(is_counted ? &shared->freed_blocks : &shared->untracked_frees, 1);
    if (is_counted) nltp_add(&shared->freed_bytes, block.size_bytes);
    nltp_add(&nltp_ledger->losses.lost_threads, 1);
}

static inline struct nltp_block take(void *pointer) {
    struct nltp_block block = nltp_block_take((uintptr_t)pointer);
    struct nltp_thread *thread = nltp_thread_enter();
    if (NLTP_UNLIKELY(thread == NULL)) {
        count_stateless(block);
        return block;
    }
    if (NLTP_LIKELY(block.word != 0 && !is_own(block.word))) {
        nltp_totals_freed(thread, nltp_word_context(block.word), block.size_bytes);
    } else {
        nltp_bump(&thread->entry->untracked_frees, 1);
    }
    nltp_thread_leave(thread);
    return block;
}

/* What is more to do for a release where somebody asks: list it if the finalizer thread makes it for a block of an open scope, remember
 * it so that a second one is noticed, or judge one of no live block. */
static NLTP_NOINLINE bool watch_release(uintptr_t address, struct nltp_block block, uintptr_t return_address, const uintptr_t *hook_frame) {
    uint32_t period = nltp_load_acquire(&nltp_pairing_period);
    if (block.word == 0) return period == 0 || nltp_pairing_allows(period, address, false, return_address, hook_frame, NULL);
    bool finalized = nltp_tls.finalizer && nltp_is_of_open_scope(block.word);
    if (!finalized && period == 0) return true;
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return true;
    uint32_t context = nltp_walk(thread, return_address, (uintptr_t)(hook_frame + 2), hook_frame[0]);
    nltp_thread_leave(thread);
    if (finalized) nltp_note_finalized(address, block.word, block.size_bytes, context);
    if (period != 0) nltp_pairing_note(period, address, block, context);
    return true;
}

static inline bool may_release(const void *pointer) {
    return NLTP_LIKELY(nltp_directory != NULL && pointer != NULL) && *nltp_may_write != 0;
}

bool nltp_record_release(void *pointer, uintptr_t return_address, const uintptr_t *hook_frame) {
    if (!may_release(pointer)) return true;
    struct nltp_block block = take(pointer);
    bool allowed = true;
    if (NLTP_UNLIKELY((nltp_tls.finalizer | nltp_load(&nltp_pairing_period)) != 0))
        allowed = watch_release((uintptr_t)pointer, block, return_address, hook_frame);
    NLTP_WINDOW();
    return allowed;
}

void nltp_record_missed_release(struct nltp_block block) {
    nltp_add(&nltp_ledger->losses.missed_frees, 1);
    if (is_own(block.word)) return;
    struct nltp_thread *thread = nltp_thread_enter(); /* a borrowed one: the thread is recording */
    if (thread == NULL) return;
    nltp_totals_freed(thread, nltp_word_context(block.word), block.size_bytes);
    nltp_thread_leave(thread);
}

/* The finalizer thread's resizes are of no interest: the block stays. */
static NLTP_NOINLINE bool watch_resize(void *pointer, struct nltp_block *block, uintptr_t return_address, const uintptr_t *hook_frame) {
    uint32_t period = nltp_load_acquire(&nltp_pairing_period);
    if (period == 0) return true;
    if (block->word == 0)
        return nltp_pairing_allows(period, (uintptr_t)pointer, true, return_address, hook_frame, &block->size_bytes);
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return true;
    uint32_t context = nltp_walk(thread, return_address, (uintptr_t)(hook_frame + 2), hook_frame[0]);
    nltp_thread_leave(thread);
    nltp_pairing_note(period, (uintptr_t)pointer, *block, context);
    return true;
}

bool nltp_record_resize_begin(void *pointer, struct nltp_block *block, uintptr_t return_address, const uintptr_t *hook_frame) {
    *block = (struct nltp_block){0, 0};
    if (!may_release(pointer)) return true;
    *block = take(pointer);
    bool allowed = true;
    if (NLTP_UNLIKELY(nltp_load(&nltp_pairing_period) != 0)) allowed = watch_resize(pointer, block, return_address, hook_frame);
    NLTP_WINDOW();
    return allowed;
}

/* The release that was recorded did not happen. */
static NLTP_NOINLINE void put_back(void *pointer, struct nltp_block block) {
    if (nltp_load(&nltp_pairing_period) != 0) nltp_pairing_handed_out(pointer);
    nltp_block_put((uintptr_t)pointer, block.size_bytes, nltp_word_context(block.word), nltp_word_epoch(block.word));
    if (is_own(block.word)) return;
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
    if (NLTP_UNLIKELY(nltp_load(&nltp_pairing_period) != 0)) nltp_pairing_handed_out(result);
    /* A resized block is the same block: it keeps its epoch, and one from before the recording stays from before. */
    if (old.word != 0 && is_own(old.word)) {
        put_own(result, size_bytes);
    } else if (old.word != 0) {
        put(result, size_bytes, nltp_word_epoch(old.word), return_address, hook_frame);
    } else if (current_epoch() != 0 && nltp_tls.quiet != 0) {
        put_own(result, size_bytes);
    } else if (current_epoch() != 0) {
        uint32_t epoch = pointer == NULL ? current_epoch() : NLT_EPOCH_OLDER;
        put(result, size_bytes, epoch, return_address, hook_frame);
    }
}
