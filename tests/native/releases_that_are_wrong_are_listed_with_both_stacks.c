/* Each wrong release is listed once, with who allocated, who released first and who released again, and is not passed on: this
 * program would not live to its end if it were. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "pairing.h"

NOINLINE void *allocate_here(size_t size) {
    void *p = malloc(size);
    NO_TAIL_CALL();
    return p;
}

NOINLINE void release_first_here(void *p) {
    free(p);
    NO_TAIL_CALL();
}

NOINLINE void release_again_here(void *p) {
    free(p);
    NO_TAIL_CALL();
}

NOINLINE void *resize_here(void *p, size_t size) {
    void *resized = realloc(p, size);
    NO_TAIL_CALL();
    return resized;
}

static struct nlt_pairing listed_by(void (*release)(void *), void *p) {
    uint32_t before = listed();
    errno = 7;
    release(p);
    CHECK_EQUAL(errno, 7);
    CHECK_EQUAL(listed(), before + 1);
    struct nlt_pairing bug = last_listed();
    CHECK_EQUAL(bug.address, (uintptr_t)p);
    CHECK(context_contains(bug.release_context, "release_again_here"));
    return bug;
}

static void double_free_names_allocation_and_both_releases(size_t size) {
    void *p = allocate_here(size);
    release_first_here(p);
    struct nlt_pairing bug = listed_by(release_again_here, p);
    CHECK_EQUAL(bug.kind, NLT_PAIRING_RELEASED_BEFORE);
    CHECK_EQUAL(bug.size_bytes, size);
    CHECK_EQUAL(bug.flags, 0);
    CHECK(context_contains(bug.allocated_context, "allocate_here"));
    CHECK(context_contains(bug.first_release_context, "release_first_here"));
    CHECK(bug.epoch != 0 && bug.block_epoch != 0);
}

static void address_that_realloc_left_is_a_released_one(void) {
    void *p = allocate_here(100), *wall = allocate_here(100);
    void *moved = resize_here(p, 100000);
    CHECK(moved != p);
    struct nlt_pairing bug = listed_by(release_again_here, p);
    CHECK_EQUAL(bug.kind, NLT_PAIRING_RELEASED_BEFORE);
    CHECK(context_contains(bug.allocated_context, "allocate_here"));
    CHECK(context_contains(bug.first_release_context, "resize_here"));
    release_first_here(moved);
    release_first_here(wall);
}

static void place_inside_a_block(size_t size, size_t at) {
    char *p = allocate_here(size);
    struct nlt_pairing bug = listed_by(release_again_here, p + at);
    CHECK_EQUAL(bug.kind, NLT_PAIRING_INSIDE_BLOCK);
    CHECK_EQUAL(bug.detail, at);
    CHECK_EQUAL(bug.size_bytes, size);
    CHECK(context_contains(bug.allocated_context, "allocate_here"));
    CHECK(is_live(p, size));
    release_first_here(p);
}

static char in_data[64] __attribute__((aligned(16))) = {1};

static void places_that_are_no_heap(void) {
    char on_stack[64];
    CHECK_EQUAL(listed_by(release_again_here, on_stack).kind, NLT_PAIRING_ON_STACK);
    CHECK_EQUAL(listed_by(release_again_here, in_data + 16).kind, NLT_PAIRING_IN_IMAGE);
    CHECK_EQUAL(listed_by(release_again_here, in_data + 8).kind, NLT_PAIRING_MISALIGNED);
    CHECK_EQUAL(listed_by(release_again_here, (void *)((uintptr_t)strlen & ~UINT64_C(15))).kind, NLT_PAIRING_IN_IMAGE);
}

static void *on_other_thread(void *unused) {
    double_free_names_allocation_and_both_releases(48);
    places_that_are_no_heap();
    return unused;
}

/* The caller gets a block, with what the address still had. */
static void resize_of_what_is_no_block_gives_a_block(void) {
    void *p = allocate_here(200);
    release_first_here(p);
    uint32_t before = listed();
    void *resized = resize_here(p, 300);
    CHECK_EQUAL(listed(), before + 1);
    struct nlt_pairing bug = last_listed();
    CHECK_EQUAL(bug.kind, NLT_PAIRING_RELEASED_BEFORE);
    CHECK_EQUAL(bug.flags, NLT_PAIRING_RESIZE);
    CHECK(context_contains(bug.release_context, "resize_here"));
    CHECK(is_live(resized, 300));
    release_first_here(resized);

    char *text = allocate_here(64);
    strcpy(text, "the beginning and the end");
    char *end = resize_here(text + 18, 128);
    CHECK_EQUAL(last_listed().kind, NLT_PAIRING_INSIDE_BLOCK);
    CHECK(strcmp(end, "the end") == 0);
    CHECK(is_live(end, 128) && is_live(text, 64));
    release_first_here(end);
    release_first_here(text);
    CHECK(resize_here(text, 0) == NULL);
    CHECK_EQUAL(listed(), before + 3);
}

NOINLINE void release_by_another_function_here(void *p) {
    pairing.wrong_function((uintptr_t)p, 0x1234);
    NO_TAIL_CALL();
}

static void wrong_function_is_listed_as_the_caller_says(void) {
    void *p = allocate_here(40);
    uint32_t before = listed();
    release_by_another_function_here(p);
    CHECK_EQUAL(listed(), before + 1);
    struct nlt_pairing bug = last_listed();
    CHECK_EQUAL(bug.kind, NLT_PAIRING_WRONG_FUNCTION);
    CHECK_EQUAL(bug.detail, 0x1234);
    CHECK(context_contains(bug.allocated_context, "allocate_here"));
    CHECK(context_contains(bug.release_context, "release_by_another_function_here"));
    release_first_here(p);
    release_by_another_function_here(p); /* no live block: nothing to say */
    CHECK_EQUAL(listed(), before + 1);
}

/* Nobody asks any more: the C library judges, and ends the process. */
static void off_passes_the_release_on(void) {
    void *p = allocate_here(64);
    pid_t child = fork();
    if (child == 0) {
        close(2);
        release_first_here(p);
        release_again_here(p);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    free(p);
}

/* A release that was made while nobody asked is none that was seen. */
static void earlier_period_accuses_nobody(void) {
    void *p = allocate_here(64);
    release_first_here(p);
    pairing.end();
    CHECK(pairing.begin());
    uint32_t before = listed();
    void *again = allocate_here(64);
    CHECK(again == p);
    release_first_here(again);
    CHECK_EQUAL(listed(), before);
}

int main(int argc, char **argv) {
    start(argc, argv);
    find_pairing();
    off_passes_the_release_on();
    CHECK(pairing.begin());
    double_free_names_allocation_and_both_releases(24);
    double_free_names_allocation_and_both_releases(100);
    double_free_names_allocation_and_both_releases(5000);
    double_free_names_allocation_and_both_releases(1 << 20);
    address_that_realloc_left_is_a_released_one();
    place_inside_a_block(100, 16);
    place_inside_a_block(100, 40);
    place_inside_a_block(100, 99);
    place_inside_a_block(100000, 32);
    place_inside_a_block(100000, 99984);
    places_that_are_no_heap();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, on_other_thread, NULL) == 0);
    pthread_join(thread, NULL);
    resize_of_what_is_no_block_gives_a_block();
    wrong_function_is_listed_as_the_caller_says();
    earlier_period_accuses_nobody();
    CHECK_EQUAL(shim.ledger->losses.uncertain_releases, 0);
    pairing.end();
    uint32_t before = listed();
    off_passes_the_release_on();
    CHECK_EQUAL(listed(), before);
    return 0;
}
