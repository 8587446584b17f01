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
 *  - Reading the words is safe: a thread's own stack stays mapped while the thread lives. On any other stack (coroutines, signal
 *    stacks) words are compared one by one from the inside outwards: what has been confirmed so far is the real stack, so the
 *    next word lies on it, too.
 *  - After a failed comparison the walk goes on from its own registers, never from remembered ones.
 *
 * Built with NLT_VERIFY_WALKS, every result is compared with a walk that uses neither the previous stack nor the rule cache. */
#define _GNU_SOURCE
#include "shim.h"

#include <emmintrin.h>
#include <ucontext.h>

/* ld.so: where the first thread's stack begins. */
extern void *__libc_stack_end;

/* A frame pointer is followed only upwards, only so far, and only where memory is. */
#define MAX_FALLBACK_STEP (1u << 20)

static inline uintptr_t stack_word(uintptr_t address) {
    return *(const uintptr_t *)address;
}

/* ---- one step --------------------------------------------------------------------------------------------------------- */

static bool step_by_frame_pointer(struct nltp_registers *r) {
    uintptr_t bp = r->bp;
    if (bp < r->sp || bp - r->sp > MAX_FALLBACK_STEP || (bp & 7) != 0 || !nltp_is_mapped(bp, 16)) return false;
    *r = (struct nltp_registers){.pc = stack_word(bp + 8), .sp = bp + 16, .bp = stack_word(bp)};
    return r->pc != 0;
}

static inline const greg_t *interrupted_registers(uintptr_t sp) {
    return ((const ucontext_t *)sp)->uc_mcontext.gregs;
}

static void step_over_signal(struct nltp_registers *r) {
    const greg_t *registers = interrupted_registers(r->sp);
    *r = (struct nltp_registers){
        .pc = (uintptr_t)registers[REG_RIP],
        .sp = (uintptr_t)registers[REG_RSP],
        .bp = (uintptr_t)registers[REG_RBP],
        .exact_pc = true,
    };
}

static inline bool dereferences(struct nltp_rule rule) {
    return rule.kind == NLTP_RULE_DEREF_BP || rule.kind == NLTP_RULE_DEREF_SP;
}
static inline bool starts_from_bp(struct nltp_rule rule) {
    return rule.kind == NLTP_RULE_BP || rule.kind == NLTP_RULE_DEREF_BP;
}

static inline void step_by_rule(struct nltp_registers *r, struct nltp_rule rule) {
    uintptr_t cfa = starts_from_bp(rule) ? r->bp : r->sp;
    if (NLTP_UNLIKELY(dereferences(rule))) cfa = stack_word(cfa + (intptr_t)rule.base_offset * 8);
    cfa += (intptr_t)rule.cfa_offset * 8;
    uintptr_t bp = r->bp;
    if (rule.bp_kind != NLTP_BP_SAME) {
        uintptr_t base = NLTP_UNLIKELY(rule.bp_kind == NLTP_BP_AT_BP) ? bp : cfa;
        bp = stack_word(base + (intptr_t)rule.bp_offset * 8);
    }
    r->pc = stack_word(cfa + (intptr_t)rule.ra_offset * 8);
    r->sp = cfa;
    r->bp = bp;
    r->exact_pc = false;
}

/* The frame that will be returned to is the one that was meant before the runtime set its trap. */
static NLTP_NOINLINE struct nltp_rule step_past_trap(struct nltp_registers *r) {
    uintptr_t pc = nltp_clr_hijacked(r->sp - 8);
    if (pc == 0) return (struct nltp_rule){.kind = NLTP_RULE_NONE, .ra_offset = -1};
    r->pc = pc;
    return nltp_rule_for(pc, false);
}

enum step_result { STEPPED, AT_BOTTOM, LOST };

/* Moves the registers from the frame to its caller. `*reach` are the flags that the caller gets for how it was found. */
static inline void fill(struct nltp_frame *frame, const struct nltp_registers *r, struct nltp_rule rule, uint8_t reach) {
    frame->pc = r->pc;
    frame->sp = r->sp;
    frame->bp = r->bp;
    frame->rule = rule;
    frame->object = 0;
    frame->flags = reach;
}

