/* No SIGCHLD, nothing to wait for, no process in the group, no descriptor that stays open in the copy. */
#include "frozen.h"

#include <fcntl.h>
#include <poll.h>

static volatile sig_atomic_t children_signalled;

static void on_child(int number) {
    (void)number;
    children_signalled++;
}

static void has_no_child(void) {
    int status;
    siginfo_t info;
    CHECK_EQUAL(waitpid(-1, &status, WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
    CHECK_EQUAL(waitpid(0, &status, WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
    CHECK_EQUAL(waitpid(-getpgrp(), &status, WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
    CHECK_EQUAL(waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
}

/* The group's members that /proc knows of. */
static int processes_in_group(void) {
    int count = 0;
    pid_t group = getpgrp();
    for (pid_t pid = getpid() - 1; pid < getpid() + 4000; pid++)
        if (getpgid(pid) == group) count++;
    return count;
}

static int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) != -1;
    return count;
}

int main(int argc, char **argv) {
    start(argc, argv);
    CHECK_EQUAL(setpgid(0, 0), 0);
    struct sigaction action = {.sa_handler = on_child};
    CHECK_EQUAL(sigaction(SIGCHLD, &action, NULL), 0);
    int members = processes_in_group(), descriptors = open_descriptors();
    static struct copy copy;
    for (int i = 0; i < 100; i++) {
        int ends[2];
        char byte;
        CHECK_EQUAL(pipe(ends), 0);
        errno = 1234;
        freeze(&copy);
        CHECK_EQUAL(errno, 1234);

        has_no_child();
        CHECK_EQUAL(processes_in_group(), members);
        CHECK_EQUAL(getpgid(copy.frozen.pid), copy.frozen.pid);

        /* A reader sees the end as soon as the program closes its own. */
        CHECK_EQUAL(close(ends[1]), 0);
        struct pollfd reader = {.fd = ends[0], .events = POLLIN};
        CHECK_EQUAL(poll(&reader, 1, 0), 1);
        CHECK_EQUAL(read(ends[0], &byte, 1), 0);
        CHECK_EQUAL(close(ends[0]), 0);

        /* A child of the program's own is the only one. */
        if (i % 10 == 0) {
            int status;
            pid_t child = fork();
            if (child == 0) {
                alarm(20);
                static struct copy of_child;
                freeze(&of_child);
                thaw(&of_child);
                _exit(7);
            }
            CHECK_EQUAL(TEMP_FAILURE_RETRY(waitpid(-1, &status, 0)), child);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
            CHECK_EQUAL(children_signalled, 1);
            children_signalled = 0;
        }

        /* What is sent to the group does not reach it. */
        struct sigaction ignored = {.sa_handler = SIG_IGN}, before;
        CHECK_EQUAL(sigaction(SIGTERM, &ignored, &before), 0);
        CHECK_EQUAL(kill(0, SIGTERM), 0);
        CHECK_EQUAL(sigaction(SIGTERM, &before, NULL), 0);
        word_in(&copy, &copy);

        thaw(&copy);
        has_no_child();
        CHECK_EQUAL(children_signalled, 0);
        CHECK_EQUAL(open_descriptors(), descriptors);
    }
    /* Each signal has the disposition and the state that it had. */
    for (int number = 34; number < 64; number++) {
        struct sigaction now;
        CHECK_EQUAL(sigaction(number, NULL, &now), 0);
        CHECK(now.sa_handler == SIG_DFL);
    }
    return 0;
}
