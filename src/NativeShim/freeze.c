/* The frozen copy: a clone of the process that runs nothing of it and waits to be read.
 *
 * It must not be seen. It has no exit signal, so neither SIGCHLD nor waitpid(-1) know of it. It shares the descriptors, so that a pipe
 * that the program closes is closed, and record locks stay where they are. It is in a process group of its own before any thread that was
 * stopped goes on. Debuggers of the program do not get to see it either. It is made by the raw system call, so that no atfork handler runs, and it makes nothing but raw
 * system calls, so that no destructor does. It dies with the thread that made it, hence also when the process ends or runs another
 * program; after such an exec that falls between freeze and thaw, a dead child that nobody reads may remain. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

enum { READY_WITHIN_NS = 1000000000 };

/* Written by the copy, in its own memory, when it is sure to die with the program. */
static volatile uint32_t is_bound;

/* ---- in the copy ------------------------------------------------------------------------------------------------------ */

static _Noreturn void stand_apart(uint32_t parent) {
    nltp_syscall6(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
    if (nltp_syscall3(SYS_getppid, 0, 0, 0) == (long)parent) { /* else it died before that could be known here */
        nltp_syscall6(SYS_prctl, PR_SET_NAME, (long)"nlt-frozen-copy", 0, 0, 0, 0);
        is_bound = 1;
        for (;;) nltp_syscall3(SYS_pause, 0, 0, 0); /* all signals are blocked: only SIGKILL ends it */
    }
    for (;;) nltp_syscall3(SYS_exit_group, 0, 0, 0);
}

/* ---- in the program ----------------------------------------------------------------------------------------------------- */

/* After unshare(CLONE_NEWPID) the next child is the first process of a new namespace, and when that dies no other can be made. */
static bool would_begin_namespace(void) {
    char own[64] = {0}, of_children[64] = {0};
    long length = nltp_syscall6(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/ns/pid", (long)own, sizeof own - 1, 0, 0);
    if (length <= 0) return false; /* no /proc */
    length = nltp_syscall6(SYS_readlinkat, AT_FDCWD, (long)"/proc/thread-self/ns/pid_for_children", (long)of_children,
                           sizeof of_children - 1, 0, 0);
    return length == -ENOENT || (length > 0 && !nltp_equal(own, of_children)); /* ENOENT: it has no process yet */
}

static void note_caller(struct nlt_frozen_thread *caller) {
    *caller = (struct nlt_frozen_thread){.tid = nltp_gettid(), .kind = NLT_THREAD_CALLER};
    caller->thread_pointer = (uint64_t)(uintptr_t)__builtin_thread_pointer();
    uint64_t *registers = caller->registers;
    __asm__ volatile("mov %%rbx, %0" : "=m"(registers[REG_RBX]));
    __asm__ volatile("mov %%rbp, %0" : "=m"(registers[REG_RBP]));
    __asm__ volatile("mov %%r12, %0" : "=m"(registers[REG_R12]));
    __asm__ volatile("mov %%r13, %0" : "=m"(registers[REG_R13]));
    __asm__ volatile("mov %%r14, %0" : "=m"(registers[REG_R14]));
    __asm__ volatile("mov %%r15, %0" : "=m"(registers[REG_R15]));
    __asm__ volatile("mov %%rsp, %0" : "=m"(registers[REG_RSP]));
    __asm__ volatile("lea 0(%%rip), %%rax\n\tmov %%rax, %0" : "=m"(registers[REG_RIP])::"rax");
}

static int status_of(long error) {
    switch (error) {
    case -EPERM: case -ENOSYS: case -EACCES: return NLT_FREEZE_FORBIDDEN;
    case -EAGAIN: return NLT_FREEZE_TOO_MANY;
    case -ENOMEM: return NLT_FREEZE_NO_MEMORY;
    default: return NLT_FREEZE_FAILED;
    }
}

/* When memory runs short after all, the copy is to go first. */
static void offer_to_oom_killer(int32_t pid) {
    char path[64];
    struct nltp_text text = {path, 0, sizeof path - 1};
    nltp_put(&text, "/proc/");
    nltp_put_number(&text, (uint64_t)pid);
    nltp_put(&text, "/oom_score_adj");
    path[text.length] = 0;
    long file = nltp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_CLOEXEC, 0, 0, 0);
    if (file < 0) return;
    nltp_syscall3(SYS_write, file, (long)"1000", 4);
    nltp_syscall3(SYS_close, file, 0, 0);
}

/* Waits until the copy cannot survive the program, and tries whether it can be read. Returns 0 or -errno. */
static long wait_until_bound(int32_t pid) {
    uint64_t until_ns = nltp_clock_ns(CLOCK_MONOTONIC) + READY_WITHIN_NS;
    for (;;) {
        uint32_t ready = 0;
        int64_t read = nlt_read_memory(pid, (uint64_t)(uintptr_t)&is_bound, &ready, sizeof ready);
        if (read < 0) return read;
        if (ready != 0 || nltp_clock_ns(CLOCK_MONOTONIC) > until_ns) return 0;
        struct timespec rest = {0, 50000};
        nltp_syscall3(SYS_nanosleep, (long)&rest, 0, 0);
    }
}

/* Inlined, a part of the caller's stack would not be where its stack pointer says. */
static NLTP_NOINLINE long make_copy(struct nlt_frozen_thread *caller) {
    uint32_t parent = nltp_getpid();
    note_caller(caller);
    long pid = nltp_syscall6(SYS_clone, CLONE_FILES | CLONE_UNTRACED, 0, 0, 0, 0, 0);
    if (pid == 0) stand_apart(parent);
    if (pid > 0) nltp_syscall3(SYS_setpgid, pid, pid, 0); /* the copy itself may get no processor for a while */
    return pid;
}

int nltp_freeze(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity) {
    *frozen = (struct nlt_frozen){0};
    uint64_t begun_ns = nltp_clock_ns(CLOCK_MONOTONIC), since_ns = begun_ns, all = UINT64_MAX, mask;
    if (!nltp_headroom_suffices("", &frozen->needed_bytes, &frozen->available_bytes)) return NLT_FREEZE_NO_HEADROOM;
    if (would_begin_namespace()) return NLT_FREEZE_FORBIDDEN;

    /* A handler of the program, run here, could wait for a thread that stands still. The copy inherits the mask. */
    nltp_syscall6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&mask, sizeof mask, 0, 0);
    struct nlt_frozen_thread caller;
    long result = nltp_stand_still(&since_ns);
    if (result == 0) result = make_copy(&caller);
    nltp_go_on();
    frozen->stopped_ns = nltp_clock_ns(CLOCK_MONOTONIC) - since_ns;
    nltp_syscall6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask, 0, 0);

    int status = NLT_FROZEN;
    if (result < 0) {
        status = status_of(result);
    } else {
        frozen->pid = (int32_t)result;
        offer_to_oom_killer(frozen->pid);
        if (capacity > 0) threads[0] = caller;
        frozen->threads = 1;
        nltp_tell_threads(frozen, threads, capacity);
        result = wait_until_bound(frozen->pid);
        if (result < 0) {
            status = status_of(result) == NLT_FREEZE_FORBIDDEN ? NLT_FREEZE_UNREADABLE : NLT_FREEZE_FAILED;
            nlt_thaw(frozen->pid);
            frozen->pid = 0;
        }
    }
    if (status != NLT_FROZEN) frozen->error = (int32_t)-result;
    frozen->took_ns = nltp_clock_ns(CLOCK_MONOTONIC) - begun_ns;
    return status;
}

void nlt_thaw(int32_t pid) {
    if (pid <= 0) return;
    nltp_syscall3(SYS_kill, pid, SIGKILL, 0);
    while (nltp_syscall6(SYS_wait4, pid, 0, __WALL, 0, 0, 0) == -EINTR) {}
}

int64_t nlt_read_memory(int32_t pid, uint64_t address, void *to, uint64_t size_bytes) {
    struct iovec local = {to, size_bytes}, remote = {(void *)(uintptr_t)address, size_bytes};
    return nltp_syscall6(SYS_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0);
}