static NLTP_NOINLINE enum step_result step(struct nltp_registers *r, struct nltp_rule rule, uint8_t *reach, struct nltp_frame *frame) {
    if (NLTP_UNLIKELY(rule.kind == NLTP_RULE_HIJACKED)) rule = step_past_trap(r);
    fill(frame, r, rule, *reach);
    *reach = 0;
    if (NLTP_UNLIKELY(rule.uncached)) frame->object = nltp_code_id(r->exact_pc ? r->pc + 1 : r->pc);
    switch (rule.kind) {
    case NLTP_RULE_END: return AT_BOTTOM;
    case NLTP_RULE_SIGNAL:
        step_over_signal(r);
        *reach = NLT_FRAME_EXACT_PC;
        return r->pc != 0 ? STEPPED : LOST;
    case NLTP_RULE_NONE:
        *reach = NLT_FRAME_APPROXIMATE;
        return step_by_frame_pointer(r) ? STEPPED : LOST;
    default:
        step_by_rule(r, rule);
        if (NLTP_UNLIKELY(rule.ra_offset != -1)) { /* no call put it there: an interrupted instruction (libcoreclr's faults) */
            r->exact_pc = true;
            *reach = NLT_FRAME_EXACT_PC;
        }
        /* A caller's frame lies above its callee's, and its pc is never zero but below the outermost frame. */
        return NLTP_LIKELY(r->pc != 0 && r->sp > frame->sp) ? STEPPED : LOST;
    }
}

/* ---- the previous stack --------------------------------------------------------------------------------------------------- */

static inline uintptr_t differs(const struct nltp_check *check) {
    return *check->address ^ check->value;
}
static inline __m128i pair_differs(const struct nltp_pair *pair) {
    return _mm_xor_si128(_mm_loadu_si128(pair->address), *(const __m128i *)pair->values);
}
static inline bool is_zero(__m128i value) {
    return _mm_movemask_epi8(_mm_cmpeq_epi8(value, _mm_setzero_si128())) == 0xffff;
}

/* True when no word of the frame and of those outside it has changed. */
static inline bool is_intact(const struct nltp_thread *thread, uint32_t check_end, uint32_t pair_end) {
    const struct nltp_check *check = thread->checks + check_end;
    const struct nltp_pair *pair = thread->pairs + pair_end;
    __m128i a = _mm_setzero_si128(), b = a;
    for (; pair - thread->pairs >= 4; pair -= 4) {
        a = _mm_or_si128(a, _mm_or_si128(pair_differs(pair - 1), pair_differs(pair - 2)));
        b = _mm_or_si128(b, _mm_or_si128(pair_differs(pair - 3), pair_differs(pair - 4)));
    }
    for (; pair > thread->pairs; pair--) a = _mm_or_si128(a, pair_differs(pair - 1));
    uintptr_t difference = 0;
    for (; check - thread->checks >= 4; check -= 4)
        difference |= differs(check - 1) | differs(check - 2) | differs(check - 3) | differs(check - 4);
    for (; check > thread->checks; check--) difference |= differs(check - 1);
    return difference == 0 && is_zero(_mm_or_si128(a, b));
}

/* The innermost frame, from `frame` outwards, one of whose words has changed; NULL when none has. Frames inside it are as they
 * were, so their words and its own lie on the real stack. */
static NLTP_NOINLINE const struct nltp_cached_frame *find_changed(const struct nltp_thread *thread,
                                                                  const struct nltp_cached_frame *frame) {
    for (; frame > thread->cached; frame--) {
        for (uint32_t i = frame[-1].check_end; i < frame->check_end; i++)
            if (differs(&thread->checks[i]) != 0) return frame;
        for (uint32_t i = frame[-1].pair_end; i < frame->pair_end; i++)
            if (!is_zero(pair_differs(&thread->pairs[i]))) return frame;
    }
    return NULL;
}

static inline bool is_same_place(const struct nltp_cached_frame *cached, uintptr_t pc, uintptr_t sp, uintptr_t bp, uint8_t reach) {
    return cached->pc == pc && cached->sp == sp && cached->flags == reach && !cached->untrusted &&
           (!cached->needs_bp || cached->bp == bp);
}

