/* Unwind rules of managed code, from the runtime's own tables, read in place.
 *
 *   pc -> range section       a radix map over the address space
 *      -> precompiled image   a sorted table of functions, or
 *      -> JIT code heap       a nibble map that leads to the start of the method, before which its header stands
 *      -> unwind data         Windows x64 UNWIND_INFO
 *
 * Nothing is locked and the runtime is not called: a frame on our own stack keeps its code, and all tables on the way to it,
 * alive. Offsets come from the contract descriptor, algorithms are chosen by its contract versions
 * (dotnet/runtime: docs/design/datacontracts/ExecutionManager.md; codeman.h; nibblemapmacros.h; unwinder.cpp). */
#define _GNU_SOURCE
#include "shim.h"

#include "clr_code.h"
#include "elf_dynamic.h"

/* All offsets in bytes, named after the runtime's type and field. */
static struct {
    uintptr_t code_range_map;
    uint32_t nibble_version;
    uint32_t stub_block_last;
    uint32_t map_top, fragment_begin, fragment_end, fragment_section, fragment_next;
    uint32_t section_begin, section_flags, section_heap, section_module;
    uint32_t heap_map_base, heap_map;
    uint32_t header_method, header_unwind_count, header_unwinds;
    uint32_t module_r2r, r2r_functions, r2r_function_count, r2r_entry_points;
    uint32_t function_bytes, function_begin, function_unwind;
    uint32_t hash_buckets, bucket_bytes, bucket_keys, bucket_values;
    uint64_t hash_value_mask;
    uint32_t slots_per_bucket;
    uintptr_t image, thread_store;  /* 0: unknown */
    uint32_t store_first, thread_next, thread_id;
} clr;

enum { CLR_ABSENT, CLR_KNOWN, CLR_UNKNOWN_VERSION };
static int clr_state;

/* Pointers in the range map carry a tag in bit 0. */
#define UNTAG(pointer) ((pointer) & ~(uintptr_t)1)

/* ---- the descriptor ---------------------------------------------------------------------------------------------- */

static bool read_descriptor(const void *exported) {
    struct nltp_descriptor d;
    if (!nltp_descriptor_open(exported, &d)) return false;
    clr.nibble_version = nltp_descriptor_contract(&d, "ExecutionManager");
    if (clr.nibble_version != 1 && clr.nibble_version != 2) return false;

    const struct { const char *type, *field; uint32_t *value; } fields[] = {
        {"RangeSectionMap", "TopLevelData", &clr.map_top},
        {"RangeSectionFragment", "RangeBegin", &clr.fragment_begin},
        {"RangeSectionFragment", "RangeEndOpen", &clr.fragment_end},
        {"RangeSectionFragment", "RangeSection", &clr.fragment_section},
        {"RangeSectionFragment", "Next", &clr.fragment_next},
        {"RangeSection", "RangeBegin", &clr.section_begin},
        {"RangeSection", "Flags", &clr.section_flags},
        {"RangeSection", "HeapList", &clr.section_heap},
        {"RangeSection", "R2RModule", &clr.section_module},
        {"CodeHeapListNode", "MapBase", &clr.heap_map_base},
        {"CodeHeapListNode", "HeaderMap", &clr.heap_map},
        {"RealCodeHeader", "MethodDesc", &clr.header_method},
        {"RealCodeHeader", "NumUnwindInfos", &clr.header_unwind_count},
        {"RealCodeHeader", "UnwindInfos", &clr.header_unwinds},
        {"Module", "ReadyToRunInfo", &clr.module_r2r},
        {"ReadyToRunInfo", "RuntimeFunctions", &clr.r2r_functions},
        {"ReadyToRunInfo", "NumRuntimeFunctions", &clr.r2r_function_count},
        {"ReadyToRunInfo", "EntryPointToMethodDescMap", &clr.r2r_entry_points},
        {"RuntimeFunction", "!", &clr.function_bytes},
        {"RuntimeFunction", "BeginAddress", &clr.function_begin},
        {"RuntimeFunction", "UnwindData", &clr.function_unwind},
        {"HashMap", "Buckets", &clr.hash_buckets},
        {"Bucket", "!", &clr.bucket_bytes},
        {"Bucket", "Keys", &clr.bucket_keys},
        {"Bucket", "Values", &clr.bucket_values},
    };
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!nltp_descriptor_field(&d, fields[i].type, fields[i].field, fields[i].value)) return false;

    uintptr_t mask, slots, stubs;
    if (!nltp_descriptor_global(&d, "ExecutionManagerCodeRangeMapAddress", &clr.code_range_map)) return false;
    if (!nltp_descriptor_global(&d, "HashMapValueMask", &mask)) return false;
    if (!nltp_descriptor_global(&d, "HashMapSlotsPerBucket", &slots)) return false;
    if (!nltp_descriptor_global(&d, "StubCodeBlockLast", &stubs)) return false;
    clr.hash_value_mask = mask;
    clr.slots_per_bucket = (uint32_t)slots;
    clr.stub_block_last = (uint32_t)stubs;
    if (!nltp_descriptor_global(&d, "ThreadStore", &clr.thread_store) ||
        !nltp_descriptor_field(&d, "ThreadStore", "FirstThreadLink", &clr.store_first) ||
        !nltp_descriptor_field(&d, "Thread", "LinkNext", &clr.thread_next) ||
        !nltp_descriptor_field(&d, "Thread", "OSId", &clr.thread_id))
        clr.thread_store = 0;
    nltp_clr_read_identity_fields(&d);
    return true;
}

