/* What the tests of the frozen copy share. */
#ifndef FROZEN_H
#define FROZEN_H

#include "check.h"

#include <signal.h>
#include <sys/wait.h>

#define MAX_THREADS 256

struct copy {
    struct nlt_frozen frozen;
    struct nlt_frozen_thread threads[MAX_THREADS];
};

MAYBE_UNUSED static void freeze(struct copy *copy) {
    int status = shim.freeze(&copy->frozen, copy->threads, MAX_THREADS);
    if (status != NLT_FROZEN) dprintf(2, "nlt_freeze: %d, errno %d\n", status, copy->frozen.error);
    CHECK_EQUAL(status, NLT_FROZEN);
    CHECK(copy->frozen.pid > 0);
    CHECK(copy->frozen.threads >= 1 && copy->frozen.threads <= MAX_THREADS);
}

MAYBE_UNUSED static void thaw(struct copy *copy) {
    shim.thaw(copy->frozen.pid);
    CHECK_EQUAL(kill(copy->frozen.pid, 0), -1); /* not even as a zombie */
    CHECK_EQUAL(errno, ESRCH);
}

MAYBE_UNUSED static uint64_t word_in(const struct copy *copy, const volatile void *address) {
    uint64_t word;
    CHECK_EQUAL(shim.read_memory(copy->frozen.pid, (uint64_t)(uintptr_t)address, &word, sizeof word), sizeof word);
    return word;
}

MAYBE_UNUSED static const struct nlt_frozen_thread *thread_in(const struct copy *copy, uint32_t tid) {
    for (uint32_t i = 0; i < copy->frozen.threads; i++)
        if (copy->threads[i].tid == tid) return &copy->threads[i];
    return NULL;
}

#endif
