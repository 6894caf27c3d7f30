#!/bin/bash
# Copies on different racks: a whole rack is killed at once while files are read and written, is missed, rebuilt where there is room,
# and comes back; a node is moved to another rack.
set -u
. "$(dirname "$0")/lib.sh"
config=$cluster/cluster.ini
right() { rm -rf "$work/got" && mkdir "$work/got" && timeout 100 "$opendfs" get -q /files "$work/got/" && diff -r "$work/in" "$work/got/files"; }
# apart FILE: how many racks the copies of each of its chunks are in.
apart() { field "sorted({len({m['rack'] for m in k['members']}) for k in o['chunks']})" why "$1"; }
all_apart() { for i in $(seq 12); do [ "$(apart "/files/$i")" = '[2]' ] || return 1; done; }
kill_rack() { kill -9 $(for i in "$@"; do pid_of "node.$i"; pid_of "target.$i"; done); }
full="o['chains']['full'] == o['chains']['total']"
rest="o['moves']['left'] == 0 and $full and o['moves']['clashing'] == 0 and o['moves']['state'] == 'done'"

check 'a cluster of four targets' make_cluster --copies 2 --targets 4
sed -i "s/^copies = .*/&\ndomain = rack\nrebuild = 6s/; s/^\[node\.[01]\]/&\nrack = a/; s/^\[node\.[23]\]/&\nrack = b/" "$config"
check 'up' "$opendfs" up -q "$cluster"
mkdir "$work/in"
for i in $(seq 12); do head -c $((i * 400000)) /dev/urandom >"$work/in/$i"; done
check 'files' "$opendfs" put -q "$work/in" /files
same 'status knows the racks' "$(field "sorted((t['name'], t['rack']) for t in o['targets'])")" \
    "[('target.0', 'a'), ('target.1', 'a'), ('target.2', 'b'), ('target.3', 'b')]"
fails 'and shows them' 0 ', rack b' "$opendfs" status
fails 'the class says it' 0 'domain rack' "$opendfs" class list
check 'the copies of each chunk are in two racks' all_apart

# --- a rack is lost ---
kill_rack 0 1
check 'everything can be read' right
check 'and written' timeout 100 "$opendfs" put -q "$work/in/12" /files2
waits 'nothing is dark' 30 "o['chains']['dark'] == 0 and o['chains']['degraded'] + o['chains']['syncing'] > 0"
waits 'it is rebuilt in the other one' 120 "$full"
fails 'which is told' 0 'more than one copy in one failure domain' "$opendfs" status
check 'everything is right' right
check 'the rack comes back' "$opendfs" up -q "$cluster"
waits 'copies move apart again' 120 "$rest"
check 'they are in two racks' all_apart
check 'everything is right with both' right

# --- the other one ---
kill_rack 2 3
check 'everything can be read from the first one' right
check 'what was written, too' cmp "$work/in/12" <(timeout 60 "$opendfs" get -q /files2 -)
check 'up again' "$opendfs" up -q "$cluster"
waits 'all rests' 120 "$rest"

# --- a node is moved ---
sed -i '/^\[node\.2\]/,/^rack/s/^rack = b/rack = a/' "$config"
kill -HUP "$(pid_of node.2)"
waits 'its target is in the other rack' 60 "[t['rack'] for t in o['targets'] if t['name'] == 'target.2'] == ['a']"
waits 'what clashes moves apart' 120 "$rest"
check 'the copies are in two racks' all_apart
check 'everything is right in the end' right
finish
