#!/bin/bash
# usage: audit_test.sh OPENDFS
# Looks for data that belongs to no file, with real processes: nothing is found where nothing is; what was made after a
# backup that is restored is kept, told in words, and let go of by its range only.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
config=$cluster/cluster.ini

look() { # NAME: a whole look
    check "$1: a look begins" "$opendfs" audit start
    for _ in $(seq 150); do
        "$opendfs" audit status >"$work/status" 2>&1
        grep -q '^newest look: looking' "$work/status" || break
        sleep 0.2
    done
    same "$1: it ends" "$(head -n 1 "$work/status" | cut -d, -f1)" 'newest look: done'
}
says() { # NAME TEXT: of the newest look
    if grep -qF -- "$2" "$work/status"; then ok "$1"; else bad "$1: $(tr '\n' ';' <"$work/status")"; fi
}
chunks() { "$opendfs" metrics | awk -v name="daemon=\"target.$1\"" 'index($0, "opendfs_target_chunks{") == 1 && index($0, name) {print $NF}'; }
until_up() {
    for _ in $(seq 150); do
        "$opendfs" status | grep -q ', all [0-9]* chains have all copies' && return
        sleep 0.2
    done
}

mkdir "$work/in"
for i in $(seq 30); do head -c 20000 /dev/urandom >"$work/in/$i"; done
check 'a cluster starts' start_cluster --copies 2 --targets 2
"$opendfs" audit status >"$work/status" 2>&1
says 'there was none yet' 'newest look: never'
check 'files go in' "$opendfs" put -q "$work/in" /in
check 'and some out' "$opendfs" rm /in/1 /in/2
if [ "$(id -u)" != 0 ]; then
    fails 'it is for root' 1 'not permitted' "$opendfs" audit start
    finish
fi
look 'a cluster as it should be'
says 'all of it was looked at' 'data ids were looked at'
same 'nothing is found' "$(grep -c 'belong to no file\|wait for' "$work/status")" 0
check 'nothing is said' "$opendfs" fsck --data

check 'a backup' "$opendfs" meta backup --config "$config" "$work/backup"
check 'more files go in' "$opendfs" put -q "$work/in" /later
before=$(chunks 0)
"$opendfs" down -q "$cluster"
rm -r "$cluster/meta.0"
check 'the backup is restored' "$opendfs" meta restore --config "$config" "$work/backup" "$cluster/meta.0"
check 'a cluster starts on it' "$opendfs" up -q "$cluster"
until_up
fails 'the later files are not known' 1 'No such file' "$opendfs" ls /later
look 'after the restore'
says 'what they had is kept' 'may belong to files of another state: kept'
says 'and why' 'were leapt over by a restore on '
fails 'fsck tells of it' 1 '[data.leapt]' "$opendfs" fsck --data
range=$(sed -n 's/^data ids \([0-9-]*\) were leapt over.*/\1/p' "$work/status")
fails 'another range is none' 1 '' "$opendfs" audit release "${range%?}0"
fails 'nor is nonsense' 1 'no range of data ids' "$opendfs" audit release 7
look 'once more'
says 'it is still kept' 'may belong to files of another state: kept'
same 'every chunk is there' "$(chunks 0)" "$before"
check 'the range is let go of' "$opendfs" audit release "$range"
look 'afterwards'
says 'it looks like nobodys' 'were found to belong to no file for the first time'
says 'and waits for a second look' 'data ids wait for a second look'
fails 'fsck tells of that' 1 '[data.orphan]' "$opendfs" fsck --data
look 'too early'
says 'for that it is too early' 'were found before, but not long enough ago'
same 'every chunk is there still' "$(chunks 0)" "$before"
check 'files of before can be read' "$opendfs" get -q /in "$work/got"
rm "$work/in/1" "$work/in/2"
check 'as they were' diff -r "$work/in" "$work/got"
finish
