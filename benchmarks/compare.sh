#!/usr/bin/env bash
# What recording costs, beside other tools: every workload under every contender, round robin, as ratios of the
# untracked program in the same round. README.md beside this file says what is measured, and what is not.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=$root/artifacts/benchmarks
shim=$root/artifacts/native/libnativeleakshim.so
command_line="benchmarks/compare.sh $*"

all_contenders=(none shim shim-shared late idle heaptrack heaptrack-raw lsan jemalloc tcmalloc)
all_cases=(native-1 native-2 flat-1 flat-2 pairs-1 pairs-2 sqlite-1 sqlite-2 sqlite-malloc-1 sqlite-malloc-2 hello churn-1e3 churn-1e6 churn-1e7)
packages=(heaptrack libjemalloc2 google-perftools libgoogle-perftools4 liblsan0)

rounds= quick=0 install=0 output= only= contenders=

usage() {
    cat <<USAGE
usage: benchmarks/compare.sh [options]

  --quick              counts of a tenth and 2 rounds: shows that everything runs, not what it costs
  --rounds N           rounds; default 5
  --only LIST          workloads, by the beginning of their names, with commas between: ${all_cases[*]}
  --contenders LIST    with commas between; the untracked program always runs: ${all_contenders[*]}
  --shim FILE          preload this library, not the one of this checkout
  --output FILE        write the result there too
  --install            install the other tools before (Debian or Ubuntu, as root): ${packages[*]}
USAGE
}

fail() {
    printf 'compare.sh: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s\n' "$*" >&2
}

parse_options() {
    while (($# > 0)); do
        case $1 in
            --rounds | --only | --contenders | --shim | --output) (($# > 1)) || fail "$1 needs a value." ;;
        esac
        case $1 in
            --quick) quick=1; shift ;;
            --install) install=1; shift ;;
            --rounds) rounds=$2; shift 2 ;;
            --only) only=$2; shift 2 ;;
            --contenders) contenders=$2; shift 2 ;;
            --shim) shim=$(realpath "$2") own_shim=0; shift 2 ;;
            --output) output=$2; shift 2 ;;
            --help | -h) usage; exit 0 ;;
            *) usage >&2; exit 2 ;;
        esac
    done
    [[ -n $rounds ]] || rounds=$((quick ? 2 : 5))
    [[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number, not '$rounds'."
    select_cases
    select_contenders
}

select_cases() {
    cases=()
    local name wanted prefix found
    IFS=, read -ra wanted <<<"$only"
    for prefix in "${wanted[@]}"; do
        found=0
        for name in "${all_cases[@]}"; do [[ $name == "$prefix"* ]] && found=1; done
        ((found)) || fail "no workload's name begins with '$prefix': ${all_cases[*]}"
    done
    for name in "${all_cases[@]}"; do
        for prefix in "${wanted[@]:-}"; do
            if [[ $name == "$prefix"* ]]; then cases+=("$name"); break; fi
        done
    done
}

select_contenders() {
    local name wanted
    IFS=, read -ra wanted <<<"${contenders:-$(IFS=,; echo "${all_contenders[*]}")}"
    selected=()
    for name in "${wanted[@]}"; do
        [[ " ${all_contenders[*]} " == *" $name "* ]] || fail "no contender '$name': ${all_contenders[*]}"
        [[ $name == none ]] || selected+=("$name")
    done
}

# --- contenders -------------------------------------------------------------------------------------------------------

# Who is slow gets less to do, and is compared to the untracked program doing as little. Not too little: heaptrack's
# second process first looks up every new frame, and would be charged for that instead of for recording.
class_of() {
    case $1 in
        heaptrack | heaptrack-raw) echo reduced ;;
        jemalloc | tcmalloc) echo tiny ;;
        *) echo full ;;
    esac
}

title_of() {
    case $1 in
        none) echo 'untracked' ;;
        shim) echo 'NativeLeakTracker, preloaded' ;;
        shim-shared) echo 'NativeLeakTracker, preloaded, shared ledger' ;;
        late) echo 'NativeLeakTracker, late start' ;;
        idle) echo 'NativeLeakTracker, not recording' ;;
        heaptrack) echo 'heaptrack' ;;
        heaptrack-raw) echo 'heaptrack --raw' ;;
        lsan) echo 'LeakSanitizer, preloaded' ;;
        jemalloc) echo 'jemalloc prof, every allocation' ;;
        tcmalloc) echo 'tcmalloc heap profiler' ;;
    esac
}

