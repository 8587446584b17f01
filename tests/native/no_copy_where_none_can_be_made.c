/* Seccomp forbids clone, or reading; no process may be made; the process is not dumpable; no signal is free: each is a status of its own,
 * and the program goes on. */
#include "frozen.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static struct copy copy;

static int try_freeze(void) {
    int status = shim.freeze(&copy.frozen, copy.threads, MAX_THREADS);
    if (status != NLT_FROZEN) CHECK_EQUAL(copy.frozen.pid, 0);
    else thaw(&copy);
    int ended;
    CHECK_EQUAL(waitpid(-1, &ended, __WALL | WNOHANG), -1); /* nothing is left behind */
    CHECK_EQUAL(errno, ECHILD);
    free(malloc(1000));
    return status;
}

static void forbid(int call, int error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0), 0);
}

static void become_nobody(void) {
    if (getuid() == 0) CHECK_EQUAL(setuid(65534), 0);
}

static volatile bool done;

static void *run(void *unused) {
    while (!done) {}
    return unused;
}

static void check(int way) {
    switch (way) {
    case 0:
        forbid(SYS_clone, EPERM);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_FORBIDDEN);
        CHECK_EQUAL(copy.frozen.error, EPERM);
        break;
    case 1:
        forbid(SYS_clone, ENOSYS);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_FORBIDDEN);
        break;
    case 2:
        forbid(SYS_process_vm_readv, EPERM);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_UNREADABLE);
        break;
    case 3:
        forbid(SYS_clone, EAGAIN);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_TOO_MANY);
        break;
    case 4:
        forbid(SYS_clone, ENOMEM);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_NO_MEMORY);
        break;
    case 5: {
        become_nobody();
        struct rlimit none = {0, 0};
        CHECK_EQUAL(setrlimit(RLIMIT_NPROC, &none), 0);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_TOO_MANY);
        break;
    }
    case 6:
        become_nobody();
        CHECK_EQUAL(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), 0);
        CHECK_EQUAL(try_freeze(), NLT_FREEZE_UNREADABLE);
        break;
    case 7: { /* every signal is the program's own: threads that run are not stopped, and counted */
        pthread_t thread;
        for (int number = 34; number <= 64; number++) signal(number, SIG_IGN);
        CHECK_EQUAL(pthread_create(&thread, NULL, run, NULL), 0);
        uint32_t unknown = 0;
        for (int i = 0; i < 20; i++) {
            CHECK_EQUAL(try_freeze(), NLT_FROZEN);
            unknown += copy.frozen.unknown_threads;
        }
        CHECK(unknown > 0);
        done = true;
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        break;
    }
    case 8: { /* a thread that blocks all signals never gets one, not even when it unblocks them later */
        pthread_t thread;
        sigset_t all, before;
        sigfillset(&all);
        CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
        CHECK_EQUAL(pthread_create(&thread, NULL, run, NULL), 0);
        CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
        uint32_t unknown = 0;
        for (int i = 0; i < 20; i++) {
            CHECK_EQUAL(try_freeze(), NLT_FROZEN);
            unknown += copy.frozen.unknown_threads;
        }
        CHECK(unknown > 0);
        done = true;
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        break;
    }
    default: /* the next child would be the first of a new namespace */
        if (unshare(CLONE_NEWPID) != 0) _exit(SKIPPED);
        CHECK_EQUAL(shim.freeze(&copy.frozen, copy.threads, MAX_THREADS), NLT_FREEZE_FORBIDDEN);
        break;
    }
    _exit(0);
}

int main(int argc, char **argv) {
    start(argc, argv);
    for (int way = 0; way < 10; way++) {
        int status;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) check(way);
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != SKIPPED) dprintf(2, "way %d: %d\n", way, WEXITSTATUS(status));
        CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == SKIPPED);
    }
    return 0;
}
