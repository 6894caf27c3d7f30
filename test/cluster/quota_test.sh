#!/bin/bash
# What lies below directories, space, limits and storage classes, with real processes.
set -u
. "$(dirname "$0")/lib.sh"

usage() { "$opendfs" du -s "$1" | cut -f1,2 | tr '\t' ' '; }

check 'a cluster' start_cluster
mkdir -p "$work/in/sub/deep"
for size in 0 100 5000 70000; do
    head -c $size /dev/urandom >"$work/in/$size"
    head -c $size /dev/urandom >"$work/in/sub/deep/$size"
done
ln -s ../100 "$work/in/sub/link"
check 'mkdir' "$opendfs" mkdir -p /home/a /home/b /other
check 'put' "$opendfs" put -q "$work/in" /home/a/in
expected=$((2 * 75100 + 6))
same 'du counts all below' "$(usage /home)" "$expected 14"
same 'du of what lies deeper' "$(usage /home/a/in/sub/deep)" '75100 4'
same 'du of a file' "$(usage /home/a/in/100)" '100 1'
same 'du lists directories' "$("$opendfs" du /home/a/in | cut -f3 | tr '\n' ' ')" '/home/a/in/sub /home/a/in '
same 'du for programs' "$("$opendfs" du -s --json /home | grep -o '"bytes":[0-9]*,"files":[0-9]*,"directories":[0-9]*')" \
    "\"bytes\":$expected,\"files\":9,\"directories\":5"
fails 'du with units' 0 'KiB' "$opendfs" du --human /home
fails 'du of nothing' 1 '/none' "$opendfs" du /none
check 'mv' "$opendfs" mv /home/a/in/sub /other/sub
same 'du after a move, here' "$(usage /home)" '75100 7'
same 'du after a move, there' "$(usage /other)" '75106 7'
check 'rm' "$opendfs" rm -r /other/sub/deep/70000
same 'du after a removal' "$(usage /)" "$((expected - 70000)) 15"

fails 'df' 0 'total' "$opendfs" df
fails 'df for programs' 0 '"files":' "$opendfs" df --json /home
fails 'df of nothing' 1 '/none' "$opendfs" df /none
fails 'no limits' 0 'no limits' "$opendfs" quota get /home
fails 'limits that are none' 2 'SOFT:HARD' "$opendfs" quota set /home --bytes x
fails 'soft above hard' 2 'above' "$opendfs" quota set /home --files 5:4
fails 'nothing to set' 2 '--bytes' "$opendfs" quota set /home
fails 'limits of a file' 1 'Not a directory' "$opendfs" quota set /home/a/in/100 --files :9
check 'limit files' "$opendfs" quota set /home --files :9
check 'two more fit' "$opendfs" mkdir /home/c /home/d
fails 'the tenth does not' 1 'quota of /home: 9 files' "$opendfs" mkdir /home/e
fails 'nor does it by moving' 1 'quota of /home: 9 files' "$opendfs" mv /other/sub /home/b
check 'within it moves' "$opendfs" mv /home/a/in /home/b/in
check 'limit bytes' "$opendfs" quota set /home --bytes 50000:100000 --files : --grace 1h
fails 'quota get' 0 'soft 48.8 KiB, hard 97.7 KiB, soft limit exceeded' "$opendfs" quota get /home
fails 'quota get for programs' 0 '"hard":100000' "$opendfs" quota get --json /home
same 'df shows the quota' "$("$opendfs" df --json /home/b | grep -o '"total":[0-9]*,"free":[0-9]*')" \
    '"total":100000,"free":24900'
check 'what fits is written' "$opendfs" put -q "$work/in/5000" /home/b/5000
fails 'what does not is refused' 1 'quota of /home: 97.7 KiB' "$opendfs" put "$work/in/70000" /home/b/70000
fails 'nothing of it is left' 1 'No such file' "$opendfs" stat /home/b/70000
same 'the bytes are those of before' "$(usage /home)" '80100 10'
head -c 3000 /dev/urandom >"$work/in/3000"
head -c 17000 /dev/urandom >"$work/in/17000"
check 'elsewhere there is room' "$opendfs" put -q "$work/in/70000" /other/70000
fails 'a large one cannot come in' 1 'quota of /home: 97.7 KiB' "$opendfs" mv /other/70000 /home/70000
check 'a small one' "$opendfs" put -q "$work/in/17000" /home/17000
fails 'a small one too many' 1 'quota of /home: 97.7 KiB' "$opendfs" put "$work/in/3000" /home/3000
check 'removing makes room' "$opendfs" rm /home/17000
check 'now it fits' "$opendfs" put -q "$work/in/3000" /home/3000
check 'the servers are started again' "$opendfs" down -q "$cluster"
check 'and come back' "$opendfs" up -q "$cluster"
same 'the sums are still there' "$(usage /home)" '83100 11'
fails 'and the limits' 1 'quota of /home: 97.7 KiB' "$opendfs" put "$work/in/17000" /home/again
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    address=$(cat "$cluster/run/meta.0.address")
    cp "$cluster/secret/client.key" "$work/user.key" && chown 65534 "$work" "$work/user.key"
    fails 'only root limits' 1 'not permitted' env OPENDFS_SECRET="$work/user.key" setpriv --reuid 65534 --regid 65534 \
        --clear-groups "$opendfs" quota clear -C "$address" /home
    fails 'only root makes classes' 1 'not permitted' env OPENDFS_SECRET="$work/user.key" setpriv --reuid 65534 \
        --regid 65534 --clear-groups "$opendfs" class create -C "$address" mine
else
    skip 'only root limits' 'not root, or no setpriv'
fi
check 'quota clear' "$opendfs" quota clear /home
check 'then all fits' "$opendfs" put -q "$work/in/70000" /home/b/70000

fails 'class list' 0 'default (default): 2 copies' "$opendfs" class list
fails 'a class needs targets' 1 'not enough targets' "$opendfs" class create many --copies 9
fails 'a class needs labels' 1 'not enough targets' "$opendfs" class create fast --labels nvme
fails 'a wrong chunk size' 1 'single' "$opendfs" class create single --copies 1 --chunk 5000
fails 'a wrong domain' 2 'none of' "$opendfs" class create single --domain planet
check 'class create' "$opendfs" class create single --copies 1 --domain target --chunk 1MiB
fails 'class create again' 1 'File exists' "$opendfs" class create single --copies 1
fails 'class list shows it' 0 'single: 1 copies' "$opendfs" class list
fails 'an unknown class' 1 "no storage class 'x'" "$opendfs" class set x /other
check 'class set' "$opendfs" class set single /other
check 'a directory below' "$opendfs" mkdir /other/new
fails 'has the class, too' 0 '/other/new: single' "$opendfs" class show /other/new
fails 'the old one has its own' 0 '/other/sub: default (default)' "$opendfs" class show /other/sub
fails 'data stay where they are' 1 'copy it instead' "$opendfs" class set single /home/b/70000
check 'a file of the class' "$opendfs" put -q "$work/in/70000" /other/new/f
check 'comes back' "$opendfs" get -q /other/new/f "$work/f"
check 'as it was' cmp "$work/in/70000" "$work/f"
finish