# How each is run, as a reader would type it.
how_of() {
    case $1 in
        shim) echo '`LD_PRELOAD=libnativeleakshim.so`' ;;
        shim-shared) echo 'the same and `NATIVELEAKS_LEDGER=/dev/shm/…`' ;;
        late) echo 'the package and `NATIVELEAKS=1`, no preload; `hello` includes the report' ;;
        idle) echo 'the package alone: hooks installed, no scope open' ;;
        heaptrack) echo '`heaptrack`: a second process interprets meanwhile' ;;
        heaptrack-raw) echo '`heaptrack --raw`: the least it can do; interpreted later' ;;
        lsan) echo '`LD_PRELOAD=liblsan.so LSAN_OPTIONS=detect_leaks=0`: recording without the search at exit' ;;
        jemalloc) echo '`LD_PRELOAD=libjemalloc.so MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:0`' ;;
        tcmalloc) echo '`LD_PRELOAD=libtcmalloc.so HEAPPROFILE=…`' ;;
    esac
}

# What its stacks hold. README.md says how it was found out.
native_stacks_of() {
    case $1 in
        shim | shim-shared | late) echo 'exact, by `.eh_frame`; whole' ;;
        idle) echo 'none' ;;
        heaptrack | heaptrack-raw) echo 'exact, by libunwind; 64 frames at most' ;;
        lsan) echo 'by frame pointers: in code without, the direct caller and no more; 30 frames at most' ;;
        jemalloc) echo 'exact, by libgcc; 128 frames at most' ;;
        tcmalloc) echo 'exact, by libunwind; 32 frames at most' ;;
    esac
}

managed_stacks_of() {
    case $1 in
        shim | shim-shared | late) echo '**managed names**, exact' ;;
        idle) echo 'none' ;;
        heaptrack | heaptrack-raw) echo 'addresses only (`??`)' ;;
        lsan) echo 'addresses only, frameless callers missing' ;;
        jemalloc) echo 'stops at the first managed frame' ;;
        tcmalloc) echo 'addresses only' ;;
    esac
}

library() {
    local folder
    for folder in /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib; do
        if [[ -e $folder/$1 ]]; then
            echo "$folder/$1"
            return
        fi
    done
}

