#!/bin/bash
# The disk below the metadata log is full: changes fail with a text, reading goes on, nothing acknowledged is lost. A
# tree keeps room for what gives room back: removing goes on, and new clients come.
set -u
. "$(dirname "$0")/lib.sh"
tree=
size=24m files=6000 least=1000
if [ "$(engine)" = tree ]; then tree=yes size=64m files=12000 least=500; fi
if [ "$(id -u)" != 0 ] || ! { mkdir "$work/disk" && mount -t tmpfs -o size=$size opendfs-test "$work/disk" 2>"$work/out"; }; then
    skip 'a full disk below the metadata log' "needs root and a tmpfs: $(head -n 1 "$work/out" 2>/dev/null)"
    finish
fi
mounted=$work/disk
LEASE=10s # what targets that are late make others note takes room, too
check 'a cluster' make_cluster --targets 2
if [ -d "$cluster/meta.0" ]; then mv "$cluster/meta.0" "$work/disk/meta.0"; fi
sed -i "s#^directory = meta.0#directory = $work/disk/meta.0#" "$cluster/cluster.ini"
check 'up' timeout 30 "$opendfs" up -q "$cluster"
mkdir "$work/in"
head -c 4000 /dev/urandom >"$work/one"
python3 -c '
import random, sys
for i in range(int(sys.argv[2])):
    open(sys.argv[1] + "/f%d" % i, "wb").write(random.randbytes(4000))' "$work/in" $files
check 'put while there is room' timeout 20 "$opendfs" put -q "$work/one" /first
if [ -n "$tree" ]; then
    mkdir "$work/old" && cp "$work"/in/f1??? "$work/old"
    check 'also what will be removed' timeout 20 "$opendfs" put -q "$work/old" /old
fi
fails 'a full disk is told' 1 'the disk of the metadata is full' timeout 30 "$opendfs" put -q "$work/in" /many
# A checkpoint may give some room back after that: until it is full again.
told() { timeout 5 "$opendfs" put -q "$work/one" "/second.$((++tries))" 2>&1 | grep -q 'the disk of the metadata is full'; }
full() { "$@" || { timeout 30 "$opendfs" put -q "$work/in" "/more.$((++tries))" 2>/dev/null; false; }; }
says() { timeout 5 "$opendfs" status 2>&1 | grep -q 'the disk of the metadata is full'; }
tries=0
check 'and at once the next time' within 60 full told
check 'ls goes on' timeout 5 "$opendfs" ls /
check 'get goes on' timeout 5 "$opendfs" get -q /first "$work/back"
check 'the same bytes' cmp "$work/one" "$work/back"
check 'status says so' within 60 full says
timeout 20 "$opendfs" ls /many >"$work/listed"
listed=$(wc -l <"$work/listed")
if [ "$listed" -gt $least ] && [ "$listed" -lt $files ]; then ok 'some files went in'; else bad "some files went in: $listed"; fi
again() {
    local end=$((SECONDS + 15))
    while [ $SECONDS -lt $end ]; do timeout 10 "$opendfs" put -q "$work/one" "$1" >/dev/null 2>&1 && return; done
    return 1
}
if [ -n "$tree" ]; then
    check 'removing goes on' timeout 20 "$opendfs" rm -q -r /old
    check 'and gives room back' again /room
    fails 'until the disk is full again' 1 'the disk of the metadata is full' timeout 30 "$opendfs" put -q "$work/in" /more
fi

# --- it ends in bounded time, and comes back with a full disk ---
check 'down' timeout 15 "$opendfs" down -q "$cluster"
check 'up with a full disk' timeout 15 "$opendfs" up -q --wait 0 "$cluster"
if [ -n "$tree" ]; then
    check 'a new client comes' timeout 10 "$opendfs" ls /
else # what it needs no longer fits into the log
    fails 'a new client is told' 1 'the disk of the metadata is full' timeout 10 "$opendfs" ls /
fi

# --- room comes back: no restart is needed ---
pid=$(pid_of meta.0)
check 'room' mount -o remount,size=200m "$work/disk"
check 'it goes on' again /third
same 'without a restart' "$(pid_of meta.0)" "$pid"
check 'what was listed is there' timeout 30 "$opendfs" get -q /many "$work/all"
same 'all of it' "$(find "$work/all" -type f | wc -l)" "$listed"
same 'nothing differs' "$(diff -rq "$work/in" "$work/all" | grep -vc '^Only in')" 0
check 'down at last' timeout 15 "$opendfs" down -q "$cluster"
finish
