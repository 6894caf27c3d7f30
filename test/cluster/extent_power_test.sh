#!/bin/bash
# The power of a disk fails under load: ext4 on a disk that loses, keeps and reorders what was not flushed (bad_disk.c), and
# ext4 that is shut down by its ioctl. What was acknowledged as synced is there afterwards, and nothing else is served.
# usage: extent_power_test.sh OPENDFS; ROUNDS (3) of each, SEED
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/disks.sh"
rounds=${ROUNDS:-3}
seed=${SEED:-$RANDOM}
need_disks 'power cuts'
echo "SEED=$seed"
DATA_ENGINE=${DATA_ENGINE:-extent}
bad_disk=$(dirname "$opendfs")/../test/bad_disk
mkdir "$work/in"
for i in $(seq 40); do head -c $((i * i * 700 + 100)) /dev/urandom >"$work/in/$i"; done

# load N: files in until one fails; those that are in are noted.
load() {
    local i
    for i in $(seq 1000); do
        timeout 20 "$opendfs" put -q "$work/in/$((i % 40 + 1))" "/$1.$i" >/dev/null 2>&1 || return
        echo "$1.$i $((i % 40 + 1))" >>"$work/done"
    done
}
# What was put since the last look, or all that ever was, is there.
whole() {
    files_are "$work/done" || return
    cat "$work/done" >>"$work/done.all"
    : >"$work/done"
}
files_are() { # FILE
    local name from
    while read -r name from; do
        timeout 30 "$opendfs" get -q "/$name" - 2>"$work/err" | cmp -s - "$work/in/$from" ||
            { echo "/$name is not file $from: $(cat "$work/err")"; return 1; }
    done <"$1"
}
# cut_under_load N DISK COMMAND...: the command cuts.
cut_under_load() {
    local n=$1 disk=$2 loader second pid
    shift 2
    load "$n" &
    loader=$!
    load "$n.b" &
    second=$!
    sleep "$((RANDOM % 3)).$((RANDOM % 9 + 1))"
    "$@" || bad "$n: cannot cut"
    for pid in node.0 target.0; do kill -9 "$(pid_of $pid)" 2>/dev/null; done
    disk_off
    heal
    kill $loader $second 2>/dev/null
    wait $loader $second
    check "$n: the file system is back" disk_on "$disk"
    check "$n: up" timeout 60 "$opendfs" up -q "$cluster"
    check "$n: its $(wc -l <"$work/done") files are there" whole
}
cluster_on() { # DISK
    LEASE=1s make_cluster --copies 1 --targets 1 || return
    short_rest
    disk_make "$1" && disk_on "$1" && target_on_disk target.0 && "$opendfs" up -q "$cluster" && : >"$work/done" && : >"$work/done.all"
}
over() {
    check "$1: all of $(wc -l <"$work/done.all") files are still there" files_are "$work/done.all"
    check "$1: down" "$opendfs" down -q "$cluster"
    check "$1: the store is sound" "$opendfs" chunk verify "$work/disk/target.0"
    disk_off
    rm -rf "$cluster"
}

# --- the ioctl ---
heal() { :; }
shut_down() {
    python3 -c '
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", int(sys.argv[2])))' "$work/disk" $((RANDOM % 2 + 1))
}
truncate -s 512M "$work/image"
check 'a cluster on ext4' cluster_on "$work/image"
for n in $(seq "$rounds"); do cut_under_load "ioctl-$n" "$work/image" shut_down; done
over 'ioctl'

# --- the disk ---
if [ ! -x "$bad_disk" ]; then
    skip 'a disk that loses writes' 'bad_disk was not built (libfuse3)'
    finish
fi
mkdir "$work/bad"
"$bad_disk" "$work/bad" $((512 << 20)) 2>"$work/bad.out" &
within 5 test -e "$work/bad/disk" || { skip 'a disk that loses writes' "FUSE: $(cat "$work/bad.out")"; finish; }
heal() {
    echo "  $(cat "$work/bad/control")"
    echo heal >"$work/bad/control"
}
cut_disk() { # when some writes are on their way
    echo "arm $((seed + RANDOM)) $((RANDOM % 150 + 1))" >"$work/bad/control"
    within 20 grep -q off "$work/bad/control"
}
check 'a cluster on a bad disk' cluster_on "$work/bad/disk"
for n in $(seq "$rounds"); do cut_under_load "cut-$n" "$work/bad/disk" cut_disk; done
# fail_under_load N: some writes fail. What a failed sync leaves in the page cache is all that the next lives of the target
# see, until the file system is mounted again (doc/design/0050).
fail_under_load() {
    local loader
    load "failing-$1" &
    loader=$!
    echo "fail $((RANDOM % 100 + 10))" >"$work/bad/control"
    sleep "$((RANDOM % 3 + 1)).$((RANDOM % 10))"
    kill $loader 2>/dev/null
    wait $loader
    echo heal >"$work/bad/control"
    kill -9 "$(pid_of node.0)" "$(pid_of target.0)" 2>/dev/null
    disk_off
    check "failing-$1: the file system is back" disk_on "$work/bad/disk"
    check "failing-$1: up" timeout 60 "$opendfs" up -q "$cluster"
    check "failing-$1: its $(wc -l <"$work/done") files are there" whole
}
for n in $(seq "$rounds"); do fail_under_load "$n"; done
over 'a bad disk'
finish
