/* The ledger: the tables that the capture engine writes and that every reader reads.
 *
 * This header is the contract between the C side and the C# side. Nothing else of the engine is visible to a reader;
 * src/NativeLeakTracker/Ledger/ mirrors these structures and a test compares the two, field by field.
 *
 *   base                                                                                              base + size_bytes
 *   +--------+---------+---------+-------+----------+--------+---------+--------+--------+---------+-----------+
 *   | header | threads | modules | codes | contexts | epochs | ...     | chunks | totals | pending | directory |
 *   +--------+---------+---------+-------+----------+--------+---------+--------+--------+---------+-----------+
 *                                                                        |                              |
 *                                the chunks that exist, in order of birth, and the directories by address:
 *                                one entry for each 64 MB of address space, 0 where no block ever lived
 *                                                                        v                              v
 *                                                   +----------------------------------------+
 *                                                   | chunk: a live word for each 32 bytes   |
 *                                                   | of those 64 MB (2,097,152 words)       |
 *                                                   +----------------------------------------+
 *
 * Invariants
 *   - All integers are little-endian; every structure is free of implicit padding; all tables are append-only but for the
 *     live words and the counters, so a reader needs no lock: it reads `count` (acquire) and then that many entries.
 *   - Table offsets count from the ledger's first byte, so that the ledger can stand at another address in a reader.
 *   - Chunks are named by their address in the tracked process and, in a shared home, by their place in the file.
 *   - Memory that was never written reads as zero; id 0 of every table means "none" and is never handed out.
 */
#ifndef NLT_LEDGER_H
#define NLT_LEDGER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define NLT_LEDGER_MAGIC UINT64_C(0x31475244454c544e) /* "NTLEDRG1" */
#define NLT_LEDGER_VERSION 3u

/* ---- tables ------------------------------------------------------------------------------------------------------ */

enum nlt_table_id {
    NLT_TABLE_THREADS,
    NLT_TABLE_MODULES,
    NLT_TABLE_CODES,
    NLT_TABLE_CONTEXTS,
    NLT_TABLE_EPOCHS,
    NLT_TABLE_SCOPES,
    NLT_TABLE_FINALIZED,
    NLT_TABLE_STRINGS,
    NLT_TABLE_CHUNKS,
    NLT_TABLE_TOTALS,
    NLT_TABLE_PENDING,
    NLT_TABLE_DIRECTORY,
    NLT_TABLE_FINE_DIRECTORY,
    NLT_TABLE_IMAGES,
    NLT_TABLE_BLOBS,
    NLT_TABLE_PAIRINGS,
    NLT_TABLE_COUNT
};

struct nlt_table {
    uint64_t offset_bytes; /* from the ledger's first byte                                                            */
    uint32_t entry_bytes;
    uint32_t capacity;     /* entries                                                                                 */
    uint32_t count;        /* entries handed out, entry 0 included; grows only (atomic). Strings: bytes               */
    uint32_t reserved;
};
static_assert(sizeof(struct nlt_table) == 24, "layout");

/* ---- header ------------------------------------------------------------------------------------------------------ */

/* Losses and approximations that belong to no thread. Written with relaxed atomic additions, on slow paths only. */
struct nlt_loss_counters {
    uint64_t dropped_blocks;        /* allocations that could not be recorded (no memory for a chunk, id space full)     */
    uint64_t truncated_stacks;      /* walks that met a stack deeper than NLT_MAX_FRAMES                                 */
    uint64_t contexts_full;         /* walks that ended in a shallower context because the context table was full        */
    uint64_t unseen_imports;        /* pointers to libc's functions that were bound before the hooks and not rebound     */
    uint64_t missed_frees;          /* blocks whose address was handed out again before their release was seen           */
    uint64_t lost_threads;          /* threads without state of their own: recorded, in the shared thread entry          */
    uint64_t unknown_modules;       /* module table full: frames of the module keep their address only                   */
    uint64_t folded_stacks;         /* walks whose deep recursion was folded into fewer frames                           */
    uint64_t walk_differences;      /* build with NLT_VERIFY_WALKS: walks by the cache that a fresh walk contradicted    */
    uint64_t untotalled_blocks;     /* allocations that are missing in the totals of their context (table full)          */
    uint64_t unlisted_finalized;    /* releases by the finalizer thread that found no room in their table                */
    uint64_t uncopied_code_info;    /* debug info or metadata of managed code that found no room, or that was not understood */
    uint64_t unlisted_pairings;     /* wrong releases that found no room in their table                                  */
    uint64_t uncertain_releases;    /* releases that look wrong, but an allocation or release may have passed the hooks by */
    uint64_t reserved[2];
};
static_assert(sizeof(struct nlt_loss_counters) == 128, "layout");

