/* Scopes and epochs: for whom a block was made, and when.
 *
 * A scope's entry names the epoch that its blocks are stamped with now; entry 0 does so for all threads outside. Threads only
 * read it. Everything here that changes entries runs under the control functions' lock, never in a hook. */
#include "shim.h"

#include <time.h>

struct nlt_scope *nltp_scopes;

static uint32_t last_tag, gc_count;
static uint32_t whole_process_scopes; /* open ones */
static uint32_t free_epochs;          /* head of the chain of free entries */

static struct nlt_epoch *epochs(void) {
    return nltp_table(NLT_TABLE_EPOCHS);
}

void nltp_epochs_init(void) {
    nltp_scopes = nltp_table(NLT_TABLE_SCOPES);
    struct nlt_epoch *older = &epochs()[nltp_table_take(NLT_TABLE_EPOCHS, 1)]; /* NLT_EPOCH_OLDER */
    older->sequence = nltp_ledger->epochs_begun = 1;
    older->scope_tag = NLT_TAG_NOBODY;
    struct nlt_scope *nobody = &nltp_scopes[nltp_table_take(NLT_TABLE_SCOPES, 1)]; /* NLT_SCOPE_NOBODY */
    nobody->tag = NLT_TAG_NOBODY;
    nobody->epoch = NLT_EPOCH_OLDER;
}

/* ---- reuse ---------------------------------------------------------------------------------------------------------- */

/* A thread that read an epoch from its scope's entry stamps a block with it a few instructions later. So many epochs are not
 * begun in between. */
#define TOO_YOUNG 4096u

static void mark(uint8_t *used, uint32_t epoch) {
    used[epoch] = 1;
}

static void mark_page(void *page, void *used) {
    const uint64_t *words = page;
    for (unsigned i = 0; i < 512; i++) mark(used, nltp_word_epoch(nltp_load(&words[i])));
}

static void mark_words(uint8_t *used) {
    const struct nlt_chunk *chunks = nltp_table(NLT_TABLE_CHUNKS);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_CHUNKS].count);
    for (uint32_t id = 1; id < count; id++) {
        uint64_t bytes = ((UINT64_C(1) << NLT_CHUNK_HEAP_SHIFT) >> chunks[id].heap_shift) * 8;
        nltp_for_each_present_page((const void *)nltp_load_acquire(&chunks[id].words), bytes, mark_page, used);
    }
}

static void mark_finalized(uint8_t *used) {
    const struct nlt_finalized *list = nltp_table(NLT_TABLE_FINALIZED);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_FINALIZED].count);
    for (uint32_t i = 1; i < count; i++) mark(used, nltp_load(&list[i].epoch));
}

/* Frees every epoch that nothing refers to. Sizes that stand in the table as plain numbers mark an epoch too many, no more. */
static void reclaim(void) {
    uint32_t count = nltp_ledger->tables[NLT_TABLE_EPOCHS].count;
    uint8_t *used = nltp_map(1u << NLT_EPOCH_BITS);
    if (used == NULL) return;
    mark_words(used);
    uint32_t scopes = nltp_ledger->tables[NLT_TABLE_SCOPES].count;
    for (uint32_t i = 0; i < scopes; i++) mark(used, nltp_scopes[i].epoch);
    nltp_pairing_mark_epochs(mark, used);
    mark_finalized(used);
    mark(used, NLT_EPOCH_OLDER);
    for (uint32_t id = 1; id < count; id++) {
        struct nlt_epoch *epoch = &epochs()[id];
        if (used[id] || epoch->sequence == 0 || epoch->sequence + TOO_YOUNG > nltp_ledger->epochs_begun) continue;
        *epoch = (struct nlt_epoch){.next_free = free_epochs};
        free_epochs = id;
    }
    nltp_unmap(used, 1u << NLT_EPOCH_BITS);
}

static uint32_t take_entry(void) {
    uint32_t id = free_epochs != 0 ? 0 : nltp_table_take(NLT_TABLE_EPOCHS, 1);
    if (id == 0 && free_epochs == 0) reclaim();
    if (id == 0 && free_epochs != 0) {
        id = free_epochs;
        free_epochs = epochs()[id].next_free;
    }
    return id;
}

