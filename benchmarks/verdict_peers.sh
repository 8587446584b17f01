#!/usr/bin/env bash
# What other tools find of the ways to leak in tests/fixtures/Matrix, for the table of docs/verdict-matrix.md. Every case runs under every tool in a
# process of its own, in both forms, without our library. In doubt for the tool:
#
# - What the .NET runtime allocates for itself is left out, by the rule that our own reports go by; so is what a program without a leak
#   has reported at the same places. The last column says how much the tool reports of a program that does nothing, all included.
# - Found: at least as many blocks and bytes are reported as were seeded, more than of the clean form (or, where that keeps its blocks, of the
#   program that does nothing). Whether the tool can name a managed method is not asked, nor what it calls the leak.
# - False alarm: a clean form has more reported than the program that does nothing.
# - Objects that were not disposed are not collected before the process ends: what their finalizers would release is there to be found.
#
#   benchmarks/verdict_peers.sh [--tools lsan,heaptrack,valgrind] [--every N]
#
# lsan takes 2 to 5 minutes, heaptrack 7 to 15, valgrind half an hour or more: --every 4 tries each fourth case. What is missing can be installed on Debian by
# apt-get install liblsan0 heaptrack valgrind zstd.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0
dotnet build "$root/benchmarks/VerdictPeers" --configuration Release >/dev/null
dotnet build "$root/tests/fixtures/Matrix" --configuration Release >/dev/null
cmake --build "$root/artifacts/native" --target nlt_fixtures >/dev/null
dotnet "$root/benchmarks/VerdictPeers/bin/Release/net10.0/VerdictPeers.dll" "$root/tests/fixtures/Matrix/bin/Release/net10.0/Matrix.dll" "$@"
