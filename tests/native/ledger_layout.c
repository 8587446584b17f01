/* Prints the layout of nlt_ledger.h as the C compiler sees it, for LedgerLayoutTests to compare with the mirror in C#:
 *
 *   struct NAME SIZE
 *   field STRUCT NAME OFFSET SIZE
 *   constant NAME VALUE
 */
#include <inttypes.h>
#include <stdio.h>

#include "nlt_ledger.h"

#define STRUCT(name)                                                                                                   \
    {                                                                                                                  \
        typedef struct name subject;                                                                                   \
        const char *subject_name = #name;                                                                              \
        printf("struct %s %zu\n", subject_name, sizeof(subject));
#define FIELD(name)                                                                                                    \
        printf("field %s %s %zu %zu\n", subject_name, #name, offsetof(subject, name), sizeof(((subject *)0)->name));
#define END }
#define CONSTANT(name) printf("constant %s %" PRIu64 "\n", #name, (uint64_t)(name));

int main(void) {
#include "ledger_layout.inc" /* ledger_layout.cmake makes it from the header */
    return 0;
}