/* 0: all are in use. */
static uint32_t begin_epoch(uint32_t tag, uint32_t flags) {
    uint32_t id = take_entry();
    if (id == 0) return 0;
    struct nlt_epoch *epoch = &epochs()[id];
    *epoch = (struct nlt_epoch){
        .session = nltp_ledger->session,
        .scope_tag = tag,
        .gc_count = gc_count,
        .time_ms = (uint32_t)((nltp_clock_ns(CLOCK_REALTIME) - nltp_ledger->started_unix_ns) / 1000000u),
        .flags = flags,
    };
    nltp_store_release(&epoch->sequence, ++nltp_ledger->epochs_begun);
    return id;
}

/* ---- recording ------------------------------------------------------------------------------------------------------ */

static void set_recording(uint32_t askers) {
    nltp_store_release(&nltp_ledger->recording, askers);
    if (nltp_shared_start != 0) nltp_store_release(nltp_may_write + 1, askers); /* what a fork's child finds zeroed */
}

static bool renew(uint32_t scope) {
    uint32_t epoch = begin_epoch(nltp_scopes[scope].tag, nltp_scopes[scope].flags);
    if (epoch != 0) nltp_store_release(&nltp_scopes[scope].epoch, epoch); /* else the present one goes on */
    return epoch != 0;
}

/* A thread may run in a closed scope for as long as it likes. */
static void renew_all(void) {
    renew(NLT_SCOPE_NOBODY);
    uint32_t count = nltp_ledger->tables[NLT_TABLE_SCOPES].count;
    for (uint32_t i = 0; i < count; i++) {
        if (i == NLT_SCOPE_OUTSIDE || nltp_scopes[i].is_open) renew(i);
        else nltp_store_release(&nltp_scopes[i].epoch, nltp_scopes[NLT_SCOPE_NOBODY].epoch);
    }
}

/* Each beginning is an epoch of its own for those that it is about, the threads outside or everybody: who asked can tell what
 * came later. */
bool nltp_recording_begin(bool of_everybody) {
    if (!renew(NLT_SCOPE_OUTSIDE)) return false;
    if (of_everybody) renew_all();
    set_recording(nltp_ledger->recording + 1);
    return true;
}

void nltp_recording_end(void) {
    if (nltp_ledger->recording > 0) set_recording(nltp_ledger->recording - 1);
}

void nltp_epoch_advance(uint32_t collections) {
    gc_count = collections;
    if (nltp_ledger->recording != 0) renew_all();
}

/* ---- scopes --------------------------------------------------------------------------------------------------------- */

static bool runs_somewhere(uint32_t scope) {
    const struct nlt_thread *threads = nltp_table(NLT_TABLE_THREADS);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_THREADS].count);
    for (uint32_t id = 1; id < count; id++)
        if (nltp_load(&threads[id].tid) != 0 && nltp_load(&threads[id].scope) == scope) return true;
    return false;
}

/* Closed scopes in which no thread runs are taken again: oldest first, so that flows asleep on one have long since woken. */
static uint32_t take_scope(void) {
    static uint32_t next;
    struct nlt_table *table = &nltp_ledger->tables[NLT_TABLE_SCOPES];
    uint32_t count = table->count;
    for (uint32_t tried = 0; count > 256 && tried < 64; tried++) {
        next = next + 1 < count ? next + 1 : NLT_SCOPE_NOBODY + 1;
        if (!nltp_scopes[next].is_open && !runs_somewhere(next)) return next;
    }
    return nltp_table_take(NLT_TABLE_SCOPES, 1);
}

