#!/bin/bash
# Removed files are had back byte for byte, also over crashes of the metadata server; and go when their time is over.
set -u
. "$(dirname "$0")/lib.sh"
start_cluster || { bad 'start'; finish; }
mkdir -p "$work/in/tree/deep" "$work/got"
for size in 0 10 4096 5000 5000000; do head -c $size /dev/urandom >"$work/in/$size"; done
cp "$work/in/5000" "$work/in/tree/a"
cp "$work/in/5000000" "$work/in/tree/deep/b"
trash() { "$opendfs" trash "$@"; }
numbers() { trash list -q "$@" | awk '{print $1}'; }
crash() {
    kill -9 "$(pid_of meta.0)"
    check "up after the metadata server was killed ($1)" "$opendfs" up -q --wait 0 "$cluster"
}
# Waits for what a condition says, for 20 s.
until_so() {
    local i name=$1
    shift
    for i in $(seq 200); do
        if "$@" >/dev/null 2>&1; then ok "$name"; return; fi
        read -rt 0.1 <> <(:)
    done
    bad "$name"
}

check 'put' "$opendfs" put -q "$work/in" /in
fails 'nothing is kept at first' 0 'is gone (no directory says anything)' "$opendfs" trash show /in
check 'rm without trash' "$opendfs" rm /in/10
same 'the trash is empty' "$(numbers)" ''
fails 'no time' 2 'not a time' "$opendfs" trash keep /in soon
fails 'no second word' 2 'list' "$opendfs" trash
fails 'keep of a file' 1 'Not a directory' "$opendfs" trash keep /in/0 1h
fails 'keep of nothing' 1 'No such file' "$opendfs" trash keep /nowhere 1h
check 'keep' "$opendfs" trash keep /in 1h
fails 'show below' 0 '1 h' "$opendfs" trash show /in/tree/deep

# Files of all sizes.
for size in 0 4096 5000 5000000; do
    check "rm of $size bytes" "$opendfs" rm "/in/$size"
done
same 'all are listed' "$(numbers | wc -l)" 4
same 'as JSON as well' "$(trash list --json | grep -o '"path":"/in/[0-9]*"' | sort | tr '\n' ' ')" \
    '"path":"/in/0" "path":"/in/4096" "path":"/in/5000" "path":"/in/5000000" '
fails 'status counts them' 0 '4 removed files' "$opendfs" status
crash 'with files in the trash'
for size in 0 4096 5000 5000000; do
    check "restore of $size bytes" "$opendfs" trash restore "/in/$size"
    check "get of $size bytes" "$opendfs" get -q "/in/$size" "$work/got/"
    check "the same $size bytes" cmp "$work/in/$size" "$work/got/$size"
done
same 'none is left' "$(numbers)" ''
fails 'restore of nothing' 1 'no such file in the trash' "$opendfs" trash restore /in/0
fails 'restore of no number' 1 'no such file in the trash' "$opendfs" trash restore 999999

# Replaced: by rename, and by put.
check 'another' "$opendfs" put -q "$work/in/4096" /in/new
check 'mv over' "$opendfs" mv /in/new /in/5000
fails 'its name is taken' 1 'File exists' "$opendfs" trash restore /in/5000
check 'restore to another name' "$opendfs" trash restore /in/5000 /in/replaced
"$opendfs" get -q /in/replaced "$work/got/"
check 'what was replaced' cmp "$work/in/5000" "$work/got/replaced"
"$opendfs" get -q /in/5000 "$work/got/"
check 'what replaced it' cmp "$work/in/4096" "$work/got/5000"

# The same name twice: the newest comes back, the other one by its number.
for content in one two; do
    echo $content >"$work/twice"
    check "put $content" "$opendfs" put -q "$work/twice" /in/twice
    check "rm $content" "$opendfs" rm /in/twice
done
fails 'the newest of two' 0 'the newest of 2' "$opendfs" trash restore /in/twice
"$opendfs" get -q /in/twice "$work/got/"
same 'is the second' "$(cat "$work/got/twice")" two
check 'the other one by number' "$opendfs" trash restore "$(numbers /in)" /in/first
"$opendfs" get -q /in/first "$work/got/"
same 'is the first' "$(cat "$work/got/first")" one

# A whole tree whose directories are gone.
check 'rm -r' "$opendfs" rm -r /in/tree
fails 'listed with their paths' 0 '/in/tree/deep/b  (directory gone)' "$opendfs" trash list /in/tree
fails 'no place to go back to' 1 'its directory is gone' "$opendfs" trash restore /in/tree/a
crash 'before a tree is restored'
check 'restore -r' "$opendfs" trash restore -r /in/tree
check 'get the tree' "$opendfs" get -q /in/tree "$work/got/"
check 'the same tree' diff -r "$work/in/tree" "$work/got/tree"

# Emptied: by hand, and by time.
check 'rm again' "$opendfs" rm /in/5000000 /in/0
check 'nothing is that old' "$opendfs" trash empty --older 1h
same 'both are there' "$(numbers | wc -l)" 2
check 'empty elsewhere' "$opendfs" trash empty /in/tree
same 'both are still there' "$(numbers | wc -l)" 2
check 'empty' "$opendfs" trash empty
same 'both are gone' "$(numbers)" ''
check 'keep for a moment' "$opendfs" trash keep /in 2s
check 'rm for a moment' "$opendfs" rm /in/4096
same 'it is there' "$(numbers | wc -l)" 1
until_so 'and goes by itself' eval '[ -z "$(numbers)" ]'
check 'rm while the server dies' "$opendfs" rm /in/first
crash 'while the time runs'
until_so 'goes after the restart' eval '[ -z "$(numbers)" ]'
check 'off below' "$opendfs" trash keep /in/tree off
check 'rm below' "$opendfs" rm /in/tree/a
same 'is not kept' "$(numbers)" ''
check 'inherit' "$opendfs" trash keep /in inherit
fails 'nothing is kept again' 0 'is gone' "$opendfs" trash show /in


# All records agree, with files in the trash, open and gone.
check 'rm for fsck' "$opendfs" rm -r /in/tree
if [ "$(id -u)" = 0 ]; then
    fails 'nothing is wrong' 0 'agree with each other' "$opendfs" fsck --namespace
    fails 'nothing is wrong for programs' 0 '"findings":[]' "$opendfs" fsck --namespace --json
    until_so 'nothing is wrong on the data nodes' "$opendfs" fsck --data
    fails 'both parts' 0 'agree with each other' "$opendfs" fsck
    check 'keep on the root' "$opendfs" trash keep / 1h
    check 'put for root' "$opendfs" put -q "$work/in/10" /mine
    check 'rm for root' "$opendfs" rm /mine
    chmod 755 "$work" "$cluster" "$cluster/secret" "$cluster/run"
    chmod a+r "$cluster/secret/client.key" "$cluster/cluster.ini" "$cluster"/run/*
    as_other() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
    if as_other "$opendfs" ls / >/dev/null 2>&1; then
        same 'others do not see it' "$(as_other "$opendfs" trash list -q)" ''
        fails 'others may not check' 1 'not permitted' as_other "$opendfs" fsck --namespace
        fails 'others may not ask for all' 1 'not permitted' as_other "$opendfs" trash list --all
        fails 'others do not get it' 1 'no such file' as_other "$opendfs" trash restore /mine
    else
        skip 'another user' 'it cannot reach the cluster directory'
    fi
    fails 'root sees all' 0 '/mine' "$opendfs" trash list --all
else
    skip 'another user' 'not root'
fi
finish
