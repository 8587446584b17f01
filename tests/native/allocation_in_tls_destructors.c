/* Destructors of thread-specific data run in rounds, in no order between libraries; some allocate in the last round, after the
 * shim's own destructor. C++'s thread_local destructors run before all of them. Every block counts. */
#include "check.h"

#include <limits.h>
#include <pthread.h>

#define THREADS 100
#define ROUNDS PTHREAD_DESTRUCTOR_ITERATIONS
#define KEYS 3

extern int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

static pthread_key_t keys[KEYS];
static void *kept[THREADS][KEYS + 1][ROUNDS];

struct round {
    int thread, key, count;
};

void destructor_of_key(void *value) {
    struct round *round = value;
    CHECK((kept[round->thread][round->key][round->count] = malloc(60)) != NULL);
    free(malloc(30));
    if (++round->count < ROUNDS) pthread_setspecific(keys[round->key], round);
    else free(round);
}

void destructor_of_thread_local(void *value) {
    int thread = *(int *)value;
    kept[thread][KEYS][0] = malloc(60);
    free(value);
}

static void *run(void *argument) {
    int thread = (int)(intptr_t)argument;
    for (int key = 0; key < KEYS; key++) {
        struct round *round = malloc(sizeof *round);
        *round = (struct round){thread, key, 0};
        pthread_setspecific(keys[key], round);
    }
    int *own = malloc(sizeof *own);
    *own = thread;
    CHECK_EQUAL(__cxa_thread_atexit_impl(destructor_of_thread_local, own, &__dso_handle), 0);
    return NULL;
}

/* Allocates for the first time in its destructors. */
static void *run_idle(void *argument) {
    pthread_setspecific(keys[0], argument);
    return NULL;
}

static void check_kept(void *block, const char *destructor) {
    static struct stack stack;
    CHECK(is_live(block, 60));
    stack_of(live_word(block).context, &stack);
    CHECK(stack_contains(&stack, destructor));
    CHECK_EQUAL(stack.flags, 0);
    uintptr_t address = (uintptr_t)block;
    free(block);
    CHECK(!live_at(address).there);
}

int main(int argc, char **argv) {
    /* One key from before the shim's own, the others from after it (late start). */
    CHECK_EQUAL(pthread_key_create(&keys[0], destructor_of_key), 0);
    start(argc, argv);
    for (int key = 1; key < KEYS; key++) CHECK_EQUAL(pthread_key_create(&keys[key], destructor_of_key), 0);

    for (int thread = 0; thread < THREADS; thread += 2) {
        pthread_t busy, idle;
        CHECK_EQUAL(pthread_create(&busy, NULL, run, (void *)(intptr_t)thread), 0);
        CHECK_EQUAL(pthread_join(busy, NULL), 0);
        struct round *round = malloc(sizeof *round);
        *round = (struct round){thread + 1, 0, 0};
        CHECK_EQUAL(pthread_create(&idle, NULL, run_idle, round), 0);
        CHECK_EQUAL(pthread_join(idle, NULL), 0);
    }
    for (int thread = 0; thread < THREADS; thread++) {
        bool idle = thread % 2 != 0;
        for (int key = 0; key < (idle ? 1 : KEYS); key++)
            for (int round = 0; round < ROUNDS; round++) check_kept(kept[thread][key][round], "destructor_of_key");
        if (!idle) check_kept(kept[thread][KEYS][0], "destructor_of_thread_local");
    }
    CHECK(table_count(NLT_TABLE_THREADS) <= 6); /* threads one after the other, and borrowed states */
    CHECK_EQUAL(shim.ledger->losses.lost_threads, 0);
    return 0;
}
