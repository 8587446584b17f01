/* A thread in poll, epoll_wait, nanosleep, a semaphore or a pipe never sees EINTR, whether it sleeps all the time or goes to sleep again
 * and again. */
#include "frozen.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#define FREEZES 1000
#define WAYS 7

static volatile bool done;
static volatile uint64_t calls[2 * WAYS];
static int never[2], epoll;
static sem_t semaphore;

static void wait_in(int way, int ms) {
    struct pollfd reader = {.fd = never[0], .events = POLLIN};
    struct epoll_event event;
    struct timespec time = {0, ms * 1000000L}, until;
    struct timeval select_time = {0, ms * 1000};
    fd_set set;
    switch (way) {
    case 0: CHECK_EQUAL(poll(&reader, 1, ms), 0); break;
    case 1: CHECK_EQUAL(epoll_wait(epoll, &event, 1, ms), 0); break;
    case 2: CHECK_EQUAL(nanosleep(&time, NULL), 0); break;
    case 3:
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += ms * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        CHECK_EQUAL(sem_timedwait(&semaphore, &until), -1);
        CHECK_EQUAL(errno, ETIMEDOUT);
        break;
    case 4:
        FD_ZERO(&set);
        FD_SET(never[0], &set);
        CHECK_EQUAL(select(never[0] + 1, &set, NULL, NULL, &select_time), 0);
        break;
    case 5: CHECK_EQUAL(ppoll(&reader, 1, &time, NULL), 0); break;
    default: CHECK_EQUAL(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL), 0); break;
    }
}

/* Even: long sleeps. Odd: sleeps of a millisecond or none at all. */
static void *sleep_on(void *argument) {
    int id = (int)(intptr_t)argument;
    for (unsigned i = 0; !done; i++) {
        wait_in(id / 2, id % 2 == 0 ? 300 : (int)(i % 2));
        calls[id]++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    start(argc, argv);
    pthread_t threads[2 * WAYS];
    CHECK_EQUAL(pipe(never), 0);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, never[0], &event), 0);
    CHECK_EQUAL(sem_init(&semaphore, 0, 0), 0);
    for (intptr_t i = 0; i < 2 * WAYS; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, sleep_on, (void *)i), 0);
    static struct copy copy;
    unsigned stopped = 0;
    for (int i = 0; i < FREEZES; i++) {
        freeze(&copy);
        CHECK_EQUAL(copy.frozen.threads, 2 * WAYS + 1);
        CHECK_EQUAL(copy.frozen.cut_calls, 0);
        for (uint32_t t = 0; t < copy.frozen.threads; t++) stopped += copy.threads[t].kind == NLT_THREAD_STOPPED;
        thaw(&copy);
    }
    done = true;
    for (int i = 0; i < 2 * WAYS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK(stopped > 0); /* else no signal was ever sent, and nothing was tried */
    printf("%u stops in %d freezes\n", stopped, FREEZES);
    return 0;
}