uint32_t nltp_scope_open(uint32_t flags, uint32_t *tag) {
    if (!nltp_recording_begin(flags & NLT_SCOPE_WHOLE_PROCESS)) return 0;
    uint32_t scope = take_scope();
    uint32_t epoch = scope != 0 ? begin_epoch(last_tag + 1, flags) : 0;
    if (epoch == 0) {
        nltp_recording_end();
        return 0;
    }
    *tag = nltp_scopes[scope].tag = ++last_tag;
    nltp_scopes[scope].flags = flags;
    nltp_scopes[scope].is_open = 1;
    nltp_store_release(&nltp_scopes[scope].epoch, epoch);
    if (flags & NLT_SCOPE_WHOLE_PROCESS) nltp_store(&whole_process_scopes, whole_process_scopes + 1);
    return scope;
}

void nltp_scope_retag(uint32_t scope, uint32_t tag) {
    if (scope <= NLT_SCOPE_NOBODY || scope >= nltp_ledger->tables[NLT_TABLE_SCOPES].count || !nltp_scopes[scope].is_open) return;
    uint32_t epoch = begin_epoch(tag, nltp_scopes[scope].flags);
    if (epoch == 0) return; /* all are in use: its blocks keep the tag that they had */
    nltp_scopes[scope].tag = tag;
    nltp_store_release(&nltp_scopes[scope].epoch, epoch);
}

static void forget_finalized(void) {
    struct nlt_table *table = &nltp_ledger->tables[NLT_TABLE_FINALIZED];
    struct nlt_finalized *list = nltp_table(NLT_TABLE_FINALIZED);
    for (uint32_t i = 1; i < table->count; i++) nltp_store(&list[i].is_complete, 0);
    nltp_store_release(&table->count, 1);
}

void nltp_scope_close(uint32_t scope) {
    uint32_t count = nltp_ledger->tables[NLT_TABLE_SCOPES].count;
    if (scope <= NLT_SCOPE_NOBODY || scope >= count || !nltp_scopes[scope].is_open) return;
    nltp_store_release(&nltp_scopes[scope].epoch, nltp_scopes[NLT_SCOPE_NOBODY].epoch);
    nltp_scopes[scope].is_open = 0;
    if (nltp_scopes[scope].flags & NLT_SCOPE_WHOLE_PROCESS) nltp_store(&whole_process_scopes, whole_process_scopes - 1);
    nltp_recording_end();
    for (uint32_t i = 1; i < count; i++)
        if (nltp_scopes[i].is_open) return;
    forget_finalized();
    nltp_pairing_forget();
}

void nltp_scopes_close_all(void) {
    uint32_t count = nltp_ledger->tables[NLT_TABLE_SCOPES].count;
    for (uint32_t i = 1; i < count; i++) nltp_scope_close(i);
    set_recording(0);
}

/* ---- releases by the finalizer thread --------------------------------------------------------------------------------- */

bool nltp_is_of_open_scope(uint64_t word) {
    const struct nlt_epoch *epoch = &epochs()[nltp_word_epoch(word)];
    uint32_t tag = epoch->scope_tag;
    if (epoch->flags & NLT_SCOPE_IGNORED) return false;
    if (nltp_load(&whole_process_scopes) != 0) return true;
    if (tag == NLT_TAG_OUTSIDE || tag == NLT_TAG_NOBODY) return false;
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_SCOPES].count);
    for (uint32_t i = 1; i < count; i++)
        if (nltp_load(&nltp_scopes[i].is_open) && nltp_load(&nltp_scopes[i].tag) == tag) return true;
    return false;
}

void nltp_note_finalized(uintptr_t address, uint64_t word, uint64_t size_bytes, uint32_t freed_context) {
    uint32_t id = nltp_table_take(NLT_TABLE_FINALIZED, 1);
    if (id == 0) {
        nltp_add(&nltp_ledger->losses.unlisted_finalized, 1);
        return;
    }
    struct nlt_finalized *entry = (struct nlt_finalized *)nltp_table(NLT_TABLE_FINALIZED) + id;
    entry->address = address;
    entry->size_bytes = size_bytes;
    entry->allocated_context = nltp_word_context(word);
    entry->freed_context = freed_context;
    entry->epoch = nltp_word_epoch(word);
    nltp_store_release(&entry->is_complete, 1);
}
