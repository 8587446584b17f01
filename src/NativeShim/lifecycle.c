/* Beginning and end: preloaded or late, fork, exit; and the control functions. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>

static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER; /* never taken by a hook */
static bool hooks_in_place;

/* No control function may be half done in the child: the thread that would finish it is not there. */
static void before_fork(void) {
    pthread_mutex_lock(&control_lock);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&control_lock);
}

static void after_fork_in_child(void) {
    pthread_mutex_unlock(&control_lock);
    nltp_stand_still_after_fork();
    if (*nltp_may_write == 0) return;
    nltp_ledger->pid = nltp_getpid();
    nltp_threads_after_fork();
}

/* NATIVELEAKS_LEDGER: the file of a shared home. A program that runs with somebody else's rights is not told by its
 * environment what to write where (getauxval(3), AT_SECURE). */
static const char *shared_path(void) {
    const char *path = secure_getenv("NATIVELEAKS_LEDGER");
    return path != NULL && path[0] != 0 ? path : NULL;
}

static void say_unshared(const char *path, int error) {
    char buffer[512];
    struct nltp_text line = {buffer, 0, sizeof buffer};
    nltp_put(&line, "NativeLeakTracker: the ledger could not be made in ");
    nltp_put(&line, path);
    nltp_put(&line, " (errno ");
    nltp_put_number(&line, (uint64_t)error);
    nltp_put(&line, "); it is kept in private memory.\n");
    nltp_syscall3(SYS_write, 2, (long)buffer, (long)line.length);
}

static bool begin(enum nlt_mode mode) {
    int error;
    const char *path = shared_path();
    if (path != NULL && !nltp_ledger_create(mode, path, &error)) {
        say_unshared(path, error);
        path = NULL;
    }
    if (nltp_ledger == NULL && !nltp_ledger_create(mode, NULL, &error)) return false;
    Dl_info self;
    if (dladdr((void *)begin, &self) != 0) nltp_ledger->shim_base = (uint64_t)(uintptr_t)self.dli_fbase;
    nltp_contexts_init();
    nltp_threads_init();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    return true;
}

/* Whose malloc is followed: reports name an allocator other than libc's. */
static void note_allocator(void) {
    Dl_info owner;
    if (dladdr(*nltp_hooks[nltp_hook_named("malloc")].real, &owner) != 0 && owner.dli_fname != NULL)
        nltp_ledger->allocator = nltp_string(owner.dli_fname);
}

/* ---- preloaded ------------------------------------------------------------------------------------------------------ */

/* Runs at the first allocation of the process, mostly the dynamic linker's own; whatever this allocates itself is not
 * recorded, because recording starts at its end. */
NLTP_NOINLINE bool nltp_begin_preloaded(void) {
    int saved_errno = errno;
    nltp_modules_init();
    /* A program that defines malloc itself comes before us: its own calls cannot be seen, those of all others can. */
    bool resolved = nltp_hooks_resolve();
    bool has_foreign_rights = getauxval(AT_SECURE) != 0;
    if (resolved && !has_foreign_rights && begin(NLT_MODE_PRELOAD)) {
        hooks_in_place = true;
        note_allocator();
        nltp_stats_init();
        nltp_rebind(NULL);
        nltp_recording_begin(true);
    }
    errno = saved_errno;
    return resolved;
}

/* In the program's own scope, that is: RTLD_DEFAULT would look in ours, too. */
static bool is_preloaded(void) {
    void *program = dlopen(NULL, RTLD_LAZY);
    return program != NULL && dlsym(program, "nlt_abi_version") == (void *)nlt_abi_version;
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
        nltp_modules_init();
        if (another_shim_is_active()) return NLT_PRELOADED_TWICE;
        if (!nltp_hooks_resolve()) return NLT_NO_ALLOCATOR;
        if (!begin(NLT_MODE_LATE)) return NLT_NO_MEMORY;
        note_allocator();
        nltp_stats_init();
    } else {
        nltp_blocks_forget(); /* frees went unseen since the detach: what is in the table proves nothing */
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
        nltp_pairing_end_all();
        nltp_scopes_close_all();
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

void nlt_recording_begin(void) {
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) nltp_recording_begin(true);
    pthread_mutex_unlock(&control_lock);
}

void nlt_recording_end(void) {
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) nltp_recording_end();
    pthread_mutex_unlock(&control_lock);
}

uint32_t nlt_scope_open(uint32_t flags, uint32_t *tag) {
    pthread_mutex_lock(&control_lock);
    uint32_t scope = hooks_in_place ? nltp_scope_open(flags, tag) : 0;
    pthread_mutex_unlock(&control_lock);
    return scope;
}

void nlt_scope_retag(uint32_t scope, uint32_t tag) {
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) nltp_scope_retag(scope, tag);
    pthread_mutex_unlock(&control_lock);
}

void nlt_scope_close(uint32_t scope) {
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) nltp_scope_close(scope);
    pthread_mutex_unlock(&control_lock);
}

void nlt_epoch_advance(uint32_t gc_count) {
    pthread_mutex_lock(&control_lock);
    if (hooks_in_place) nltp_epoch_advance(gc_count);
    pthread_mutex_unlock(&control_lock);
}

int nlt_pairing_begin(void) {
    pthread_mutex_lock(&control_lock);
    bool begun = hooks_in_place && nltp_pairing_begin();
    pthread_mutex_unlock(&control_lock);
    return begun;
}

void nlt_pairing_end(void) {
    pthread_mutex_lock(&control_lock);
    nltp_pairing_end();
    pthread_mutex_unlock(&control_lock);
}

int nlt_freeze(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity) {
    pthread_mutex_lock(&control_lock);
    int status = nltp_freeze(frozen, threads, capacity);
    pthread_mutex_unlock(&control_lock);
    return status;
}

int nlt_thread_quiet(int on) {
    if (on) nltp_tls.quiet++;
    else if (nltp_tls.quiet > 0) nltp_tls.quiet--;
    return (int)nltp_tls.quiet;
}
