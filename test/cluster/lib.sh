# Shared by the tests of this folder; sourced. Each test has a cluster directory of its own, free ports, and cleans up.
opendfs=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/opendfs-test.XXXXXX")
cluster=$work/cluster
passed=0
failed=0
skipped=0
export OPENDFS_CLUSTER=$cluster
unset OPENDFS_SECRET

# No process of this cluster is there any more.
cluster_end() {
    local pid
    "$opendfs" down -q "$cluster" >/dev/null 2>&1
    for pid in $(cat "$cluster"/run/*.pid 2>/dev/null); do
        # Only processes of this very cluster.
        if [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$cluster"; then
            kill -9 "$pid" 2>/dev/null
        fi
    done
}
disks_end() { :; } # see disks.sh
cleanup() {
    cluster_end
    disks_end
    if [ -n "${mounted:-}" ]; then umount "$mounted" 2>/dev/null; fi
    rm -rf "$work"
}
trap cleanup EXIT

# What took seconds says so.
took() {
    local s=$((SECONDS - looked))
    [ $s -lt 2 ] || echo " ($s s)"
}
looked=$SECONDS
ok() {
    passed=$((passed + 1))
    echo "ok      $1$(took)"
    looked=$SECONDS
}
bad() {
    failed=$((failed + 1))
    echo "FAILED  $1"
    looked=$SECONDS
}
skip() {
    skipped=$((skipped + 1))
    echo "skipped $1: $2"
}
# check NAME COMMAND...: the command succeeds.
check() {
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        ok "$name"
    else
        bad "$name: $(tail -n 3 "$work/out" | tr '\n' ' ')"
        return 1
    fi
}
# fails NAME STATUS TEXT COMMAND...: the command ends with that status, and says the text.
fails() {
    local name=$1 status=$2 text=$3 rc=0
    shift 3
    "$@" >"$work/out" 2>&1 </dev/null || rc=$?
    if [ $rc != "$status" ]; then
        bad "$name: status $rc, not $status: $(tail -n 2 "$work/out" | tr '\n' ' ')"
    elif ! grep -qF -- "$text" "$work/out"; then
        bad "$name: does not say '$text': $(tail -n 2 "$work/out" | tr '\n' ' ')"
    else
        ok "$name"
    fi
}
# within SECONDS COMMAND...: it succeeds before the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >"$work/within" 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
# goes_on NAME TEXT COMMAND...: the command says the text, and goes on until it is killed.
goes_on() {
    local name=$1 text=$2 pid
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null &
    pid=$!
    if within 20 grep -qF -- "$text" "$work/out" && kill -0 $pid; then
        ok "$name"
    else
        bad "$name: does not say '$text', or has ended: $(tail -n 2 "$work/out" | tr '\n' ' ')"
    fi
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null
}
same() {
    if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: '$2' is not '$3'"; fi
}
# What keeps the metadata: a test to which it matters says META_ENGINE, all others run on OPENDFS_TEST_ENGINE, tree
# or memory. set_meta [DIRECTORY]: in the configuration of a cluster that was made. META_IO and DATA_IO: what reads and
# writes files (auto, uring, threads). DATA_ENGINE: what keeps chunks (file, extent), where that matters.
engine() { echo "${META_ENGINE:-${OPENDFS_TEST_ENGINE:-tree}}"; }
set_meta() {
    sed -i "s/^\[meta\.0\]/&\nengine = $(engine)\ncache = ${META_CACHE:-0}\nio = ${META_IO:-auto}/" "${1:-$cluster}/cluster.ini" || return
    if [ -n "${DATA_IO:-}" ]; then
        sed -i "s/^\[target\..*\]/&\nio = $DATA_IO/" "${1:-$cluster}/cluster.ini" || return
    fi
    if [ -n "${DATA_ENGINE:-}" ]; then
        sed -i "s/^\[target\..*\]/&\nengine = $DATA_ENGINE/" "${1:-$cluster}/cluster.ini"
    fi
}
# make_cluster OPTIONS...: as they say, on free ports; who is dead is so after LEASE (2s).
make_cluster() {
    "$opendfs" init -q "$cluster" --port 0 "$@" && sed -i "s/^copies = .*/&\nlease = ${LEASE:-2s}/" "$cluster/cluster.ini" &&
        set_meta
}
# short_rest [DIRECTORY]: space that was given back is free after seconds, not after a minute.
short_rest() { sed -i 's/^\[target\..*\]/&\nsend_limit = 3s\nspace_rest = 3s/' "${1:-$cluster}/cluster.ini"; }
start_cluster() { make_cluster "$@" && "$opendfs" up -q "$cluster"; }
healthy() { timeout 20 "$opendfs" status --check; }
# field EXPRESSION [COMMAND...]: of `o`, what the first line of a command (status) says. becomes SECONDS EXPRESSION: it is
# true of status before the time is over. waits NAME SECONDS EXPRESSION: the same as a check.
field() {
    local of=("${@:2}")
    [ ${#of[@]} -gt 0 ] || of=(status)
    timeout 20 "$opendfs" "${of[@]}" --json | python3 -c "import json,sys; o = json.loads(sys.stdin.readline()); print($1)"
}
is_true() { [ "$(field "$1")" = True ]; }
becomes() { within "$1" is_true "$2" || { timeout 20 "$opendfs" status >"$work/out" 2>&1; return 1; }; }
waits() { if becomes "$2" "$3"; then ok "$1"; else bad "$1: $(head -n 6 "$work/out" | tr '\n' ' ')"; fi; }
pid_of() { cat "$cluster/run/$1.pid"; }
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}
