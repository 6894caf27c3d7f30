#!/bin/bash
# usage: backup_test.sh OPENDFS
# A backup of the metadata while files go in; kill -9 of the metadata server; a new directory from the backup; all that
# was there before the backup is there, byte for byte. And what a backup refuses. Real processes, two copies.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

config=$cluster/cluster.ini
tree=$work/tree
mkdir -p "$tree/a/b" "$tree/big"
for i in $(seq 200); do
    head -c $((RANDOM % 3000)) /dev/urandom >"$tree/a/f$i"
done
head -c 9000000 /dev/urandom >"$tree/big/nine-megabytes"
ln -s ../f1 "$tree/a/b/link"

check "a cluster starts" start_cluster --copies 2 --targets 3
check "a tree goes in" "$opendfs" put -q "$tree" /

# --- the load that goes on ---
mkdir -p "$work/more"
for i in $(seq 50); do echo "more $i" >"$work/more/m$i"; done
(
    n=0
    while [ ! -e "$work/stop" ]; do
        n=$((n + 1))
        "$opendfs" put -q "$work/more" "/more$n" >/dev/null 2>&1 &
        echo $! >"$work/putting"
        wait $!
    done
) &
load=$!
# rounds N: the load has come so far.
rounds() {
    local tries=0
    until "$opendfs" stat "/more$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || return 1
        sleep 0.1
    done
}
check "some of the load is there" rounds 2

fails "without a configuration" 1 "cluster.ini" "$opendfs" meta backup --config "$work/none/cluster.ini" "$work/backup"
check "a backup while files go in" "$opendfs" meta backup --config "$config" "$work/backup"
check "it is sound" "$opendfs" meta verify "$work/backup"
same "nothing unfinished is left" "$(ls "$work"/*.partial 2>/dev/null)" ""
cp "$work/backup" "$work/damaged"
printf 'x' | dd of="$work/damaged" bs=1 seek=$(($(stat -c %s "$work/damaged") / 2)) conv=notrunc status=none
fails "damage is named" 1 "$work/damaged" "$opendfs" meta verify "$work/damaged"
head -c $(($(stat -c %s "$work/backup") - 5)) "$work/backup" >"$work/short"
fails "so is a missing end" 1 "$work/short" "$opendfs" meta verify "$work/short"

# --- the server dies; its directory is lost ---
check "the load goes on" rounds "$(($("$opendfs" ls / | grep -c more) + 1))"
kill -9 "$(pid_of meta.0)"
touch "$work/stop"
kill -9 "$(cat "$work/putting")" 2>/dev/null # it would wait for the server
wait $load
mv "$cluster/meta.0" "$work/old"

fails "nothing comes of a damaged one" 1 "damaged" "$opendfs" meta restore --config "$config" "$work/damaged" "$cluster/meta.0"
same "and nothing is made" "$(ls "$cluster/meta.0" 2>/dev/null)" ""
mkdir "$work/full"
touch "$work/full/file"
fails "not into a directory that holds something" 1 "$work/full" "$opendfs" meta restore --config "$config" "$work/backup" "$work/full"
check "a directory from the backup" "$opendfs" meta restore --config "$config" "$work/backup" "$cluster/meta.0"
check "the server starts on it" "$opendfs" up -q "$cluster"
check "what was there is there" "$opendfs" get -q /tree "$work/back"
check "byte for byte" diff -r "$tree" "$work/back"
check "files can be made" "$opendfs" put -q "$tree" /again
check "read" "$opendfs" get -q /again "$work/again"
check "and are right" diff -r "$tree" "$work/again"
kill -9 "$(pid_of meta.0)"
check "it starts again" "$opendfs" up -q "$cluster"
check "and has the new ones" "$opendfs" get -q /again "$work/once-more"
check "still right" diff -r "$tree" "$work/once-more"
check "a backup of that" "$opendfs" meta backup --config "$config" "$work/second"
finish
