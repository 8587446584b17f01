/* The shared home: another process reads the tables after a SIGKILL; a fork's child does not write to them; what stands in the way
 * (a file, a link, a file system without room) costs a line or some records, never the program. */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define KEPT 1000
#define SIZE 7777u

static void *volatile sink;

/* In the tracked child. */
static int keep_blocks(const char *then) {
    for (int i = 0; i < KEPT; i++) sink = malloc(SIZE);
    if (strcmp(then, "fork") == 0) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < KEPT; i++) sink = malloc(SIZE);
            _exit(0);
        }
        CHECK_EQUAL(waitpid(child, NULL, 0), child);
    }
    if (strcmp(then, "fill") == 0) {
        static void *blocks[300000];
        for (int i = 0; i < 300000; i++) blocks[i] = malloc(100);
        for (int i = 0; i < 300000; i++) free(blocks[i]);
    }
    if (strcmp(then, "fill") != 0) kill(getpid(), SIGKILL);
    return 0;
}

static int run(const char *self, const char *path, const char *then, const char *error_path) {
    pid_t child = fork();
    if (child == 0) {
        setenv("LD_PRELOAD", NLT_SHIM_PATH, 1);
        setenv("NATIVELEAKS_LEDGER", path, 1);
        int fd = open(error_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, 2);
        execl(self, self, "keep", then, (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

static const struct nlt_header *map_ledger(const char *path) {
    struct stat status;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &status) == 0);
    CHECK_EQUAL(status.st_mode & 0777, 0600);
    const struct nlt_header *header = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(header != MAP_FAILED);
    close(fd);
    CHECK_EQUAL(header->magic, NLT_LEDGER_MAGIC);
    CHECK_EQUAL((uint64_t)status.st_size, header->shared_bytes);
    return header;
}

static unsigned blocks_of_size(const struct nlt_header *header, uint32_t size) {
    unsigned found = 0;
    const struct nlt_table *table = &header->tables[NLT_TABLE_CHUNKS];
    const struct nlt_chunk *chunks = (const struct nlt_chunk *)((const char *)header + table->offset_bytes);
    for (uint32_t id = 1; id < table->count; id++) {
        const uint64_t *words = (const uint64_t *)((const char *)header + chunks[id].file_offset);
        for (uint64_t i = 0; i < (UINT64_C(1) << NLT_CHUNK_HEAP_SHIFT) >> chunks[id].heap_shift; i++)
            found += ((words[i] >> NLT_WORD_SIZE_SHIFT) & NLT_SIZE_ESCAPE) == size && words[i] >> NLT_WORD_CONTEXT_SHIFT != 0;
    }
    return found;
}

static bool says(const char *error_path, const char *text) {
    char buffer[1024] = "";
    int fd = open(error_path, O_RDONLY);
    ssize_t length = read(fd, buffer, sizeof buffer - 1);
    close(fd);
    return length > 0 && strstr(buffer, text) != NULL;
}

/* So small that not even the tables' first pages fit: back to private memory. Larger: recording stops somewhere. */
static void full_file_system(const char *self, const char *folder, const char *errors) {
    static const char *const sizes[] = {"size=64k", "size=1700k", "size=4m"};
    char path[256];
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, sizes[i]) != 0) {
            fprintf(stderr, "not root: a full file system was not tried\n");
            return;
        }
        snprintf(path, sizeof path, "%s/ledger", folder);
        int status = run(self, path, "fill", errors);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(says(errors, "the ledger could not be made") || map_ledger(path)->losses.dropped_blocks > 0);
        CHECK_EQUAL(umount2(folder, MNT_DETACH), 0);
    }
}

static void file_size_limit(const char *self, const char *path, const char *errors) {
    struct rlimit limit = {1 << 20, 1 << 20};
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_FSIZE, &limit);
        int status = run(self, path, "fill", errors);
        _exit(WIFEXITED(status) && WEXITSTATUS(status) == 0 && says(errors, "the ledger could not be made") ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    unlink(path);
}

int main(int argc, char **argv) {
    if (argc > 2) return keep_blocks(argv[2]);
    char folder[] = "/tmp/shared_ledger.XXXXXX", path[64], errors[64], link_path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/ledger", folder);
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    snprintf(errors, sizeof errors, "%s.errors", folder);

    int status = run(argv[0], path, "kill", errors);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_EQUAL(blocks_of_size(map_ledger(path), SIZE), KEPT);

    /* It is there now: a second process leaves it alone, says so, and records in memory of its own. */
    status = run(argv[0], path, "kill", errors);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(says(errors, "the ledger could not be made"));
    CHECK_EQUAL(symlink("/tmp/shared_ledger.nowhere", link_path), 0);
    run(argv[0], link_path, "kill", errors);
    CHECK(says(errors, "the ledger could not be made"));
    CHECK(access("/tmp/shared_ledger.nowhere", F_OK) != 0);
    CHECK_EQUAL(unlink(path), 0);

    run(argv[0], path, "fork", errors);
    CHECK_EQUAL(blocks_of_size(map_ledger(path), SIZE), KEPT);
    unlink(path);
    unlink(link_path);
    file_size_limit(argv[0], path, errors);
    full_file_system(argv[0], folder, errors);
    unlink(errors);
    CHECK_EQUAL(rmdir(folder), 0);
    return 0;
}
