/* Threads that end give their state back. The table and the memory stay as large as the threads that live at one time. */
#include "check.h"

#include <pthread.h>

#define AT_ONCE 8
#define BATCHES 1250
#define WARM_UP 125

static long resident_kb(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &pages, &resident) == 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void *work(void *argument) {
    void *p[20];
    (void)argument;
    for (int i = 0; i < 20; i++) CHECK((p[i] = malloc(50)) != NULL);
    for (int i = 0; i < 20; i++) free(p[i]);
    return malloc(10); /* freed by another thread */
}

static void run_batch(void) {
    pthread_t threads[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, work, NULL), 0);
    for (int i = 0; i < AT_ONCE; i++) {
        void *block;
        CHECK_EQUAL(pthread_join(threads[i], &block), 0);
        CHECK(is_live(block, 10));
        free(block);
    }
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int i = 0; i < WARM_UP; i++) run_batch();
    uint32_t contexts = table_count(NLT_TABLE_CONTEXTS);
    struct nlt_thread before = totals();
    long resident = resident_kb();
    for (int i = WARM_UP; i < BATCHES; i++) run_batch();

    CHECK(table_count(NLT_TABLE_THREADS) <= 1 + 1 + 2 * AT_ONCE); /* the shared one, main's, the threads' with one borrowed each */
    CHECK(table_count(NLT_TABLE_CONTEXTS) <= contexts + 200);
    CHECK(resident_kb() - resident < 1024);
    struct nlt_thread after = totals();
    CHECK(after.allocated_blocks - before.allocated_blocks >= (BATCHES - WARM_UP) * AT_ONCE * 21);
    CHECK_EQUAL(shim.ledger->losses.lost_threads, 0);
    return 0;
}