enum nlt_mode { NLT_MODE_NONE = 0, NLT_MODE_PRELOAD = 1, NLT_MODE_LATE = 2 };

struct nlt_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t size_bytes;            /* of header and tables; chunks lie outside                                          */
    uint64_t base_address;          /* of the ledger in the tracked process                                              */
    uint32_t pid;
    uint32_t mode;                  /* enum nlt_mode                                                                     */
    uint64_t started_unix_ns;
    uint64_t shim_base;             /* the shim's own load address: its frames are not the program's                     */
    uint32_t recording;             /* how many ask for it; 0: allocations are not recorded                              */
    uint32_t session;               /* one period with the hooks in place; a detach ends it                              */
    uint32_t unwind_clr;            /* 0 no runtime met, 1 exact managed unwinding, 2 descriptor unknown: approximate     */
    uint32_t allocator;             /* path of the object whose malloc is followed (string table)                        */
    struct nlt_loss_counters losses;
    struct nlt_table tables[NLT_TABLE_COUNT];
    uint64_t epochs_begun;
    uint64_t shared_bytes;          /* size of the file or memfd of a shared home; private: 0                            */
    uint64_t reserved[10];
};
static_assert(offsetof(struct nlt_header, losses) == 72, "layout");
static_assert(offsetof(struct nlt_header, tables) == 200, "layout");
static_assert(sizeof(struct nlt_header) == 680, "layout");

/* ---- threads: who records, and how much ---------------------------------------------------------------------------- */

/* One entry a thread, recycled when the thread ends; the counters go on (they are sums over all owners of the entry).
 * Written by the owning thread only (entry 0: by any thread, atomically). 128 bytes: no entry shares a cache line.
 * What is pending (struct nlt_pending) comes on top. */
struct nlt_thread {
    uint32_t tid;                   /* 0 when the entry is free                                                          */
    uint32_t scope;                 /* entry of the scope that the thread runs in                                        */
    uint64_t allocated_blocks;
    uint64_t allocated_bytes;
    uint64_t freed_blocks;
    uint64_t freed_bytes;
    uint64_t untracked_frees;       /* blocks that were not recorded: older than the session, or foreign                 */
    uint64_t approximate_stacks;    /* walks that had to use a frame pointer where no unwind rule was known              */
    uint64_t broken_stacks;         /* walks that ended before the thread's bottom                                       */
    uint64_t thread_pointer;        /* base of the owner's thread storage (fs), while it has the entry                   */
    uint64_t reserved[7];
};
static_assert(sizeof(struct nlt_thread) == 128, "layout");

/* ---- modules: ELF objects that appeared in a stack ------------------------------------------------------------------ */

#define NLT_MODULE_UNLOADED 1u

struct nlt_module {
    uint64_t start;                 /* first mapped byte                                                                 */
    uint64_t end;                   /* one past the last                                                                 */
    uint64_t load_bias;             /* l_addr: file address + load_bias = memory address                                 */
    uint32_t path;                  /* offset in the string table; 0 unknown                                             */
    uint32_t flags;
    uint32_t generation;            /* of the object list when the module was first met                                  */
    uint32_t reserved32;
    uint64_t reserved;
};
static_assert(sizeof(struct nlt_module) == 48, "layout");

/* ---- images: assemblies whose code appeared in a stack ---------------------------------------------------------------- */

/* What a method token is looked up in, also after the process has ended. An assembly that was loaded from a file is read from
 * there, if the file still has the same MVID; of one that has no file (loaded from memory, or emitted) the metadata is copied. */
