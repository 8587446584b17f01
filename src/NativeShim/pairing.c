/* Releases that are wrong: of a block that was released before, or of what is no block's start. Checked while a scope asks for it.
 *
 * A wrong release would have the allocator end the process or damage its heap, and no report would tell of it. So it is listed with
 * its stacks and not passed on: the only call that the shim alters. An accusation must be certain; where it is not, the release is
 * counted and passed on.
 *
 * Recent releases stand in a table by address: put there before the real call, as all releases are recorded, and forgotten after a
 * real allocation that returned the address, whether that allocation is recorded or not. So an address in the table is nobody's. */
#include "shim.h"

#include <elf.h>

uint32_t nltp_pairing_period;

/* ---- recent releases ------------------------------------------------------------------------------------------------- */

#define RECENT_BITS 16
struct recent {
    uint64_t address; /* 0: none; WRITING: another thread is about to say */
    uint64_t size_bytes;
    uint32_t allocated_context, released_context;
    uint32_t epoch;
    uint32_t period; /* a thread that comes late with an entry of an earlier period accuses nobody */
};
#define WRITING 1u

static struct recent *recent;
static uint32_t askers, periods;

static inline struct recent *slot_of(uintptr_t address) {
    uint64_t mixed = (address >> 4) * UINT64_C(0x9e3779b97f4a7c15);
    return &recent[mixed >> (64 - RECENT_BITS)];
}

void nltp_pairing_note(uint32_t period, uintptr_t address, struct nltp_block block, uint32_t context) {
    struct recent *slot = slot_of(address);
    uint64_t found = nltp_load(&slot->address);
    /* Two threads at one place: one of their releases is forgotten, and a bug may be missed. */
    if (found == WRITING || !nltp_cas(&slot->address, &found, WRITING)) return;
    nltp_store(&slot->size_bytes, block.size_bytes);
    nltp_store(&slot->allocated_context, nltp_word_context(block.word));
    nltp_store(&slot->released_context, context);
    nltp_store(&slot->epoch, nltp_word_epoch(block.word));
    nltp_store(&slot->period, period);
    nltp_store_release(&slot->address, address);
}

void nltp_pairing_handed_out(const void *pointer) {
    struct recent *slot = slot_of((uintptr_t)pointer);
    uint64_t address = (uintptr_t)pointer;
    if (nltp_load(&slot->address) == address) nltp_cas(&slot->address, &address, 0);
}

static bool find_recent(uint32_t period, uintptr_t address, struct recent *copy) {
    const struct recent *slot = slot_of(address);
    if (nltp_load_acquire(&slot->address) != address) return false;
    copy->size_bytes = nltp_load(&slot->size_bytes);
    copy->allocated_context = nltp_load(&slot->allocated_context);
    copy->released_context = nltp_load(&slot->released_context);
    copy->epoch = nltp_load(&slot->epoch);
    copy->period = nltp_load(&slot->period);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return nltp_load(&slot->address) == address && copy->period == period;
}

/* ---- what is certain ------------------------------------------------------------------------------------------------- */

/* Found once, when it is first asked for. */
static struct nltp_object c_library, dynamic_linker;
static bool is_glibc; /* the malloc that is followed is the C library's own, and that is glibc */

static void find_out(void) {
    void *malloc_function = *nltp_hooks[nltp_hook_named("malloc")].real;
    void *version = nltp_first_definition("gnu_get_libc_version"), *linker = nltp_first_definition("__tls_get_addr");
    is_glibc = nltp_find_object((uintptr_t)malloc_function, &c_library) && (uintptr_t)version >= c_library.start &&
               (uintptr_t)version < c_library.end && nltp_find_object((uintptr_t)linker, &dynamic_linker);
}

static inline bool is_in(const struct nltp_object *object, uintptr_t address) {
    return address >= object->start && address < object->end;
}

/* An allocation that passed the hooks by may have been given the address. Imports that do are counted. In a late start the dynamic
 * linker's own allocations do, and some of them (dlerror's texts) are released by the C library. */
static bool sees_every_allocation(uintptr_t return_address) {
    return is_glibc && nltp_load(&nltp_ledger->losses.unseen_imports) == 0 &&
           (nltp_ledger->mode == NLT_MODE_PRELOAD || !(is_in(&c_library, return_address) || is_in(&dynamic_linker, return_address)));
}

