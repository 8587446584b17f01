/* Pairs of malloc and free, as programs make them: native_loop PAIRS THREADS LIVE_BLOCKS [flat].
 * The loop runs below 20 frames. Each round calls down through three more to malloc, returns, and does the same to free:
 * 24 frames of this program from main to malloc, of which the inner three are new with every call. With `flat` the loop
 * itself calls malloc and free: the inner frames never change, and nothing hides what the tracker adds.
 * Prints what it took by its own clock, so that process start-up stays out of the ratio. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Keeps a frame a frame: not inlined, not cloned, nothing known about it at the call; and a call before these two is not a
 * tail call, because something still has to happen. */
#define FRAME __attribute__((noipa))
#define KEEP(value) __asm__ volatile("" : "+r"(value) : : "memory")
#define RETURN_HERE() __asm__ volatile("" : : : "memory")

static long pairs;
static int flat;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static FRAME void *make_block(size_t size) {
    void *block = malloc(size);
    KEEP(block);
    return block;
}

static FRAME void *make_node(size_t size) {
    void *block = make_block(size);
    KEEP(block);
    return block;
}

static FRAME void *make(size_t size) {
    void *block = make_node(size);
    KEEP(block);
    return block;
}

static FRAME void release_block(void *block) {
    free(block);
    RETURN_HERE();
}

static FRAME void release_node(void *block) {
    release_block(block);
    RETURN_HERE();
}

static FRAME void release(void *block) {
    release_node(block);
    RETURN_HERE();
}

/* Random sizes of 16 to 143 bytes, and the block is used: what a program does at the least. */
static uint64_t next_random(uint64_t random) {
    return random * 6364136223846793005u + 1442695040888963407u;
}

static void use(char *block, size_t size, long i) {
    block[0] = block[size - 1] = (char)i;
    KEEP(block);
}

static FRAME void called_loop(void) {
    uint64_t random = 1;
    for (long i = 0; i < pairs; i++) {
        random = next_random(random);
        size_t size = 16 + (random >> 57);
        char *block = make(size);
        use(block, size, i);
        release(block);
    }
}

static FRAME void flat_loop(void) {
    uint64_t random = 1;
    for (long i = 0; i < pairs; i++) {
        random = next_random(random);
        size_t size = 16 + (random >> 57);
        char *block = malloc(size);
        use(block, size, i);
        free(block);
    }
}

/* Functions of their own, not one that recurses: a real stack seldom holds the same return address 20 times. */
#define DESCEND(depth, next)            \
    static FRAME int descend_##depth(void) { \
        int result = next;              \
        KEEP(result);                   \
        return result + 1;              \
    }

static FRAME int descend_0(void) {
    if (flat) flat_loop();
    else called_loop();
    return 0;
}
DESCEND(1, descend_0())
DESCEND(2, descend_1())
DESCEND(3, descend_2())
DESCEND(4, descend_3())
DESCEND(5, descend_4())
DESCEND(6, descend_5())
DESCEND(7, descend_6())
DESCEND(8, descend_7())
DESCEND(9, descend_8())
DESCEND(10, descend_9())
DESCEND(11, descend_10())
DESCEND(12, descend_11())
DESCEND(13, descend_12())
DESCEND(14, descend_13())
DESCEND(15, descend_14())
DESCEND(16, descend_15())
DESCEND(17, descend_16())
DESCEND(18, descend_17())
DESCEND(19, descend_18())

static void *worker(void *unused) {
    int depth = descend_19();
    KEEP(depth);
    return unused;
}

static void print_peak(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0) printf("peak_kb=%ld\n", strtol(line + 6, NULL, 10));
    if (status != NULL) fclose(status);
}

int main(int argc, char **argv) {
    pairs = argc > 1 ? atol(argv[1]) : 10000000;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    long live = argc > 3 ? atol(argv[3]) : 0;
    flat = argc > 4 && strcmp(argv[4], "flat") == 0;
    if (pairs < 0 || threads < 1 || threads > 64 || live < 0 || (argc > 4 && !flat)) {
        fputs("usage: native_loop PAIRS THREADS LIVE_BLOCKS [flat]\n", stderr);
        return 2;
    }
    void **kept = live > 0 ? malloc((size_t)live * sizeof *kept) : NULL;
    for (long i = 0; i < live; i++) kept[i] = malloc(16 + (size_t)(i * 37 & 127));

    uint64_t start = now_ns();
    pthread_t others[64];
    for (int i = 1; i < threads; i++) pthread_create(&others[i], NULL, worker, NULL);
    worker(NULL);
    for (int i = 1; i < threads; i++) pthread_join(others[i], NULL);
    printf("elapsed_ns=%llu\n", (unsigned long long)(now_ns() - start));
    print_peak();
    return 0;
}
