#!/bin/bash
# usage: schedules.sh BUILD COUNT SECONDS [STATE]
# Runs COUNT simulated schedules of the tree (src/tree/tree_schedule_test.c) on all cores, each decided by a seed, for at
# most SECONDS. STATE: a file that remembers which seed comes next and how many were run, so that another call goes on
# behind; without it the seeds differ from run to run. A process takes CHUNK (500) seeds; where it fails each of its
# seeds is run alone, and those that fail are printed with the command that repeats them. NICE: as for nice(1).
# Ends with one line "N passed, N failed, N skipped": schedules.
set -uo pipefail
build=$1
count=$2
seconds=$3
state=${4:-}
chunk=${CHUNK:-500}
test=$build/src/tree_tree_schedule_test
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
[ -x "$test" ] || {
    echo "there is no $test" >&2
    exit 2
}
next=$(date +%s)000000
done_before=0
[ -z "$state" ] || [ ! -s "$state" ] || read -r next done_before <"$state"

# FIRST COUNT: a line for the chunk, and one for each seed of it that fails.
chunk_run() {
    local first=$1 n=$2 seed bad=0
    if ! OPENDFS_SCHEDULES=$n timeout 900 nice -n "$niceness" "$test" --seed "$first" >"$results/$first" 2>&1; then
        for ((seed = first; seed < first + n; seed++)); do
            OPENDFS_SCHEDULES=1 timeout 120 nice -n "$niceness" "$test" --seed "$seed" >"$results/$seed.one" 2>&1 && continue
            bad=$((bad + 1))
            echo "failed: OPENDFS_SCHEDULES=1 $test --seed $seed"
            grep -v '^\[' "$results/$seed.one" | tail -n 5
        done
        if [ $bad = 0 ]; then
            bad=1
            echo "failed, but no seed alone: OPENDFS_SCHEDULES=$n $test --seed $first"
            tail -n 15 "$results/$first"
        fi
        rm -f "$results"/*.one
    fi
    rm -f "$results/$first"
    echo "chunk $n $bad"
}
niceness=${NICE:-0}

jobs=${JOBS:-$(nproc)}
log=$results/log
begin=$SECONDS
given=0
while [ $given -lt "$count" ] && [ $((SECONDS - begin)) -lt "$seconds" ]; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    n=$((count - given < chunk ? count - given : chunk))
    chunk_run $((next + given)) $n >>"$log" &
    given=$((given + n))
done
wait
touch "$log"
ran=$(awk '$1 == "chunk" { n += $2 } END { print n + 0 }' "$log")
bad=$(awk '$1 == "chunk" { n += $3 } END { print n + 0 }' "$log")
grep -v '^chunk' "$log"
[ -z "$state" ] || echo "$((next + given)) $((done_before + ran))" >"$state"
took=$((SECONDS - begin))
echo "$ran schedules from seed $next on in $took s, $((ran / (took > 0 ? took : 1))) per second; $((done_before + ran)) in all"
echo "$((ran - bad)) passed, $bad failed, 0 skipped"
[ "$bad" = 0 ]
