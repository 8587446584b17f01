#!/usr/bin/env bash
# Two hundred tests in parallel, every tenth leaking, twenty runs in a row: exactly the leaking ones fail, each with its own blocks.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=$(NATIVELEAKS_TEST_ROUNDS=20 dotnet test "$root/tests/NativeLeakTracker.Tests" --configuration Release --no-build \
    --filter FullyQualifiedName~ParallelTestsTests --logger 'console;verbosity=detailed' 2>&1) || {
    printf '%s\n' "$output"
    exit 1
}
grep -E '^ *round [0-9]+: ' <<<"$output"