/* A block whose release was missed covers what may long be another's. */
static bool sees_every_release(void) {
    return is_glibc && nltp_load(&nltp_ledger->losses.unseen_imports) == 0 && nltp_load(&nltp_ledger->losses.missed_frees) == 0;
}

/* Inside one of the segments that were loaded from the object's file: between them somebody else's memory may lie. */
static bool is_in_image(uintptr_t address) {
    struct nltp_object object;
    if (!nltp_find_object_at_once(address, &object)) return false;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)object.start;
    if (!nltp_is_mapped(object.start, sizeof *header) || *(const uint32_t *)header != 0x464c457f /* \177ELF */) return false;
    if (header->e_phoff + (uint64_t)header->e_phnum * sizeof(Elf64_Phdr) > 4096) return false; /* not in the first page */
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(object.start + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && address - (object.load_bias + segments[i].p_vaddr) < segments[i].p_memsz) return true;
    return false;
}

/* Between the hook's frame and the outermost one, on the stack that the thread was born with. A signal may have come while another
 * stack was in use; then nothing is certain. */
static bool is_on_stack(const struct nltp_thread *thread, uintptr_t address, const uintptr_t *hook_frame) {
    const uintptr_t largest_frame = 1u << 20;
    if (!thread->on_own_stack || thread->depth == 0) return false;
    uintptr_t inner = (uintptr_t)hook_frame;
    for (uint32_t i = thread->depth; i-- > 0; inner = thread->cached[i].sp) {
        const struct nltp_cached_frame *frame = &thread->cached[i];
        if (frame->sp < inner || frame->sp - inner > largest_frame || (frame->flags & NLT_FRAME_EXACT_PC)) return false;
    }
    return address >= (uintptr_t)hook_frame && address < inner;
}

static bool may_be_on_stack(uintptr_t address, const uintptr_t *hook_frame) {
    return address - (uintptr_t)hook_frame < UINT64_C(64) << 20;
}

/* ---- the list -------------------------------------------------------------------------------------------------------- */

static void list(struct nlt_pairing bug) {
    uint32_t id = nltp_table_take(NLT_TABLE_PAIRINGS, 1);
    if (id == 0) {
        nltp_add(&nltp_ledger->losses.unlisted_pairings, 1);
        return;
    }
    struct nlt_pairing *entry = (struct nlt_pairing *)nltp_table(NLT_TABLE_PAIRINGS) + id;
    *entry = bug;
    nltp_store_release(&entry->is_complete, 1);
}

static bool count_uncertain(void) {
    nltp_add(&nltp_ledger->losses.uncertain_releases, 1);
    return true;
}

/* Says in *bug what is wrong with the release of an address that no live block has, as far as can be told without a stack. */
static enum nlt_pairing_kind judge(uint32_t period, uintptr_t address, uintptr_t return_address, struct nlt_pairing *bug,
                                   bool *certain) {
    struct recent earlier;
    struct nltp_block around;
    uintptr_t start;
    if (find_recent(period, address, &earlier)) {
        bug->size_bytes = earlier.size_bytes;
        bug->allocated_context = earlier.allocated_context;
        bug->first_release_context = earlier.released_context;
        bug->block_epoch = earlier.epoch;
        *certain = sees_every_allocation(return_address);
        return NLT_PAIRING_RELEASED_BEFORE;
    }
    *certain = is_glibc && !is_in(&dynamic_linker, return_address); /* which has memory of its own from before malloc */
    around = nltp_block_around(address, &start);
    if (around.word != 0 && sees_every_release()) {
        bug->size_bytes = around.size_bytes;
        bug->detail = address - start;
        bug->allocated_context = nltp_word_context(around.word);
        bug->block_epoch = nltp_word_epoch(around.word);
        return NLT_PAIRING_INSIDE_BLOCK;
    }
    if (is_glibc && (address & 15) != 0) return NLT_PAIRING_MISALIGNED;
    if (is_in_image(address)) return NLT_PAIRING_IN_IMAGE;
    *certain = false;
    return around.word != 0 ? NLT_PAIRING_INSIDE_BLOCK : NLT_PAIRING_NONE;
}

