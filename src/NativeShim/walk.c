/* The stack walker: frame by frame by exact rules, from the hook's caller to the thread's bottom; and its shortcut.
 *
 * A thread's stacks resemble each other: two allocations in a row mostly differ in a few inner frames. So the walker keeps the
 * previous stack and, with it, every word of stack memory that the frames were derived from (return addresses, saved frame
 * pointers). A new walk steps through frames until it meets one that the previous stack had at the same place: same pc, same sp,
 * same bp where bp matters. From there outwards everything follows from pc and those words alone; if every word still has its
 * value, the rest of the stack is the previous one's rest. Nothing is assumed about who wrote to the stack meanwhile.
 *
 * What makes this sound:
 *  - A rule is a function of pc while the code at pc stays. Unloading an object bumps the generation and drops the previous stack.
 *    Code that can be collected without notice is never trusted: such a frame, and all inside it, are stepped through afresh.
 *  - bp matters at a frame when its own rule reads bp, or when it leaves bp alone and bp matters at its caller (needs_bp).
 *    Where it does not matter, compilers use it for other things, and comparing it would miss for nothing.
 *  - Words are compared from the inside outwards, a few at a time: what has been confirmed so far is the real stack, so the next
 *    words lie on it, too.
 *  - After a failed comparison the walk goes on from its own registers, never from remembered ones.
 *
 * Built with NLT_VERIFY_WALKS, every result is compared with a walk that uses neither the previous stack nor the rule cache. */
#define _GNU_SOURCE
#include "shim.h"

#include <ucontext.h>

/* A frame pointer is followed only upwards, only so far, and only where memory is. */
#define MAX_FALLBACK_STEP (1u << 20)

static inline uintptr_t stack_word(uintptr_t address) {
    return *(const uintptr_t *)address;
}

/* ---- one step --------------------------------------------------------------------------------------------------------- */

static bool step_by_frame_pointer(struct nltp_registers *r) {
    uintptr_t bp = r->bp;
    if (bp <= r->sp || bp - r->sp > MAX_FALLBACK_STEP || (bp & 7) != 0 || !nltp_is_mapped(bp, 16)) return false;
    *r = (struct nltp_registers){.pc = stack_word(bp + 8), .sp = bp + 16, .bp = stack_word(bp)};
    return r->pc != 0;
}

static void step_over_signal(struct nltp_registers *r, struct nltp_frame *frame) {
    const greg_t *registers = ((const ucontext_t *)r->sp)->uc_mcontext.gregs;
    frame->ra_slot = (uintptr_t)&registers[REG_RIP];
    frame->bp_slot = (uintptr_t)&registers[REG_RBP];
    frame->base_slot = (uintptr_t)&registers[REG_RSP];
    *r = (struct nltp_registers){
        .pc = stack_word(frame->ra_slot),
        .sp = stack_word(frame->base_slot),
        .bp = stack_word(frame->bp_slot),
        .exact_pc = true,
    };
}

static inline void step_by_rule(struct nltp_registers *r, struct nltp_rule rule, struct nltp_frame *frame) {
    bool by_bp = rule.kind == NLTP_RULE_BP || rule.kind == NLTP_RULE_DEREF_BP;
    uintptr_t cfa = by_bp ? r->bp : r->sp;
    frame->uses_bp = by_bp;
    if (NLTP_UNLIKELY(rule.kind == NLTP_RULE_DEREF_BP || rule.kind == NLTP_RULE_DEREF_SP)) {
        frame->base_slot = cfa + (intptr_t)rule.base_offset * 8;
        cfa = stack_word(frame->base_slot);
    }
    cfa += (intptr_t)rule.cfa_offset * 8;
    frame->ra_slot = cfa + (intptr_t)rule.ra_offset * 8;
    uintptr_t bp = r->bp;
    if (rule.bp_kind == NLTP_BP_SAME) {
        frame->keeps_bp = true;
    } else {
        if (NLTP_UNLIKELY(rule.bp_kind == NLTP_BP_AT_BP)) frame->uses_bp = true;
        frame->bp_slot = (rule.bp_kind == NLTP_BP_AT_BP ? bp : cfa) + (intptr_t)rule.bp_offset * 8;
        bp = stack_word(frame->bp_slot);
    }
    *r = (struct nltp_registers){.pc = stack_word(frame->ra_slot), .sp = cfa, .bp = bp};
}

