#!/bin/bash
# Thousands of clients, one that wants too much, one that takes nothing: the others' work goes on, and the metadata
# server stays small.
set -u
. "$(dirname "$0")/lib.sh"
crowd=$(dirname "$opendfs")/../test/crowd
clients=${CLIENTS:-4000}
rss_max_kb=${RSS_MAX_KB:-200000}
[ -x "$crowd" ] || { skip 'load' "no $crowd"; finish; }
if ! ulimit -Sn $((clients + 500)) 2>/dev/null; then
    clients=$(($(ulimit -Hn) - 500))
    [ "$clients" -gt 1000 ] || { skip 'thousands of clients' "at most $(ulimit -Hn) open files"; finish; }
fi
ulimit -Sn 1024 # the servers and the clients raise it themselves
started=
stop_crowd() { for pid in $started; do kill -CONT "$pid" 2>/dev/null; kill -9 "$pid" 2>/dev/null; done; }
trap 'stop_crowd; cleanup' EXIT

rss_kb() { awk '/^VmRSS/ {print $2}' "/proc/$(pid_of meta.0)/status"; }
said() { grep -q "$2" "$1"; }
status_has() { timeout 20 "$opendfs" status --json 2>/dev/null | python3 -c '
import json, sys
s = json.load(sys.stdin)
sys.exit(not eval(sys.argv[1], {}, s))' "$1"; }
small_rss() {
    local kb
    kb=$(rss_kb)
    if [ "$kb" -lt "$rss_max_kb" ]; then ok "$1 ($((kb / 1024)) MiB)"; else bad "$1: $kb KiB"; fi
}
# What another client does meanwhile: each step is a client of its own.
work_goes_on() {
    check "$1: mkdir" timeout 20 "$opendfs" mkdir "/$2"
    check "$1: put" timeout 30 "$opendfs" put -q "$work/in" "/$2/in"
    check "$1: ls" timeout 20 "$opendfs" ls "/$2/in"
    check "$1: get" timeout 30 "$opendfs" get -q "/$2/in" "$work/back.$2"
    check "$1: the same bytes" diff -r "$work/in" "$work/back.$2"
    check "$1: rm" timeout 30 "$opendfs" rm -r "/$2"
}

start_cluster || { bad 'start'; finish; }
mkdir "$work/in"
for i in $(seq 40); do head -c $((i * 500)) /dev/urandom >"$work/in/f$i"; done
mkdir "$work/many"
for i in $(seq 800); do echo "$i" >"$work/many/a-rather-long-name-so-that-listings-are-large-$i"; done
check 'names for listings' timeout 60 "$opendfs" put -q "$work/many/." /
small_rss 'small at first'

# --- thousands of clients ---
"$crowd" "$cluster" sessions "$clients" >"$work/crowd" 2>&1 &
crowd_pid=$!
started="$started $crowd_pid"
if within 90 said "$work/crowd" "^up $clients"; then ok "$clients clients"; else bad "$clients clients: $(tail -n 2 "$work/crowd")"; fi
if within 20 status_has "connections >= $clients and sessions >= $clients"; then ok 'status counts them'; else bad 'status counts them'; fi
work_goes_on "with $clients clients" a
small_rss "$clients clients are small"

# --- one that wants too much ---
"$crowd" "$cluster" flood 8 >"$work/flood" 2>&1 &
flood_pid=$!
started="$started $flood_pid"
if within 20 said "$work/flood" '^up 1'; then ok 'a flood'; else bad "a flood: $(tail -n 2 "$work/flood")"; fi
work_goes_on 'during a flood' b
small_rss 'small during a flood'

# --- the same one takes nothing any more ---
kill -STOP $flood_pid
work_goes_on 'with a client that takes nothing' c
small_rss 'small with a client that takes nothing'
if within 60 said "$cluster/log/meta.0.log" 'a connection is closed'; then ok 'it is let go, with a line in the log'; else bad 'it is let go, with a line in the log'; fi
grep -h 'a connection is closed' "$cluster/log/meta.0.log" | head -n 1
kill -CONT $flood_pid
kill -TERM $flood_pid
wait $flood_pid 2>/dev/null

# --- the many are as they were ---
kill -TERM $crowd_pid
wait $crowd_pid 2>/dev/null
if grep -q ' bad 0 ' "$work/crowd"; then ok 'no question of the many failed'; else bad "no question of the many failed: $(tail -n 1 "$work/crowd")"; fi
tail -n 1 "$work/crowd"
if within 30 status_has 'connections < 100'; then ok 'connections end with their clients'; else bad 'connections end with their clients'; fi
work_goes_on 'afterwards' d
small_rss 'small afterwards'

# --- a limit of open files that is too low is said ---
check 'down' timeout 30 "$opendfs" down -q "$cluster"
if (ulimit -n 1000 && ! ulimit -n 2000) 2>/dev/null; then
    (ulimit -n 1000 && timeout 60 "$opendfs" up -q "$cluster") || bad 'up with few open files'
    if said "$cluster/log/meta.0.log" 'the limit of open files is low'; then ok 'a low limit is said'; else bad 'a low limit is said'; fi
else
    skip 'a low limit is said' 'this user may raise it'
fi
finish
