#!/usr/bin/env bash
# Every stack that the cache gives is the one that a walk without it gives: some five million stacks from several threads, with
# collections, exceptions, signals, native callbacks and code that comes and goes. NLT_WALKS asks for another number.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
native=$root/artifacts/native
stats=$(mktemp)
trap 'rm -f "$stats"' EXIT

cmake --build "$native" --target nlt_fixtures --parallel 2 >/dev/null
program=$(find "$root/tests/fixtures/StackStress/bin/Release" -name StackStress.dll | head -n 1)

echo 'what went on:'
env LD_PRELOAD="$native/libnativeleakshim_verify.so" NATIVELEAKS_STATS="$stats" \
    dotnet "$program" "$native/fixtures" "${NLT_WALKS:-5000000}"
echo 'what the shim counted:'
cat "$stats"
echo

for counter in walkDifferences brokenStacks approximateStacks truncated dropped; do
    if ! grep -q "\"$counter\":0," "$stats"; then
        echo "$counter is not 0" >&2
        exit 1
    fi
done
