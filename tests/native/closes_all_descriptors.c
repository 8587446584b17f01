/* Daemons close every descriptor and open their own at the same numbers. The tables stay, the statistics still come, and
 * nothing of ours lands in the program's files. */
#include "check.h"

#include <fcntl.h>
#include <sys/wait.h>

static _Noreturn void program(const char *own_path) {
    start(1, NULL);
    for (int fd = 0; fd < 1024; fd++) close(fd);
    for (int i = 0; i < 6; i++) { /* 0 to 5 are the program's now */
        int fd = open(own_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd != i || write(fd, "own", 3) != 3) _exit(4);
        lseek(fd, 0, SEEK_SET);
    }
    for (int i = 0; i < 1000; i++) {
        void *p = malloc(200);
        if (!is_live(p, 200)) _exit(5);
        free(p);
    }
    exit(0);
}

static size_t read_all(const char *path, char *text, size_t capacity) {
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, capacity - 1);
    CHECK(length >= 0);
    text[length] = 0;
    close(fd);
    return (size_t)length;
}

int main(int argc, char **argv) {
    if (is_mode(argc, argv, "program")) program(argv[2]);
    char directory[] = "/tmp/nlt-closes-all-XXXXXX", stats[64], own[64], text[4096], expected[32];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(stats, sizeof stats, "%s/stats", directory);
    snprintf(own, sizeof own, "%s/own", directory);
    CHECK_EQUAL(setenv("NATIVELEAKS_STATS", stats, 1), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(argv[0], argv[0], "program", own, (char *)NULL);
        _exit(2);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(read_all(own, text, sizeof text), 3);
    CHECK_EQUAL(strcmp(text, "own"), 0);
    size_t length = read_all(stats, text, sizeof text);
    CHECK(length > 0 && text[length - 1] == '\n');
    CHECK(strchr(text, '\n') == text + length - 1); /* one line */
    snprintf(expected, sizeof expected, "\"pid\":%d,", pid);
    CHECK(strstr(text, expected) != NULL);
    unlink(stats);
    unlink(own);
    rmdir(directory);
    return 0;
}
