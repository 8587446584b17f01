/* The control functions: all of the engine that C# may call. Every function may be called from any thread. */
#ifndef NLT_CONTROL_H
#define NLT_CONTROL_H

#include "nlt_ledger.h"

#define NLT_ABI_VERSION 1

enum nlt_status {
    NLT_OK = 0,
    NLT_NO_MEMORY = 1,     /* the ledger could not be mapped                                                             */
    NLT_NO_ALLOCATOR = 2,  /* no malloc was found to follow                                                              */
    NLT_PATCH_FAILED = 3,  /* a table of the dynamic linker could not be made writable                                   */
    NLT_PRELOADED_TWICE = 4 /* another copy of the shim already holds the hooks                                           */
};

int nlt_abi_version(void);

/* Puts the hooks in place, once; they record nothing until a scope is open. Under LD_PRELOAD they already are, and so is
 * recording. Cost: about half a millisecond. */
int nlt_install(void);

/* Takes the hooks out again (frees last) and ends the session. No effect under LD_PRELOAD. */
int nlt_detach(void);

/* The ledger, or NULL when nlt_install() has not succeeded. */
const struct nlt_header *nlt_ledger(void);

/* Opens a scope: recording is on until as many scopes were closed as opened. Returns the scope's epoch, or 0 when epochs are
 * used up. The epoch before it (returned - 1) is what threads outside of every scope stamp their blocks with from now on. */
uint32_t nlt_scope_open(void);
void nlt_scope_close(void);

/* The calling thread now runs in the scope of that epoch; 0: in none. One store. */
void nlt_thread_scope(uint32_t epoch);

/* Nesting switch for the calling thread: while on, its allocations are not recorded (its frees are). Returns the depth. */
int nlt_thread_quiet(int on);

/* Looks again for objects and imports that were bound past the hooks; returns how many were rebound. */
uint32_t nlt_rebind(void);

/* Where the calling thread stands, walked now: writes up to `capacity` return addresses, innermost first; returns their
 * number. For tests and for Explain(): it shows what the walker sees. */
uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity);

#endif
