/* What the files of the shim know of each other. Names: nlt_x is exported, nltp_x crosses files, the rest is static.
 *
 *   hooks.c -> record.c -> walk.c -> rules.c -> unwind_elf.c, unwind_clr.c
 *                  |          '----> contexts.c -> identify_clr.c
 *                  '--> blocks.c, threads.c, pairing.c
 *   lifecycle.c: ledger.c, rebind.c, stats.c, freeze.c  modules.c: objects and their generation */
#ifndef NLTP_SHIM_H
#define NLTP_SHIM_H

#include "include/nlt_control.h"
#include "include/nlt_ledger.h"
#include "os.h"

/* ---- ledger.c ------------------------------------------------------------------------------------------------------ */

/* NULL until nltp_ledger_create(). Never unmapped. */
extern struct nlt_header *nltp_ledger NLTP_HIDDEN;
/* Some of its tables, for the paths that count nanoseconds. */
extern struct nlt_context *nltp_nodes NLTP_HIDDEN;
extern struct nlt_scope *nltp_scopes NLTP_HIDDEN;
extern uint64_t *nltp_directory NLTP_HIDDEN;
extern uint64_t *nltp_fine_directory NLTP_HIDDEN;

/* 1 while this process may write the tables. A page of its own that a fork's child finds zeroed, where the home is shared: the
 * child has its own heap, and the tables are not its. (A vforked child shares the heap, and finds 1.) */
extern uint32_t *nltp_may_write NLTP_HIDDEN;
/* Not zero while allocations are to be recorded by this process: nltp_ledger->recording, but where that may not be believed. */
extern const uint32_t *nltp_gate NLTP_HIDDEN;

#define NLTP_MAX_THREADS (1u << 14)

/* `shared_path`: NULL for the private home, else a file to make. False: no memory, or *error says why the file could not be. */
bool nltp_ledger_create(enum nlt_mode mode, const char *shared_path, int *error);
void *nltp_table(enum nlt_table_id id);
/* Reserves entries in a row (of strings: bytes); 0 when the table is full. */
uint32_t nltp_table_take(enum nlt_table_id id, uint32_t entries);
/* Copies a text into the string table; 0 when it is full. Longer texts than 1,023 bytes are cut. */
uint32_t nltp_string(const char *text);
/* Copies bytes into the blobs; 0, and counted, when they are full. */
uint32_t nltp_blob(const void *bytes, uint32_t count);
/* Memory for live words, zeroed; NULL when there is none. *file_offset: where it is in the file of a shared home. */
void *nltp_ledger_chunk(size_t size_bytes, uint64_t *file_offset);
void nltp_ledger_chunk_unused(void *chunk, size_t size_bytes);
/* Before a place in the tables is first read or written. False: it cannot be had. */
bool nltp_ledger_reserve_piece(const void *place, size_t size_bytes);
/* The same for a live word, which may lie in the shared home's file; a private chunk's always can be had. */
extern uintptr_t nltp_shared_start NLTP_HIDDEN; /* 0: private home */
static inline bool nltp_ledger_reserve_word(const uint64_t *word) {
    return NLTP_LIKELY(nltp_shared_start == 0) || nltp_ledger_reserve_piece(word, sizeof *word);
}

/* False: no block was ever put there. In a shared home even a look would need a page, and could end the process. */
bool nltp_ledger_has_piece(const void *place);
static inline bool nltp_ledger_has_word(const uint64_t *word) {
    return NLTP_LIKELY(nltp_shared_start == 0) || nltp_ledger_has_piece(word);
}

/* ---- epochs.c ------------------------------------------------------------------------------------------------------ */

