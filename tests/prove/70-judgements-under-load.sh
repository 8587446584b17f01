#!/usr/bin/env bash
# A hundred judgements late and a hundred preloaded, while two threads allocate and collections run: each is right, and the program sees
# nothing of the copies that are read.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=$(NATIVELEAKS_TEST_ROUNDS=34 dotnet test "$root/tests/NativeLeakTracker.Tests" --configuration Release --no-build \
    --filter FullyQualifiedName~UnderLoadTests --logger 'console;verbosity=detailed' 2>&1) || {
    printf '%s\n' "$output"
    exit 1
}
grep -E '^ *(late|preload): ' <<<"$output"
