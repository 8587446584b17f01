/* Rules and previous stacks of a library that was closed must not serve the next one at its address. */
#include "unwinder.h"

#define ROUNDS 40

typedef void *(*call_with_frame)(void *(*)(size_t), size_t);

static void *check_in_library(size_t unused) {
    (void)unused;
    check_stack_here();
    CHECK(stack_contains(&here_expected, "call_with_frame"));
    return NULL;
}

NOINLINE static void *allocate(size_t size) {
    void *p = malloc(size);
    NO_TAIL_CALL();
    return p;
}

int main(int argc, char **argv) {
    start(argc, argv);
    static const char *const names[] = {NLT_FIXTURES_DIRECTORY "/libsame_address_small.so",
                                        NLT_FIXTURES_DIRECTORY "/libsame_address_large.so"};
    uintptr_t previous = 0;
    int at_same_address = 0;
    void *kept[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        void *library = dlopen(names[round % 2], RTLD_NOW);
        if (library == NULL) dprintf(2, "%s\n", dlerror());
        CHECK(library != NULL);
        call_with_frame call = (call_with_frame)dlsym(library, "call_with_frame");
        CHECK(call != NULL);
        at_same_address += (uintptr_t)call == previous;
        previous = (uintptr_t)call;
        for (int i = 0; i < 3; i++) call(check_in_library, 0);
        kept[round] = call(allocate, 60);
        CHECK_EQUAL(dlclose(library), 0);
    }
    CHECK(at_same_address > ROUNDS / 4); /* else this proved nothing */

    /* The blocks' frames still name the library that they came through, though both were closed. */
    const struct nlt_context *nodes = table(NLT_TABLE_CONTEXTS);
    const struct nlt_module *modules = table(NLT_TABLE_MODULES);
    const char *strings = table(NLT_TABLE_STRINGS);
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(is_live(kept[round], 60));
        const struct nlt_context *caller = &nodes[nodes[live_word(kept[round]).context].parent];
        CHECK_EQUAL(caller->kind, NLT_FRAME_NATIVE);
        const char *path = strings + modules[caller->object].path;
        if (strcmp(path, names[round % 2]) != 0) dprintf(2, "round %d: frame is said to be in %s\n", round, path);
        CHECK_EQUAL(strcmp(path, names[round % 2]), 0);
        free(kept[round]);
    }
    return 0;
}
