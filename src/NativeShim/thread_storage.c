/* Where the thread-local variables of each loaded library lie (System V ABI, "Thread-Local Storage"): the dynamic linker tells it for the calling
 * thread. Those that it laid out beside the thread's descriptor have the same distance from it in every thread. */
#define _GNU_SOURCE
#include "shim.h"

#include <link.h>

#include "nlt_control.h"

struct storages {
    struct nlt_thread_storage *found;
    uint32_t count, capacity;
};

static int note(struct dl_phdr_info *info, size_t size, void *state) {
    struct storages *storages = state;
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof info->dlpi_tls_data) return 1;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_TLS) continue;
        if (storages->count < storages->capacity) {
            storages->found[storages->count] = (struct nlt_thread_storage){
                .module = info->dlpi_tls_modid,
                .headers = (uintptr_t)info->dlpi_phdr,
                .address = (uintptr_t)info->dlpi_tls_data,
                .size_bytes = header->p_memsz,
            };
        }
        storages->count++;
    }
    return 0;
}

uint32_t nlt_thread_storages(struct nlt_thread_storage *found, uint32_t capacity) {
    struct storages storages = {found, 0, capacity};
    dl_iterate_phdr(note, &storages);
    return storages.count;
}
