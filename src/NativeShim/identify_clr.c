/* Who managed code is: its method, the assembly that the method's token is of, and how its native offsets map to IL. Taken from
 * the runtime's tables while the code is on a stack, so that all of it is alive; later it may be gone.
 * (dotnet/runtime: docs/design/datacontracts/Loader.md, RuntimeTypeSystem.md; method.hpp; codeman.h; debuginfostore.cpp.) */
#define _GNU_SOURCE
#include "shim.h"

#include "clr_code.h"

/* All offsets in bytes, named after the runtime's type and field. */
static struct {
    bool methods, modules, emitted; /* whether the fields below are known */
    uint32_t method_chunk_index, method_flags, method_token, method_alignment, chunk_bytes, chunk_type, chunk_token;
    uint32_t remainder_bits;        /* of the token, in the MethodDesc; the others are in its chunk */
    uint32_t dynamic_name;
    uint32_t type_module, module_base, module_path, module_emitted, emitted_size, emitted_data;
    uint32_t header_gc_info, header_method;
} clr;

void nltp_clr_read_identity_fields(const struct nltp_descriptor *d) {
    uintptr_t alignment = 0, bits = 0;
    clr.methods = nltp_descriptor_field(d, "MethodDesc", "ChunkIndex", &clr.method_chunk_index) &&
                  nltp_descriptor_field(d, "MethodDesc", "Flags", &clr.method_flags) &&
                  nltp_descriptor_field(d, "MethodDesc", "Flags3AndTokenRemainder", &clr.method_token) &&
                  nltp_descriptor_field(d, "MethodDescChunk", "!", &clr.chunk_bytes) &&
                  nltp_descriptor_field(d, "MethodDescChunk", "MethodTable", &clr.chunk_type) &&
                  nltp_descriptor_field(d, "MethodDescChunk", "FlagsAndTokenRange", &clr.chunk_token) &&
                  nltp_descriptor_field(d, "DynamicMethodDesc", "MethodName", &clr.dynamic_name) &&
                  nltp_descriptor_field(d, "RealCodeHeader", "GCInfo", &clr.header_gc_info) &&
                  nltp_descriptor_field(d, "RealCodeHeader", "MethodDesc", &clr.header_method) &&
                  nltp_descriptor_global(d, "MethodDescAlignment", &alignment) &&
                  nltp_descriptor_global(d, "MethodDescTokenRemainderBitCount", &bits);
    clr.method_alignment = (uint32_t)alignment;
    clr.remainder_bits = (uint32_t)bits;
    clr.modules = nltp_descriptor_field(d, "MethodTable", "Module", &clr.type_module) &&
                  nltp_descriptor_field(d, "Module", "Base", &clr.module_base) &&
                  nltp_descriptor_field(d, "Module", "Path", &clr.module_path);
    clr.emitted = nltp_descriptor_field(d, "Module", "DynamicMetadata", &clr.module_emitted) &&
                  nltp_descriptor_field(d, "DynamicMetadata", "Size", &clr.emitted_size) &&
                  nltp_descriptor_field(d, "DynamicMetadata", "Data", &clr.emitted_data);
}

/* ---- methods ------------------------------------------------------------------------------------------------------- */

#define METHOD_CLASSIFICATION 7u
#define METHOD_DYNAMIC 7u /* DynamicMethod and IL stubs */

static void copy_dynamic_name(uintptr_t method, struct nltp_code_identity *identity) {
    const char *name = (const char *)word_at(method + clr.dynamic_name);
    size_t length = 0;
    for (; name != NULL && name[length] != 0 && length < sizeof identity->name - 1; length++)
        identity->name[length] = name[length];
    identity->name[length] = 0;
    identity->flags |= NLT_CODE_DYNAMIC;
    if (length > 7 && __builtin_memcmp(identity->name, "IL_STUB", 7) == 0) identity->kind = NLT_CODE_STUB;
}

/* The token's low bits stand in the method, the others in the chunk that it is one of. */
static void find_token(uintptr_t method, uintptr_t chunk, struct nltp_code_identity *identity) {
    uint32_t low_mask = (1u << clr.remainder_bits) - 1, high_mask = (1u << (24 - clr.remainder_bits)) - 1;
    uint32_t low = nltp_load((uint16_t *)(method + clr.method_token)) & low_mask;
    uint32_t high = nltp_load((uint16_t *)(chunk + clr.chunk_token)) & high_mask;
    uint32_t row = high << clr.remainder_bits | low;
    if (row == 0 || !clr.modules) return;
    identity->token = 0x06000000u | row;
    identity->module = word_at(identity->type + clr.type_module);
}

