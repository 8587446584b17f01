/* The tables' two homes, with one layout.
 *
 * Private: one reservation of anonymous memory that becomes readable piece by piece as the tables grow, because a dump writes all
 * that is readable, touched or not (createdump, unlike the kernel, knows no MADV_DONTDUMP); chunks are mapped as the heap grows.
 * Shared: a file that is sized once, with room for a number of chunks behind the tables, so that another process can read it,
 * also after this one was killed. Its memory is reserved before it is written (a full disk becomes a counter, not a SIGBUS), and
 * its descriptor is closed at once: a program that closes all descriptors must not make us write to somebody else's file. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

struct nlt_header *nltp_ledger;
struct nlt_context *nltp_nodes;
uint64_t *nltp_directory;
uint64_t *nltp_fine_directory;
uintptr_t nltp_shared_start;

static uint32_t may_write_private = 1;
uint32_t *nltp_may_write = &may_write_private;
static const uint32_t closed_gate;
const uint32_t *nltp_gate = &closed_gate;

/* ---- layout ----------------------------------------------------------------------------------------------------------- */

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
    case NLT_TABLE_SCOPES: return (struct table_plan){sizeof(struct nlt_scope), 1u << 16};
    case NLT_TABLE_FINALIZED: return (struct table_plan){sizeof(struct nlt_finalized), (1u << 18) >> share};
    case NLT_TABLE_STRINGS: return (struct table_plan){1, (1u << 26) >> share};
    case NLT_TABLE_CHUNKS: return (struct table_plan){sizeof(struct nlt_chunk), 1u << 18};
    case NLT_TABLE_TOTALS: return (struct table_plan){sizeof(struct nlt_totals), (1u << 21) >> share};
    case NLT_TABLE_PENDING: return (struct table_plan){sizeof(struct nlt_pending), NLTP_MAX_THREADS};
    case NLT_TABLE_DIRECTORY:
    case NLT_TABLE_FINE_DIRECTORY: return (struct table_plan){8, (uint32_t)NLT_DIRECTORY_ENTRIES};
    case NLT_TABLE_IMAGES: return (struct table_plan){sizeof(struct nlt_image), 1u << 14};
    case NLT_TABLE_PAIRINGS: return (struct table_plan){sizeof(struct nlt_pairing), 1u << 16};
    case NLT_TABLE_BLOBS: return (struct table_plan){1, (1u << 26) >> share};
    case NLT_TABLE_COUNT: break;
    }
    return (struct table_plan){0, 0};
}

static uint64_t round_to_page(uint64_t size) {
    return (size + 4095) & ~UINT64_C(4095);
}

static uint64_t size_of_tables(unsigned share) {
    uint64_t size = round_to_page(sizeof(struct nlt_header));
    for (int id = 0; id < NLT_TABLE_COUNT; id++) {
        struct table_plan p = plan(id, share);
        size += round_to_page((uint64_t)p.entry_bytes * p.capacity);
    }
    return size;
}

/* ---- pieces of the tables, made usable when they are first needed --------------------------------------------------------- */

#define GRANULE_BYTES UINT64_C(65536)

static uintptr_t tables_start;
static uint64_t tables_bytes;
static uint8_t *granules; /* 1: usable */

/* Private: the piece becomes readable and writable. Shared: the kernel is asked for its pages (madvise(2), MADV_POPULATE_WRITE,
 * Linux 5.14), because a write that finds none would be a SIGBUS. */
static bool make_usable(uintptr_t start) {
    if (nltp_shared_start != 0) return nltp_syscall3(SYS_madvise, (long)start, (long)GRANULE_BYTES, 23) == 0;
    return nltp_syscall3(SYS_mprotect, (long)start, (long)GRANULE_BYTES, PROT_READ | PROT_WRITE) == 0;
}

bool nltp_ledger_reserve_piece(const void *place, size_t size_bytes) {
    uintptr_t offset = (uintptr_t)place - tables_start;
    if (offset >= tables_bytes) return true; /* memory of its own */
    for (uintptr_t granule = offset / GRANULE_BYTES; granule <= (offset + size_bytes - 1) / GRANULE_BYTES; granule++) {
        if (nltp_load(&granules[granule]) != 0) continue;
        if (!make_usable(tables_start + granule * GRANULE_BYTES)) return false;
        nltp_store(&granules[granule], 1);
    }
    return true;
}

