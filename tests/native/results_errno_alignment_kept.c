/* A program must not be able to tell that it is tracked: the expectations are glibc's, and the run without the shim (argument
 * "plain") proves that they are. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>

#define SOME_ERRNO 1234
static volatile size_t huge = PTRDIFF_MAX, overflowing = SIZE_MAX / 2;

static bool is_aligned(const void *p, size_t alignment) {
    return p != NULL && (uintptr_t)p % alignment == 0;
}

static void successes_keep_errno(void) {
    void *p, *result;
    errno = SOME_ERRNO;
    CHECK(is_aligned(p = malloc(100), 16));
    memset(p, 0xff, 100);
    free(p);
    CHECK(is_aligned(p = calloc(10, 10), 16));
    for (int i = 0; i < 100; i++) CHECK(((char *)p)[i] == 0);
    memset(p, 0x5a, 100);
    CHECK(is_aligned(p = realloc(p, 1000), 16));
    for (int i = 0; i < 100; i++) CHECK(((char *)p)[i] == 0x5a);
    CHECK(malloc_usable_size(p) >= 1000);
    free(p);
    for (size_t alignment = 8; alignment <= 1 << 16; alignment *= 2) {
        CHECK_EQUAL(posix_memalign(&result, alignment, 33), 0);
        CHECK(is_aligned(result, alignment));
        free(result);
        CHECK(is_aligned(p = aligned_alloc(alignment, 4 * alignment), alignment));
        free(p);
        CHECK(is_aligned(p = memalign(alignment, 100), alignment));
        free(p);
    }
    CHECK(is_aligned(p = valloc(10), 4096));
    free(p);
    CHECK(is_aligned(p = pvalloc(10), 4096));
    CHECK(malloc_usable_size(p) >= 4096);
    free(p);
    CHECK(is_aligned(p = reallocarray(NULL, 10, 10), 16));
    free(p);
    CHECK(is_aligned(p = malloc(40 << 20), 16)); /* mmapped, and unmapped by free */
    memset(p, 1, 40 << 20);
    free(p);
    free(NULL);
    CHECK_EQUAL(errno, SOME_ERRNO);
}

static void zero_sizes(void) {
    void *a = malloc(0), *b = malloc(0), *c = calloc(0, 8), *d = calloc(8, 0), *e = realloc(NULL, 0), *f = NULL;
    CHECK(a != NULL && b != NULL && c != NULL && d != NULL && e != NULL && a != b);
    CHECK_EQUAL(posix_memalign(&f, 64, 0), 0);
    CHECK(is_aligned(f, 64));
    free(a), free(b), free(c), free(d), free(e), free(f);
}

#define FAILS(expression, error)                                                                                       \
    do {                                                                                                               \
        errno = SOME_ERRNO;                                                                                            \
        CHECK((expression) == NULL);                                                                                   \
        CHECK_EQUAL(errno, error);                                                                                     \
    } while (0)

static void failures_say_why(void) {
    FAILS(malloc(huge), ENOMEM);
    FAILS(malloc(SIZE_MAX), ENOMEM);
    FAILS(calloc(1, huge), ENOMEM);
    FAILS(calloc(overflowing, 3), ENOMEM);
    FAILS(reallocarray(NULL, overflowing, 3), ENOMEM);
    FAILS(realloc(NULL, huge), ENOMEM);
    FAILS(aligned_alloc(64, huge), ENOMEM);
    FAILS(aligned_alloc(SIZE_MAX / 2 + 2, 64), EINVAL);
    FAILS(memalign(64, huge), ENOMEM);
    FAILS(valloc(huge), ENOMEM);
    FAILS(pvalloc(SIZE_MAX), ENOMEM);

    char *kept = malloc(10);
    strcpy(kept, "kept");
    FAILS(realloc(kept, huge), ENOMEM);
    FAILS(reallocarray(kept, overflowing, 3), ENOMEM);
    CHECK(strcmp(kept, "kept") == 0);
    free(kept);

    /* posix_memalign answers by its result: errno and *result stay as they were. */
    static char other;
    void *untouched = &other;
    errno = SOME_ERRNO;
    CHECK_EQUAL(posix_memalign(&untouched, 3, 10), EINVAL);
    CHECK_EQUAL(posix_memalign(&untouched, 4, 10), EINVAL);
    CHECK_EQUAL(posix_memalign(&untouched, 24, 10), EINVAL);
    CHECK_EQUAL(posix_memalign(&untouched, 0, 10), EINVAL);
    CHECK(untouched == &other);
    CHECK_EQUAL(posix_memalign(&untouched, 64, huge), ENOMEM);
    CHECK(untouched == &other);
}

/* The first call of a thread prepares its state. */
static void *first_calls_of_a_thread(void *block) {
    errno = SOME_ERRNO;
    free(block);
    CHECK_EQUAL(errno, SOME_ERRNO);
    void *p = malloc(1);
    CHECK_EQUAL(errno, SOME_ERRNO);
    return p;
}

int main(int argc, char **argv) {
    if (!is_mode(argc, argv, "plain")) start(argc, argv);
    for (int round = 0; round < 3; round++) {
        successes_keep_errno();
        zero_sizes();
        failures_say_why();
        pthread_t thread;
        void *result;
        CHECK_EQUAL(pthread_create(&thread, NULL, first_calls_of_a_thread, malloc(8)), 0);
        CHECK_EQUAL(pthread_join(thread, &result), 0);
        free(result);
    }
    return 0;
}
