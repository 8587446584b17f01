/* Beginning and end: preloaded or late, fork, exit; and the control functions. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER; /* never taken by a hook */
static uint32_t open_scopes, scope_tags;
static bool hooks_in_place;

static void after_fork_in_child(void) {
    nltp_ledger->pid = nltp_getpid();
    nltp_threads_after_fork();
}

static bool begin(enum nlt_mode mode) {
    if (!nltp_ledger_create(mode)) return false;
    Dl_info self;
    if (dladdr((void *)begin, &self) != 0) nltp_ledger->shim_base = (uint64_t)(uintptr_t)self.dli_fbase;
    nltp_contexts_init();
    nltp_threads_init();
    pthread_atfork(NULL, NULL, after_fork_in_child);
    return true;
}

/* Begins an epoch for all that is outside of every scope. */
static bool start_recording(void) {
    uint32_t everybody = nltp_epoch_create(0);
    if (everybody == 0) return false;
    open_scopes++;
    nltp_store_release(&nltp_ledger->current_epoch, everybody);
    return true;
}

/* ---- preloaded ------------------------------------------------------------------------------------------------------ */

/* Runs at the first allocation of the process, mostly the dynamic linker's own; whatever this allocates itself is not
 * recorded, because recording starts at its end. */
bool nltp_begin_preloaded(void) {
    int saved_errno = errno;
    bool resolved = nltp_hooks_resolve(true);
    if (resolved && begin(NLT_MODE_PRELOAD)) {
        hooks_in_place = true;
        nltp_stats_init();
        nltp_rebind_exports();
        start_recording();
    }
    errno = saved_errno;
    return resolved;
}

static bool is_preloaded(void) {
    return dlsym(RTLD_DEFAULT, "malloc") == nltp_hooks[nltp_hook_named("malloc")].hook;
}

__attribute__((constructor(101))) static void on_load(void) {
    if (nltp_ledger == NULL && is_preloaded()) nltp_begin_preloaded();
}

__attribute__((destructor)) static void on_exit_of_process(void) {
    nltp_stats_append();
}

/* ---- control functions ------------------------------------------------------------------------------------------------ */

int nlt_abi_version(void) {
    return NLT_ABI_VERSION;
}

const struct nlt_header *nlt_ledger(void) {
    return nltp_load_acquire(&nltp_ledger);
}

/* True when malloc is already a hook, but of another copy of this library. */
static bool another_shim_is_active(void) {
    Dl_info owner;
    void *current = dlsym(RTLD_DEFAULT, "malloc");
    if (current == NULL || dladdr(current, &owner) == 0 || owner.dli_fname == NULL) return false;
    void *handle = dlopen(owner.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
    if (handle == NULL) return false;
    void *symbol = dlsym(handle, "nlt_abi_version");
    Dl_info definer;
    bool other = symbol != NULL && dladdr(symbol, &definer) != 0 && definer.dli_fbase == owner.dli_fbase;
    dlclose(handle);
    return other;
}

static int install(void) {
    if (hooks_in_place) return NLT_OK;
    if (nltp_ledger == NULL) {
        if (another_shim_is_active()) return NLT_PRELOADED_TWICE;
        if (!nltp_hooks_resolve(false)) return NLT_NO_ALLOCATOR;
        if (!begin(NLT_MODE_LATE)) return NLT_NO_MEMORY;
        nltp_stats_init();
    }
    nltp_modules_scan();
    int status = nltp_rebind(NULL);
    if (status != NLT_OK) {
        nltp_rebind_undo();
        return status;
    }
    nltp_rebind_bound_imports();
    hooks_in_place = true;
    return NLT_OK;
}

int nlt_install(void) {
    pthread_mutex_lock(&control_lock);
    int status = install();
    pthread_mutex_unlock(&control_lock);
    return status;
}

int nlt_detach(void) {
    int status = NLT_OK;
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place && nltp_ledger->mode == NLT_MODE_LATE) {
        nltp_store_release(&nltp_ledger->current_epoch, 0);
        open_scopes = 0;
        status = nltp_rebind_undo();
        hooks_in_place = false;
        nltp_ledger->session++; /* frees from now on are missed: blocks of the old session prove nothing any more */
    }
    pthread_mutex_unlock(&control_lock);
    return status;
}

uint32_t nlt_rebind(void) {
    uint32_t rebound = 0;
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) {
        nltp_rebind(&rebound);
        rebound += nltp_rebind_bound_imports();
    }
    pthread_mutex_unlock(&control_lock);
    return rebound;
}

uint32_t nlt_scope_open(void) {
    pthread_mutex_lock(&control_lock);
    uint32_t epoch = 0;
    if (hooks_in_place && start_recording()) {
        epoch = nltp_epoch_create(++scope_tags);
        if (epoch == 0) open_scopes--;
    }
    pthread_mutex_unlock(&control_lock);
    return epoch;
}

void nlt_scope_close(void) {
    pthread_mutex_lock(&control_lock);
    if (open_scopes > 0 && --open_scopes == 0) nltp_store_release(&nltp_ledger->current_epoch, 0);
    pthread_mutex_unlock(&control_lock);
}

int nlt_thread_quiet(int on) {
    if (on) nltp_tls.quiet++;
    else if (nltp_tls.quiet > 0) nltp_tls.quiet--;
    return (int)nltp_tls.quiet;
}

void nlt_thread_scope(uint32_t epoch) {
    nltp_tls.scope_epoch = epoch;
}
