#include "os.h"
#include "include/nlt_control.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>

/* What nltp_map() handed out: reports must not take it for the program's. Entries that were given back are taken again. */
#define OWN_CAPACITY (1u << 15)
static struct nlt_range own[OWN_CAPACITY];
static uint32_t own_count;

static void note_own(uint64_t start, uint64_t size_bytes) {
    uint32_t used = nltp_load(&own_count);
    for (uint32_t i = 0; i < used && i < OWN_CAPACITY; i++) {
        uint64_t none = 0;
        if (nltp_load(&own[i].start) == 0 && nltp_cas(&own[i].start, &none, start)) {
            nltp_store(&own[i].size_bytes, size_bytes);
            return;
        }
    }
    uint32_t entry = nltp_add(&own_count, 1);
    if (entry >= OWN_CAPACITY) return;
    nltp_store(&own[entry].size_bytes, size_bytes);
    nltp_store_release(&own[entry].start, start);
}

static void forget_own(uint64_t start) {
    uint32_t used = nltp_load(&own_count);
    for (uint32_t i = 0; i < used && i < OWN_CAPACITY; i++) {
        if (nltp_load(&own[i].start) != start) continue;
        nltp_store(&own[i].size_bytes, 0);
        nltp_store_release(&own[i].start, 0);
        return;
    }
}

uint32_t nlt_own_memory(struct nlt_range *ranges, uint32_t capacity) {
    uint32_t used = nltp_load(&own_count), count = 0;
    for (uint32_t i = 0; i < used && i < OWN_CAPACITY && count < capacity; i++) {
        struct nlt_range range = {nltp_load_acquire(&own[i].start), nltp_load(&own[i].size_bytes)};
        if (range.start != 0) ranges[count++] = range;
    }
    return count;
}

