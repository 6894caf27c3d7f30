#!/bin/bash
# usage: bench.sh NAME BUILDDIR [ROUNDS]   Table on standard error, one JSON line per figure on standard output.
# NAME: a benchmark or a group of them; test/bench/bench.c has the table. Those that need a cluster find a fresh one of
# three data nodes with two copies in OPENDFS_CLUSTER; it lies in a directory below BENCH_DIR (default: the build
# directory) that is gone afterwards. BENCH_ENGINE: what keeps its metadata, as [meta.0] takes it.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
build=$(realpath "$2")
opendfs=$build/prog/opendfs
work=$(mktemp -d "${BENCH_DIR:-$build}/bench.XXXXXX")

clean() {
    local pid
    "$opendfs" down -q "$work/cluster" 2>/dev/null || true
    # What the clusters and servers of BENCH=datanode have left behind, should their script have been killed.
    for pid in $(cat "$work"/*/run/*.pid "$work"/*/nginx.pid 2>/dev/null); do
        if [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$work"; then
            kill -CONT "$pid" 2>/dev/null || true
            kill "$pid" 2>/dev/null || true
        fi
    done
    rm -rf "$work"
}
trap clean EXIT
# The engine alone, beside the others that the build found (tools/deps.sh librocksdb-dev liblmdb-dev libwiredtiger-dev).
# Further arguments: values as test/bench/tree/run.py takes them. Raw lines are kept in the build directory.
if [ "$name" = tree ]; then
    shift 2
    [[ " $* " == *" raw="* ]] || set -- "$@" "raw=$build/bench-tree.$(date +%Y%m%d-%H%M%S).raw"
    test/bench/tree/run.py "$build/test/bench_tree" "$work" "$@"
    exit
fi
# Data nodes beside nginx, fio and MooseFS, as far as they are installed (tools/deps.sh nginx-light fio moosefs-master
# moosefs-chunkserver moosefs-client). Further arguments, here or in BENCH_ARGS: values as test/bench/data/run.py takes
# them. Raw lines are kept in the build directory.
if [ "$name" = datanode ]; then
    shift 2
    # shellcheck disable=SC2086 # words
    set -- "$@" ${BENCH_ARGS:-}
    [[ " $* " == *" raw="* ]] || set -- "$@" "raw=$build/bench-datanode.$(date +%Y%m%d-%H%M%S).raw"
    test/bench/data/run.py "$build" "$work" "$@"
    exit
fi
# The mount beside other file systems, as far as they are installed (tools/deps.sh moosefs-master moosefs-chunkserver
# moosefs-client glusterfs-server bindfs). Further arguments, here or in BENCH_ARGS: values as test/bench/mount/run.py
# takes them. Raw lines are kept in the build directory.
if [ "$name" = mount ]; then
    shift 2
    # shellcheck disable=SC2086 # words
    set -- "$@" ${BENCH_ARGS:-}
    [[ " $* " == *" raw="* ]] || set -- "$@" "raw=$build/bench-mount.$(date +%Y%m%d-%H%M%S).raw"
    test/bench/mount/run.py "$build" "$work" "$@"
    exit
fi
# More files than fit in memory: the metadata in a tree, with a budget (BENCH_MEMORY) of which half is cache
# (BENCH_CACHE), one copy, one target; test/bench/meta_size.c has the other parameters. All lines are kept in BENCH_RAW
# (default: in the build directory).
if [ "$name" = size ]; then
    "$opendfs" init -q "$work/cluster" --copies 1 --targets 1 --port 0 >&2
    sed -i "s/^\[meta\.0\]/&\nengine = tree\nmemory = ${BENCH_MEMORY:-384M}\ncache = ${BENCH_CACHE:-192M}/" \
        "$work/cluster/cluster.ini"
    "$opendfs" up -q "$work/cluster" >&2
    export OPENDFS_CLUSTER=$work/cluster OPENDFS=$opendfs
    "$build/test/bench" size 1 | tee -a "${BENCH_RAW:-$build/bench-size.$(date +%Y%m%d-%H%M%S).raw}"
    exit
fi
export OPENDFS_BENCH_WORK=$work
if [ "$name" != rpc ] && [ "$name" != apply ] && [ "$name" != apply_tree ] && [ "$name" != disk ]; then
    "$opendfs" init -q "$work/cluster" --copies 2 --targets 3 --port 0 >&2
    sed -i "s/^\[meta.0\]$/&\nengine = ${BENCH_ENGINE:-auto}/" "$work/cluster/cluster.ini"
    "$opendfs" up -q "$work/cluster" >&2
    export OPENDFS_CLUSTER=$work/cluster OPENDFS=$opendfs
fi
"$build/test/bench" "$name" ${3:+"$3"}
