#include "os.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

void *nltp_map(size_t size_bytes) {
    long result = nltp_syscall6(SYS_mmap, 0, (long)size_bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (result < 0 && result > -4096) return NULL;
    nltp_syscall3(SYS_madvise, result, (long)size_bytes, MADV_DONTDUMP);
    return (void *)result;
}

void nltp_unmap(void *start, size_t size_bytes) {
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

bool nltp_is_present(const void *page) {
    unsigned char present = 0;
    return nltp_syscall3(SYS_mincore, (long)page, 4096, (long)&present) == 0 && (present & 1);
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
            put_byte(text, (char)byte);
        }
    }
}
