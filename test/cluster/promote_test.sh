#!/bin/bash
# All copies of all chains are lost but an old one: what status, why and chain say of it, the order that lets it serve, what
# is refused, and what becomes of a newer one that comes back after all.
set -u
. "$(dirname "$0")/lib.sh"
config=$cluster/cluster.ini
# lose N: the node and its disk.
lose() {
    kill -9 "$(pid_of "node.$1")" "$(pid_of "target.$1")"
    mv "$cluster/target.$1" "$work/disk.$1"
}
back() { mv "$work/disk.$1" "$cluster/target.$1"; }
up() { "$opendfs" up -q --wait 0 "$cluster" >"$work/up" 2>&1; }
reads_old() {
    rm -rf "$work/got" && mkdir "$work/got" && timeout 100 "$opendfs" get -q /files "$work/got/" && diff -r "$work/old" "$work/got/files"
}

check 'a cluster of three targets' make_cluster --copies 3 --targets 3
sed -i "s/^copies = .*/&\ndark_wait = 3s/" "$config"
check 'up' "$opendfs" up -q "$cluster"
mkdir "$work/old" "$work/new"
for i in $(seq 8); do
    head -c $((i * 300000)) /dev/urandom >"$work/old/$i"
    head -c $((i * 300000)) /dev/urandom >"$work/new/$i"
done
check 'files' "$opendfs" put -q "$work/old" /files
check 'nothing is dark' "$opendfs" chain list
same 'and nothing is said' "$(cat "$work/out")" ''
fails 'there is nothing to promote' 1 'is not dark' "$opendfs" chain promote --yes target.2 1
fails 'nor to give up' 1 'was not set aside' "$opendfs" chain discard --yes target.2 1
fails 'a target that is not there' 1 "there is no target '9'" "$opendfs" chain promote --yes 9 1
fails 'no chain' 2 'name chains, or --all' "$opendfs" chain promote --yes target.2

# --- all but an old one are lost ---
kill -9 "$(pid_of node.2)" "$(pid_of target.2)"
waits 'one is missing' 30 "o['chains']['degraded'] == o['chains']['total']"
touch "$work"/new/*
check 'files that the old one will lack' "$opendfs" put -q "$work/new" /new
lose 0
lose 1
waits 'nobody serves' 30 "o['chains']['dark'] == o['chains']['total']"
up
# Targets get their numbers in the order in which they come, and which of the others is lost first is open, too.
old="all([m['name'] for m in d['members'] if m['target'] == d['promote']] == ['target.2'] for d in o['dark'])"
waits 'the old one is there, and is not asked' 60 "len(o['dark']) > 0 and $old"
lost=$(field "[m['name'] for m in o['dark'][0]['members'] if m['state'] == 'last-serving'][0]")
same 'all chains are named' "$(field "len(o['dark']) == o['chains']['total']")" True
fails 'status tells the order' 0 'opendfs chain promote target.2 ' "$opendfs" status
fails 'chain list tells who has what' 0 'has what was synced' "$opendfs" chain list 1
fails 'and what the old one has' 0 'has a whole copy, of 20' "$opendfs" chain list 1
since=$("$opendfs" chain promote target.2 1 2>&1 </dev/null | sed -n "s|.*opendfs find --type f --newer '\(.*\)' /\$|\1|p")
fails 'what it names are the files that are concerned' 0 '/new/5' "$opendfs" find --type f --newer "$since" /
fails 'why tells the order' 1 'only when nothing newer will ever come back: opendfs chain promote target.2 ' timeout 100 "$opendfs" why /files/8

# --- what is refused ---
fails 'not without an answer' 1 'nothing was changed' "$opendfs" chain promote target.2 1
fails 'it is said what is lost' 1 'Files that were written since then' "$opendfs" chain promote target.2 1
fails 'and who is given up' 1 "given up: target." "$opendfs" chain promote target.2 1
fails 'not one that is lost' 1 'it serves by itself when it is back' "$opendfs" chain promote --yes "$lost" "$(field "o['dark'][0]['chain']")"
same 'nothing has changed' "$(field "o['chains']['dark'] == o['chains']['total']")" True

# --- the order ---
command=$(field "o['dark'][0]['command']")
check "the order of the status: $command" "$opendfs" ${command#opendfs } --yes
same 'one chain serves' "$(field "o['chains']['total'] - o['chains']['dark']")" 1
check 'all others' "$opendfs" chain promote --yes --all target.2
waits 'all serve' 30 "o['chains']['dark'] == 0"
same 'both others are set aside' "$(field "len(o['aside']) == 2 * o['chains']['total']")" True
check 'the files are those of before' reads_old
same 'what the old one lacks is zeros' "$(timeout 60 "$opendfs" get -q /new/5 - | tr -d '\0' | wc -c)" 0
same 'of the length that it had' "$(timeout 60 "$opendfs" get -q /new/5 - | wc -c)" 1500000
check 'it is rewritten' "$opendfs" put -q "$work/new/5" /new/5
check 'and is right' cmp "$work/new/5" <(timeout 60 "$opendfs" get -q /new/5 -)
check 'new ones can be written' "$opendfs" put -q "$work/new/3" /later
same 'it is in the log' "$(grep -c 'an administrator has promoted an old copy' "$cluster/log/meta.0.log")" "$(field "o['chains']['total']")"

# --- a newer one comes back ---
back 0
up
waits 'target.0 is up' 60 "[t['state'] for t in o['targets'] if t['name'] == 'target.0'] == ['up']"
used=$(field "[t['used'] for t in o['targets'] if t['name'] == 'target.0']")
sleep 5
same 'it is left alone' "$(field "[t['used'] for t in o['targets'] if t['name'] == 'target.0']")" "$used"
same 'and serves nothing' "$(field "[t['serving'] for t in o['targets'] if t['name'] == 'target.0']")" '[0]'
check 'the files are still those of before' reads_old
fails 'status tells of it' 0 'opendfs chain discard target.' "$opendfs" status
check 'and of one that is set aside' sh -c "'$opendfs' status | grep -q 'opendfs chain discard target\.[01] '"
kill -9 "$(pid_of meta.0)"
up
waits 'a new leader knows it' 60 "len(o['aside']) == 2 * o['chains']['total'] and o['chains']['dark'] == 0"
fails 'not without an answer either' 1 'nothing was changed' "$opendfs" chain discard --all target.0
check 'it is given up' "$opendfs" chain discard --yes --all target.0
waits 'it gets what the other has' 100 "[t['serving'] == o['chains']['total'] for t in o['targets'] if t['name'] == 'target.0'] == [True]"
back 1
waits 'target.1 is up' 60 "[t['state'] for t in o['targets'] if t['name'] == 'target.1'] == ['up']"
check 'it is given up, too' "$opendfs" chain discard --yes --all target.1
waits 'all copies are there' 100 "o['chains']['full'] == o['chains']['total'] and o['aside'] == []"
check 'the files are those of before, at all' reads_old
check 'and so is what came later' cmp "$work/new/3" <(timeout 60 "$opendfs" get -q /later -)
finish
