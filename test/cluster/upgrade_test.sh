#!/bin/bash
# A data node becomes another program under load (ROUNDS times, 3; with COPIES of each chunk, 2): no operation fails,
# what was read is right, all sockets and the master's process stay, and one worker after the other is replaced. An
# executable that cannot run changes nothing. With OPENDFS_OLD, an earlier opendfs, the cluster is made by that one and
# becomes the new one: first the node, its workers one after the other, then the metadata server, with clients of both.
set -u
. "$(dirname "$0")/lib.sh"
original=$opendfs
old_program=${OPENDFS_OLD:-$original}
mkdir "$work/bin"
install_program() { # as a package manager does it: a new file of the same name
    cp "$1" "$work/bin/opendfs.new" && mv "$work/bin/opendfs.new" "$work/bin/opendfs"
}
install_program "$old_program"
opendfs=$work/bin/opendfs
log=$cluster/log/node.0.log
LEASE=4s
healthy() { timeout 20 "$original" status --check; }
check 'a cluster of one node' make_cluster --copies "${COPIES:-2}"
sed -i -e '/^\[node\.[1-9]\]/,/^$/d' -e 's/^node = .*/node = 0/' "$cluster/cluster.ini"
check 'up' "$opendfs" up -q "$cluster"

mkdir "$work/in"
for i in $(seq 10); do head -c $((i * 100003)) /dev/urandom >"$work/in/f$i"; done
check 'something to read' "$original" put -q "$work/in" /in
# load N PROGRAM: writes and reads until the file `stop` is there; each failure is a line.
load() {
    local n=0 client=$2
    while [ ! -e "$work/stop" ]; do
        n=$((n + 1))
        timeout 60 "$client" put -q "$work/in/f$((n % 10 + 1))" "/load.$1.$n" 2>&1 || echo "put $n failed"
        timeout 60 "$client" get -q "/load.$1.$n" - 2>&1 | cmp - "$work/in/f$((n % 10 + 1))" 2>&1 || echo "get $n is wrong"
        timeout 60 "$client" get -q /in/f10 - 2>&1 | cmp - "$work/in/f10" 2>&1 || echo "old get $n is wrong"
    done >"$work/load.$1"
    echo $n >"$work/count.$1"
}
loads=()
load 1 "$old_program" &
loads+=($!)
load 2 "$original" &
loads+=($!)

master=$(pid_of node.0)
sockets() { ls -l "/proc/$master/fd" | grep -c socket; }
all_new() { [ "$(grep -c 'all workers run the new program' "$log")" -ge "$1" ]; }
before=$(sockets)
for round in $(seq "${ROUNDS:-3}"); do
    old="$(pid_of target.0) $(pid_of target.1) $(pid_of target.2)"
    install_program "$original"
    same "round $round: the old program runs" "$(readlink "/proc/$master/exe" | grep -c deleted)" 1
    kill -USR2 "$master"
    check "round $round: it goes on as the new one" within 120 all_new "$round"
    same "round $round: as the same process" "$(pid_of node.0) $(readlink "/proc/$master/exe")" "$master $work/bin/opendfs"
    for i in 0 1 2; do
        now=$(pid_of target.$i)
        case " $old " in *" $now "*) bad "round $round: target.$i is the old process" ;; esac
        same "round $round: target.$i runs it" "$(readlink "/proc/$now/exe")" "$work/bin/opendfs"
    done
    check "round $round: healthy" within 60 healthy
done
# A pid file that nobody holds would let a second master in.
fails 'it is still the only one' 1 'node.0 runs already' timeout 20 "$original" data --config "$cluster/cluster.ini"
same 'no descriptors are left behind' "$(($(sockets) - before <= 4))" 1

# --- what cannot run ---
old="$(pid_of target.0) $(pid_of target.1) $(pid_of target.2)"
install_program "$(type -P false)"
kill -USR2 "$master"
check 'a program that does not start is refused' within 20 grep -q 'no upgrade: going on as before' "$log"
install_program "$work/in/f1"
kill -USR2 "$master"
refused_twice() { [ "$(grep -c 'no upgrade: going on as before' "$log")" -ge 2 ]; }
check 'so is one that is none' within 20 refused_twice
same 'and nothing is changed' "$(pid_of node.0) $(pid_of target.0) $(pid_of target.1) $(pid_of target.2)" "$master $old"
install_program "$original"

touch "$work/stop"
wait "${loads[@]}"
for i in 1 2; do
    if [ -s "$work/load.$i" ]; then bad "load $i: $(head -n 3 "$work/load.$i" | tr '\n' ' ')"; else ok "load $i: all of $(cat "$work/count.$i") rounds were right"; fi
done
check 'healthy at the end' within 60 healthy

# --- the metadata server of another version ---
if [ -n "${OPENDFS_OLD:-}" ]; then
    kill "$(pid_of meta.0)"
    check 'the metadata server ends' within 30 sh -c "! kill -0 $(pid_of meta.0) 2>/dev/null"
    check 'the new one goes on' "$opendfs" up -q "$cluster"
    check 'healthy with it' within 60 healthy
    check 'what the old one stored is there' sh -c "'$original' get -q /in '$work/back' && diff -r '$work/in' '$work/back'"
fi
finish