/* ---- native offset -> IL offset ------------------------------------------------------------------------------------ */

/* Numbers in steps of four bits, most significant step first, bit 3 of a step: another one follows. */
struct nibbles {
    const uint8_t *at;
    uint32_t step;
};
static uint32_t next_number(struct nibbles *n) {
    uint32_t value = 0;
    for (int i = 0; i < 11; i++) {
        uint32_t nibble = (n->at[n->step / 2] >> (n->step % 2 * 4)) & 0xf;
        n->step++;
        value = value << 3 | (nibble & 7);
        if (!(nibble & 8)) break;
    }
    return value;
}
static const uint8_t *after_numbers(const struct nibbles *n) {
    return n->at + (n->step + 1) / 2;
}

#define INFO_HAS_PATCHPOINTS 1u
#define INFO_IS_RICH 2u
#define INFO_HAS_TWO_BOUNDS UINT32_MAX
/* PatchpointInfo without its locals, and where their number and the body's own address stand in it (dotnet/runtime:
 * patchpointinfo.h). */
#define PATCHPOINT_BYTES 40u
#define PATCHPOINT_LOCALS 16u
#define PATCHPOINT_BODY 8u
#define SOURCE_BITS 2u
#define MAX_BOUNDS_BYTES (1u << 20)

/* As many bytes as the entries that the bounds announce need: anything else is another format. */
static bool are_bounds(const uint8_t *bounds, uint32_t size_bytes) {
    struct nibbles n = {bounds, 0};
    uint64_t entries = next_number(&n);
    uint64_t bits = (uint64_t)next_number(&n) + 1;
    bits += (uint64_t)next_number(&n) + 1 + SOURCE_BITS;
    if (entries == 0 || bits > 64 + SOURCE_BITS) return false;
    return (uint64_t)(after_numbers(&n) - bounds) + (entries * bits + 7) / 8 == size_bytes;
}

static void not_understood(void) {
    nltp_add(&nltp_ledger->losses.uncopied_code_info, 1);
}

static void find_bounds(uintptr_t header, struct nltp_code_identity *identity) {
    /* The descriptor of .NET 10 does not name this field: it is the first of the header's pointers, and the collector's the third. */
    if (clr.header_gc_info != 16 || clr.header_method != 24) return;
    const uint8_t *info = (const uint8_t *)word_at(header);
    if (info == NULL) return;
    uint8_t flags = *info++;
    if (flags & INFO_HAS_PATCHPOINTS) {
        if (word_at((uintptr_t)info + PATCHPOINT_BODY) != identity->start) return not_understood();
        info += PATCHPOINT_BYTES + 4 * (uint64_t)half_at((uintptr_t)info + PATCHPOINT_LOCALS);
    }
    if (flags & INFO_IS_RICH) info += 4 + (uint64_t)half_at((uintptr_t)info);
    struct nibbles n = {info, 0};
    uint32_t bounds_bytes = next_number(&n), plain_bytes = 0;
    if (bounds_bytes == INFO_HAS_TWO_BOUNDS) {
        bounds_bytes = next_number(&n);
        plain_bytes = next_number(&n);
    }
    next_number(&n); /* variables */
    const uint8_t *bounds = after_numbers(&n);
    if (plain_bytes != 0) {
        bounds += bounds_bytes;
        bounds_bytes = plain_bytes;
    }
    if (bounds_bytes == 0) return;
    if (flags > (INFO_HAS_PATCHPOINTS | INFO_IS_RICH) || bounds_bytes > MAX_BOUNDS_BYTES || !are_bounds(bounds, bounds_bytes))
        return not_understood();
    identity->bounds = bounds;
    identity->bounds_bytes = bounds_bytes;
}

bool nltp_clr_identify(uintptr_t pc, struct nltp_code_identity *identity) {
    *identity = (struct nltp_code_identity){0};
    struct nltp_clr_code code;
    if (!nltp_clr_find_code(pc - 1, true, &code)) return false;
    identity->start = code.main_start;
    identity->method = code.method;
    identity->kind = code.precompiled ? NLT_CODE_R2R : NLT_CODE_JIT;
    identity->flags = code.collectible ? NLT_CODE_COLLECTIBLE : 0;
    if (code.precompiled) identity->rva = (uint32_t)(code.main_start - code.image_base);
    if (code.method == 0 || !clr.methods) return true;

    uint32_t chunk_index = *(uint8_t *)(code.method + clr.method_chunk_index);
    uintptr_t chunk = code.method - clr.chunk_bytes - (uintptr_t)chunk_index * clr.method_alignment;
    identity->type = word_at(chunk + clr.chunk_type);
    uint16_t flags = nltp_load((uint16_t *)(code.method + clr.method_flags));
    if ((flags & METHOD_CLASSIFICATION) == METHOD_DYNAMIC) {
        copy_dynamic_name(code.method, identity);
        return true;
    }
    find_token(code.method, chunk, identity);
    if (code.header != 0) find_bounds(code.header, identity);
    return true;
}

