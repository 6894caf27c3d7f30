#!/bin/bash
# usage: seeds.sh BUILD SECONDS [FIRST]
# The random tests of the tree (model, crashes, faults, damage, threads) with one seed after the other, for about so
# many seconds. FIRST: the first seed; else one that differs from run to run. Every failure prints the command that
# repeats it. Ends with one line "N passed, N failed, N skipped": programs that were run.
set -uo pipefail
build=$1
seconds=$2
seed=${3:-$(date +%s)}
tests=(tree_test tree_crash_test tree_fault_test tree_damage_test tree_same_test tree_thread_test)
jobs=$(nproc)
passed=0
failed=0
log=$(mktemp)
results=$(mktemp -d)
trap 'rm -rf "$log" "$results"' EXIT

# One seed through all of them: one line for each program.
one() {
    local test
    for test in "${@:3}"; do
        if timeout 600 "$1/src/tree_$test" --seed "$2" >"$results/$2.$test" 2>&1; then
            echo passed
            rm -f "$results/$2.$test"
        else
            echo "failed $1/src/tree_$test --seed $2"
        fi
    done
}

for test in "${tests[@]}"; do
    if [ ! -x "$build/src/tree_$test" ]; then
        echo "there is no $build/src/tree_$test" >&2
        exit 2
    fi
done
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    for ((i = 0; i < jobs; i++)); do
        one "$build" $((seed + i)) "${tests[@]}" >>"$log" &
    done
    wait
    seed=$((seed + jobs))
done
passed=$(grep -c '^passed' "$log")
failed=$(grep -c '^failed' "$log")
grep '^failed' "$log"
for output in "$results"/*; do
    [ ! -e "$output" ] || tail -n 15 "$output"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
