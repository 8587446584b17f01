#!/usr/bin/env bash
# The project's commands. Each does the set-up that it needs, on a machine that has the .NET 10 SDK.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
artifacts=$root/artifacts
native_packages=(cmake gcc libc6-dev make)
# Tools that some tests compare with, or serve to; without them those tests say so and are skipped.
test_packages=(binutils clang debuginfod dwz g++ llvm)

usage() {
    cat <<'USAGE'
usage: ./build.sh <command>

  sample [options]   build, then run samples/SqliteInterop with the options
  test               build, then run every test, C and C#
  prove              build, then run the long proofs in tests/prove
  pack               make the NuGet packages in artifacts/packages
  clean              remove everything that a build made
USAGE
}

fail() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# --- set-up -----------------------------------------------------------------------------------------------------------

prepare_environment() {
    export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_GENERATE_ASPNET_CERTIFICATE=false

    # Build servers would stay behind after the script has ended, and hold its output open.
    export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false

    # A service account often has no home that it can write to, and dotnet and NuGet need one.
    if [[ ! -d ${HOME:-} || ! -w $HOME ]]; then
        export HOME=$artifacts/home
        mkdir -p "$HOME"
    fi
}

require_dotnet() {
    local version
    command -v dotnet >/dev/null || fail 'the .NET SDK, 10.0 or newer, is needed: there is no dotnet on the PATH.'
    version=$(dotnet --version 2>/dev/null) || version=none
    [[ $version =~ ^([0-9]+)\. && ${BASH_REMATCH[1]} -ge 10 ]] ||
        fail "the .NET SDK, 10.0 or newer, is needed: dotnet --version says $version."
}

# A compiler without libc's headers is no compiler yet, so it is given one to read.
native_tools_work() {
    command -v cmake >/dev/null &&
        { command -v make || command -v ninja; } >/dev/null &&
        ${CC:-cc} -fsyntax-only -x c - <<<'#include <stdlib.h>' 2>/dev/null
}

require_native_tools() {
    if native_tools_work; then
        return
    fi
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        fail "cmake, make or a C compiler is missing. Install them: apt-get install ${native_packages[*]}"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${native_packages[@]}"
    native_tools_work || fail "cmake, make and a C compiler do not work although ${native_packages[*]} are installed."
}

set_up() {
    prepare_environment
    require_dotnet
    require_native_tools
}

offer_test_tools() {
    local package missing=()
    command -v dpkg-query >/dev/null || return 0
    for package in "${test_packages[@]}"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        printf 'build.sh: some tests will be skipped. For all of them: apt-get install %s\n' "${missing[*]}"
        return
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}" ||
        printf 'build.sh: %s could not be installed; the tests that need them will be skipped.\n' "${missing[*]}"
}

build() {
    dotnet build "$root/$1" --configuration Release
}

# --- commands ---------------------------------------------------------------------------------------------------------

run_sample() {
    build samples/SqliteInterop
    dotnet run --project "$root/samples/SqliteInterop" --configuration Release --no-build -- "$@"
}

passed=0 failed=0 skipped=0

run_tests() {
    local results=$artifacts/test-results
    rm -rf "$results"
    mkdir -p "$results"

    build NativeLeakTracker.sln
    cmake --build "$artifacts/native" --parallel 2

    local ctest_status=0 dotnet_status=0
    ctest --test-dir "$artifacts/native" --output-on-failure --timeout 300 \
        --output-junit "$results/ctest.xml" || ctest_status=$?
    dotnet test "$root/NativeLeakTracker.sln" --configuration Release --no-build \
        --logger trx --results-directory "$results" || dotnet_status=$?

    count_c_tests "$ctest_status" "$results/ctest.xml"
    count_managed_tests "$dotnet_status" "$results"/*.trx
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0 && passed > 0))
}

count_c_tests() {
    local status=$1 junit=$2 all bad not_run
    all=0 bad=0 not_run=0
    if [[ -f $junit ]]; then
        all=$(attribute "$junit" testsuite tests)
        bad=$(attribute "$junit" testsuite failures)
        not_run=$(($(attribute "$junit" testsuite skipped) + $(attribute "$junit" testsuite disabled)))
    fi
    add_counts "$((all - bad - not_run))" "$bad" "$not_run"
    count_broken_run ctest "$status" "$bad"
}

count_managed_tests() {
    local status=$1 trx good bad all_bad=0
    shift
    for trx in "$@"; do
        [[ -f $trx ]] || continue
        good=$(attribute "$trx" Counters passed)
        bad=$(($(attribute "$trx" Counters failed) + $(attribute "$trx" Counters error) +
            $(attribute "$trx" Counters timeout) + $(attribute "$trx" Counters aborted)))
        # The format counts ignored tests only in the total.
        add_counts "$good" "$bad" "$(($(attribute "$trx" Counters total) - good - bad))"
        all_bad=$((all_bad + bad))
    done
    count_broken_run 'dotnet test' "$status" "$all_bad"
}

add_counts() {
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# A runner that fails without a failed test has crashed or could not start: that is a failure too.
count_broken_run() {
    local runner=$1 status=$2 failures=$3
    if ((status != 0 && failures == 0)); then
        printf '%s ended with exit code %d although no test failed; counted as a failure.\n' "$runner" "$status"
        failed=$((failed + 1))
    fi
}

# attribute FILE ELEMENT NAME: a number in the first such element of an XML file; 0 without it.
attribute() {
    local text
    text=$(tr '\n\t' '  ' <"$1")
    if [[ $text =~ \<$2" "([^>]*)\> && " ${BASH_REMATCH[1]}" =~ " $3=\""([0-9]+) ]]; then
        printf '%d' "${BASH_REMATCH[1]}"
    else
        printf 0
    fi
}

run_proofs() {
    build NativeLeakTracker.sln
    local proof ran=0
    for proof in "$root"/tests/prove/*.sh; do
        [[ -x $proof ]] || continue
        printf '== %s\n' "${proof##*/}"
        "$proof"
        ran=$((ran + 1))
    done
    if ((ran == 0)); then
        echo 'There are no proofs in tests/prove yet.'
    else
        printf '%d proofs passed\n' "$ran"
    fi
}

pack() {
    local project
    for project in NativeLeakTracker NativeLeakTracker.MSTest NativeLeakTracker.NUnit NativeLeakTracker.XunitV3; do
        dotnet pack "$root/src/$project" --configuration Release --output "$artifacts/packages"
    done
}

clean() {
    rm -rf "$artifacts"
    find "$root" -name .git -prune -o -name '*.csproj' -printf '%h\0' |
        while IFS= read -r -d '' project; do
            rm -rf "$project/bin" "$project/obj"
        done
}

main() {
    local command=${1:-}
    shift || true
    case $command in
        sample) set_up; run_sample "$@" ;;
        test) set_up; offer_test_tools; run_tests ;;
        prove) set_up; offer_test_tools; run_proofs ;;
        pack) set_up; pack ;;
        clean) clean ;;
        *) usage >&2; exit 2 ;;
    esac
}

main "$@"
