/* More frames than a walk takes: what is cut is marked and counted, the rest is right, and the program does not notice. */
#include "check.h"

#include <pthread.h>

#define DEPTH ((int)NLT_MAX_FRAMES * 3)

static void *deep_block;

NOINLINE void allocate_at_the_bottom(void) {
    deep_block = malloc(48);
    NO_TAIL_CALL();
}

NOINLINE int recurse(int depth) {
    int result = depth == 0 ? (allocate_at_the_bottom(), 0) : recurse(depth - 1) + 1;
    NO_TAIL_CALL();
    return result;
}

/* No two frames in a row, nor any short run of them, are the same: nothing that could be folded. */
NOINLINE int branch(int depth, unsigned path);
#define BRANCH(n)                                                                                                      \
    NOINLINE int branch##n(int depth, unsigned path) {                                                                 \
        int result = branch(depth - 1, path * 1103515245u + 12345u);                                                   \
        NO_TAIL_CALL();                                                                                                \
        return result + n;                                                                                             \
    }
BRANCH(1)
BRANCH(2)
BRANCH(3)
BRANCH(4)

NOINLINE int branch(int depth, unsigned path) {
    if (depth <= 0) return allocate_at_the_bottom(), 0;
    int result;
    switch (path >> 16 & 3) {
    case 0: result = branch1(depth, path); break;
    case 1: result = branch2(depth, path); break;
    case 2: result = branch3(depth, path); break;
    default: result = branch4(depth, path); break;
    }
    NO_TAIL_CALL();
    return result;
}

static void check_deep_block(uint64_t truncated_before) {
    static struct stack stack;
    CHECK(is_live(deep_block, 48));
    stack_of(live_word(deep_block).context, &stack);
    CHECK(is_in(stack.pcs[0], "allocate_at_the_bottom"));
    CHECK(stack.count <= NLT_MAX_FRAMES);
    CHECK(stack.flags & NLT_FRAME_TRUNCATED);
    CHECK_EQUAL(shim.ledger->losses.truncated_stacks - truncated_before, 1);
    free(deep_block);
}

static void *run(void *unused) {
    (void)unused;
    for (int round = 0; round < 5; round++) {
        uint64_t truncated = shim.ledger->losses.truncated_stacks;
        CHECK_EQUAL(recurse(DEPTH), DEPTH);
        check_deep_block(truncated);
        truncated = shim.ledger->losses.truncated_stacks;
        branch(DEPTH / 2, (unsigned)round * 77777u);
        check_deep_block(truncated);
        recurse(10); /* and shallow again */
        static struct stack stack;
        stack_of(live_word(deep_block).context, &stack);
        CHECK_EQUAL(stack.flags, 0);
        CHECK(stack_contains(&stack, "run_deep_recursion"));
        free(deep_block);
    }
    return NULL;
}

void *run_deep_recursion(void *unused) {
    void *result = run(unused);
    NO_TAIL_CALL();
    return result;
}

int main(int argc, char **argv) {
    start(argc, argv);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 20);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, &attributes, run_deep_recursion, NULL), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return 0;
}
