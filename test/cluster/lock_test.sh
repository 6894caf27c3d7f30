#!/bin/bash
# Locks of files between two mounts: fcntl(2), flock(2), who waits through a restart of the metadata server, and locks of a
# mount that was killed.
set -u
. "$(dirname "$0")/lib.sh"

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'locks' 'needs /dev/fuse and fusermount3'
    finish
fi
a=$work/a b=$work/b
mkdir "$a" "$b"
mounts_end() {
    local at
    for at in "$a" "$b"; do
        if grep -qF " $at " /proc/self/mountinfo; then umount -l "$at" 2>/dev/null; fi
    done
}
disks_end() { mounts_end; }
trap 'cd /; mounts_end; cleanup' EXIT
server_of() { "$opendfs" mount --status "$1" --json | sed 's/.*"process":"\([0-9]*\)".*/\1/'; }
# try FILE: may it be locked, to write, without waiting?
try() { python3 -c 'import fcntl,sys; fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)' "$1" 2>/dev/null; }
not() { ! "$@"; }
# hold FILE: a process has it locked until its standard input ends; says so.
cat >"$work/hold.py" <<'END'
import fcntl, sys
f = open(sys.argv[1], 'r+b')
fcntl.lockf(f, fcntl.LOCK_EX)
print('has', flush=True)
sys.stdin.read()
END

start_cluster --copies 1 --targets 1 || { bad 'up'; finish; }
check 'a mount' "$opendfs" mount "$cluster:/" "$a"
check 'and another' "$opendfs" mount "$cluster:/" "$b"
echo 0 >"$a/f"
: >"$a/g"

# Each adds one under a lock, a hundred times, at both mounts; nobody loses one.
cat >"$work/count.py" <<'END'
import fcntl, os, sys
f = os.open(sys.argv[1], os.O_RDWR)
for _ in range(100):
    (fcntl.lockf if sys.argv[2] == 'fcntl' else fcntl.flock)(f, fcntl.LOCK_EX)
    n = int(os.pread(f, 20, 0)) + 1
    os.pwrite(f, b'%d\n' % n, 0)
    (fcntl.lockf if sys.argv[2] == 'fcntl' else fcntl.flock)(f, fcntl.LOCK_UN)
END
for how in fcntl flock; do
    echo 0 >"$a/f"
    timeout 60 python3 "$work/count.py" "$a/f" $how &
    one=$!
    timeout 60 python3 "$work/count.py" "$b/f" $how &
    two=$!
    timeout 60 python3 "$work/count.py" "$a/f" $how
    wait $one
    wait $two
    same "$how: nobody's count is lost" "$(cat "$b/f")" 300
done

# A holder at one mount, one who waits at the other; the metadata server is killed under them.
mkfifo "$work/in"
python3 "$work/hold.py" "$a/g" <"$work/in" >"$work/hold.out" &
exec 7>"$work/in"
check 'it has the lock' within 10 grep -q has "$work/hold.out"
check 'nobody else gets it' not try "$b/g"
timeout 60 python3 "$work/hold.py" "$b/g" </dev/null >"$work/wait.out" 2>"$work/wait.err" 7>&- &
waiter=$!
kill -9 "$(cat "$cluster/run/meta.0.pid")"
check 'up again' "$opendfs" up -q "$cluster"
check 'the lock is still there' not try "$b/g"
check 'and he still waits' kill -0 $waiter
exec 7>&-
check 'he gets it' wait $waiter
same 'without a word' "$(cat "$work/wait.err")" ''
same 'and says so' "$(cat "$work/wait.out")" has
check 'now it is free' try "$a/g"

# The mount is killed: its locks hold until somebody wants them and its lease is over.
exec 7<>"$work/in" # ends with this script
python3 "$work/hold.py" "$a/g" <"$work/in" >"$work/hold.out" 2>/dev/null &
check 'it has the lock again' within 10 grep -q has "$work/hold.out"
kill -9 "$(server_of "$a")"
check 'of a mount that was killed it comes back' within 20 try "$b/g"
finish