void *nltp_map(size_t size_bytes) {
    long result = nltp_syscall6(SYS_mmap, 0, (long)size_bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (result < 0 && result > -4096) return NULL;
    nltp_syscall3(SYS_madvise, result, (long)size_bytes, MADV_DONTDUMP);
    note_own((uint64_t)result, size_bytes);
    return (void *)result;
}

void nltp_unmap(void *start, size_t size_bytes) {
    forget_own((uint64_t)start);
    nltp_syscall3(SYS_munmap, (long)start, (long)size_bytes, 0);
}

int nltp_append_file(const char *path, const char *text, size_t length) {
    long fd = nltp_syscall6(SYS_openat, AT_FDCWD, (long)path,
                            O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600, 0, 0);
    if (fd < 0) return (int)fd;
    long written = nltp_syscall3(SYS_write, fd, (long)text, (long)length);
    nltp_syscall3(SYS_close, fd, 0, 0);
    return written < 0 ? (int)written : 0;
}

long nltp_read_file(const char *path, char *buffer, size_t capacity) {
    long fd = nltp_syscall6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return fd;
    size_t total = 0;
    while (total < capacity) {
        long n = nltp_syscall3(SYS_read, fd, (long)(buffer + total), (long)(capacity - total));
        if (n <= 0) break;
        total += (size_t)n;
    }
    nltp_syscall3(SYS_close, fd, 0, 0);
    return (long)total;
}

int nlt_is_regular_file(const char *path) {
    struct stat status;
    return nltp_syscall6(SYS_newfstatat, AT_FDCWD, (long)path, (long)&status, AT_SYMLINK_NOFOLLOW, 0, 0) == 0 &&
           S_ISREG(status.st_mode);
}

void nltp_thread_name(char name[16]) {
    if (nltp_syscall3(SYS_prctl, PR_GET_NAME, (long)name, 0) != 0) name[0] = 0;
}

uint32_t nltp_gettid(void) {
    return (uint32_t)nltp_syscall3(SYS_gettid, 0, 0, 0);
}

uint32_t nltp_getpid(void) {
    return (uint32_t)nltp_syscall3(SYS_getpid, 0, 0, 0);
}

uint64_t nltp_clock_ns(int clock) {
    struct timespec now = {0};
    nltp_syscall3(SYS_clock_gettime, clock, (long)&now, 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool nltp_is_mapped(uintptr_t start, size_t size_bytes) {
    uintptr_t first = start & ~(uintptr_t)4095;
    uintptr_t last = (start + size_bytes - 1) & ~(uintptr_t)4095;
    for (uintptr_t page = first; page <= last; page += 4096) {
        unsigned char present;
        if (nltp_syscall3(SYS_mincore, (long)page, 4096, (long)&present) != 0) return false;
    }
    return true;
}

bool nltp_peek(uintptr_t from, void *to, size_t size_bytes) {
    struct iovec local = {to, size_bytes}, remote = {(void *)from, size_bytes};
    return nltp_syscall6(SYS_process_vm_readv, (long)nltp_getpid(), (long)&local, 1, (long)&remote, 1, 0) == (long)size_bytes;
}

void nltp_for_each_present_page(const void *start, size_t size_bytes, void (*visit)(void *page, void *context), void *context) {
    enum { PAGES = 512 };
    unsigned char present[PAGES];
    for (size_t at = 0; at < size_bytes; at += PAGES * 4096) {
        size_t length = size_bytes - at < PAGES * 4096 ? size_bytes - at : PAGES * 4096;
        char *first = (char *)(uintptr_t)start + at;
        if (nltp_syscall3(SYS_mincore, (long)first, (long)length, (long)present) != 0) continue; /* part of it was unmapped */
        for (size_t i = 0; i < (length + 4095) / 4096; i++)
            if (present[i] & 1) visit(first + i * 4096, context);
    }
}

const char *nltp_file_name(const char *path) {
    const char *name = path;
    for (; *path != 0; path++)
        if (*path == '/') name = path + 1;
    return name;
}

static void put_byte(struct nltp_text *text, char byte) {
    if (text->length < text->capacity) text->start[text->length++] = byte;
}

void nltp_put(struct nltp_text *text, const char *string) {
    while (*string != 0) put_byte(text, *string++);
}

void nltp_put_number(struct nltp_text *text, uint64_t value) {
    char digits[20];
    int n = 0;
    do digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (n > 0) put_byte(text, digits[--n]);
}

/* Bytes of the UTF-8 sequence that begins here; 0 where none does (RFC 3629: shortest forms only, no surrogates). */
static int utf8_length(const unsigned char *at) {
    static const struct { unsigned char first, last, second_first, second_last, length; } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (unsigned i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last) continue;
        if (forms[i].length > 1 && (at[1] < forms[i].second_first || at[1] > forms[i].second_last)) return 0;
        for (int n = 2; n < forms[i].length; n++)
            if ((at[n] & 0xc0) != 0x80) return 0; /* the terminating zero is none of these: nothing is read behind it */
        return forms[i].length;
    }
    return 0;
}

/* JSON is UTF-8, a command line is any bytes, and may be cut anywhere: what is no UTF-8 becomes U+FFFD. */
void nltp_put_escaped(struct nltp_text *text, const char *string) {
    static const char hex[] = "0123456789abcdef";
    for (; *string != 0; string++) {
        unsigned char byte = (unsigned char)*string;
        if (byte == '"' || byte == '\\') {
            put_byte(text, '\\');
            put_byte(text, (char)byte);
        } else if (byte < 0x20) {
            nltp_put(text, "\\u00");
            put_byte(text, hex[byte >> 4]);
            put_byte(text, hex[byte & 15]);
        } else {
            int length = utf8_length((const unsigned char *)string);
            if (length == 0) nltp_put(text, "\\ufffd");
            for (int i = 0; i < length; i++) put_byte(text, string[i]);
            string += length > 1 ? length - 1 : 0;
        }
    }
}