bool nltp_pairing_allows(uint32_t period, uintptr_t address, bool resizes, uintptr_t return_address, const uintptr_t *hook_frame,
                         size_t *readable_bytes) {
    struct nlt_pairing bug = {.address = address};
    bool certain = false;
    bug.kind = judge(period, address, return_address, &bug, &certain);
    if (bug.kind == NLT_PAIRING_NONE && !may_be_on_stack(address, hook_frame)) return true;
    if (bug.kind != NLT_PAIRING_NONE && !certain) return count_uncertain();

    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) return bug.kind == NLT_PAIRING_NONE || count_uncertain();
    bug.release_context = nltp_walk(thread, return_address, (uintptr_t)(hook_frame + 2), hook_frame[0]);
    bool on_stack = is_on_stack(thread, address, hook_frame);
    nltp_thread_leave(thread);
    if (on_stack && bug.kind != NLT_PAIRING_RELEASED_BEFORE) bug.kind = NLT_PAIRING_ON_STACK;
    if (bug.kind == NLT_PAIRING_NONE) return true;

    bug.epoch = nltp_load(&nltp_scopes[nltp_tls.scope].epoch);
    bug.flags = resizes ? NLT_PAIRING_RESIZE : 0;
    list(bug);
    if (readable_bytes != NULL) *readable_bytes = bug.size_bytes - (bug.kind == NLT_PAIRING_INSIDE_BLOCK ? bug.detail : 0);
    return false;
}

/* ---- asked by C# ----------------------------------------------------------------------------------------------------- */

uint64_t nlt_live_word(uint64_t address) {
    return nltp_load(&nltp_pairing_period) != 0 ? nltp_block_peek((uintptr_t)address).word : 0;
}

void nlt_wrong_function(uint64_t address, uint64_t functions) {
    struct nltp_block block = nltp_block_peek((uintptr_t)address);
    if (nltp_load(&nltp_pairing_period) == 0 || block.word == 0) return;
    const uintptr_t *frame = __builtin_frame_address(0);
    struct nltp_thread *thread = nltp_thread_enter();
    if (thread == NULL) {
        count_uncertain();
        return;
    }
    uint32_t context = nltp_walk(thread, (uintptr_t)__builtin_return_address(0), (uintptr_t)(frame + 2), frame[0]);
    nltp_thread_leave(thread);
    list((struct nlt_pairing){
        .address = address,
        .size_bytes = block.size_bytes,
        .detail = functions,
        .kind = NLT_PAIRING_WRONG_FUNCTION,
        .allocated_context = nltp_word_context(block.word),
        .release_context = context,
        .epoch = nltp_load(&nltp_scopes[nltp_tls.scope].epoch),
        .block_epoch = nltp_word_epoch(block.word),
    });
}

/* ---- on and off: under the control functions' lock ----------------------------------------------------------------------- */

bool nltp_pairing_begin(void) {
    if (recent == NULL) {
        recent = nltp_map(sizeof *recent << RECENT_BITS);
        if (recent == NULL) return false;
        find_out();
    }
    if (askers++ == 0) nltp_store_release(&nltp_pairing_period, ++periods);
    return true;
}

void nltp_pairing_end(void) {
    if (askers > 0 && --askers == 0) nltp_store_release(&nltp_pairing_period, 0);
}

void nltp_pairing_end_all(void) {
    askers = 0;
    nltp_store_release(&nltp_pairing_period, 0);
}

void nltp_pairing_forget(void) {
    struct nlt_table *table = &nltp_ledger->tables[NLT_TABLE_PAIRINGS];
    struct nlt_pairing *bugs = nltp_table(NLT_TABLE_PAIRINGS);
    for (uint32_t i = 1; i < table->count; i++) nltp_store(&bugs[i].is_complete, 0);
    nltp_store_release(&table->count, 1);
}

void nltp_pairing_mark_epochs(void (*mark)(uint8_t *used, uint32_t epoch), uint8_t *used) {
    const struct nlt_pairing *bugs = nltp_table(NLT_TABLE_PAIRINGS);
    for (uint32_t i = 1; i < nltp_ledger->tables[NLT_TABLE_PAIRINGS].count; i++) {
        mark(used, bugs[i].epoch);
        mark(used, bugs[i].block_epoch);
    }
    for (uint32_t i = 0; recent != NULL && i < 1u << RECENT_BITS; i++) mark(used, recent[i].epoch);
}
