/* Coroutines on stacks of their own: a stack ends cleanly at the coroutine's bottom, and never shows another one's frames. */
#include "unwinder.h"

#include <ucontext.h>

#define COROUTINES 4
#define ROUNDS 50

static ucontext_t main_context, contexts[COROUTINES];
static char stacks[COROUTINES][256 * 1024] __attribute__((aligned(64)));
static void *kept[COROUTINES][ROUNDS];
static struct stack stack;

NOINLINE void *innermost(size_t size, int depth) {
    void *p = depth == 0 ? malloc(size) : innermost(size, depth - 1);
    NO_TAIL_CALL();
    return p;
}

/* The unwinder of libgcc goes on past the bottom on some systems, so the expectation is spelled out. */
NOINLINE void check_coroutine_stack(const void *block, int depth) {
    stack_of(live_word(block).context, &stack);
    for (int i = 0; i <= depth; i++) CHECK(is_in(stack.pcs[i], "innermost"));
    CHECK(is_in(stack.pcs[depth + 1], "coroutine"));
    CHECK(!stack_contains(&stack, "main"));
    CHECK(stack.count == (uint32_t)depth + 2 || stack.count == (uint32_t)depth + 3); /* and __start_context */
    CHECK_EQUAL(stack.flags, 0);
}

void coroutine(int index) {
    for (int round = 0; round < ROUNDS; round++) {
        int depth = (round * 7 + index) % 12;
        CHECK((kept[index][round] = innermost(32, depth)) != NULL);
        check_coroutine_stack(kept[index][round], depth);
        swapcontext(&contexts[index], &main_context);
    }
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int i = 0; i < COROUTINES; i++) {
        CHECK_EQUAL(getcontext(&contexts[i]), 0);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof stacks[i];
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
    }
    struct nlt_thread before = totals();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COROUTINES; i++) CHECK_EQUAL(swapcontext(&main_context, &contexts[i]), 0);
        check_stack_here();
    }
    CHECK_EQUAL(totals().broken_stacks, before.broken_stacks);
    CHECK_EQUAL(totals().approximate_stacks, before.approximate_stacks);
    for (int i = 0; i < COROUTINES; i++)
        for (int round = 0; round < ROUNDS; round++) free(kept[i][round]);
    return 0;
}
