/* After a detach every slot and every symbol value is as it was before, on pages that are protected as they were. */
#include "check.h"

#include "fixtures/imports.h"

#include <link.h>

#define MAX_WORDS 200000

struct word {
    const uintptr_t *address;
    uintptr_t before, object_start, object_end;
};
static struct word words[MAX_WORDS];
static size_t word_count;
static char maps_before[1 << 18], maps_after[1 << 18];

static void add_word(const uintptr_t *address, uintptr_t start, uintptr_t end) {
    CHECK(word_count < MAX_WORDS);
    words[word_count++] = (struct word){address, *address, start, end};
}

static void add_relocated(const struct dl_phdr_info *info, const Elf64_Rela *rela, size_t bytes, uintptr_t start, uintptr_t end) {
    for (size_t i = 0; i < bytes / sizeof *rela; i++) {
        uint64_t type = ELF64_R_TYPE(rela[i].r_info);
        if (type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64)
            add_word((const uintptr_t *)(info->dlpi_addr + rela[i].r_offset), start, end);
    }
}

static int add_object(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    uintptr_t start = UINTPTR_MAX, end = 0;
    const Elf64_Dyn *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *header = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_DYNAMIC) dynamic = (const Elf64_Dyn *)at;
        if (header->p_type != PT_LOAD) continue;
        if (at < start) start = at;
        if (at + header->p_memsz > end) end = at + header->p_memsz;
    }
    uintptr_t rela = 0, plt = 0, symbols = 0, strings = 0;
    size_t rela_bytes = 0, plt_bytes = 0;
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        uintptr_t value = dynamic->d_un.d_val, pointer = value < info->dlpi_addr ? value + info->dlpi_addr : value;
        if (dynamic->d_tag == DT_RELA) rela = pointer;
        if (dynamic->d_tag == DT_RELASZ) rela_bytes = value;
        if (dynamic->d_tag == DT_JMPREL) plt = pointer;
        if (dynamic->d_tag == DT_PLTRELSZ) plt_bytes = value;
        if (dynamic->d_tag == DT_SYMTAB) symbols = pointer;
        if (dynamic->d_tag == DT_STRTAB) strings = pointer;
    }
    if (rela != 0) add_relocated(info, (const Elf64_Rela *)rela, rela_bytes, start, end);
    if (plt != 0) add_relocated(info, (const Elf64_Rela *)plt, plt_bytes, start, end);
    /* The string table follows the symbol table in every linker's output. */
    for (const Elf64_Sym *s = (const Elf64_Sym *)symbols; symbols != 0 && (uintptr_t)(s + 1) <= strings; s++)
        add_word((const uintptr_t *)&s->st_value, start, end);
    return 0;
}

/* Permissions of objects' pages. Two neighbours alike count as one: the kernel does not join what was once written to with what
 * was not. */
static void read_maps(char *text, size_t capacity) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], permissions[8], path[256], last[300] = "", kind[300];
    unsigned long start, end, last_end = 0;
    size_t length = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, permissions, path) != 4 || path[0] != '/') continue;
        if (strstr(path, "nativeleakshim") != NULL) continue;
        snprintf(kind, sizeof kind, "%s %s", permissions, path);
        if (start != last_end || strcmp(kind, last) != 0) {
            length += (size_t)snprintf(text + length, capacity - length, "-%lx\n%lx %s", last_end, start, kind);
            CHECK(length < capacity);
        }
        strcpy(last, kind);
        last_end = end;
    }
    fclose(maps);
}

static void check_words(void) {
    Dl_info info, other;
    CHECK(dladdr((void *)shim.install, &info) != 0);
    for (size_t i = 0; i < word_count; i++) {
        uintptr_t now = *words[i].address, before = words[i].before;
        if (now == before) continue;
        /* An import that was bound lazily in the meantime: it pointed into its own object before, and not at us now. */
        bool was_lazy = before >= words[i].object_start && before < words[i].object_end;
        bool ours = dladdr((void *)now, &other) != 0 && other.dli_fbase == info.dli_fbase;
        if (!was_lazy || ours) dprintf(2, "word at %p: %#lx, before %#lx\n", (void *)words[i].address, now, before);
        CHECK(was_lazy && !ours);
    }
}

static void use_everything(void) {
    for (int way = 0; way < WAYS; way++) import_free(way, import_allocate(way, 10));
    free(strdup("text"));
    free(aligned_alloc(64, 64));
    free(realloc(calloc(1, 1), 100));
}

int main(int argc, char **argv) {
    CHECK(is_mode(argc, argv, "late"));
    use_everything();
    load_shim();
    read_maps(maps_before, sizeof maps_before);
    dl_iterate_phdr(add_object, NULL);
    CHECK(word_count > 1000);
    for (int round = 0; round < 3; round++) {
        install_and_record();
        use_everything();
        void *p = malloc(10);
        CHECK(is_live(p, 10));
        free(p);
        CHECK_EQUAL(shim.detach(), NLT_OK);
        check_words();
        struct nlt_thread before = totals();
        use_everything();
        CHECK_EQUAL(totals().allocated_blocks, before.allocated_blocks);
        CHECK_EQUAL(totals().untracked_frees, before.untracked_frees);
    }
    read_maps(maps_after, sizeof maps_after);
    if (strcmp(maps_before, maps_after) != 0) dprintf(2, "before:\n%s\nafter:\n%s\n", maps_before, maps_after);
    CHECK_EQUAL(strcmp(maps_before, maps_after), 0);
    return 0;
}
