/* Imports that the runtime bound before the hooks were there.
 *
 * A P/Invoke keeps the address of its native function in its method descriptor, in the runtime's loader heaps. No relocation
 * describes that place, so it is found by its value: an aligned word that holds exactly the address of a hooked function is a
 * pointer to it, and is pointed to the hook. Optimised code holds the address as a constant instead; code is not changed,
 * such places are counted, and reports show the count as unseenImports.
 *
 * Changed are only words in the runtime's double-mapped memory, which nobody else writes to. A runtime without it
 * (DOTNET_EnableWriteXorExecute=0) keeps its loader heaps in unnamed private memory, where threads' stacks and the program's own
 * data lie, too: there, words are counted and left alone. Pages are copied by a system call before they are looked at, because
 * another thread may unmap them at any moment. */
#include "shim.h"

#include <sys/mman.h>
#include <sys/uio.h>

#define LARGEST_UNNAMED_BYTES (UINT64_C(64) << 20)
#define MAPS_CAPACITY (UINT64_C(4) << 20)

struct mapping {
    uintptr_t start, end;
    bool writable, executable, runtime, unnamed;
};

/* ---- /proc/self/maps: "start-end perms offset device inode  name" --------------------------------------------------- */

static uintptr_t read_hex(const char **at) {
    uintptr_t value = 0;
    for (;; ++*at) {
        char c = **at;
        if (c >= '0' && c <= '9') value = value * 16 + (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (uintptr_t)(c - 'a' + 10);
        else return value;
    }
}

static bool begins_with(const char *text, const char *prefix) {
    while (*prefix != 0)
        if (*text++ != *prefix++) return false;
    return true;
}

/* Leaves *at behind the line. False at the end of the text. */
static bool read_mapping(const char **at, struct mapping *mapping) {
    if (**at == 0) return false;
    mapping->start = read_hex(at);
    ++*at;
    mapping->end = read_hex(at);
    const char *permissions = *at + 1, *name = permissions;
    mapping->writable = permissions[0] == 'r' && permissions[1] == 'w';
    mapping->executable = permissions[0] == 'r' && permissions[2] == 'x';
    for (int field = 0; field < 4; field++) {
        while (*name != ' ' && *name != '\n' && *name != 0) name++;
        while (*name == ' ') name++;
    }
    mapping->unnamed = *name == '\n' || *name == 0;
    mapping->runtime = begins_with(name, "/memfd:doublemapper");
    while (*name != '\n' && *name != 0) name++;
    *at = *name == '\n' ? name + 1 : name;
    return true;
}

/* ---- the search ------------------------------------------------------------------------------------------------------- */

static int hook_behind(uintptr_t value) {
    for (unsigned i = 0; i < nltp_hook_count; i++)
        if (value != 0 && (uintptr_t)*nltp_hooks[i].real == value) return (int)i;
    return -1;
}

/* All hooked functions lie in one library, so nearly every word is ruled out by one comparison. */
static void range_of_functions(uintptr_t *low, uintptr_t *high) {
    *low = UINTPTR_MAX;
    *high = 0;
    for (unsigned i = 0; i < nltp_hook_count; i++) {
        uintptr_t value = (uintptr_t)*nltp_hooks[i].real;
        if (value == 0) continue; /* not followed here */
        if (value < *low) *low = value;
        if (value > *high) *high = value;
    }
}

static bool copy_page(uintptr_t page, void *copy) {
    struct iovec to = {copy, 4096}, from = {(void *)page, 4096};
    return nltp_syscall6(SYS_process_vm_readv, nltp_getpid(), (long)&to, 1, (long)&from, 1, 0) == 4096;
}

/* Aligned words of the runtime's data: pointers. */
static uint32_t rebind_page(uintptr_t page, const uintptr_t *copy, uintptr_t low, uintptr_t high) {
    uint32_t rebound = 0;
    for (unsigned i = 0; i < 512; i++) {
        uintptr_t value = copy[i];
        if (value < low || value > high) continue;
        int hook = hook_behind(value);
        if (hook >= 0 && nltp_cas((uintptr_t *)page + i, &value, (uintptr_t)nltp_hooks[hook].hook)) rebound++;
    }
    return rebound;
}

/* Constants in code stand at any address. */
static uint32_t count_values(const uintptr_t *copy, unsigned stride, uintptr_t low, uintptr_t high) {
    uint32_t found = 0;
    for (const char *at = (const char *)copy; at <= (const char *)copy + 4096 - 8; at += stride) {
        uintptr_t value;
        nltp_copy(&value, at, 8);
        if (value >= low && value <= high && hook_behind(value) >= 0) found++;
    }
    return found;
}

struct bound_search {
    uintptr_t low, high, *copy;
    const struct mapping *mapping;
    uint32_t rebound, unseen;
};

static void search_page(void *page, void *context) {
    struct bound_search *search = context;
    struct nltp_object object;
    if (nltp_find_object((uintptr_t)page, &object) || !copy_page((uintptr_t)page, search->copy)) return;
    if (search->mapping->executable) search->unseen += count_values(search->copy, 1, search->low, search->high);
    else if (search->mapping->runtime) search->rebound += rebind_page((uintptr_t)page, search->copy, search->low, search->high);
    else search->unseen += count_values(search->copy, 8, search->low, search->high);
}

uint32_t nltp_rebind_bound_imports(void) {
    char *maps = nltp_map(MAPS_CAPACITY + 4096);
    if (maps == NULL) return 0;
    struct mapping mapping;
    struct bound_search search = {.copy = (uintptr_t *)(maps + MAPS_CAPACITY), .mapping = &mapping};
    uintptr_t own_stack = (uintptr_t)&search;
    range_of_functions(&search.low, &search.high);
    bool double_mapped = false, has_runtime = nltp_ledger->unwind_clr != 0;
    if (!has_runtime || nltp_read_file("/proc/self/maps", maps, MAPS_CAPACITY - 1) <= 0) maps[0] = 0;
    for (const char *at = maps; read_mapping(&at, &mapping);) double_mapped |= mapping.runtime;
    for (const char *at = maps; read_mapping(&at, &mapping);) {
        bool is_own = mapping.start <= (uintptr_t)maps && (uintptr_t)maps < mapping.end;
        bool is_stack = mapping.start <= own_stack && own_stack < mapping.end;
        bool searched = double_mapped ? mapping.runtime : mapping.unnamed && mapping.end - mapping.start <= LARGEST_UNNAMED_BYTES;
        if (!searched || is_own || is_stack || (!mapping.writable && !mapping.executable)) continue;
        nltp_for_each_present_page((const void *)mapping.start, mapping.end - mapping.start, search_page, &search);
    }
    nltp_unmap(maps, MAPS_CAPACITY + 4096);
    nltp_store(&nltp_ledger->losses.unseen_imports, search.unseen);
    return search.rebound;
}
