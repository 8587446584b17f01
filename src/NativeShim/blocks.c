/* Live blocks: one word for each 32 bytes of heap, in two levels (nlt_ledger.h shows the layout). A word belongs to one
 * block from the moment the allocator hands it out until it takes it back, and the allocator orders those moments; so
 * plain stores do, and no word is ever contended. */
#include "shim.h"

#define WORD_MASK (NLT_CHUNK_WORDS - 1)

static inline uint64_t *chunk_at(uintptr_t address) {
    if (NLTP_UNLIKELY(address >> NLT_ADDRESS_BITS)) return NULL;
    return (uint64_t *)nltp_load_acquire(&nltp_directory[address >> NLT_CHUNK_HEAP_SHIFT]);
}

static NLTP_NOINLINE uint64_t *make_chunk(uintptr_t address) {
    if (address >> NLT_ADDRESS_BITS) return NULL;
    uint64_t *slot = &nltp_directory[address >> NLT_CHUNK_HEAP_SHIFT];
    uint64_t found = nltp_load_acquire(slot);
    if (found != 0) return (uint64_t *)found;
    uint64_t *chunk = nltp_map(NLT_CHUNK_BYTES);
    if (chunk == NULL) return NULL;
    if (!nltp_cas(slot, &found, (uint64_t)chunk)) {
        nltp_unmap(chunk, NLT_CHUNK_BYTES); /* another thread was first */
        return (uint64_t *)found;
    }
    uint32_t id = nltp_table_take(NLT_TABLE_CHUNKS, 1);
    if (id == 0) return chunk; /* 16 TB of heap: more than a reader is shown */
    struct nlt_chunk *listed = (struct nlt_chunk *)nltp_table(NLT_TABLE_CHUNKS) + id;
    listed->heap_start = address >> NLT_CHUNK_HEAP_SHIFT << NLT_CHUNK_HEAP_SHIFT;
    nltp_store_release(&listed->words, (uint64_t)chunk);
    return chunk;
}

static inline uint64_t *word_at(uint64_t *chunk, uintptr_t address) {
    return &chunk[(address >> NLT_WORD_HEAP_SHIFT) & WORD_MASK];
}

/* The word that holds the size of a block too large for its own: the next one, perhaps in the next chunk. */
static uint64_t *size_word(uintptr_t address, bool make) {
    uintptr_t next = address + (1u << NLT_WORD_HEAP_SHIFT);
    uint64_t *chunk = make ? make_chunk(next) : chunk_at(next);
    return chunk == NULL ? NULL : word_at(chunk, next);
}

static inline uint64_t half_of(uintptr_t address) {
    return (address >> 4) & 1;
}

bool nltp_block_put(uintptr_t address, size_t size_bytes, uint32_t context, uint32_t epoch) {
    uint64_t *chunk = chunk_at(address);
    if (NLTP_UNLIKELY(chunk == NULL)) chunk = make_chunk(address);
    if (NLTP_UNLIKELY(chunk == NULL)) return false;
    uint64_t size = size_bytes;
    if (NLTP_UNLIKELY(size >= NLT_SIZE_ESCAPE)) {
        uint64_t *wide = size_word(address, true);
        if (wide == NULL) return false;
        nltp_store(wide, size);
        size = NLT_SIZE_ESCAPE;
    }
    uint64_t *word = word_at(chunk, address);
    if (NLTP_UNLIKELY(nltp_load(word) != 0)) nltp_add(&nltp_ledger->losses.close_blocks, 1);
    nltp_store(word, (uint64_t)context << NLT_WORD_CONTEXT_SHIFT | size << NLT_WORD_SIZE_SHIFT |
                         half_of(address) << NLT_WORD_HALF_SHIFT | epoch);
    return true;
}

struct nltp_block nltp_block_take(uintptr_t address) {
    struct nltp_block block = {0, 0};
    uint64_t *chunk = chunk_at(address);
    if (chunk == NULL) return block;
    uint64_t *word = word_at(chunk, address);
    uint64_t found = nltp_load(word);
    if (found == 0 || ((found >> NLT_WORD_HALF_SHIFT) & 1) != half_of(address)) return block;
    nltp_store(word, 0);
    block.word = found;
    block.size_bytes = (found >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE;
    if (NLTP_UNLIKELY(block.size_bytes == NLT_SIZE_ESCAPE)) {
        uint64_t *wide = size_word(address, false);
        block.size_bytes = nltp_load(wide);
        nltp_store(wide, 0);
    }
    return block;
}

void nltp_block_restore(uintptr_t address, struct nltp_block block) {
    if (block.size_bytes >= NLT_SIZE_ESCAPE) nltp_store(size_word(address, false), block.size_bytes);
    nltp_store(word_at(chunk_at(address), address), block.word);
}

uint32_t nltp_word_context(uint64_t word) {
    return (uint32_t)(word >> NLT_WORD_CONTEXT_SHIFT);
}

uint32_t nltp_word_epoch(uint64_t word) {
    return (uint32_t)word & ((1u << NLT_EPOCH_BITS) - 1);
}
