/* Where the other threads stand, and keeping them there while the copy is made.
 *
 * A thread that runs gets a signal, whose handler notes the registers and waits. A thread that sleeps in the kernel gets none, because
 * its system call could fail with EINTR, which the program would see; the kernel tells its stack pointer (/proc/self/task/TID/syscall).
 * What only a callee-saved register of a sleeping thread points to counts as lost instead of undisposed: both fail.
 *
 * A running thread can still fall asleep between the look and the signal. Calls that the kernel would not restart by itself are then
 * restarted by the handler; what cannot be is counted. */
#define _GNU_SOURCE
#include "shim.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>

enum { ROUNDS = 4, PATIENCE_NS = 20000000, OUT_WITHIN_NS = 1000000000 };

struct place {
    struct nlt_frozen_thread thread;
    uint32_t round; /* in which it was last seen */
    uint32_t asked; /* was sent the signal */
    uint32_t answered;
    uint32_t stands; /* answered before the copy was made */
};

/* Never unmapped: a signal may be taken long after it was sent. */
static struct place *places;
static uint32_t place_count;

/* ---- the signal's handler --------------------------------------------------------------------------------------------- */

static uint32_t gate;    /* closed (1) while threads that take the signal are to wait; a futex */
static uint32_t answers; /* a futex */
static uint32_t sent, taken, inside, cut_calls;

static void futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    nltp_syscall6(SYS_futex, (long)word, operation | FUTEX_PRIVATE_FLAG, value, (long)timeout, 0, 0);
}

/* Calls that fail with EINTR after a handler, SA_RESTART or not (signal(7)), and do the same when they are made once more. */
static bool is_repeatable(uint32_t call) {
    switch (call) {
    case SYS_poll: case SYS_ppoll: case SYS_select: case SYS_pselect6:
    case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_epoll_pwait2:
    case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_futex:
    case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigtimedwait: case SYS_semop: case SYS_semtimedop:
        return true;
    default: return false;
    }
}

/* A system call preserves its arguments, but for the number, which its result replaced. Nearly everywhere the instruction before it
 * loads that number as a constant (mov $number, %eax): the call is made again from there. (41 b8 would load r8.) */
static void repeat_interrupted_call(greg_t *registers) {
    uint8_t code[8];
    uint32_t call;
    uintptr_t pc = (uintptr_t)registers[REG_RIP];
    if (registers[REG_RAX] != -EINTR) return;
    if (!nltp_peek(pc - sizeof code, code, sizeof code)) nltp_copy(code, "\0\0\0\0\0\0\x0f\x05", sizeof code); /* the worst */
    if (code[6] != 0x0f || code[7] != 0x05) return; /* no system call: the register just has this value */
    nltp_copy(&call, code + 2, sizeof call);
    if (code[1] == 0xb8 && (code[0] & 0xf0) != 0x40 && is_repeatable(call)) registers[REG_RIP] -= 7;
    else nltp_add(&cut_calls, 1);
}

static struct place *place_of(uint32_t tid) {
    uint32_t count = nltp_load_acquire(&place_count);
    for (uint32_t i = 0; i < count; i++)
        if (places[i].thread.tid == tid) return &places[i];
    return NULL;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
    nltp_add(&taken, 1);
    repeat_interrupted_call(registers);
    struct place *place = nltp_load_acquire(&gate) != 0 ? place_of(nltp_gettid()) : NULL;
    if (place != NULL && !place->answered) {
        uint64_t thread_pointer = 0;
        nltp_syscall3(SYS_arch_prctl, ARCH_GET_FS, (long)&thread_pointer, 0);
        place->thread.thread_pointer = thread_pointer;
        for (unsigned i = 0; i < NLT_REGISTERS; i++) place->thread.registers[i] = (uint64_t)registers[i];
        place->thread.kind = NLT_THREAD_STOPPED;
        nltp_store_release(&place->answered, 1);
        __atomic_fetch_add(&answers, 1, __ATOMIC_RELEASE);
        futex(&answers, FUTEX_WAKE, 1, NULL);
        while (nltp_load_acquire(&gate) != 0) futex(&gate, FUTEX_WAIT, 1, NULL);
    }
    __atomic_fetch_sub(&inside, 1, __ATOMIC_RELEASE);
}

/* ---- the signal -------------------------------------------------------------------------------------------------------- */

/* As the kernel has it (x86-64): libc's sigaction() could be somebody else's. */
struct disposition {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};
#define SA_RESTORER 0x04000000ul

enum { HIGHEST_SIGNAL = 63, LOWEST_SIGNAL = 36 }; /* the ends are popular: SIGRTMIN (34) is the runtime's own */
static int own_signal;                            /* 0: none is ours */

/* Debuggers and unwinders know the end of a handler by these bytes, which are libc's, too. */
__attribute__((naked, noinline)) static void restore(void) {
    __asm__("mov $15, %rax\n\tsyscall");
}

