/* Whether a copy of the process could take memory away from the program.
 *
 * A copy costs little at first: both share all pages. Each page that the program then writes becomes two, so in the worst case all of
 * its anonymous memory does. That much must be free under every memory limit, or the OOM killer could come for the program. */
#include "shim.h"

#include <errno.h>

enum { TEXT_BYTES = 8192, PATH_BYTES = 1024 };
static const uint64_t NO_LIMIT = UINT64_MAX;

/* One file read into memory of its caller's stack. */
struct page {
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
};

static bool read_text(struct page *page, const char *root, const char *folder, const char *name) {
    struct nltp_text path = {page->path, 0, sizeof page->path - 1};
    nltp_put(&path, root);
    nltp_put(&path, folder);
    nltp_put(&path, name);
    page->path[path.length] = 0;
    long length = nltp_read_file(page->path, page->text, sizeof page->text - 1);
    page->text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* False where there is no number: "max". */
static bool number_at(const char *text, uint64_t *number) {
    while (*text == ' ' || *text == '\t') text++;
    if (*text < '0' || *text > '9') return false;
    for (*number = 0; *text >= '0' && *text <= '9'; text++) *number = *number * 10 + (uint64_t)(*text - '0');
    return true;
}

/* The number behind a name that begins a line; 0: no such line. */
static uint64_t field(const char *text, const char *name) {
    uint64_t number;
    for (const char *line = text; *line != 0;) {
        size_t n = 0;
        while (name[n] != 0 && line[n] == name[n]) n++;
        if (name[n] == 0 && number_at(line + n, &number)) return number;
        while (*line != 0 && *line++ != '\n') {}
    }
    return 0;
}

static uint64_t less(uint64_t from, uint64_t what) {
    return from > what ? from - what : 0;
}

struct cgroup_files {
    const char *base, *limit, *usage, *inactive, *active;
};
static const struct cgroup_files version1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                                             "total_inactive_file ", "total_active_file "};
static const struct cgroup_files version2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file ", "active_file "};

/* What one group leaves. Pages of files are given up before a limit is enforced. */
static uint64_t left_in_group(struct page *page, const char *root, const char *folder, const struct cgroup_files *files) {
    uint64_t limit, usage;
    if (!read_text(page, root, folder, files->limit) || !number_at(page->text, &limit)) return NO_LIMIT;
    if (!read_text(page, root, folder, files->usage) || !number_at(page->text, &usage)) return NO_LIMIT;
    if (!read_text(page, root, folder, "/memory.stat")) return less(limit, usage);
    return less(limit, less(usage, field(page->text, files->inactive) + field(page->text, files->active)));
}

/* The group of the process and all around it. In a container the path may be one of the host's: what can be found then is the root,
 * which is the container's own group. */
static uint64_t left_in_groups(struct page *page, const char *root, const char *path, const struct cgroup_files *files) {
    char folder[PATH_BYTES];
    struct nltp_text text = {folder, 0, sizeof folder - 1};
    nltp_put(&text, files->base);
    size_t base = text.length;
    for (; *path != 0 && *path != '\n' && text.length < text.capacity; path++) folder[text.length++] = *path;
    uint64_t least = NO_LIMIT;
    for (;;) {
        while (text.length > base && folder[text.length - 1] == '/') text.length--;
        folder[text.length] = 0;
        uint64_t left = left_in_group(page, root, folder, files);
        if (left < least) least = left;
        if (text.length == base) return least;
        while (text.length > base && folder[text.length - 1] != '/') text.length--;
    }
}

/* Whether a list of names with commas between them holds the name. */
static bool lists(const char *names, const char *end, const char *name) {
    while (names < end) {
        size_t n = 0;
        while (name[n] != 0 && names + n < end && names[n] == name[n]) n++;
        if (name[n] == 0 && (names + n == end || names[n] == ',')) return true;
        while (names < end && *names++ != ',') {}
    }
    return false;
}

/* A line of /proc/self/cgroup: number:controllers:path, without controllers for version 2 (cgroups(7)). */
static uint64_t left_by_line(struct page *page, const char *root, const char *line) {
    const char *names = line;
    while (*names != 0 && *names != '\n' && *names != ':') names++;
    if (*names != ':') return NO_LIMIT;
    const char *end = ++names;
    while (*end != 0 && *end != '\n' && *end != ':') end++;
    if (*end != ':') return NO_LIMIT;
    if (names == end) return left_in_groups(page, root, end + 1, &version2);
    return lists(names, end, "memory") ? left_in_groups(page, root, end + 1, &version1) : NO_LIMIT;
}

static uint64_t left_by_cgroups(struct page *page, const char *root) {
    char groups[TEXT_BYTES];
    if (!read_text(page, root, "/proc/self/cgroup", "")) return NO_LIMIT;
    nltp_copy(groups, page->text, sizeof groups);
    uint64_t least = NO_LIMIT;
    for (const char *line = groups; *line != 0;) {
        uint64_t left = left_by_line(page, root, line);
        if (left < least) least = left;
        while (*line != 0 && *line++ != '\n') {}
    }
    return least;
}

bool nltp_headroom_suffices(const char *root, uint64_t *needed_bytes, uint64_t *available_bytes) {
    struct page page;
    *needed_bytes = *available_bytes = 0;
    if (!read_text(&page, root, "/proc/self/status", "")) return true; /* nothing can be told; the kernel has the last word */
    *needed_bytes = (field(page.text, "RssAnon:") + field(page.text, "VmPTE:")) * 1024;
    uint64_t writable_bytes = (field(page.text, "VmData:") + field(page.text, "VmStk:")) * 1024, overcommit = 0;

    *available_bytes = left_by_cgroups(&page, root);
    bool has_policy = read_text(&page, root, "/proc/sys/vm/overcommit_memory", "") && number_at(page.text, &overcommit);
    read_text(&page, root, "/proc/meminfo", "");
    uint64_t free_bytes = field(page.text, "MemAvailable:") * 1024;
    if (free_bytes != 0) free_bytes += field(page.text, "SwapFree:") * 1024;
    if (free_bytes != 0 && free_bytes < *available_bytes) *available_bytes = free_bytes;
    /* Where memory is promised only once, the copy is promised as much as the program has mapped, touched or not: the kernel would make
     * the copy, and then refuse the program's next mapping. */
    uint64_t promised_bytes = less(field(page.text, "CommitLimit:"), field(page.text, "Committed_AS:")) * 1024;
    if (has_policy && overcommit == 2 && promised_bytes < writable_bytes) {
        *needed_bytes = writable_bytes;
        *available_bytes = promised_bytes;
    }
    return *available_bytes >= *needed_bytes;
}
