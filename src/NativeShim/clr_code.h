/* What unwind_clr.c finds at a pc, for identify_clr.c to say who it is. */
#ifndef NLTP_CLR_CODE_H
#define NLTP_CLR_CODE_H

#include "clr_descriptor.h"

/* Reads of the runtime's memory. */
static inline uintptr_t word_at(uintptr_t address) {
    return nltp_load((uintptr_t *)address);
}
static inline uint32_t half_at(uintptr_t address) {
    return nltp_load((uint32_t *)address);
}

struct nltp_clr_code {
    uintptr_t section, start;       /* start: of the function record's code (a funclet has its own) */
    uintptr_t main_start;           /* of the whole body */
    uintptr_t unwind_info;
    uintptr_t method;               /* MethodDesc*; 0: not looked up */
    uintptr_t header;               /* compiled at run time: the runtime's RealCodeHeader */
    uintptr_t image_base;           /* precompiled: what its relative addresses count from */
    bool collectible, precompiled;
};

/* `identify`: the method of precompiled code, too. False: no managed code, or its tables are not understood. */
bool nltp_clr_find_code(uintptr_t pc, bool identify, struct nltp_clr_code *code);

/* The fields that identities need. What the runtime does not describe stays unknown. */
void nltp_clr_read_identity_fields(const struct nltp_descriptor *descriptor);

#endif
