#!/bin/bash
# A disk becomes slow, and one fails at reads (strace): its target is taken out of the chains that others serve, which
# `status` tells, operations go on, and it comes back when it has rested.
set -u
. "$(dirname "$0")/lib.sh"
says() { timeout 20 "$opendfs" status | grep -qF -- "$1"; }
serves() { "$opendfs" status --json | python3 -c "import json,sys; print([t['serving'] for t in json.load(sys.stdin)['targets'] if t['name'] == '$1'][0])"; }
check 'a cluster' make_cluster
sed -i 's/^\[node\..*\]/&\nslow = 300ms\nrest = 10s/' "$cluster/cluster.ini"
check 'up' "$opendfs" up -q "$cluster"
head -c 300000 /dev/urandom >"$work/in"

tracer=
detach() {
    if [ -n "$tracer" ]; then
        kill -INT "$tracer" 2>/dev/null
        wait "$tracer" 2>/dev/null
    fi
    tracer=
}
trap 'detach; cleanup' EXIT
# inject SERVER CALLS WHAT
inject() {
    local pid
    pid=$(pid_of "$1")
    timeout 120 strace -f -q -o "$work/injected" -p "$pid" -e trace="$2" -e inject="$2:$3" 2>"$work/trace" &
    tracer=$!
    until grep -q "^TracerPid:[[:space:]]*[1-9]" "/proc/$pid/status" 2>/dev/null; do
        kill -0 $tracer 2>/dev/null && kill -0 "$pid" 2>/dev/null || return 1
    done
}
if ! inject target.0 fdatasync error=EIO:when=60000; then
    skip 'sick disks' "strace cannot attach: $(head -n 1 "$work/trace")"
    finish
fi
detach

# load NAME: puts until the file is there; each failure is a line.
load() {
    local n=0
    while [ ! -e "$work/stop.$1" ]; do
        n=$((n + 1))
        timeout 100 "$opendfs" put -q "$work/in" "/$1.$n" 2>&1 || echo "put $n failed"
        timeout 100 "$opendfs" get -q "/$1.$n" - 2>&1 | cmp - "$work/in" 2>&1 || echo "get $n is wrong"
    done >"$work/load.$1"
    echo $n >"$work/count.$1"
}
ended() {
    touch "$work/stop.$1"
    wait "$2"
    if [ -s "$work/load.$1" ]; then bad "$1: $(head -n 3 "$work/load.$1" | tr '\n' ' ')"; else ok "$1: all of $(cat "$work/count.$1") rounds were right"; fi
}

mkdir "$work/many"
for i in $(seq 20); do head -c 100000 /dev/urandom >"$work/many/$i"; done
n=0
asked() { "$opendfs" metrics | awk -v name="opendfs_disk_$1_seconds_count{" 'index($0, name) == 1 && /target\.0/ {printf "%d\n", $NF}'; }
known() {
    n=$((n + 1))
    timeout 60 "$opendfs" put -q "$work/many" "/many.$n" && [ "$(asked write)" -ge 80 ] && [ "$(asked sync)" -ge 80 ]
}
check 'it gets known what is usual' within 60 known
load slow &
loader=$!
check 'a disk becomes slow' inject target.0 pwrite64,pwritev,pwritev2,fdatasync delay_enter=700000
check 'it is told' within 90 says 'the disk of target.0 (host 0) is sick'
grep -qE 'take [0-9]+ ms|nothing has come back' <("$opendfs" status) && ok 'with the reason' || bad 'with the reason'
gone() { [ "$(serves "$1")" = 0 ]; }
check 'it serves nothing any more' within 30 gone target.0
same 'its process goes on' "$(pid_of target.0)" "$(sed -n 's/.*worker started.*pid=//p' "$cluster/log/node.0.log" | tail -n 1)"
detach
ended slow $loader
check 'it comes back when it has rested' within 120 healthy
[ "$(serves target.0)" -gt 0 ] && ok 'and serves again' || bad 'and serves again'
finish