bool nltp_ledger_has_piece(const void *place) {
    return nltp_load(&granules[((uintptr_t)place - tables_start) / GRANULE_BYTES]) != 0;
}

/* ---- the shared home ----------------------------------------------------------------------------------------------------- */

#define SHARED_CHUNK_BYTES (UINT64_C(8) << 30) /* live words of 32 GB of heap */

static uint64_t shared_bytes, next_chunk_offset;

static bool is_failure(long result) {
    return result < 0 && result > -4096;
}

/* Back to where nothing was tried. */
static void forget_shared(void) {
    if (nltp_shared_start != 0) nltp_unmap((void *)nltp_shared_start, shared_bytes);
    nltp_shared_start = tables_start = 0;
    nltp_may_write = &may_write_private;
}

static struct nlt_header *open_shared(const char *path, uint64_t table_bytes, int *error) {
    shared_bytes = table_bytes + SHARED_CHUNK_BYTES;
    long fd = nltp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600, 0, 0);
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    nltp_syscall3(SYS_getrlimit, RLIMIT_FSIZE, (long)&limit, 0);
    long result = fd; /* a file over the limit would be a signal, and the program's end */
    if (!is_failure(fd)) result = shared_bytes > limit.rlim_cur ? -EFBIG : nltp_syscall3(SYS_ftruncate, fd, (long)shared_bytes, 0);
    if (!is_failure(result))
        result = nltp_syscall6(SYS_mmap, 0, (long)shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (!is_failure(fd)) nltp_syscall3(SYS_close, fd, 0, 0);
    if (is_failure(result)) {
        *error = (int)-result;
        return NULL;
    }
    nltp_syscall3(SYS_madvise, result, (long)shared_bytes, MADV_DONTDUMP);
    granules = nltp_map(shared_bytes / GRANULE_BYTES + 1);
    uint32_t *gate = nltp_map(4096);
    if (granules == NULL || gate == NULL) return NULL;
    if (is_failure(nltp_syscall3(SYS_madvise, (long)gate, 4096, MADV_WIPEONFORK))) return NULL;
    *gate = 1;
    nltp_may_write = gate;
    next_chunk_offset = table_bytes;
    nltp_shared_start = tables_start = (uintptr_t)result;
    tables_bytes = shared_bytes;
    return (struct nlt_header *)result;
}

