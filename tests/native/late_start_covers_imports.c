/* A late start reaches what preload reaches: objects loaded before and after it, bound eagerly or lazily, pointers in data,
 * libc's own calls, and look-ups by name. */
#include "check.h"

#include "fixtures/imports.h"

#include <wchar.h>

typedef void *(*allocate_function)(size_t);
typedef void (*free_function)(void *);

static allocate_function data_malloc = malloc; /* of the program itself */
static free_function data_free = free;

static void check_pair(allocate_function allocate, free_function release) {
    void *p = allocate(90);
    uintptr_t address = (uintptr_t)p;
    CHECK(is_live(p, 90));
    release(p);
    CHECK(!live_at(address).there);
}

static void check_ways(void *(*allocate)(int, size_t), void (*release)(int, void *), int ways) {
    for (int way = 0; way < ways; way++) {
        void *p = allocate(way, 80);
        uintptr_t address = (uintptr_t)p;
        if (!is_live(p, 80)) dprintf(2, "allocated in way %d: not seen\n", way);
        CHECK(is_live(p, 80));
        release(way, p);
        if (live_at(address).there) dprintf(2, "freed in way %d: not seen\n", way);
        CHECK(!live_at(address).there);
    }
}

static void check_libc_internal(void) {
    char *copy = strdup("twelve bytes"), *printed = NULL, *line = NULL, *buffer = NULL;
    size_t capacity = 0, size = 0;
    CHECK(is_live(copy, 13));
    free(copy);
    CHECK_EQUAL(asprintf(&printed, "%d", 12345), 5);
    CHECK(live_word(printed).there);
    free(printed);

    struct nlt_thread before = totals();
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL);
    CHECK(getline(&line, &capacity, file) > 0);
    CHECK(is_live(line, capacity));
    free(line);
    fclose(file);
    CHECK(totals().allocated_blocks - before.allocated_blocks >= 3); /* the stream, its buffer, the line */
    CHECK_EQUAL(totals().allocated_blocks - before.allocated_blocks, totals().freed_blocks - before.freed_blocks);

    FILE *memory = open_memstream(&buffer, &size);
    for (int i = 0; i < 1000; i++) fputs("0123456789", memory);
    fclose(memory);
    CHECK_EQUAL(size, 10000);
    CHECK(live_word(buffer).there);
    free(buffer);
    wchar_t *wide = wcsdup(L"abc");
    CHECK(is_live(wide, 16));
    free(wide);
}

static void check_lookups(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(libc != NULL);
    void *handles[] = {libc, RTLD_DEFAULT, dlopen(NULL, RTLD_NOW)};
    for (int i = 0; i < 3; i++)
        check_pair((allocate_function)dlsym(handles[i], "malloc"), (free_function)dlsym(handles[i], "free"));
    check_pair((allocate_function)dlvsym(libc, "malloc", "GLIBC_2.2.5"), (free_function)dlvsym(libc, "free", "GLIBC_2.2.5"));
}

int main(int argc, char **argv) {
    import_free(0, import_allocate(0, 1)); /* bound by now, the other slots not yet */
    start(argc, argv);
    check_pair(malloc, free);
    check_pair(data_malloc, data_free);
    /* The last way is a copy that the library made when it was loaded. Nothing tells such a word from a number. */
    check_ways(import_allocate, import_free, is_mode(argc, argv, "late") ? WAYS - 1 : WAYS);
    check_libc_internal();
    check_lookups();

    static const int modes[] = {RTLD_LAZY, RTLD_NOW};
    for (int i = 0; i < 2; i++) {
        void *library = dlopen(NLT_FIXTURES_DIRECTORY "/libimports_after.so", modes[i] | RTLD_LOCAL | RTLD_DEEPBIND);
        CHECK(library != NULL);
        check_ways((void *(*)(int, size_t))dlsym(library, "import_allocate"), (void (*)(int, void *))dlsym(library, "import_free"),
                   WAYS);
        CHECK_EQUAL(dlclose(library), 0);
    }
    CHECK_EQUAL(shim.rebind(), 0); /* nothing was missed */
    CHECK_EQUAL(shim.ledger->losses.unseen_imports, 0);
    return 0;
}