enum step_result { STEPPED, AT_BOTTOM, LOST };

/* Fills in `frame` for the place that the registers describe, and moves them to its caller. `*reach` are the flags that the
 * next frame gets for how it was found. */
static inline enum step_result step(struct nltp_registers *r, struct nltp_rule rule, uint8_t *reach, struct nltp_frame *frame) {
    *frame = (struct nltp_frame){.pc = r->pc, .sp = r->sp, .bp = r->bp, .flags = *reach};
    *reach = 0;
    if (NLTP_UNLIKELY(rule.uncached)) {
        frame->untrusted = true;
        frame->object = nltp_code_id(r->exact_pc ? r->pc + 1 : r->pc);
    }
    uintptr_t sp = r->sp;
    switch (rule.kind) {
    case NLTP_RULE_END: return AT_BOTTOM;
    case NLTP_RULE_SIGNAL:
        step_over_signal(r, frame);
        *reach = NLT_FRAME_EXACT_PC;
        return r->pc != 0 ? STEPPED : LOST;
    case NLTP_RULE_NONE:
        frame->untrusted = true; /* what a guessed pointer led to may be gone the next time */
        *reach = NLT_FRAME_APPROXIMATE;
        return step_by_frame_pointer(r) ? STEPPED : LOST;
    default:
        step_by_rule(r, rule, frame);
        /* A caller's frame lies above its callee's, and its pc is never zero but below the outermost frame. */
        return r->pc != 0 && r->sp > sp ? STEPPED : LOST;
    }
}

/* ---- the previous stack --------------------------------------------------------------------------------------------------- */

/* Compares the words from the innermost frame outwards. Returns -1 when all are as they were, else the index of one that is
 * not: no word with a higher index, but for the few of its own group, has changed. */
static inline int find_changed(const struct nltp_check *checks, uint32_t end) {
    uint32_t i = end;
    while (i >= 4) {
        i -= 4;
        uintptr_t difference = (*checks[i + 3].address ^ checks[i + 3].value) | (*checks[i + 2].address ^ checks[i + 2].value) |
                               (*checks[i + 1].address ^ checks[i + 1].value) | (*checks[i].address ^ checks[i].value);
        if (NLTP_UNLIKELY(difference != 0)) {
            i += 4;
            while (*checks[i - 1].address == checks[i - 1].value) i--;
            return (int)i - 1;
        }
    }
    while (i > 0) {
        i--;
        if (NLTP_UNLIKELY(*checks[i].address != checks[i].value)) return (int)i;
    }
    return -1;
}

static inline bool is_same_place(const struct nltp_cached_frame *cached, const struct nltp_registers *r, uint8_t reach) {
    return cached->pc == r->pc && cached->sp == r->sp && cached->flags == reach && !cached->untrusted &&
           (!cached->needs_bp || cached->bp == r->bp);
}

static inline void remember(struct nltp_thread *thread, const struct nltp_frame *frame, uint32_t node) {
    struct nltp_cached_frame *cached = &thread->cached[thread->depth];
    const struct nltp_cached_frame *caller = thread->depth > 0 ? cached - 1 : NULL;
    uint32_t end = caller != NULL ? caller->check_end : 0;
    cached->pc = frame->pc;
    cached->sp = frame->sp;
    cached->bp = frame->bp;
    cached->node = node;
    cached->flags = frame->flags;
    cached->needs_bp = frame->uses_bp || (frame->keeps_bp && caller != NULL && caller->needs_bp);
    cached->untrusted = frame->untrusted || (caller != NULL && caller->untrusted);
    if (caller != NULL && !cached->untrusted) {
        struct nltp_check *checks = thread->checks;
        checks[end++] = (struct nltp_check){(const uintptr_t *)frame->ra_slot, caller->pc};
        if (frame->bp_slot != 0 && caller->needs_bp) checks[end++] = (struct nltp_check){(const uintptr_t *)frame->bp_slot, caller->bp};
        if (NLTP_UNLIKELY(frame->base_slot != 0))
            checks[end++] = (struct nltp_check){(const uintptr_t *)frame->base_slot, stack_word(frame->base_slot)};
    }
    cached->check_end = end;
    thread->depth++;
}

