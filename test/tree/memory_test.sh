#!/bin/bash
# usage: memory_test.sh BENCH_TREE [RECORDS [plain]]
# The tree keeps to its cache: a load of RECORDS (2 million, some 300 MB) with a cache of 128 MiB, in a group that may
# have 148 MiB and what the program itself takes; there the kernel kills whoever takes more. malloc() is told to give
# back at once what is freed, so that what counts is what the tree holds; with "plain" what malloc() keeps counts too.
# Skipped where such groups (version 1, and root) are not to be had. Ends with one line "N passed, N failed, N skipped".
set -uo pipefail
bench=$(realpath "$1")
records=${2:-2000000}
if [ "${3:-}" != plain ]; then
    export MALLOC_MMAP_THRESHOLD_=12288 MALLOC_MMAP_MAX_=1000000 MALLOC_TRIM_THRESHOLD_=131072
fi
limit=$(((148 + 16) << 20)) # code, stacks, the load's own buffers: 16 MiB
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
(
    echo $BASHPID >"$group/cgroup.procs"
    exec timeout 900 "$bench" ours load "$work" records="$records" cache_mib=128
) >"$work/log" 2>&1
rc=$?
cat "$work/log"
kills=$(sed -n 's/^oom_kill \([0-9]*\)$/\1/p' "$group/memory.oom_control" 2>/dev/null)
echo "exit status $rc, killed for memory: ${kills:-?}, resident at most" \
    "$(($(cat "$group/memory.max_usage_in_bytes") >> 20)) MiB with cached pages"
if [ $rc = 0 ] && [ "${kills:-0}" = 0 ]; then
    echo "1 passed, 0 failed, 0 skipped"
else
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
