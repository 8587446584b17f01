#!/usr/bin/env bash
# Some hundred and sixty ways to leak, each in a clean and a leaking form (tests/fixtures/Matrix): every leak is found, with its blocks, bytes, verdict
# and line, and no clean form is blamed, however the program is compiled, jitted, collected and recorded; all in one process, and each in a
# process of its own. Prints the table of docs/verdict-matrix.md.
#
#   tests/prove/60-verdicts.sh [--quick]     --quick: two configurations, and no processes of their own
#
# All of it takes 11 minutes on a quiet machine, more than an hour on a busy one; NLT_MATRIX_EVERY=3 runs each third case.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shim=$root/artifacts/native/libnativeleakshim.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
every=${NLT_MATRIX_EVERY:-1}

program() {
    printf '%s/tests/fixtures/%s/bin/Release/net10.0/%s.dll' "$root" "$1" "$1"
}

# A number of the summary that `Matrix all` ends with.
number() {
    sed -n "s/^{\"summary\":true.*\"$2\":\([0-9]*\).*/\1/p" "$1"
}

# What was wrong, without the reports.
complain() {
    { grep '"ok":false' "$1" || true; } | sed 's/,"leaks":\[.*//' >&2
}

row() {
    local name=$1 lines=$2
    printf '| %s | %d / %d | %d / %d | %d | %d | %d |\n' "$name" \
        "$(number "$lines" found)" "$(number "$lines" seeded)" \
        "$(($(number "$lines" cleanWithAlarm) + $(number "$lines" leakingWithAlarm)))" "$(number "$lines" clean)" \
        "$(number "$lines" wrongVerdicts)" "$(number "$lines" wrongLines)" "$(number "$lines" wrongHolders)"
}

# all NAME BUILD VARIABLE...: every case in one process.
all() {
    local name=$1 build=$2 lines=$work/lines
    shift 2
    env "$@" dotnet "$(program "$build")" all "$every" >"$lines" 2>"$work/errors" || failed=1
    if ! grep -q '^{"summary"' "$lines"; then
        printf '%s: it did not come to its end, the last line being\n' "$name" >&2
        tail -n 1 "$lines" | cut -c 1-300 >&2
        cat "$work/errors" >&2
        failed=1
        return
    fi
    row "$name" "$lines"
    complain "$lines"
}

# each NAME BUILD: every case in a process of its own, where all is used for the first time.
each() {
    local name=$1 build=$2 lines=$work/each case form
    : >"$lines"
    while read -r case; do
        for form in clean leaking; do
            if ! dotnet "$(program "$build")" "$case" "$form" >"$work/line" 2>"$work/errors"; then
                failed=1
                [[ -s $work/line ]] || printf '%s %s: no answer\n%s\n' "$case" "$form" "$(cat "$work/errors")" >&2
            fi
            cat "$work/line" >>"$lines"
        done
    done < <(dotnet "$(program "$build")" list | awk -v every="$every" '(NR - 1) % every == 0')
    dotnet "$(program "$build")" sum <"$lines" >"$lines.sum" || failed=1
    row "$name" "$lines.sum"
    complain "$lines"
}

echo '| Configuration | found / seeded | false alarms / clean runs | wrong verdicts | wrong lines | wrong holders |'
echo '|---|---|---|---|---|---|'
if [[ ${1:-} == --quick ]]; then
    all 'Release, tiered, Workstation, late' Matrix
    all 'Debug, not tiered, Server, preload' MatrixUnoptimised DOTNET_TieredCompilation=0 DOTNET_gcServer=1 "LD_PRELOAD=$shim"
    exit $failed
fi

for build in Release:Matrix Debug:MatrixUnoptimised; do
    for tiering in tiered:1 'not tiered:0'; do
        for collector in Workstation:0 Server:1; do
            for start in late: "preload:$shim"; do
                all "${build%:*}, ${tiering%:*}, ${collector%:*}, ${start%%:*}" "${build#*:}" \
                    "DOTNET_TieredCompilation=${tiering#*:}" "DOTNET_gcServer=${collector#*:}" "LD_PRELOAD=${start#*:}"
            done
        done
    done
done
all 'Release, tiered without profile and quick loops, Workstation, late' Matrix DOTNET_TieredPGO=0 DOTNET_TC_QuickJitForLoops=0
each 'Release, tiered, Workstation, late, a process for each' Matrix
exit $failed