void nltp_epochs_init(void);
/* Under the control functions' lock: */
bool nltp_recording_begin(bool of_everybody);
void nltp_recording_end(void);
uint32_t nltp_scope_open(uint32_t flags, uint32_t *tag);
void nltp_scope_retag(uint32_t scope, uint32_t tag);
void nltp_scope_close(uint32_t scope);
void nltp_scopes_close_all(void);
void nltp_epoch_advance(uint32_t gc_count);
/* In a hook: lists a release by the finalizer thread. */
void nltp_note_finalized(uintptr_t address, uint64_t word, uint64_t size_bytes, uint32_t freed_context);
bool nltp_is_of_open_scope(uint64_t word);

/* ---- threads.c ----------------------------------------------------------------------------------------------------- */

struct nltp_registers {
    uintptr_t pc, sp, bp;
    bool exact_pc; /* pc is where the thread stands, not where a call returns to */
};

enum nltp_rule_kind {
    NLTP_RULE_NONE = 0,    /* no rule known: frame pointer, marked approximate */
    NLTP_RULE_SP,          /* CFA = sp + cfa_offset */
    NLTP_RULE_BP,          /* CFA = bp + cfa_offset */
    NLTP_RULE_DEREF_BP,    /* CFA = *(bp + base_offset) + cfa_offset: realigned frames of gcc */
    NLTP_RULE_DEREF_SP,    /* CFA = *(sp + base_offset) + cfa_offset: hand-written assembly */
    NLTP_RULE_SIGNAL,      /* the caller's registers stand in the ucontext at sp */
    NLTP_RULE_HIJACKED,    /* no frame: the runtime put its own code in place of a return address */
    NLTP_RULE_END          /* bottom of the thread */
};
enum nltp_bp_kind {
    NLTP_BP_SAME = 0,      /* not saved here: still in the register */
    NLTP_BP_AT_CFA,        /* saved at CFA + bp_offset * 8 */
    NLTP_BP_AT_BP          /* saved at bp + bp_offset * 8 */
};

/* 8 bytes, so that it can be cached in one atomic word. */
struct nltp_rule {
    uint8_t kind : 4;      /* enum nltp_rule_kind */
    uint8_t bp_kind : 2;   /* enum nltp_bp_kind */
    uint8_t plain : 1;     /* kind SP or BP, bp SAME or AT_CFA, return address at CFA - 8, cached: nearly all frames */
    uint8_t uncached : 1;  /* code memory that can be reused without notice */
    int8_t ra_offset;      /* return address at CFA + ra_offset * 8; -1 nearly everywhere */
    int16_t bp_offset;     /* * 8 */
    int32_t cfa_offset : 20;  /* * 8: frames of up to 4 MB */
    int32_t base_offset : 12; /* * 8: for the DEREF kinds */
};
#define NLTP_MAX_CFA_OFFSET ((1 << 19) - 1)
#define NLTP_MAX_BASE_OFFSET ((1 << 11) - 1)
_Static_assert(sizeof(struct nltp_rule) == 8, "one atomic word");

/* A frame that a walk stepped through. */
struct nltp_frame {
    uintptr_t pc, sp, bp;
    struct nltp_rule rule;
    uint32_t object;                       /* code id, of code that can be collected; else 0 */
    uint8_t flags;                         /* NLT_FRAME_* */
};

/* A frame of the thread's previous stack. */
struct nltp_cached_frame {
    uintptr_t pc, sp, bp;
    uint32_t node;
    uint32_t check_end, pair_end;          /* checks of this frame and all outside it: [0, end) */
    uint8_t flags, needs_bp, untrusted;
};

/* A word of the stack that the frames of the previous walk were derived from. */
struct nltp_check {
    const uintptr_t *address;
    uintptr_t value;
};
/* Two neighbouring words: a saved rbp and the return address above it, which most managed frames have. */
struct nltp_pair {
    const void *address;
    uintptr_t reserved;
    uintptr_t values[2];
};

/* Where a short run of new frames led to lately: `pcs` below the node `outer`, innermost first, have the nodes `nodes`. */
#define NLTP_RECENT_FRAMES 16
#define NLTP_RECENT_BITS 8
struct nltp_recent {
    uintptr_t pcs[NLTP_RECENT_FRAMES];
    uint32_t nodes[NLTP_RECENT_FRAMES];
    uint32_t outer, count;
};

