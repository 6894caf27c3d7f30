#!/bin/bash
# Containers, journal and index are damaged by hand at random places, while servers run and while they do not: readers get
# the right bytes from the other copy, what was damaged is repaired, and nothing crashes.
# usage: extent_damage_test.sh OPENDFS; SEED
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/disks.sh"
seed=${SEED:-$RANDOM}
echo "SEED=$seed"
DATA_ENGINE=extent
make_cluster --copies 2 --targets 2 || { bad 'init'; finish; }
sed -i "s/^\[target\.[0-9]*\]/&\nscrub = 5s\nscrub_share = 100%/" "$cluster/cluster.ini"
"$opendfs" up -q "$cluster" || { bad 'start'; finish; }
mkdir "$work/in"
for i in $(seq 100); do head -c $((i * 3001)) /dev/urandom >"$work/in/$i"; done
head -c 9000000 /dev/urandom >"$work/in/big"
check 'files go in' "$opendfs" put -q "$work/in" /in

# damage FILE COUNT FROM: so many places behind FROM get other bytes; nothing of them is cached.
damage() {
    seed=$((seed + 1))
    python3 - "$1" "$2" "$3" $seed <<'END'
import os, random, sys
path, count, first, seed = sys.argv[1], *map(int, sys.argv[2:])
rand = random.Random(seed)
fd = os.open(path, os.O_RDWR)
def used():  # what was ever written: not zeros
    at, end, out = first, os.fstat(fd).st_size, []
    while at < end:
        if any(os.pread(fd, 4096, at)):
            out.append(at)
        at += 4096
    return out
places = used()
for _ in range(count):
    at = rand.choice(places) + rand.randrange(4096)
    os.pwrite(fd, bytes(rand.randrange(256) for _ in range(rand.randrange(1, 40))), at)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(len(places), "pages")
END
}
right() {
    rm -rf "$work/back" && mkdir "$work/back" && timeout 100 "$opendfs" get -q /in "$work/back/" && diff -r "$work/in" "$work/back/in"
}
sum() { "$opendfs" status --json | grep -o "\"$1\":[0-9]*" | awk -F: '{s += $2} END {printf "%d\n", s}'; }
# mended N: everything of target.N was looked at twice since it was called first, and nothing is damaged any more.
checked() { cat "$cluster/log/node.$1.log" | grep -c 'all chunks were checked'; }
mended() {
    [ -n "${rounds:-}" ] || rounds=$(($(checked "$1") + 2))
    [ "$(checked "$1")" -ge $rounds ] && healthy && [ "$(sum damaged)" = 0 ] && rounds=
}
sound() {
    check "$1: down" "$opendfs" down -q "$cluster"
    check "$1: all copies are sound" sh -c "'$opendfs' chunk verify '$cluster/target.0' && '$opendfs' chunk verify '$cluster/target.1'"
}
crashed() { grep -h 'signal=\|worker.*killed by\|AddressSanitizer' "$cluster"/log/*.log | grep -v 'signal=9\|signal=15'; }

# --- while they run ---
check 'a container is damaged' damage "$cluster/target.0/space.0000" 150 4096
for n in 1 2 3; do check "the right bytes, reading $n" right; done
check 'what was damaged is repaired' within 60 mended 0
check 'the right bytes afterwards' right
# How many of them by a look depends on how soon the whole target is resynced instead.
if [ "$(sum found_ever)" -ge 1 ]; then ok 'it was found'; else bad "it was found: $(sum found_ever)"; fi
sound 'while they ran'

# --- while they do not ---
check 'another one is damaged' damage "$cluster/target.1/space.0000" 150 4096
"$opendfs" chunk verify "$cluster/target.1" >"$work/out" 2>&1 && bad 'verify finds it' || ok 'verify finds it'
if grep -q '^damage' "$work/out"; then ok 'and says where'; else bad "and says where: $(head -n 2 "$work/out")"; fi
check 'up' "$opendfs" up -q "$cluster"
check 'the right bytes' right
check 'it is repaired' within 60 mended 1
check 'still the right bytes' right
sound 'while they did not'
check 'up once more' "$opendfs" up -q "$cluster"

# --- journal and index ---
# rebuilt WHAT: target.1 is made anew from what is left, and the other copy has the rest.
rebuilt() {
    "$opendfs" down -q "$cluster"
    "$opendfs" chunk rebuild "$cluster/target.1" >"$work/out" 2>&1
    if grep -q '^rebuilt' "$work/out"; then ok "$1: it is made anew"; else bad "$1: it is made anew: $(tail -n 2 "$work/out")"; fi
    echo "  $(tail -n 1 "$work/out")"
    check "$1: up with it" "$opendfs" up -q "$cluster"
    check "$1: it gets what it lacks" within 60 healthy
    check "$1: the right bytes with it" right
}
# spoiled FILE COUNT: the target says so, or goes on; reads are right; it is made anew if it does not start.
spoiled() {
    local file=$1 what
    what=$(basename "$1")
    "$opendfs" down -q "$cluster"
    check "$what is damaged" damage "$file" "$2" 0
    timeout 60 "$opendfs" up -q --wait 8 "$cluster" >"$work/up" 2>&1 && echo "  it starts" || echo "  it does not start: $(tail -n 1 "$work/up")"
    check "$what: the right bytes" right
    if ! healthy >/dev/null; then
        if grep -qE "target.1.*(damage|journal|index|tree|checksum|cannot be started)" "$cluster"/log/node.1.log; then ok "$what: the log says why"; else bad "$what: the log says why: $(tail -n 3 "$cluster/log/node.1.log")"; fi
        rebuilt "$what"
    fi
    check "$what: healthy" within 30 healthy
}
check 'something new' "$opendfs" put -q "$work/in/big" /new
kill -9 "$(pid_of target.1)"
within 30 healthy
spoiled "$(ls "$cluster"/target.1/journal/*.journal | head -n 1)" 20
spoiled "$cluster/target.1/index" 40

check 'the index of one that runs is damaged' damage "$cluster/target.1/index" 200 0
check 'the right bytes with it' right
"$opendfs" put -q "$work/in/big" /newer >/dev/null 2>&1
check 'the right bytes behind a write' right
rebuilt 'damaged while it ran'
sound 'made anew'
check 'up at last' "$opendfs" up -q "$cluster"
rm "$cluster/target.1/index"
rebuilt 'without an index'
same 'nothing has crashed' "$(crashed)" ''
finish
