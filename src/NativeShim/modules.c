/* ELF objects: which one holds an address, and a lasting id for each that appeared in a stack. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <link.h>

static uint32_t generation = 1;

/* ---- which object holds an address --------------------------------------------------------------------------------- */

/* glibc 2.35 and later answer without a lock, from any context: _dl_find_object(). It is looked up rather than linked to, so that
 * the shim also loads where it is missing. */
typedef int (*find_function)(void *, struct dl_find_object *);
static find_function find_in_libc;

/* Elsewhere the objects are listed by ourselves: at the start, after each dlclose(), and when an address is in none of them. The
 * list is replaced as a whole and an old one never freed: readers need no lock. Making one takes the dynamic linker's lock, which
 * a thread in dlopen() holds; it is recursive, and nobody waits for a thread that allocates. */
#define MAX_LISTED 2048
struct listing {
    uint32_t count, generation;
    struct nltp_object objects[MAX_LISTED];
};
static struct listing *listing;

static int list_one(struct dl_phdr_info *info, size_t size, void *context) {
    struct listing *list = context;
    (void)size;
    if (list->count == MAX_LISTED) return 1;
    struct nltp_object *object = &list->objects[list->count];
    *object = (struct nltp_object){.start = UINTPTR_MAX, .load_bias = info->dlpi_addr};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD) {
            if ((start & ~(uintptr_t)4095) < object->start) object->start = start & ~(uintptr_t)4095;
            if (start + header->p_memsz > object->end) object->end = start + header->p_memsz;
        } else if (header->p_type == PT_GNU_EH_FRAME) {
            object->eh_frame_header = (const uint8_t *)start;
        }
    }
    for (const struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next)
        if (map->l_addr == info->dlpi_addr && nltp_equal(map->l_name, info->dlpi_name)) object->map = map;
    if (object->map != NULL && object->end != 0) list->count++;
    return 0;
}

static struct listing *list_objects(void) {
    struct listing *made = nltp_map(sizeof *made);
    if (made == NULL) return NULL;
    made->generation = nltp_module_generation();
    dl_iterate_phdr(list_one, made);
    nltp_store_release(&listing, made);
    return made;
}

static bool find_listed(const struct listing *list, uintptr_t pc, struct nltp_object *object) {
    for (uint32_t i = 0; list != NULL && i < list->count; i++) {
        if (pc < list->objects[i].start || pc >= list->objects[i].end) continue;
        *object = list->objects[i];
        return true;
    }
    return false;
}

/* Most addresses that no object holds are managed code, and always will be: an address is asked for anew only when it could be
 * the first of an object that was loaded since, that is, when it is not near one that was looked for lately. */
#define LATELY 64
static uintptr_t lately[LATELY];

static NLTP_NOINLINE bool find_by_listing(uintptr_t pc, struct nltp_object *object) {
    struct listing *list = nltp_load_acquire(&listing);
    if (list != NULL && list->generation == nltp_module_generation() && find_listed(list, pc, object)) return true;
    uintptr_t *missed = &lately[(pc >> 16) % LATELY];
    bool stale = list == NULL || list->generation != nltp_module_generation();
    if (!stale && nltp_load(missed) == pc >> 16) return false;
    if (nltp_tls.listing) return false;
    nltp_tls.listing = 1;
    list = list_objects();
    nltp_tls.listing = 0;
    if (find_listed(list, pc, object)) return true;
    nltp_store(missed, pc >> 16);
    return false;
}

void nltp_modules_init(void) {
#ifndef NLT_WITHOUT_DL_FIND_OBJECT
    find_in_libc = (find_function)nltp_first_definition("_dl_find_object");
#endif
}

bool nltp_find_object(uintptr_t pc, struct nltp_object *object) {
    struct dl_find_object found;
    if (NLTP_UNLIKELY(find_in_libc == NULL)) return find_by_listing(pc, object);
    if (find_in_libc((void *)pc, &found) != 0) return false;
    *object = (struct nltp_object){
        .start = (uintptr_t)found.dlfo_map_start,
        .end = (uintptr_t)found.dlfo_map_end,
        .load_bias = found.dlfo_link_map->l_addr,
        .eh_frame_header = found.dlfo_eh_frame,
        .map = found.dlfo_link_map,
    };
    return true;
}

bool nltp_find_object_at_once(uintptr_t pc, struct nltp_object *object) {
    return find_in_libc != NULL && nltp_find_object(pc, object);
}

/* ---- lasting ids ------------------------------------------------------------------------------------------------------ */

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

static void mark_unloaded(void) {
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

/* The first step has objects listed anew: the old listing points to what dlclose() has freed. The second follows the marks: a thread
 * that empties its caches for it must not find the old modules in force. */
void nltp_modules_unloaded(void) {
    nltp_add(&generation, 1);
    if (nltp_ledger != NULL) mark_unloaded();
    for (unsigned i = 0; i < LATELY; i++) nltp_store(&lately[i], 0); /* the next object may lie where this one did */
    nltp_add(&generation, 1);
}

bool nltp_module_is_loaded(uint32_t id) {
    const struct nlt_module *modules = nltp_table(NLT_TABLE_MODULES);
    return !(nltp_load(&modules[id].flags) & NLT_MODULE_UNLOADED);
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