#define NLTP_THREAD_RULE_BITS 11
struct nltp_thread_rule {
    uintptr_t pc;
    struct nltp_rule rule;
    struct nltp_thread_rule *caller; /* of the frame that called this one the last time: mostly the next one needed */
    uint64_t reserved;
};

/* What a thread needs to record; mapped when it first allocates, reused by a later thread when it ends. */
struct nltp_thread {
    struct nlt_thread *entry;
    struct nlt_pending *pending;           /* its part of the totals */
    struct nltp_thread *next_free;
    /* The innermost frame of the previous stack, once more, for the walk that finds nothing changed; pc 0: it may not. */
    uintptr_t leaf_pc, leaf_sp, leaf_bp, leaf_bp_mask;
    uint32_t leaf_node, leaf_check_end, leaf_pair_end;
    uint8_t on_own_stack;                  /* the previous stack was the one that the thread was born with */
    uint32_t depth;                        /* of the previous stack; 0: none is known */
    uint32_t generation;                   /* of the object list when it was walked, and its rules found */
    struct nltp_thread_rule rules[1u << NLTP_THREAD_RULE_BITS];
    struct nltp_thread_rule no_rule, uncached_rule; /* no_rule.pc is 0, which no frame has */
    struct nltp_recent recent[1u << NLTP_RECENT_BITS];
    struct nltp_cached_frame cached[NLT_MAX_FRAMES]; /* outermost first */
    struct nltp_check checks[3 * NLT_MAX_FRAMES];
    struct nltp_pair pairs[NLT_MAX_FRAMES] __attribute__((aligned(16)));
    struct nltp_frame fresh[NLT_MAX_FRAMES];         /* innermost first */
};

/* All of the shim's thread-local storage: kept small, because a late start takes it from the surplus that the dynamic
 * linker reserves for every library. */
struct nltp_tls {
    struct nltp_thread *thread; /* NULL: not prepared */
    uintptr_t not_last_recorded; /* the complement of the block that the thread recorded last: the address itself would hold it */
    uint32_t quiet;             /* >0: allocations are not recorded */
    uint32_t scope;             /* entry of the scope that the thread runs in */
    uint8_t finalizer;          /* the runtime's finalizer thread */
    uint8_t busy;               /* inside the recorder: a signal handler that allocates must not touch `thread` */
    uint8_t retired;            /* the thread's last destructor ran: no state may be prepared again */
    uint8_t listing;            /* inside the listing of objects (modules.c) */
};
_Static_assert(sizeof(struct nltp_tls) <= 64, "taken from the static TLS surplus");
extern __thread struct nltp_tls nltp_tls __attribute__((tls_model("initial-exec"))) NLTP_HIDDEN;

void nltp_threads_init(void);
/* State for one recording: the calling thread's own, or a borrowed one; NULL only when there is no memory. */
struct nltp_thread *nltp_thread_borrow(void);
void nltp_thread_return(struct nltp_thread *thread);
static inline struct nltp_thread *nltp_thread_enter(void) {
    struct nltp_thread *thread = nltp_tls.thread;
    if (NLTP_UNLIKELY(thread == NULL || nltp_tls.busy)) return nltp_thread_borrow();
    nltp_tls.busy = 1;
    __asm__ volatile("" ::: "memory"); /* a signal handler must find `busy` set before anything is touched */
    return thread;
}
static inline void nltp_thread_leave(struct nltp_thread *thread) {
    __asm__ volatile("" ::: "memory");
    if (NLTP_LIKELY(thread == nltp_tls.thread)) nltp_tls.busy = 0;
    else nltp_thread_return(thread);
}
/* After fork, in the child: only the calling thread is left. */
void nltp_threads_after_fork(void);

/* ---- modules.c ----------------------------------------------------------------------------------------------------- */