static struct nlt_header *reserve_private(uint64_t table_bytes) {
    table_bytes = (table_bytes + GRANULE_BYTES - 1) & ~(GRANULE_BYTES - 1);
    long result = nltp_syscall6(SYS_mmap, 0, (long)table_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (is_failure(result)) return NULL;
    nltp_syscall3(SYS_madvise, result, (long)table_bytes, MADV_DONTDUMP);
    granules = nltp_map(table_bytes / GRANULE_BYTES + 1);
    if (granules == NULL) return NULL;
    tables_start = (uintptr_t)result;
    tables_bytes = table_bytes;
    return (struct nlt_header *)result;
}

static void *take_shared_chunk(size_t size_bytes, uint64_t *file_offset) {
    uint64_t offset = nltp_load(&next_chunk_offset);
    do {
        if (size_bytes > shared_bytes - offset) return NULL;
    } while (!nltp_cas(&next_chunk_offset, &offset, offset + size_bytes));
    *file_offset = offset;
    return (void *)(nltp_shared_start + offset);
}

/* ---- both ------------------------------------------------------------------------------------------------------------------- */

void *nltp_ledger_chunk(size_t size_bytes, uint64_t *file_offset) {
    *file_offset = 0;
    return nltp_shared_start != 0 ? take_shared_chunk(size_bytes, file_offset) : nltp_map(size_bytes);
}

/* In a shared home the place is lost: two threads meeting a new 64 MB at the same moment are rare enough. */
void nltp_ledger_chunk_unused(void *chunk, size_t size_bytes) {
    if (nltp_shared_start == 0) nltp_unmap(chunk, size_bytes);
}

static bool lay_out(struct nlt_header *ledger, unsigned share) {
    if (!nltp_ledger_reserve_piece(ledger, sizeof *ledger)) return false;
    uint64_t offset = round_to_page(sizeof(struct nlt_header));
    for (int id = 0; id < NLT_TABLE_COUNT; id++) {
        struct table_plan p = plan(id, share);
        ledger->tables[id] =
            (struct nlt_table){.offset_bytes = offset, .entry_bytes = p.entry_bytes, .capacity = p.capacity, .count = 1};
        if (!nltp_ledger_reserve_piece((char *)ledger + offset, p.entry_bytes)) return false;
        offset += round_to_page((uint64_t)p.entry_bytes * p.capacity);
    }
    uint32_t entries = nltp_shared_start != 0 ? 1 : (uint32_t)NLT_DIRECTORY_ENTRIES;
    ledger->tables[NLT_TABLE_DIRECTORY].count = ledger->tables[NLT_TABLE_FINE_DIRECTORY].count = entries;
    return true;
}

/* The directories are looked into at any address, which in a file takes a page even to find nothing there: where the file system
 * is full, that look would be a SIGBUS. Beside a shared home they are private; its readers go by the list of chunks. */
static uint64_t *make_directories(void) {
    const size_t size = NLT_DIRECTORY_ENTRIES * sizeof(uint64_t);
    if (nltp_shared_start != 0) {
        nltp_fine_directory = nltp_map(size);
        return nltp_fine_directory != NULL ? nltp_map(size) : NULL;
    }
    nltp_fine_directory = nltp_table(NLT_TABLE_FINE_DIRECTORY); /* usable when it is needed */
    uint64_t *directory = nltp_table(NLT_TABLE_DIRECTORY);
    return nltp_ledger_reserve_piece(directory, size) ? directory : NULL;
}

bool nltp_ledger_create(enum nlt_mode mode, const char *shared_path, int *error) {
    *error = 0;
    if (nltp_ledger != NULL) return true;
    struct nlt_header *ledger = NULL;
    unsigned share = 0;
    if (shared_path != NULL) {
        ledger = open_shared(shared_path, size_of_tables(share), error);
    } else {
        for (; share <= 6 && (ledger = reserve_private(size_of_tables(share))) == NULL; share += 2) {
        }
    }
    if (ledger == NULL || !lay_out(ledger, share)) {
        if (shared_path != NULL && *error == 0) *error = ENOSPC;
        forget_shared();
        return false;
    }
    ledger->version = NLT_LEDGER_VERSION;
    ledger->header_bytes = sizeof(struct nlt_header);
    ledger->size_bytes = size_of_tables(share);
    ledger->shared_bytes = shared_path != NULL ? shared_bytes : 0;
    ledger->base_address = (uint64_t)(uintptr_t)ledger;
    ledger->pid = nltp_getpid();
    ledger->mode = mode;
    ledger->session = 1;
    ledger->started_unix_ns = nltp_clock_ns(CLOCK_REALTIME);
    nltp_store_release(&ledger->magic, NLT_LEDGER_MAGIC);
    nltp_store_release(&nltp_ledger, ledger);
    nltp_nodes = nltp_table(NLT_TABLE_CONTEXTS);
    nltp_epochs_init();
    uint64_t *directory = make_directories();
    if (directory == NULL) return false;
    nltp_gate = shared_path != NULL ? nltp_may_write + 1 : &ledger->recording;
    nltp_store_release(&nltp_directory, directory);
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
        const char *place = (const char *)nltp_table(id) + (uint64_t)first * table->entry_bytes;
        if (!nltp_ledger_reserve_piece(place, (size_t)entries * table->entry_bytes)) return 0;
    } while (!nltp_cas(&table->count, &first, first + entries));
    return first;
}

uint32_t nltp_blob(const void *bytes, uint32_t count) {
    uint32_t offset = nltp_table_take(NLT_TABLE_BLOBS, count);
    if (offset != 0) nltp_copy((char *)nltp_table(NLT_TABLE_BLOBS) + offset, bytes, count);
    else nltp_add(&nltp_ledger->losses.uncopied_code_info, 1);
    return offset;
}

uint32_t nltp_string(const char *text) {
    size_t length = nltp_length(text);
    if (length > 1023) length = 1023;
    uint32_t offset = nltp_table_take(NLT_TABLE_STRINGS, (uint32_t)length + 1);
    if (offset != 0) nltp_copy((char *)nltp_table(NLT_TABLE_STRINGS) + offset, text, length);
    return offset;
}