void nltp_clr_object_seen(const struct nltp_object *object) {
    struct nltp_dynamic dynamic;
    if (nltp_load(&clr_state) != CLR_ABSENT || !nltp_dynamic_read(object->load_bias, object->map->l_ld, &dynamic))
        return;
    const Elf64_Sym *symbol = nltp_dynamic_find(&dynamic, "DotNetRuntimeContractDescriptor");
    if (symbol == NULL) return;
    /* The descriptor is data that relocation completes; a module is seen in a stack only after that. */
    int state = read_descriptor((const void *)(dynamic.bias + symbol->st_value)) ? CLR_KNOWN : CLR_UNKNOWN_VERSION;
    clr.image = object->start;
    nltp_store(&nltp_ledger->unwind_clr, (uint32_t)state);
    nltp_store_release(&clr_state, state);
}

/* ---- pc -> section -> method ------------------------------------------------------------------------------------- */

#define SECTION_COLLECTIBLE 1u
#define SECTION_RANGE_LIST 4u

/* Five levels of 256 pointers over address bits 56..17; the lowest level leads to a list of fragments. */
static uintptr_t find_section(uintptr_t pc) {
    uintptr_t level = clr.code_range_map + clr.map_top;
    for (int shift = 49; shift >= 17; shift -= 8) {
        level = UNTAG(word_at(level + ((pc >> shift) & 0xff) * 8));
        if (level == 0) return 0;
    }
    for (uintptr_t fragment = level; fragment != 0; fragment = UNTAG(word_at(fragment + clr.fragment_next)))
        if (pc >= word_at(fragment + clr.fragment_begin) && pc < word_at(fragment + clr.fragment_end))
            return word_at(fragment + clr.fragment_section);
    return 0;
}

/* The nibble map: 32 bits describe 8 buckets of 32 bytes, highest nibble first; a nibble n > 0 says that a method starts
 * at 4-byte step n - 1 of its bucket. From version 2 on a unit that lies wholly inside one method holds that method's start
 * instead: relative, with nibble values above 8 in the low nibble (the low two bits of the address, less 9). */
static uintptr_t nibble_start(uintptr_t base, uintptr_t index, uint32_t nibble) {
    return base + index * 32 + (nibble - 1) * 4;
}
static bool is_start_pointer(uint32_t unit) {
    return clr.nibble_version >= 2 && (unit & 0xf) > 8;
}
static uintptr_t decode_start(uintptr_t base, uint32_t unit) {
    return base + (unit & ~0xfu) + (((unit & 0xf) - 9) << 2);
}

