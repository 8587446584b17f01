#include "elf_dynamic.h"

bool nltp_dynamic_read(uintptr_t bias, const Elf64_Dyn *section, struct nltp_dynamic *dynamic) {
    *dynamic = (struct nltp_dynamic){.bias = bias};
    if (section == NULL) return false;
    size_t rela_bytes = 0, plt_bytes = 0;
    for (const Elf64_Dyn *entry = section; entry->d_tag != DT_NULL; entry++) {
        uintptr_t value = entry->d_un.d_val;
        /* The dynamic linker adds the load bias to pointers where the section is writable, and only there. */
        uintptr_t pointer = value < bias ? value + bias : value;
        switch (entry->d_tag) {
        case DT_SYMTAB: dynamic->symbols = (const Elf64_Sym *)pointer; break;
        case DT_STRTAB: dynamic->strings = (const char *)pointer; break;
        case DT_GNU_HASH: dynamic->gnu_hash = (const uint32_t *)pointer; break;
        case DT_RELA: dynamic->rela = (const Elf64_Rela *)pointer; break;
        case DT_RELASZ: rela_bytes = value; break;
        case DT_JMPREL: dynamic->plt_rela = (const Elf64_Rela *)pointer; break;
        case DT_PLTRELSZ: plt_bytes = value; break;
        default: break;
        }
    }
    dynamic->rela_count = rela_bytes / sizeof(Elf64_Rela);
    dynamic->plt_rela_count = plt_bytes / sizeof(Elf64_Rela);
    return dynamic->symbols != NULL && dynamic->strings != NULL;
}

/* The GNU hash table: header (buckets, first hashed symbol, bloom words, bloom shift), bloom filter, buckets, chains.
 * Format: https://flapenguin.me/elf-dt-gnu-hash and the binutils sources (bfd/elflink.c). */
const Elf64_Sym *nltp_dynamic_find(const struct nltp_dynamic *dynamic, const char *name) {
    const uint32_t *table = dynamic->gnu_hash;
    if (table == NULL) return NULL;
    uint32_t hash = 5381;
    for (const char *c = name; *c != 0; c++) hash = hash * 33 + (uint8_t)*c;
    uint32_t bucket_count = table[0], first_symbol = table[1], bloom_words = table[2], bloom_shift = table[3];
    if (bucket_count == 0 || bloom_words == 0) return NULL;
    const uint64_t *bloom = (const uint64_t *)(table + 4);
    const uint32_t *buckets = (const uint32_t *)(bloom + bloom_words);
    const uint32_t *chains = buckets + bucket_count;
    uint64_t word = bloom[(hash / 64) % bloom_words];
    if (!((word >> (hash % 64)) & (word >> ((hash >> bloom_shift) % 64)) & 1)) return NULL;
    uint32_t index = buckets[hash % bucket_count];
    if (index < first_symbol) return NULL;
    for (;; index++) {
        uint32_t chained = chains[index - first_symbol];
        const Elf64_Sym *symbol = &dynamic->symbols[index];
        if ((chained | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF &&
            nltp_equal(dynamic->strings + symbol->st_name, name))
            return symbol;
        if (chained & 1) return NULL;
    }
}