struct nltp_object {
    uintptr_t start, end, load_bias;
    const uint8_t *eh_frame_header; /* NULL: the object has none */
    const struct link_map *map;
};

/* Before any other function here. */
void nltp_modules_init(void);
/* The ELF object that holds `pc`. Lock-free and safe in signal handlers, on glibc 2.35 and later. */
bool nltp_find_object(uintptr_t pc, struct nltp_object *object);
/* The same, but false where it would take a lock (before glibc 2.35). */
bool nltp_find_object_at_once(uintptr_t pc, struct nltp_object *object);
/* Module id of an object that is loaded now; 0 when the table is full. */
uint32_t nltp_module_id(const struct nltp_object *object);
/* Grows whenever objects were unloaded: rules from before must not be used. */
uint32_t nltp_module_generation(void);
void nltp_modules_unloaded(void);
bool nltp_module_is_loaded(uint32_t id);
/* Tells of every object that is loaded now (late start; takes the dynamic linker's lock, so never from a hook). */
void nltp_modules_scan(void);

/* ---- rules.c: how to get from a frame to its caller ------------------------------------------------------------------ */

/* Rule for the frame at `pc` (`exact`: an interrupted instruction; else a return address, looked up at pc - 1). */
struct nltp_rule nltp_rule_for(uintptr_t pc, bool exact);
/* The same, past the cache. */
struct nltp_rule nltp_rule_compute(uintptr_t pc, bool exact);

/* Empties the thread's own caches: of rules, and of the nodes that new frames led to lately. */
void nltp_thread_forget(struct nltp_thread *thread);
/* For return addresses, through the thread's own small cache: no atomic access, and it stays near the processor. The caller has
 * emptied it when the generation of the object list changed. `last`: the entry of the frame inside, or NULL. The result's rule is
 * not kept where it may not be. */
static inline struct nltp_thread_rule *nltp_rule_of_return(struct nltp_thread *thread, uintptr_t pc, struct nltp_thread_rule *last) {
    struct nltp_thread_rule *entry = last->caller;
    if (NLTP_LIKELY(entry->pc == pc)) return entry;
    entry = &thread->rules[(pc ^ pc >> NLTP_THREAD_RULE_BITS) & ((1u << NLTP_THREAD_RULE_BITS) - 1)];
    if (NLTP_UNLIKELY(entry->pc != pc)) {
        struct nltp_rule rule = nltp_rule_for(pc, false);
        if (rule.uncached) entry = &thread->uncached_rule;
        *entry = (struct nltp_thread_rule){.pc = rule.uncached ? 0 : pc, .rule = rule, .caller = &thread->no_rule};
    }
    last->caller = entry;
    return entry;
}

/* unwind_elf.c, unwind_clr.c: where rules come from. False: this pc is not theirs. */
bool nltp_elf_rule(const struct nltp_object *object, uintptr_t pc, bool exact, struct nltp_rule *rule);
bool nltp_clr_rule(uintptr_t pc, bool exact, struct nltp_rule *rule);

/* identify_clr.c */
struct nltp_code_identity {
    uintptr_t start, method, type;
    uintptr_t module;       /* of the assembly that the token is of; 0: none */
    uint32_t token, rva;    /* as in struct nlt_code */
    uint16_t kind, flags;
    const uint8_t *bounds;  /* as in struct nlt_code; NULL: there is none */
    uint32_t bounds_bytes;
    char name[256];         /* of dynamic methods; else empty */
};
/* Who the managed code at `pc` is. Only while that code is on a stack: it cannot be collected then, and neither can anything that
 * the result points to. */
bool nltp_clr_identify(uintptr_t pc, struct nltp_code_identity *identity);
/* Entry of the assembly's image, made when there is none; 0: none, or table full. Under the same condition. */
uint32_t nltp_clr_image(const struct nltp_code_identity *identity);
/* Whether the entry still stands for the assembly that the code is of. */
bool nltp_clr_is_image(uint32_t image, const struct nltp_code_identity *identity);

