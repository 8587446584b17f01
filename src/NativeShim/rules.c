/* pc -> unwind rule, with a cache in front.
 *
 * A cache entry is two words, written and read without a lock: the second is the first xor the key, so a reader that
 * catches two writers half way sees a key that is not its own and computes the rule afresh. The generation of the object
 * list is part of the key: a dlclose makes every older entry miss. */
#include "shim.h"

#define CACHE_BITS 14
struct cache_entry {
    uint64_t rule;
    uint64_t check;
};
static struct cache_entry cache[1u << CACHE_BITS];

union rule_bits {
    struct nltp_rule rule;
    uint64_t bits;
};

static struct nltp_rule compute(uintptr_t pc, bool exact) {
    struct nltp_rule rule = {.kind = NLTP_RULE_NONE, .ra_offset = -1};
    struct nltp_object object;
    if (nltp_find_object(exact ? pc : pc - 1, &object)) {
        if (nltp_elf_rule(&object, pc, exact, &rule)) return rule;
        /* Precompiled managed code can lie in a mapped image that looks like an object's neighbour. */
    }
    nltp_clr_rule(pc, exact, &rule);
    return rule;
}

struct nltp_rule nltp_rule_compute(uintptr_t pc, bool exact) {
    struct nltp_rule rule = compute(pc, exact);
    rule.plain = (rule.kind == NLTP_RULE_SP || rule.kind == NLTP_RULE_BP) && rule.bp_kind != NLTP_BP_AT_BP &&
                 rule.ra_offset == -1 && !rule.uncached;
    return rule;
}

struct nltp_rule nltp_rule_for(uintptr_t pc, bool exact) {
    uint64_t key = ((uint64_t)pc << 1 | exact) ^ ((uint64_t)nltp_module_generation() << 49);
    struct cache_entry *entry = &cache[(pc * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - CACHE_BITS)];
    union rule_bits found = {.bits = nltp_load(&entry->rule)};
    if (NLTP_LIKELY((nltp_load(&entry->check) ^ found.bits) == key && found.bits != 0)) return found.rule;
    found.rule = nltp_rule_compute(pc, exact);
    if (!found.rule.uncached) {
        nltp_store(&entry->rule, found.bits);
        nltp_store(&entry->check, found.bits ^ key);
    }
    return found.rule;
}

void nltp_thread_forget(struct nltp_thread *thread) {
    for (unsigned i = 0; i < 1u << NLTP_THREAD_RULE_BITS; i++)
        thread->rules[i] = (struct nltp_thread_rule){.caller = &thread->no_rule};
    thread->no_rule.caller = &thread->no_rule;
    for (unsigned i = 0; i < 1u << NLTP_RECENT_BITS; i++) thread->recent[i].count = 0;
}
