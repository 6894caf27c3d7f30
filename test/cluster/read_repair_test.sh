#!/bin/bash
# usage: read_repair_test.sh OPENDFS
# Files of chunks are damaged by hand: readers get the right bytes, the member is told and repairs its copy; where all
# copies are damaged a reader gets an error that names chunk and targets, and never the bytes. `why` says what is where.
set -u
. "$(dirname "$0")/lib.sh"
DATA_ENGINE=file # whose files have names by which they are found; extent_damage_test.sh damages containers
# Without a block cache, which would have the right bytes still.
make_cluster --copies 2 --targets 3 && sed -i 's/^\[target\..*\]/&\ncache = 0/' "$cluster/cluster.ini" &&
    "$opendfs" up -q "$cluster" || { bad 'start'; finish; }
head -c 30000000 /dev/urandom >"$work/big"
printf 'small' >"$work/small"
check 'put' "$opendfs" put -q "$work/big" /big
check 'put a small one' "$opendfs" put -q "$work/small" /small
check 'a second name' "$opendfs" ln /big /other

# field OBJECT-EXPRESSION FILE: of what why says.
field() { "$opendfs" why --json "$2" | python3 -c "import json,sys; o = json.load(sys.stdin); print($1)"; }
data=$(printf '%016x' "$(field 'o["layout"]["data_id"]' /big)")
copies() { find "$cluster"/target.* -name "$data.$1" | sort; }
# damage FILE: a few bytes of every 64 KiB behind the records become others (cells may be anywhere in it).
damage() {
    python3 - "$1" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    for at in range(12288, f.seek(0, 2), 65536):
        f.seek(at)
        f.write(b"not what was written")
END
}
times_said() { cat "$cluster"/log/node.$2.log | grep -c "$1"; } # TEXT NODE
# A repair is over when as many were repaired as were found.
until_repaired() {
    local end=$((SECONDS + 30)) found=0
    until [ "$found" -gt 0 ] && [ "$found" = "$(times_said 'chunk was repaired' 0)" ]; do
        [ $SECONDS -lt $end ] || return 1
        "$opendfs" status >/dev/null 2>&1
        found=$(times_said 'chunk is damaged' 0)
    done
}
is_whole() { rm -f "$work/back" && "$opendfs" get -q "$1" "$work/back" && cmp "$work/big" "$work/back"; }

# --- why ---
same 'eight chunks of two copies each' "$(field '[len(c["members"]) for c in o["chunks"]]' /big)" '[2, 2, 2, 2, 2, 2, 2, 2]'
same 'all of them good' "$(field '{(c["state"], m["state"], m["good"]) for c in o["chunks"] for m in c["members"]}' /big)" "{('good', 'serving', True)}"
same 'the files are where it says' "$(field 'sorted(m["name"] for m in o["chunks"][0]["members"])' /big)" \
    "$(python3 -c "import sys; print([p.split('/')[-4] for p in sys.argv[1:]])" $(copies 00000000))"
fails 'what would lose it' 0 'any one host may be lost' "$opendfs" why /big
fails 'and which hosts' 0 'losing hosts ' "$opendfs" why /big
fails 'small contents' 0 'in the metadata' "$opendfs" why /small
fails 'all names' 0 'name: /big' "$opendfs" why /other
fails 'by number' 0 'name: /other' "$opendfs" why -i "$(field 'o["ino"]' /big)"
fails 'nothing there' 1 '/none: No such file' "$opendfs" why /none
fails 'no file named' 2 'name files' "$opendfs" why

# --- one member ---
count=0
for file in $(find "$cluster/target.0" -name "$data.*"); do
    damage "$file"
    count=$((count + 1))
done
if [ $count -gt 0 ]; then ok "$count chunks of target.0 are damaged"; else bad 'target.0 has no chunks'; fi
for n in 1 2 3; do check "the right bytes, reading $n" is_whole /big; done
check 'what was found is repaired' until_repaired
same 'no other target is suspected' "$(times_said 'chunk is damaged' '[12]')" 0
check 'the right bytes afterwards' is_whole /big

# --- all members of a chunk ---
for file in $(copies 00000003); do damage "$file"; done
fails 'no good copy' 1 "chunk 3, chain $(field 'o["chunks"][3]["chain"]' /big): target " "$opendfs" get -q /big "$work/bad"
fails 'why knows' 1 'chunk 3)' "$opendfs" why /big
same 'which copies they are' "$(field '[m["damaged"] for m in o["chunks"][3]["members"]]' /big)" '[True, True]'
if [ ! -e "$work/bad" ]; then ok 'nothing under the final name'; else bad 'damaged bytes under the final name'; fi

# --- a silent target ---
cp "$work/big" "$work/second"
check 'put another one' "$opendfs" put -q "$work/second" /second
check 'a target stops' kill -STOP "$(pid_of target.1)"
begin=$SECONDS
check 'it is read around' timeout 60 "$opendfs" get -q /second "$work/back2"
if [ $((SECONDS - begin)) -lt 15 ]; then ok 'in a few seconds'; else bad "in a few seconds: $((SECONDS - begin))"; fi
check 'the same bytes' cmp "$work/second" "$work/back2"
check 'why with a silent target' timeout 60 "$opendfs" why /second
if grep -q 'does not say\|offline' "$work/out"; then ok 'it says who is silent'; else bad "it says who is silent: $(head -n 5 "$work/out")"; fi
kill -CONT "$(pid_of target.1)"
finish
