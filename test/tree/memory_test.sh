#!/bin/bash
# usage: memory_test.sh BENCH_TREE [RECORDS [CACHE_MIB]]
# The tree keeps to its cache: a load of RECORDS (2 million, some 300 MB), reads, a scan and upserts with a cache of 128
# MiB, in a group that may have an eighth more than that and what the program itself takes; there the kernel kills
# whoever takes more. Says how much was resident for each MiB of the budget. Nothing is set for malloc().
# Groups of either version do; skipped where none are to be had. Ends with one line "N passed, N failed, N skipped".
set -uo pipefail
bench=$(realpath "$1")
records=${2:-2000000}
cache=${3:-128}
limit=$(((cache + cache / 8 + 16) << 20)) # code, stacks, the program's own buffers: 16 MiB
own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup 2>/dev/null)
root=/sys/fs/cgroup

skip() {
    echo "skipped: $*"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

[ -x "$bench" ] || skip "there is no $bench"
[ "$(id -u)" = 0 ] || skip "needs root"
if [ -n "$own" ] && [ -d "$root/memory${own%/}" ]; then
    group=$root/memory${own%/}/opendfs-memory-test.$$
    limit_file=memory.limit_in_bytes swap_file=memory.memsw.limit_in_bytes swap=$limit
    peak_file=memory.max_usage_in_bytes kills_file=memory.oom_control
else # version 2: below the root, whose children must have the controller
    grep -qw memory "$root/cgroup.controllers" 2>/dev/null || skip "no memory controller below $root"
    grep -qw memory "$root/cgroup.subtree_control" || echo +memory >"$root/cgroup.subtree_control" ||
        skip "groups below $root get no memory controller"
    group=$root/opendfs-memory-test.$$
    limit_file=memory.max swap_file=memory.swap.max swap=0 peak_file=memory.peak kills_file=memory.events
fi
mkdir "$group" 2>/dev/null || skip "no group can be made"
work=$(mktemp -d "${TMPDIR:-$(dirname "$bench")}/tree-memory.XXXXXX")
clean() {
    rm -rf "$work"
    rmdir "$group"
}
trap clean EXIT
echo "$limit" >"$group/$limit_file" || skip "the group has no limit"
[ ! -e "$group/$swap_file" ] || echo "$swap" >"$group/$swap_file"

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
    kills=$(sed -n 's/^oom_kill \([0-9]*\)$/\1/p' "$group/$kills_file" 2>/dev/null)
    peak=$(cat "$group/$peak_file" 2>/dev/null || echo 0) # Linux 5.19 or newer
    echo "$1: exit status $rc, killed for memory: ${kills:-?}, resident ${rss:-?} MiB =" \
        "$(awk "BEGIN { printf \"%.2f\", ${rss:-0} / $cache }") of a cache of $cache MiB," \
        "$((peak >> 20)) MiB with cached pages"
    [ $rc = 0 ] && [ "${kills:-0}" = 0 ]
}

failed=0
for name in load hit scan upsert; do
    phase $name || failed=$((failed + 1))
done
echo "$((4 - failed)) passed, $failed failed, 0 skipped"
[ $failed = 0 ]
