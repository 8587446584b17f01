/* Allocations before the shim's constructor ran, and after its destructor. */
#include "check.h"

#include "fixtures/early_and_late.h"

static bool end_reached;

static void last_checks(void) {
    void *p = malloc(33);
    CHECK(is_live(p, 33));
    uintptr_t address = (uintptr_t)p;
    free(p);
    CHECK(!live_at(address).there);
    end_reached = true;
}

/* The last destructor of all is in the C library: what it says is the exit code. */
static void exit_code(void) {
    last_checks();
    CHECK(end_reached);
    write(1, "end reached\n", 12);
}

int main(int argc, char **argv) {
    bool late = is_mode(argc, argv, "late");
    start(argc, argv);
    for (int i = 0; i < EARLY_BLOCKS; i++) CHECK_EQUAL(live_word(early_blocks[i]).there, !late);
    if (!late)
        for (int i = 0; i < EARLY_BLOCKS; i++) CHECK(is_live(early_blocks[i], 70));
    at_the_very_end = exit_code;
    return 0;
}
