/* Unwind rules of native code: the call frame information in .eh_frame, found through its sorted header.
 * Formats: DWARF 5 section 6.4; Linux Standard Base, "Exception Frames". Only what a walk needs is computed: the CFA, where
 * the caller's rbp is, where the return address is. What a rule cannot express becomes NLTP_RULE_NONE. */
#include "shim.h"

#include <elf.h>

enum { REG_BP = 6, REG_SP = 7, REG_RA = 16 };

/* ---- reading --------------------------------------------------------------------------------------------------------- */

struct cursor {
    const uint8_t *at, *end;
};

static uint64_t read_fixed(struct cursor *c, unsigned size_bytes) {
    uint64_t value = 0;
    if ((size_t)(c->end - c->at) < size_bytes) {
        c->at = c->end;
        return 0;
    }
    nltp_copy(&value, c->at, size_bytes);
    c->at += size_bytes;
    return value;
}
static uint64_t read_uleb(struct cursor *c) {
    uint64_t value = 0;
    for (unsigned shift = 0; c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) break;
    }
    return value;
}
static int64_t read_sleb(struct cursor *c) {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte = 0;
    while (c->at < c->end) {
        byte = *c->at++;
        if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) break;
    }
    if (shift < 64 && (byte & 0x40)) value |= ~UINT64_C(0) << shift;
    return (int64_t)value;
}

/* An encoded pointer (DW_EH_PE_*): format in the low nibble, base in the next bits. */
static uintptr_t read_encoded(struct cursor *c, uint8_t encoding, uintptr_t data_base) {
    if (encoding == 0xff) return 0;
    uintptr_t place = (uintptr_t)c->at;
    uintptr_t value;
    switch (encoding & 0x0f) {
    case 0x00: case 0x04: case 0x0c: value = read_fixed(c, 8); break;
    case 0x01: value = read_uleb(c); break;
    case 0x02: value = read_fixed(c, 2); break;
    case 0x03: value = read_fixed(c, 4); break;
    case 0x09: value = (uintptr_t)read_sleb(c); break;
    case 0x0a: value = (uintptr_t)(int64_t)(int16_t)read_fixed(c, 2); break;
    case 0x0b: value = (uintptr_t)(int64_t)(int32_t)read_fixed(c, 4); break;
    default: c->at = c->end; return 0;
    }
    if (value == 0) return 0;
    if ((encoding & 0x70) == 0x10) value += place;
    if ((encoding & 0x70) == 0x30) value += data_base;
    return value;
}

/* ---- finding the entry ------------------------------------------------------------------------------------------------- */

struct frame_entry {
    uintptr_t start, end;               /* code that it describes */
    struct cursor initial, program;     /* instructions: of the common entry, of this one */
    uint64_t code_factor;
    int64_t data_factor;
    uint8_t pointer_encoding;
    bool signal_frame;
};

/* A record's contents begin behind its length; 64-bit records are not made for x86-64 and not read. */
static bool open_record(const uint8_t *record, struct cursor *c) {
    uint32_t length;
    nltp_copy(&length, record, 4);
    if (length == 0 || length == 0xffffffffu) return false;
    *c = (struct cursor){record + 4, record + 4 + length};
    return true;
}

static bool read_common(const uint8_t *record, struct frame_entry *entry, bool *augmented) {
    struct cursor c;
    if (!open_record(record, &c)) return false;
    if (read_fixed(&c, 4) != 0) return false;
    uint8_t version = (uint8_t)read_fixed(&c, 1);
    if (version != 1 && version != 3) return false;
    const char *augmentation = (const char *)c.at;
    while (c.at < c.end && *c.at != 0) c.at++;
    c.at++;
    entry->code_factor = read_uleb(&c);
    entry->data_factor = read_sleb(&c);
    if (version == 1) read_fixed(&c, 1); else read_uleb(&c);
    entry->pointer_encoding = 0;
    *augmented = augmentation[0] == 'z';
    if (*augmented) {
        uint64_t length = read_uleb(&c);
        const uint8_t *behind = c.at + length;
        for (const char *letter = augmentation + 1; *letter != 0; letter++) {
            if (*letter == 'R') entry->pointer_encoding = (uint8_t)read_fixed(&c, 1);
            else if (*letter == 'L') read_fixed(&c, 1);
            else if (*letter == 'P') { uint8_t encoding = (uint8_t)read_fixed(&c, 1); read_encoded(&c, encoding, 0); }
            else if (*letter == 'S') entry->signal_frame = true;
            else break;
        }
        c.at = behind;
    } else if (augmentation[0] != 0) {
        return false;
    }
    entry->initial = c;
    return true;
}

