# The hazards: a test for each, named after it. Most run twice: preloaded, and as a late start in a running process.

nlt_add_fixture(early_and_late)
nlt_add_fixture(same_address_small)
nlt_add_fixture(same_address_large)
nlt_add_fixture(imports_before)
nlt_add_fixture(imports_after)
nlt_add_fixture(frames)
enable_language(ASM)
target_sources(fixture_frames PRIVATE fixtures/frames_by_hand.S)
target_link_options(fixture_frames PRIVATE -s) # stripped, as distributions do

foreach(hazard
    allocation_in_signal_handlers
    allocation_in_tls_destructors
    constructors_before_ours_and_destructors_after_ours
    deep_recursion
    dlclose_and_reload_at_same_address
    exec_starts_afresh
    fork_while_other_thread_allocates
    fork_while_scopes_are_opened
    free_of_unknown_pointers_and_of_blocks_from_before_the_start
    frozen_copy_dies_with_its_process
    frozen_copy_holds_still
    late_start_covers_imports
    longjmp_over_frames
    no_copy_where_none_can_be_made
    pairs_that_match_are_never_called_wrong
    program_never_sees_the_frozen_copy
    realloc_semantics
    releases_that_are_wrong_are_listed_with_both_stacks
    results_errno_alignment_kept
    signal_stack_over_an_unmapped_stack
    sixty_four_threads_lossless
    sleeping_threads_are_not_interrupted
    stacks_that_are_guessed_are_marked
    stacks_through_optimised_native_code
    ten_thousand_threads_flat_memory
    ucontext_stacks
    vfork_and_posix_spawn
)
    nlt_add_preloaded_test(${hazard})
    nlt_add_late_test(${hazard})
endforeach()

# Without the shim: the expectations are glibc's own.
add_test(NAME results_errno_alignment_kept.plain COMMAND results_errno_alignment_kept plain)

# Another thread runs in each window between a record and the real call.
nlt_add_variant_test(sixty_four_threads_lossless yield)
nlt_add_variant_test(realloc_semantics yield)
nlt_add_variant_test(pairs_that_match_are_never_called_wrong yield)
nlt_add_variant_test(fork_while_other_thread_allocates yield)

# Every stack is compared with one that is walked afresh.
foreach(hazard
    allocation_in_signal_handlers
    allocation_in_tls_destructors
    deep_recursion
    dlclose_and_reload_at_same_address
    longjmp_over_frames
    signal_stack_over_an_unmapped_stack
    sixty_four_threads_lossless
    stacks_through_optimised_native_code
    ucontext_stacks
)
    nlt_add_variant_test(${hazard} verify)
endforeach()

# As on a C library without _dl_find_object().
nlt_add_variant_test(stacks_through_optimised_native_code oldlibc)
nlt_add_variant_test(dlclose_and_reload_at_same_address oldlibc)
nlt_add_variant_test(allocation_in_signal_handlers oldlibc)
nlt_add_variant_test(fork_while_other_thread_allocates oldlibc)

# Only where the shim is preloaded.
nlt_add_preloaded_test(closes_all_descriptors)
nlt_add_preloaded_test(memory_limit_rlimit_as)

# Two files of the shim, by themselves.
nlt_add_test(no_copy_without_headroom)
target_sources(no_copy_without_headroom PRIVATE ${PROJECT_SOURCE_DIR}/src/NativeShim/headroom.c ${PROJECT_SOURCE_DIR}/src/NativeShim/os.c)
target_include_directories(no_copy_without_headroom PRIVATE ${PROJECT_SOURCE_DIR}/src/NativeShim)

# Programs that run themselves under the shim.
nlt_add_test(shared_ledger)

# Only where it is not.
nlt_add_late_test(detach_restores_everything)
nlt_add_late_test(frees_missed_between_two_sessions)
nlt_add_late_test(install_and_detach_under_load)
nlt_add_late_test(install_and_detach_while_libraries_come_and_go)

target_link_libraries(constructors_before_ours_and_destructors_after_ours PRIVATE fixture_early_and_late)
target_link_libraries(late_start_covers_imports PRIVATE fixture_imports_before)
target_link_libraries(detach_restores_everything PRIVATE fixture_imports_before)
target_link_libraries(stacks_through_optimised_native_code PRIVATE fixture_frames)
target_link_libraries(stacks_that_are_guessed_are_marked PRIVATE fixture_frames)

# setuid programs have no test: the dynamic linker ignores LD_PRELOAD there (ld.so(8), secure-execution mode), and a test would
# have to install a setuid program as root.

include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    nlt_add_preloaded_test(exceptions_thrown_through_hooks)
    nlt_add_test(other_allocators)
    nlt_add_late_test(exceptions_thrown_through_hooks)
    target_compile_options(exceptions_thrown_through_hooks PRIVATE -Wno-missing-field-initializers)
endif()
