/* longjmp leaves frames without their callers' knowledge: the next stack is right all the same. */
#include "unwinder.h"

#include <setjmp.h>

static jmp_buf back;
static void (*volatile jump)(jmp_buf, int) = longjmp; /* nothing that the compiler knows not to return */

NOINLINE void descend_and_jump(int depth) {
    if (depth > 0) {
        descend_and_jump(depth - 1);
        NO_TAIL_CALL();
    } else {
        check_stack_here();
        jump(back, 1);
    }
}

NOINLINE void try_once(int depth) {
    if (setjmp(back) == 0) descend_and_jump(depth);
    check_stack_here();
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int i = 0; i < 500; i++) try_once(i % 37);
    return 0;
}
