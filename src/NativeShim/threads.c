/* Per-thread state: taken from a pool when a thread first records, given back when the thread ends, never unmapped.
 *
 * A thread that cannot own a state (it is ending, or a signal handler interrupted its recorder) borrows one for the
 * length of a walk, so every allocation is recorded with a full stack. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

__thread struct nltp_tls nltp_tls;

static pthread_key_t exit_key;
static bool exit_key_made;

/* ---- the pool: a lock-free stack; the upper 16 bits of its head count changes, so that a state that was taken and
 *      given back in between is noticed ------------------------------------------------------------------------------ */

#define POINTER_MASK ((UINT64_C(1) << 48) - 1)
static uint64_t pool_head;

static void pool_give(struct nltp_thread *thread) {
    uint64_t head = nltp_load_acquire(&pool_head);
    do thread->next_free = (struct nltp_thread *)(head & POINTER_MASK);
    while (!nltp_cas(&pool_head, &head, ((head & ~POINTER_MASK) + POINTER_MASK + 1) | (uint64_t)thread));
}

static struct nltp_thread *pool_take(void) {
    uint64_t head = nltp_load_acquire(&pool_head);
    while ((head & POINTER_MASK) != 0) {
        struct nltp_thread *thread = (struct nltp_thread *)(head & POINTER_MASK);
        uint64_t next = (uint64_t)nltp_load(&thread->next_free); /* states are never unmapped: safe to read */
        if (nltp_cas(&pool_head, &head, ((head & ~POINTER_MASK) + POINTER_MASK + 1) | next)) return thread;
    }
    struct nltp_thread *thread = nltp_map(sizeof *thread);
    if (thread == NULL) return NULL;
    uint32_t id = nltp_table_take(NLT_TABLE_THREADS, 1);
    uint32_t pending = id != 0 ? nltp_table_take(NLT_TABLE_PENDING, 1) : 0;
    if (pending == 0) {
        nltp_unmap(thread, sizeof *thread);
        return NULL;
    }
    thread->entry = (struct nlt_thread *)nltp_table(NLT_TABLE_THREADS) + id;
    thread->pending = (struct nlt_pending *)nltp_table(NLT_TABLE_PENDING) + pending;
    nltp_store_release(&thread->pending->thread, id);
    return thread;
}

/* ---- a thread's life ------------------------------------------------------------------------------------------------ */

/* Other libraries' destructors of thread-specific data may still allocate after ours: it asks to be called again until the
 * last round that POSIX grants, and only then gives the state back. */
static void on_thread_exit(void *round) {
    uintptr_t next = (uintptr_t)round + 1;
    if (next <= PTHREAD_DESTRUCTOR_ITERATIONS - 1 && pthread_setspecific(exit_key, (void *)(next)) == 0) return;
    struct nltp_thread *thread = nltp_tls.thread;
    nltp_tls.retired = 1;
    nltp_tls.thread = NULL;
    if (thread == NULL) return;
    nltp_totals_flush(thread);
    nltp_store(&thread->entry->tid, 0);
    pool_give(thread);
}

void nltp_threads_init(void) {
    if (!exit_key_made) exit_key_made = pthread_key_create(&exit_key, on_thread_exit) == 0;
}

/* Managed code tells too (nlt_thread_is_finalizer), but only after a first collection, whose finalizers ran before that. The
 * runtime names the thread when it starts (FinalizerThreadStart in src/coreclr/vm/finalizerthread.cpp). */
static bool is_named_finalizer(void) {
    char name[16];
    nltp_thread_name(name);
    return nltp_equal(name, ".NET Finalizer");
}

static NLTP_NOINLINE void prepare(void) {
    int saved_errno = errno;
    nltp_tls.quiet++; /* pthread_setspecific may allocate */
    nltp_tls.busy = 1;
    if (pthread_setspecific(exit_key, (void *)1) == 0) {
        struct nltp_thread *thread = pool_take();
        if (thread != NULL) {
            nltp_store(&thread->entry->thread_pointer, (uint64_t)(uintptr_t)__builtin_thread_pointer());
            nltp_store_release(&thread->entry->tid, nltp_gettid());
            thread->depth = thread->leaf_pc = 0;
            nltp_store(&thread->entry->scope, nltp_tls.scope);
            nltp_tls.thread = thread;
            if (is_named_finalizer()) nltp_tls.finalizer = 1;
        }
    }
    nltp_tls.busy = 0;
    nltp_tls.quiet--;
    errno = saved_errno;
}

struct nltp_thread *nltp_thread_borrow(void) {
    if (nltp_tls.thread == NULL && !nltp_tls.retired && !nltp_tls.busy && exit_key_made) {
        prepare();
        if (nltp_tls.thread != NULL) return nltp_thread_enter();
    }
    struct nltp_thread *thread = pool_take();
    if (thread != NULL) thread->depth = thread->leaf_pc = 0; /* whose stack it remembers is unknown */
    return thread;
}

void nltp_thread_return(struct nltp_thread *thread) {
    pool_give(thread);
}

void nlt_thread_scope(uint32_t scope) {
    nltp_tls.scope = scope;
    if (nltp_tls.thread != NULL) nltp_store(&nltp_tls.thread->entry->scope, scope);
}

void nlt_thread_is_finalizer(void) {
    nltp_tls.finalizer = 1;
}

void nltp_threads_after_fork(void) {
    struct nlt_thread *entries = nltp_table(NLT_TABLE_THREADS);
    struct nlt_thread *own = nltp_tls.thread == NULL ? NULL : nltp_tls.thread->entry;
    uint32_t count = nltp_load(&nltp_ledger->tables[NLT_TABLE_THREADS].count);
    for (uint32_t id = 1; id < count; id++) nltp_store(&entries[id].tid, &entries[id] == own ? nltp_gettid() : 0);
}