static inline void add_check(struct nltp_thread *thread, uint32_t *end, uintptr_t address, uintptr_t value) {
    thread->checks[*end] = (struct nltp_check){(const uintptr_t *)address, value};
    ++*end;
}

/* The words that led over a signal frame. */
static void add_signal_checks(struct nltp_thread *thread, const struct nltp_frame *frame, const struct nltp_cached_frame *caller,
                              uint32_t *end) {
    const greg_t *registers = interrupted_registers(frame->sp);
    add_check(thread, end, (uintptr_t)&registers[REG_RIP], caller->pc);
    add_check(thread, end, (uintptr_t)&registers[REG_RSP], caller->sp);
    if (caller->needs_bp) add_check(thread, end, (uintptr_t)&registers[REG_RBP], caller->bp);
}

/* The C library lays a thread's stack below the thread's own block, which the thread register points to; the first thread's ends
 * at __libc_stack_end. Other stacks have their outermost frame elsewhere. */
static NLTP_NOINLINE bool is_own_stack(uintptr_t outermost_sp) {
    const uintptr_t near = 64 * 1024;
    uintptr_t thread_block = (uintptr_t)__builtin_thread_pointer(), first = (uintptr_t)__libc_stack_end;
    return thread_block - outermost_sp < near || first - outermost_sp < near || outermost_sp - first < near;
}

/* Appends a frame, its caller being the innermost one that is remembered. */
static inline void remember(struct nltp_thread *thread, const struct nltp_frame *frame, uint32_t node) {
    struct nltp_cached_frame *cached = &thread->cached[thread->depth];
    struct nltp_rule rule = frame->rule;
    cached->pc = frame->pc;
    cached->sp = frame->sp;
    cached->bp = frame->bp;
    cached->node = node;
    cached->flags = frame->flags;
    cached->check_end = cached->pair_end = 0;
    cached->needs_bp = starts_from_bp(rule) || rule.bp_kind == NLTP_BP_AT_BP;
    cached->untrusted = rule.uncached || rule.kind == NLTP_RULE_NONE; /* what a guess led to may be gone the next time */
    if (NLTP_UNLIKELY(thread->depth == 0)) {
        thread->on_own_stack = is_own_stack(frame->sp);
        thread->depth = 1;
    } else if (NLTP_LIKELY(rule.plain)) {
        const struct nltp_cached_frame *caller = cached - 1;
        struct nltp_check *check = &thread->checks[caller->check_end];
        thread->depth++;
        cached->untrusted = caller->untrusted;
        cached->check_end = caller->check_end;
        cached->pair_end = caller->pair_end;
        if (NLTP_UNLIKELY(caller->untrusted)) return;
        if (caller->needs_bp && rule.bp_kind == NLTP_BP_AT_CFA && NLTP_LIKELY(rule.bp_offset == -2)) {
            struct nltp_pair *pair = &thread->pairs[cached->pair_end++];
            pair->address = (const void *)(caller->sp - 16);
            pair->values[0] = caller->bp;
            pair->values[1] = caller->pc;
            return;
        }
        cached->check_end++;
        *check++ = (struct nltp_check){(const uintptr_t *)(caller->sp - 8), caller->pc};
        if (rule.bp_kind == NLTP_BP_SAME) {
            cached->needs_bp |= caller->needs_bp;
        } else if (caller->needs_bp) {
            *check = (struct nltp_check){(const uintptr_t *)(caller->sp + (intptr_t)rule.bp_offset * 8), caller->bp};
            cached->check_end++;
        }
    } else {
        const struct nltp_cached_frame *caller = cached - 1;
        thread->depth++;
        uint32_t end = caller->check_end;
        cached->pair_end = caller->pair_end;
        cached->untrusted |= caller->untrusted;
        if (NLTP_UNLIKELY(cached->untrusted)) {
        } else if (NLTP_UNLIKELY(rule.kind == NLTP_RULE_SIGNAL)) {
            add_signal_checks(thread, frame, caller, &end);
        } else {
            add_check(thread, &end, caller->sp + (intptr_t)rule.ra_offset * 8, caller->pc);
            if (rule.bp_kind == NLTP_BP_SAME) {
                cached->needs_bp |= caller->needs_bp;
            } else if (caller->needs_bp) {
                uintptr_t base = NLTP_UNLIKELY(rule.bp_kind == NLTP_BP_AT_BP) ? frame->bp : caller->sp;
                add_check(thread, &end, base + (intptr_t)rule.bp_offset * 8, caller->bp);
            }
            if (NLTP_UNLIKELY(dereferences(rule))) {
                uintptr_t base = (starts_from_bp(rule) ? frame->bp : frame->sp) + (intptr_t)rule.base_offset * 8;
                add_check(thread, &end, base, stack_word(base));
            }
        }
        cached->check_end = end;
    }
}

