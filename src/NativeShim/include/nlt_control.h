/* The control functions: all of the engine that C# may call. Every function may be called from any thread. */
#ifndef NLT_CONTROL_H
#define NLT_CONTROL_H

#include "nlt_ledger.h"

#define NLT_ABI_VERSION 3

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

/* Memory that the engine mapped for itself, the tables' chunks among it: writes up to `capacity` ranges, returns their number. */
struct nlt_range {
    uint64_t start;
    uint64_t size_bytes;
};
uint32_t nlt_own_memory(struct nlt_range *ranges, uint32_t capacity);

/* Looks again for objects and imports that were bound past the hooks; returns how many were rebound. */
uint32_t nlt_rebind(void);

/* Where the calling thread stands, walked now: writes up to `capacity` return addresses, innermost first; returns their
 * number. For tests and for Explain(): it shows what the walker sees. */
uint32_t nlt_walk_here(uint64_t *addresses, uint32_t capacity);

/* The same with the stack pointer that each frame goes on with: where the frame's own part of the stack begins. */
uint32_t nlt_walk_places(uint64_t *addresses, uint64_t *stack_pointers, uint32_t capacity);

/* Whether the path itself, no link followed, is a regular file: .NET cannot tell one from a pipe or a device. */
int nlt_is_regular_file(const char *path);

/* ---- the frozen copy: this process as it is at one moment ------------------------------------------------------------- */

enum nlt_freeze_status {
    NLT_FROZEN = 0,
    NLT_FREEZE_NO_HEADROOM = 1,  /* a copy could take memory away from the program: needed_bytes, available_bytes        */
    NLT_FREEZE_FORBIDDEN = 2,    /* no process may be made: seccomp, or a new pid namespace that it would be the first of */
    NLT_FREEZE_TOO_MANY = 3,     /* a limit of processes is reached                                                      */
    NLT_FREEZE_NO_MEMORY = 4,    /* the kernel has none for it                                                           */
    NLT_FREEZE_UNREADABLE = 5,   /* the copy may not be read: the process is not dumpable, or a security module forbids  */
    NLT_FREEZE_FAILED = 6        /* for another reason: error                                                            */
};

struct nlt_frozen {
    int32_t pid;                 /* of the copy                                                                          */
    int32_t error;               /* errno of what failed; 0 where it says nothing                                        */
    uint64_t needed_bytes;       /* what the copy takes if the program rewrites all of its memory meanwhile              */
    uint64_t available_bytes;
    uint64_t stopped_ns;         /* for how long running threads were kept from running, at most                         */
    uint64_t took_ns;
    uint32_t threads;            /* all of them; more than fitted: ask again with more room                              */
    uint32_t unknown_threads;    /* of which neither registers nor stack pointer are known                               */
    uint32_t cut_calls;          /* system calls of other threads that failed with EINTR because of us; normally 0       */
    uint32_t reserved;
};

enum nlt_frozen_thread_kind {
    NLT_THREAD_UNKNOWN = 0,      /* it ran and did not stop in time, or blocks the signal                                */
    NLT_THREAD_ASLEEP = 1,       /* in the kernel: of its registers, REG_RSP and REG_RIP are known                       */
    NLT_THREAD_STOPPED = 2,      /* it ran: all registers are known                                                      */
    NLT_THREAD_CALLER = 3        /* it asked for the copy: what a function must preserve is known, the rest is 0         */
};
#define NLT_REGISTERS 17u        /* REG_R8 to REG_RIP of ucontext(3)                                                     */

struct nlt_frozen_thread {
    uint32_t tid;
    uint32_t kind;               /* enum nlt_frozen_thread_kind                                                          */
    uint64_t thread_pointer;     /* fs; 0: not known                                                                     */
    uint64_t registers[NLT_REGISTERS];
};

/* The thread-local variables of one library. */
struct nlt_thread_storage {
    uint64_t module;             /* its number among those that have any; where it is in a thread's vector (dtv)          */
    uint64_t headers;            /* its program headers, in memory                                                         */
    uint64_t address;            /* of the calling thread's; 0: not allocated yet, or the linker does not tell             */
    uint64_t size_bytes;
};
/* Those of all libraries. Returns how many there are, of which the first `capacity` are filled in. */
uint32_t nlt_thread_storages(struct nlt_thread_storage *found, uint32_t capacity);

/* Makes a copy of this process that stands still, so that its memory can be read at leisure. The program does not see it: no SIGCHLD,
 * nothing for waitpid(-1), no process in its group, and all descriptors are the program's own. It dies with the calling thread.
 * Returns an enum nlt_freeze_status; *frozen is filled in any case. Running threads stand still for milliseconds, some ten more where
 * gigabytes are in use. */
int nlt_freeze(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity);
/* Ends the copy; milliseconds. */
void nlt_thaw(int32_t pid);
/* Reads memory of a copy, or of this process. Returns the bytes read, which end where something is not readable, or -errno. */
int64_t nlt_read_memory(int32_t pid, uint64_t address, void *to, uint64_t size_bytes);

#endif
