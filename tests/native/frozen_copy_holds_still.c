/* What threads write after the moment of the copy is not in it, and what a running thread had in registers only is known. */
#include "frozen.h"

#include <pthread.h>
#include <sys/syscall.h>

#define WRITERS 4

static volatile bool done;
static volatile uint64_t counters[WRITERS][2]; /* the second follows the first */
static volatile uint32_t tids[WRITERS + 2];
static volatile uint32_t ready;

static void *write_on(void *argument) {
    uint64_t id = (uint64_t)(uintptr_t)argument;
    tids[id] = (uint32_t)syscall(SYS_gettid);
    free(malloc(100));
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    while (!done) {
        counters[id][0]++;
        counters[id][1]++;
    }
    return NULL;
}

#define ONLY_IN_A_REGISTER UINT64_C(0x1234567890abc000)

static void *keep_in_register(void *unused) {
    tids[WRITERS] = (uint32_t)syscall(SYS_gettid);
    free(malloc(100));
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    /* Complemented in the code, so that the value stands nowhere but in r12. */
    __asm__ volatile("mov %0, %%r12\n\tnot %%r12\n1:\tcmpb $0, %1\n\tje 1b\n\txor %%r12d, %%r12d" ::"i"(~ONLY_IN_A_REGISTER),
                     "m"(done)
                     : "r12", "cc", "memory");
    return unused;
}

static int sleep_pipe[2];

static void *sleep_on(void *unused) {
    char byte;
    tids[WRITERS + 1] = (uint32_t)syscall(SYS_gettid);
    free(malloc(100));
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    CHECK_EQUAL(read(sleep_pipe[0], &byte, 1), 0); /* EINTR would be a -1 */
    return unused;
}

int main(int argc, char **argv) {
    start(argc, argv);
    pthread_t threads[WRITERS + 2];
    CHECK_EQUAL(pipe(sleep_pipe), 0);
    for (uint64_t i = 0; i < WRITERS; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, write_on, (void *)(uintptr_t)i), 0);
    CHECK_EQUAL(pthread_create(&threads[WRITERS], NULL, keep_in_register, NULL), 0);
    CHECK_EQUAL(pthread_create(&threads[WRITERS + 1], NULL, sleep_on, NULL), 0);
    while (ready < WRITERS + 2) usleep(1000);
    static struct copy copy;
    unsigned found = 0, sleeper_found = 0;
    for (int i = 0; i < 100; i++) {
        freeze(&copy);
        CHECK_EQUAL(copy.frozen.threads, WRITERS + 3);
        CHECK_EQUAL(copy.frozen.cut_calls, 0);
        uint64_t before[WRITERS], live[WRITERS];
        for (int w = 0; w < WRITERS; w++) {
            before[w] = word_in(&copy, &counters[w][0]);
            live[w] = counters[w][0];
            uint64_t second = word_in(&copy, &counters[w][1]);
            CHECK(second == before[w] || second + 1 == before[w]);
        }
        usleep(i < 10 ? 10000 : 0);
        for (int w = 0; w < WRITERS; w++) {
            CHECK_EQUAL(word_in(&copy, &counters[w][0]), before[w]);
            CHECK(live[w] >= before[w]);
        }
        const struct nlt_frozen_thread *keeper = thread_in(&copy, tids[WRITERS]);
        CHECK(keeper != NULL);
        for (int r = 0; r < (int)NLT_REGISTERS; r++) found += keeper->registers[r] == ONLY_IN_A_REGISTER;
        if (keeper->kind == NLT_THREAD_STOPPED) CHECK(keeper->thread_pointer == word_in(&copy, (void *)(uintptr_t)keeper->thread_pointer));

        const struct nlt_frozen_thread *sleeper = thread_in(&copy, tids[WRITERS + 1]);
        CHECK(sleeper != NULL);
        CHECK(sleeper->thread_pointer != 0);
        CHECK_EQUAL(word_in(&copy, (void *)(uintptr_t)sleeper->thread_pointer), sleeper->thread_pointer);
        if (sleeper->kind == NLT_THREAD_ASLEEP) { /* on its stack, below its thread storage */
            uint64_t sp = sleeper->registers[15];
            CHECK(sp < sleeper->thread_pointer && sleeper->thread_pointer - sp < (8 << 20));
            sleeper_found++;
        }

        const struct nlt_frozen_thread *caller = thread_in(&copy, (uint32_t)getpid());
        CHECK(caller != NULL && caller->kind == NLT_THREAD_CALLER);
        CHECK(caller->registers[15] < (uintptr_t)&found && (uintptr_t)&found - caller->registers[15] < (64 << 10));
        thaw(&copy);
    }
    /* Nothing promises that a starved machine lets a thread take its signal within the time that it is given. */
    CHECK(found >= 50);
    CHECK(sleeper_found >= 50);
    done = true;
    CHECK_EQUAL(close(sleep_pipe[1]), 0);
    for (int i = 0; i < WRITERS + 2; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    return 0;
}