struct nlt_image {
    uint64_t module;                /* Module* in the tracked process                                                    */
    uint64_t base;                  /* of its file in memory; emitted: of its metadata                                   */
    uint64_t mvid_at;               /* where in memory the MVID stands: while the module lives, it tells it from another */
    uint8_t mvid[16];               /* first GUID of the metadata                                                        */
    uint32_t path;                  /* offset in the string table; 0: no file                                            */
    uint32_t metadata;              /* offset in the blobs; 0: read the file                                             */
    uint32_t metadata_bytes;
    uint32_t method_rows;           /* methods that the metadata has: that of an emitted assembly grows                  */
};
static_assert(sizeof(struct nlt_image) == 56, "layout");

/* ---- codes: bodies of managed code that appeared in a stack ---------------------------------------------------------- */

enum nlt_code_kind {
    NLT_CODE_UNKNOWN = 0,           /* executable memory of nobody we know                                               */
    NLT_CODE_JIT = 1,               /* compiled at run time (any tier)                                                   */
    NLT_CODE_R2R = 2,               /* precompiled, in the assembly's own image                                          */
    NLT_CODE_STUB = 3               /* made by the runtime: IL stubs of P/Invoke, delegates, ...                         */
};
#define NLT_CODE_COLLECTIBLE 1u     /* the code's memory may be reused: identity was copied when the entry was made      */
#define NLT_CODE_DYNAMIC 2u         /* DynamicMethod: `name` is all there is                                             */

struct nlt_code {
    uint64_t start;                 /* first byte of the body (of the main body, for a funclet)                          */
    uint64_t method;                /* MethodDesc*, 0 unknown                                                            */
    uint64_t type;                  /* MethodTable* of the declaring type, 0 unknown                                     */
    uint32_t name;                  /* offset in the string table; 0: `token` of `image` has it                          */
    uint16_t kind;                  /* enum nlt_code_kind                                                                */
    uint16_t flags;
    uint32_t next;                  /* hash chain                                                                        */
    uint32_t token;                 /* of the method, 0x06......; 0: it has none                                         */
    uint32_t image;                 /* entry of the image that the token is of; 0: none                                  */
    uint32_t rva;                   /* precompiled: of `start`, in the file of the image that holds the code             */
    uint32_t bounds;                /* compiled at run time: native offset -> IL offset, as the runtime packs it (blobs)  */
    uint32_t bounds_bytes;          /* 0: there is none                                                                  */
};
static_assert(sizeof(struct nlt_code) == 56, "layout");

/* ---- contexts: the calling-context tree ------------------------------------------------------------------------------ */

#define NLT_MAX_FRAMES 4096u
#define NLT_MAX_CONTEXTS (1u << 28)
#define NLT_CONTEXT_ROOT 1u         /* every stack begins below this node                                                */

enum nlt_frame_kind { NLT_FRAME_UNKNOWN = 0, NLT_FRAME_NATIVE = 1, NLT_FRAME_MANAGED = 2 };
#define NLT_FRAME_APPROXIMATE 1u    /* found by a frame pointer: frames between it and its callee may be missing         */
#define NLT_FRAME_EXACT_PC 2u       /* interrupted here by a signal: pc is an instruction, not a return address          */
#define NLT_FRAME_TRUNCATED 4u      /* frames between this one and the root were cut                                     */
#define NLT_FRAME_BROKEN 8u         /* outermost frame that could be found: the walk ended before the thread's bottom    */
#define NLT_FRAME_FOLDED 16u        /* recursion: deeper repetitions of this frame were folded into it                   */

/* id = index. A node is complete before it can be found and never changes afterwards, but for NLT_FRAME_FOLDED. */
struct nlt_context {
    uint64_t pc;                    /* return address (or NLT_FRAME_EXACT_PC)                                            */
    uint32_t parent;                /* the caller's node; NLT_CONTEXT_ROOT for the outermost                             */
    uint32_t next;                  /* hash chain                                                                        */
    uint32_t object;                /* module id (native) or code id (managed)                                           */
    uint8_t kind;                   /* enum nlt_frame_kind                                                               */
    uint8_t flags;
    uint16_t depth;                 /* frames from the root, saturating                                                  */
    uint32_t totals;                /* entry in the totals table; 0: none yet                                            */
    uint32_t reserved;
};
static_assert(sizeof(struct nlt_context) == 32, "layout");

/* ---- totals: what each context allocated and freed, live or not ------------------------------------------------------ */