/* ---- from frames to a context --------------------------------------------------------------------------------------------- */

static inline struct nltp_recent *recent_of(struct nltp_thread *thread, uint32_t outer, uint32_t count) {
    uint64_t hash = outer;
    for (uint32_t i = 0; i < count; i++) hash = (hash ^ thread->fresh[i].pc) * UINT64_C(0x9E3779B97F4A7C15);
    return &thread->recent[hash >> (64 - NLTP_RECENT_BITS)];
}

static inline bool is_recent(const struct nltp_recent *recent, const struct nltp_frame *fresh, uint32_t outer, uint32_t count) {
    if (recent->outer != outer || recent->count != count) return false;
    uintptr_t difference = 0;
    for (uint32_t i = 0; i < count; i++) difference |= (recent->pcs[i] ^ fresh[i].pc) | fresh[i].flags | fresh[i].object;
    return difference == 0;
}

static NLTP_NOINLINE uint32_t descend_slowly(struct nltp_thread *thread, uint32_t outer, uint32_t count, bool keep) {
    uint32_t node = outer;
    bool folded = false, plain = count <= NLTP_RECENT_FRAMES;
    struct nltp_recent *recent = plain ? recent_of(thread, outer, count) : NULL;
    if (plain) recent->count = 0;
    for (uint32_t i = count; i-- > 0;) {
        const struct nltp_frame *frame = &thread->fresh[i];
        uint32_t child = nltp_context_child(node, frame);
        if (child == 0) {
            nltp_add(&nltp_ledger->losses.contexts_full, 1);
            thread->depth = 0;
            return node;
        }
        folded |= nltp_nodes[child].parent != node;
        plain &= frame->flags == 0 && frame->object == 0;
        node = child;
        if (keep) remember(thread, frame, node);
        if (recent != NULL) {
            recent->pcs[i] = frame->pc;
            recent->nodes[i] = node;
        }
    }
    if (NLTP_UNLIKELY(folded)) nltp_add(&nltp_ledger->losses.folded_stacks, 1);
    if (plain && !folded) {
        recent->outer = outer;
        recent->count = count;
    }
    return node;
}

/* Walks down from `outer` along the new frames, outermost first, and appends them to the remembered stack. */
static inline uint32_t descend(struct nltp_thread *thread, uint32_t outer, uint32_t count) {
    if (NLTP_LIKELY(count <= NLTP_RECENT_FRAMES)) {
        const struct nltp_recent *recent = recent_of(thread, outer, count);
        if (NLTP_LIKELY(is_recent(recent, thread->fresh, outer, count))) {
            for (uint32_t i = count; i-- > 0;) remember(thread, &thread->fresh[i], recent->nodes[i]);
            return recent->nodes[0];
        }
    }
    return descend_slowly(thread, outer, count, true);
}

static NLTP_NOINLINE void count_outcome(struct nlt_thread *entry, enum step_result result, bool approximate) {
    if (result == LOST) nltp_bump(&entry->broken_stacks, 1);
    if (approximate) nltp_bump(&entry->approximate_stacks, 1);
}

