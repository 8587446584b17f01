/* The hooks themselves: thin, and all alike. The exported names are aliases, so that inside the shim a hook is never
 * mistaken for the function that it stands in front of. <stdlib.h> stays out: its declarations carry attributes that
 * would apply to the aliases. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>

struct reals {
#define HOOK(result, name, parameters, arguments) result(*name) parameters;
#include "hooks.def"
#undef HOOK
    int (*dlclose)(void *handle);
    void (*_exit)(int status);
};
static struct reals real;

/* ---- before the real functions are known --------------------------------------------------------------------------- */

/* dlsym() itself may allocate before it has found the real functions. Those few blocks come from here and stay. */
static char bootstrap[16 * 1024] __attribute__((aligned(16)));
static size_t bootstrap_used;

static void *bootstrap_take(size_t size) {
    size_t need = (size + 31) & ~(size_t)15;
    size_t at = nltp_add(&bootstrap_used, need);
    if (at + need > sizeof bootstrap) return NULL;
    *(size_t *)(bootstrap + at) = size;
    return bootstrap + at + 16;
}
static bool is_bootstrap(const void *pointer) {
    return (const char *)pointer >= bootstrap && (const char *)pointer < bootstrap + sizeof bootstrap;
}

enum { UNRESOLVED, RESOLVING, RESOLVED };
static int resolve_state;

bool nltp_hooks_resolve(bool preloaded) {
    if (nltp_load_acquire(&resolve_state) == RESOLVED) return true;
    nltp_store(&resolve_state, RESOLVING);
    void *scope = preloaded ? RTLD_NEXT : RTLD_DEFAULT;
    struct reals found = {
#define HOOK(result, name, parameters, arguments) .name = (result(*) parameters)dlsym(scope, #name),
#include "hooks.def"
#undef HOOK
        .dlclose = (int (*)(void *))dlsym(scope, "dlclose"),
        ._exit = (void (*)(int))dlsym(scope, "_exit"),
    };
    real = found;
    bool complete = found.dlclose != NULL && found._exit != NULL;
#define HOOK(result, name, parameters, arguments) complete = complete && found.name != NULL;
#include "hooks.def"
#undef HOOK
    nltp_store_release(&resolve_state, complete ? RESOLVED : UNRESOLVED);
    return complete;
}

/* True when the real functions may be called. Only a preloaded shim is called before it was initialised. */
static inline bool ready(void) {
    if (NLTP_LIKELY(nltp_load_acquire(&resolve_state) == RESOLVED)) return true;
    return nltp_load(&resolve_state) == UNRESOLVED && nltp_begin_preloaded();
}

/* ---- the hooks ------------------------------------------------------------------------------------------------------- */

#define DECLARE_HOOK(result, name, parameters)                                                                         \
    result nltp_hook_##name parameters NLTP_HIDDEN;                                                                    \
    result nltp_export_##name parameters __asm__(#name)                                                                \
        __attribute__((alias("nltp_hook_" #name), visibility("default")));

#define HOOK(result, name, parameters, arguments) DECLARE_HOOK(result, name, parameters)
#include "hooks.def"
#undef HOOK

void *nltp_hook_malloc(size_t size) {
    if (NLTP_UNLIKELY(!ready())) return bootstrap_take(size);
    void *pointer = real.malloc(size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

void *nltp_hook_calloc(size_t count, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return bootstrap_take(count * size); /* static memory is zero already */
    void *pointer = real.calloc(count, size);
    nltp_record_allocation(pointer, count * size, NLTP_CALLER); /* no overflow: calloc failed then */
    return pointer;
}

void *nltp_hook_aligned_alloc(size_t alignment, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return NULL;
    void *pointer = real.aligned_alloc(alignment, size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

int nltp_hook_posix_memalign(void **result, size_t alignment, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return 12; /* ENOMEM */
    int status = real.posix_memalign(result, alignment, size);
    if (status == 0) nltp_record_allocation(*result, size, NLTP_CALLER);
    return status;
}

void *nltp_hook_realloc(void *pointer, size_t size) {
    if (NLTP_UNLIKELY(!ready() || is_bootstrap(pointer))) {
        void *moved = ready() ? real.malloc(size) : bootstrap_take(size);
        size_t old = pointer == NULL ? 0 : *(size_t *)((char *)pointer - 16);
        if (moved != NULL && pointer != NULL) nltp_copy(moved, pointer, old < size ? old : size);
        return moved;
    }
    struct nltp_block old = nltp_record_resize_begin(pointer);
    void *result = real.realloc(pointer, size);
    nltp_record_resize_end(pointer, old, result, size, NLTP_CALLER);
    return result;
}

void nltp_hook_free(void *pointer) {
    if (NLTP_UNLIKELY(!ready() || is_bootstrap(pointer))) return;
    nltp_record_release(pointer);
    real.free(pointer);
}

/* Rules and names of a library that goes away must not serve the next one at its address. */
DECLARE_HOOK(int, dlclose, (void *handle))
int nltp_hook_dlclose(void *handle) {
    if (!ready()) return -1;
    int status = real.dlclose(handle);
    nltp_modules_unloaded();
    return status;
}

/* _exit() skips destructors: the last chance to write the counters. */
DECLARE_HOOK(void, _exit, (int status))
void nltp_hook__exit(int status) {
    nltp_stats_append();
    if (ready()) real._exit(status);
    for (;;) nltp_syscall3(SYS_exit_group, status, 0, 0);
}
void nltp_export__Exit(int status) __asm__("_Exit") __attribute__((alias("nltp_hook__exit"), visibility("default")));

const struct nltp_hook nltp_hooks[] = {
#define HOOK(result, name, parameters, arguments) {#name, (void *)nltp_hook_##name, (void **)&real.name},
#include "hooks.def"
#undef HOOK
    {"dlclose", (void *)nltp_hook_dlclose, (void **)&real.dlclose},
};
const unsigned nltp_hook_count = sizeof nltp_hooks / sizeof nltp_hooks[0];

int nltp_hook_named(const char *name) {
    for (unsigned i = 0; i < nltp_hook_count; i++)
        if (nltp_equal(nltp_hooks[i].name, name)) return (int)i;
    return -1;
}
