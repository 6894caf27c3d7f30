#!/bin/bash
# usage: first_light.sh OPENDFS [--stop] [TREE]
# The main job on real files: a fresh cluster of one metadata server and three data nodes with two copies; a tree and
# a file of 1 GiB go in; a data worker is killed while all of it is read back; every byte and attribute is compared.
# Works in build/run of the repository, which belongs to this script. Leaves the cluster running unless told --stop.
set -euo pipefail
cd "$(dirname "$0")/../.."
opendfs=$(realpath "$1")
shift
stop=no
if [ "${1:-}" = --stop ]; then
    stop=yes
    shift
fi
tree=${1:-}
work=${OPENDFS_RUN_DIR:-$PWD/build/run}
mark=$work/made-by-first-light
cluster=$work/cluster
files_wanted=5000
big_bytes=$((1 << 30))
started=$SECONDS

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'first_light: %s\n' "$*" >&2
    exit 1
}

clean() {
    if [ "$stop" = yes ] || [ "${finished:-no}" = no ]; then
        "$opendfs" down -q "$cluster" 2>/dev/null || true
    fi
    if [ "$stop" = yes ]; then
        rm -rf "$work"
    fi
}

if [ -e "$work" ]; then
    [ -e "$mark" ] || die "$work exists and was not made by this script: move it away"
    [ ! -e "$cluster/cluster.ini" ] || "$opendfs" down -q "$cluster"
    rm -rf "$work"
fi
mkdir -p "$work"
touch "$mark"
trap clean EXIT
free_mib=$(($(stat -f -c '%a * %S' "$work") / 1048576))
[ "$free_mib" -gt 6000 ] || die "$work has only $free_mib MiB free; 6,000 are needed"

# --- the files ---
made=$work/made-up
sources=("$made")
if [ -n "$tree" ]; then
    [ -e "$tree" ] || die "$tree: no such directory"
    sources+=("$(realpath "$tree")")
fi
mkdir -p "$made/deep/er/still"
printf 'hello\n' >"$made/hello"
: >"$made/empty"
ln "$made/hello" "$made/deep/hard-link"
ln -s ../hello "$made/deep/symlink"
ln -s nowhere "$made/dangling"
mkfifo "$made/fifo"
head -c 4096 /dev/urandom >"$made/inline-limit"
head -c 4097 /dev/urandom >"$made/inline-limit-plus-1"
head -c $((4 << 20)) /dev/urandom >"$made/chunk"
head -c $(((4 << 20) + 1)) /dev/urandom >"$made/chunk-plus-1"
truncate -s 50M "$made/sparse"
printf 'x' | dd of="$made/sparse" bs=1 seek=30000000 conv=notrunc status=none
chmod 4711 "$made/chunk"
chmod 1777 "$made/deep"
touch -d '1965-03-04 05:06:07.123456789' "$made/empty"
touch -d '2100-01-02 03:04:05.987654321' "$made/hello"
printf 'name\n' >"$made/$(printf 'odd \t\303\244 \377 name')"
printf 'long\n' >"$made/$(head -c 255 /dev/zero | tr '\0' n)"
count=$(find "${sources[@]}" -type f | wc -l)
for d in /usr/include /usr/share/doc /usr/share/perl /usr/share/zoneinfo /usr/lib/python3 /usr/share; do
    [ -z "$tree" ] && [ "$count" -lt $files_wanted ] && [ -d $d ] || continue
    sources+=("$d")
    count=$((count + $(find $d -type f | wc -l)))
done
if [ -z "$tree" ] && [ "$count" -lt $files_wanted ]; then
    say "this machine has only $count suitable files: making up the rest"
    mkdir "$made/many"
    for i in $(seq $((files_wanted - count))); do
        head -c $((i % 9000)) /dev/urandom >"$made/many/file-$i"
    done
    count=$files_wanted
fi
say "files: $count below ${sources[*]}, and one of 1 GiB"
head -c $big_bytes /dev/urandom >"$work/big"

# --- the cluster ---
say "opendfs init and up"
"$opendfs" init "$cluster" --copies 2 --targets 3 --port 0
sed -i "s/^\[meta\.0\]/&\nengine = ${OPENDFS_TEST_ENGINE:-auto}/" "$cluster/cluster.ini"
"$opendfs" up "$cluster"
export OPENDFS_CLUSTER=$cluster

figure() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }

