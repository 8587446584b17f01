#!/usr/bin/env bash
# A hundred judgements in a row late, and a hundred preloaded, while two threads allocate and collections run: each is right, and the
# program sees nothing of the copies that are read. NLT_ROUNDS: how often three judgements are made.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=("dotnet" "$root/tests/fixtures/Hazards/bin/Release/net10.0/Hazards.dll" judgements-under-load - "${NLT_ROUNDS:-34}")
printf 'late: '
"${program[@]}"
printf 'preload: '
LD_PRELOAD="$root/artifacts/native/libnativeleakshim.so" "${program[@]}"
