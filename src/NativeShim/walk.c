/* The stack walker: frame by frame by exact rules, from the hook's caller to the thread's bottom. */
#define _GNU_SOURCE
#include "shim.h"

#include <ucontext.h>

/* A frame pointer is followed only upwards, only so far, and only where memory is. */
#define MAX_FALLBACK_STEP (1u << 20)

static inline uintptr_t stack_word(uintptr_t address) {
    return *(const uintptr_t *)address;
}

static bool step_by_frame_pointer(struct nltp_registers *r) {
    uintptr_t bp = r->bp;
    if (bp <= r->sp || bp - r->sp > MAX_FALLBACK_STEP || (bp & 7) != 0 || !nltp_is_mapped(bp, 16)) return false;
    *r = (struct nltp_registers){.pc = stack_word(bp + 8), .sp = bp + 16, .bp = stack_word(bp)};
    return true;
}

static void step_over_signal(struct nltp_registers *r) {
    const ucontext_t *context = (const ucontext_t *)r->sp;
    const greg_t *registers = context->uc_mcontext.gregs;
    *r = (struct nltp_registers){
        .pc = (uintptr_t)registers[REG_RIP],
        .sp = (uintptr_t)registers[REG_RSP],
        .bp = (uintptr_t)registers[REG_RBP],
        .exact_pc = true,
    };
}

static void step_by_rule(struct nltp_registers *r, struct nltp_rule rule) {
    uintptr_t cfa;
    switch (rule.kind) {
    case NLTP_RULE_BP: cfa = r->bp; break;
    case NLTP_RULE_DEREF_BP: cfa = stack_word(r->bp + (intptr_t)rule.base_offset * 8); break;
    case NLTP_RULE_DEREF_SP: cfa = stack_word(r->sp + (intptr_t)rule.base_offset * 8); break;
    default: cfa = r->sp; break;
    }
    cfa += (intptr_t)rule.cfa_offset * 8;
    uintptr_t bp = r->bp;
    if (rule.bp_kind == NLTP_BP_AT_CFA) bp = stack_word(cfa + (intptr_t)rule.bp_offset * 8);
    if (rule.bp_kind == NLTP_BP_AT_BP) bp = stack_word(bp + (intptr_t)rule.bp_offset * 8);
    *r = (struct nltp_registers){.pc = stack_word(cfa + (intptr_t)rule.ra_offset * 8), .sp = cfa, .bp = bp};
}

uint32_t nltp_walk_frames(struct nltp_registers r, struct nltp_frame *frames, uint32_t capacity, struct nlt_thread *entry) {
    uint32_t count = 0;
    uint8_t flags = 0;
    bool approximate = false;
    for (;;) {
        if (count == capacity) {
            frames[count - 1].flags |= NLT_FRAME_TRUNCATED;
            nltp_add(&nltp_ledger->losses.truncated_stacks, 1);
            break;
        }
        struct nltp_rule rule = nltp_rule_for(r.pc, r.exact_pc);
        frames[count++] = (struct nltp_frame){r.pc, (uint8_t)(flags | (r.exact_pc ? NLT_FRAME_EXACT_PC : 0))};
        flags = 0;
        if (rule.kind == NLTP_RULE_END) break;
        if (rule.kind == NLTP_RULE_SIGNAL) {
            step_over_signal(&r);
            continue;
        }
        uintptr_t sp = r.sp;
        if (rule.kind == NLTP_RULE_NONE) {
            flags = NLT_FRAME_APPROXIMATE;
            approximate = true;
            if (!step_by_frame_pointer(&r)) r.pc = 0;
        } else {
            step_by_rule(&r, rule);
        }
        /* Below the outermost frame lies nothing that a caller could have put there. */
        if (r.pc == 0 || r.sp <= sp) {
            frames[count - 1].flags |= NLT_FRAME_BROKEN;
            nltp_count(entry, &entry->broken_stacks, 1);
            break;
        }
    }
    if (approximate) nltp_count(entry, &entry->approximate_stacks, 1);
    return count;
}

uint32_t nltp_walk(const struct nltp_registers *registers, struct nlt_thread *entry) {
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) {
        nltp_add(&nltp_ledger->losses.lost_threads, 1);
        return NLT_CONTEXT_ROOT;
    }
    nltp_count(entry, &entry->walks, 1);
    uint32_t count = nltp_walk_frames(*registers, thread->frames, NLT_MAX_FRAMES, entry);
    uint32_t context = NLT_CONTEXT_ROOT;
    for (uint32_t i = count; i-- > 0;) {
        uint32_t child = nltp_context_child(context, &thread->frames[i]);
        if (child == 0) {
            nltp_add(&nltp_ledger->losses.contexts_full, 1);
            break;
        }
        context = child;
    }
    nltp_thread_leave(thread);
    return context;
}

uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity) {
    if (nltp_ledger == NULL) return 0;
    struct nltp_registers here = NLTP_CALLER();
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return 0;
    uint32_t count = nltp_walk_frames(here, thread->frames, NLT_MAX_FRAMES, thread->entry);
    if (count > capacity) count = capacity;
    for (uint32_t i = 0; i < count; i++) addresses[i] = thread->frames[i].pc;
    nltp_thread_leave(thread);
    return count;
}
