#!/usr/bin/env bash
# What it costs to find who holds each of 100,000 blocks, with a heap of 100 MB: the first judgement of a process, later ones, how long
# threads are stopped, and beside it ClrMD's own walk over the objects, in turns in one process.
#
#   benchmarks/holders.sh [rounds]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0
dotnet build "$root/benchmarks/Holders" --configuration Release >/dev/null
dotnet "$root/benchmarks/Holders/bin/Release/net10.0/Holders.dll" "$@"
