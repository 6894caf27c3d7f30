#!/bin/bash
# A target has its chunks on a raw block device (a loop device): it is taken only when it was made ready, by one server only;
# workers are killed; what was removed is free again; and what belongs to somebody else is left alone.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/disks.sh"
need_disks 'a raw device'
truncate -s 200M "$work/image"
loop=$(losetup -f --show "$work/image") || { skip 'a raw device' 'no loop device'; finish; }
make_cluster --copies 1 --targets 1 || { bad 'init'; finish; }
sed -i "s#^\[target\.0\]#&\ndevice = $loop#" "$cluster/cluster.ini"
short_rest

# --- not ours ---
mkfs.ext4 -q -F "$loop"
before=$(cksum <"$loop")
fails 'a file system is not written over' 1 'ext4 file system' "$opendfs" chunk format "$loop"
fails 'a server does not take it' 1 'target.0' "$opendfs" up -q --wait 5 "$cluster"
if grep -q "chunk format" "$cluster/log/node.0.log"; then ok 'the log says what is missing'; else bad "the log says what is missing: $(tail -n 2 "$cluster/log/node.0.log")"; fi
"$opendfs" down -q "$cluster"
same 'it is as it was' "$(cksum <"$loop")" "$before"
mkdir "$work/mnt"
mount "$loop" "$work/mnt"
fails 'nor when it is mounted' 1 'in use' "$opendfs" chunk format --force "$loop"
umount "$work/mnt"

# --- ours ---
check 'made ready' "$opendfs" chunk format --force "$loop"
same 'the directory is as new as it was' "$(ls "$cluster/target.0")" opendfs-new
check 'up' "$opendfs" up -q "$cluster"
mkdir "$work/in"
for i in $(seq 60); do head -c $((i * 9001)) /dev/urandom >"$work/in/$i"; done
head -c 20000000 /dev/urandom >"$work/in/big"
right() { rm -rf "$work/back" && mkdir "$work/back" && "$opendfs" get -q "/$1" "$work/back/" && diff -r "$work/in" "$work/back/$1"; }
check 'files go in' "$opendfs" put -q "$work/in" /in
check 'and out' right in
same 'no container is a file' "$(ls "$cluster/target.0" | grep -c '^space')" 0
fails 'one server only' 1 'in use' "$opendfs" chunk format --force "$loop"
kill -9 "$(pid_of target.0)"
check 'a worker that is killed comes back' within 30 healthy
check 'with all files' right in
kill -STOP "$(pid_of target.0)"
(sleep 3; kill -CONT "$(pid_of target.0)") &
check 'one that stands still for a while goes on' right in
free_bytes() { "$opendfs" metrics | awk 'index($0, "opendfs_target_space_free_bytes{") == 1 {printf "%d\n", $NF}'; }
room=$(free_bytes)
check 'removed' "$opendfs" rm -r /in
freed() { [ "$(free_bytes)" -gt $((room + 30000000)) ]; }
check 'is free again after its rest' within 30 freed
check 'files go in once more' "$opendfs" put -q "$work/in" /again
check 'and out' right again
check 'down' "$opendfs" down -q "$cluster"
check 'the store is sound' "$opendfs" chunk verify "$cluster/target.0"
fails 'it is a target of ours' 1 'has the chunks of target' "$opendfs" chunk format "$loop"
blockdev --flushbufs "$loop" # nothing of it is cached, and whoever else runs here keeps what he has
dd if="$work/image" iflag=nocache count=0 status=none
check 'up again' "$opendfs" up -q "$cluster"
check 'all is there' right again
finish