/* ---- from frames to a context --------------------------------------------------------------------------------------------- */

/* The leaf that the same new frames led to lately, if it is there: its ancestors are compared, so a collision costs only time. */
static bool find_recent(struct nltp_thread *thread, uint32_t *slot, uint32_t outer, uint32_t count, uint32_t *leaf) {
    const struct nlt_context *nodes = nltp_table(NLT_TABLE_CONTEXTS);
    uint32_t node = *slot;
    for (uint32_t i = 0; i < count; i++) {
        const struct nltp_frame *frame = &thread->fresh[i];
        if (node <= NLT_CONTEXT_ROOT || nodes[node].pc != frame->pc || nodes[node].flags != frame->flags || frame->object != 0)
            return false;
        node = nodes[node].parent;
    }
    *leaf = *slot;
    return node == outer;
}

static inline uint64_t hash_of_fresh(const struct nltp_thread *thread, uint32_t outer, uint32_t count) {
    uint64_t hash = outer;
    for (uint32_t i = count; i-- > 0;) hash = (hash ^ thread->fresh[i].pc) * UINT64_C(0x9E3779B97F4A7C15);
    return hash;
}

/* Walks down from `outer` along the new frames, outermost first, and appends them to the remembered stack. */
static uint32_t descend(struct nltp_thread *thread, uint32_t outer, uint32_t count, bool keep) {
    uint32_t *slot = &thread->nodes[hash_of_fresh(thread, outer, count) >> (64 - NLTP_NODE_CACHE_BITS)];
    uint32_t leaf;
    if (NLTP_LIKELY(find_recent(thread, slot, outer, count, &leaf))) {
        if (!keep) return leaf;
        const struct nlt_context *nodes = nltp_table(NLT_TABLE_CONTEXTS);
        uint32_t node = leaf;
        thread->depth += count;
        for (uint32_t i = 0; i < count; i++, node = nodes[node].parent) thread->cached[thread->depth - 1 - i].node = node;
        thread->depth -= count;
        for (uint32_t i = count; i-- > 0;) remember(thread, &thread->fresh[i], thread->cached[thread->depth].node);
        return leaf;
    }
    const struct nlt_context *nodes = nltp_table(NLT_TABLE_CONTEXTS);
    uint32_t node = outer;
    bool folded = false;
    for (uint32_t i = count; i-- > 0;) {
        uint32_t child = nltp_context_child(node, &thread->fresh[i]);
        if (child == 0) {
            nltp_add(&nltp_ledger->losses.contexts_full, 1);
            thread->depth = 0;
            return node;
        }
        folded |= nodes[child].parent != node;
        node = child;
        if (keep) remember(thread, &thread->fresh[i], node);
    }
    if (NLTP_UNLIKELY(folded)) nltp_add(&nltp_ledger->losses.folded_stacks, 1);
    *slot = node;
    return node;
}

static void count_outcome(struct nltp_thread *thread, enum step_result result, bool approximate) {
    if (result == LOST) nltp_count(thread->entry, &thread->entry->broken_stacks, 1);
    if (approximate) nltp_count(thread->entry, &thread->entry->approximate_stacks, 1);
}

