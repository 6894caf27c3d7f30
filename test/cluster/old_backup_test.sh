#!/bin/bash
# A backup of the metadata from before copies moved: who has left its chains since is said to serve them, and must not.
# Once with the data nodes as they are, once after all processes were killed.
set -u
. "$(dirname "$0")/lib.sh"
config=$cluster/cluster.ini
empty() { echo "[(t['chains'], t['used'] < 1000000) for t in o['targets'] if t['name'] == '$1'] == [(0, True)]"; }
full="o['chains']['full'] == o['chains']['total']"
rest="o['moves']['left'] == 0 and $full and o['moves']['state'] == 'done'"
right() {
    rm -rf "$work/back" && mkdir "$work/back" && timeout 100 "$opendfs" get -q /files "$work/back/" &&
        diff -r "$work/in" "$work/back/files"
}

check 'a cluster of three targets' make_cluster --copies 2 --targets 3
check 'up' "$opendfs" up -q "$cluster"
mkdir "$work/in"
for i in $(seq 12); do head -c $((i * 400000)) /dev/urandom >"$work/in/$i"; done
check 'files' "$opendfs" put -q "$work/in" /files
check 'a backup' "$opendfs" meta backup --config "$config" "$work/backup"

restored=0
restore() {
    restored=$((restored + 1))
    mv "$cluster/meta.0" "$work/lost.$restored"
    "$opendfs" meta restore --config "$config" "$work/backup" "$cluster/meta.0"
}
check 'target.1 leaves its chains' "$opendfs" target drain target.1
waits 'it is empty' 120 "$(empty target.1)"
waits 'and all is at rest' 60 "$rest"
kill -9 "$(pid_of meta.0)"
check 'the metadata are those of before' restore
check 'up with them' "$opendfs" up -q --wait 0 "$cluster"
check 'all files are right' right
waits 'it gets its copies back' 120 "$full and [t['used'] > 1000000 for t in o['targets'] if t['name'] == 'target.1'] == [True]"
check 'all files are right with it' right
same 'it has said what it thinks of that' "$(grep -c 'no whole copy of a chain that it is said to serve' "$cluster"/log/node.1.log | sed 's/^[1-9][0-9]*$/some/')" some

check 'it leaves them again' "$opendfs" target drain target.1
waits 'it is empty again' 120 "$(empty target.1)"
waits 'all is at rest again' 60 "$rest"
kill -9 $(cat "$cluster"/run/*.pid)
check 'the metadata are those of before once more' restore
check 'everything starts' timeout 100 "$opendfs" up -q "$cluster"
check 'all files are right after that' right
waits 'all copies are there' 120 "$full"
check 'all files are right in the end' right
finish
