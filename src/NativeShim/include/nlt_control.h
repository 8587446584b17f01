/* The control functions: all of the engine that C# may call. Every function may be called from any thread. */
#ifndef NLT_CONTROL_H
#define NLT_CONTROL_H

#include "nlt_ledger.h"

#define NLT_ABI_VERSION 2

enum nlt_status {
    NLT_OK = 0,
    NLT_NO_MEMORY = 1,     /* the ledger could not be mapped                                                             */
    NLT_NO_ALLOCATOR = 2,  /* no malloc was found to follow                                                              */
    NLT_PATCH_FAILED = 3,  /* a table of the dynamic linker could not be made writable                                   */
    NLT_PRELOADED_TWICE = 4 /* another copy of the shim already holds the hooks                                           */
};

int nlt_abi_version(void);

/* Puts the hooks in place, once; they record nothing until a scope is open. Under LD_PRELOAD they already are, and so is
 * recording. Cost: some milliseconds; more where other threads load the machine. */
int nlt_install(void);

/* Takes the hooks out again (frees last) and ends the session. No effect under LD_PRELOAD. */
int nlt_detach(void);

/* The ledger, or NULL when nlt_install() has not succeeded. */
const struct nlt_header *nlt_ledger(void);

/* Asks for recording, or ends the asking. Under LD_PRELOAD it is asked for from the start. */
void nlt_recording_begin(void);
void nlt_recording_end(void);

/* Opens a scope and asks for recording. `flags`: enum nlt_scope_flags. Returns the scope's entry and its tag; 0: no entry or no
 * epoch was left. */
uint32_t nlt_scope_open(uint32_t flags, uint32_t *tag);
/* Threads in that scope allocate for another tag from now on: that of a scope that was opened inside it, or its own again. */
void nlt_scope_retag(uint32_t scope, uint32_t tag);
/* Flows that still run in the scope allocate on nobody's behalf from now on. */
void nlt_scope_close(uint32_t scope);

/* The calling thread now runs in that scope; NLT_SCOPE_OUTSIDE: in none; NLT_SCOPE_NOBODY: in one that was closed. */
void nlt_thread_scope(uint32_t scope);

/* Blocks allocated from now on belong to a new epoch: a collection has happened, or time has passed. */
void nlt_epoch_advance(uint32_t gc_count);

/* The calling thread is the runtime's finalizer thread: its releases of blocks of open scopes are listed. */
void nlt_thread_is_finalizer(void);

/* Nesting switch for the calling thread: while on, its allocations are not recorded (its frees are). Returns the depth. */
int nlt_thread_quiet(int on);

/* Asks for wrong releases to be listed and not passed on, or ends the asking. False: no memory. */
int nlt_pairing_begin(void);
void nlt_pairing_end(void);

/* The live word of the block that starts at an address; 0: none, or nobody asks for wrong releases. Never blocks. */
uint64_t nlt_live_word(uint64_t address);

/* The caller is about to release the block that starts at an address by a function of another family than its own. `functions`: which
 * two, as the caller numbers them. */
void nlt_wrong_function(uint64_t address, uint64_t functions);

/* Looks again for objects and imports that were bound past the hooks; returns how many were rebound. */
uint32_t nlt_rebind(void);

/* Where the calling thread stands, walked now: writes up to `capacity` return addresses, innermost first; returns their
 * number. For tests and for Explain(): it shows what the walker sees. */
uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity);

/* Whether the path itself, no link followed, is a regular file: .NET cannot tell one from a pipe or a device. */
int nlt_is_regular_file(const char *path);

#endif
