#!/usr/bin/env bash
# Real programs run unharmed under the preloaded shim: standard output, standard error and exit code are those of a run
# without it, and the statistics show that each process recorded and dropped nothing.
#
# usage: 30-real-programs.sh [--shim FILE] [--amount N] [PROGRAM...]
# PROGRAM is a name from tests/real-programs, or dotnet-build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shim=$root/artifacts/native/libnativeleakshim.so
amount=3
while [[ ${1:-} == --* && $# -gt 1 ]]; do
    case $1 in
        --shim) shim=$(realpath "$2") ;;
        --amount) amount=$2 ;;
        *) printf '%s: unknown option %s\n' "${0##*/}" "$1" >&2; exit 2 ;;
    esac
    shift 2
done
[[ -e $shim ]] || { printf '%s is missing: dotnet build makes it\n' "$shim" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# Build servers would outlive the build, and with it the statistics.
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
unset LD_PRELOAD NATIVELEAKS NATIVELEAKS_STATS NATIVELEAKS_REPORT

need_sqlite3() {
    command -v sqlite3 >/dev/null && return
    [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || return 0
    { DEBIAN_FRONTEND=noninteractive apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends sqlite3; } >/dev/null 2>&1 || true
}

# run NAME COMMAND...: in the same empty folder each time, because programs print paths.
run() {
    local name=$1 status=0
    shift
    rm -rf "$work/run"
    mkdir "$work/run"
    (cd "$work/run" && exec "$@") >"$work/$name.out" 2>"$work/$name.err" </dev/null || status=$?
    echo "exit code $status" >"$work/$name.status"
}

# compare NAME PROGRAM LEAST_PROCESSES COMMAND...
compare() {
    local name=$1 program=$2 least=$3 problems
    shift 3
    run plain "$@"
    rm -f "$work/stats"
    run preloaded env LD_PRELOAD="$shim" NATIVELEAKS_STATS="$work/stats" "$@"
    problems=$(differences; statistics_problems "$program" "$least")
    if [[ -z $problems ]]; then
        passed=$((passed + 1))
        printf 'ok    %s: %s\n' "$name" "$(summary)"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: %s\n%s\n' "$name" "$(summary)" "$problems"
    fi
}

skip() {
    skipped=$((skipped + 1))
    printf 'skip  %s: %s\n' "$1" "$2"
}

# What differs from run to run without any shim: how long it took.
without_times() {
    sed -E 's/^Time Elapsed .*/Time Elapsed/; s/\((in )?[0-9.,]+ (ms|s|sec|min)\)/(time)/' "$1" |
        if ((${sorted:-0})); then sort; else cat; fi
}

differences() {
    local what
    for what in out err status; do
        if ! cmp -s <(without_times "$work/plain.$what") <(without_times "$work/preloaded.$what"); then
            echo "      $what differs, < plain, > preloaded:"
            diff <(without_times "$work/plain.$what") <(without_times "$work/preloaded.$what") |
                head -20 | sed 's/^/      /' || true
        fi
    done
}

# Every line is a JSON object of this shape; each process recorded, none dropped anything, and the program is among them.
statistics_problems() {
    local program=$1 least=$2
    if [[ ! -s $work/stats ]]; then
        echo '      no statistics were written'
        return
    fi
    awk -v program="$program" -v least="$least" '
        function bad(what) { if (++problems <= 10) print "      " what ": " substr($0, 1, 400) }
        BEGIN {
            hex = "[0-9a-fA-F]"
            text = "([^\"\\\\[:cntrl:]]|\\\\[\"\\\\/bfnrt]|\\\\u" hex hex hex hex ")*"
            promised = "^[{]\"allocations\":[0-9]+(,\"[A-Za-z]+\":[0-9]+)+,\"command\":\"" text "\"[}]$"
        }
        $0 !~ promised { bad("not the JSON that is promised"); next }
        /^\{"allocations":0,/ { bad("recorded nothing") }
        !/"dropped":0,/ { bad("dropped allocations") }
        !/"walkDifferences":0,/ && /"walkDifferences":/ { bad("cached and fresh walks differ") }
        {
            command = $0
            sub(/.*,"command":"/, "", command)
            split(command, words, /[ "]/)
            sub(/.*\//, "", words[1])
            if (index(words[1], program) == 1) seen = 1
        }
        END {
            if (!seen) print "      no process of " program " wrote statistics"
            if (NR < least) print "      " NR " processes wrote statistics; at least " least " were expected"
            if (problems > 10) print "      and " problems - 10 " more"
        }' "$work/stats"
}

summary() {
    [[ -s $work/stats ]] || return 0
    awk '
        function field(name, text) { text = $0; return sub(".*\"" name "\":", "", text) ? text + 0 : 0 }
        {
            allocations += field("allocations"); approximate += field("approximateStacks")
            broken += field("brokenStacks"); truncated += field("truncated"); untracked += field("untrackedFrees")
        }
        END {
            printf "%d processes, %d allocations; stacks: %d broken, %d approximate, %d truncated; %d untracked frees",
                NR, allocations, broken, approximate, truncated, untracked
        }' "$work/stats"
}

# Of a copy, so that this repository's own build stays as it is; the sample takes the library, the shim and a package along.
build_copy() {
    mkdir "$work/repository"
    (
        cd "$root"
        { git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
            find . -type f -not -path '*/artifacts/*' -not -path '*/bin/*' -not -path '*/obj/*' -not -path './.git/*' -print0; } |
            tar --create --null --files-from=- --ignore-failed-read 2>/dev/null
    ) | tar --extract --directory="$work/repository"
    # shellcheck disable=SC2016 # for the inner shell
    sorted=1 compare dotnet-build dotnet 10 sh -c \
        'cp -r "$1"/. . && dotnet build samples/SqliteInterop --configuration Release -tl:off -m:1' \
        build "$work/repository"
}

main() {
    local script name wanted=" $* " least
    need_sqlite3
    for script in "$root"/tests/real-programs/*.sh; do
        name=${script##*/} name=${name%.sh}
        [[ $# -eq 0 || $wanted == *" $name "* ]] || continue
        if ! command -v "$name" >/dev/null; then
            skip "$name" 'it is not installed here'
            continue
        fi
        least=1
        if [[ $name == sh ]]; then least=$((1000 * amount)); fi
        compare "$name" "$name" "$least" sh "$script" "$amount"
    done
    if [[ $# -eq 0 || $wanted == *' dotnet-build '* ]]; then build_copy; fi
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0 && passed > 0))
}

main "$@"