static bool is_of(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct disposition now;
    return nltp_syscall6(SYS_rt_sigaction, number, 0, (long)&now, sizeof now.mask, 0, 0) == 0 && now.handler == handler;
}

/* A signal that nobody uses; 0: there is none. */
static int take_signal(void) {
    if (own_signal != 0 && is_of(own_signal, on_signal)) return own_signal;
    const struct disposition ours = {on_signal, SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER, restore, UINT64_MAX};
    own_signal = 0;
    for (int number = HIGHEST_SIGNAL; number >= LOWEST_SIGNAL && own_signal == 0; number--) {
        if (!is_of(number, NULL)) continue; /* SIG_DFL */
        if (nltp_syscall6(SYS_rt_sigaction, number, (long)&ours, 0, sizeof ours.mask, 0, 0) == 0) own_signal = number;
    }
    return own_signal;
}

/* While a signal that was sent has not been taken it stays ours: by default it would end the process. */
static void give_signal_back(void) {
    const struct disposition unused = {0};
    if (own_signal == 0 || nltp_load_acquire(&taken) != sent) return;
    if (is_of(own_signal, on_signal)) nltp_syscall6(SYS_rt_sigaction, own_signal, (long)&unused, 0, sizeof unused.mask, 0, 0);
    own_signal = 0;
}

/* ---- the threads, as /proc shows them ----------------------------------------------------------------------------------- */

static const char *task_file(char path[64], uint32_t tid, const char *name) {
    struct nltp_text text = {path, 0, 63};
    nltp_put(&text, "/proc/self/task/");
    nltp_put_number(&text, tid);
    nltp_put(&text, name);
    path[text.length] = 0;
    return path;
}

