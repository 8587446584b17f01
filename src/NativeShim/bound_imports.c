/* Imports that the runtime bound before the hooks were there.
 *
 * A P/Invoke keeps the address of its native function in its method descriptor, in the runtime's loader heaps. No relocation
 * describes that place, so it is found by its value: an aligned word that holds exactly the address of a hooked function is a
 * pointer to it, and is pointed to the hook. Optimised code holds the address as a constant instead; code is not changed,
 * such places are counted, and reports show the count as unseenImports.
 *
 * Searched are the mappings that can hold loader heaps: those of the runtime's double-mapped memory, and unnamed private
 * ones up to a size. ELF objects are left out: their pointers are relocations, which rebind.c knows by name. */
#include "shim.h"

#include <sys/mman.h>

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
        if ((uintptr_t)*nltp_hooks[i].real == value) return (int)i;
    return -1;
}

/* All hooked functions lie in one library, so nearly every word is ruled out by one comparison. */
static void range_of_functions(uintptr_t *low, uintptr_t *high) {
    *low = UINTPTR_MAX;
    *high = 0;
    for (unsigned i = 0; i < nltp_hook_count; i++) {
        uintptr_t value = (uintptr_t)*nltp_hooks[i].real;
        if (value < *low) *low = value;
        if (value > *high) *high = value;
    }
}

static uint32_t rebind_page(uintptr_t page, uintptr_t low, uintptr_t high) {
    uint32_t rebound = 0;
    for (uintptr_t *word = (uintptr_t *)page; word < (uintptr_t *)(page + 4096); word++) {
        uintptr_t value = nltp_load(word);
        if (value < low || value > high) continue;
        int hook = hook_behind(value);
        struct nltp_object object;
        if (hook < 0 || nltp_find_object((uintptr_t)word, &object)) continue;
        if (nltp_cas(word, &value, (uintptr_t)nltp_hooks[hook].hook)) rebound++;
    }
    return rebound;
}

static uint32_t count_constants(uintptr_t page, uintptr_t low, uintptr_t high) {
    uint32_t found = 0;
    for (uintptr_t at = page; at <= page + 4096 - 8; at++) {
        uintptr_t value;
        nltp_copy(&value, (const void *)at, 8);
        if (value >= low && value <= high && hook_behind(value) >= 0) found++;
    }
    return found;
}

/* Only pages that are present: reading a hole of shared memory would fill it. */
static bool is_present(uintptr_t page) {
    unsigned char present = 0;
    return nltp_syscall3(SYS_mincore, (long)page, 4096, (long)&present) == 0 && (present & 1);
}

uint32_t nltp_rebind_bound_imports(void) {
    char *maps = nltp_map(MAPS_CAPACITY);
    if (maps == NULL || nltp_read_file("/proc/self/maps", maps, MAPS_CAPACITY - 1) <= 0) return 0;
    uintptr_t low, high;
    range_of_functions(&low, &high);
    uint32_t rebound = 0, unseen = 0;
    const char *at = maps;
    struct mapping mapping;
    while (read_mapping(&at, &mapping)) {
        bool candidate = mapping.runtime || (mapping.unnamed && mapping.end - mapping.start <= LARGEST_UNNAMED_BYTES);
        if (!candidate || (uintptr_t)maps == mapping.start) continue;
        for (uintptr_t page = mapping.start; page < mapping.end; page += 4096) {
            if ((!mapping.writable && !mapping.executable) || !is_present(page)) continue;
            if (mapping.executable) unseen += count_constants(page, low, high);
            else rebound += rebind_page(page, low, high);
        }
    }
    nltp_unmap(maps, MAPS_CAPACITY);
    nltp_store(&nltp_ledger->losses.unseen_imports, unseen);
    return rebound;
}
