#!/bin/bash
# Chunks that are damaged by hand, and that nobody reads, are found, repaired from the other copy, and told; those without a
# good copy are told with the name of their file, until it is gone.
set -u
. "$(dirname "$0")/lib.sh"
DATA_ENGINE=file # whose files have names by which they are found; extent_damage_test.sh damages containers
make_cluster --copies 2 --targets 2 || { bad 'init'; finish; }
sed -i "s/^\[target\.[0-9]*\]/&\nscrub = 5s\nscrub_share = 100%/" "$cluster/cluster.ini"
"$opendfs" up -q "$cluster" || { bad 'start'; finish; }
mkdir "$work/in" "$work/got"
for i in $(seq 20); do head -c 20000 /dev/urandom >"$work/in/$i"; done
check 'files go in' "$opendfs" put -q "$work/in" /in

chunks() { find "$cluster/$1" -path '*/??/??/*' -type f -printf '%f\n' | sort; }
damage() { # TARGET CHUNK
    printf 'not what it was' | dd of="$(find "$cluster/$1" -name "$2")" bs=1 seek=5000 conv=notrunc status=none
}
sum() { "$opendfs" status --json | grep -o "\"$1\":[0-9]*" | awk -F: '{s += $2} END {printf "%d\n", s}'; }
until_sum() { # NAME FIELD AT_LEAST
    for _ in $(seq 150); do
        [ "$(sum "$2")" -ge "$3" ] && { ok "$1"; return; }
        sleep 0.2
    done
    bad "$1: $2 is $(sum "$2")"
}
says() { # NAME TEXT COMMAND...
    local name=$1 text=$2
    shift 2
    for _ in $(seq 150); do
        "$@" >"$work/out" 2>&1
        grep -qF -- "$text" "$work/out" && { ok "$name"; return; }
        sleep 0.2
    done
    bad "$name: $(tail -n 3 "$work/out" | tr '\n' ' ')"
}

same 'all chunks are at both targets' "$(chunks target.0)" "$(chunks target.1)"
for chunk in $(chunks target.0 | head -n 3); do damage target.0 "$chunk"; done
for chunk in $(chunks target.0 | tail -n 2); do damage target.1 "$chunk"; done
until_sum 'the damage is found' found_ever 5
until_sum 'and repaired' repaired 5
says 'nothing is damaged any more' 'healthy, all ' "$opendfs" status
check 'the files are had back' "$opendfs" get -q /in "$work/got"
check 'as they were' diff -r "$work/in" "$work/got/in"
until_sum 'rounds come to an end' last_ms 1

lost=$(chunks target.0 | sed -n 10p) # one that was not repaired: that is stored elsewhere in its file
damage target.0 "$lost"
damage target.1 "$lost"
says 'what has no good copy is told' ' without a good copy' "$opendfs" status --json
if [ "$(id -u)" = 0 ]; then
    says 'and whose it is' '[chunk.lost]' "$opendfs" fsck --data
    file=$(sed -n 's/^\(\/in\/[0-9]*\) (inode .*\[chunk\.lost\]$/\1/p' "$work/out")
    fails 'it cannot be read' 1 'could not be copied' "$opendfs" get "$file" "$work/none"
    check 'it can be removed' "$opendfs" rm "$file"
    says 'then all is well' 'nothing is known to be wrong' "$opendfs" fsck --data
fi
finish
