/* A handler can interrupt the program anywhere: also inside the recorder. What it allocates there is recorded like anything
 * else, and what the recorder was about to write is not lost. The handlers run on the smallest alternate stacks that are
 * of use, with a guard page below. */
#include "unwinder.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define WANTED 3000
#define MAX_PAIRS 4000000

static uintptr_t shim_start, shim_end;
static void *from_handler[WANTED];
static volatile int handled;
static volatile bool done;
static pthread_t main_thread;

/* glibc's malloc is not safe in a handler that interrupted glibc's malloc. In the shim it is: the shim stands before or after
 * the real call, never around it. */
static bool interrupted_shim(const ucontext_t *context) {
    uintptr_t pc = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    return pc >= shim_start && pc < shim_end;
}

void asynchronous(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    if (handled == WANTED || !interrupted_shim(context)) return;
    from_handler[handled] = malloc(500 + (size_t)handled);
    handled++;
    free(malloc(40));
}

void synchronous(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    check_stack_here();
    NO_TAIL_CALL();
}

static void *send_signals(void *unused) {
    (void)unused;
    while (!done) {
        pthread_kill(main_thread, SIGPROF);
        for (volatile int i = 0; i < 300; i++) {
        }
    }
    return NULL;
}

static void use_small_alternate_stack(void) {
    size_t size = (size_t)MINSIGSTKSZ * 4, mapped = (size + 4095) / 4096 * 4096;
    char *guarded = mmap(NULL, mapped + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guarded != MAP_FAILED);
    CHECK_EQUAL(mprotect(guarded + 4096, mapped, PROT_READ | PROT_WRITE), 0);
    stack_t stack = {.ss_sp = guarded + 4096, .ss_size = size};
    CHECK_EQUAL(sigaltstack(&stack, NULL), 0);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    CHECK_EQUAL(sigaction(signal, &action, NULL), 0);
}

NOINLINE void interrupted(void) {
    raise(SIGUSR1);
    NO_TAIL_CALL();
}

static void stacks_lead_through_the_handler(int flags) {
    handle(SIGUSR1, synchronous, flags);
    for (int i = 0; i < 10; i++) {
        interrupted();
        CHECK(stack_contains(&here_expected, "synchronous"));
        CHECK(stack_contains(&here_expected, "interrupted"));
        CHECK(stack_contains(&here_expected, "main"));
    }
}

static void find_shim_text(void) {
    Dl_info info;
    CHECK(dladdr((void *)shim.install, &info) != 0);
    shim_start = (uintptr_t)info.dli_fbase;
    shim_end = shim_start + (1 << 20);
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    char permissions[8], rest[512];
    while (fscanf(maps, "%lx-%lx %4s %511[^\n]", &start, &end, permissions, rest) == 4)
        if (permissions[2] == 'x' && start >= shim_start && start < shim_end) shim_end = end;
    fclose(maps);
}

static void exact_under_interruption(void) {
    enum { KEPT = 1000 };
    static void *kept[KEPT];
    handle(SIGPROF, asynchronous, SA_ONSTACK | SA_RESTART);
    main_thread = pthread_self();
    pthread_t sender;
    CHECK_EQUAL(pthread_create(&sender, NULL, send_signals, NULL), 0);
    struct nlt_thread before = totals();
    uint64_t made = 0;
    int kept_count = 0;
    for (int i = 0; i < MAX_PAIRS && handled < WANTED; i++) {
        void *p = malloc(64 + (size_t)(i & 15));
        made++;
        if (kept_count < KEPT && i % 64 == 0) kept[kept_count++] = p;
        else p = realloc(p, 200), made++, free(p);
    }
    done = true;
    pthread_join(sender, NULL);
    signal(SIGPROF, SIG_IGN);

    CHECK(handled > 0);
    struct nlt_thread after = totals();
    /* pthread_join may have freed and the sender's start allocated, both outside of the loop: their blocks are no pairs. */
    CHECK_EQUAL(after.allocated_blocks - before.allocated_blocks, made + 2 * (uint64_t)handled);
    CHECK_EQUAL(after.freed_blocks - before.freed_blocks, made - (uint64_t)kept_count + (uint64_t)handled);
    for (int i = 0; i < kept_count; i++) CHECK(live_word(kept[i]).there);
    for (int i = 0; i < handled; i++) {
        static struct stack stack;
        CHECK(is_live(from_handler[i], 500 + (uint64_t)i));
        stack_of(live_word(from_handler[i]).context, &stack);
        CHECK(stack_contains(&stack, "asynchronous"));
        CHECK(stack_contains(&stack, "main"));
        CHECK(!(stack.flags & (NLT_FRAME_BROKEN | NLT_FRAME_TRUNCATED)));
        free(from_handler[i]);
    }
    for (int i = 0; i < kept_count; i++) free(kept[i]);
}

int main(int argc, char **argv) {
    alarm(60);
    start(argc, argv);
    use_small_alternate_stack();
    stacks_lead_through_the_handler(0);
    stacks_lead_through_the_handler(SA_ONSTACK);
    find_shim_text();
    exact_under_interruption();
    return 0;
}