static uintptr_t find_method_start(uintptr_t base, uintptr_t map, uintptr_t pc) {
    uintptr_t offset = pc - base, index = offset / 32;
    uint32_t step = (uint32_t)(offset % 32) / 4 + 1;
    uint32_t unit = half_at(map + index / 8 * 4);
    if (is_start_pointer(unit)) return decode_start(base, unit);
    unit >>= 28 - (index % 8) * 4;
    if ((unit & 0xf) != 0 && step >= (unit & 0xf)) return nibble_start(base, index, unit & 0xf);
    for (unit >>= 4; unit != 0; unit >>= 4) {
        index--;
        if ((unit & 0xf) != 0) return nibble_start(base, index, unit & 0xf);
    }
    for (uintptr_t word = offset / 256; word > 0;) {
        unit = half_at(map + --word * 4);
        if (is_start_pointer(unit)) return decode_start(base, unit);
        if (unit != 0) {
            for (index = word * 8 + 7; (unit & 0xf) == 0; unit >>= 4) index--;
            return nibble_start(base, index, unit & 0xf);
        }
        if (clr.nibble_version >= 2) return 0; /* an empty unit ends the search there */
    }
    return 0;
}

static uintptr_t function_at(uintptr_t functions, uint32_t index) {
    return functions + (uintptr_t)index * clr.function_bytes;
}

/* Index of the last function that begins at or before `rva`; count when there is none. */
static uint32_t find_function(uintptr_t functions, uint32_t count, uint32_t rva) {
    if (count == 0 || half_at(function_at(functions, 0) + clr.function_begin) > rva) return count;
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (half_at(function_at(functions, middle) + clr.function_begin) <= rva) low = middle; else high = middle;
    }
    return low;
}

static bool find_jitted(uintptr_t pc, uintptr_t heap, struct nltp_clr_code *code) {
    uintptr_t base = word_at(heap + clr.heap_map_base);
    uintptr_t start = find_method_start(base, word_at(heap + clr.heap_map), pc);
    if (start == 0) return false;
    uintptr_t header = word_at(start - 8);
    if (header <= clr.stub_block_last) return false;
    uintptr_t section_begin = word_at(code->section + clr.section_begin);
    uint32_t count = half_at(header + clr.header_unwind_count);
    uint32_t index = find_function(header + clr.header_unwinds, count, (uint32_t)(pc - section_begin));
    if (index == count) return false;
    uintptr_t function = function_at(header + clr.header_unwinds, index);
    code->start = section_begin + half_at(function + clr.function_begin);
    code->main_start = start;
    code->unwind_info = section_begin + half_at(function + clr.function_unwind);
    code->method = word_at(header + clr.header_method);
    code->header = header;
    return true;
}

/* The map from entry point to method: open hashing in buckets of four (dotnet/runtime: vm/hash.h). The value is the
 * MethodDesc shifted right by one. */
static uintptr_t find_entry_point(uintptr_t map, uintptr_t entry_point) {
    uintptr_t buckets = word_at(map + clr.hash_buckets);
    if (buckets == 0) return 0;
    uint32_t count = half_at(buckets);
    if (count < 2) return 0;
    uint32_t seed = (uint32_t)(entry_point >> 2);
    uint32_t increment = 1 + ((uint32_t)(entry_point >> 5) + 1) % (count - 1);
    for (uint32_t probe = 0; probe < count; probe++, seed += increment) {
        uintptr_t bucket = buckets + (uintptr_t)(1 + seed % count) * clr.bucket_bytes;
        for (uint32_t slot = 0; slot < clr.slots_per_bucket; slot++)
            if (word_at(bucket + clr.bucket_keys + slot * 8) == entry_point)
                return (word_at(bucket + clr.bucket_values + slot * 8) & clr.hash_value_mask) << 1;
        /* The top bit of the first value says that some key did not fit here and went on. */
        if ((word_at(bucket + clr.bucket_values) & ~clr.hash_value_mask) == 0) return 0;
    }
    return 0;
}

static bool find_precompiled(uintptr_t pc, uintptr_t module, struct nltp_clr_code *code, bool identify) {
    uintptr_t info = word_at(module + clr.module_r2r);
    if (info == 0) return false;
    uintptr_t image = word_at(code->section + clr.section_begin);
    uintptr_t functions = word_at(info + clr.r2r_functions);
    uint32_t count = half_at(info + clr.r2r_function_count);
    uint32_t index = find_function(functions, count, (uint32_t)(pc - image));
    if (index == count) return false;
    uintptr_t function = function_at(functions, index);
    code->precompiled = true;
    code->image_base = image;
    code->start = code->main_start = image + half_at(function + clr.function_begin);
    code->unwind_info = image + half_at(function + clr.function_unwind);
    if (!identify) return true;
    /* A funclet follows its method's main body, which alone has an entry point. */
    for (uint32_t back = index; back + 64 > index; back--) {
        uintptr_t start = image + half_at(function_at(functions, back) + clr.function_begin);
        code->method = find_entry_point(info + clr.r2r_entry_points, start);
        if (code->method != 0) {
            code->main_start = start;
            break;
        }
        if (back == 0) break;
    }
    return true;
}

