#!/bin/bash
# usage: fuzz.sh [SECONDS] [REGEX]   Each fuzz target whose name fits searches for so long (60 s), with libFuzzer and the
# address and undefined-behaviour sanitizers, beginning with its corpus. One line per target; what it found that covers
# more is in build/fuzz/new/TARGET, and an input that makes it fail in build/fuzz/bad. Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
pattern=${2:-.}
dir=build/fuzz

tools/deps.sh
version=$(clang -dumpversion)
tools/deps.sh "libclang-rt-${version%%.*}-dev"
CC=clang tools/configure.sh $dir -Dfuzz=true -Dfaults=true -Db_sanitize=address,undefined -Db_lundef=false \
    -Doptimization=1 "-Dc_args=-g1 -fsanitize=fuzzer-no-link"

# NAME, PROGRAM of each target: from the build.
list() {
    meson introspect --tests $dir | python3 -c '
import json, re, sys
for t in sorted(json.load(sys.stdin), key=lambda t: t["name"]):
    if t["suite"][0].endswith("fuzz") and re.search(sys.argv[1], t["name"]):
        print("%s %s" % (t["name"], t["cmd"][0]))' "$pattern"
}

# Searches, and leaves its line in a file; a failing one leaves the input, too.
run() {
    local name=$1 program=$2 log=$dir/log/$1 rc=0 line
    local new=$dir/new/$name
    mkdir -p "$new"
    timeout $((seconds + 120)) "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$dir/bad/$name-" "$new" "test/corpus/$name" >"$log" 2>&1 </dev/null || rc=$?
    line=$(grep -E '^#[0-9]+[[:space:]]+(DONE|INITED|pulse|NEW|REDUCE)' "$log" | tail -n 1 | sed -E 's/ exec.*//')
    if [ $rc = 0 ] && [ -n "$line" ]; then
        echo "ok      $name ${line//[[:space:]]/ }"
    else
        echo "FAILED  $name: exit status $rc; $(grep -hE 'ERROR|runtime error|CHECK|Test unit written' "$log" | head -n 4 | tr '\n' ' ')"
        echo "        again: $program $(ls -t "$dir/bad/$name-"* 2>/dev/null | head -n 1); mended, the input belongs in test/corpus/$name"
    fi
}

targets=$(list)
[ -n "$targets" ] || { echo "fuzz.sh: no target is named like '$pattern'" >&2; exit 2; }
mapfile -t programs < <(awk -v dir="$PWD/$dir/" '{ sub(dir, "", $2); print $2 }' <<<"$targets")
ninja -C $dir "${programs[@]}" >/dev/null || { ninja -C $dir "${programs[@]}" | tail -n 30; exit 1; }
mkdir -p $dir/log $dir/bad $dir/new
export -f run
export dir seconds ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
results=$(mktemp)
trap 'rm -f "$results"' EXIT
xargs -P "$(nproc)" -L 1 bash -c 'run "$@"' _ <<<"$targets" | tee "$results"
bad=$(grep -c '^FAILED' "$results" || true)
echo "$(grep -c '^ok' "$results" || true) passed, $bad failed"
[ "$bad" = 0 ]