# The library that gcc links to; the runtime package alone has it under its version.
lsan_library() {
    local file
    file=$(${CC:-cc} -print-file-name=liblsan.so 2>/dev/null || true)
    if [[ $file == /* ]]; then realpath "$file"; else library liblsan.so.0; fi
}

# Sets `reason` when the contender cannot run the case at all.
check_contender() {
    local contender=$1 case=$2
    reason=
    case $contender in
        shim | shim-shared) [[ -e $shim ]] || reason="failed: no $shim" ;;
        late | idle)
            if [[ $case == native* || $case == flat* || $case == churn* ]]; then
                reason='not run: the package needs a .NET process'
            elif [[ ! -e $tracked_interop ]]; then
                reason='failed: Interop with the package did not build'
            fi
            ;;
        heaptrack | heaptrack-raw) command -v heaptrack >/dev/null || reason='failed: heaptrack is not installed' ;;
        lsan) [[ -n $(lsan_library) ]] || reason='failed: liblsan.so is not installed' ;;
        jemalloc) [[ -n $(library libjemalloc.so.2) ]] || reason='failed: libjemalloc.so.2 is not installed' ;;
        tcmalloc) [[ -n $(library libtcmalloc.so.4) ]] || reason='failed: libtcmalloc.so.4 is not installed' ;;
    esac
    if [[ -z $reason && $(class_of "$contender") == tiny && $case == churn-1e7 ]]; then
        reason='not run: it would take many minutes'
    fi
}

# Sets `variables` and `wrapper`, which go before the program.
dress_contender() {
    variables=() wrapper=()
    case $1 in
        shim) variables=("LD_PRELOAD=$shim" "NATIVELEAKS_STATS=$scratch/stats") ;;
        shim-shared)
            variables=("LD_PRELOAD=$shim" "NATIVELEAKS_STATS=$scratch/stats" "NATIVELEAKS_LEDGER=$shared_ledger")
            ;;
        late) variables=(NATIVELEAKS=1 "NATIVELEAKS_REPORT=$scratch/report" "NATIVELEAKS_STATS=$scratch/stats") ;;
        heaptrack)
            wrapper=(heaptrack --output "$scratch/heaptrack")
            # Newer ones show the result at the end if they are not told otherwise.
            if heaptrack --help | grep -q -e --record-only; then wrapper+=(--record-only); fi
            ;;
        heaptrack-raw) wrapper=(heaptrack --raw --output "$scratch/heaptrack") ;;
        lsan) variables=("LD_PRELOAD=$(lsan_library)" LSAN_OPTIONS=detect_leaks=0) ;;
        jemalloc)
            variables=("LD_PRELOAD=$(library libjemalloc.so.2)"
                MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:0,prof_prefix:"$scratch/jeprof")
            ;;
        tcmalloc) variables=("LD_PRELOAD=$(library libtcmalloc.so.4)" "HEAPPROFILE=$scratch/heap") ;;
    esac
}

# Sets `reason` when the program ended well but the contender did not do its work: a tool that records nothing is fast.
check_recording() {
    local contender=$1 events=$2 seen
    if grep -qs 'cannot be preloaded' "$scratch/err"; then
        reason='failed: could not be preloaded'
        return
    fi
    case $contender in
        shim | shim-shared | late)
            seen=$(sed -n 's/^{"allocations":\([0-9]*\),.*"dropped":\([0-9]*\),.*/\1 \2/p' \
                "$scratch/stats" 2>/dev/null | tail -1)
            if [[ -z $seen ]]; then
                reason='failed: wrote no statistics'
            elif ((${seen% *} < events)); then
                reason="failed: recorded ${seen% *} of at least $events allocations"
            elif ((${seen#* } > 0)); then
                reason="failed: dropped ${seen#* } allocations"
            elif [[ $contender == shim-shared && ! -e $shared_ledger ]]; then
                reason='failed: made no shared ledger'
            fi
            ;;
        heaptrack | heaptrack-raw) compgen -G "$scratch/heaptrack*" >/dev/null || reason='failed: wrote no file' ;;
        jemalloc) ! grep -q '<jemalloc>' "$scratch/err" || reason="failed: $(grep -m1 '<jemalloc>' "$scratch/err")" ;;
        tcmalloc) grep -q 'Starting tracking the heap' "$scratch/err" || reason='failed: did not start to profile' ;;
    esac
}

# --- workloads --------------------------------------------------------------------------------------------------------

describe_case() {
    case $1 in
        native-1) echo 'Native loop, pairs of malloc and free at depth 24, 1 thread' ;;
        native-2) echo 'Native loop, pairs of malloc and free at depth 24, 2 threads' ;;
        flat-1) echo 'Native loop, the bare loop (hardest case), 1 thread' ;;
        flat-2) echo 'Native loop, the bare loop (hardest case), 2 threads' ;;
        pairs-1) echo 'P/Invoke pairs of NativeMemory.Alloc and Free, 1 thread' ;;
        pairs-2) echo 'P/Invoke pairs of NativeMemory.Alloc and Free, 2 threads' ;;
        sqlite-1) echo 'SQLite, insert and select of rows, 1 thread' ;;
        sqlite-2) echo 'SQLite, insert and select of rows, 2 threads' ;;
        sqlite-malloc-1) echo 'SQLite without its own pool for small blocks (hard case), 1 thread' ;;
        sqlite-malloc-2) echo 'SQLite without its own pool for small blocks (hard case), 2 threads' ;;
        hello) echo 'Hello world, start-up of .NET (whole process)' ;;
        churn-*) printf 'Churn, a random block of %s live ones is replaced\n' "$(group_digits "$(live_of "$1")")" ;;
    esac
}

group_digits() {
    sed ':a;s/\B[0-9]\{3\}\>/,&/;ta' <<<"$1"
}

