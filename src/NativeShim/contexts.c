/* The calling-context tree, and the managed code bodies that its nodes stand for.
 *
 * Nodes are found by (parent, pc, flags) in a hash that grows by levels: level n has 2^(13 + n) chains, new nodes enter the
 * newest level, and a look-up goes from the newest to the oldest. Nothing is ever moved, so nobody waits: an insertion is one
 * compare-and-swap on the head of a chain. Two threads that meet a new context while a level is being added can both make
 * it; readers merge equal stacks. */
#define _GNU_SOURCE
#include "shim.h"

#define FIRST_LEVEL_BITS 13
#define LEVELS 15

struct index {
    uint32_t *levels[LEVELS];
    uint32_t newest;
    uint32_t entries; /* in the newest level */
};
static struct index node_index, code_index;

static uint32_t *make_level(struct index *index, uint32_t level) {
    uint32_t *chains = nltp_load_acquire(&index->levels[level]);
    if (chains != NULL) return chains;
    size_t size = sizeof(uint32_t) << (FIRST_LEVEL_BITS + level);
    uint32_t *made = nltp_map(size < 4096 ? 4096 : size);
    if (made == NULL) return NULL;
    if (nltp_cas(&index->levels[level], &chains, made)) return made;
    nltp_unmap(made, size);
    return chains;
}

void nltp_contexts_init(void) {
    make_level(&node_index, 0);
    make_level(&code_index, 0);
    nltp_table_take(NLT_TABLE_CONTEXTS, 1); /* NLT_CONTEXT_ROOT */
}

static uint32_t *chain_of(struct index *index, uint32_t level, uint64_t hash) {
    return &nltp_load_acquire(&index->levels[level])[hash >> (64 - FIRST_LEVEL_BITS - level)];
}

/* Counts an insertion; a level that is as full as it has chains twice over gets a successor. */
static void grow(struct index *index, uint32_t level) {
    uint32_t entries = nltp_add(&index->entries, 1) + 1;
    if (entries < (2u << (FIRST_LEVEL_BITS + level)) || level + 1 >= LEVELS) return;
    if (nltp_load(&index->newest) == level && make_level(index, level + 1) != NULL) {
        uint32_t expected = level;
        if (nltp_cas(&index->newest, &expected, level + 1)) nltp_store(&index->entries, 0);
    }
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t h = (a + UINT64_C(0x9E3779B97F4A7C15)) * UINT64_C(0xBF58476D1CE4E5B9) ^ b;
    h *= UINT64_C(0x94D049BB133111EB);
    h ^= h >> 32;
    return h * UINT64_C(0x9E3779B97F4A7C15);
}

/* ---- code bodies --------------------------------------------------------------------------------------------------- */

static bool is_code(const struct nlt_code *code, const struct nltp_code_identity *identity) {
    return code->start == identity->start && code->method == identity->method && code->flags == identity->flags &&
           nltp_equal((const char *)nltp_table(NLT_TABLE_STRINGS) + code->name, identity->name) &&
           (!(code->flags & NLT_CODE_COLLECTIBLE) || code->token == 0 || nltp_clr_is_image(code->image, identity));
}

static uint32_t find_code(const struct nltp_code_identity *identity, uint64_t hash) {
    const struct nlt_code *codes = nltp_table(NLT_TABLE_CODES);
    for (int level = (int)nltp_load_acquire(&code_index.newest); level >= 0; level--)
        for (uint32_t id = nltp_load_acquire(chain_of(&code_index, (uint32_t)level, hash)); id != 0; id = codes[id].next)
            if (is_code(&codes[id], identity)) return id;
    return 0;
}

/* Start and descriptor do not identify code that can be collected: the next dynamic method or assembly may get both. The name, or
 * the assembly, is part of the identity then, and was copied while the code was on a stack. */
uint32_t nltp_code_id(uintptr_t pc) {
    struct nltp_code_identity identity;
    if (!nltp_clr_identify(pc, &identity)) return 0;
    uint64_t hash = mix(identity.start, identity.method);
    uint32_t id = find_code(&identity, hash);
    if (id != 0) return id;
    uint32_t name = identity.name[0] != 0 ? nltp_string(identity.name) : 0;
    uint32_t image = nltp_clr_image(&identity);
    uint32_t bounds = identity.bounds_bytes != 0 ? nltp_blob(identity.bounds, identity.bounds_bytes) : 0;
    id = nltp_table_take(NLT_TABLE_CODES, 1);
    if (id == 0) return 0;
    struct nlt_code *code = (struct nlt_code *)nltp_table(NLT_TABLE_CODES) + id;
    code->start = identity.start;
    code->method = identity.method;
    code->type = identity.type;
    code->kind = identity.kind;
    code->flags = identity.flags;
    code->name = name;
    code->token = identity.token;
    code->image = image;
    code->rva = identity.rva;
    code->bounds = bounds;
    code->bounds_bytes = bounds != 0 ? identity.bounds_bytes : 0;
    uint32_t level = nltp_load_acquire(&code_index.newest);
    uint32_t *chain = chain_of(&code_index, level, hash);
    uint32_t head = nltp_load_acquire(chain);
    do code->next = head;
    while (!nltp_cas(chain, &head, id));
    grow(&code_index, level);
    return id;
}

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

