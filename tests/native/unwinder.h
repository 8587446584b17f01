/* The system's own unwinder (libgcc), to compare the shim's stacks with. */
#ifndef UNWINDER_H
#define UNWINDER_H

#include "check.h"

#include <unwind.h>

static _Unwind_Reason_Code unwinder_frame(struct _Unwind_Context *context, void *argument) {
    struct stack *stack = argument;
    uint64_t pc = _Unwind_GetIP(context);
    if (pc != 0 && stack->count < STACK_CAPACITY) stack->pcs[stack->count++] = pc;
    return _URC_NO_REASON;
}

/* The caller's own frame first. */
static inline __attribute__((always_inline)) void unwinder_stack(struct stack *stack) {
    stack->count = 0;
    stack->flags = 0;
    _Unwind_Backtrace(unwinder_frame, stack);
}

MAYBE_UNUSED static void print_stack(const char *title, const struct stack *stack) {
    dprintf(2, "%s: %u frames, flags %u\n", title, stack->count, stack->flags);
    for (uint32_t i = 0; i < stack->count && i < 40; i++) {
        Dl_info info = {0};
        dladdr((void *)(stack->pcs[i] - 1), &info);
        dprintf(2, "  %#llx %s\n", (unsigned long long)stack->pcs[i], info.dli_sname == NULL ? "?" : info.dli_sname);
    }
}

MAYBE_UNUSED static bool same_callers(const struct stack *a, const struct stack *b) {
    /* Both begin in one function, at different calls. */
    return a->count == b->count && memcmp(&a->pcs[1], &b->pcs[1], (a->count - 1) * sizeof a->pcs[0]) == 0;
}

/* The last stack that check_stack_here() saw. */
static struct stack here_seen, here_expected MAYBE_UNUSED;

/* The stack of a block, the walk and the system's unwinder must agree in every frame. */
MAYBE_UNUSED NOINLINE static void check_stack_here(void) {
    void *block = malloc(40);
    unwinder_stack(&here_expected);
    CHECK(is_live(block, 40));
    stack_of(live_word(block).context, &here_seen);
    if (!same_callers(&here_seen, &here_expected)) {
        print_stack("the block's", &here_seen);
        print_stack("the unwinder's", &here_expected);
    }
    CHECK(same_callers(&here_seen, &here_expected));
    CHECK_EQUAL(here_seen.flags & ~NLT_FRAME_EXACT_PC, 0);
    struct stack *walked = &here_seen;
    walked->count = shim.walk_here(walked->pcs, STACK_CAPACITY);
    CHECK(same_callers(walked, &here_expected));
    free(block);
}

#endif
