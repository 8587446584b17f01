#!/usr/bin/env bash
# A minute each of damaged libraries and debug files, and of damaged assemblies and PDBs: no crash, no exception, no hang, and less than 1 GB of memory, which the runtime
# is not given more of. NLT_FUZZ_SECONDS asks for another time, NLT_FUZZ_SEED for other damage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=$(mktemp)
trap 'rm -f "$output"' EXIT

export NLT_FUZZ_SECONDS=${NLT_FUZZ_SECONDS:-60} NLT_FUZZ_SEED=${NLT_FUZZ_SEED:-$((RANDOM * 32768 + RANDOM))}
printf 'seed %s\n' "$NLT_FUZZ_SEED"
DOTNET_GCHeapHardLimit=0x30000000 dotnet test "$root/tests/NativeLeakTracker.Tests" --configuration Release --no-build \
    --filter 'FullyQualifiedName~NativeSymbolsFuzzTests|FullyQualifiedName~ManagedSymbolsFuzzTests' --logger 'console;verbosity=normal' | tee "$output"

peak=$(sed -n 's/.*VmHWM:[^0-9]*\([0-9]*\) kB.*/\1/p' "$output" | head -n 1)
[[ -n $peak ]] || { echo 'the fuzz test printed no peak memory' >&2; exit 1; }
printf 'peak memory %d MB\n' "$((peak / 1024))"
((peak < 1024 * 1024)) || { echo 'more than 1 GB' >&2; exit 1; }
