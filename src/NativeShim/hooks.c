/* The hooks themselves: thin, and all alike. The exported names are aliases, so that inside the shim a hook is never
 * mistaken for the function that it stands in front of. <stdlib.h> stays out: its declarations carry attributes that
 * would apply to the aliases. */
#define _GNU_SOURCE
#include "shim.h"

#define OPTIONAL_HOOK(role, result, name, parameters, arguments) HOOK(role, result, name, parameters, arguments)

struct reals {
#define HOOK(role, result, name, parameters, arguments) result(*name) parameters;
#include "hooks.def"
#undef HOOK
    void (*_exit)(int status);
};
static struct reals real;

/* ---- before the real functions are known --------------------------------------------------------------------------- */

/* Should the search for the real functions allocate, those few blocks come from here and stay. */
static char bootstrap[16 * 1024] __attribute__((aligned(16)));
static size_t bootstrap_used;

static void *bootstrap_take(size_t size) {
    size_t need = (size + 31) & ~(size_t)15;
    size_t at = nltp_add(&bootstrap_used, need);
    if (size > sizeof bootstrap || at + need > sizeof bootstrap) return NULL;
    *(size_t *)(bootstrap + at) = size;
    return bootstrap + at + 16;
}
static bool is_bootstrap(const void *pointer) {
    return (const char *)pointer >= bootstrap && (const char *)pointer < bootstrap + sizeof bootstrap;
}

enum { UNRESOLVED, RESOLVING, RESOLVED };
static int resolve_state;

/* Operators of another object than malloc's end in malloc: they are left alone. */
static void forget_operators_of_others(void) {
    struct nltp_object allocator = {0}, definer;
    nltp_find_object((uintptr_t)real.malloc, &allocator);
    for (unsigned i = 0; i < nltp_hook_count; i++) {
        if (nltp_hooks[i].name[0] != '_' || nltp_hooks[i].name[1] != 'Z') continue;
        void **function = nltp_hooks[i].real;
        if (!nltp_find_object((uintptr_t)*function, &definer) || definer.start != allocator.start) *function = NULL;
    }
}

#undef OPTIONAL_HOOK
#define OPTIONAL_HOOK(role, result, name, parameters, arguments)

/* The functions in force are those of the first object in the program's search order that defines them, ourselves left out.
 * dlsym() would not do: for a program at a fixed address it answers with a stub in the program, which leads back to the hook. */
NLTP_NOINLINE bool nltp_hooks_resolve(void) {
    if (nltp_load_acquire(&resolve_state) == RESOLVED) return true;
    nltp_store(&resolve_state, RESOLVING);
    for (unsigned i = 0; i < nltp_hook_count; i++) *nltp_hooks[i].real = nltp_first_definition(nltp_hooks[i].name);
    forget_operators_of_others();
    real._exit = (void (*)(int))nltp_first_definition("_exit");
    bool complete = true;
#define HOOK(role, result, name, parameters, arguments) complete = complete && real.name != NULL;
#include "hooks.def"
#undef HOOK
    nltp_store_release(&resolve_state, complete ? RESOLVED : UNRESOLVED);
    return complete;
}

#undef OPTIONAL_HOOK
#define OPTIONAL_HOOK(role, result, name, parameters, arguments) HOOK(role, result, name, parameters, arguments)

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

#define HOOK(role, result, name, parameters, arguments) DECLARE_HOOK(result, name, parameters)
#include "hooks.def"
#undef HOOK

#define ENOMEM_STATUS 12

/* Before a real allocation: a block that a hook records from inside it is not recorded twice. Whatever this thread recorded earlier has
 * nothing to do with it; should its address come back, a release went unseen. */
static inline void begin_allocation(void) {
    nltp_tls.not_last_recorded = 0;
}

