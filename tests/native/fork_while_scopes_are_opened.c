/* The control functions have a lock. A child of fork must be able to use them, whatever another thread was doing. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>

#define FORKS 100

static volatile bool done;

static void *open_scopes(void *unused) {
    while (!done) {
        uint32_t tag;
        shim.scope_close(shim.scope_open(0, &tag));
    }
    return unused;
}

int main(int argc, char **argv) {
    start(argc, argv);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, open_scopes, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        uint32_t tag;
        int status;
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(20); /* kills a child that hangs, and fails the test */
            uint32_t scope = shim.scope_open(0, &tag);
            CHECK(scope != 0);
            shim.scope_close(scope);
            _exit(0);
        }
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 0);
    }
    done = true;
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return 0;
}