/* Whether the object is the runtime, whose tables are known. */
bool nltp_clr_is_runtime(const struct nltp_object *object);
/* The return address that the runtime took from `slot` of this thread's stack, to stop the thread there; 0: none. */
uintptr_t nltp_clr_hijacked(uintptr_t slot);
/* Told of each new module, to find the runtime; cheap for all others. */
void nltp_clr_object_seen(const struct nltp_object *object);

/* ---- walk.c -------------------------------------------------------------------------------------------------------- */

/* Context id of the stack that begins at `registers`, on the calling thread. */
uint32_t nltp_walk(struct nltp_thread *thread, uintptr_t pc, uintptr_t sp, uintptr_t bp);

/* ---- contexts.c ---------------------------------------------------------------------------------------------------- */

/* Finds or makes the child of `parent`; 0 when the table is full. Lock-free. */
uint32_t nltp_context_child(uint32_t parent, const struct nltp_frame *frame);
/* Code id of the managed code at `pc`, which must be on a stack of the calling thread; 0: not managed, or table full. */
uint32_t nltp_code_id(uintptr_t pc);
void nltp_contexts_init(void);

/* ---- blocks.c ------------------------------------------------------------------------------------------------------ */

enum nltp_put { NLTP_PUT, NLTP_NO_MEMORY, NLTP_PUT_ALREADY };
/* Puts the word of a block down. NLTP_PUT_ALREADY: the thread's own last record was of this block, so the function that was
 * called had called a hooked one in turn, which has recorded it. */
enum nltp_put nltp_block_put(uintptr_t address, size_t size_bytes, uint32_t context, uint32_t epoch);

struct nltp_block {
    uint64_t word; /* 0: not a tracked block */
    uint64_t size_bytes;
};
/* Takes the word of a block away and returns it. */
struct nltp_block nltp_block_take(uintptr_t address);
/* The block that starts at an address, left in place. */
struct nltp_block nltp_block_peek(uintptr_t address);
/* The live block that an address lies inside of, not at its start. Looks some 100 KB back; other allocators than glibc's keep blocks
 * where it does not look. */
struct nltp_block nltp_block_around(uintptr_t address, uintptr_t *start);
/* Empties the table, counting what was in it as missed releases. While no hook is in place. */
void nltp_blocks_forget(void);
uint32_t nltp_word_context(uint64_t word);
uint32_t nltp_word_epoch(uint64_t word);

/* ---- pairing.c: releases that are wrong --------------------------------------------------------------------------------- */

/* 0 while nobody asks. Else the number of the period in which somebody does. */
extern uint32_t nltp_pairing_period NLTP_HIDDEN;
/* Before the real release of a live block, whose word has been taken. */
void nltp_pairing_note(uint32_t period, uintptr_t address, struct nltp_block block, uint32_t context);
/* The allocator handed the address out, or took back what it had promised: an earlier release of it is history. */
void nltp_pairing_handed_out(const void *pointer);
/* Before the release of an address that no live block has. False: it is wrong; it has been listed. *readable_bytes, if asked for: of
 * what the address points to. */
bool nltp_pairing_allows(uint32_t period, uintptr_t address, bool resizes, uintptr_t return_address, const uintptr_t *hook_frame,
                         size_t *readable_bytes);
/* Under the control functions' lock: */
bool nltp_pairing_begin(void);
void nltp_pairing_end(void);
void nltp_pairing_end_all(void);
void nltp_pairing_forget(void);
void nltp_pairing_mark_epochs(void (*mark)(uint8_t *used, uint32_t epoch), uint8_t *used);

/* ---- totals.c: what each context allocated and freed ------------------------------------------------------------------ */

void nltp_totals_allocated(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes);
void nltp_totals_freed(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes);
/* Takes nltp_totals_freed() back. */
void nltp_totals_unfreed(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes);
/* Adds everything that is pending in the thread's table. */
void nltp_totals_flush(struct nltp_thread *thread);

