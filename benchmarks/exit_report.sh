#!/usr/bin/env bash
# What the report on exit costs: a program with 100,352 live blocks in 2,048 contexts, with and without the report, beside hello
# world; interleaved rounds in one run. Cost is the time with the report less the time without any tracker.
#
#   benchmarks/exit_report.sh [rounds]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=${1:-9}
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0
dotnet build "$root/benchmarks/ExitReport" --configuration Release >/dev/null
dotnet build "$root/tests/fixtures/Hello" --configuration Release >/dev/null
program=$root/benchmarks/ExitReport/bin/Release/net10.0/ExitReport.dll
hello=$root/tests/fixtures/Hello/bin/Release/net10.0/Hello.dll
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

milliseconds() {
    local start end
    start=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    printf '%d\n' "$(((end - start) / 1000000))"
}

median() { sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"; }

for ((round = 0; round < rounds; round++)); do
    milliseconds dotnet "$hello" >>"$results/hello"
    milliseconds dotnet "$program" >>"$results/plain"
    milliseconds env NATIVELEAKS=1 NATIVELEAKS_REPORT="$results/report.txt" dotnet "$program" >>"$results/report"
done

head -n 1 "$results/report.txt"
h=$(median "$results/hello") p=$(median "$results/plain") r=$(median "$results/report")
printf 'hello world %d ms, program %d ms, with the report %d ms: the report costs %d ms, %s times hello world\n' \
    "$h" "$p" "$r" "$((r - p))" "$(awk "BEGIN { printf \"%.1f\", ($r - $p) / $h }")"
