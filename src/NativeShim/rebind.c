/* Late start: pointing imports at the hooks in a process that is already running.
 *
 * Three places hold the address of a hooked function: slots of the global offset tables (and other pointer relocations) of
 * every object, and the symbol table of the library that defines it, from which dlsym() and every later load take it. All
 * are changed, one aligned word at a time, while other threads run; a slot holds either address at any moment, and both
 * work. Objects are listed by dl_iterate_phdr(), so this never runs inside a hook. */
#define _GNU_SOURCE
#include "shim.h"

#include "elf_dynamic.h"

#include <sys/mman.h>

extern const char nltp_image_start[] __asm__("__ehdr_start") NLTP_HIDDEN;

struct slot {
    uintptr_t *address;
    uintptr_t expected; /* changed only from this value */
    uintptr_t wanted;
    unsigned hook;
    uint8_t read_only;  /* its page must be made writable for the moment */
};
struct slots {
    struct slot *items;
    size_t count, capacity;
    bool undo, overflow;
};

struct object {
    uintptr_t start, end, relro_start, relro_end;
    struct nltp_dynamic dynamic;
};

static bool in_range(uintptr_t value, uintptr_t start, uintptr_t end) {
    return value >= start && value < end;
}

static void add(struct slots *slots, struct slot slot) {
    if (slots->count == slots->capacity) {
        slots->overflow = true;
        return;
    }
    slots->items[slots->count++] = slot;
}

static void add_imports(struct slots *slots, const struct object *object, const Elf64_Rela *table, size_t count) {
    const struct nltp_dynamic *d = &object->dynamic;
    for (size_t i = 0; i < count; i++) {
        uint32_t type = (uint32_t)ELF64_R_TYPE(table[i].r_info), symbol = (uint32_t)ELF64_R_SYM(table[i].r_info);
        if (symbol == 0 || table[i].r_addend != 0) continue;
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
        int hook = nltp_hook_named(d->strings + d->symbols[symbol].st_name);
        if (hook < 0 || *nltp_hooks[hook].real == NULL) continue;
        uintptr_t *address = (uintptr_t *)(d->bias + table[i].r_offset);
        uintptr_t value = nltp_load(address);
        uintptr_t ours = (uintptr_t)nltp_hooks[hook].hook, real = (uintptr_t)*nltp_hooks[hook].real;
        /* A slot that was not resolved yet points into its own object's procedure linkage table. */
        bool lazy = type == R_X86_64_JUMP_SLOT && in_range(value, object->start, object->end);
        if (slots->undo ? value != ours : (value != real && !lazy)) continue;
        add(slots, (struct slot){address, value, slots->undo ? real : ours, (unsigned)hook,
                                 in_range((uintptr_t)address, object->relro_start, object->relro_end)});
    }
}

/* The symbol table's values are relative to the load bias. Symbols have versions: every entry of that name is changed. */
static void add_exports(struct slots *slots, const struct object *object) {
    const struct nltp_dynamic *d = &object->dynamic;
    for (unsigned hook = 0; hook < nltp_hook_count; hook++) {
        const Elf64_Sym *symbol = *nltp_hooks[hook].real == NULL ? NULL : nltp_dynamic_find(d, nltp_hooks[hook].name);
        if (symbol == NULL || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        uintptr_t ours = (uintptr_t)nltp_hooks[hook].hook - d->bias, real = (uintptr_t)*nltp_hooks[hook].real - d->bias;
        if (symbol->st_value != (slots->undo ? ours : real)) continue;
        add(slots, (struct slot){(uintptr_t *)&symbol->st_value, symbol->st_value, slots->undo ? real : ours, hook, true});
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

static int collect(struct dl_phdr_info *info, size_t size, void *context) {
    struct slots *slots = context;
    struct object object;
    (void)size;
    if (!read_object(info, &object)) return 0;
    add_imports(slots, &object, object.dynamic.rela, object.dynamic.rela_count);
    add_imports(slots, &object, object.dynamic.plt_rela, object.dynamic.plt_rela_count);
    add_exports(slots, &object);
    return 0;
}

static bool write_slot(const struct slot *slot) {
    uintptr_t page = (uintptr_t)slot->address & ~(uintptr_t)4095;
    uintptr_t expected = slot->expected;
    if (!slot->read_only) return nltp_cas(slot->address, &expected, slot->wanted);
    if (nltp_syscall3(SYS_mprotect, (long)page, 4096, PROT_READ | PROT_WRITE) != 0) return false;
    bool changed = nltp_cas(slot->address, &expected, slot->wanted);
    nltp_syscall3(SYS_mprotect, (long)page, 4096, PROT_READ);
    return changed;
}

static int apply(bool undo, uint32_t *rebound) {
    enum { CAPACITY = 1 << 15 };
    struct slots slots = {.capacity = CAPACITY, .undo = undo};
    slots.items = nltp_map(CAPACITY * sizeof(struct slot));
    if (slots.items == NULL) return NLT_NO_MEMORY;
    dl_iterate_phdr(collect, &slots);
    int status = slots.overflow ? NLT_PATCH_FAILED : NLT_OK;
    for (unsigned step = 0; step < nltp_hook_count; step++) {
        unsigned hook = undo ? nltp_hook_count - 1 - step : step; /* hooks.def says why */
        for (size_t i = 0; i < slots.count; i++) {
            if (slots.items[i].hook != hook) continue;
            if (!write_slot(&slots.items[i])) status = NLT_PATCH_FAILED;
            else if (rebound != NULL) ++*rebound;
        }
    }
    nltp_unmap(slots.items, CAPACITY * sizeof(struct slot));
    return status;
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
    return apply(false, rebound);
}

int nltp_rebind_undo(void) {
    return apply(true, NULL);
}