static bool read_entry(const uint8_t *record, struct frame_entry *entry) {
    struct cursor c;
    if (!open_record(record, &c)) return false;
    const uint8_t *place = c.at;
    uint32_t back = (uint32_t)read_fixed(&c, 4);
    bool augmented;
    if (back == 0 || !read_common(place - back, entry, &augmented)) return false;
    entry->start = read_encoded(&c, entry->pointer_encoding, 0);
    entry->end = entry->start + read_encoded(&c, entry->pointer_encoding & 0x0f, 0);
    if (augmented) {
        uint64_t length = read_uleb(&c);
        c.at += length;
    }
    entry->program = c;
    return true;
}

/* Binary search in .eh_frame_hdr: pairs (code start, record), 32 bits each, relative to the header. */
static bool find_entry(const uint8_t *header, uintptr_t pc, struct frame_entry *entry) {
    struct cursor c = {header, header + 4096};
    uint8_t version = (uint8_t)read_fixed(&c, 1);
    uint8_t frame_encoding = (uint8_t)read_fixed(&c, 1);
    uint8_t count_encoding = (uint8_t)read_fixed(&c, 1);
    uint8_t table_encoding = (uint8_t)read_fixed(&c, 1);
    if (version != 1 || table_encoding != 0x3b) return false;
    read_encoded(&c, frame_encoding, (uintptr_t)header);
    size_t count = read_encoded(&c, count_encoding, (uintptr_t)header);
    const int32_t *pairs = (const int32_t *)c.at;
    intptr_t target = (intptr_t)(pc - (uintptr_t)header);
    if (count == 0 || pairs[0] > target) return false;
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (pairs[2 * middle] <= target) low = middle; else high = middle;
    }
    return read_entry(header + pairs[2 * low + 1], entry) && pc >= entry->start && pc < entry->end;
}

/* ---- executing its instructions ------------------------------------------------------------------------------------------ */

enum place_kind { PLACE_SAME, PLACE_CFA_OFFSET, PLACE_EXPRESSION, PLACE_UNDEFINED, PLACE_OTHER };
struct place {
    enum place_kind kind;
    int64_t offset;
    struct cursor expression;
};
struct row {
    uint64_t cfa_register;
    int64_t cfa_offset;
    struct cursor cfa_expression; /* .at != NULL: the CFA is an expression */
    struct place bp, ra;
};

static struct place *place_of(struct row *row, uint64_t reg) {
    return reg == REG_BP ? &row->bp : reg == REG_RA ? &row->ra : NULL;
}
static void set_place(struct row *row, uint64_t reg, enum place_kind kind, int64_t offset) {
    struct place *place = place_of(row, reg);
    if (place != NULL) *place = (struct place){.kind = kind, .offset = offset};
}
static struct cursor read_block(struct cursor *c) {
    uint64_t length = read_uleb(c);
    if (length > (uint64_t)(c->end - c->at)) length = (uint64_t)(c->end - c->at);
    struct cursor block = {c->at, c->at + length};
    c->at += length;
    return block;
}

#define MAX_REMEMBERED 8