# What each thread does: pairs or rows. Of hello, how often it is run: the median of so many counts as one round.
count_of() {
    local case=$1 class=$2 counts
    case $case in
        native-* | flat-*) counts=(10000000 3000000 100000) ;;
        pairs-*) counts=(5000000 2000000 50000) ;;
        sqlite-*) counts=(200000 50000 5000) ;;
        churn-*) counts=(5000000 3000000 100000) ;;
        hello) counts=(20 10 10) ;;
    esac
    case $class in
        full) counts=${counts[0]} ;;
        reduced) counts=${counts[1]} ;;
        tiny) counts=${counts[2]} ;;
    esac
    echo $((quick ? counts / 10 : counts))
}

live_of() {
    local live=0
    case $1 in
        churn-1e3) live=1000 ;;
        churn-1e6) live=$((quick ? 100000 : 1000000)) ;;
        churn-1e7) live=$((quick ? 1000000 : 10000000)) ;;
    esac
    echo "$live"
}

threads_of() {
    if [[ $1 == *-2 ]]; then echo 2; else echo 1; fi
}

# Sets `program`.
compose_program() {
    local case=$1 contender=$2 count=$3 threads dll=$interop
    threads=$(threads_of "$case")
    [[ $contender != late && $contender != idle ]] || dll=$tracked_interop
    case $case in
        native-*) program=("$built/native_loop" "$count" "$threads" 0) ;;
        flat-*) program=("$built/native_loop" "$count" "$threads" 0 flat) ;;
        pairs-*) program=(dotnet "$dll" pairs "$count" "$threads") ;;
        sqlite-*) program=(dotnet "$dll" "${case%-[12]}" "$count" "$threads") ;;
        hello) program=(dotnet "$dll" hello) ;;
        churn-*) program=("$built/churn" "$count" "$threads" "$(live_of "$case")") ;;
    esac
}

# The least number of allocations that a recorder must have seen.
least_events() {
    local case=$1 count=$2
    case $case in
        hello) echo 1 ;;
        sqlite-*) echo $((count * $(threads_of "$case"))) ;;
        *) echo $((count * $(threads_of "$case"))) ;;
    esac
}

# Malloc and free pairs of each thread; 0: not known.
pairs_of() {
    local case=$1 count=$2
    case $case in
        hello) echo 0 ;;
        sqlite-*) echo $((count * ${pairs_per_1000_rows[${case%-[12]}]:-0} / 1000)) ;;
        *) echo "$count" ;;
    esac
}

# --- running ----------------------------------------------------------------------------------------------------------

value_of() {
    sed -n "s/^$2=//p" "$1" | tail -1
}

# measure CASE CONTENDER COUNT: sets elapsed_ns, peak_kb, and `reason` if there is nothing to report.
measure() {
    local case=$1 contender=$2 count=$3 ended
    rm -rf "$scratch" "$shared_ledger"
    mkdir "$scratch"
    elapsed_ns=0 peak_kb=0
    check_contender "$contender" "$case"
    [[ -z $reason ]] || return 0
    dress_contender "$contender"
    compose_program "$case" "$contender" "$count"
    "$built/measure" "$scratch/result" "$limit_seconds" "${variables[@]}" "${wrapper[@]}" "${program[@]}" \
        >"$scratch/out" 2>"$scratch/err" </dev/null || { reason='failed: could not be measured'; return 0; }

    ended=$(value_of "$scratch/result" end)
    if [[ $case == hello ]]; then
        elapsed_ns=$(value_of "$scratch/result" wall_ns)
        peak_kb=$(value_of "$scratch/result" maxrss_kb)
        grep -qx hello "$scratch/out" || reason='failed: printed no hello'
    else
        elapsed_ns=$(value_of "$scratch/out" elapsed_ns)
        peak_kb=$(value_of "$scratch/out" peak_kb)
        [[ -n $elapsed_ns && -n $peak_kb ]] || reason='failed: printed no result'
    fi
    if [[ $ended != 'exit code 0' ]]; then
        reason="failed: $ended; $(tail -1 "$scratch/err" | cut -c1-120)"
    fi
    [[ -n $reason ]] || check_recording "$contender" "$(least_events "$case" "$count")"
    if [[ -n $reason ]]; then
        reason=$(tr '\t|' '  ' <<<"$reason")
        elapsed_ns=0 peak_kb=0
    fi
}