__attribute__((flatten)) void *nltp_hook_malloc(size_t size) {
    if (NLTP_UNLIKELY(!ready())) return bootstrap_take(size);
    begin_allocation();
    void *pointer = real.malloc(size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

void *nltp_hook_calloc(size_t count, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return bootstrap_take(count * size); /* static memory is zero already */
    begin_allocation();
    void *pointer = real.calloc(count, size);
    nltp_record_allocation(pointer, count * size, NLTP_CALLER); /* no overflow: calloc failed then */
    return pointer;
}

void *nltp_hook_aligned_alloc(size_t alignment, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return NULL;
    begin_allocation();
    void *pointer = real.aligned_alloc(alignment, size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

void *nltp_hook_memalign(size_t alignment, size_t size) {
    if (NLTP_UNLIKELY(!ready() || real.memalign == NULL)) return NULL;
    begin_allocation();
    void *pointer = real.memalign(alignment, size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

void *nltp_hook_valloc(size_t size) {
    if (NLTP_UNLIKELY(!ready() || real.valloc == NULL)) return NULL;
    begin_allocation();
    void *pointer = real.valloc(size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

void *nltp_hook_pvalloc(size_t size) {
    if (NLTP_UNLIKELY(!ready() || real.pvalloc == NULL)) return NULL;
    begin_allocation();
    void *pointer = real.pvalloc(size);
    nltp_record_allocation(pointer, size, NLTP_CALLER);
    return pointer;
}

int nltp_hook_posix_memalign(void **result, size_t alignment, size_t size) {
    if (NLTP_UNLIKELY(!ready())) return ENOMEM_STATUS;
    begin_allocation();
    int status = real.posix_memalign(result, alignment, size);
    if (status == 0) nltp_record_allocation(*result, size, NLTP_CALLER);
    return status;
}

static void *resize_bootstrap(void *pointer, size_t size) {
    void *moved = ready() ? real.malloc(size) : bootstrap_take(size);
    size_t old = pointer == NULL ? 0 : *(size_t *)((char *)pointer - 16);
    if (moved != NULL && pointer != NULL) nltp_copy(moved, pointer, old < size ? old : size);
    return moved;
}

/* Of what is no live block: the caller gets a block of its own and what can still be read, as the C library would mostly have it. Failing
 * would make a program believe that memory has run out. */
static NLTP_NOINLINE void *resize_wrong(void *pointer, size_t readable, size_t size, uintptr_t return_address, const uintptr_t *hook_frame) {
    if (size == 0) return NULL;
    begin_allocation();
    void *made = real.malloc(size);
    if (made != NULL) nltp_peek((uintptr_t)pointer, made, readable < size ? readable : size);
    nltp_record_allocation(made, size, return_address, hook_frame);
    return made;
}

static inline void *resize(void *pointer, size_t size, uintptr_t return_address, const uintptr_t *hook_frame) {
    if (NLTP_UNLIKELY(!ready() || is_bootstrap(pointer))) return resize_bootstrap(pointer, size);
    struct nltp_block old;
    if (NLTP_UNLIKELY(!nltp_record_resize_begin(pointer, &old, return_address, hook_frame)))
        return resize_wrong(pointer, old.size_bytes, size, return_address, hook_frame);
    begin_allocation();
    void *result = real.realloc(pointer, size);
    nltp_record_resize_end(pointer, old, result, size, return_address, hook_frame);
    return result;
}

void *nltp_hook_realloc(void *pointer, size_t size) {
    return resize(pointer, size, NLTP_CALLER);
}

void *nltp_hook_reallocarray(void *pointer, size_t count, size_t size) {
    size_t product;
    /* An overflow is the real function's to report, with its errno; it leaves the block alone. */
    if (NLTP_UNLIKELY(__builtin_mul_overflow(count, size, &product)))
        return ready() && real.reallocarray != NULL ? real.reallocarray(pointer, count, size) : NULL;
    return resize(pointer, product, NLTP_CALLER);
}

static inline void release(void *pointer, uintptr_t return_address, const uintptr_t *hook_frame) {
    if (NLTP_UNLIKELY(!ready() || is_bootstrap(pointer))) return;
    if (NLTP_LIKELY(nltp_record_release(pointer, return_address, hook_frame))) real.free(pointer);
}

__attribute__((flatten)) void nltp_hook_free(void *pointer) {
    release(pointer, NLTP_CALLER);
}

void nltp_hook_cfree(void *pointer) {
    release(pointer, NLTP_CALLER);
}

/* Rules and names of a library that goes away must not serve the next one at its address. */
int nltp_hook_dlclose(void *handle) {
    if (!ready() || real.dlclose == NULL) return -1;
    int status = real.dlclose(handle);
    nltp_modules_unloaded();
    return status;
}

/* _exit() skips destructors: the last chance to write the counters. */
DECLARE_HOOK(void, _exit, (int status))
void nltp_hook__exit(int status) {
    nltp_stats_append();
    if (ready() && real._exit != NULL) real._exit(status);
    for (;;) nltp_syscall3(SYS_exit_group, status, 0, 0);
}
void nltp_export__Exit(int status) __asm__("_Exit") __attribute__((alias("nltp_hook__exit"), visibility("default")));

/* ---- C++ operators ------------------------------------------------------------------------------------------------------ */

/* A C++ runtime's operators end in malloc. An allocator that replaces malloc mostly brings operators that do not; only such are
 * followed. They are never exported, only imports of them are rebound: a library that is loaded later with a C++ runtime of its
 * own must not find ours in its place. Arguments beyond the block or the size are passed on as they came. */
typedef void *(*allocating_operator)(size_t, uintptr_t, uintptr_t);
typedef void (*releasing_operator)(void *, uintptr_t, uintptr_t);

#define DEFINE_allocates(name)                                                                                          \
    static void *nltp_hook_##name(size_t size, uintptr_t a, uintptr_t b) {                                             \
        begin_allocation();                                                                                            \
        void *pointer = ((allocating_operator)nltp_real_##name)(size, a, b);                                           \
        nltp_record_allocation(pointer, size, NLTP_CALLER);                                                            \
        return pointer;                                                                                                \
    }
#define DEFINE_releases(name)                                                                                           \
    static void nltp_hook_##name(void *pointer, uintptr_t a, uintptr_t b) {                                            \
        if (nltp_record_release(pointer, NLTP_CALLER)) ((releasing_operator)nltp_real_##name)(pointer, a, b);          \
    }
#define OPERATOR(kind, name)                                                                                           \
    static void *nltp_real_##name;                                                                                     \
    DEFINE_##kind(name)
#include "operators.def"
#undef OPERATOR

#define ROLE_releases true
#define ROLE_allocates false

const struct nltp_hook nltp_hooks[] = {
#define HOOK(role, result, name, parameters, arguments) {#name, (void *)nltp_hook_##name, (void **)&real.name, ROLE_##role},
#include "hooks.def"
#undef HOOK
#define OPERATOR(kind, name) {#name, (void *)nltp_hook_##name, &nltp_real_##name, ROLE_##kind},
#include "operators.def"
#undef OPERATOR
};
const unsigned nltp_hook_count = sizeof nltp_hooks / sizeof nltp_hooks[0];

int nltp_hook_named(const char *name) {
    for (unsigned i = 0; i < nltp_hook_count; i++)
        if (nltp_equal(nltp_hooks[i].name, name)) return (int)i;
    return -1;
}
