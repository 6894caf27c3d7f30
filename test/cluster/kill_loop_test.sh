#!/bin/bash
# The metadata server, and now and then a worker, killed with SIGKILL again and again (SECONDS_OF_LOAD, 20) under a
# mixed load on names with hundreds of operations under way: every answer must be the right one, and afterwards a fresh
# client finds all that was acknowledged, and nothing else. Then everything is killed at once, the load too.
set -u
. "$(dirname "$0")/lib.sh"
seconds=${SECONDS_OF_LOAD:-20}
seed=${SEED:-$RANDOM}
load=$(dirname "$opendfs")/../test/kill_load
[ -x "$load" ] || { bad "no $load"; finish; }
# Where nobody says which engine, the seed does.
[ $((seed % 2)) = 0 ] && META_ENGINE=tree || META_ENGINE=memory
META_ENGINE=${OPENDFS_TEST_ENGINE:-$META_ENGINE}
echo "SEED=$seed (records: $META_ENGINE)"
start_cluster || { bad 'start'; finish; }

healthy() {
    "$opendfs" up -q "$cluster" && "$opendfs" status >"$work/status" 2>&1
}
# Of a killed server there is nothing left to wait for: it is started again at once, mostly.
strike() {
    local n=$1 victim
    victim=$(pid_of meta.0)
    kill -9 "$victim" 2>/dev/null || return 0
    if [ $((n % 5)) = 4 ]; then
        kill -9 "$(pid_of "target.$((n % 3))")" 2>/dev/null
    fi
    "$opendfs" up -q --wait 0 "$cluster" || bad "up after kill $n"
}

"$load" run "$cluster" "$work/journal" "$seed" "$seconds" >"$work/load.log" 2>&1 &
loader=$!
kills=0
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ] && kill -0 $loader 2>/dev/null; do
    # Kills come at any moment of a restart: by the journal's growth, or after a while if there is none.
    size=$(stat -c %s "$work/journal" 2>/dev/null || echo 0)
    for i in $(seq $((RANDOM % 12 + 1))); do
        sleep 0.05
        [ $((RANDOM % 3)) = 0 ] && [ "$(stat -c %s "$work/journal")" != "$size" ] && break
    done
    strike $kills
    kills=$((kills + 1))
done
if wait $loader; then
    ok "$(cat "$work/load.log") while the metadata server was killed $kills times"
else
    bad "the load: $(head -n 5 "$work/load.log" | tr '\n' ' ')"
fi
[ $kills -gt 5 ] || bad "only $kills kills"
check 'healthy again' healthy
check 'all that was acknowledged is there, and nothing else' "$load" audit "$cluster" "$work/journal"

# An audit that finds everything good would be none.
sed 's/^seed .*/seed 0/' "$work/journal" >"$work/other"
fails 'the audit objects to another history' 1 ' wrong' "$load" audit "$cluster" "$work/other"

# An unclean stop in the middle of a load: of everything, at one moment.
"$opendfs" rm -q -r /k >"$work/out" 2>&1 || bad "rm: $(cat "$work/out")"
: >"$work/journal2"
"$load" run "$cluster" "$work/journal2" "$((seed + 1))" 600 >"$work/load.log" 2>&1 &
loader=$!
tries=0
while [ "$(wc -l <"$work/journal2")" -lt 4000 ] && [ $tries -lt 400 ]; do
    kill -0 $loader 2>/dev/null || break
    tries=$((tries + 1))
    sleep 0.05
done
kill -9 $loader $(cat "$cluster"/run/*.pid) 2>/dev/null
wait $loader 2>/dev/null
check 'up after all were killed in the middle of a load' healthy
check 'what was acknowledged until then is there' "$load" audit "$cluster" "$work/journal2"
grep -h found "$work/out"
if "$opendfs" help fsck 2>/dev/null | grep -q -- --namespace; then
    check 'the namespace is sound' "$opendfs" fsck --namespace
fi
finish
