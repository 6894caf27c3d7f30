#!/bin/bash
# The mount through the programs that people use: names, contents, links, rights of other users, several mounts of one
# tree, restarts of all servers under way, ends of the mount itself.
set -u
. "$(dirname "$0")/lib.sh"

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'mount' 'needs /dev/fuse and fusermount3'
    finish
fi
umask 022
sources=$(realpath "$(dirname "$0")/../../src/client")
chmod 755 "$work"
a=$work/a b=$work/b
mkdir "$a" "$b"
# By the kernel's table: a look at a mount itself could wait for servers that are gone.
is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }
mounts_end() {
    local at n
    for at in "$a" "$b"; do
        for n in 1 2 3; do
            if is_mounted "$at"; then umount -l "$at" 2>/dev/null || fusermount3 -uzq "$at"; fi
        done
    done
}
disks_end() { mounts_end; }
trap 'cd /; mounts_end; cleanup' EXIT
mount_at() { "$opendfs" mount "$cluster:${2:-/}" "$1" -o "log=$work/log${3:+,$3}"; }
# The process that serves a mount ends when it is unmounted.
server_of() { "$opendfs" mount --status "$1" --json | sed 's/.*"process":"\([0-9]*\)".*/\1/'; }
not() { ! "$@"; }
gone() { ! kill -0 "$1" 2>/dev/null; }

start_cluster --copies 2 --targets 3 || { bad 'up'; finish; }

# Mistakes.
fails 'no directory' 1 "$work/none" mount_at "$work/none"
fails 'no such path' 1 'No such file' mount_at "$a" /none
fails 'an unknown option' 2 "'color=red' is not known" mount_at "$a" / color=red
fails 'no cluster' 1 "'$work/nothing' does not exist" "$opendfs" mount "$work/nothing:/" "$a"
fails 'no place' 2 'what is to be mounted' "$opendfs" mount "$cluster:/"
fails 'nothing there' 1 'no file system of ours' "$opendfs" mount --status "$a"

check 'mount' mount_at "$a"
check 'mounted' is_mounted "$a"
same 'type' "$(stat -f -c %T "$a")" fuseblk
check 'status says it' grep -qF "$a  $cluster:/" <("$opendfs" mount --status)
check 'also of a short path' grep -qF "$a  $cluster:/" <(cd "$work" && "$opendfs" mount --status ./a/)
check 'statistics' grep -q '^opendfs_mount_calls_total [1-9]' "$a/.opendfs/stats"
if [ "$(id -u)" = 0 ]; then
    same 'the kernel reads ahead' "$(cat "/sys/class/bdi/$(mountpoint -d "$a")/read_ahead_kb")" 1024
fi
same 'which no listing shows' "$(ls -A "$a")" ''
fails 'nor is it written' 1 'not permitted' touch "$a/.opendfs/x"
fails 'nor removed' 1 'not permitted' rm "$a/.opendfs/stats"

# Names and contents.
cd "$a" || finish
check 'a tree there' cp -a "$sources" .
check 'the same' diff -r "$sources" client
same 'as many' "$(find client | wc -l)" "$(cd "$sources/.." && find client | wc -l)"
head -c 20000000 /dev/urandom >"$work/big"
check 'a big file there' cp "$work/big" big
check 'the same bytes' cmp "$work/big" big
check 'in the middle' cmp <(dd if=big bs=4097 skip=1000 count=500 status=none) <(dd if="$work/big" bs=4097 skip=1000 count=500 status=none)
for f in "$work/big" big; do
    printf overwritten | dd of="$f" bs=1 seek=8388600 conv=notrunc status=none
    truncate -s 12345678 "$f" && truncate -s 30000000 "$f" && printf end >>"$f"
done
check 'overwritten, cut, longer, appended' cmp "$work/big" big
check 'the command line sees it' cmp <("$opendfs" cat /big) big
mkdir d && echo one >d/f && ln d/f d/g && ln -s f d/s && mkfifo d/p
same 'links' "$(stat -c %h d/f)" 2
same 'through a symbolic link' "$(cat d/s)" one
check 'one inode' test d/f -ef d/g
mv d/f d/h && echo two >d/f && mv d/f d/h
same 'replaced by rename' "$(cat d/h d/g)" "$(printf 'two\none')"
exec 5<>d/h && rm d/h
echo three >&5
same 'unlinked and open' "$(cat <(cat </proc/self/fd/5))" three
exec 5>&-
fails 'a directory with something in it' 1 'not empty' rmdir d
fails 'a name of 256 bytes' 1 'too long' touch "$(head -c 256 /dev/zero | tr '\0' n)"
name=$(printf 'a\nb\xff\x01 c')
check 'any bytes in a name' touch "$name"
same 'which come back' "$(ls -b)" "$(ls -b "$a")"
check 'and go' rm "$name"
touch -d '1901-05-06 07:08:09.123456789 UTC' d/g
same 'a time before 1970' "$(TZ=UTC stat -c %y d/g)" '1901-05-06 07:08:09.123456789 +0000'
touch -d '2200-01-01 00:00:00.000000001 UTC' d/g
same 'a time after 2106' "$(TZ=UTC stat -c %y d/g)" '2200-01-01 00:00:00.000000001 +0000'
seq 1 1500 | sed 's/^/many./' >"$work/names" && mkdir many && (cd many && xargs touch <"$work/names")
same 'a long listing' "$(ls many | sort -V | md5sum)" "$(sort -V "$work/names" | md5sum)"
check 'all gone' rm -r many
if command -v setfattr >/dev/null; then
    check 'an attribute' setfattr -n user.color -v blue d/g
    same 'is there' "$(getfattr --only-values -n user.color d/g)" blue
