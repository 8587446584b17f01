/* ELF objects: which one holds an address, and a lasting id for each that appeared in a stack. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <link.h>

static uint32_t generation = 1;

bool nltp_find_object(uintptr_t pc, struct nltp_object *object) {
    struct dl_find_object found;
    if (_dl_find_object((void *)pc, &found) != 0) return false;
    *object = (struct nltp_object){
        .start = (uintptr_t)found.dlfo_map_start,
        .end = (uintptr_t)found.dlfo_map_end,
        .load_bias = found.dlfo_link_map->l_addr,
        .eh_frame_header = found.dlfo_eh_frame,
        .map = found.dlfo_link_map,
    };
    return true;
}

/* The main program's link map has no name. */
static const char *path_of(const struct link_map *map, char *buffer, size_t capacity) {
    if (map->l_name != NULL && map->l_name[0] != 0) return map->l_name;
    long n = nltp_syscall3(SYS_readlink, (long)"/proc/self/exe", (long)buffer, (long)capacity - 1);
    if (n <= 0) return "";
    buffer[n] = 0;
    return buffer;
}

static bool describes(const struct nlt_module *module, const struct nltp_object *object, const char *path) {
    return module->start == object->start && module->load_bias == object->load_bias &&
           !(nltp_load(&module->flags) & NLT_MODULE_UNLOADED) &&
           nltp_equal((const char *)nltp_table(NLT_TABLE_STRINGS) + module->path, path);
}

uint32_t nltp_module_id(const struct nltp_object *object) {
    struct nlt_module *modules = nltp_table(NLT_TABLE_MODULES);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_MODULES].count);
    char buffer[1024];
    const char *path = path_of(object->map, buffer, sizeof buffer);
    for (uint32_t id = 1; id < count; id++)
        if (describes(&modules[id], object, path)) return id;

    nltp_clr_object_seen(object);
    uint32_t name = nltp_string(path);
    uint32_t id = nltp_table_take(NLT_TABLE_MODULES, 1);
    if (id == 0) {
        nltp_add(&nltp_ledger->losses.unknown_modules, 1);
        return 0;
    }
    /* Two threads may both enter one object: a reader treats equal entries as one. */
    struct nlt_module *module = &modules[id];
    module->end = object->end;
    module->load_bias = object->load_bias;
    module->path = name;
    module->generation = nltp_module_generation();
    nltp_store_release(&module->start, object->start);
    return id;
}

uint32_t nltp_module_generation(void) {
    return nltp_load_acquire(&generation);
}

void nltp_modules_unloaded(void) {
    nltp_add(&generation, 1);
    if (nltp_ledger == NULL) return;
    struct nlt_module *modules = nltp_table(NLT_TABLE_MODULES);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_MODULES].count);
    for (uint32_t id = 1; id < count; id++) {
        if (modules[id].start == 0 || (modules[id].flags & NLT_MODULE_UNLOADED)) continue;
        struct nltp_object object;
        char buffer[1024];
        if (!nltp_find_object(modules[id].start, &object) ||
            !describes(&modules[id], &object, path_of(object.map, buffer, sizeof buffer)))
            nltp_store(&modules[id].flags, modules[id].flags | NLT_MODULE_UNLOADED);
    }
}

static int scan_one(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size, (void)context;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        struct nltp_object object;
        if (nltp_find_object(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, &object)) nltp_module_id(&object);
        break;
    }
    return 0;
}

void nltp_modules_scan(void) {
    dl_iterate_phdr(scan_one, NULL);
}