/* ---- images -------------------------------------------------------------------------------------------------------- */

#define MAX_METADATA_BYTES (16u << 20)

/* How a file lies in memory, as it is on disk or laid out by its section table, the descriptor does not say. So it is tried, and
 * what is tried is read by nltp_peek(). */
struct metadata {
    uintptr_t start, mvid_at;
    uint32_t size_bytes, method_rows;
    uint8_t mvid[16];
};

static uint32_t u16_at(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}
static uint32_t u32_at(const uint8_t *at) {
    return u16_at(at) | u16_at(at + 2) << 16;
}

/* Rows of the table of methods: number 6, and tables without rows have no count. */
static uint32_t rows_of_methods(uintptr_t tables) {
    uint8_t head[24 + 7 * 4];
    if (!nltp_peek(tables, head, sizeof head) || !(head[8] & 0x40)) return 0;
    return u32_at(head + 24 + 4 * (uint32_t)__builtin_popcount(head[8] & 0x3f));
}

/* ECMA-335 II.24.2: the root, and the headers of its streams. */
static bool read_metadata(uintptr_t start, uint32_t size_bytes, struct metadata *metadata) {
    uint8_t root[256];
    if (size_bytes < sizeof root || !nltp_peek(start, root, sizeof root) || u32_at(root) != 0x424a5342) return false;
    *metadata = (struct metadata){.start = start, .size_bytes = size_bytes};
    uint64_t at = 16 + (uint64_t)u32_at(root + 12);
    if (at + 4 > sizeof root) return false;
    uint32_t streams = u16_at(root + at + 2);
    at += 4;
    for (uint32_t i = 0; i < streams && at + 12 <= sizeof root; i++) {
        uint64_t offset = u32_at(root + at), bytes = u32_at(root + at + 4);
        const uint8_t *name = root + at + 8;
        uint64_t length = 0;
        while (at + 8 + length < sizeof root && name[length] != 0) length++;
        at += 8 + ((length + 4) & ~UINT64_C(3));
        if (offset + bytes > size_bytes || name[0] != '#') continue;
        if (length == 5 && __builtin_memcmp(name, "#GUID", 5) == 0 && bytes >= 16) metadata->mvid_at = start + offset;
        if (length == 2 && (name[1] == '~' || name[1] == '-')) metadata->method_rows = rows_of_methods(start + offset);
    }
    return metadata->mvid_at != 0 && nltp_peek(metadata->mvid_at, metadata->mvid, 16);
}

#define MAX_SECTIONS 16u

struct file_in_memory {
    uintptr_t base;
    bool laid_out;
    uint32_t sections;
    uint8_t table[MAX_SECTIONS * 40];
};

static uintptr_t at_rva(const struct file_in_memory *file, uint32_t rva) {
    const uint8_t *section = file->table;
    for (uint32_t i = 0; !file->laid_out && i < file->sections; i++, section += 40)
        if (rva >= u32_at(section + 12) && rva - u32_at(section + 12) < u32_at(section + 16))
            return file->base + u32_at(section + 20) + (rva - u32_at(section + 12));
    return file->base + rva;
}

static bool metadata_of_file(uintptr_t base, struct metadata *metadata) {
    uint8_t dos[64], pe[24 + 240], cli[72];
    if (base == 0 || !nltp_peek(base, dos, sizeof dos) || u16_at(dos) != 0x5a4d) return false;
    uintptr_t pe_at = base + u32_at(dos + 0x3c);
    if (!nltp_peek(pe_at, pe, sizeof pe) || u32_at(pe) != 0x4550) return false;
    struct file_in_memory file = {.base = base, .sections = u16_at(pe + 6)};
    uint32_t directories = 24 + (u16_at(pe + 24) == 0x20b ? 112u : 96u);
    uint32_t cli_rva = u32_at(pe + directories + 14 * 8);
    if (cli_rva == 0 || file.sections > MAX_SECTIONS) return false;
    if (!nltp_peek(pe_at + 24 + u16_at(pe + 20), file.table, file.sections * 40)) return false;
    for (int laid_out = 1; laid_out >= 0; laid_out--) {
        file.laid_out = laid_out;
        if (!nltp_peek(at_rva(&file, cli_rva), cli, sizeof cli) || u32_at(cli) != sizeof cli) continue;
        if (read_metadata(at_rva(&file, u32_at(cli + 8)), u32_at(cli + 12), metadata)) return true;
    }
    return false;
}

