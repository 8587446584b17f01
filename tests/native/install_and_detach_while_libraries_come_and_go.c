/* Another thread opens and closes libraries while imports are rebound: no slot of a closed library is written, and no page of
 * one that is still being relocated is made read-only. */
#include "check.h"

#include <pthread.h>

static volatile bool done;
static volatile unsigned loads;

static void *load_and_unload(void *path) {
    for (unsigned i = 0; !done; i++) {
        void *library = dlopen(path, (i % 2 == 0 ? RTLD_NOW : RTLD_LAZY) | RTLD_LOCAL);
        CHECK(library != NULL);
        void *(*allocate)(int, size_t) = (void *(*)(int, size_t))dlsym(library, "import_allocate");
        void (*release)(int, void *) = (void (*)(int, void *))dlsym(library, "import_free");
        CHECK(allocate != NULL && release != NULL);
        for (int way = 0; way < 2; way++) release(way, allocate(way, 20));
        CHECK_EQUAL(dlclose(library), 0);
        loads++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    alarm(60);
    CHECK(is_mode(argc, argv, "late"));
    load_shim();
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, load_and_unload, NLT_FIXTURES_DIRECTORY "/libimports_after.so"), 0);
    for (int session = 0; session < 1500; session++) {
        install_and_record();
        free(malloc(10));
        CHECK_EQUAL(shim.detach(), NLT_OK);
    }
    done = true;
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(loads > 0);
    return 0;
}
