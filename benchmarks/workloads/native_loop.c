/* Pairs of malloc and free below about 24 frames: native_loop PAIRS THREADS LIVE_BLOCKS.
 * Prints what it took by its own clock, so that process start-up stays out of the ratio. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long pairs;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Random sizes of 16 to 143 bytes, and the block is used: what a program does at the least. */
static __attribute__((noinline)) void loop(void) {
    uint64_t random = 1;
    for (long i = 0; i < pairs; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t size = 16 + (random >> 57);
        char *block = malloc(size);
        block[0] = block[size - 1] = (char)i;
        __asm__ volatile("" : : "r"(block) : "memory");
        free(block);
    }
}

/* Not a tail call: the frame must stay. */
static __attribute__((noinline)) int descend(int depth) {
    if (depth == 0) loop();
    else descend(depth - 1);
    __asm__ volatile("");
    return depth;
}

static void *worker(void *unused) {
    (void)unused;
    descend(20);
    return NULL;
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