/* ---- record.c: the one place where recording is ordered against the real call ----------------------------------------- */

/* In a hook: where it returns to, and its own frame {caller's rbp, return address}. */
#define NLTP_CALLER (uintptr_t)__builtin_return_address(0), (const uintptr_t *)__builtin_frame_address(0)

void nltp_record_allocation(void *pointer, size_t size_bytes, uintptr_t return_address, const uintptr_t *hook_frame);
/* False: the release is wrong and must not be passed on (pairing.c). */
bool nltp_record_release(void *pointer, uintptr_t return_address, const uintptr_t *hook_frame);
/* Around a real realloc: take before, settle after. False: the resize is wrong and must not be passed on; *block then has the bytes
 * that can be read. */
bool nltp_record_resize_begin(void *pointer, struct nltp_block *block, uintptr_t return_address, const uintptr_t *hook_frame);
/* A block whose address the allocator handed out again: its release went unseen. */
void nltp_record_missed_release(struct nltp_block block);
void nltp_record_resize_end(void *pointer, struct nltp_block old, void *result, size_t size_bytes, uintptr_t return_address,
                            const uintptr_t *hook_frame);

/* ---- hooks.c ------------------------------------------------------------------------------------------------------- */

struct nltp_hook {
    const char *name;
    void *hook;
    void **real;   /* the function that the hook calls; NULL: not followed */
    bool releases; /* may release a block */
};
extern const struct nltp_hook nltp_hooks[] NLTP_HIDDEN;
extern const unsigned nltp_hook_count NLTP_HIDDEN;
/* Index in nltp_hooks; -1 when no hook has that name. */
int nltp_hook_named(const char *name);

/* Finds the functions behind the hooks. False: an allocator is missing. */
bool nltp_hooks_resolve(void);

/* ---- rebind.c ------------------------------------------------------------------------------------------------------ */

/* Points every import of a hooked function at its hook, releases first. Later loads and dlsym() bind there by themselves,
 * because the defining library's symbol table says so. Returns an enum nlt_status; *rebound: imports changed. */
int nltp_rebind(uint32_t *rebound);
/* bound_imports.c: the same for pointers that no relocation describes, which the runtime bound before the hooks were there.
 * Counts what cannot be rebound as unseen imports. Returns how many were. */
uint32_t nltp_rebind_bound_imports(void);
/* Address of a function in the first object that defines it, the shim left out; NULL when none does. */
void *nltp_first_definition(const char *name);
/* Gives every import and the symbol table back, releases last. */
int nltp_rebind_undo(void);

/* ---- freeze.c: the copy that is read while the program goes on --------------------------------------------------------- */

/* Under the control functions' lock: */
int nltp_freeze(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity);

/* headroom.c. False: the copy could need more than there is. `root`: before each path; a test has its own files there. */
bool nltp_headroom_suffices(const char *root, uint64_t *needed_bytes, uint64_t *available_bytes);

/* stand_still.c. Notes where all other threads stand, and keeps those that run from running until nltp_go_on(), which must be called
 * whatever this returns: 0 or -errno. *since_ns: when the first could have been stopped (CLOCK_MONOTONIC). */
int nltp_stand_still(uint64_t *since_ns);
void nltp_go_on(void);
/* Afterwards: appends what was noted. */
void nltp_tell_threads(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity);
/* In a fork's child: nobody stands still there. */
void nltp_stand_still_after_fork(void);

/* ---- lifecycle.c, stats.c ------------------------------------------------------------------------------------------ */

/* A preloaded shim starts with the first call of a hook. False: not now (the real functions are being looked up). */
bool nltp_begin_preloaded(void);

void nltp_stats_init(void);
/* Appends the counters as a line of JSON to the file that NATIVELEAKS_STATS names, if it does. */
void nltp_stats_append(void);

#endif
