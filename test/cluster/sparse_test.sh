#!/bin/bash
# Files with holes on a mount, as programs use them: what is a hole, punching, zeros, copies, sizes.
set -u
. "$(dirname "$0")/lib.sh"

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'files with holes' 'needs /dev/fuse and fusermount3'
    finish
fi
a=$work/a b=$work/b
mkdir "$a" "$b"
is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }
disks_end() {
    local at
    for at in "$a" "$b"; do
        if is_mounted "$at"; then umount -l "$at" 2>/dev/null || fusermount3 -uzq "$at"; fi
    done
}
trap 'cd /; disks_end; cleanup' EXIT

start_cluster --copies 2 --targets 3 || { bad 'up'; finish; }
check 'mount' "$opendfs" mount "$cluster:/" "$a" -o "log=$work/log"
cd "$a" || finish
# The runs of bytes of a file: "from-end" of each.
runs() {
    python3 - "$1" <<'END'
import os, sys
f = os.open(sys.argv[1], os.O_RDONLY)
at, out = 0, []
while True:
    try:
        at = os.lseek(f, at, os.SEEK_DATA)
    except OSError:
        break
    end = os.lseek(f, at, os.SEEK_HOLE)
    out.append('%d-%d' % (at, end))
    at = end
print(' '.join(out))
END
}
bytes() { head -c "$1" /dev/urandom >"$work/part"; }
put() { bytes "$3" && for f in "$work/$1" "$1"; do dd if="$work/part" of="$f" bs=4096 seek=$(($2 / 4096)) conv=notrunc status=none; done; }

# Holes.
put h 0 20000
put h 9437184 8192
put h 104857600 4096
same 'runs' "$(runs h)" '0-20480 9437184-9445376 104857600-104861696'
check 'the same bytes' cmp "$work/h" h
sync h
same 'and takes no more than those' "$(stat -c %b h)" 64
truncate -s 0 e && truncate -s 5G e
same 'a hole from end to end' "$(runs e)" ''
same 'its size' "$(stat -c %s e)" 5368709120
check 'a copy that keeps holes' timeout 60 cp --sparse=auto h h2
same 'has them' "$(runs h2)" "$(runs h)"
check 'and the bytes' cmp h h2

# fallocate.
bytes 30000000 && cp "$work/part" "$work/p" && cp "$work/part" p && sync p
for range in '4096 8192' '100 3000' '5000 10000000' '12582912 8388608' '29000000 5000000' '0 4194304'; do
    set -- $range
    for f in "$work/p" p; do fallocate -p -o "$1" -l "$2" "$f" || bad "punch $range: $f"; done
    check "punched $range" cmp "$work/p" p
done
for f in "$work/p" p; do fallocate -z -o 20000000 -l 20000001 "$f" || bad "zero $f"; done
check 'a range of zeros beyond the end' cmp "$work/p" p
same 'its size' "$(stat -c %s p)" 40000001
bytes 60000000 && cp "$work/part" q && sync q
check 'a large punch' fallocate -p -o 0 -l 60000000 q
check 'it is a hole' test -z "$(runs q)"
fallocate -l 100000000 g
same 'allocated' "$(stat -c %s g) $(runs g)" '100000000 '
fallocate -n -o 100000000 -l 1000 g
same 'no longer' "$(stat -c %s g)" 100000000
fails 'more than there is' 1 'No space left' fallocate -l 900T g
fails 'collapse' 1 'not supported' fallocate -c -o 4096 -l 4096 q
fails 'insert' 1 'not supported' fallocate -i -o 4096 -l 4096 q

# copy_file_range.
python3 - <<'END' >"$work/copied" 2>&1
import errno, os
def code(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]
def all_of(a, b, n):
    done = 0
    while done < n:
        k = os.copy_file_range(a, b, n - done, done, done)
        if k == 0:
            break
        done += k
    return done
a, b = os.open('h', os.O_RDONLY), os.open('c', os.O_RDWR | os.O_CREAT)
size = os.fstat(a).st_size
print(all_of(a, b, size) == size)
p = os.open('p', os.O_RDWR)
print(code(lambda: os.copy_file_range(p, p, 8192, 0, 4096)), os.copy_file_range(p, p, 4096, 4096, 12288))
os.lseek(p, 0, 0)
print(os.pread(p, 4096, 4096) == os.pread(p, 4096, 12288))
END
same 'copies' "$(tr '\n' ' ' <"$work/copied")" 'True EINVAL 4096 True '
check 'a copied file' cmp h c
same 'its holes' "$(runs c)" "$(runs h)"