/* Exact once the pending amounts of all threads are added. The peak is that of the sum of all threads where one thread works
 * with the context; where several do, it lies between that and the sum of their own peaks. */
struct nlt_totals {
    uint32_t context;
    uint32_t reserved;
    uint64_t allocated_blocks;
    uint64_t allocated_bytes;
    uint64_t freed_blocks;
    uint64_t freed_bytes;
    uint64_t peak_bytes;
    uint64_t reserved64[2];
};
static_assert(sizeof(struct nlt_totals) == 64, "layout");

/* What a thread has not added to the totals yet: a direct-mapped table by context. The owner adds a slot to the totals when
 * another context needs it. `version` is odd while it does: a reader that meets an odd or a changed version reads again.
 * An amount holds blocks above NLT_AMOUNT_BYTE_BITS and bytes below; it is passed on before either could overflow. */
#define NLT_PENDING_SLOTS 128u
#define NLT_AMOUNT_BYTE_BITS 44
struct nlt_pending_slot {
    uint32_t context;
    uint32_t reserved;
    uint64_t allocated;             /* amount                                                                            */
    uint64_t freed;                 /* amount                                                                            */
    int64_t peak_net_bytes;         /* highest allocated - freed since the slot was taken                                */
};
static_assert(sizeof(struct nlt_pending_slot) == 32, "layout");
struct nlt_pending {
    uint32_t version;
    uint32_t thread;                /* whose it is; entry 0 is the shared thread entry's, in others 0 means not yet       */
    uint32_t reserved[14];
    struct nlt_pending_slot slots[NLT_PENDING_SLOTS];
};
static_assert(sizeof(struct nlt_pending) == 4160, "layout");

/* ---- scopes and epochs: for whom a block was made, and when -------------------------------------------------------------- */

#define NLT_SCOPE_OUTSIDE 0u        /* of threads that run in no scope                                                   */
#define NLT_SCOPE_NOBODY 1u         /* of flows whose scope was closed                                                   */
#define NLT_TAG_OUTSIDE 0u
#define NLT_TAG_NOBODY UINT32_MAX   /* a flow whose scope was closed                                                     */

enum nlt_scope_flags {
    NLT_SCOPE_IGNORED = 1,          /* nobody is to be blamed for its blocks                                             */
    NLT_SCOPE_WHOLE_PROCESS = 2     /* asks for everybody's blocks; no thread runs in it                                 */
};

/* Entries are reused when the scope is closed and no thread runs in it; tags never are. */
struct nlt_scope {
    uint32_t epoch;                 /* what blocks of the scope are stamped with now                                     */
    uint32_t tag;
    uint32_t is_open;
    uint32_t flags;                 /* enum nlt_scope_flags                                                              */
};
static_assert(sizeof(struct nlt_scope) == 16, "layout");

/* What a live word's epoch stands for. An entry is reused when no live word, scope or thread refers to it any more. */
struct nlt_epoch {
    uint64_t sequence;              /* grows with every epoch that is begun; 0: the entry is free                        */
    uint32_t session;
    uint32_t scope_tag;
    uint32_t gc_count;              /* collections that the process had seen                                             */
    uint32_t time_ms;               /* since started_unix_ns                                                             */
    uint32_t flags;                 /* those of its scope                                                                */
    uint32_t next_free;             /* of a free entry; 0: the last                                                      */
};
static_assert(sizeof(struct nlt_epoch) == 32, "layout");
#define NLT_EPOCH_OLDER 1u          /* of blocks that are older than the recording and were resized while it ran; and, with the root
                                       for their context, of the tracker's own, which are in no count                   */

/* A block of an open scope that the finalizer thread released: somebody did not dispose its owner. Kept while scopes are open. */
struct nlt_finalized {
    uint64_t address;
    uint64_t size_bytes;
    uint32_t allocated_context;
    uint32_t freed_context;
    uint32_t epoch;
    uint32_t is_complete;           /* written last                                                                      */
};
static_assert(sizeof(struct nlt_finalized) == 32, "layout");

/* ---- pairings: releases that were wrong ------------------------------------------------------------------------------ */