# A start-up is over in a blink, and one of them is mostly noise.
measure_often() {
    local case=$1 contender=$2 times=$3 i elapsed=() peaks=()
    for ((i = 0; i < times; i++)); do
        measure "$case" "$contender" 1
        [[ -z $reason ]] || return 0
        elapsed+=("$elapsed_ns") peaks+=("$peak_kb")
    done
    elapsed_ns=$(middle_of "${elapsed[@]}")
    peak_kb=$(middle_of "${peaks[@]}")
}

middle_of() {
    printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}

declare -A gave_up=()

run_one() {
    local round=$1 case=$2 contender=$3 class=$4 count
    count=$(count_of "$case" "$class")
    # Once failed is failed: the rounds that are left would only cost time.
    [[ -z ${gave_up[$case/$contender]:-} ]] || return 0
    say "round $round of $rounds: $case, $contender, $count"
    if [[ $case == hello ]]; then
        measure_often "$case" "$contender" "$count"
    else
        measure "$case" "$contender" "$count"
    fi
    if [[ -n $reason ]]; then
        gave_up[$case/$contender]=1
        say "    $reason"
    fi
    printf '%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n' "$case" "$contender" "$class" "$round" "$count" \
        "$(pairs_of "$case" "$count")" "$(live_of "$case")" "$elapsed_ns" "$peak_kb" "$reason" >>"$raw"
}