say "opendfs put: the tree, then the file"
"$opendfs" mkdir /tree
"$opendfs" put --json "${sources[@]}" /tree >"$work/put-tree.json"
"$opendfs" put --json "$work/big" /big >"$work/put-big.json"

say "opendfs ls"
"$opendfs" ls -l / /tree
listed=$("$opendfs" ls -R --json /tree | python3 -c 'import json,sys; print(sum(json.loads(l)["type"] == "file" for l in sys.stdin))')
[ "$listed" = "$count" ] || die "ls shows $listed files, $count went in"

say "opendfs get: everything back, while a data worker is killed with SIGKILL"
mkdir "$work/back"
victim=$(cat "$cluster/run/target.1.pid")
("$opendfs" get --json /big "$work/back/" >"$work/get-big.json" &&
    "$opendfs" get --json /tree "$work/back/" >"$work/get-tree.json") &
getter=$!
while kill -0 $getter 2>/dev/null; do
    have=$(du -sm "$work/back" | cut -f1)
    if [ "$have" -ge 200 ]; then
        kill -9 "$victim"
        echo "killed the worker of target.1 (process $victim) after $have MiB had come back"
        killed=yes
        break
    fi
    sleep 0.02
done
wait $getter || die "reading back failed"
[ "${killed:-no}" = yes ] || die "everything was read back before the worker could be killed"

# --- the comparison ---
say "comparing every byte and attribute"
owner=
[ "$(id -u)" != 0 ] || owner=' %U %G'
attributes() {
    (cd "$1" && find . -printf "%P\t%y %m$owner %T@ %l\t%s\n" |
        awk -F'\t' 'BEGIN { OFS = "\t" } { if ($2 ~ /^d/) $3 = 0; print }' | LC_ALL=C sort)
}
# Files of more than one name: each with the first name of its inode.
hard_links() {
    (cd "$1" && find . ! -type d -links +1 -printf '%i\t%P\n' | LC_ALL=C sort -k2 |
        awk -F'\t' '{ if (!($1 in first)) first[$1] = $2; else print first[$1] "\t" $2 }' | LC_ALL=C sort)
}
differences=0
cmp "$work/big" "$work/back/big" || differences=1
compared=0
for source in "${sources[@]}"; do
    back=$work/back/tree/$(basename "$source")
    diff -r --no-dereference "$source" "$back" >"$work/diff" 2>&1 || {
        # fifos are "the same kind" for diff, and said so
        if grep -v 'is a fifo while file' "$work/diff" | head -n 5 | grep .; then differences=1; fi
    }
    diff <(attributes "$source") <(attributes "$back") | head -n 10 | tee "$work/diff"
    [ ! -s "$work/diff" ] || differences=1
    diff <(hard_links "$source") <(hard_links "$back") | head -n 10 | tee "$work/diff"
    [ ! -s "$work/diff" ] || differences=1
    compared=$((compared + $(find "$back" | wc -l)))
done
[ $differences = 0 ] || die "what came back differs"
echo "$compared names and 1 GiB: all the same"

say "waiting until the returned target serves again"
before=$SECONDS
"$opendfs" up "$cluster"
back_after=$((SECONDS - before))
new=$(cat "$cluster/run/target.1.pid")
[ "$new" != "$victim" ] || die "target.1 was not started again"
"$opendfs" status

say "summary"
row() {
    python3 - "$1" "$2" <<'P'
import json, sys
d = json.load(open(sys.argv[2]))
s = max(d["seconds"], 1e-9)
names = d["files"] + d["directories"] + d["hard_links"] + d["others"]
print(f'{sys.argv[1]:<28} {names:>9} {d["bytes"] / 1e6:>11.1f} {s:>9.2f} {names / s:>10.0f} {d["bytes"] / 1e6 / s:>9.1f}')
P
}
printf '%-28s %9s %11s %9s %10s %9s\n' what names MB seconds names/s MB/s
row 'put the tree' "$work/put-tree.json"
row 'put 1 GiB, 2 copies, synced' "$work/put-big.json"
row 'get 1 GiB, a worker killed' "$work/get-big.json"
row 'get the tree' "$work/get-tree.json"
echo "the killed target served again $back_after s after the comparison; all took $((SECONDS - started)) s"
finished=yes
if [ "$stop" = no ]; then
    cat <<T

The cluster runs in $cluster. Go on with:
    export OPENDFS_CLUSTER=$cluster
    $opendfs ls -l /
    $opendfs put FILE /
    $opendfs status
Stop it with:
    $opendfs down $cluster
T
fi
