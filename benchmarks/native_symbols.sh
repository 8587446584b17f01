#!/usr/bin/env bash
# How long the names of 10,000 addresses of a large C++ library take: opened cold in a new process, and asked again, beside one
# addr2line -f -i that is given the same list. Interleaved rounds; figures are medians. NLT_ROUNDS asks for another number.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$root/artifacts/benchmarks/native_symbols
rounds=${NLT_ROUNDS:-5}
library=$work/liblarge.so
mkdir -p "$work"

# Files of templates whose functions are inlined into each other, with the standard library's containers.
generate() {
    local file i
    for file in $(seq 1 3); do
        {
            printf '#include <algorithm>\n#include <functional>\n#include <map>\n#include <memory>\n#include <string>\n#include <vector>\n'
            for i in $(seq 1 90); do
                cat <<CPP
namespace part${file}_$i {
struct Item { std::string name; std::vector<long> values; long weight = $i; };
template <int N> inline long fold(const std::vector<long> &v, long s) {
    for (long x : v) s = s * N + x;
    if constexpr (N > 1) return fold<N - 1>(v, s); else return s;
}
long run(std::map<std::string, Item> &items, const std::string &key, long n) {
    auto &item = items[key];
    for (long j = 0; j < n; j++) item.values.push_back(fold<4>(item.values, j));
    std::sort(item.values.begin(), item.values.end(), [&](long a, long b) { return a % item.weight < b % item.weight; });
    std::function<long(long)> add = [&item](long x) { return x + fold<3>(item.values, x); };
    auto copy = std::make_shared<Item>(item);
    return add(n) + static_cast<long>(copy->name.size());
}
}
CPP
            done
        } >"$work/part$file.cpp"
    done
}

if [[ ! -e $library ]]; then
    generate
    for source in "$work"/part*.cpp; do
        g++ -g -O2 -fPIC -std=c++17 -c "$source" -o "${source%.cpp}.o"
    done
    g++ -shared -o "$library" "$work"/part*.o
    rm "$work"/part*.o
fi

dotnet build "$root/benchmarks/NativeSymbols" --configuration Release --output "$work/program" >"$work/build.log" ||
    { cat "$work/build.log" >&2; exit 1; }

# Where functions are, every so many bytes: ten thousand of them.
read -r start size < <(readelf -SW "$library" | sed -n 's/.* \.text *PROGBITS *\([0-9a-f]*\) *[0-9a-f]* *\([0-9a-f]*\).*/\1 \2/p')
step=$((16#$size / 10000))
for ((i = 0; i < 10000; i++)); do printf '%x\n' $((16#$start + i * step)); done >"$work/addresses"

milliseconds() { echo $((($(date +%s%N) - $1) / 1000000)); }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

: >"$work/theirs"
: >"$work/ours"
for ((round = 0; round < rounds; round++)); do
    begin=$(date +%s%N)
    addr2line -f -i -e "$library" <"$work/addresses" >"$work/addr2line.out"
    milliseconds "$begin" >>"$work/theirs"
    dotnet "$work/program/NativeSymbols.dll" "$library" "$work/addresses" >>"$work/ours"
done

theirs=$(median <"$work/theirs") cold=$(cut -d' ' -f1 "$work/ours" | median) warm=$(cut -d' ' -f2 "$work/ours" | median)
printf 'library: %d MB; %s frames, %s addresses without a name\n' $(($(stat -c %s "$library") >> 20)) \
    "$(tail -n 1 "$work/ours" | cut -d' ' -f3)" "$(tail -n 1 "$work/ours" | cut -d' ' -f4)"
awk -v t="$theirs" -v c="$cold" -v w="$warm" 'BEGIN {
    printf "addr2line %d ms; ours cold %.0f ms, ratio %.2f; warm %.1f ms, ratio %.4f\n", t, c, c / t, w, w / t }'
