/* Late start: pointing imports at the hooks in a process that is already running.
 *
 * Three places hold the address of a hooked function: slots of the global offset tables (and other pointer relocations) of
 * every object, and the symbol table of the library that defines it, from which dlsym() and every later load take it. All
 * are changed, one aligned word at a time, while other threads run; a slot holds either address at any moment, and both
 * work.
 *
 * Other threads may open and close libraries meanwhile. Slots are written inside dl_iterate_phdr()'s callback, where no object can
 * leave the list and be unmapped. Symbol tables come first, so that an object whose relocation is under way binds to the hooks by
 * itself; one that had looked a function up just before is caught when the imports are gone through once more. Protected pages
 * are written through /proc/self/mem: their protection never changes, because the dynamic linker may be about to write there,
 * too. None of this runs inside a hook. */
#define _GNU_SOURCE
#include "shim.h"

#include "elf_dynamic.h"

#include <fcntl.h>
#include <sys/mman.h>

extern const char nltp_image_start[] __asm__("__ehdr_start") NLTP_HIDDEN;

enum pass { SYMBOLS, IMPORTS };
struct change {
    enum pass pass;
    bool releases; /* this pass is for functions that release blocks; else for those that only allocate */
    bool undo;
    long memory;   /* /proc/self/mem; negative: cannot be had */
    uint32_t count, failures;
};

struct object {
    uintptr_t start, end, relro_start, relro_end;
    struct nltp_dynamic dynamic;
};

static bool in_range(uintptr_t value, uintptr_t start, uintptr_t end) {
    return value >= start && value < end;
}

static bool write_protected(uintptr_t *address, uintptr_t value, long memory) {
    if (memory >= 0 && nltp_syscall6(SYS_pwrite64, memory, (long)&value, sizeof value, (long)address, 0, 0) == sizeof value) return true;
    /* A kernel can forbid that (proc_mem.force_override). The page is left as it was before the dynamic linker protected it. */
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)4095;
    if (nltp_syscall3(SYS_mprotect, (long)page, 4096, PROT_READ | PROT_WRITE) != 0) return false;
    nltp_store(address, value);
    return true;
}

static void write_word(struct change *change, uintptr_t *address, uintptr_t expected, uintptr_t wanted, bool is_protected) {
    if (!is_protected) change->count += nltp_cas(address, &expected, wanted); /* else the second pass finds what is there now */
    else if (write_protected(address, wanted, change->memory)) change->count++;
    else change->failures++;
}

static bool concerns(const struct change *change, int hook) {
    return hook >= 0 && *nltp_hooks[hook].real != NULL && nltp_hooks[hook].releases == change->releases;
}

static void change_imports(struct change *change, const struct object *object, const Elf64_Rela *table, size_t count) {
    const struct nltp_dynamic *d = &object->dynamic;
    for (size_t i = 0; i < count; i++) {
        uint32_t type = (uint32_t)ELF64_R_TYPE(table[i].r_info), symbol = (uint32_t)ELF64_R_SYM(table[i].r_info);
        if (symbol == 0 || table[i].r_addend != 0) continue;
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
        int hook = nltp_hook_named(d->strings + d->symbols[symbol].st_name);
        if (!concerns(change, hook)) continue;
        uintptr_t *address = (uintptr_t *)(d->bias + table[i].r_offset);
        uintptr_t value = nltp_load(address);
        uintptr_t ours = (uintptr_t)nltp_hooks[hook].hook, real = (uintptr_t)*nltp_hooks[hook].real;
        /* A slot that was not resolved yet points into its own object's procedure linkage table. */
        bool lazy = type == R_X86_64_JUMP_SLOT && in_range(value, object->start, object->end);
        if (change->undo ? value != ours : (value != real && !lazy)) continue;
        bool is_protected = in_range((uintptr_t)address, object->relro_start, object->relro_end);
        write_word(change, address, value, change->undo ? real : ours, is_protected);
    }
}

/* The symbol table's values are relative to the load bias. */
static void change_symbols(struct change *change, const struct object *object) {
    const struct nltp_dynamic *d = &object->dynamic;
    for (int hook = 0; hook < (int)nltp_hook_count; hook++) {
        const Elf64_Sym *symbol = concerns(change, hook) ? nltp_dynamic_find(d, nltp_hooks[hook].name) : NULL;
        if (symbol == NULL || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        uintptr_t ours = (uintptr_t)nltp_hooks[hook].hook - d->bias, real = (uintptr_t)*nltp_hooks[hook].real - d->bias;
        if (symbol->st_value != (change->undo ? ours : real)) continue;
        write_word(change, (uintptr_t *)&symbol->st_value, symbol->st_value, change->undo ? real : ours, true);
    }
}

static bool read_object(const struct dl_phdr_info *info, struct object *object) {
    const Elf64_Dyn *section = NULL;
    *object = (struct object){.start = UINTPTR_MAX};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
        if (header->p_type == PT_LOAD) {
            if (start < object->start) object->start = start;
            if (end > object->end) object->end = end;
        } else if (header->p_type == PT_GNU_RELRO) {
            object->relro_start = start & ~(uintptr_t)4095;
            object->relro_end = end & ~(uintptr_t)4095;
        } else if (header->p_type == PT_DYNAMIC) {
            section = (const Elf64_Dyn *)start;
        }
    }
    bool is_shim = in_range((uintptr_t)nltp_image_start, object->start, object->end);
    return !is_shim && nltp_dynamic_read(info->dlpi_addr, section, &object->dynamic);
}

static int change_object(struct dl_phdr_info *info, size_t size, void *context) {
    struct change *change = context;
    struct object object;
    (void)size;
    if (!read_object(info, &object)) return 0;
    if (change->pass == SYMBOLS) {
        change_symbols(change, &object);
    } else {
        change_imports(change, &object, object.dynamic.rela, object.dynamic.rela_count);
        change_imports(change, &object, object.dynamic.plt_rela, object.dynamic.plt_rela_count);
    }
    return 0;
}

static int change_all(bool undo, uint32_t *changed) {
    struct change change = {.undo = undo};
    change.memory = nltp_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/self/mem", O_RDWR | O_CLOEXEC, 0, 0, 0);
    for (int step = 0; step < 2; step++) {
        change.releases = (step == 0) != undo; /* hooks.def says why */
        for (int pass = 0; pass < 3; pass++) {
            change.pass = pass == 0 ? SYMBOLS : IMPORTS;
            dl_iterate_phdr(change_object, &change);
        }
    }
    if (change.memory >= 0) nltp_syscall3(SYS_close, change.memory, 0, 0);
    if (changed != NULL) *changed += change.count;
    return change.failures == 0 ? NLT_OK : NLT_PATCH_FAILED;
}

struct search {
    const char *name;
    void *found;
};

static int search_one(struct dl_phdr_info *info, size_t size, void *context) {
    struct search *search = context;
    struct object object;
    (void)size;
    if (!read_object(info, &object)) return 0;
    const Elf64_Sym *symbol = nltp_dynamic_find(&object.dynamic, search->name);
    if (symbol == NULL || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) return 0;
    search->found = (void *)(object.dynamic.bias + symbol->st_value);
    return 1;
}

void *nltp_first_definition(const char *name) {
    struct search search = {.name = name};
    dl_iterate_phdr(search_one, &search);
    return search.found;
}

int nltp_rebind(uint32_t *rebound) {
    return change_all(false, rebound);
}

int nltp_rebind_undo(void) {
    return change_all(true, NULL);
}