fi

# Others.
if [ "$(id -u)" = 0 ]; then
    as() { setpriv --reuid 54321 --regid 54321 --clear-groups "$@"; }
    mkdir -m 700 mine && mkdir -m 1777 all && echo secret >private && chmod 600 private
    cp /bin/true program && chmod 711 program
    fails 'not their directory' 2 'Permission denied' as ls mine
    fails 'not their file' 1 'Permission denied' as cat private
    fails 'not to be written' 1 'Permission denied' as touch d/x
    check 'to be run, not read' as ./program
    fails 'indeed not read' 1 'Permission denied' as cat program
    if command -v setfattr >/dev/null; then
        setfattr -n trusted.of -v root d/g
        listed() { echo $("$@" getfattr -m - d/g | grep -v '^#'); }
        same 'trusted attributes are there for root' "$(listed env)" 'trusted.of user.color'
        same 'and hidden from others' "$(listed as)" user.color
        same 'from root without CAP_SYS_ADMIN, too' "$(listed setpriv --bounding-set=-sys_admin --inh-caps=-all)" user.color
    fi
    chmod 744 program
    fails 'to be read, not run' 126 'Permission denied' as bash -c ./program
    check 'theirs' as touch all/theirs
    same 'is theirs' "$(stat -c %u:%g all/theirs)" 54321:54321
    touch all/root
    fails 'the sticky bit' 1 'not permitted' as rm all/root
    check 'no access' as bash -c '! test -r private && ! test -w d && test -x d'
    cp program setuid && chmod 4755 setuid && chown 54321 setuid
    same 'no set-id bit outlives chown' "$(stat -c %a setuid)" 755
else
    skip 'rights of others' 'needs root'
fi

# A second mount, of a part.
check 'mount a part' mount_at "$b" /d
same 'the same there' "$(ls "$b")" "$(ls d)"
echo four >d/new
same 'what one writes the other reads' "$(cat "$b/new")" four
echo five >"$b/new"
same 'and back' "$(cat d/new)" five
for i in 1 2 3 4 5; do printf "$i" >>d/log; printf "$((i + 5))" >>"$b/log"; done
same 'appends in turn' "$(cat d/log)" 16273849510
(for i in $(seq 200); do echo "a $i" >>d/both; done) & (for i in $(seq 200); do echo "b $i" >>"$b/both"; done) &
wait %1 %2 2>/dev/null; wait
same 'appends of both, none lost' "$(sort -V d/both | md5sum)" "$( (seq -f 'a %g' 200; seq -f 'b %g' 200) | sort -V | md5sum)"
rm d/new
fails 'removed here is gone there' 1 'No such file' cat "$b/new"
server=$(server_of "$b")
check 'unmount' umount "$b"
check 'its process ends' within 20 gone "$server"

# Servers end and come back while somebody writes.
(for i in $(seq 1 60); do head -c 100000 "$work/big" >"d/kill.$i" || echo "write $i" >>"$work/errors"; sleep 0.05; done) &
writer=$!
kill -9 "$(pid_of meta.0)"
"$opendfs" up -q "$cluster" || bad 'up again' # from within: what serves must not hold what it serves
for t in 1 2; do
    kill -9 "$(pid_of "target.$t")" 2>/dev/null
    within 20 healthy || bad 'healthy again'
done
wait $writer
same 'no write has failed' "$(cat "$work/errors" 2>/dev/null)" ''
same 'and all is there' "$(cat d/kill.* | wc -c)" 6000000
for i in $(seq 1 60); do cmp -s "d/kill.$i" <(head -c 100000 "$work/big") || echo "$i"; done >"$work/wrong"
same 'as it was written' "$(cat "$work/wrong")" ''

# The end of the mount itself: what is busy stays, what was not closed is written.
exec 6>d/open && printf pending >&6
fails 'busy' 32 'busy' umount "$a"
server=$(server_of "$a")
exec 6>&-
cd "$work" || finish
check 'unmount at the end' umount "$a"
check 'its process has ended' within 20 gone "$server"
same 'what was written is there' "$("$opendfs" cat /d/open)" pending
check 'read only, all by relative paths' bash -c 'cd "$2" && "$0" mount "$1:/" a -o ro,log=log' "$opendfs" "${cluster##*/}" "$work"
same 'not held by its process' "$(readlink "/proc/$(server_of "$a")/cwd")" /
fails 'not written' 1 'Read-only' touch "$a/x"
server=$(server_of "$a")
kill -TERM "$server"
check 'SIGTERM unmounts' within 20 gone "$server"
check 'nothing is mounted there' not is_mounted "$a"
ln -s "$opendfs" "$work/mount.opendfs"
check 'as mount(8) calls it' "$work/mount.opendfs" "$cluster:/d" "$a" -o rw,_netdev,nosuid
check 'is there' test -e "$a/log"
server=$(server_of "$a")
kill -9 "$server"
within 20 gone "$server"
fails 'killed' 2 'not connected' ls "$a/log"
check 'and unmounted' umount "$a"
finish
