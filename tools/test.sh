#!/bin/bash
# usage: test.sh quick|full|soak
# quick: what CI runs. full: also clang-tidy on every file. soak: hours of seeds.
# Prints the time of each stage and ends with one line "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:-quick}
jobs=$(nproc)
passed=0
failed=0
skipped=0
logs=build/logs
mkdir -p "$logs"
started=$SECONDS

say() {
    printf '[%4ds] %s\n' "$((SECONDS - started))" "$*"
}

# One check that passes or fails as a whole: check NAME COMMAND...
check() {
    local name=$1 begin=$SECONDS
    shift
    if "$@" >"$logs/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        say "ok      $name ($((SECONDS - begin)) s)"
    else
        failed=$((failed + 1))
        say "FAILED  $name ($((SECONDS - begin)) s)"
        tail -n 60 "$logs/$name.log"
        return 1
    fi
}

# A program that ends with "N passed, N failed, N skipped": count NAME COMMAND...
count() {
    local name=$1 begin=$SECONDS line rc
    shift
    "$@" >"$logs/$name.log" 2>&1 </dev/null
    rc=$?
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$logs/$name.log" | tail -n 1)
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)? ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        skipped=$((skipped + ${BASH_REMATCH[4]:-0}))
        if [ "${BASH_REMATCH[2]}" = 0 ] && [ $rc -ne 0 ]; then
            failed=$((failed + 1))
        fi
    else
        failed=$((failed + 1))
        line="no summary, exit status $rc"
        rc=1
    fi
    say "$([ $rc = 0 ] && echo 'ok     ' || echo 'FAILED ') $name: $line ($((SECONDS - begin)) s)"
    [ $rc = 0 ] || tail -n 60 "$logs/$name.log"
    return $rc
}

finish() {
    say "done"
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
    exit
}

# Name, suite and command of each unit test program and fuzz replay whose name fits.
list_units() {
    meson introspect --tests "$1" | python3 -c '
import json, re, sys
for t in sorted(json.load(sys.stdin), key=lambda t: t["name"]):
    if re.match(sys.argv[1], t["name"]):
        env = ["env"] + ["%s=%s" % v for v in t["env"].items()] if t["env"] else []
        print("\t".join([t["name"], t["suite"][0].split(":")[-1]] + env + t["cmd"]))' "$2"
}