static uintptr_t emitted_metadata(uintptr_t module) {
    return clr.emitted ? word_at(module + clr.module_emitted) : 0;
}

/* UTF-16 to UTF-8; what does not fit is cut. Empty when the module has no file. */
static void copy_path(uintptr_t module, char *path, size_t capacity) {
    const uint16_t *from = (const uint16_t *)word_at(module + clr.module_path);
    size_t length = 0;
    for (; from != NULL && *from != 0 && length + 5 < capacity; from++) {
        uint32_t c = *from;
        if (c >= 0xd800 && c < 0xdc00 && from[1] >= 0xdc00 && from[1] < 0xe000) c = 0x10000 + ((c - 0xd800) << 10) + (*++from - 0xdc00u);
        if (c < 0x80) path[length++] = (char)c;
        else {
            if (c < 0x800) path[length++] = (char)(0xc0 | c >> 6);
            else {
                if (c < 0x10000) path[length++] = (char)(0xe0 | c >> 12);
                else {
                    path[length++] = (char)(0xf0 | c >> 18);
                    path[length++] = (char)(0x80 | (c >> 12 & 0x3f));
                }
                path[length++] = (char)(0x80 | (c >> 6 & 0x3f));
            }
            path[length++] = (char)(0x80 | (c & 0x3f));
        }
    }
    path[length] = 0;
}

static uint32_t copy_metadata(const struct metadata *metadata) {
    uint32_t offset = metadata->size_bytes <= MAX_METADATA_BYTES ? nltp_table_take(NLT_TABLE_BLOBS, metadata->size_bytes) : 0;
    if (offset == 0 || !nltp_peek(metadata->start, (char *)nltp_table(NLT_TABLE_BLOBS) + offset, metadata->size_bytes)) {
        not_understood();
        return 0;
    }
    return offset;
}

/* What lies where the MVID was: nothing may be mapped there any more, if another assembly took the module's and the file's place. */
static bool has_mvid(uint64_t mvid_at, const uint8_t *mvid) {
    uint8_t now[16];
    return nltp_peek((uintptr_t)mvid_at, now, sizeof now) && __builtin_memcmp(now, mvid, sizeof now) == 0;
}

bool nltp_clr_is_image(uint32_t image, const struct nltp_code_identity *identity) {
    if (image == 0) return true; /* it could not be told then, nor can it now: start and method must do */
    const struct nlt_image *known = (const struct nlt_image *)nltp_table(NLT_TABLE_IMAGES) + image;
    uint64_t mvid_at = nltp_load_acquire(&known->mvid_at);
    if (mvid_at == 0 || known->module != identity->module) return false;
    if (known->base != word_at(identity->module + clr.module_base)) {
        /* Emitted: the copy of its metadata moves as it grows. */
        uintptr_t emitted = emitted_metadata(identity->module);
        if (emitted == 0 || known->base != emitted || (identity->token & 0xffffff) > known->method_rows) return false;
    }
    return has_mvid(mvid_at, known->mvid);
}

uint32_t nltp_clr_image(const struct nltp_code_identity *identity) {
    if (identity->module == 0) return 0;
    struct nlt_image *images = nltp_table(NLT_TABLE_IMAGES);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_IMAGES].count);
    for (uint32_t id = count - 1; id != 0; id--)
        if (nltp_clr_is_image(id, identity)) return id;

    uintptr_t base = word_at(identity->module + clr.module_base), emitted = emitted_metadata(identity->module);
    struct metadata metadata;
    bool known = metadata_of_file(base, &metadata);
    if (!known && emitted != 0) {
        base = emitted;
        known = read_metadata(emitted + clr.emitted_data, half_at(emitted + clr.emitted_size), &metadata);
    }
    if (!known) {
        not_understood();
        return 0;
    }
    char path[1024];
    copy_path(identity->module, path, sizeof path);
    uint32_t id = nltp_table_take(NLT_TABLE_IMAGES, 1);
    if (id == 0) {
        not_understood();
        return 0;
    }
    struct nlt_image *image = &images[id];
    image->module = identity->module;
    image->base = base;
    nltp_copy(image->mvid, metadata.mvid, 16);
    image->method_rows = metadata.method_rows;
    if (path[0] != 0) image->path = nltp_string(path);
    else image->metadata = copy_metadata(&metadata);
    image->metadata_bytes = image->metadata != 0 ? metadata.size_bytes : 0;
    nltp_store_release(&image->mvid_at, metadata.mvid_at);
    return id;
}