static uint32_t walk_with(struct nltp_thread *thread, const struct nltp_registers *registers) {
    struct nltp_registers r = *registers;
    struct nltp_frame *fresh = thread->fresh;
    uint32_t count = 0;
    uint8_t reach = 0;
    bool approximate = false;
    enum step_result result = STEPPED;
    uint32_t generation = nltp_module_generation();
    if (NLTP_UNLIKELY(thread->generation != generation)) {
        thread->generation = generation;
        thread->depth = 0;
    }
    int previous = (int)thread->depth - 1;
    for (;;) {
        /* Only addresses decide how far to look: a walk that crosses to another stack may miss a match, no more. */
        while (previous >= 0 && thread->cached[previous].sp < r.sp) previous--;
        if (previous >= 0 && is_same_place(&thread->cached[previous], &r, reach)) {
            int changed = find_changed(thread->checks, thread->cached[previous].check_end);
            if (NLTP_LIKELY(changed < 0)) break;
            while (previous > 0 && thread->cached[previous - 1].check_end > (uint32_t)changed) previous--;
            previous--; /* the frame that read the changed word has another caller now */
        }
        if (NLTP_UNLIKELY(count == NLT_MAX_FRAMES)) {
            fresh[count - 1].flags |= NLT_FRAME_TRUNCATED;
            nltp_add(&nltp_ledger->losses.truncated_stacks, 1);
            previous = -1;
            break;
        }
        result = step(&r, nltp_rule_for(r.pc, r.exact_pc), &reach, &fresh[count++]);
        if (result != STEPPED) {
            if (result == LOST) fresh[count - 1].flags |= NLT_FRAME_BROKEN;
            previous = -1;
            break;
        }
        approximate |= (reach & NLT_FRAME_APPROXIMATE) != 0;
    }
    if (NLTP_UNLIKELY(result == LOST || approximate)) count_outcome(thread, result, approximate);
    uint32_t outer = previous >= 0 ? thread->cached[previous].node : NLT_CONTEXT_ROOT;
    thread->depth = (uint32_t)(previous + 1);
    if (count == 0) return outer;
    bool keep = thread->depth + count <= NLT_MAX_FRAMES && result != LOST && !(fresh[count - 1].flags & NLT_FRAME_TRUNCATED);
    uint32_t node = descend(thread, outer, count, keep);
    if (NLTP_UNLIKELY(!keep)) thread->depth = 0;
    return node;
}

/* ---- entry points ----------------------------------------------------------------------------------------------------------- */

/* By rules computed anew, from the registers to the bottom. */
static uint32_t walk_afresh(struct nltp_thread *thread, struct nltp_registers r) {
    uint32_t count = 0;
    uint8_t reach = 0;
    enum step_result result = STEPPED;
    while (result == STEPPED && count < NLT_MAX_FRAMES) {
        result = step(&r, nltp_rule_compute(r.pc, r.exact_pc), &reach, &thread->fresh[count++]);
    }
    if (result == LOST) thread->fresh[count - 1].flags |= NLT_FRAME_BROKEN;
    if (result == STEPPED) thread->fresh[count - 1].flags |= NLT_FRAME_TRUNCATED;
    return count;
}

#ifdef NLT_VERIFY_WALKS
static void verify(const struct nltp_registers *registers, uint32_t context) {
    struct nltp_thread *thread = nltp_thread_enter(); /* busy: a borrowed one, whose previous stack is not touched */
    if (thread == NULL) return;
    uint32_t count = walk_afresh(thread, *registers), node = NLT_CONTEXT_ROOT;
    for (uint32_t i = count; i-- > 0 && node != 0;) node = nltp_context_child(node, &thread->fresh[i]);
    if (node != 0 && node != context) nltp_add(&nltp_ledger->losses.walk_differences, 1);
    nltp_thread_leave(thread);
}
#else
static inline void verify(const struct nltp_registers *registers, uint32_t context) {
    (void)registers, (void)context;
}
#endif

uint32_t nltp_walk(const struct nltp_registers *registers) {
    struct nltp_thread *thread = nltp_thread_enter();
    if (NLTP_UNLIKELY(thread == NULL)) {
        nltp_add(&nltp_ledger->losses.lost_threads, 1);
        return NLT_CONTEXT_ROOT;
    }
    uint32_t context = walk_with(thread, registers);
    verify(registers, context);
    nltp_thread_leave(thread);
    return context;
}

uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity) {
    if (nltp_ledger == NULL) return 0;
    struct nltp_registers here = NLTP_CALLER();
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return 0;
    uint32_t count = walk_afresh(thread, here);
    if (count > capacity) count = capacity;
    for (uint32_t i = 0; i < count; i++) addresses[i] = thread->fresh[i].pc;
    nltp_thread_leave(thread);
    return count;
}