# Runs so many of them side by side, their own counts added up: several TITLE MOST LIST, lines as of list_units.
several() {
    local title=$1 most=$2 list=$3 begin=$SECONDS before=$failed
    local results
    results=$(mktemp -d)
    export -f run_unit
    printf '%s\n' "$list" | xargs -d '\n' -P "$most" -I{} bash -c 'run_unit "$1" "$2"' _ {} "$results"
    local name rc p f s n=0
    while read -r name rc p f s; do
        n=$((n + 1))
        passed=$((passed + p))
        failed=$((failed + f))
        skipped=$((skipped + s))
        if [ "$rc" != 0 ] || [ "$f" != 0 ]; then
            say "FAILED  $name of $title"
            tail -n 40 "$results/$name.log"
        elif [ "$s" != 0 ]; then
            grep -h -i 'skip' "$results/$name.log" | head -n 5
        fi
    done < <(cat "$results"/*.result)
    rm -rf "$results"
    say "$([ $failed = $before ] && echo 'ok     ' || echo 'FAILED ') $n of $title ($((SECONDS - begin)) s)"
}

# All unit tests of a build directory, or those that fit.
units() {
    several "unit test programs of $1" "$jobs" "$(list_units "$1" "${2:-}")"
}

# Builds these, and nothing else.
build_units() {
    local targets
    mapfile -t targets < <(list_units "$2" "${3:-}" | tr '\t' '\n' | sed -n "s#.*/$2/##p" | sort -u)
    check "build-$1" ninja -C "$2" "${targets[@]}"
}

# The scripts of real processes, side by side: mostly they wait, so there are more of them than processors; and those that
# take longest begin first. scripts SUFFIX BUT COMMAND...
scripts() {
    local suffix=$1 but=$2 list='' name
    shift 2
    local long=(commands bad_input status extent_power rack extent_damage extent_device extent_full load promote sick drain process
        upgrade eio kill_loop programs)
    while read -r name; do
        [ "$name" = "$but" ] || list+=$(printf '%s\t' "$name$suffix" cluster "$@" bash "test/cluster/$name.sh")build/release/prog/opendfs$'\n'
    done < <({ printf '%s_test\n' "${long[@]}"; basename -s .sh test/cluster/*_test.sh; } | awk '!seen[$0]++')
    several "scripts of real clusters$suffix" $((jobs + 2)) "${list%$'\n'}"
}

run_unit() {
    local name suite rc line
    IFS=$'\t' read -r -a field <<<"$1"
    name=${field[0]}
    suite=${field[1]}
    local begin=$SECONDS limit=300 # a cluster: seconds of a slow disk
    [ "$suite" != cluster ] || limit=600
    timeout $limit "${field[@]:2}" >"$2/$name.log" 2>&1 </dev/null
    rc=$?
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$2/$name.log" | tail -n 1)
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)? ]]; then
        local bad=${BASH_REMATCH[2]}
        [ $rc = 0 ] || [ "$bad" != 0 ] || bad=1
        echo "$name $rc ${BASH_REMATCH[1]} $bad ${BASH_REMATCH[4]:-0}" >"$2/$name.result"
    elif [ "$suite" = fuzz ] && [ $rc = 0 ]; then
        echo "$name 0 1 0 0" >"$2/$name.result"
    else
        echo "$name 1 0 1 0" >"$2/$name.result"
    fi
    if [ "$suite" = cluster ]; then
        echo "        $name: ${line:-no summary, exit status $rc} ($((SECONDS - begin)) s)"
        grep -a '^FAILED' "$2/$name.log" | sed 's/^/            /' # at once: the end may never be seen
    fi
}

build() {
    local name=$1 dir=$2
    shift 2
    check "configure-$name" tools/configure.sh "$dir" "$@" && check "build-$name" ninja -C "$dir"
}

# The same sources are tested with the same seeds everywhere, so that a failure can be had again;
# each build has its own. Soak draws new ones.
seed=$(find src test prog -name '*.[ch]' -type f | LC_ALL=C sort | xargs cat | cksum | cut -d' ' -f1)
seeds() {
    [ "$mode" = soak ] || export OPENDFS_SEED=$(((seed + $1) & 0xffffffff))
}

check deps tools/deps.sh || finish
seeds 0
check configure-debug tools/configure.sh build/debug -Dfaults=true || finish
# Where time is short each test runs once: with sanitizers, or plainly those that would take minutes
# so, and those of the metadata server on the engine that new clusters do not have.
heavy='(namespace_limit|kv_image|kv_mem_store|datanode_memory|metanode_once|metanode_crash)_test'
plain="$heavy|metanode_(?!engine|.*_tree\$)"
sanitized="(?!$plain)"
[ "$mode" = quick ] || plain='' sanitized=''
if [ "$mode" = quick ]; then
    mapfile -t first < <(ninja -C build/debug -t targets all | sed -nE 's#^((src/lib[a-z_]+\.a)|test/sim|prog/opendfs): .*#\1#p')
    check build-debug ninja -C build/debug "${first[@]}" || finish
    build_units debug-tests build/debug "$plain" || finish
else
    check build-debug ninja -C build/debug || finish
fi
check layers python3 tools/check_layers.py . build/debug
check calls python3 tools/check_calls.py build/debug
check style python3 tools/check_style.py
check format bash -c 'clang-format --dry-run --Werror $(git ls-files "*.c" "*.h")'
check protocol-doc python3 tools/protocol_doc.py --check
units build/debug "$plain"
# Little optimised, few symbols: that is built in a third of the time. Sanitizers make compilers see
# ghosts of what is used before it is set.
options=(-Dfaults=true -Db_lundef=false -Doptimization=1 "-Dc_args=-g1 -Wno-error=maybe-uninitialized")
check configure-asan tools/configure.sh build/asan "${options[@]}" -Db_sanitize=address,undefined && {
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    seeds 1
    build_units asan build/asan "$sanitized" && units build/asan "$sanitized"
}
# Races need threads; most tests run in one, on simulated time.
threaded='(base|loop|disk|net|client_connect|journal|kv_mem_thread|testing|tree_[a-z_]*thread|tree_[a-z]*_real)'
[ "$mode" = quick ] || threaded=
check configure-tsan tools/configure.sh build/tsan "${options[@]}" -Db_sanitize=thread && {
    seeds 2
    build_units tsan build/tsan "$threaded" && units build/tsan "$threaded"
}
build release build/release --buildtype=release || finish
[ "$mode" != soak ] || export SECONDS_OF_LOAD=400
scripts '' ''
check first-light timeout 600 test/cluster/first_light.sh build/release/prog/opendfs --stop
if [ "$mode" = soak ]; then
    scripts -on-memory tree_test env OPENDFS_TEST_ENGINE=memory
    check deps-postgresql tools/deps.sh postgresql
    count programs env SOAK=1 timeout 14400 test/cluster/programs_test.sh build/release/prog/opendfs
    count upgrade-from-previous timeout 3600 tools/previous.sh
    check first-light-on-memory env OPENDFS_TEST_ENGINE=memory \
        timeout 600 test/cluster/first_light.sh build/release/prog/opendfs --stop
fi
count posix timeout 600 test/posix/posix_test.sh build/release/test/posix/posix_suite
if [ -x build/debug/test/sim ]; then
    if [ "$mode" = soak ]; then
        count simulation timeout 14400 build/debug/test/sim --seeds 20000
    else
        count simulation timeout 600 build/debug/test/sim --seeds 60
    fi
fi
if [ "$mode" = soak ]; then
    count tree-memory timeout 1200 test/tree/memory_test.sh build/release/test/bench_tree
    count tree-seeds timeout 9000 test/tree/seeds.sh build/debug 7200
    count tree-seeds-asan timeout 9000 test/tree/seeds.sh build/asan 3600
    count tree-damage env OPENDFS_DAMAGE=bits timeout 18000 build/debug/src/tree_tree_damage_test # every bit: 80 minutes
    count tree-damage-golden env OPENDFS_DAMAGE=bits timeout 18000 build/debug/src/tree_tree_damage_golden_test # two hours
    # A million; what there was no time for is done by the next soak.
    count tree-schedules timeout 36000 test/tree/schedules.sh build/debug 1000000 28800 build/schedules.next
    count tree-schedules-asan timeout 9000 test/tree/schedules.sh build/asan 20000 3600
fi
# Five minutes for each target; the lines of all of them are in the log.
if [ "$mode" = soak ]; then
    count fuzz timeout 36000 tools/fuzz.sh 300
fi
if [ "$mode" = soak ]; then
    check spin tools/deps.sh spin && {
        check model-chain test/model/chain/run.sh all
        check model-coherence test/model/coherence/run.sh all
    }
fi
# Sizes that take hours; the tables are in the logs, the raw lines beside them.
if [ "$mode" = soak ]; then
    check bench-tree tools/bench.sh tree build/release 1 soak=1 total=36000 raw="$PWD/$logs/bench-tree.raw"
    check bench-size env BENCH_FILES=100000000 BENCH_SECONDS=36000 BENCH_RAW="$PWD/$logs/bench-size.raw" \
        tools/bench.sh size build/release
    check bench-datanode tools/bench.sh datanode build/release 3 soak=1 ios=uring,threads total=28800 \
        raw="$PWD/$logs/bench-datanode.raw"
fi
case $mode in
quick) check tidy tools/tidy.sh changed ;;
*) check tidy tools/tidy.sh all ;;
esac
finish