bool nltp_clr_find_code(uintptr_t pc, bool identify, struct nltp_clr_code *code) {
    if (nltp_load_acquire(&clr_state) != CLR_KNOWN) return false;
    *code = (struct nltp_clr_code){.section = find_section(pc)};
    if (code->section == 0) return false;
    uint32_t flags = half_at(code->section + clr.section_flags);
    code->collectible = (flags & SECTION_COLLECTIBLE) != 0;
    uintptr_t module = word_at(code->section + clr.section_module);
    if (module != 0) return find_precompiled(pc, module, code, identify);
    uintptr_t heap = word_at(code->section + clr.section_heap);
    if ((flags & SECTION_RANGE_LIST) || heap == 0) return false;
    return find_jitted(pc, heap, code);
}

/* ---- hijacked return addresses ------------------------------------------------------------------------------------- */

/* To stop a thread at a call's return, the runtime saves the return address in its Thread, and where it stood, and puts the
 * address of a trap there (dotnet/runtime: threadsuspend.cpp, HijackThread). The thread that is stopped does so itself, in a
 * signal handler; others may put the address back, but leave what was saved. */

bool nltp_clr_is_runtime(const struct nltp_object *object) {
    return nltp_load_acquire(&clr_state) == CLR_KNOWN && object->start == clr.image;
}

/* The list can change under our eyes, and what was taken from it be freed. Our own Thread stays. */
static uintptr_t own_thread(void) {
    if (clr.thread_store == 0) return 0;
    uint32_t id = nltp_gettid();
    uintptr_t link = word_at(word_at(clr.thread_store) + clr.store_first);
    for (unsigned i = 0; link != 0 && i < NLTP_MAX_THREADS; i++) {
        uintptr_t thread = link - clr.thread_next;
        if (!nltp_is_mapped(thread, clr.thread_next + 8) || !nltp_is_mapped(thread + clr.thread_id, 8)) return 0;
        if (half_at(thread + clr.thread_id) == id) return thread;
        link = word_at(link);
    }
    return 0;
}

/* The two fields stand side by side, the address and then the slot; where, the descriptor does not say. */
#define THREAD_BYTES 4096

uintptr_t nltp_clr_hijacked(uintptr_t slot) {
    uintptr_t thread = own_thread();
    for (uintptr_t at = thread + 8; thread != 0 && at < thread + THREAD_BYTES; at += 8) {
        if ((at == thread + 8 || at % 4096 == 0) && !nltp_is_mapped(at, 8)) return 0;
        if (word_at(at) != slot) continue;
        struct nltp_clr_code code;
        if (nltp_clr_find_code(word_at(at - 8) - 1, false, &code)) return word_at(at - 8);
    }
    return 0;
}

/* ---- UNWIND_INFO -> rule ------------------------------------------------------------------------------------------- */

enum {
    UWOP_PUSH_NONVOL = 0,
    UWOP_ALLOC_LARGE = 1,
    UWOP_ALLOC_SMALL = 2,
    UWOP_SET_FPREG = 3,
    UWOP_SAVE_NONVOL = 4,
    UWOP_SAVE_NONVOL_FAR = 5,
    UWOP_SAVE_XMM128 = 8,
    UWOP_SAVE_XMM128_FAR = 9,
    UWOP_PUSH_MACHFRAME = 10,
    UWOP_SET_FPREG_LARGE = 11 /* the runtime's own addition for Unix */
};
enum { UNWIND_REG_BP = 5, UNWIND_FLAG_CHAINED = 4 };

