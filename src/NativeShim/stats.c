/* The counters of a process as one line of JSON, so that a script can tell a working shim from an inert one. */
#define _GNU_SOURCE
#include "shim.h"

#include <stdlib.h>

static char stats_path[4096];

void nltp_stats_init(void) {
    const char *path = secure_getenv("NATIVELEAKS_STATS");
    if (path == NULL || nltp_length(path) >= sizeof stats_path) return;
    nltp_copy(stats_path, path, nltp_length(path) + 1);
}

static void put_field(struct nltp_text *line, const char *name, uint64_t value) {
    nltp_put(line, ",\"");
    nltp_put(line, name);
    nltp_put(line, "\":");
    nltp_put_number(line, value);
}

static void add_pending(struct nlt_thread *sum, const struct nlt_pending *pending) {
    const uint64_t byte_mask = (UINT64_C(1) << NLT_AMOUNT_BYTE_BITS) - 1;
    for (uint32_t i = 0; i < NLT_PENDING_SLOTS; i++) {
        uint64_t allocated = nltp_load(&pending->slots[i].allocated), freed = nltp_load(&pending->slots[i].freed);
        sum->allocated_blocks += allocated >> NLT_AMOUNT_BYTE_BITS;
        sum->allocated_bytes += allocated & byte_mask;
        sum->freed_blocks += freed >> NLT_AMOUNT_BYTE_BITS;
        sum->freed_bytes += freed & byte_mask;
    }
}

/* At exit other threads may still run: their last few events can be counted half. */
static struct nlt_thread sum_of_threads(void) {
    struct nlt_thread sum = {0};
    const struct nlt_pending *pending = nltp_table(NLT_TABLE_PENDING);
    const struct nlt_thread *threads = nltp_table(NLT_TABLE_THREADS);
    uint32_t count = nltp_load(&nltp_ledger->tables[NLT_TABLE_THREADS].count);
    for (uint32_t id = 0; id < count; id++) {
        sum.allocated_blocks += nltp_load(&threads[id].allocated_blocks);
        sum.allocated_bytes += nltp_load(&threads[id].allocated_bytes);
        sum.freed_blocks += nltp_load(&threads[id].freed_blocks);
        sum.freed_bytes += nltp_load(&threads[id].freed_bytes);
        sum.untracked_frees += nltp_load(&threads[id].untracked_frees);
        sum.approximate_stacks += nltp_load(&threads[id].approximate_stacks);
        sum.broken_stacks += nltp_load(&threads[id].broken_stacks);
    }
    uint32_t pending_count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_PENDING].count);
    for (uint32_t id = 0; id < pending_count; id++) add_pending(&sum, &pending[id]);
    return sum;
}

static uint32_t entries_of(enum nlt_table_id id) {
    return nltp_load(&nltp_ledger->tables[id].count) - 1;
}

void nltp_stats_append(void) {
    /* A vforked child shares this memory, not the right to speak for it. */
    if (stats_path[0] == 0 || nltp_ledger == NULL || nltp_getpid() != nltp_ledger->pid) return;
    char command[256];
    long length = nltp_read_file("/proc/self/cmdline", command, sizeof command - 1);
    for (long i = 0; i + 1 < length; i++)
        if (command[i] == 0) command[i] = ' ';
    command[length > 0 ? length : 0] = 0;

    char buffer[2048];
    struct nltp_text line = {buffer, 0, sizeof buffer};
    struct nlt_thread sum = sum_of_threads();
    const struct nlt_loss_counters *losses = &nltp_ledger->losses;
    nltp_put(&line, "{\"allocations\":");
    nltp_put_number(&line, sum.allocated_blocks);
    put_field(&line, "frees", sum.freed_blocks);
    put_field(&line, "liveBlocks", sum.allocated_blocks - sum.freed_blocks);
    put_field(&line, "liveBytes", sum.allocated_bytes - sum.freed_bytes);
    put_field(&line, "contexts", entries_of(NLT_TABLE_CONTEXTS) - NLT_CONTEXT_ROOT);
    put_field(&line, "dropped", losses->dropped_blocks);
    put_field(&line, "truncated", losses->truncated_stacks + losses->contexts_full);
    put_field(&line, "allocatedBytes", sum.allocated_bytes);
    put_field(&line, "untrackedFrees", sum.untracked_frees);
    put_field(&line, "approximateStacks", sum.approximate_stacks);
    put_field(&line, "brokenStacks", sum.broken_stacks);
    put_field(&line, "folded", losses->folded_stacks);
#ifdef NLT_VERIFY_WALKS
    put_field(&line, "walkDifferences", losses->walk_differences);
#endif
    put_field(&line, "missedFrees", losses->missed_frees);
    put_field(&line, "uncopiedCodeInfo", losses->uncopied_code_info);
    put_field(&line, "threads", entries_of(NLT_TABLE_THREADS));
    put_field(&line, "modules", entries_of(NLT_TABLE_MODULES));
    put_field(&line, "pid", nltp_ledger->pid);
    nltp_put(&line, ",\"command\":\"");
    nltp_put_escaped(&line, command);
    nltp_put(&line, "\"}\n");
    nltp_append_file(stats_path, buffer, line.length);
}
