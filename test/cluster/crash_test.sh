#!/bin/bash
# Real processes killed with SIGKILL at any moment of a load; afterwards all that was acknowledged is there.
set -u
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-3}
start_cluster || { bad 'start'; finish; }
mkdir "$work/in"
for i in $(seq 200); do head -c $((RANDOM * 3)) /dev/urandom >"$work/in/f$i"; done
head -c 60000000 /dev/urandom >"$work/in/big"

# One round: copy in while one server dies, then compare.
round() {
    local what=$1 n=$2 victim
    victim=$(pid_of "$what")
    "$opendfs" put -q "$work/in" "/$what.$n" >"$work/put.log" 2>&1 &
    local putter=$!
    while ! "$opendfs" ls "/$what.$n" 2>/dev/null | grep -q .; do
        kill -0 $putter 2>/dev/null || break
    done
    kill -9 "$victim" || bad "kill $what"
    # A server without a supervisor has to be started by hand.
    "$opendfs" up -q --wait 0 "$cluster" || bad "up after killing $what"
    if wait $putter; then
        ok "put goes on while $what dies ($n)"
    else
        bad "put failed while $what died ($n): $(tail -n 2 "$work/put.log")"
    fi
    rm -rf "$work/back"
    mkdir "$work/back"
    check "get after $what died ($n)" "$opendfs" get -q "/$what.$n" "$work/back/"
    check "nothing is lost or changed after $what died ($n)" diff -r "$work/in" "$work/back/$what.$n"
}
for n in $(seq "$rounds"); do
    round meta.0 "$n"
    round target.$((n % 3)) "$n"
    check "healthy again ($n)" "$opendfs" up "$cluster"
done
round node.0 1
check 'healthy at last' "$opendfs" up "$cluster"

# Everything at once, then a restart.
kill -9 $(cat "$cluster"/run/*.pid)
check 'up after all were killed' "$opendfs" up "$cluster"
rm -rf "$work/back"
mkdir "$work/back"
check 'get after all were killed' "$opendfs" get -q /meta.0.1 "$work/back/"
check 'nothing is lost after all were killed' diff -r "$work/in" "$work/back/meta.0.1"

# A port that is let go late: those who are connected look for the server there.
port=$(cat "$cluster/run/meta.0.port")
kill -9 "$(pid_of meta.0)"
python3 -c '
import socket, sys, time
end = time.time() + 5
while True:
    try:
        s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        break
    except OSError:
        if time.time() > end: raise
print("held", flush=True)
time.sleep(0.5)' "${port##*:}" >"$work/held" &
until [ -s "$work/held" ]; do kill -0 $! 2>/dev/null || break; done
check 'up while the port is held' "$opendfs" up "$cluster"
same 'the same port again' "$(cat "$cluster/run/meta.0.port")" "$port"
finish
