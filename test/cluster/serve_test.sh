#!/bin/bash
# Which way the bytes of reads take, on a real file system: large files in order past the page cache, the rest through it, and
# what is there is sent from there. Without direct I/O, or where nobody can tell what is cached, less is looked at.
set -u
. "$(dirname "$0")/lib.sh"
start_cluster --copies 1 --targets 1 || { bad 'start'; finish; }
mkdir "$work/in" "$work/got"
head -c 50000000 /dev/urandom >"$work/big"
for i in $(seq 40); do head -c 26000 /dev/urandom >"$work/in/$i"; done
check 'a large file goes in' "$opendfs" put -q "$work/big" /big
check 'small ones go in' "$opendfs" put -q "$work/in" /in

chunks() { find "$cluster/target.0" \( -path '*/??/??/*' -o -name 'space.*' \) -type f; }
resident() { chunks | xargs fincore -b -n -o RES 2>/dev/null | awk '{s += $1} END {printf "%d\n", s}'; }
drop() { chunks | while read -r f; do dd if="$f" iflag=nocache count=0 status=none; done; }
count() { "$opendfs" metrics | awk -v name="opendfs_target_$1_total" 'index($1, name "{") == 1 {printf "%d\n", $NF}'; }
at_least() { if [ "$2" -ge "$3" ]; then ok "$1"; else bad "$1: $2 is less than $3"; fi; }
at_most() { if [ "$2" -le "$3" ]; then ok "$1"; else bad "$1: $2 is more than $3"; fi; }

sleep 3 # what is known of the chunks is stored, too
sync -f "$cluster"
chunks | xargs cat >/dev/null # what was written in large pieces has left the page cache
before=$(resident)
drop
after=$(resident)
tells=yes
if ! command -v fincore >/dev/null || [ "$before" -lt 40000000 ] || [ "$after" -gt 2000000 ]; then
    tells=
fi
check 'it is had back' "$opendfs" get -q /big "$work/got"
check 'as it was' cmp "$work/big" "$work/got/big"
streamed=$(count read_streamed_bytes)
if [ -z "$tells" ]; then
    skip 'the page cache is left alone' 'nobody can tell here what is in it'
elif [ "$(count read_stream_unable)" -gt 0 ]; then
    skip 'the page cache is left alone' 'the file system has no direct I/O'
else
    at_least 'it was read past the page cache' "$streamed" 40000000
    at_most 'which is as it was' "$(resident)" 6000000
fi
check 'small files are had back' "$opendfs" get -q /in "$work/got"
check 'as they were' diff -r "$work/in" "$work/got/in"
check 'and once more' "$opendfs" get -q /in "$work/got/again"
if [ -n "$tells" ]; then
    # Small contents lie side by side, so that the kernel's read-ahead brings most before they are asked for.
    if [ "$after" -lt 500000 ]; then
        at_least 'the first time from the disk' "$(count read_fetched)" 1
    else
        skip 'the first time from the disk' "the kernel has kept $after bytes, which may be all of the small files"
    fi
    at_least 'the second time from the page cache' "$(count read_cached)" 30
fi
same 'no small file was streamed' "$(count read_streamed_bytes)" "$streamed"
"$opendfs" status --json | grep -q '"reads":{"cached":' && ok 'the leader knows' || {
    sleep 12
    check 'the leader knows' sh -c "'$opendfs' status --json | grep -q '\"reads\":{\"cached\":'"
}
finish