static inline void note_leaf(struct nltp_thread *thread) {
    const struct nltp_cached_frame *leaf = &thread->cached[thread->depth - 1];
    bool usable = thread->depth > 0 && !leaf->untrusted && leaf->flags == 0 && thread->on_own_stack;
    thread->leaf_pc = 0;
    if (NLTP_UNLIKELY(!usable)) return;
    thread->leaf_pc = leaf->pc;
    thread->leaf_sp = leaf->sp;
    thread->leaf_bp = leaf->bp;
    thread->leaf_bp_mask = -(uintptr_t)leaf->needs_bp;
    thread->leaf_node = leaf->node;
    thread->leaf_check_end = leaf->check_end;
    thread->leaf_pair_end = leaf->pair_end;
}

static NLTP_NOINLINE uint32_t walk_on(struct nltp_thread *thread, uintptr_t pc, uintptr_t sp, uintptr_t bp) {
    struct nltp_frame *fresh = thread->fresh;
    uint32_t count = 0;
    uint8_t reach = 0;
    bool approximate = false;
    enum step_result result = STEPPED;
    uint32_t generation = nltp_module_generation();
    if (NLTP_UNLIKELY(thread->generation != generation)) {
        thread->generation = generation;
        thread->depth = 0;
        nltp_thread_forget(thread);
    }
    struct nltp_thread_rule *last = &thread->no_rule;
    const struct nltp_cached_frame *outermost = thread->cached, *previous = outermost + thread->depth - 1;
    for (;;) {
        /* Only addresses decide how far to look: a walk that crosses to another stack may miss a match, no more. */
        while (previous >= outermost && previous->sp < sp) previous--;
        if (previous >= outermost && is_same_place(previous, pc, sp, bp, reach)) {
            if (NLTP_LIKELY(thread->on_own_stack && is_intact(thread, previous->check_end, previous->pair_end))) break;
            const struct nltp_cached_frame *changed = find_changed(thread, previous);
            if (changed == NULL) break;
            previous = changed - 1; /* the frame that read the changed word has another caller now */
        }
        if (NLTP_UNLIKELY(count == NLT_MAX_FRAMES)) {
            fresh[count - 1].flags |= NLT_FRAME_TRUNCATED;
            nltp_add(&nltp_ledger->losses.truncated_stacks, 1);
            previous = outermost - 1;
            break;
        }
        struct nltp_frame *frame = &fresh[count++];
        struct nltp_rule rule;
        if (NLTP_LIKELY(!(reach & NLT_FRAME_EXACT_PC))) {
            last = nltp_rule_of_return(thread, pc, last);
            rule = last->rule;
        } else {
            rule = nltp_rule_for(pc, true);
        }
        if (NLTP_LIKELY(rule.plain && reach == 0)) {
            *frame = (struct nltp_frame){.pc = pc, .sp = sp, .bp = bp, .rule = rule};
            sp = (rule.kind == NLTP_RULE_BP ? bp : sp) + (intptr_t)rule.cfa_offset * 8;
            if (rule.bp_kind != NLTP_BP_SAME) bp = stack_word(sp + (intptr_t)rule.bp_offset * 8);
            pc = stack_word(sp - 8);
            if (NLTP_UNLIKELY(pc == 0 || sp <= frame->sp)) result = LOST;
        } else {
            struct nltp_registers r = {.pc = pc, .sp = sp, .bp = bp, .exact_pc = (reach & NLT_FRAME_EXACT_PC) != 0};
            result = step(&r, rule, &reach, frame);
            pc = r.pc, sp = r.sp, bp = r.bp;
            approximate |= reach == NLT_FRAME_APPROXIMATE;
        }
        if (NLTP_UNLIKELY(result != STEPPED)) {
            if (result == LOST) frame->flags |= NLT_FRAME_BROKEN;
            previous = outermost - 1;
            break;
        }
    }
    if (NLTP_UNLIKELY(result == LOST || approximate)) count_outcome(thread->entry, result, approximate);
    uint32_t outer = previous >= outermost ? previous->node : NLT_CONTEXT_ROOT;
    thread->depth = (uint32_t)(previous + 1 - outermost);
    if (count == 0) {
        note_leaf(thread);
        return outer;
    }
    bool keep = thread->depth + count <= NLT_MAX_FRAMES && result != LOST && !(fresh[count - 1].flags & NLT_FRAME_TRUNCATED);
    uint32_t node = NLTP_LIKELY(keep) ? descend(thread, outer, count) : descend_slowly(thread, outer, count, false);
    if (NLTP_UNLIKELY(!keep)) thread->depth = 0;
    note_leaf(thread);
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
/* Two threads can make a node twice (contexts.c): what counts is what the nodes say. */
static bool reads_alike(uint32_t a, uint32_t b) {
    for (; a != b; a = nltp_nodes[a].parent, b = nltp_nodes[b].parent) {
        const struct nlt_context *x = &nltp_nodes[a], *y = &nltp_nodes[b];
        uint8_t different = (x->flags ^ y->flags) & (uint8_t)~NLT_FRAME_FOLDED;
        if (x->pc != y->pc || different != 0 || a <= NLT_CONTEXT_ROOT || b <= NLT_CONTEXT_ROOT) return false;
        if (x->object != y->object && x->kind == NLT_FRAME_MANAGED) return false;
    }
    return true;
}

static NLTP_NOINLINE void verify(struct nltp_registers registers, uint32_t context) {
    struct nltp_thread *thread = nltp_thread_enter(); /* busy: a borrowed one, whose previous stack is not touched */
    if (thread == NULL) return;
    uint32_t count = walk_afresh(thread, registers), node = NLT_CONTEXT_ROOT;
    for (uint32_t i = count; i-- > 0 && node != 0;) node = nltp_context_child(node, &thread->fresh[i]);
    struct nltp_object bottom;
    bool cut = nltp_find_object(thread->fresh[count - 1].pc, &bottom) && nltp_clr_is_runtime(&bottom); /* no thread begins there */
    if (node != 0 && (cut || !reads_alike(node, context))) nltp_add(&nltp_ledger->losses.walk_differences, 1);
    nltp_thread_leave(thread);
}
#else
static inline void verify(struct nltp_registers registers, uint32_t context) {
    (void)registers, (void)context;
}
#endif

/* The same call site in the same stack as the last time: nothing to step through. */
static inline bool is_unchanged(const struct nltp_thread *thread, uintptr_t pc, uintptr_t sp, uintptr_t bp) {
    uintptr_t difference = (pc ^ thread->leaf_pc) | (sp ^ thread->leaf_sp) | ((bp ^ thread->leaf_bp) & thread->leaf_bp_mask) |
                           (thread->generation ^ nltp_module_generation());
    return NLTP_LIKELY(difference == 0) && is_intact(thread, thread->leaf_check_end, thread->leaf_pair_end);
}

uint32_t nltp_walk(struct nltp_thread *thread, uintptr_t pc, uintptr_t sp, uintptr_t bp) {
    uint32_t context = NLTP_LIKELY(is_unchanged(thread, pc, sp, bp)) ? thread->leaf_node : walk_on(thread, pc, sp, bp);
    verify((struct nltp_registers){.pc = pc, .sp = sp, .bp = bp}, context);
    return context;
}

uint32_t nlt_walk_places(uint64_t *addresses, uint64_t *stack_pointers, uint32_t capacity) {
    if (nltp_ledger == NULL) return 0;
    const uintptr_t *frame = __builtin_frame_address(0);
    struct nltp_registers here = {.pc = frame[1], .sp = (uintptr_t)(frame + 2), .bp = frame[0]};
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return 0;
    uint32_t count = walk_afresh(thread, here);
    if (count > capacity) count = capacity;
    for (uint32_t i = 0; i < count; i++) {
        addresses[i] = thread->fresh[i].pc;
        stack_pointers[i] = thread->fresh[i].sp;
    }
    nltp_thread_leave(thread);
    return count;
}

uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity) {
    if (nltp_ledger == NULL) return 0;
    const uintptr_t *frame = __builtin_frame_address(0);
    struct nltp_registers here = {.pc = frame[1], .sp = (uintptr_t)(frame + 2), .bp = frame[0]};
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return 0;
    uint32_t count = walk_afresh(thread, here);
    if (count > capacity) count = capacity;
    for (uint32_t i = 0; i < count; i++) addresses[i] = thread->fresh[i].pc;
    nltp_thread_leave(thread);
    return count;
}