/* Runs until the row for `pc` is complete. `initial`: what DW_CFA_restore goes back to. */
static bool run(const struct frame_entry *entry, struct cursor c, uintptr_t pc, const struct row *initial, struct row *row) {
    struct row remembered[MAX_REMEMBERED];
    unsigned depth = 0;
    uintptr_t location = entry->start;
    while (c.at < c.end) {
        uint8_t op = *c.at++;
        uint64_t reg;
        uintptr_t advance = 0;
        switch (op >> 6) {
        case 1: advance = op & 0x3f; break;
        case 2: set_place(row, op & 0x3f, PLACE_CFA_OFFSET, (int64_t)read_uleb(&c) * entry->data_factor); continue;
        case 3: {
            struct place *place = place_of(row, op & 0x3f);
            if (place != NULL && initial != NULL) *place = (op & 0x3f) == REG_BP ? initial->bp : initial->ra;
            continue;
        }
        default:
            switch (op) {
            case 0x00: continue;
            case 0x01: location = read_encoded(&c, entry->pointer_encoding, 0); if (location > pc) return true; continue;
            case 0x02: advance = read_fixed(&c, 1); break;
            case 0x03: advance = read_fixed(&c, 2); break;
            case 0x04: advance = read_fixed(&c, 4); break;
            case 0x05: reg = read_uleb(&c); set_place(row, reg, PLACE_CFA_OFFSET, (int64_t)read_uleb(&c) * entry->data_factor); continue;
            case 0x06: {
                reg = read_uleb(&c);
                struct place *place = place_of(row, reg);
                if (place != NULL && initial != NULL) *place = reg == REG_BP ? initial->bp : initial->ra;
                continue;
            }
            case 0x07: set_place(row, read_uleb(&c), PLACE_UNDEFINED, 0); continue;
            case 0x08: set_place(row, read_uleb(&c), PLACE_SAME, 0); continue;
            case 0x09: reg = read_uleb(&c); read_uleb(&c); set_place(row, reg, PLACE_OTHER, 0); continue;
            case 0x0a: if (depth == MAX_REMEMBERED) return false; remembered[depth++] = *row; continue;
            case 0x0b: if (depth == 0) return false; *row = remembered[--depth]; continue;
            case 0x0c: row->cfa_register = read_uleb(&c); row->cfa_offset = (int64_t)read_uleb(&c); row->cfa_expression.at = NULL; continue;
            case 0x0d: row->cfa_register = read_uleb(&c); row->cfa_expression.at = NULL; continue;
            case 0x0e: row->cfa_offset = (int64_t)read_uleb(&c); continue;
            case 0x0f: row->cfa_expression = read_block(&c); continue;
            case 0x10: {
                struct place *place = place_of(row, read_uleb(&c));
                struct cursor block = read_block(&c);
                if (place != NULL) *place = (struct place){.kind = PLACE_EXPRESSION, .expression = block};
                continue;
            }
            case 0x11: reg = read_uleb(&c); set_place(row, reg, PLACE_CFA_OFFSET, read_sleb(&c) * entry->data_factor); continue;
            case 0x12: row->cfa_register = read_uleb(&c); row->cfa_offset = read_sleb(&c) * entry->data_factor; row->cfa_expression.at = NULL; continue;
            case 0x13: row->cfa_offset = read_sleb(&c) * entry->data_factor; continue;
            case 0x14: case 0x15: reg = read_uleb(&c); read_uleb(&c); set_place(row, reg, PLACE_OTHER, 0); continue;
            case 0x16: reg = read_uleb(&c); read_block(&c); set_place(row, reg, PLACE_OTHER, 0); continue;
            case 0x2e: read_uleb(&c); continue;
            case 0x2f: reg = read_uleb(&c); set_place(row, reg, PLACE_CFA_OFFSET, -(int64_t)read_uleb(&c) * entry->data_factor); continue;
            default: return false;
            }
        }
        location += advance * entry->code_factor;
        if (location > pc) return true;
    }
    return true;
}

/* ---- from row to rule ------------------------------------------------------------------------------------------------------ */

static bool fits(int64_t offset_bytes, int64_t limit) {
    return offset_bytes % 8 == 0 && offset_bytes / 8 <= limit && offset_bytes / 8 >= -limit - 1;
}

/* `breg offset` with rbp or rsp; leaves the rest of the expression in c. */
static bool read_based(struct cursor *c, uint64_t *reg, int64_t *offset) {
    if (c->at >= c->end || *c->at < 0x70 || *c->at > 0x8f) return false;
    *reg = *c->at++ - 0x70u;
    *offset = read_sleb(c);
    return true;
}

/* CFA = *(register + offset) + constant: what gcc makes for realigned frames, and assembly that saves rsp. */
static bool dereferenced_cfa(struct cursor c, struct nltp_rule *rule) {
    uint64_t reg;
    int64_t offset, constant = 0;
    if (!read_based(&c, &reg, &offset) || (reg != REG_BP && reg != REG_SP) || !fits(offset, NLTP_MAX_BASE_OFFSET))
        return false;
    if (c.at >= c.end || *c.at++ != 0x06) return false; /* DW_OP_deref */
    if (c.at < c.end) {
        if (*c.at++ != 0x23) return false; /* DW_OP_plus_uconst */
        constant = (int64_t)read_uleb(&c);
    }
    if (c.at != c.end || !fits(constant, NLTP_MAX_CFA_OFFSET)) return false;
    rule->kind = reg == REG_BP ? NLTP_RULE_DEREF_BP : NLTP_RULE_DEREF_SP;
    rule->base_offset = (int32_t)(offset / 8);
    rule->cfa_offset = (int32_t)(constant / 8);
    return true;
}

