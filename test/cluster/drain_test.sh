#!/bin/bash
# Targets of a running cluster are drained, removed, lost and added, while a reader compares its files all the time.
set -u
. "$(dirname "$0")/lib.sh"
target() { field "[t['$2'] for t in o['targets'] if t['name'] == '$1']"; }
empty() { echo "[(t['chains'], t['used'] < 1000000) for t in o['targets'] if t['name'] == '$1'] == [(0, True)]"; }
rest="o['moves']['left'] == 0 and o['chains']['full'] == o['chains']['total'] and o['moves']['state'] == 'done'"

check 'a cluster of five targets' make_cluster --copies 2 --targets 5
sed -i "s/^copies = .*/&\nrebuild = 6s/" "$cluster/cluster.ini"
check 'up' "$opendfs" up -q "$cluster"
mkdir "$work/in"
for i in $(seq 12); do head -c $((i * 400000)) /dev/urandom >"$work/in/$i"; done
check 'files' "$opendfs" put -q "$work/in" /files

# The reader: whatever moves, each file is there and whole. A new client needs the metadata server, which dies once.
read_one() {
    while ! timeout 60 "$opendfs" get -q "/files/$1" - >"$work/got" 2>"$work/why"; do
        grep -q 'meta.0 does not run' "$work/why" || break
    done
    cmp -s "$work/got" "$work/in/$1" || echo "file $1: $(head -n 1 "$work/why")" >>"$work/reader"
}
(
    rounds=0
    while [ ! -e "$work/stop" ]; do
        for i in $(seq 12); do
            read_one "$i"
        done
        rounds=$((rounds + 1))
        echo $rounds >"$work/rounds"
    done
) &
reader=$!

# --- how chains lie ---
same 'the table is even' "$(field "[(c['name'], c['load'] <= 1100, 1000 <= c['rebuild'] <= 1500) for c in o['classes']]")" \
    "[('default', True, True)]"
fails 'class table' 0 'rebuild of a lost target 1.' "$opendfs" class table
fails 'of a class that is not there' 1 "there is no storage class 'nope'" "$opendfs" class table nope

# --- weight and labels ---
values="[(t['weight'], t['labels']) for t in o['targets'] if t['name'] == 'target.1']"
check 'target set' "$opendfs" target set target.1 --weight 101 --labels 'nvme fast'
same 'status shows it' "$(field "$values")" "[(101, 'nvme fast')]"
fails 'a weight that is none' 2 'is not a number' "$opendfs" target set target.1 --weight many
fails 'neither of them' 2 'say --weight' "$opendfs" target set target.1
fails 'the text shows both' 0 'weight 101, labels nvme fast' sh -c "'$opendfs' status | grep target.1"
check 'and back' "$opendfs" target set 1 --weight 100 --labels ''
check 'and a weight alone' sh -c "'$opendfs' status | grep -q 'target.1 .*weight 100\$'"
same 'as status shows' "$(field "$values")" "[(100, '')]"

# --- drain ---
same 'it has chains' "$(field "[t['chains'] > 0 for t in o['targets'] if t['name'] == 'target.1']")" '[True]'
fails 'a target that is not there' 1 "there is no target '9'" "$opendfs" target drain 9
check 'target drain' "$opendfs" target drain target.1
waits 'progress is told' 20 "o['moves']['done'] > 0 or o['moves']['left'] > 0"
waits 'it is empty' 120 "$(empty target.1)"
waits 'nothing is left to do' 60 "$rest"
fails 'status tells that it drains' 0 ', drains' "$opendfs" status
fails 'rebalance status' 0 'done' "$opendfs" rebalance status

# --- the metadata server dies in the middle ---
check 'target undrain' "$opendfs" target undrain 1
waits 'it is used again' 60 "[t['chains'] > 0 for t in o['targets'] if t['name'] == 'target.1'] == [True]"
check 'node drain' "$opendfs" node drain 2
kill -9 "$(pid_of meta.0)"
check 'up again' "$opendfs" up -q "$cluster"
waits 'the drain goes on' 150 "$(empty target.2)"

# --- replace and remove ---
fails 'not by one that drains' 1 'Invalid argument' "$opendfs" target replace target.3 target.2
check 'node undrain' "$opendfs" node undrain 2
check 'target remove' "$opendfs" target remove target.3
waits 'it is removed' 150 "[t['plan'] for t in o['targets'] if t['name'] == 'target.3'] == ['removed']"
waits 'and the rest is whole' 60 "$rest"

# --- a node by another one: two targets by one ---
printf '\n[node.9]\nhost = nine\n\n[target.8]\nnode = 9\naddress = 127.0.0.1:0\ndirectory = target.8\n\n[target.9]\nnode = 9\naddress = 127.0.0.1:0\ndirectory = target.9\n' >>"$cluster/cluster.ini"
for i in 8 9; do mkdir "$cluster/target.$i" && touch "$cluster/target.$i/opendfs-new"; done
check 'a node with two targets' "$opendfs" up -q "$cluster"
waits 'they get their share' 150 "[t['chains'] > 0 for t in o['targets'] if t['host'] == 'nine'] == [True, True]"
fails 'not by a host that is not there' 1 "no target is on a host 'ten'" "$opendfs" node replace nine ten
fails 'nor by itself' 1 "'nine' cannot replace itself" "$opendfs" node replace nine nine
check 'node replace' "$opendfs" node replace nine 0
waits 'both are removed' 150 "[t['plan'] for t in o['targets'] if t['host'] == 'nine'] == ['removed', 'removed']"
waits 'and the rest is whole again' 60 "$rest"

# --- lost for good ---
kill -STOP "$(pid_of node.4)" # it starts no new worker
kill -9 "$(pid_of target.4)"
waits 'its chains lack a copy' 30 "o['chains']['full'] < o['chains']['total']"
waits 'they are made anew elsewhere' 150 "o['chains']['full'] == o['chains']['total'] and [t['chains'] for t in o['targets'] if t['name'] == 'target.4'] == [0]"
kill -CONT "$(pid_of node.4)"
waits 'back, it gets its share' 150 "[t['chains'] > 0 for t in o['targets'] if t['name'] == 'target.4'] == [True] and $rest"

# --- what is there ---
touch "$work/stop"
wait $reader
same 'the reader has always had its files' "$(cat "$work/reader" 2>/dev/null | head -n 3)" ''
same 'and has read' "$(($(cat "$work/rounds") > 2))" 1
check 'all files are whole' sh -c "'$opendfs' get -q /files '$work/back' && diff -r '$work/in' '$work/back'"
check 'the records are sound' "$opendfs" fsck --namespace
finish
