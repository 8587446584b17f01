# The tables of compare.sh. Input, with tabs between: title NAME TEXT, case NAME TEXT, and
# run CASE CONTENDER CLASS ROUND COUNT PAIRS LIVE ELAPSED_NS PEAK_KB REASON.

$1 == "title" { title[$2] = $3; contenders[++contender_count] = $2 }
$1 == "case" { described[$2] = $3; cases[++case_count] = $2 }
$1 == "run" {
    if ($11 != "") { failed[$2, $3] = $11; next }
    elapsed[$2, $3, $4, $5] = $9
    peak[$2, $3, $4, $5] = $10
    class[$2, $3] = $4
    count[$2, $4] = $6; pairs[$2, $4] = $7; live[$2] = $8
    if ($5 > rounds) rounds = $5
    if ($3 == "none") base_seen[$2, $4] = 1
}

# Sorts list[1..n]; n is the number of rounds.
function sort(list, n, i, j, t) {
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
}

function median(list, n) {
    sort(list, n)
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

# Medians of what each round says against the untracked run of the same round and the same count.
function summarise(c, k, r, cl, n, t, b, p, q, ratios, memory, added, walls, bases, extra, m) {
    wall_ratio = ""
    cl = class[c, k]
    n = 0
    for (r = 1; r <= rounds; r++) {
        if (!((c, k, cl, r) in elapsed) || !((c, "none", cl, r) in elapsed)) continue
        t = elapsed[c, k, cl, r]; b = elapsed[c, "none", cl, r]
        p = peak[c, k, cl, r]; q = peak[c, "none", cl, r]
        if (b <= 0 || q <= 0) continue
        n++
        ratios[n] = t / b; memory[n] = p / q; walls[n] = t; bases[n] = b
        added[n] = pairs[c, cl] > 0 ? (t - b) / pairs[c, cl] : 0
        extra[n] = live[c] > 0 ? (p - q) * 1024 / live[c] : 0
        m = p / 1024
    }
    if (n == 0) return 0
    wall_ratio = median(ratios, n); lowest = ratios[1]; highest = ratios[n]
    memory_ratio = median(memory, n)
    added_ns = median(added, n); extra_bytes = median(extra, n)
    wall_ns = median(walls, n); base_ns = median(bases, n); peak_mb = m
    return 1
}

function digits(x) { return x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }

function time_text(ns) {
    if (ns >= 1e9) return sprintf(ns >= 10e9 ? "%.1f s" : "%.2f s", ns / 1e9)
    return sprintf(ns >= 10e6 ? "%.0f ms" : "%.2f ms", ns / 1e6)
}

function grouped(n, s, out) {
    s = sprintf("%d", n)
    out = ""
    while (length(s) > 3) { out = "," substr(s, length(s) - 2) out; s = substr(s, 1, length(s) - 3) }
    return s out
}

# "hello" has no count, SQLite counts rows, the others pairs.
function unit(c) { return c ~ /^sqlite/ ? "Rows" : c == "hello" ? "" : "Pairs" }

function overview(i, j, c, k, line) {
    print "\n## Wall time, × untracked\n"
    line = "| |"
    for (i = 1; i <= case_count; i++) line = line " " cases[i] " |"
    print line
    line = "|---|"
    for (i = 1; i <= case_count; i++) line = line "--:|"
    print line
    for (j = 1; j <= contender_count; j++) {
        k = contenders[j]
        if (k == "none") continue
        line = "| " title[k] " |"
        for (i = 1; i <= case_count; i++) {
            c = cases[i]
            if ((c, k) in failed) line = line (failed[c, k] ~ /^not run/ ? " – |" : " failed |")
            else line = line " " (summarise(c, k) ? digits(wall_ratio) : "failed") " |"
        }
        print line
    }
}

function detail(c, j, k, line, shim_per_pair, with_pairs, with_live, columns, comparable) {
    print "\n### " described[c] " (" c ")\n"
    with_live = live[c] > 0
    with_pairs = unit(c) != ""
    line = "| |"
    if (with_pairs) line = line " " unit(c) " a thread |"
    line = line " Wall, × | Peak memory, × |"
    if (with_pairs) line = line " ns added to a pair | Added, × the preloaded shim's |"
    if (with_live) line = line " Bytes a live block |"
    print line " <sub>untracked → tracked, peak</sub> |"
    columns = gsub(/\|/, "|", line)
    gsub(/[^|]/, "", line)
    line = "|---|"
    for (j = 2; j <= columns - 1; j++) line = line "--:|"
    print line "---|"

    shim_per_pair = 0
    if (!((c, "shim") in failed) && summarise(c, "shim")) shim_per_pair = added_ns
    for (j = 1; j <= contender_count; j++) {
        k = contenders[j]
        if (k == "none") continue
        if ((c, k) in failed || !summarise(c, k)) {
            line = "| " title[k] " |"
            if (with_pairs) line = line " |"
            line = line " " why_not(c, k) " | |"
            if (with_pairs) line = line " | |"
            if (with_live) line = line " |"
            print line " |"
            continue
        }
        line = "| " title[k] " |"
        if (with_pairs) line = line " " grouped(count[c, class[c, k]]) " |"
        line = line sprintf(" **%s** (%s–%s) |", digits(wall_ratio), digits(lowest), digits(highest))
        line = line sprintf(" %s |", digits(memory_ratio))
        if (with_pairs) {
            line = line " " (pairs[c, class[c, k]] > 0 ? digits_signed(added_ns) : "–") " |"
            comparable = shim_per_pair > 0 && pairs[c, class[c, k]] > 0
            line = line " " (comparable ? digits(added_ns / shim_per_pair) : "–") " |"
        }
        # What a tool needs for itself would drown what it needs for a few blocks.
        if (with_live) line = line (live[c] >= 100000 ? sprintf(" %.1f |", extra_bytes) : " – |")
        print line sprintf(" <sub>%s → %s, %.1f MB</sub> |", time_text(base_ns), time_text(wall_ns), peak_mb)
    }
}

function why_not(c, k) {
    if ((c, k) in failed) return failed[c, k]
    return (c, "none") in failed ? "untracked program " failed[c, "none"] : "failed: nothing to compare with"
}

function digits_signed(x) { return x < 0 ? "−" digits(-x) : digits(x) }

END {
    overview()
    print "\n## Each workload"
    for (i = 1; i <= case_count; i++) detail(cases[i])
}
