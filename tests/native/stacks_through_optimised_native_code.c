/* Stripped libraries without frame pointers, frames of every shape: each stack is what the system's unwinder sees, frame by
 * frame, and runs through the functions that it must run through. */
#include "unwinder.h"

#include "fixtures/frames.h"

static void callee(void) {
    check_stack_here();
    NO_TAIL_CALL();
}

#define CHECK_THROUGH(function, ...)                                                                                   \
    do {                                                                                                               \
        static const char *const names[] = {__VA_ARGS__, "main"};                                                      \
        for (int round = 0; round < 3; round++) {                                                                      \
            function(callee);                                                                                          \
            check_order(names, sizeof names / sizeof names[0]);                                                        \
        }                                                                                                              \
    } while (0)

/* In the last stack, in this order from the inside outwards. */
static void check_order(const char *const *names, size_t count) {
    size_t found = 0;
    for (uint32_t i = 0; i < here_seen.count && found < count; i++) found += is_in(here_seen.pcs[i], names[found]);
    if (found != count) print_stack(names[found], &here_seen);
    CHECK_EQUAL(found, count);
}

int main(int argc, char **argv) {
    start(argc, argv);
    CHECK_THROUGH(frame_plain, "frame_plain_inner", "frame_plain_middle", "frame_plain");
    CHECK_THROUGH(frame_realigned, "frame_realigned_inner", "frame_realigned");
    CHECK_THROUGH(frame_big, "frame_big_inner", "frame_big");
    CHECK_THROUGH(frame_qsort, "frame_compare", "frame_qsort");
    CHECK_THROUGH(frame_bsearch, "frame_compare", "frame_bsearch");
    CHECK_THROUGH(frame_tail, "frame_tail_target", "frame_tail");
    CHECK_THROUGH(frame_variable, "frame_variable");
    CHECK_THROUGH(frame_saved_sp, "frame_saved_sp");
    return 0;
}
