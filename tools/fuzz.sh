#!/bin/bash
# usage: fuzz.sh [SECONDS [TARGET]]   Searches with libFuzzer: every fuzz target whose name fits the regular expression TARGET
#                                     (all of them), SECONDS each (60), as many at a time as there are processors.
#        fuzz.sh pick [TARGET]        Takes the best of what was found into test/corpus: small files, few of them.
# What is found lies in build/fuzz/corpus/NAME, from where the next search goes on; inputs that crash in build/fuzz/found.
# One line for each target, and at the end "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.."
mode=search
[ "${1:-}" != pick ] || { mode=pick && shift; }
seconds=60
[ $mode = pick ] || { seconds=${1:-60} && shift; }
wanted=${1:-}
dir=build/fuzz
logs=build/logs/fuzz
case $seconds in '' | *[!0-9]*) echo "fuzz.sh: '$seconds' is no number of seconds" >&2 && exit 2 ;; esac
mkdir -p "$logs" "$dir"

# Quickly built, and with line numbers; all of the libraries says what is reached, not only the target.
prepare() {
    tools/deps.sh libclang-rt-dev llvm &&
        CC=clang tools/configure.sh $dir -Dfuzz=true -Dfaults=true -Db_sanitize=address,undefined -Db_lundef=false \
            -Doptimization=1 "-Dc_args=-fsanitize=fuzzer-no-link -g1"
}

# Name and program of each target, as the build has them.
targets() {
    meson introspect --tests $dir | python3 -c '
import json, os, re, sys
for t in sorted(json.load(sys.stdin), key=lambda t: t["name"]):
    if any(s.split(":")[-1] == "fuzz" for s in t["suite"]) and re.search(sys.argv[1], t["name"]):
        print(t["name"], os.path.relpath(t["cmd"][0]))' "$wanted"
}

search() {
    local name=$1 program=$2 log=$logs/$1.log given=test/corpus/$1 own=$dir/corpus/$1 more=() rc line
    mkdir -p "$own" $dir/found
    [ ! -d "$given" ] || more+=("$given")
    [ ! -f "$given.dict" ] || more=("-dict=$given.dict" "${more[@]}")
    # Slow inputs are no fault: machines differ.
    "$program" -max_total_time="$seconds" -timeout=60 -report_slow_units=600 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$dir/found/$name-" "$own" "${more[@]}" >"$log" 2>&1 </dev/null
    rc=$?
    line=$(awk '
        / cov: .* ft: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
        /^stat::number_of_executed_units:/ { runs = $2 }
        /^stat::new_units_added:/ { added = $2 }
        END { printf "%d executions, %d edges, %d features, %d new units\n", runs, cov, ft, added; exit !(runs > 0) }' "$log") || rc=1
    if [ $rc = 0 ]; then
        echo "ok      $name: $line"
        return 0
    fi
    echo "FAILED  $name: $line"
    grep -m 1 -A 25 -E 'ERROR: |runtime error|check failed|CHECK' "$log" || tail -n 25 "$log"
    line=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    if [ -n "$line" ]; then
        echo "        the input:  $line"
        echo "        once more:  $program $line"
        echo "        it goes into $given/, with the mend: from then on every test run replays it"
    else
        echo "        no input was written; all of what it said: $log"
    fi
    return 1
}

pick() {
    local name=$1 program=$2 given=test/corpus/$1 own=$dir/corpus/$1 control=$dir/$1.merge into
    [ -d "$own" ] || { echo "        $name: nothing was found yet" && return 0; }
    into=$(mktemp -d)
    mkdir -p "$given"
    rm -f "$control"
    "$program" -merge=1 -merge_control_file="$PWD/$control" "$into" "$given" "$own" >"$logs/$name.merge.log" 2>&1 </dev/null &&
        python3 tools/fuzz_pick.py "$control" "$given" || { echo "FAILED  $name: see $logs/$name.merge.log" && rm -rf "$into" && return 1; }
    rm -rf "$into" "$control"
    echo "ok      $name: $(find "$given" -type f | wc -l) files"
}

prepare >"$logs/prepare.log" 2>&1 </dev/null || { tail -n 40 "$logs/prepare.log" && echo "0 passed, 1 failed, 0 skipped" && exit 1; }
list=$(targets)
[ -n "$list" ] || { echo "fuzz.sh: no fuzz target is called '$wanted'" >&2 && exit 2; }
mapfile -t programs < <(cut -d' ' -f2 <<<"$list" | sed "s#^$dir/##")
ninja -C $dir "${programs[@]}" >"$logs/build.log" 2>&1 </dev/null || {
    tail -n 40 "$logs/build.log"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}
export -f search pick
export seconds dir logs
xargs -P "$(nproc)" -d '\n' -I{} bash -c '$0 ${1% *} ${1#* } 2>&1' $mode {} <<<"$list" | tee "$logs/results"
failed=$(grep -c '^FAILED ' "$logs/results")
printf '%d passed, %d failed, 0 skipped\n' "$(grep -c '^ok ' "$logs/results")" "$failed"
[ "$failed" = 0 ]
