/* What each context allocated and freed, over all time. A thread adds up its own events in a small table and passes a slot on
 * when another context needs it, so that no event writes a cache line that another thread writes. */
#include "shim.h"

/* Larger blocks go past the slots, so that 2^19 of the others cannot overflow an amount's bytes. */
#define LARGE_BYTES (UINT64_C(1) << 24)
#define ONE_BLOCK (UINT64_C(1) << NLT_AMOUNT_BYTE_BITS)
#define FULL(amount) ((int64_t)(amount) < 0)

static inline uint64_t blocks_of(uint64_t amount) {
    return amount >> NLT_AMOUNT_BYTE_BITS;
}
static inline uint64_t bytes_of(uint64_t amount) {
    return amount & (ONE_BLOCK - 1);
}

static struct nlt_totals *totals_of(uint32_t context) {
    struct nlt_context *node = &nltp_nodes[context];
    struct nlt_totals *table = nltp_table(NLT_TABLE_TOTALS);
    uint32_t id = nltp_load_acquire(&node->totals);
    if (id != 0) return &table[id];
    uint32_t made = nltp_table_take(NLT_TABLE_TOTALS, 1);
    if (made == 0) return NULL;
    table[made].context = context;
    if (nltp_cas(&node->totals, &id, made)) return &table[made];
    table[made].context = 0; /* another thread was first: the entry stays empty */
    return &table[id];
}

struct sums {
    uint64_t allocated_blocks, allocated_bytes, freed_blocks, freed_bytes;
    int64_t peak_net_bytes;
};

/* Adds to the thread's counters and to the context's totals. */
static NLTP_NOINLINE void add(struct nlt_thread *entry, uint32_t context, struct sums sums) {
    nltp_bump(&entry->allocated_blocks, sums.allocated_blocks);
    nltp_bump(&entry->allocated_bytes, sums.allocated_bytes);
    nltp_bump(&entry->freed_blocks, sums.freed_blocks);
    nltp_bump(&entry->freed_bytes, sums.freed_bytes);
    struct nlt_totals *totals = totals_of(context);
    if (totals == NULL) {
        nltp_add(&nltp_ledger->losses.untotalled_blocks, sums.allocated_blocks);
        return;
    }
    uint64_t allocated = nltp_add(&totals->allocated_bytes, sums.allocated_bytes);
    uint64_t freed = nltp_add(&totals->freed_bytes, sums.freed_bytes);
    nltp_add(&totals->allocated_blocks, sums.allocated_blocks);
    nltp_add(&totals->freed_blocks, sums.freed_blocks);
    int64_t peak = (int64_t)(allocated - freed) + sums.peak_net_bytes;
    uint64_t highest = nltp_load(&totals->peak_bytes);
    while (peak > (int64_t)highest && !nltp_cas(&totals->peak_bytes, &highest, (uint64_t)peak)) {
    }
}

static void begin_change(struct nlt_pending *pending) {
    nltp_store(&pending->version, pending->version + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}
static void end_change(struct nlt_pending *pending) {
    nltp_store_release(&pending->version, pending->version + 1);
}

static void pass_on(struct nltp_thread *thread, struct nlt_pending_slot *slot) {
    struct sums sums = {blocks_of(slot->allocated), bytes_of(slot->allocated), blocks_of(slot->freed), bytes_of(slot->freed),
                        slot->peak_net_bytes};
    add(thread->entry, slot->context, sums);
}

static NLTP_NOINLINE void change_slot(struct nltp_thread *thread, struct nlt_pending_slot *slot, uint32_t context) {
    begin_change(thread->pending);
    if (slot->context != 0) pass_on(thread, slot);
    *slot = (struct nlt_pending_slot){.context = context};
    end_change(thread->pending);
}

static NLTP_NOINLINE void add_directly(struct nltp_thread *thread, uint32_t context, struct sums sums) {
    begin_change(thread->pending);
    add(thread->entry, context, sums);
    end_change(thread->pending);
}

static inline struct nlt_pending_slot *slot_of(struct nltp_thread *thread, uint32_t context) {
    struct nlt_pending_slot *slot = &thread->pending->slots[context % NLT_PENDING_SLOTS];
    if (NLTP_UNLIKELY(slot->context != context || FULL(slot->allocated | slot->freed))) change_slot(thread, slot, context);
    return slot;
}

void nltp_totals_allocated(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes) {
    if (NLTP_UNLIKELY(size_bytes >= LARGE_BYTES)) {
        add_directly(thread, context, (struct sums){1, size_bytes, 0, 0, (int64_t)size_bytes});
        return;
    }
    struct nlt_pending_slot *slot = slot_of(thread, context);
    slot->allocated += ONE_BLOCK + size_bytes;
    int64_t net = (int64_t)bytes_of(slot->allocated) - (int64_t)bytes_of(slot->freed);
    if (net > slot->peak_net_bytes) slot->peak_net_bytes = net;
}

void nltp_totals_freed(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes) {
    if (NLTP_UNLIKELY(size_bytes >= LARGE_BYTES)) {
        add_directly(thread, context, (struct sums){0, 0, 1, size_bytes, 0});
        return;
    }
    slot_of(thread, context)->freed += ONE_BLOCK + size_bytes;
}

void nltp_totals_unfreed(struct nltp_thread *thread, uint32_t context, uint64_t size_bytes) {
    add_directly(thread, context, (struct sums){0, 0, (uint64_t)-1, -size_bytes, 0});
}

void nltp_totals_flush(struct nltp_thread *thread) {
    for (uint32_t i = 0; i < NLT_PENDING_SLOTS; i++)
        if (thread->pending->slots[i].context != 0) change_slot(thread, &thread->pending->slots[i], 0);
}
