/* Asking for wrong releases, and reading what was listed. Include after check.h. */
#ifndef PAIRING_H
#define PAIRING_H

static struct {
    int (*begin)(void);
    void (*end)(void);
    void (*wrong_function)(uint64_t, uint64_t);
    int (*quiet)(int);
} pairing;

static void find_pairing(void) {
    Dl_info shim_itself;
    CHECK(dladdr((void *)shim.get_ledger, &shim_itself) != 0);
    void *handle = dlopen(shim_itself.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    CHECK(handle != NULL);
    pairing.begin = (int (*)(void))dlsym(handle, "nlt_pairing_begin");
    pairing.end = (void (*)(void))dlsym(handle, "nlt_pairing_end");
    pairing.wrong_function = (void (*)(uint64_t, uint64_t))dlsym(handle, "nlt_wrong_function");
    pairing.quiet = (int (*)(int))dlsym(handle, "nlt_thread_quiet");
    CHECK(pairing.begin && pairing.end && pairing.wrong_function && pairing.quiet);
    CHECK_EQUAL(shim.ledger->losses.unseen_imports, 0); /* else nothing would be certain */
}

static uint32_t listed(void) {
    return table_count(NLT_TABLE_PAIRINGS) - 1;
}

MAYBE_UNUSED static struct nlt_pairing last_listed(void) {
    struct nlt_pairing bug = ((const struct nlt_pairing *)table(NLT_TABLE_PAIRINGS))[listed()];
    CHECK(bug.is_complete);
    return bug;
}

MAYBE_UNUSED static bool context_contains(uint32_t context, const char *function) {
    static struct stack stack;
    stack_of(context, &stack);
    return stack_contains(&stack, function);
}

#endif
