/* Machines that are made up of files: how much a copy may need, and which limit is the one that counts. */
#include "check.h"

#include <sys/stat.h>

#include "shim.h"

static char root[] = "/tmp/nlt-headroom-XXXXXX";

/* Under the root, folders and all. */
static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        CHECK(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    CHECK(file != NULL);
    CHECK(fputs(text, file) >= 0);
    CHECK_EQUAL(fclose(file), 0);
}

static void clear(void) {
    char command[600];
    snprintf(command, sizeof command, "rm -rf %s/*", root);
    CHECK_EQUAL(system(command), 0);
}

/* A process of 100 MB on a machine that has 1,000 left. */
static void machine(const char *groups) {
    clear();
    put("/proc/self/status", "Name:\tx\nVmPTE:\t 1024 kB\nVmData:\t 512000 kB\nVmStk:\t 1024 kB\nRssAnon:\t 101376 kB\n");
    put("/proc/meminfo", "MemTotal: 4096000 kB\nMemAvailable:   1024000 kB\nSwapFree:  0 kB\nCommitLimit: 2048000 kB\nCommitted_AS: 1843200 kB\n");
    put("/proc/sys/vm/overcommit_memory", "0\n");
    put("/proc/self/cgroup", groups);
}

static void expect(bool suffices, uint64_t needed_mb, uint64_t available_mb) {
    uint64_t needed, available;
    bool answer = nltp_headroom_suffices(root, &needed, &available);
    CHECK_EQUAL(needed >> 20, needed_mb);
    CHECK_EQUAL(available >> 20, available_mb);
    CHECK_EQUAL(answer, suffices);
}

int main(void) {
    CHECK(mkdtemp(root) != NULL);

    machine("0::/\n");
    expect(true, 100, 1000);

    /* Version 2: the tightest of the group and those around it; pages of files can be had back. */
    machine("0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.current", "314572800\n");
    put("/sys/fs/cgroup/a/memory.max", "419430400\n");
    put("/sys/fs/cgroup/a/memory.current", "367001600\n");
    expect(false, 100, 50);
    put("/sys/fs/cgroup/a/memory.stat", "anon 104857600\nfile 209715200\ninactive_file 73400320\nactive_file 31457280\n");
    expect(true, 100, 150);

    /* In a container: its own group is the root of what it can see. */
    machine("0::/docker/0123\n");
    put("/sys/fs/cgroup/memory.max", "209715200\n");
    put("/sys/fs/cgroup/memory.current", "157286400\n");
    expect(false, 100, 50);

    /* Version 1. */
    machine("12:cpu,cpuacct:/x\n5:hugetlb,memory:/x\n1:name=systemd:/x\n0::/\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "209715200\n");
    put("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "199229440\n");
    put("/sys/fs/cgroup/memory/x/memory.stat", "cache 0\ntotal_inactive_file 10485760\ntotal_active_file 0\n");
    expect(false, 100, 20);
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    expect(true, 100, 1000);

    /* The machine itself. */
    machine("0::/\n");
    put("/proc/meminfo", "MemAvailable:   51200 kB\nSwapFree:  10240 kB\n");
    expect(false, 100, 60);

    /* Where memory is promised only once, what is mapped counts, touched or not. */
    machine("0::/\n");
    put("/proc/sys/vm/overcommit_memory", "2\n");
    expect(false, 501, 200);

    /* Nothing can be told: the kernel has the last word. */
    clear();
    expect(true, 0, 0);

    /* No file is too long, and no line has to be one of those that are expected. */
    machine(":\n::\n0\n0:memory\n0:memory:\n9:memory:/../..\n0::no slash");
    expect(true, 100, 1000);
    char much[20000];
    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = 0;
    put("/proc/self/cgroup", much);
    put("/proc/meminfo", much);
    expect(true, 100, UINT64_MAX >> 20);
    clear();
    CHECK_EQUAL(rmdir(root), 0);
    return 0;
}
