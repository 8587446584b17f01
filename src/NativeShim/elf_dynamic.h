/* The dynamic section of a loaded object: its symbols and relocations, as the dynamic linker sees them. */
#ifndef NLTP_ELF_DYNAMIC_H
#define NLTP_ELF_DYNAMIC_H

#include "os.h"

#include <elf.h>
#include <link.h>

struct nltp_dynamic {
    uintptr_t bias;
    const Elf64_Sym *symbols;
    const char *strings;
    const uint32_t *gnu_hash;
    const Elf64_Rela *rela, *plt_rela;
    size_t rela_count, plt_rela_count;
};

/* `section`: where the dynamic section is in memory. False when the object has no symbols. */
bool nltp_dynamic_read(uintptr_t bias, const Elf64_Dyn *section, struct nltp_dynamic *dynamic);

/* The symbol's own entry when the object defines `name`, else NULL. */
const Elf64_Sym *nltp_dynamic_find(const struct nltp_dynamic *dynamic, const char *name);

#endif