/* Deep recursion: beyond this many frames a pc that stands among the next few frames outwards is taken for a repetition, and
 * the stack goes on from that frame's node. Otherwise every depth of every recursion would be a context of its own. */
#define FOLD_DEPTH 256
#define FOLD_PERIOD 16

static void describe(struct nlt_context *node, const struct nltp_frame *frame) {
    bool exact = (frame->flags & NLT_FRAME_EXACT_PC) != 0;
    struct nltp_object object;
    if (frame->object == 0 && nltp_find_object(exact ? frame->pc : frame->pc - 1, &object)) {
        node->kind = NLT_FRAME_NATIVE;
        node->object = nltp_module_id(&object);
        return;
    }
    node->object = frame->object != 0 ? frame->object : nltp_code_id(exact ? frame->pc + 1 : frame->pc);
    node->kind = node->object != 0 ? NLT_FRAME_MANAGED : NLT_FRAME_UNKNOWN;
}

static bool is_node(const struct nlt_context *node, uint32_t parent, const struct nltp_frame *frame) {
    return node->pc == frame->pc && node->parent == parent && (node->flags & ~NLT_FRAME_FOLDED) == frame->flags &&
           (frame->object == 0 || node->object == frame->object) &&
           (node->kind != NLT_FRAME_NATIVE || nltp_module_is_loaded(node->object)); /* another library may lie there now */
}

static uint32_t search(struct nlt_context *nodes, uint32_t parent, const struct nltp_frame *frame, uint64_t hash) {
    for (int level = (int)nltp_load_acquire(&node_index.newest); level >= 0; level--)
        for (uint32_t id = nltp_load_acquire(chain_of(&node_index, (uint32_t)level, hash)); id != 0; id = nodes[id].next)
            if (is_node(&nodes[id], parent, frame)) return id;
    return 0;
}

static uint32_t find_repetition(struct nlt_context *nodes, uint32_t parent, const struct nltp_frame *frame) {
    uint32_t id = parent;
    for (int i = 0; i < FOLD_PERIOD && id > NLT_CONTEXT_ROOT; i++, id = nodes[id].parent) {
        if (!is_node(&nodes[id], nodes[id].parent, frame)) continue;
        if (!(nltp_load(&nodes[id].flags) & NLT_FRAME_FOLDED)) __atomic_fetch_or(&nodes[id].flags, NLT_FRAME_FOLDED, __ATOMIC_RELAXED);
        return id;
    }
    return 0;
}

uint32_t nltp_context_child(uint32_t parent, const struct nltp_frame *frame) {
    struct nlt_context *nodes = nltp_nodes;
    uint64_t hash = mix(frame->pc, (uint64_t)parent << 8 | frame->flags);
    uint32_t found = search(nodes, parent, frame, hash);
    if (NLTP_LIKELY(found != 0)) return found;
    if (NLTP_UNLIKELY(nodes[parent].depth >= FOLD_DEPTH)) {
        found = find_repetition(nodes, parent, frame);
        if (found != 0) return found;
    }

    uint32_t id = nltp_table_take(NLT_TABLE_CONTEXTS, 1);
    if (id == 0) return 0;
    struct nlt_context *node = &nodes[id];
    node->pc = frame->pc;
    node->parent = parent;
    node->flags = frame->flags;
    node->depth = nodes[parent].depth < UINT16_MAX ? (uint16_t)(nodes[parent].depth + 1) : UINT16_MAX;
    describe(node, frame);

    uint32_t level = nltp_load_acquire(&node_index.newest);
    uint32_t *chain = chain_of(&node_index, level, hash);
    uint32_t head = nltp_load_acquire(chain);
    for (;;) {
        node->next = head;
        if (nltp_cas(chain, &head, id)) break;
        found = search(nodes, parent, frame, hash);
        if (found != 0) { /* another thread was first: the node taken stays unused */
            node->kind = NLT_FRAME_UNKNOWN;
            return found;
        }
    }
    grow(&node_index, level);
    return id;
}