# Round robin. Each round begins with another contender, so that none always runs behind the same neighbour.
run_all() {
    local round case i runs
    raw=$built/raw.tsv
    : >"$raw"
    for ((round = 1; round <= rounds; round++)); do
        for case in "${cases[@]}"; do
            runs=()
            add_runs "$case"
            for ((i = 0; i < ${#runs[@]}; i++)); do
                # shellcheck disable=SC2086 # contender and class
                run_one "$round" "$case" ${runs[$(((i + round - 1) % ${#runs[@]}))]}
            done
        done
    done
}

# Each class of counts that somebody uses has an untracked run of its own.
add_runs() {
    local case=$1 class contender began seen=
    for class in full reduced tiny; do
        began=0
        for contender in "${selected[@]}"; do
            [[ $(class_of "$contender") == "$class" ]] || continue
            # Where the counts are the same it is made again all the same: nearer in time to those it is compared to.
            ((began)) || runs+=("none $class")
            began=1 seen=1
            runs+=("$contender $class")
        done
    done
    [[ -n $seen ]] || runs+=('none full')
}

# How many pairs a row is, for who wants nanoseconds a pair: counted once, by the shim, as the difference of two runs.
count_sqlite_pairs() {
    declare -gA pairs_per_1000_rows=()
    [[ " ${cases[*]} " == *' sqlite-'* && -e $shim ]] || return 0
    local workload rows counts
    for workload in sqlite sqlite-malloc; do
        counts=()
        for rows in 1000 2000; do
            rm -rf "$scratch"
            mkdir "$scratch"
            LD_PRELOAD=$shim NATIVELEAKS_STATS=$scratch/stats dotnet "$interop" "$workload" "$rows" 1 >/dev/null 2>&1 ||
                return 0
            counts+=("$(sed -n 's/^{"allocations":\([0-9]*\),.*/\1/p' "$scratch/stats" | tail -1)")
        done
        [[ -n ${counts[0]} && -n ${counts[1]} ]] && pairs_per_1000_rows[$workload]=$((counts[1] - counts[0]))
        say "$workload: ${pairs_per_1000_rows[$workload]} pairs in 1000 rows"
    done
}

# --- set-up -----------------------------------------------------------------------------------------------------------

install_tools() {
    [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || fail '--install needs root and apt-get.'
    DEBIAN_FRONTEND=noninteractive apt-get update >&2
    local package
    for package in "${packages[@]}"; do
        # One at a time: names differ between releases, and what is missing is reported as a contender that failed.
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$package" >&2 ||
            say "$package could not be installed"
    done
}

build() {
    mkdir -p "$built"
    export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
    export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false
    command -v dotnet >/dev/null || fail 'the .NET SDK, 10.0 or newer, is needed.'
    if [[ -n ${LD_PRELOAD:-} ]]; then fail 'LD_PRELOAD is set; nothing here would be untracked.'; fi

    local workload
    for workload in native_loop churn measure; do
        ${CC:-cc} -O2 -g -Wall -Wextra -pthread -o "$built/$workload" "$root/benchmarks/workloads/$workload.c" ||
            fail "$workload.c does not compile."
    done
    build_interop interop >&2 || fail 'benchmarks/Interop does not build.'
    interop=$built/interop/bin/Interop/release/Interop.dll
    tracked_interop=$built/interop-tracked/bin/Interop/release/Interop.dll
    rm -f "$tracked_interop"
    # The library builds the shim as well, the one that the package would hold.
    build_interop interop-tracked -p:WithTracker=true >&2 || say 'benchmarks/Interop with the package does not build'
    build_shim >&2 || say 'the shim does not build'
}

build_interop() {
    local name=$1
    shift
    dotnet build "$root/benchmarks/Interop" --configuration Release --verbosity quiet \
        -p:UseArtifactsOutput=true "-p:ArtifactsPath=$built/$name" "$@"
}

build_shim() {
    ((${own_shim:-1})) || return 0
    mkdir -p "$root/artifacts/native"
    (
        flock 9
        cmake -S "$root" -B "$root/artifacts/native" && cmake --build "$root/artifacts/native" --target nativeleakshim
    ) 9>"$root/artifacts/native/.lock"
}

# --- the result -------------------------------------------------------------------------------------------------------

print_header() {
    local commit package versions=
    commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo 'no git')
    for package in heaptrack libjemalloc2 libgoogle-perftools4 libgoogle-perftools4t64 liblsan0; do
        versions+=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package} ${Version}\n' "$package" 2>/dev/null |
            sed -n 's/^ii *\(.*\)/, \1/p') || true
    done
    cat <<HEADER
# What recording costs

Ratios to the same program without a tracker, run in the same round: 1 is free, 2 takes twice as long. Medians of
$rounds rounds; in brackets the lowest and the highest round. Absolute figures are small print: they belong to this machine.
$( ((quick)) && printf '\n**A quick run: small counts, no result. It shows only that everything runs.**')

| | |
|---|---|
| Date | $started |
| Command | \`$command_line\` |
| Commit | $commit |
| CPU | $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores |
| Memory | $(awk '/^MemTotal/ { printf "%.1f GB", $2 / 1048576 }' /proc/meminfo) |
| Kernel | $(uname -sr) |
| System | $(. /etc/os-release && echo "$PRETTY_NAME"), $(getconf GNU_LIBC_VERSION) |
| .NET | runtime $(dotnet --list-runtimes | sed -n 's/^Microsoft.NETCore.App \([^ ]*\) .*/\1/p' | tail -1), SDK $(dotnet --version) |
| Compiler | $(${CC:-cc} --version | head -1) |
| Other tools | ${versions#, } |
| Load before, after | $load_before, $(cut -d' ' -f1 /proc/loadavg) |
HEADER
}

print_contenders() {
    local contender
    printf '\n## The contenders\n\n| | How | Native frames | Managed frames |\n|---|---|---|---|\n'
    for contender in "${selected[@]}"; do
        printf '| %s | %s | %s | %s |\n' "$(title_of "$contender")" "$(how_of "$contender")" \
            "$(native_stacks_of "$contender")" "$(managed_stacks_of "$contender")"
    done
}

print_tables() {
    local name
    {
        for name in none "${selected[@]}"; do printf 'title\t%s\t%s\n' "$name" "$(title_of "$name")"; done
        for name in "${cases[@]}"; do printf 'case\t%s\t%s\n' "$name" "$(describe_case "$name")"; done
        sed 's/^/run\t/' "$raw"
    } | awk -F'\t' -f "$root/benchmarks/tables.awk"
}

main() {
    parse_options "$@"
    if ((install)); then install_tools; fi
    build
    limit_seconds=$((quick ? 120 : 900))
    scratch=$(mktemp -d)/run
    shared_ledger=$(mktemp -u -p /dev/shm nativeleaks-compare.XXXXXX)
    trap 'rm -rf "${scratch%/run}" "$shared_ledger"' EXIT
    started=$(date --utc '+%Y-%m-%d %H:%M UTC')
    load_before=$(cut -d' ' -f1 /proc/loadavg)
    count_sqlite_pairs
    run_all
    { print_header; print_contenders; print_tables; } | tee ${output:+"$output"}
    say "every single run: $raw"
}

main "$@"
