#!/bin/bash
# The metadata in a tree on the disk, with little memory: names in and out, kills, a backup, its file checked by the tools.
set -u
. "$(dirname "$0")/lib.sh"
META_ENGINE=tree
META_CACHE=32M
start_cluster || { bad 'start'; finish; }
file=$cluster/meta.0/state/tree
same 'status names the engine' "$("$opendfs" status --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["metadata"][0]["engine"]["name"])')" tree
mkdir "$work/in"
for i in $(seq 20); do
    mkdir "$work/in/dir$i"
    for k in $(seq 100); do echo "$i $k" >"$work/in/dir$i/file-with-a-long-name-number-$k"; done
done
for n in 1 2 3; do
    "$opendfs" put -q "$work/in" "/copy$n" >"$work/put.log" 2>&1 &
    putter=$!
    while ! "$opendfs" ls "/copy$n" 2>/dev/null | grep -q .; do kill -0 $putter 2>/dev/null || break; done
    kill -9 "$(pid_of meta.0)" || bad 'kill'
    "$opendfs" up -q --wait 0 "$cluster" || bad 'up after a kill'
    if wait $putter; then ok "put goes on while the server dies ($n)"; else bad "put ($n): $(tail -n 2 "$work/put.log")"; fi
done
check 'healthy again' "$opendfs" up "$cluster"
for n in 1 2 3; do
    rm -rf "$work/back"
    mkdir "$work/back"
    check "get ($n)" "$opendfs" get -q "/copy$n" "$work/back/"
    check "nothing is lost or changed ($n)" diff -r "$work/in" "$work/back/copy$n"
done
check 'a directory goes' "$opendfs" rm -r -q /copy2
same 'and only that' "$("$opendfs" ls / | tr '\n' ' ')" 'copy1 copy3 '
check 'the namespace is whole' "$opendfs" fsck --namespace
check 'a backup' "$opendfs" meta backup --config "$cluster/cluster.ini" "$work/backup"
check 'which is whole' "$opendfs" meta verify "$work/backup"
check 'down' "$opendfs" down -q "$cluster"
check 'the file is there' test -s "$file"
check 'the file is whole' "$opendfs" tree verify "$file"
check 'and can be shown' sh -c "'$opendfs' tree stats '$file' >'$work/stats'"

# --- another engine ---
sed -i 's/^engine = tree/engine = memory/' "$cluster/cluster.ini"
fails 'another engine does not start on it' 1 'meta.0 has ended' "$opendfs" up -q "$cluster"
check 'and the log says why' grep -rqF "are of engine 'tree'" "$cluster/log"
"$opendfs" down -q "$cluster" >"$work/out" 2>&1
check 'a restore makes one' "$opendfs" meta restore --config "$cluster/cluster.ini" "$work/backup" "$work/restored"
sed -i "s#^directory = meta.0#directory = $work/restored#" "$cluster/cluster.ini"
check 'which starts' "$opendfs" up -q "$cluster"
same 'with the same names' "$("$opendfs" ls / | tr '\n' ' ')" 'copy1 copy3 '

# --- damage ---
cp "$file" "$work/damaged"
size=$(stat -c %s "$file")
for at in 4096 $((size / 8)) $((size / 4)); do printf 'damage' | dd of="$work/damaged" bs=1 seek="$at" conv=notrunc status=none; done
if "$opendfs" tree verify "$work/damaged" >"$work/out" 2>&1; then code=0; else code=$?; fi
check 'damage ends in no crash' test "$code" -lt 126
finish
