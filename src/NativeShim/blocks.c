/* Live blocks: one word for each 32 bytes of heap, in two levels (nlt_ledger.h shows the layout). A word belongs to one
 * block from the moment the allocator hands it out until it takes it back, and the allocator orders those moments; so
 * plain stores do, and no word is ever contended.
 *
 * Where an allocator puts two blocks into one word's 32 bytes, the later one goes to the region's fine chunk, with a word for
 * each 8 bytes. Such a region gets one when it first needs it; with glibc's malloc none ever does. */
#include "shim.h"

struct grain {
    enum nlt_table_id directory;
    unsigned shift;
    uint64_t words;
};
static const struct grain coarse = {NLT_TABLE_DIRECTORY, NLT_WORD_HEAP_SHIFT, NLT_CHUNK_WORDS};
static const struct grain fine = {NLT_TABLE_FINE_DIRECTORY, NLT_FINE_HEAP_SHIFT, NLT_FINE_CHUNK_WORDS};

static uint64_t any_fine_chunk; /* 0 as long as no allocator puts blocks that close */

static inline uint64_t *directory_of(const struct grain *grain) {
    return grain->directory == NLT_TABLE_DIRECTORY ? nltp_directory : nltp_fine_directory;
}

static inline uint64_t *chunk_at(const uint64_t *directory, uintptr_t address) {
    if (NLTP_UNLIKELY(address >> NLT_ADDRESS_BITS)) return NULL;
    return (uint64_t *)nltp_load_acquire(&directory[address >> NLT_CHUNK_HEAP_SHIFT]);
}

static inline uint64_t *word_in(uint64_t *chunk, uintptr_t address, const struct grain *grain) {
    return &chunk[(address >> grain->shift) & (grain->words - 1)];
}

static NLTP_NOINLINE uint64_t *make_chunk(uintptr_t address, const struct grain *grain) {
    if (address >> NLT_ADDRESS_BITS) return NULL;
    uint64_t *slot = &directory_of(grain)[address >> NLT_CHUNK_HEAP_SHIFT];
    uint64_t found = nltp_load_acquire(slot);
    if (found != 0) return (uint64_t *)found;
    uint64_t file_offset;
    uint64_t *chunk = nltp_ledger_chunk(grain->words * 8, &file_offset);
    if (chunk == NULL) return NULL;
    if (!nltp_cas(slot, &found, (uint64_t)chunk)) {
        nltp_ledger_chunk_unused(chunk, grain->words * 8); /* another thread was first */
        return (uint64_t *)found;
    }
    if (grain == &fine) nltp_store(&any_fine_chunk, 1);
    uint32_t id = nltp_table_take(NLT_TABLE_CHUNKS, 1);
    if (id == 0) return chunk; /* 16 TB of heap: more than a reader is shown */
    struct nlt_chunk *listed = (struct nlt_chunk *)nltp_table(NLT_TABLE_CHUNKS) + id;
    listed->heap_start = address >> NLT_CHUNK_HEAP_SHIFT << NLT_CHUNK_HEAP_SHIFT;
    listed->heap_shift = grain->shift;
    listed->file_offset = file_offset;
    nltp_store_release(&listed->words, (uint64_t)chunk);
    return chunk;
}

/* The word at an address, its chunk being made if need be; NULL when there is no memory. */
static inline uint64_t *make_word(uintptr_t address, const struct grain *grain, const uint64_t *directory) {
    uint64_t *chunk = chunk_at(directory, address);
    if (NLTP_UNLIKELY(chunk == NULL)) chunk = make_chunk(address, grain);
    if (NLTP_UNLIKELY(chunk == NULL)) return NULL;
    uint64_t *word = word_in(chunk, address, grain);
    return NLTP_LIKELY(nltp_ledger_reserve_word(word)) ? word : NULL;
}

static inline uint64_t quarter_of(uintptr_t address) {
    return (address >> 3) & 3;
}
static inline bool has_quarter_of(uint64_t word, uintptr_t address) {
    return ((word >> NLT_WORD_QUARTER_SHIFT) & 3) == quarter_of(address);
}
/* A size that stands behind its block names no context: a release of that place is not one of a block. */
static inline bool is_word_of(uint64_t word, uintptr_t address) {
    return word >= UINT64_C(1) << NLT_WORD_CONTEXT_SHIFT && has_quarter_of(word, address);
}

