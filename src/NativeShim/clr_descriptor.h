/* The runtime's own description of its data structures: the contract descriptor that libcoreclr exports.
 * Format: dotnet/runtime, docs/design/datacontracts/contract-descriptor.md and data_descriptor.md. */
#ifndef NLTP_CLR_DESCRIPTOR_H
#define NLTP_CLR_DESCRIPTOR_H

#include "os.h"

struct nltp_descriptor {
    const char *json;
    size_t json_length;
    const uintptr_t *pointers; /* what indirect globals index */
    uint32_t pointer_count;
};

/* Checks magic and flags of the exported structure. */
bool nltp_descriptor_open(const void *exported, struct nltp_descriptor *descriptor);

/* Version of a contract; 0 when the runtime does not have it. */
uint32_t nltp_descriptor_contract(const struct nltp_descriptor *descriptor, const char *name);
/* Offset of a field, or with field "!" the size of the type; false when the runtime does not say. */
bool nltp_descriptor_field(const struct nltp_descriptor *descriptor, const char *type, const char *field, uint32_t *value);
/* A direct global's number, or an indirect global's pointer. */
bool nltp_descriptor_global(const struct nltp_descriptor *descriptor, const char *name, uintptr_t *value);

#endif