/* A thread that blocks it would get it some day, or read it as one of its own (signalfd, sigwait). */
static bool blocks(uint32_t tid, int number) {
    char path[64], text[4096];
    long length = nltp_read_file(task_file(path, tid, "/status"), text, sizeof text - 1);
    if (length <= 0) return true;
    text[length] = 0;
    static const char name[] = "\nSigBlk:\t";
    for (const char *at = text; *at != 0; at++) {
        size_t n = 0;
        while (name[n] != 0 && at[n] == name[n]) n++;
        if (name[n] != 0) continue;
        uint64_t mask = 0;
        for (at += n; (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'); at++)
            mask = mask << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
        return (mask >> (number - 1) & 1) != 0;
    }
    return true;
}

/* The number behind the nth last "0x" of a line. */
static uint64_t hexadecimal_from_end(const char *text, long length, int nth) {
    for (long at = length - 2; at >= 0; at--) {
        if (text[at] != '0' || text[at + 1] != 'x' || --nth > 0) continue;
        uint64_t value = 0;
        for (const char *digit = text + at + 2; digit < text + length; digit++) {
            if (*digit >= '0' && *digit <= '9') value = value << 4 | (uint64_t)(*digit - '0');
            else if (*digit >= 'a' && *digit <= 'f') value = value << 4 | (uint64_t)(*digit - 'a' + 10);
            else break;
        }
        return value;
    }
    return 0;
}

/* "running", or of a thread that sleeps "number 6 arguments sp pc", outside of a call "-1 sp pc" (proc(5)). True: it runs. */
static bool look_at(struct nlt_frozen_thread *thread) {
    char path[64], text[256];
    long length = nltp_read_file(task_file(path, thread->tid, "/syscall"), text, sizeof text);
    thread->kind = NLT_THREAD_UNKNOWN;
    thread->registers[REG_RSP] = thread->registers[REG_RIP] = 0;
    if (length <= 0) return false;
    if (text[0] == 'r') return true;
    thread->registers[REG_RIP] = hexadecimal_from_end(text, length, 1);
    thread->registers[REG_RSP] = hexadecimal_from_end(text, length, 2);
    if (thread->registers[REG_RSP] != 0) thread->kind = NLT_THREAD_ASLEEP;
    return false;
}

static struct place *place_for(uint32_t tid) {
    struct place *place = place_of(tid);
    if (place != NULL || place_count == NLTP_MAX_THREADS) return place;
    place = &places[place_count];
    *place = (struct place){.thread = {.tid = tid}};
    nltp_store_release(&place_count, place_count + 1);
    return place;
}

/* True: it was asked to stop. */
static bool see(uint32_t tid, uint32_t round) {
    struct place *place = place_for(tid);
    if (place == NULL) return false;
    place->round = round;
    if (place->asked || !look_at(&place->thread) || own_signal == 0 || blocks(tid, own_signal)) return false;
    if (nltp_syscall3(SYS_tgkill, nltp_getpid(), tid, own_signal) != 0) return false;
    place->asked = 1;
    sent++;
    return true;
}

/* How many were asked to stop, or -errno. */
static int see_all(uint32_t caller, uint32_t round) {
    struct entry {
        uint64_t inode, offset;
        uint16_t bytes;
        uint8_t type;
        char name[];
    };
    char entries[4096] __attribute__((aligned(8)));
    int asked = 0;
    long folder = nltp_syscall6(SYS_openat, AT_FDCWD, (long)"/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0), length;
    if (folder < 0) return (int)folder;
    while ((length = nltp_syscall3(SYS_getdents64, folder, (long)entries, sizeof entries)) > 0) {
        for (long at = 0; at < length;) {
            const struct entry *entry = (const struct entry *)(entries + at);
            uint32_t tid = 0;
            for (const char *digit = entry->name; *digit >= '0' && *digit <= '9'; digit++) tid = tid * 10 + (uint32_t)(*digit - '0');
            if (tid != 0 && tid != caller) asked += see(tid, round);
            at += entry->bytes;
        }
    }
    nltp_syscall3(SYS_close, folder, 0, 0);
    return asked;
}

/* ---- all together ------------------------------------------------------------------------------------------------------ */

static void wait_for_answers(uint32_t wanted, uint64_t until_ns) {
    for (;;) {
        uint32_t now = nltp_load_acquire(&answers);
        uint64_t time_ns = nltp_clock_ns(CLOCK_MONOTONIC);
        if (now >= wanted || time_ns >= until_ns) return;
        struct timespec rest = {0, (long)(until_ns - time_ns)};
        futex(&answers, FUTEX_WAIT, now, &rest);
    }
}

/* A thread that is still on its way out of the last handler may hold a place. Mostly microseconds; a starved machine takes longer. */
static bool are_all_out(void) {
    const struct timespec rest = {0, 50000};
    uint64_t until_ns = nltp_clock_ns(CLOCK_MONOTONIC) + OUT_WITHIN_NS;
    while (nltp_load_acquire(&inside) != 0) {
        if (nltp_clock_ns(CLOCK_MONOTONIC) > until_ns) return false;
        nltp_syscall3(SYS_nanosleep, (long)&rest, 0, 0);
    }
    return true;
}

int nltp_stand_still(uint64_t *since_ns) {
    if (places == NULL) places = nltp_map(NLTP_MAX_THREADS * sizeof *places);
    if (places == NULL) return -ENOMEM;
    if (!are_all_out()) return -EBUSY;
    nltp_store_release(&place_count, 0);
    nltp_store_release(&answers, 0);
    *since_ns = nltp_clock_ns(CLOCK_MONOTONIC);
    uint64_t until_ns = *since_ns + PATIENCE_NS;
    if (take_signal() != 0) nltp_store_release(&gate, 1);
    uint32_t caller = nltp_gettid(), wanted = 0, round = 0;
    /* Each round looks at the sleeping ones again: some of them woke up meanwhile. */
    int asked;
    do {
        asked = see_all(caller, ++round);
        if (asked < 0) return asked;
        wait_for_answers(wanted += (uint32_t)asked, until_ns);
    } while (asked != 0 && round < ROUNDS);
    for (uint32_t i = 0; i < place_count; i++) {
        if (places[i].round != round) places[i].thread.tid = 0; /* it has ended */
        places[i].stands = nltp_load_acquire(&places[i].answered);
    }
    return 0;
}

void nltp_go_on(void) {
    nltp_store_release(&gate, 0);
    futex(&gate, FUTEX_WAKE, INT32_MAX, NULL);
    give_signal_back();
}

static uint64_t known_thread_pointer(uint32_t tid) {
    if (nltp_ledger == NULL) return 0;
    const struct nlt_thread *threads = nltp_table(NLT_TABLE_THREADS);
    uint32_t count = nltp_load_acquire(&nltp_ledger->tables[NLT_TABLE_THREADS].count);
    for (uint32_t id = 1; id < count; id++)
        if (nltp_load_acquire(&threads[id].tid) == tid) return nltp_load(&threads[id].thread_pointer);
    return 0;
}

void nltp_tell_threads(struct nlt_frozen *frozen, struct nlt_frozen_thread *threads, uint32_t capacity) {
    frozen->cut_calls = nltp_exchange(&cut_calls, 0);
    for (uint32_t i = 0; i < place_count; i++) {
        if (places[i].thread.tid == 0) continue;
        struct nlt_frozen_thread thread = {.tid = places[i].thread.tid};
        if (places[i].stands || !places[i].asked) thread = places[i].thread;
        if (thread.thread_pointer == 0) thread.thread_pointer = known_thread_pointer(thread.tid);
        if (thread.kind == NLT_THREAD_UNKNOWN) frozen->unknown_threads++;
        if (frozen->threads < capacity) threads[frozen->threads] = thread;
        frozen->threads++;
    }
}

void nltp_stand_still_after_fork(void) {
    nltp_store(&gate, 0);
    nltp_store(&inside, 0);
    sent = nltp_load(&taken);
}
