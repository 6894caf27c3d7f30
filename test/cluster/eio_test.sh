#!/bin/bash
# Every file operation of a server fails for a while with EIO: what is acknowledged is there and right afterwards, what
# fails is told, and the server serves again when its disk does.
set -u
. "$(dirname "$0")/lib.sh"
META_IO=threads # what is made to fail below are system calls
make_cluster
# A disk that fails so often is sick, and left out for a while: a short one here.
sed -i -e 's/^\[node\..*\]/&\nrest = 1s/' -e 's/^\[target\.1\]/&\nengine = file/' "$cluster/cluster.ini"
"$opendfs" up -q "$cluster" || { bad 'start'; finish; }
mkdir "$work/in"
for i in $(seq 60); do head -c $((i * 997)) /dev/urandom >"$work/in/f$i"; done
head -c 20000000 /dev/urandom >"$work/in/big"
check 'put' "$opendfs" put -q "$work/in" /before

tracer=
detach() {
    if [ -n "$tracer" ]; then
        kill -INT "$tracer" 2>/dev/null
        wait "$tracer" 2>/dev/null
    fi
    tracer=
}
trap 'detach; cleanup' EXIT
# inject SERVER CALLS WHEN: its calls fail from now on, until detach.
inject() {
    local pid
    pid=$(pid_of "$1")
    rm -f "$work/trace"
    timeout 120 strace -f -q -o "$work/injected" -p "$pid" -e trace="$2" -e inject="$2:error=EIO:when=$3" 2>"$work/trace" &
    tracer=$!
    # Attached when the kernel says so; a server that has just ended cannot be attached to.
    until grep -q "^TracerPid:[[:space:]]*[1-9]" "/proc/$pid/status" 2>/dev/null; do
        kill -0 $tracer 2>/dev/null && kill -0 "$pid" 2>/dev/null || return 1
    done
}
injected() { grep -c 'INJECTED' "$work/injected" 2>/dev/null; }
if ! inject target.0 fdatasync 60000; then
    skip 'failing file operations' "strace cannot attach: $(head -n 1 "$work/trace")"
    finish
fi
detach

# one SERVER CALLS WHEN: copies in and out while they fail.
n=0
one() {
    local put=0 get=0 what="$1: $2"
    n=$((n + 1))
    inject "$1" "$2" "$3" || { bad "$what: cannot attach"; return; }
    timeout 60 "$opendfs" put -q "$work/in" "/during.$n" >"$work/put" 2>&1 || put=$?
    # Which member is read from is open: again until it was this one.
    local end=$((SECONDS + 30))
    while :; do
        rm -rf "$work/back" && mkdir "$work/back"
        get=0
        timeout 60 "$opendfs" get -q /before "$work/back/" >"$work/get" 2>&1 || get=$?
        [ "$(injected)" = 0 ] && [ $get = 0 ] && [ $SECONDS -lt $end ] || break
    done
    detach
    echo "  $what: $(injected) failed; put $put, get $get"
    if [ "$(injected)" -gt 0 ]; then ok "$what: failed"; else bad "$what: nothing failed"; fi
    if [ $put = 124 ] || { [ $put != 0 ] && ! grep -q "during.$n" "$work/put"; }; then
        bad "$what: put ends with $put: $(tail -n 1 "$work/put")"
    else
        ok "$what: put tells the truth"
    fi
    if [ $get = 0 ]; then check "$what: what was read is right" diff -r "$work/in" "$work/back/before"; fi
    if [ $get = 124 ] || { [ $get != 0 ] && ! grep -q before "$work/get"; }; then
        bad "$what: get ends with $get: $(tail -n 1 "$work/get")"
    fi
    check "$what: healthy again" timeout 60 "$opendfs" up -q "$cluster"
    rm -rf "$work/back" && mkdir "$work/back"
    check "$what: what was there is read" timeout 60 "$opendfs" get -q /before "$work/back/"
    check "$what: and is the same" diff -r "$work/in" "$work/back/before"
    if [ $put = 0 ]; then
        check "$what: what was acknowledged is read" timeout 60 "$opendfs" get -q "/during.$n" "$work/back/"
        check "$what: and is the same too" diff -r "$work/in" "$work/back/during.$n"
    fi
}
# target.0 has its chunks in containers: it shares syncs, and opens nothing; target.1 in files.
one target.0 pwrite64,pwritev 2+3
one target.0 fdatasync,fsync 1+2
one target.0 sendfile 1+2
one target.1 pwrite64,pwritev 2+3
one target.1 fdatasync,fsync 2+3
one target.1 openat,unlinkat,renameat2,rename,unlink 1+3
one target.1 sendfile 1+2

# A metadata server whose log cannot be written ends: it must not answer from what is only in memory. Clients wait.
ended() {
    local end=$((SECONDS + 30))
    while kill -0 "$1" 2>/dev/null; do [ $SECONDS -lt $end ] || return 1; done
}
meta() {
    local pid put=0 what="meta.0: $1"
    n=$((n + 1))
    pid=$(pid_of meta.0)
    inject meta.0 "$1" "$2" || { bad "$what: cannot attach"; return; }
    timeout 100 "$opendfs" put -q "$work/in" "/during.$n" >"$work/put" 2>&1 &
    local putter=$!
    check "$what: it ends" ended "$pid"
    detach
    if grep -q 'cannot go on.*Input/output error' "$cluster/log/meta.0.log"; then ok "$what: the log says why"; else bad "$what: the log says why: $(tail -n 3 "$cluster/log/meta.0.log")"; fi
    check "$what: up again" timeout 60 "$opendfs" up -q "$cluster"
    wait $putter || put=$?
    same "$what: put goes on" "$put $(tail -n 1 "$work/put")" '0 '
    rm -rf "$work/back" && mkdir "$work/back"
    check "$what: what was acknowledged is read" timeout 60 "$opendfs" get -q "/during.$n" "$work/back/"
    check "$what: and is the same" diff -r "$work/in" "$work/back/during.$n"
}
meta pwrite64,pwritev 1
meta fdatasync,fsync 1
finish