static bool unwind_to_rule(const struct nltp_clr_code *code, uintptr_t pc, struct nltp_rule *rule) {
    const uint8_t *info = (const uint8_t *)code->unwind_info;
    if ((info[0] & 7) != 1 || ((info[0] >> 3) & UNWIND_FLAG_CHAINED)) return false;
    const uint8_t *codes = info + 4;
    uint32_t count = info[2], frame_offset = (info[3] >> 4) * 16u;
    uint64_t prolog_offset = pc - code->start;

    /* Undo the prolog from its end. `offset` is how far we are above the base register; at SET_FPREG the base becomes rbp
     * and whatever was counted above rsp no longer matters. */
    int64_t offset = 0, bp_at = INT64_MIN, established = 0;
    bool from_bp = false;
    for (uint32_t i = 0; i < count;) {
        const uint8_t *slot = codes + i * 2;
        uint32_t op = slot[1] & 0xf, extra = slot[1] >> 4;
        bool done = slot[0] <= prolog_offset;
        uint64_t wide = 0;
        uint32_t slots = 1;
        switch (op) {
        case UWOP_PUSH_NONVOL:
            if (done && extra == UNWIND_REG_BP) bp_at = offset;
            if (done) offset += 8;
            break;
        case UWOP_ALLOC_LARGE:
            if (extra == 0) wide = (uint64_t)(slot[2] | slot[3] << 8) * 8, slots = 2;
            else wide = slot[2] | (uint32_t)slot[3] << 8 | (uint32_t)slot[4] << 16 | (uint32_t)slot[5] << 24, slots = 3;
            if (done) offset += (int64_t)wide;
            break;
        case UWOP_ALLOC_SMALL:
            if (done) offset += extra * 8 + 8;
            break;
        case UWOP_SET_FPREG_LARGE:
            wide = slot[2] | (uint32_t)slot[3] << 8 | (uint32_t)slot[4] << 16 | (uint32_t)slot[5] << 24;
            frame_offset = (uint32_t)wide * 16;
            slots = 3;
            /* fall through */
        case UWOP_SET_FPREG:
            if ((info[3] & 0xf) != UNWIND_REG_BP) return false;
            if (done) {
                from_bp = true;
                offset = -(int64_t)frame_offset;
                established = offset;
                bp_at = INT64_MIN;
            }
            break;
        case UWOP_SAVE_NONVOL:
            if (done && extra == UNWIND_REG_BP) bp_at = established + (slot[2] | slot[3] << 8) * 8;
            slots = 2;
            break;
        case UWOP_SAVE_NONVOL_FAR:
            if (done && extra == UNWIND_REG_BP)
                bp_at = established + (int64_t)(slot[2] | (uint32_t)slot[3] << 8 | (uint32_t)slot[4] << 16 | (uint32_t)slot[5] << 24);
            slots = 3;
            break;
        case UWOP_SAVE_XMM128: slots = 2; break;
        case UWOP_SAVE_XMM128_FAR: slots = 3; break;
        default: return false;
        }
        i += slots;
    }
    int64_t cfa = offset + 8;
    if (cfa % 8 != 0 || cfa / 8 > NLTP_MAX_CFA_OFFSET || cfa / 8 < -NLTP_MAX_CFA_OFFSET) return false;
    rule->kind = from_bp ? NLTP_RULE_BP : NLTP_RULE_SP;
    rule->cfa_offset = (int32_t)(cfa / 8);
    rule->ra_offset = -1;
    if (bp_at != INT64_MIN) {
        int64_t bp_offset = (bp_at - cfa) / 8;
        if (bp_offset < INT16_MIN || bp_offset > INT16_MAX) return false;
        rule->bp_kind = NLTP_BP_AT_CFA;
        rule->bp_offset = (int16_t)bp_offset;
    }
    return true;
}

bool nltp_clr_rule(uintptr_t pc, bool exact, struct nltp_rule *rule) {
    struct nltp_clr_code code;
    /* Without the tables a frame outside every object is still managed, or a stub of the runtime's. */
    if (!nltp_clr_find_code(exact ? pc : pc - 1, false, &code)) return nltp_load(&clr_state) != CLR_ABSENT;
    rule->uncached = code.collectible;
    if (!unwind_to_rule(&code, exact ? pc : pc - 1, rule))
        *rule = (struct nltp_rule){.kind = NLTP_RULE_NONE, .ra_offset = -1, .uncached = code.collectible};
    return true;
}
