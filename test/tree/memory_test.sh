#!/bin/bash
# usage: memory_test.sh BENCH_TREE [RECORDS [CACHE_MIB]]
# The tree keeps to its cache: a load of RECORDS (2 million, some 300 MB), reads, a scan and upserts with a cache of 128
# MiB, in a group that may have an eighth more than that and what the program itself takes; there the kernel kills
# whoever takes more. Says how much was resident for each MiB of the budget. Nothing is set for malloc().
# Skipped where such groups (version 1, and root) are not to be had. Ends with one line "N passed, N failed, N skipped".
set -uo pipefail
bench=$(realpath "$1")
records=${2:-2000000}
cache=${3:-128}
limit=$(((cache + cache / 8 + 16) << 20)) # code, stacks, the program's own buffers: 16 MiB
own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup 2>/dev/null)
group=/sys/fs/cgroup/memory${own%/}/opendfs-memory-test.$$

skip() {
    echo "skipped: $*"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

[ -x "$bench" ] || skip "there is no $bench"
[ "$(id -u)" = 0 ] || skip "needs root"
[ -n "$own" ] && [ -d "$(dirname "$group")" ] || skip "no memory groups of version 1"
mkdir "$group" 2>/dev/null || skip "no group can be made"
work=$(mktemp -d "${TMPDIR:-$(dirname "$bench")}/tree-memory.XXXXXX")
clean() {
    rm -rf "$work"
    rmdir "$group"
}
trap clean EXIT
echo "$limit" >"$group/memory.limit_in_bytes" || skip "the group has no limit"

# The shell of the parentheses goes into the group and becomes the program.
phase() {
    (
        echo $BASHPID >"$group/cgroup.procs"
        exec timeout 900 "$bench" ours "$1" "$work" records="$records" gets=200000 cache_mib="$cache"
    ) >"$work.log" 2>&1
    rc=$?
    cat "$work.log"
    rss=$(sed -n 's/.*"rss_mib":\([0-9]*\).*/\1/p' "$work.log")
    rm -f "$work.log"
    kills=$(sed -n 's/^oom_kill \([0-9]*\)$/\1/p' "$group/memory.oom_control" 2>/dev/null)
    echo "$1: exit status $rc, killed for memory: ${kills:-?}, resident ${rss:-?} MiB =" \
        "$(awk "BEGIN { printf \"%.2f\", ${rss:-0} / $cache }") of a cache of $cache MiB," \
        "$(($(cat "$group/memory.max_usage_in_bytes") >> 20)) MiB with cached pages"
    [ $rc = 0 ] && [ "${kills:-0}" = 0 ]
}

failed=0
for name in load hit scan upsert; do
    phase $name || failed=$((failed + 1))
done
echo "$((4 - failed)) passed, $failed failed, 0 skipped"
[ $failed = 0 ]