/* The word behind a block's own, which holds a size that does not fit. */
static uint64_t *find_size_word(uintptr_t address, const struct grain *grain) {
    uintptr_t next = address + ((uintptr_t)1 << grain->shift);
    return word_in(chunk_at(directory_of(grain), next), next, grain);
}

static bool put_at(uint64_t *word, uintptr_t address, uint64_t size, uint32_t context, uint32_t epoch, const struct grain *grain) {
    if (NLTP_UNLIKELY(size >= NLT_SIZE_ESCAPE)) {
        uint64_t *wide = make_word(address + ((uintptr_t)1 << grain->shift), grain, directory_of(grain));
        if (wide == NULL) return false;
        nltp_store(wide, size);
        size = NLT_SIZE_ESCAPE;
    }
    nltp_store(word, (uint64_t)context << NLT_WORD_CONTEXT_SHIFT | size << NLT_WORD_SIZE_SHIFT |
                         quarter_of(address) << NLT_WORD_QUARTER_SHIFT | epoch);
    return true;
}

static struct nltp_block take_at(uint64_t *word, uintptr_t address, const struct grain *grain) {
    struct nltp_block block = {nltp_load(word), 0};
    nltp_store(word, 0);
    block.size_bytes = (block.word >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE;
    if (NLTP_UNLIKELY(block.size_bytes == NLT_SIZE_ESCAPE)) {
        uint64_t *wide = find_size_word(address, grain);
        block.size_bytes = nltp_load(wide);
        nltp_store(wide, 0);
    }
    return block;
}

/* The fine directory, unlike the coarse one, is there only where it is needed. */
static bool have_fine_directory(void) {
    size_t size = NLT_DIRECTORY_ENTRIES * sizeof(uint64_t);
    return nltp_load(&any_fine_chunk) || nltp_shared_start != 0 || nltp_ledger_reserve_piece(nltp_fine_directory, size);
}

static NLTP_NOINLINE bool put_close(uintptr_t address, uint64_t size, uint32_t context, uint32_t epoch) {
    if (!have_fine_directory()) return false;
    uint64_t *word = make_word(address, &fine, nltp_fine_directory);
    return word != NULL && put_at(word, address, size, context, epoch, &fine);
}

static NLTP_NOINLINE struct nltp_block take_close(uintptr_t address) {
    uint64_t *chunk = chunk_at(nltp_fine_directory, address);
    uint64_t *word = chunk == NULL ? NULL : word_in(chunk, address, &fine);
    if (word == NULL || !nltp_ledger_has_word(word) || !is_word_of(nltp_load(word), address)) return (struct nltp_block){0, 0};
    return take_at(word, address, &fine);
}

static inline enum nltp_put outcome(bool put) {
    return NLTP_LIKELY(put) ? NLTP_PUT : NLTP_NO_MEMORY;
}

static NLTP_NOINLINE enum nltp_put put_over(uint64_t *word, uintptr_t address, uint64_t size, uint32_t context, uint32_t epoch) {
    if (!has_quarter_of(nltp_load(word), address)) return outcome(put_close(address, size, context, epoch));
    if (nltp_tls.not_last_recorded == ~address) return NLTP_PUT_ALREADY;
    nltp_record_missed_release(take_at(word, address, &coarse));
    return outcome(put_at(word, address, size, context, epoch, &coarse));
}

enum nltp_put nltp_block_put(uintptr_t address, size_t size_bytes, uint32_t context, uint32_t epoch) {
    uint64_t *word = make_word(address, &coarse, nltp_directory);
    if (NLTP_UNLIKELY(word == NULL)) return NLTP_NO_MEMORY;
    if (NLTP_UNLIKELY(nltp_load(word) != 0)) return put_over(word, address, size_bytes, context, epoch);
    return outcome(put_at(word, address, size_bytes, context, epoch, &coarse));
}

struct nltp_block nltp_block_take(uintptr_t address) {
    uint64_t *chunk = chunk_at(nltp_directory, address);
    if (NLTP_UNLIKELY(chunk == NULL)) return (struct nltp_block){0, 0};
    uint64_t *word = word_in(chunk, address, &coarse);
    if (NLTP_UNLIKELY(!nltp_ledger_has_word(word))) return (struct nltp_block){0, 0};
    if (NLTP_LIKELY(is_word_of(nltp_load(word), address))) return take_at(word, address, &coarse);
    return NLTP_UNLIKELY(nltp_load(&any_fine_chunk)) ? take_close(address) : (struct nltp_block){0, 0};
}

struct nltp_block nltp_block_peek(uintptr_t address) {
    uint64_t *chunk = chunk_at(nltp_directory, address);
    uint64_t *word = chunk == NULL ? NULL : word_in(chunk, address, &coarse);
    if (word == NULL || !nltp_ledger_has_word(word) || !is_word_of(nltp_load(word), address)) return (struct nltp_block){0, 0};
    struct nltp_block block = {nltp_load(word), 0};
    block.size_bytes = (block.word >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE;
    if (block.size_bytes == NLT_SIZE_ESCAPE) block.size_bytes = 0; /* who needs it asks for the word behind */
    return block;
}

/* The nearest word at or before an address, in its own chunk; NULL: none within the bound. */
static uint64_t *nearest_word(uint64_t *chunk, uintptr_t address) {
    enum { FARTHEST = 4096 };
    uint64_t *word = word_in(chunk, address, &coarse), *first = word - chunk < FARTHEST ? chunk : word - FARTHEST;
    for (; word >= first; word--) {
        if (!nltp_ledger_has_word(word)) return NULL;
        if (nltp_load(word) != 0) return word;
    }
    return NULL;
}

/* A size that stands behind its block is smaller than any word of a block, which names a context. Should the block be released and
 * another begin at its address meanwhile, the size is of one or the other; either covers what it covers. */
struct nltp_block nltp_block_around(uintptr_t address, uintptr_t *start) {
    const struct nltp_block none = {0, 0};
    uint64_t *chunk = chunk_at(nltp_directory, address);
    uint64_t *word = chunk == NULL || nltp_load(&any_fine_chunk) ? NULL : nearest_word(chunk, address);
    if (word == NULL) return none;
    if (nltp_word_context(nltp_load(word)) == 0 && (word == chunk || !nltp_ledger_has_word(--word))) return none;
    struct nltp_block block = {nltp_load(word), 0};
    if (nltp_word_context(block.word) == 0) return none;
    uintptr_t region = address >> NLT_CHUNK_HEAP_SHIFT << NLT_CHUNK_HEAP_SHIFT;
    *start = region + ((uintptr_t)(word - chunk) << NLT_WORD_HEAP_SHIFT) + (((block.word >> NLT_WORD_QUARTER_SHIFT) & 3) << 3);
    block.size_bytes = (block.word >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE;
    if (block.size_bytes == NLT_SIZE_ESCAPE) {
        const uint64_t *chunk_behind = chunk_at(nltp_directory, *start + (1u << NLT_WORD_HEAP_SHIFT));
        if (chunk_behind == NULL) return none;
        block.size_bytes = nltp_load(find_size_word(*start, &coarse));
        if (nltp_word_context(block.size_bytes) != 0) return none;
    }
    bool is_inside = address > *start && address - *start < block.size_bytes;
    return is_inside && nltp_load(word) == block.word ? block : none;
}

uint32_t nltp_word_context(uint64_t word) {
    return (uint32_t)(word >> NLT_WORD_CONTEXT_SHIFT);
}

uint32_t nltp_word_epoch(uint64_t word) {
    return (uint32_t)word & ((1u << NLT_EPOCH_BITS) - 1);
}

/* ---- a new session ---------------------------------------------------------------------------------------------------- */

/* `*size_at`: the word that belongs to the block before it. */
static void forget_page(void *page, void *size_at) {
    const uint64_t **size_word = size_at;
    for (uint64_t *word = page, *end = word + 512; word < end; word++) {
        uint64_t found = nltp_load(word);
        if (found == 0) continue;
        bool is_block = word != *size_word && nltp_word_context(found) >= NLT_CONTEXT_ROOT;
        struct nltp_block block = {found, (found >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE};
        nltp_store(word, 0);
        if (!is_block) continue;
        if (block.size_bytes == NLT_SIZE_ESCAPE) {
            *size_word = word + 1;
            block.size_bytes = word + 1 < end ? nltp_load(word + 1) : 0; /* the next page may not be there */
        }
        nltp_record_missed_release(block);
    }
}

void nltp_blocks_forget(void) {
    const struct nlt_chunk *chunks = nltp_table(NLT_TABLE_CHUNKS);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_CHUNKS].count);
    for (uint32_t id = 1; id < count; id++) {
        const uint64_t *size_word = NULL;
        uint64_t bytes = ((UINT64_C(1) << NLT_CHUNK_HEAP_SHIFT) >> chunks[id].heap_shift) * 8;
        nltp_for_each_present_page((const void *)chunks[id].words, bytes, forget_page, &size_word);
    }
}
