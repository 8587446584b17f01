/* However the program ends, or becomes another one: by exit, by a signal, by exec, in the thread that froze it or in another one. */
#include "frozen.h"

#include <pthread.h>
#include <sys/prctl.h>

static struct copy copy;
static int report;

static void freeze_and_report(void) {
    freeze(&copy);
    CHECK_EQUAL(write(report, &copy.frozen.pid, sizeof copy.frozen.pid), sizeof copy.frozen.pid);
}

static void *in_thread(void *unused) {
    freeze_and_report();
    pause();
    return unused;
}

static _Noreturn void end(int way) {
    pthread_t thread;
    switch (way) {
    case 0: freeze_and_report(); exit(0);
    case 1: freeze_and_report(); _exit(0);
    case 2: freeze_and_report(); raise(SIGKILL); break;
    case 3: freeze_and_report(); execl("/bin/sleep", "sleep", "1", (char *)NULL); break;
    default:
        CHECK_EQUAL(pthread_create(&thread, NULL, in_thread, NULL), 0);
        usleep(100000);
        if (way == 4) execl("/bin/sleep", "sleep", "1", (char *)NULL);
        exit(0);
    }
    _exit(1);
}

int main(int argc, char **argv) {
    start(argc, argv);
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* its orphans come to us */
    for (int way = 0; way < 6; way++) {
        int ends[2], status;
        CHECK_EQUAL(pipe(ends), 0);
        report = ends[1];
        pid_t program = fork();
        CHECK(program >= 0);
        if (program == 0) end(way);
        int32_t pid;
        CHECK_EQUAL(read(ends[0], &pid, sizeof pid), sizeof pid);
        CHECK_EQUAL(waitpid(program, &status, 0), program);
        /* Of a copy that hangs this would never return. */
        pid_t orphan = waitpid(pid, &status, __WALL);
        CHECK(orphan == pid || (orphan == -1 && errno == ECHILD));
        if (orphan == pid) CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK_EQUAL(kill(pid, 0), -1);
        close(ends[0]);
        close(ends[1]);
    }
    return 0;
}