enum nlt_pairing_kind {
    NLT_PAIRING_NONE = 0,
    NLT_PAIRING_RELEASED_BEFORE = 1, /* a double free                                                                    */
    NLT_PAIRING_INSIDE_BLOCK = 2,    /* not the start of the live block that it lies in: `detail` bytes behind it         */
    NLT_PAIRING_MISALIGNED = 3,      /* no block of this allocator starts at such an address                              */
    NLT_PAIRING_ON_STACK = 4,        /* on the releasing thread's own stack                                               */
    NLT_PAIRING_IN_IMAGE = 5,        /* in code or data of a program or library                                           */
    NLT_PAIRING_WRONG_FUNCTION = 6   /* of a Tracked wrapper, which says in `detail` what allocated and what released     */
};
#define NLT_PAIRING_RESIZE 1u       /* by realloc                                                                        */

/* Noted while somebody asks for it (nlt_pairing_begin), kept while scopes are open. */
struct nlt_pairing {
    uint64_t address;
    uint64_t size_bytes;            /* of the block; 0: not known                                                        */
    uint64_t detail;
    uint32_t kind;                  /* enum nlt_pairing_kind                                                             */
    uint32_t flags;
    uint32_t allocated_context;     /* 0: not known                                                                      */
    uint32_t first_release_context; /* of a double free; else 0                                                          */
    uint32_t release_context;
    uint32_t epoch;                 /* of the scope that the releasing thread ran in                                     */
    uint32_t block_epoch;           /* 0: not known                                                                      */
    uint32_t is_complete;           /* written last                                                                      */
};
static_assert(sizeof(struct nlt_pairing) == 56, "layout");

/* ---- chunks: where live words are --------------------------------------------------------------------------------------- */

struct nlt_chunk {
    uint64_t heap_start;            /* first address of the 64 MB that it describes                                      */
    uint64_t words;                 /* address of its words in the tracked process                                       */
    uint32_t heap_shift;            /* NLT_WORD_HEAP_SHIFT, or NLT_FINE_HEAP_SHIFT                                       */
    uint32_t reserved;
    uint64_t file_offset;           /* shared home: of its words in the ledger's file; private: 0                        */
};
static_assert(sizeof(struct nlt_chunk) == 32, "layout");

/* ---- live words -------------------------------------------------------------------------------------------------------- */

/*  63                       36 35        22 21     20 19                   0
 * +---------------------------+------------+---------+----------------------+
 * | context (28)              | size (14)  | quarter | epoch (20)           |
 * +---------------------------+------------+---------+----------------------+
 *
 * The word of a block at address p stands at chunk(p >> 26)[(p >> 5) & 0x1fffff]. `quarter` is bits 4 and 3 of p, so that a
 * free of another address within the same 32 bytes is not mistaken for a free of the block. A size that does not fit
 * (NLT_SIZE_ESCAPE) stands as a plain byte count in the following word, which such a block covers and no other can own;
 * where that word belongs to the next chunk it is the first word of that chunk.
 *
 * glibc's blocks are at least 32 bytes apart. Other allocators' can share a word: the second of two such blocks stands in the
 * fine chunk of the region, which has a word of the same form for each 8 bytes.
 *
 * Written by the thread that owns the block (after the real allocation, before the real release), relaxed. */
#define NLT_WORD_HEAP_SHIFT 5
#define NLT_FINE_HEAP_SHIFT 3
#define NLT_CHUNK_HEAP_SHIFT 26
#define NLT_CHUNK_WORDS (UINT64_C(1) << (NLT_CHUNK_HEAP_SHIFT - NLT_WORD_HEAP_SHIFT))
#define NLT_CHUNK_BYTES (NLT_CHUNK_WORDS * 8)
#define NLT_FINE_CHUNK_WORDS (UINT64_C(1) << (NLT_CHUNK_HEAP_SHIFT - NLT_FINE_HEAP_SHIFT))
#define NLT_ADDRESS_BITS 47
#define NLT_DIRECTORY_ENTRIES (UINT64_C(1) << (NLT_ADDRESS_BITS - NLT_CHUNK_HEAP_SHIFT))
#define NLT_SIZE_BITS 14
#define NLT_SIZE_ESCAPE ((1u << NLT_SIZE_BITS) - 1)
#define NLT_EPOCH_BITS 20
#define NLT_WORD_QUARTER_SHIFT 20
#define NLT_WORD_SIZE_SHIFT 22
#define NLT_WORD_CONTEXT_SHIFT 36

#endif
