#!/usr/bin/env bash
# Names and lines of 10,000 managed addresses of another process, beside ClrMD's method look-up and IL offset for the same list:
# interleaved rounds in one run (benchmarks/ManagedSymbols). The process is tests/fixtures/AttachTarget, recorded from the start.
#
#   benchmarks/managed_symbols.sh [rounds]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0
dotnet build "$root/benchmarks/ManagedSymbols" --configuration Release >/dev/null
dotnet build "$root/tests/fixtures/AttachTarget" --configuration Release >/dev/null
shim=$root/artifacts/native/libnativeleakshim.so
folder=$(mktemp -d)
mkfifo "$folder/input"
LD_PRELOAD=$shim NATIVELEAKS_LEDGER=$folder/ledger dotnet "$root/tests/fixtures/AttachTarget/bin/Release/net10.0/AttachTarget.dll" \
    "$shim" "$folder/notes.json" <"$folder/input" >"$folder/output" &
target=$!
exec 9>"$folder/input"
trap 'exec 9>&-; wait "$target" || true; rm -rf "$folder"' EXIT
until grep -q ready "$folder/output"; do sleep 0.1; done
dotnet "$root/benchmarks/ManagedSymbols/bin/Release/net10.0/ManagedSymbols.dll" "$folder/ledger" "${1:-5}"
