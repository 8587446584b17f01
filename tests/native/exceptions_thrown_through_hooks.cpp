// C++ on top of the hooks: operator new that fails and throws std::bad_alloc, exceptions that unwind past frames the shim
// remembers, constructors that throw after their memory was allocated.
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "check.h"
}

static volatile size_t huge = PTRDIFF_MAX;

struct ThrowsWhenMade {
    char bytes[100];
    ThrowsWhenMade() { throw std::runtime_error("made"); }
};

static NOINLINE int descend(int depth, std::vector<std::string *> &kept) {
    std::string local(1000, 'x');
    kept.push_back(new std::string(100, 'y'));
    if (depth == 0) throw std::runtime_error("at the bottom");
    return descend(depth - 1, kept) + 1;
}

static NOINLINE void one_round(int depth) {
    int caught = 0;
    try {
        char *p = new char[huge];
        CHECK(p == nullptr);
    } catch (const std::bad_alloc &) {
        caught++;
    }
    CHECK(new (std::nothrow) char[huge] == nullptr);
    try {
        delete new ThrowsWhenMade;
    } catch (const std::runtime_error &) {
        caught++;
    }
    std::vector<std::string *> kept;
    try {
        descend(depth, kept);
    } catch (const std::runtime_error &) {
        caught++;
    }
    CHECK_EQUAL(caught, 3);
    CHECK_EQUAL(kept.size(), depth + 1);
    for (std::string *text : kept) {
        CHECK(is_live(text, sizeof *text));
        CHECK(is_live(text->data(), 101));
        delete text;
    }
}

int main(int argc, char **argv) {
    start(argc, argv);
    one_round(3); // what the C++ runtime allocates once and keeps
    nlt_thread before = totals();
    for (int i = 0; i < 100; i++) one_round(i % 20);
    nlt_thread after = totals();
    CHECK(after.allocated_blocks - before.allocated_blocks > 1000);
    CHECK_EQUAL(after.allocated_blocks - before.allocated_blocks, after.freed_blocks - before.freed_blocks);
    CHECK_EQUAL(after.allocated_bytes - before.allocated_bytes, after.freed_bytes - before.freed_bytes);
    return 0;
}
