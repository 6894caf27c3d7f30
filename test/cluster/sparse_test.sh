#!/bin/bash
# Files with holes on a mount, as programs use them: what is a hole, punching, zeros, copies, sizes.
set -u
. "$(dirname "$0")/lib.sh"

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'files with holes' 'needs /dev/fuse and fusermount3'
    finish
fi
a=$work/a
mkdir "$a"
is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }
disks_end() { if is_mounted "$a"; then umount -l "$a" 2>/dev/null || fusermount3 -uzq "$a"; fi; }
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
took_from=$SECONDS
check 'removed' rm s h h2 c p q g e
check 'at once' test $((SECONDS - took_from)) -lt 10
cd / && check 'unmount' umount "$a"
check 'all copies are the same' healthy
finish