static bool to_rule(const struct row *row, struct nltp_rule *rule) {
    if (row->cfa_expression.at != NULL) {
        if (!dereferenced_cfa(row->cfa_expression, rule)) return false;
    } else {
        if (row->cfa_register != REG_SP && row->cfa_register != REG_BP) return false;
        if (!fits(row->cfa_offset, NLTP_MAX_CFA_OFFSET)) return false;
        rule->kind = row->cfa_register == REG_SP ? NLTP_RULE_SP : NLTP_RULE_BP;
        rule->cfa_offset = (int32_t)(row->cfa_offset / 8);
    }
    if (row->ra.kind != PLACE_CFA_OFFSET || !fits(row->ra.offset, INT8_MAX)) return false;
    rule->ra_offset = (int8_t)(row->ra.offset / 8);
    switch (row->bp.kind) {
    case PLACE_SAME: case PLACE_UNDEFINED: rule->bp_kind = NLTP_BP_SAME; return true;
    case PLACE_CFA_OFFSET:
        rule->bp_kind = NLTP_BP_AT_CFA;
        rule->bp_offset = (int16_t)(row->bp.offset / 8);
        return fits(row->bp.offset, INT16_MAX);
    case PLACE_EXPRESSION: {
        struct cursor c = row->bp.expression;
        uint64_t reg;
        int64_t offset;
        if (!read_based(&c, &reg, &offset) || reg != REG_BP || c.at != c.end || !fits(offset, INT16_MAX)) return false;
        rule->bp_kind = NLTP_BP_AT_BP;
        rule->bp_offset = (int16_t)(offset / 8);
        return true;
    }
    default: return false;
    }
}

/* Start code of a program or of the dynamic linker stands at the entry point, and where it is not described it is still the
 * outermost frame: the dynamic linker's runs the constructors. */
#define START_CODE_BYTES 128

static bool is_start_code(const struct nltp_object *object, uintptr_t pc) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)object->start;
    uintptr_t entry = object->load_bias + header->e_entry;
    return header->e_entry != 0 && __builtin_memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && pc >= entry &&
           pc - entry < START_CODE_BYTES;
}

bool nltp_elf_rule(const struct nltp_object *object, uintptr_t pc, bool exact, struct nltp_rule *rule) {
    struct frame_entry entry = {0};
    if (object->eh_frame_header == NULL) return false;
    uintptr_t target = exact ? pc : pc - 1;
    if (!find_entry(object->eh_frame_header, target, &entry)) {
        /* A return address at a function's first byte was put there by hand: the bottom of a makecontext() stack, or a trap of
         * the runtime. Its entry covers pc but not pc - 1. */
        if (!exact && find_entry(object->eh_frame_header, pc, &entry) && entry.start == pc) {
            if (entry.signal_frame) rule->kind = NLTP_RULE_SIGNAL;
            else if (nltp_clr_is_runtime(object)) rule->kind = NLTP_RULE_HIJACKED;
            else rule->kind = NLTP_RULE_END;
            return true;
        }
        if (!is_start_code(object, pc)) return false;
        rule->kind = NLTP_RULE_END;
        return true;
    }
    if (entry.signal_frame) {
        rule->kind = NLTP_RULE_SIGNAL;
        return true;
    }
    struct row initial = {.ra = {.kind = PLACE_UNDEFINED}};
    if (!run(&entry, entry.initial, UINTPTR_MAX, NULL, &initial)) return true;
    struct row row = initial;
    if (!run(&entry, entry.program, target, &initial, &row)) return true;
    if (row.ra.kind == PLACE_UNDEFINED) {
        rule->kind = NLTP_RULE_END;
        return true;
    }
    if (!to_rule(&row, rule)) *rule = (struct nltp_rule){.kind = NLTP_RULE_NONE, .ra_offset = -1};
    return true;
}
