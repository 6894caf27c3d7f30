#!/bin/bash
# A disk below containers is filled to the last byte, by files of the cluster and then by somebody else: removing works, also
# behind a restart, space comes back without help, and new data goes in when there is some.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/disks.sh"
need_disks 'a full disk'
DATA_ENGINE=extent
make_cluster --copies 1 --targets 1 || { bad 'init'; finish; }
short_rest
truncate -s 320M "$work/image" && disk_make "$work/image" && disk_on "$work/image" && target_on_disk target.0
check 'up' "$opendfs" up -q "$cluster"
count() { "$opendfs" metrics | awk -v name="opendfs_target_$1{" 'index($0, name) == 1 {printf "%d\n", $NF}'; }
free_bytes() { df --output=avail -B1 "$work/disk" | tail -n 1 | tr -d ' '; }

# --- filled ---
head -c 8000000 /dev/urandom >"$work/in"
"$opendfs" mkdir /fill
files=0
for size in 8000000 400000 20000; do
    head -c $size "$work/in" >"$work/piece.$size"
    for i in $(seq 200); do
        timeout 60 "$opendfs" put -q "$work/piece.$size" "/fill/$size.$i" >"$work/out" 2>&1 || break
        files=$((files + 1))
    done
done
if grep -q 'no space' "$work/out" && [ $files -gt 20 ]; then ok "$files files fit"; else bad "$files files fit: $(cat "$work/out")"; fi
if [ "$(free_bytes)" -gt 8000000 ]; then ok 'something is kept back'; else bad "something is kept back: $(free_bytes)"; fi
dd if=/dev/zero of="$work/disk/others" bs=64k >/dev/null 2>&1
dd if=/dev/zero of="$work/disk/others2" bs=4k >/dev/null 2>&1
sync -f "$work/disk"
nothing_free() { # but a block or two that the file system itself gives back
    local free
    free=$(free_bytes)
    if [ "$free" -le 65536 ]; then ok "$1"; else bad "$1: $free bytes are free"; fi
}
nothing_free 'others take the rest'
fails 'new data is refused' 1 'no space' timeout 60 "$opendfs" put -q "$work/in" /more
check 'what is there can be read' sh -c "'$opendfs' get -q /fill/8000000.3 - | cmp - '$work/in'"

# --- removed ---
before=$(count chunks)
for i in $(seq 2 2 $files); do echo "/fill/8000000.$i"; done >"$work/names"
gone=0
while read -r name; do
    "$opendfs" stat "$name" >/dev/null 2>&1 || continue
    timeout 20 "$opendfs" rm "$name" >"$work/out" 2>&1 || { bad "rm $name: $(cat "$work/out")"; break; }
    gone=$((gone + 1))
done <"$work/names"
if [ $gone -gt 5 ]; then ok "$gone files are removed"; else bad "$gone files are removed"; fi
fewer() { [ "$(count chunks)" -le $((before - gone * 2)) ]; }
check 'their chunks go from the full disk' within 30 fewer
nothing_free 'it is as full as before'
begin=$SECONDS
again() { timeout 60 "$opendfs" put -q "$work/piece.400000" "/again.$1"; }
check 'there is room again, by itself' within 40 again 1
echo "  after $((SECONDS - begin)) s"
check 'what goes in comes out' sh -c "'$opendfs' get -q /again.1 - | cmp - '$work/piece.400000'"
kill -9 "$(pid_of target.0)"
check 'a worker that is killed comes back' within 30 healthy
check 'with what there was' sh -c "'$opendfs' get -q /fill/8000000.3 - | cmp - '$work/in'"
check 'and room' within 30 again 2
check 'all else is removed' timeout 60 "$opendfs" rm -r /fill
none() { [ "$(count chunks)" = 2 ]; }
check 'and its chunks' within 30 none

# --- room ---
rm "$work/disk/others" "$work/disk/others2"
big() { timeout 60 "$opendfs" put -q "$work/in" /big; }
check 'new data goes in' within 40 big
check 'as it is' sh -c "'$opendfs' get -q /big - | cmp - '$work/in'"
check 'down' "$opendfs" down -q "$cluster"
check 'the store is sound' "$opendfs" chunk verify "$work/disk/target.0"
finish
