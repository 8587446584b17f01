/* Just enough of a JSON reader for the compact form of the descriptor: it never allocates, and whatever it does not
 * understand reads as "not there". */
#include "clr_descriptor.h"

struct exported {
    uint64_t magic;
    uint32_t flags;
    uint32_t json_bytes;
    const char *json;
    uint32_t pointer_count;
    uint32_t padding;
    const uintptr_t *pointers;
};
#define DESCRIPTOR_MAGIC UINT64_C(0x0043414443434e44) /* "DNCCDAC\0" */

bool nltp_descriptor_open(const void *exported, struct nltp_descriptor *descriptor) {
    const struct exported *e = exported;
    /* Flag bit 0 is always set; bit 1 is set where pointers have 32 bits. */
    if (e->magic != DESCRIPTOR_MAGIC || (e->flags & 3) != 1 || e->json == NULL) return false;
    *descriptor = (struct nltp_descriptor){e->json, e->json_bytes, e->pointers, e->pointer_count};
    return true;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

struct json {
    const char *at, *end;
};

static void skip_space(struct json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t')) j->at++;
}
static bool take(struct json *j, char c) {
    skip_space(j);
    if (j->at >= j->end || *j->at != c) return false;
    j->at++;
    return true;
}
/* Leaves j behind a string; its contents (raw, the descriptor has no escapes) in *text. */
static bool take_string(struct json *j, struct json *text) {
    if (!take(j, '"')) return false;
    text->at = j->at;
    while (j->at < j->end && *j->at != '"') j->at += *j->at == '\\' ? 2 : 1;
    text->end = j->at;
    return take(j, '"');
}
static void skip_value(struct json *j) {
    struct json text;
    unsigned depth = 0;
    do {
        skip_space(j);
        if (j->at >= j->end) return;
        char c = *j->at;
        if (c == '"') {
            if (!take_string(j, &text)) return;
        } else {
            if (c == '{' || c == '[') depth++;
            if (c == '}' || c == ']') {
                if (depth == 0) return;
                depth--;
            }
            j->at++;
            if (depth == 0 && c != '}' && c != ']') /* a number or a word */
                while (j->at < j->end && *j->at != ',' && *j->at != '}' && *j->at != ']') j->at++;
        }
    } while (depth != 0);
}
static bool text_is(struct json text, const char *name) {
    size_t length = nltp_length(name);
    return (size_t)(text.end - text.at) == length && __builtin_memcmp(text.at, name, length) == 0;
}

/* The value of a member of the object that j stands at. */
static bool find_member(struct json j, const char *name, struct json *value) {
    struct json key;
    if (!take(&j, '{')) return false;
    while (take_string(&j, &key) && take(&j, ':')) {
        if (text_is(key, name)) {
            skip_space(&j);
            *value = j;
            return true;
        }
        skip_value(&j);
        if (!take(&j, ',')) return false;
    }
    return false;
}

/* A number, decimal or in quotes with 0x. */
static bool read_number(struct json j, uint64_t *value) {
    bool quoted = take(&j, '"');
    skip_space(&j);
    uint64_t base = 10, result = 0;
    if (quoted && j.end - j.at > 2 && j.at[0] == '0' && j.at[1] == 'x') {
        base = 16;
        j.at += 2;
    }
    const char *start = j.at;
    for (; j.at < j.end; j.at++) {
        char c = *j.at;
        uint64_t digit = c >= '0' && c <= '9' ? (uint64_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a' + 10) : 99;
        if (digit >= base) break;
        result = result * base + digit;
    }
    *value = result;
    return j.at != start;
}
/* A number, or the first element of an array [number, "type"]. */
static bool read_first_number(struct json j, uint64_t *value) {
    while (take(&j, '[')) {
    }
    return read_number(j, value);
}

/* ---- questions ----------------------------------------------------------------------------------------------------- */

static bool section(const struct nltp_descriptor *descriptor, const char *name, struct json *value) {
    return find_member((struct json){descriptor->json, descriptor->json + descriptor->json_length}, name, value);
}

uint32_t nltp_descriptor_contract(const struct nltp_descriptor *descriptor, const char *name) {
    struct json contracts, version;
    uint64_t number;
    if (!section(descriptor, "contracts", &contracts) || !find_member(contracts, name, &version)) return 0;
    return read_number(version, &number) ? (uint32_t)number : 0;
}

bool nltp_descriptor_field(const struct nltp_descriptor *descriptor, const char *type, const char *field, uint32_t *value) {
    struct json types, fields, offset;
    uint64_t number;
    if (!section(descriptor, "types", &types) || !find_member(types, type, &fields)) return false;
    if (!find_member(fields, field, &offset) || !read_first_number(offset, &number)) return false;
    *value = (uint32_t)number;
    return true;
}

bool nltp_descriptor_global(const struct nltp_descriptor *descriptor, const char *name, uintptr_t *value) {
    struct json globals, found;
    uint64_t number;
    if (!section(descriptor, "globals", &globals) || !find_member(globals, name, &found)) return false;
    /* value | [value, "type"] | [index] | [[index], "type"] */
    struct json inner = found;
    bool indirect = false;
    if (take(&inner, '[')) {
        struct json element = inner;
        indirect = take(&element, '[');
        if (!indirect) {
            skip_value(&element);
            indirect = take(&element, ']');
        }
    }
    if (!read_first_number(found, &number)) return false;
    if (!indirect) {
        *value = (uintptr_t)number;
        return true;
    }
    if (number >= descriptor->pointer_count) return false;
    *value = descriptor->pointers[number];
    return true;
}
