/* An allocator that replaces libc's is followed: the same program, block for block, has the same live set under each. It runs itself
 * under every one that the machine has; that its operators do not end in malloc, or that its blocks lie 8 bytes apart, must not
 * show. */
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

struct alignas(64) Aligned {
    char bytes[200];
};

static void *volatile kept;

/* 5,000 blocks of 8 bytes stay and none of 16, 500 arrays of 40 bytes, and one aligned object. */
static int allocate() {
    static void *blocks[10000];
    for (int i = 0; i < 10000; i += 2) {
        blocks[i] = malloc(8);
        blocks[i + 1] = malloc(16);
    }
    for (int i = 1; i < 10000; i += 2) free(blocks[i]);
    for (int i = 0; i < 500; i++) {
        kept = new char[40];
        kept = new int;
        delete static_cast<int *>(kept);
        Aligned *object = new Aligned;
        kept = object;
        delete object;
    }
    kept = new (std::nothrow) Aligned;
    return 0;
}

static long field(const std::string &line, const char *name) {
    size_t at = line.find("\"" + std::string(name) + "\":");
    return at == std::string::npos ? -1 : atol(line.c_str() + at + strlen(name) + 3);
}

static std::string run_under(const char *self, const std::string &libraries) {
    std::string stats = "/tmp/other_allocators." + std::to_string(getpid());
    unlink(stats.c_str());
    pid_t child = fork();
    if (child == 0) {
        setenv("LD_PRELOAD", libraries.c_str(), 1);
        setenv("NATIVELEAKS_STATS", stats.c_str(), 1);
        execl(self, self, "allocate", static_cast<char *>(nullptr));
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    char line[4096] = "";
    if (FILE *file = fopen(stats.c_str(), "r")) {
        if (fgets(line, sizeof line, file) == nullptr) line[0] = 0;
        fclose(file);
    }
    unlink(stats.c_str());
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? line : "";
}

int main(int argc, char **argv) {
    if (argc > 1) return allocate();
    const std::string shim = NLT_SHIM_PATH, folder = "/usr/lib/x86_64-linux-gnu/";
    std::string plain = run_under(argv[0], shim);
    if (plain.empty()) return fprintf(stderr, "the program does not run under the shim\n"), 1;
    int failures = 0, tried = 0;
    for (const char *name : {"libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2", "libmimalloc.so.3"}) {
        std::string library = folder + name;
        if (access(library.c_str(), R_OK) != 0) continue;
        for (const std::string &order : {shim + ":" + library, library + ":" + shim}) {
            tried++;
            std::string line = run_under(argv[0], order);
            /* An allocator may keep a few blocks of its own. */
            long blocks = field(line, "liveBlocks") - field(plain, "liveBlocks");
            bool same = !line.empty() && blocks >= -2 && blocks <= 8 && field(line, "missedFrees") == 0 && field(line, "dropped") == 0;
            if (same) continue;
            fprintf(stderr, "%s\n  alone: %s  under it: %s", order.c_str(), plain.c_str(), line.c_str());
            failures++;
        }
    }
    if (tried == 0) return fprintf(stderr, "no other allocator is installed (libjemalloc2, libtcmalloc-minimal4, libmimalloc2.0)\n"), 77;
    return failures != 0;
}
