#!/usr/bin/env bash
# What a clean assertion costs a test of 1,000 blocks, beside the test alone and beside two forced collections, in turns in one process.
#
#   benchmarks/test_scope.sh [rounds]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0
dotnet build "$root/benchmarks/TestScope" --configuration Release >/dev/null
dotnet "$root/benchmarks/TestScope/bin/Release/net10.0/TestScope.dll" "$@"
