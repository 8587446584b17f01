/* Where a rule is missing or beyond what the walker expresses, it follows the frame pointer and says so. A stack that carries no
 * mark must be the true one. */
#include "unwinder.h"

#include "fixtures/frames.h"

static struct stack seen, expected;
static bool truth_known;

static void callee(void) {
    void *block = malloc(40);
    unwinder_stack(&expected);
    CHECK(is_live(block, 40));
    stack_of(live_word(block).context, &seen);
    free(block);
}

static void check_marked(void (*function)(void (*)(void)), const char *name) {
    for (int round = 0; round < 3; round++) {
        struct nlt_thread before = totals();
        function(callee);
        NO_TAIL_CALL();
        struct nlt_thread after = totals();
        CHECK(is_in(seen.pcs[1], name));
        bool marked = (seen.flags & (NLT_FRAME_APPROXIMATE | NLT_FRAME_BROKEN)) != 0;
        bool counted = after.approximate_stacks + after.broken_stacks > before.approximate_stacks + before.broken_stacks;
        CHECK_EQUAL(counted, marked);
        if (marked) continue;
        if (!truth_known || !same_callers(&seen, &expected)) {
            print_stack("the block's", &seen);
            print_stack("the unwinder's", &expected);
        }
        CHECK(truth_known && same_callers(&seen, &expected));
    }
}

int main(int argc, char **argv) {
    start(argc, argv);
    truth_known = true;
    check_marked(frame_cfa_in_rbx, "frame_cfa_in_rbx");
    check_marked(frame_cfa_in_rbx_without_bp, "frame_cfa_in_rbx_without_bp");
    /* libgcc stops where there are no rules. */
    truth_known = false;
    check_marked(frame_without_rules, "frame_without_rules");
    if (!stack_contains(&seen, "main")) print_stack("the block's", &seen);
    CHECK(stack_contains(&seen, "main"));
    return 0;
}
