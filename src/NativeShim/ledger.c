/* The tables' home: one reservation of private memory, in which untouched pages cost nothing. */
#include "shim.h"

#include <time.h>

struct nlt_header *nltp_ledger;
struct nlt_context *nltp_nodes;
uint64_t *nltp_directory;

struct table_plan {
    uint32_t entry_bytes, capacity;
};

/* Capacities are bounds, not sizes: memory is used as entries are. `share` halves the growing tables where the address
 * space is limited (RLIMIT_AS). */
static struct table_plan plan(enum nlt_table_id id, unsigned share) {
    switch (id) {
    case NLT_TABLE_THREADS: return (struct table_plan){sizeof(struct nlt_thread), NLTP_MAX_THREADS};
    case NLT_TABLE_MODULES: return (struct table_plan){sizeof(struct nlt_module), 1u << 14};
    case NLT_TABLE_CODES: return (struct table_plan){sizeof(struct nlt_code), (1u << 20) >> share};
    case NLT_TABLE_CONTEXTS: return (struct table_plan){sizeof(struct nlt_context), (1u << 23) >> share};
    case NLT_TABLE_EPOCHS: return (struct table_plan){sizeof(struct nlt_epoch), 1u << NLT_EPOCH_BITS};
    case NLT_TABLE_STRINGS: return (struct table_plan){1, (1u << 26) >> share};
    case NLT_TABLE_CHUNKS: return (struct table_plan){sizeof(struct nlt_chunk), 1u << 18};
    case NLT_TABLE_TOTALS: return (struct table_plan){sizeof(struct nlt_totals), (1u << 21) >> share};
    case NLT_TABLE_PENDING: return (struct table_plan){sizeof(struct nlt_pending), NLTP_MAX_THREADS};
    case NLT_TABLE_DIRECTORY: return (struct table_plan){8, (uint32_t)NLT_DIRECTORY_ENTRIES};
    case NLT_TABLE_COUNT: break;
    }
    return (struct table_plan){0, 0};
}

static uint64_t round_to_page(uint64_t size) {
    return (size + 4095) & ~UINT64_C(4095);
}

bool nltp_ledger_create(enum nlt_mode mode) {
    if (nltp_ledger != NULL) return true;
    struct nlt_header *ledger = NULL;
    uint64_t size = 0;
    unsigned share = 0;
    for (; share <= 6 && ledger == NULL; share += 2) {
        size = round_to_page(sizeof(struct nlt_header));
        for (int id = 0; id < NLT_TABLE_COUNT; id++) {
            struct table_plan p = plan(id, share);
            size += round_to_page((uint64_t)p.entry_bytes * p.capacity);
        }
        ledger = nltp_map(size);
        if (ledger != NULL) break;
    }
    if (ledger == NULL) return false;

    uint64_t offset = round_to_page(sizeof(struct nlt_header));
    for (int id = 0; id < NLT_TABLE_COUNT; id++) {
        struct table_plan p = plan(id, share);
        ledger->tables[id] =
            (struct nlt_table){.offset_bytes = offset, .entry_bytes = p.entry_bytes, .capacity = p.capacity, .count = 1};
        offset += round_to_page((uint64_t)p.entry_bytes * p.capacity);
    }
    ledger->tables[NLT_TABLE_PENDING].count = NLTP_MAX_THREADS;
    ledger->tables[NLT_TABLE_DIRECTORY].count = (uint32_t)NLT_DIRECTORY_ENTRIES;
    ledger->tables[NLT_TABLE_EPOCHS].count = NLT_EPOCH_OLDER + 1;
    ledger->version = NLT_LEDGER_VERSION;
    ledger->header_bytes = sizeof(struct nlt_header);
    ledger->size_bytes = size;
    ledger->base_address = (uint64_t)(uintptr_t)ledger;
    ledger->pid = nltp_getpid();
    ledger->mode = mode;
    ledger->session = 1;
    ledger->started_unix_ns = nltp_clock_ns(CLOCK_REALTIME);
    ledger->magic = NLT_LEDGER_MAGIC;
    nltp_store_release(&nltp_ledger, ledger);
    nltp_nodes = nltp_table(NLT_TABLE_CONTEXTS);
    nltp_store_release(&nltp_directory, (uint64_t *)nltp_table(NLT_TABLE_DIRECTORY));
    return true;
}

void *nltp_table(enum nlt_table_id id) {
    return (char *)nltp_ledger + nltp_ledger->tables[id].offset_bytes;
}

uint32_t nltp_table_take(enum nlt_table_id id, uint32_t entries) {
    struct nlt_table *table = &nltp_ledger->tables[id];
    uint32_t first = nltp_load(&table->count);
    do {
        if (entries > table->capacity - first) return 0;
    } while (!nltp_cas(&table->count, &first, first + entries));
    return first;
}

uint32_t nltp_string(const char *text) {
    size_t length = nltp_length(text);
    if (length > 1023) length = 1023;
    uint32_t offset = nltp_table_take(NLT_TABLE_STRINGS, (uint32_t)length + 1);
    if (offset != 0) nltp_copy((char *)nltp_table(NLT_TABLE_STRINGS) + offset, text, length);
    return offset;
}

uint32_t nltp_epoch_create(uint32_t scope_tag) {
    uint32_t id = nltp_table_take(NLT_TABLE_EPOCHS, 1);
    if (id == 0) return 0;
    uint64_t elapsed_ns = nltp_clock_ns(CLOCK_REALTIME) - nltp_ledger->started_unix_ns;
    struct nlt_epoch *epoch = (struct nlt_epoch *)nltp_table(NLT_TABLE_EPOCHS) + id;
    epoch->session = nltp_ledger->session;
    epoch->scope_tag = scope_tag;
    epoch->time_ms = (uint32_t)(elapsed_ns / 1000000u);
    return id;
}
