/* A working set of LIVE_BLOCKS blocks in which a random one is freed and replaced PAIRS times: churn PAIRS THREADS LIVE. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long pairs, live;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long resident_kb(void) {
    long size = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm != NULL && fscanf(statm, "%ld %ld", &size, &resident) != 2) resident = 0;
    if (statm != NULL) fclose(statm);
    return resident * 4;
}

static __attribute__((noinline)) void churn(void **set, uint64_t seed) {
    for (long i = 0; i < pairs; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        void **slot = &set[(seed >> 33) % (uint64_t)live];
        free(*slot);
        *slot = malloc(16 + ((seed >> 20) & 127));
    }
}

static void *worker(void *seed) {
    void **set = malloc((size_t)live * sizeof *set);
    for (long i = 0; i < live; i++) set[i] = malloc(16 + (size_t)(i * 37 & 127));
    uint64_t start = now_ns();
    churn(set, (uint64_t)(uintptr_t)seed);
    uint64_t *elapsed = malloc(sizeof *elapsed);
    *elapsed = now_ns() - start;
    return elapsed;
}

int main(int argc, char **argv) {
    pairs = argc > 1 ? atol(argv[1]) : 1000000;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    live = argc > 3 ? atol(argv[3]) : 1000;
    pthread_t others[64];
    for (int i = 1; i < threads; i++) pthread_create(&others[i], NULL, worker, (void *)(uintptr_t)(i + 1));
    uint64_t longest = *(uint64_t *)worker((void *)1);
    for (int i = 1; i < threads; i++) {
        void *elapsed;
        pthread_join(others[i], &elapsed);
        if (*(uint64_t *)elapsed > longest) longest = *(uint64_t *)elapsed;
    }
    printf("elapsed_ns=%llu\npeak_kb=%ld\n", (unsigned long long)longest, resident_kb());
    return 0;
}