# Sizes.
python3 - <<'END' >"$work/sizes" 2>&1
import errno, os
def code(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]
f = os.open('s', os.O_RDWR | os.O_CREAT)
os.pwrite(f, b'x' * 10000, 0)
os.pwrite(f, b'far', 1 << 53)
os.fsync(f)
os.ftruncate(f, 1 << 60)
print(os.fstat(f).st_size == 1 << 60, os.pread(f, 3, 1 << 53), os.pread(f, 3, 1 << 59))
print(os.lseek(f, 10000000, os.SEEK_DATA) == 1 << 53, os.lseek(f, 0, os.SEEK_HOLE))
print(code(lambda: os.ftruncate(f, (1 << 60) + 1)), code(lambda: os.pwrite(f, b'x', 1 << 60)))
os.ftruncate(f, 5000)
os.ftruncate(f, 1 << 59)
print(os.pread(f, 3, 1 << 53), os.pread(f, 2, 4999), os.fstat(f).st_size == 1 << 59)
END
same 'sizes' "$(tr '\n' ' ' <"$work/sizes")" "True b'far' b'\x00\x00\x00' True 12288 EFBIG EFBIG b'\x00\x00\x00' b'x\x00' True "

# Anything, anywhere, beside a file of this machine; now and then by another mount.
check 'another mount' "$opendfs" mount "$cluster:/" "$b" -o "log=$work/log.b"
cat >"$work/random.py" <<'END'
import ctypes, os, random, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
SIZE = 12 << 20
ours, local, both = sys.argv[1], sys.argv[2], len(sys.argv) > 3
rand = random.Random(os.path.basename(sys.argv[1]) + os.environ.get('SEED', ''))
names = sys.argv[1:]
f = [os.open(p, os.O_RDWR | os.O_CREAT) for p in names]
def each(what):
    # The local one, and one of the mounts; where two have it open all the time the kernel drops its pages at an open.
    mount = rand.choice([0] + [2] * both)
    fresh = os.open(names[mount], os.O_RDWR) if both else f[0]
    seen = [what(fresh), what(f[1])]
    if both:
        os.close(fresh)
    if seen[0] != seen[1]:
        sys.exit('step %d: %.200r is not %.200r' % (step, seen[0], seen[1]))
def fallocate(fd, mode, at, size):
    return 'done' if libc.fallocate(fd, mode, at, size) == 0 else ctypes.get_errno()
def copy(fd, at, to, size):
    done = 0
    while done < size:
        n = os.copy_file_range(fd, fd, size - done, at + done, to + done)
        if n == 0:
            break
        done += n
    return done
for step in range(250):
    at = rand.randrange(SIZE) // rand.choice([1, 4096]) * 1
    size = min(rand.choice([100, 5000, 300000, 6 << 20]), SIZE - at)
    size = rand.randrange(1, size + 1)
    data = rand.randbytes(min(size, 400000))
    kind = rand.randrange(9)
    if kind <= 1:
        each(lambda d: os.pwrite(d, data, at))
    elif kind == 2:
        each(lambda d: os.ftruncate(d, at))
    elif kind <= 4:
        mode = rand.choice([0, 1, 3, 3, 16, 17])
        each(lambda d: fallocate(d, mode, at, size))
    elif kind == 5:
        to = (at + size) % SIZE
        n = min(size, abs(to - at))
        if n > 0:
            each(lambda d: copy(d, at, to, n))
    else:
        each(lambda d: os.pread(d, size, at))
    each(lambda d: os.fstat(d).st_size)
    if step % 50 == 49:
        each(lambda d: os.fsync(d))
each(lambda d: os.pread(d, SIZE * 2, 0))
END
check 'one mount' python3 "$work/random.py" "$a/r1" "$work/r1"
check 'two mounts' python3 "$work/random.py" "$a/r2" "$work/r2" "$b/r2"
for t in 0 1 2; do kill -9 "$(pid_of "target.$t")" 2>/dev/null; done
check 'after all data nodes were killed' within 30 cmp "$work/r1" "$a/r1"
check 'the same' cmp "$work/r2" "$b/r2"
check 'unmount the other' umount "$b"
took_from=$SECONDS
check 'removed' rm s h h2 c p q g e r1 r2
check 'at once' test $((SECONDS - took_from)) -lt 10
cd / && check 'unmount' umount "$a"
check 'all copies are the same' within 60 healthy
finish
