#!/usr/bin/env bash
# Random operations on 64 threads end with exactly the model's live set, ten times in a row: with the shim as it ships, as a late
# start, and in the build that lets other threads run in each window between a record and the real call.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
native=$root/artifacts/native
cmake --build "$native" --target sixty_four_threads_lossless --parallel 2 >/dev/null
program=$(find "$native" -type f -name sixty_four_threads_lossless -perm -u+x | head -n 1)

for round in 1 2 3 4 5 6 7 8 9 10; do
    env LD_PRELOAD="$native/libnativeleakshim.so" "$program"
    "$program" late
    env LD_PRELOAD="$native/libnativeleakshim_yield.so" "$program"
    echo "round $round: preloaded, late and yielding end with the model's live set"
done
