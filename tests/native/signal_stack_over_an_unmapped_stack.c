/* Handlers run on the alternate stack, always at the same addresses, while the stacks that they interrupt come and go. What the
 * walker remembers of an interrupted coroutine must not be read any more when that coroutine's stack is gone. */
#include "unwinder.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES (64 * 1024)
#define DEPTHS 8

static ucontext_t main_context, coroutine_context;
static volatile int handler_depth;

NOINLINE void allocate_at(int depth) {
    if (depth > 0) allocate_at(depth - 1);
    else free(malloc(50));
    NO_TAIL_CALL();
}

void handler(int signal) {
    (void)signal;
    allocate_at(handler_depth);
    NO_TAIL_CALL();
}

NOINLINE void interrupted_at(int depth) {
    if (depth > 0) interrupted_at(depth - 1);
    else raise(SIGUSR1);
    NO_TAIL_CALL();
}

void coroutine(int depth) {
    interrupted_at(depth);
    NO_TAIL_CALL();
}

int main(int argc, char **argv) {
    static char alternate[256 * 1024];
    start(argc, argv);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    CHECK_EQUAL(sigaltstack(&stack, NULL), 0);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);

    for (int depth = 0; depth < DEPTHS; depth++) {
        handler_depth = depth;
        for (int outer = 0; outer < 4; outer++) {
            void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(memory != MAP_FAILED);
            CHECK_EQUAL(getcontext(&coroutine_context), 0);
            coroutine_context.uc_stack.ss_sp = memory;
            coroutine_context.uc_stack.ss_size = STACK_BYTES;
            coroutine_context.uc_link = &main_context;
            makecontext(&coroutine_context, (void (*)(void))coroutine, 1, outer);
            CHECK_EQUAL(swapcontext(&main_context, &coroutine_context), 0);
            CHECK_EQUAL(munmap(memory, STACK_BYTES), 0);
            interrupted_at(outer);
        }
    }
    check_stack_here();
    return 0;
}
