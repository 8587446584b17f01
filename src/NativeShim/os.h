/* The only door to system calls, atomics, byte work and formatting.
 *
 * Everything here may be called from inside a hook: nothing allocates, nothing touches errno, nothing goes through a
 * symbol that could be interposed. Kernel results are returned as the kernel gives them: -errno on failure. */
#ifndef NLTP_OS_H
#define NLTP_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define NLTP_LIKELY(x) __builtin_expect(!!(x), 1)
#define NLTP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NLTP_NOINLINE __attribute__((noinline))
#define NLTP_HIDDEN __attribute__((visibility("hidden")))

/* ---- system calls ------------------------------------------------------------------------------------------------ */

static inline long nltp_syscall6(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
static inline long nltp_syscall3(long number, long a, long b, long c) {
    return nltp_syscall6(number, a, b, c, 0, 0, 0);
}

/* Zeroed, private, not reserved, left out of core dumps: tables are large and mostly untouched. NULL on failure. */
void *nltp_map(size_t size_bytes);
void nltp_unmap(void *start, size_t size_bytes);

/* Appends once to a file that only its owner may read and that is not a symbolic link. Returns 0 or -errno. */
int nltp_append_file(const char *path, const char *text, size_t length);

/* Reads as much of a file as fits, from the start; returns the byte count or -errno. */
long nltp_read_file(const char *path, char *buffer, size_t capacity);

uint32_t nltp_gettid(void);
/* The calling thread's name, as the kernel keeps it. */
void nltp_thread_name(char name[16]);
uint32_t nltp_getpid(void);
uint64_t nltp_clock_ns(int clock);

/* True when every page of [start, start + size) is mapped. Costs a system call. */
bool nltp_is_mapped(uintptr_t start, size_t size_bytes);
/* Copies from memory of this process that may not be mapped, or not be readable: false then. Costs a system call. */
bool nltp_peek(uintptr_t from, void *to, size_t size_bytes);
/* Which pages of a range are in memory: calls back for each that is, in order. A page of a shared mapping that is not must not be
 * read: that would make it so. One system call for 512 pages. */
void nltp_for_each_present_page(const void *start, size_t size_bytes, void (*visit)(void *page, void *context), void *context);

/* ---- atomics: relaxed unless the name says otherwise --------------------------------------------------------------- */

#define nltp_load(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define nltp_store(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELAXED)
#define nltp_load_acquire(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define nltp_store_release(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define nltp_add(pointer, value) __atomic_fetch_add((pointer), (value), __ATOMIC_RELAXED)
#define nltp_exchange(pointer, value) __atomic_exchange_n((pointer), (value), __ATOMIC_ACQ_REL)
/* On failure *expected holds the value found. */
#define nltp_cas(pointer, expected, value)                                                                             \
    __atomic_compare_exchange_n((pointer), (expected), (value), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* A counter that only its own thread writes, while others read: no locked instruction. */
#define nltp_bump(pointer, value) nltp_store((pointer), nltp_load(pointer) + (value))

/* The moments between a record and the real call, where a mistake in their order would show if only another thread ran just then.
 * The build with NLT_YIELD_WINDOWS lets one run. */
#ifdef NLT_YIELD_WINDOWS
#define NLTP_WINDOW() ((void)nltp_syscall3(SYS_sched_yield, 0, 0, 0))
#else
#define NLTP_WINDOW() ((void)0)
#endif

/* ---- bytes and text ------------------------------------------------------------------------------------------------ */

static inline size_t nltp_length(const char *text) {
    size_t n = 0;
    while (text[n] != 0) n++;
    return n;
}
static inline bool nltp_equal(const char *a, const char *b) {
    while (*a != 0 && *a == *b) a++, b++;
    return *a == *b;
}
static inline void nltp_copy(void *to, const void *from, size_t size_bytes) {
    __builtin_memcpy(to, from, size_bytes);
}

/* The part of a path behind its last slash. */
const char *nltp_file_name(const char *path);

/* A text that grows to its capacity and then stays: for one line of output from places where stdio may not run. */
struct nltp_text {
    char *start;
    size_t length, capacity;
};
void nltp_put(struct nltp_text *text, const char *string);
void nltp_put_number(struct nltp_text *text, uint64_t value);
/* As the inside of a JSON string. */
void nltp_put_escaped(struct nltp_text *text, const char *string);

#endif
