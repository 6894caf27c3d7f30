#!/bin/bash
# Extended attributes and access control lists through real processes, with other users' eyes where that is possible.
set -u
. "$(dirname "$0")/lib.sh"

start_cluster || { bad 'up'; finish; }
printf 'hello\n' >"$work/hello"
check 'mkdir' "$opendfs" mkdir -m 0755 /d
check 'put' "$opendfs" put -q "$work/hello" /d/f
chmod 640 "$work/hello"
check 'put again' "$opendfs" put -q "$work/hello" /d/f

# Extended attributes.
same 'none at first' "$("$opendfs" getfattr /d/f)" ''
check 'set one' "$opendfs" setfattr -n user.color -v 'light "blue"' /d/f
check 'set bytes' "$opendfs" setfattr -n user.raw -v 0x00ff10 /d/f
check 'set nothing' "$opendfs" setfattr -n user.empty /d/f
same 'names' "$("$opendfs" getfattr /d/f)" "$(printf '# file: /d/f\nuser.color\nuser.empty\nuser.raw\n')"
same 'values' "$("$opendfs" getfattr -d /d/f)" \
    "$(printf '# file: /d/f\nuser.color="light \\"blue\\""\nuser.empty=""\nuser.raw=0x00ff10\n')"
same 'one value' "$("$opendfs" getfattr -n user.color /d/f | tail -n +2)" 'user.color="light \"blue\""'
same 'as JSON' "$("$opendfs" getfattr --json -n user.raw /d/f)" \
    '{"path":"/d/f","attributes":[{"name":"user.raw","value_hex":"00ff10"}]}'
check 'in quotes' "$opendfs" setfattr -n user.color -v '"red \"x\""' --replace /d/f
same 'without the quotes' "$("$opendfs" getfattr -n user.color /d/f | tail -n +2)" 'user.color="red \"x\""'
fails 'it is there' 1 'File exists' "$opendfs" setfattr -n user.color -v x --create /d/f
fails 'it is not there' 1 'No data available' "$opendfs" setfattr -n user.none -v x --replace /d/f
fails 'read what is not there' 1 'user.none: No data available' "$opendfs" getfattr -n user.none /d/f
fails 'another namespace' 1 'Operation not supported' "$opendfs" setfattr -n other.x -v x /d/f
fails 'too long a name' 1 'out of range' "$opendfs" setfattr -n "user.$(head -c 251 /dev/zero | tr '\0' n)" -v x /d/f
fails 'no value' 2 'is no value' "$opendfs" setfattr -n user.x -v 0xabc /d/f
fails 'neither set nor removed' 2 'either' "$opendfs" setfattr /d/f
check 'remove one' "$opendfs" setfattr -x user.raw /d/f
same 'what was done, as JSON' "$("$opendfs" setfattr --json -x user.empty /d/f)" '{"done":1,"failed":0}'
fails 'remove it again' 1 'No data available' "$opendfs" setfattr -x user.raw /d/f
fails 'of nothing' 1 '/d/none: No such file' "$opendfs" getfattr /d/none
head -c 65536 /dev/zero | tr '\0' v >"$work/value"
check 'a value of 64 KiB' "$opendfs" setfattr -n user.big -v "$(cat "$work/value")" /d/f
same 'is all there' "$("$opendfs" getfattr -n user.big /d/f | tail -n +2)" "user.big=\"$(cat "$work/value")\""

# Lists.
owner=$(id -un) group=$(id -gn)
same 'a mode as a list' "$("$opendfs" getfacl /d/f)" \
    "$(printf '# file: /d/f\n# owner: %s\n# group: %s\nuser::rw-\ngroup::r--\nother::---\n' "$owner" "$group")"
check 'name two' "$opendfs" setfacl -m u:12345:rw,g:54321:rwx /d/f
check 'narrow the mask' "$opendfs" setfacl -m m::r /d/f
same 'the list' "$("$opendfs" getfacl -c /d/f)" "$(printf 'user::rw-\nuser:12345:rw-\t#effective:r--\ngroup::r--
group:54321:rwx\t#effective:r--\nmask::r--\nother::---\n')"
same 'as JSON' "$("$opendfs" getfacl --json /d/f | sed 's/.*"access"/"access"/')" \
    '"access":[{"kind":"user","rights":"rw-"},{"kind":"group","rights":"r--"},{"kind":"user","id":12345,"rights":"rw-"},{"kind":"group","id":54321,"rights":"rwx"},{"kind":"mask","rights":"r--"},{"kind":"other","rights":"---"}]}'
same 'what was done, as JSON' "$("$opendfs" setfacl --json -m u:12345:r /d/f /d/none 2>/dev/null)" '{"done":1,"failed":1}'
check 'remove one entry' "$opendfs" setfacl -x u:12345 /d/f
same 'the mask follows' "$("$opendfs" getfacl -c /d/f | tr '\n' ' ')" 'user::rw- group::r-- group:54321:rwx mask::rwx other::---  '
check 'remove all' "$opendfs" setfacl -b /d/f
same 'the mode is left' "$("$opendfs" getfacl -c /d/f | tr '\n' ' ')" 'user::rw- group::r-- other::---  '
check 'a default list' "$opendfs" setfacl -d -m u:12345:rwx,o::- /d
same 'of the directory' "$("$opendfs" getfacl -c /d | tr '\n' ' ')" \
    'user::rwx group::r-x other::r-x default:user::rwx default:user:12345:rwx default:group::r-x default:mask::rwx default:other::---  '
check 'a file inherits' "$opendfs" put -q "$work/hello" /d/g
same 'within its mode' "$("$opendfs" getfacl -c /d/g | tr '\n\t' '  ')" \
    'user::rw- user:12345:rwx #effective:r-- group::r-x #effective:r-- mask::r-- other::---  '
check 'a directory inherits' "$opendfs" mkdir -m 0777 /d/e
same 'both lists' "$("$opendfs" getfacl -cd /d/e | tr '\n' ' ')" 'user::rwx user:12345:rwx group::r-x mask::rwx other::---  '
check 'no default list any more' "$opendfs" setfacl -k /d
same 'it is gone' "$("$opendfs" getfacl -cd /d | tr '\n' ' ')" ' '
fails 'a default list of a file' 2 'only directories' "$opendfs" setfacl -m d:u:1:r /d/f
fails 'no entry' 2 "'u:1'" "$opendfs" setfacl -m u:1 /d/f
fails 'nobody of that name' 2 'no such user' "$opendfs" setfacl -m 'u:no such user:r' /d/f
fails 'nothing to do' 2 'nothing to do' "$opendfs" setfacl /d/f

# A whole tree; symbolic links lead nowhere.
mkdir -p "$work/tree/a/b" "$work/tree/c" && touch "$work/tree/f" "$work/tree/a/g" && chmod 750 "$work/tree/a/g"
(cd "$work/tree/c" && seq 300 | xargs touch) && ln -s ../../outside "$work/tree/a/link" && ln -s a "$work/tree/dir"
check 'put a tree' "$opendfs" put -q "$work/tree" /r
check 'what links lead to' "$opendfs" touch /outside
access() { "$opendfs" getfacl -acn "$1" | tr '\n' ' '; }
default() { "$opendfs" getfacl -dcn "$1" | tr '\n' ' '; }
same 'setfacl -R' "$("$opendfs" setfacl -R --json -m u:12345:rX,d:u:12345:rwx /r)" '{"done":306,"failed":0}'
same 'a directory' "$(access /r/a/b)" 'user::rwx user:12345:r-x group::r-x mask::r-x other::r-x  '
same 'its default list' "$(default /r/a/b)" 'user::rwx user:12345:rwx group::r-x mask::rwx other::r-x  '
same 'a file' "$(access /r/c/300)" 'user::rw- user:12345:r-- group::r-- mask::r-- other::r--  '
same 'a program' "$(access /r/a/g)" 'user::rwx user:12345:r-x group::r-x mask::r-x other::---  '
same 'all files' "$("$opendfs" getfacl -acn $("$opendfs" find /r -type f) | grep -c '^user:12345:r--')" 301
same 'nothing that a link leads to' "$(access /outside)" 'user::rw- group::r-- other::r--  '
same 'nor a link that is named' "$("$opendfs" setfacl -R --json -m u:5:r /r/dir)" '{"done":0,"failed":0}'
same 'setfacl -R -d passes files over' "$("$opendfs" setfacl -R --json -d -m u:7:r /r)" '{"done":4,"failed":0}'
same 'a default list only' "$(access /r/a) $(default /r/a)" \
    'user::rwx user:12345:r-x group::r-x mask::r-x other::r-x   user::rwx user:12345:rwx user:7:r-- group::r-x mask::rwx other::r-x  '
fails 'no entry at all' 2 "'u:1'" "$opendfs" setfacl -R -m u:1 /r
fails 'setfacl -R goes on' 1 '/none: No such file' "$opendfs" setfacl -R -x u:7,d:u:7 /none /r
same 'with what is there' "$(default /r/c)" 'user::rwx user:12345:rwx group::r-x mask::rwx other::r-x  '
check 'setfacl -R -b' "$opendfs" setfacl -R -b /r
same 'leaves no list' "$("$opendfs" getfacl -cn $("$opendfs" find /r -type f) /r /r/a /r/a/b /r/c | grep -c 12345)" 0

# Copies with extended attributes, where this machine's file system has some.
mkdir -p "$work/x/d" && printf 'small\n' >"$work/x/small" && head -c 5000000 /dev/urandom >"$work/x/large" && touch "$work/x/plain"
ln "$work/x/small" "$work/x/d/hard" && ln -s small "$work/x/link" && cp "$work/x/small" "$work/x/locked"
cat >"$work/xattrs.py" <<'END'
import os, sys
def names(top):
    yield top
    for at, dirs, files in os.walk(top):
        for name in dirs + files:
            yield os.path.join(at, name)
if sys.argv[1] == "set":
    for name in ("small", "large", "locked", "d"):
        path = os.path.join(sys.argv[2], name)
        os.setxattr(path, "user.name", name.encode())
        os.setxattr(path, "user.bytes", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
    os.chmod(os.path.join(sys.argv[2], "locked"), 0o444)
    os.chmod(os.path.join(sys.argv[2], "d"), 0o555)
    for path in names(sys.argv[2]):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
else:
    for path in sorted(names(sys.argv[2])):
        st = os.lstat(path)
        x = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False) if n[:4] == "user"}
        print(os.path.relpath(path, sys.argv[2]), oct(st.st_mode), st.st_nlink, st.st_mtime, sorted(x.items()))
END
xattrs() { python3 "$work/xattrs.py" show "$1"; }
if python3 "$work/xattrs.py" set "$work/x" 2>"$work/out"; then
    check 'put --xattrs' "$opendfs" put -q --xattrs "$work/x" /x
    same 'a value' "$("$opendfs" getfattr -n user.name /x/d/hard /x/large | grep name)" "$(printf 'user.name="small"\nuser.name="large"\n')"
    check 'get --xattrs' "$opendfs" get -q --xattrs /x "$work/x.get"
    same 'all attributes are back' "$(xattrs "$work/x.get")" "$(xattrs "$work/x")"
    check 'cp -rp --xattrs' "$opendfs" cp -q -rp --xattrs /x /x.cp
    check 'get of the copy' "$opendfs" get -q --xattrs /x.cp "$work/x.cp"
    same 'the copy has them' "$(xattrs "$work/x.cp")" "$(xattrs "$work/x")"
    check 'cp --xattrs through a link' "$opendfs" cp -q --xattrs /x/link /x/followed
    same 'those of the file' "$("$opendfs" getfattr -n user.name /x/followed | tail -n +2)" 'user.name="small"'
    check 'put --xattrs over a file' "$opendfs" put -q --xattrs "$work/x/large" /x/small
    same 'the new ones' "$("$opendfs" getfattr -n user.name /x/small | tail -n +2)" 'user.name="large"'
    check 'cp without --xattrs' "$opendfs" cp -q /x/large /x/bare
    check 'put without --xattrs' "$opendfs" put -q "$work/x/large" /x/bare2
    same 'has none' "$("$opendfs" getfattr -m - /x/bare /x/bare2)" ''
    check 'standard input has none' sh -c "echo x | '$opendfs' put -q --xattrs - /x/stdin"
    check 'a larger value than this machine takes' "$opendfs" setfattr -n user.big -v "$(cat "$work/value")" /x/plain
    if ! python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.big", b"v" * 65536)' "$work/x/plain" 2>/dev/null; then
        fails 'get --xattrs says which' 1 "$work/plain: user.big: " "$opendfs" get -q --xattrs /x/plain "$work/plain"
        check 'but the file is there' test -f "$work/plain"
    fi
else
    skip 'put, get and cp --xattrs' "$(tail -n 1 "$work/out")"
fi

# Somebody else, by address and with a copy of the client's secret.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    address=$(cat "$cluster/run/meta.0.address")
    chmod 755 "$work"
    as() {
        local who=$1 groups=$2
        shift 2
        cp "$cluster/secret/client.key" "$work/key.$who" && chown "$who" "$work/key.$who" && chmod 600 "$work/key.$who"
        env OPENDFS_SECRET="$work/key.$who" OPENDFS_CLUSTER="$address" \
            setpriv --reuid "$who" --regid "$who" --groups "$groups" "$@"
    }
    check 'only for root' "$opendfs" setfacl -b /d/f
    fails 'others may not read' 1 'Permission denied' as 12345 12345 "$opendfs" cat /d/f
    check 'let one read' "$opendfs" setfacl -m u:12345:r,g:54321:r /d/f
    fails 'that one reads' 0 'hello' as 12345 12345 "$opendfs" cat /d/f
    fails 'a member of the group reads' 0 'hello' as 12346 12346,54321 "$opendfs" cat /d/f
    fails 'another one does not' 1 'Permission denied' as 12346 12346 "$opendfs" cat /d/f
    fails 'nor may it set lists' 1 'Operation not permitted' as 12345 12345 "$opendfs" setfacl -m u:12346:r /d/f
    fails 'nor attributes' 1 'Permission denied' as 12345 12345 "$opendfs" setfattr -n user.x -v x /d/f
    check 'an attribute for root' "$opendfs" setfattr -n trusted.x -v x /d/f
    fails 'root sees it' 0 'trusted.x' "$opendfs" getfattr -m - /d/f
    same 'others do not' "$(as 12345 12345 "$opendfs" getfattr -m trusted. /d/f)" ''
    check 'a tree of one' sh -c "'$opendfs' mkdir -p /own/a/x/1/2/3/4/5 /own/b/x /own/c/x && '$opendfs' chown -R 12345:12345 /own"
    check 'which its owner may not read' as 12345 12345 "$opendfs" chmod 0 /own/a /own/b /own/c
    same 'setfacl -R opens it' "$(as 12345 12345 "$opendfs" setfacl -R --json -m u::rwX /own 2>&1)" '{"done":12,"failed":0}'
    same 'and closes it' "$(as 12345 12345 "$opendfs" setfacl -R --json -m u::-,u:7:rwx /own 2>&1)" '{"done":12,"failed":0}'
    same 'all of it' "$(access /own/c/x)" 'user::--- user:7:rwx group::r-x mask::rwx other::r-x  '
    fails 'and others may not' 1 '/own/b: Operation not permitted' as 12346 12346 "$opendfs" setfacl -R -m u::rwx /own
    if [ -d "$work/x.get" ]; then
        check 'a place of one' sh -c "'$opendfs' mkdir /theirs && '$opendfs' chown 12345 /theirs"
        chmod -R a+rX "$work/x" && mkdir "$work/theirs" && chown -R 12345 "$work/x" "$work/theirs"
        check 'put --xattrs of one' as 12345 12345 "$opendfs" put -q --xattrs "$work/x" /theirs/x
        check 'get --xattrs of one' as 12345 12345 "$opendfs" get -q --xattrs /theirs/x "$work/theirs/x"
        same 'also of files it may not write' "$(xattrs "$work/theirs/x")" "$(xattrs "$work/x")"
        python3 -c 'import os, sys; os.setxattr(sys.argv[1], "security.opendfs", b"x")' "$work/x/small"
        fails 'put --xattrs of what only root may' 1 '/theirs/small: security.opendfs: Operation not permitted' \
            as 12345 12345 "$opendfs" put --xattrs "$work/x/small" /theirs/small
        same 'is a failure' "$(as 12345 12345 "$opendfs" put --xattrs --json "$work/x/small" /theirs/small 2>/dev/null | grep -o '"failed":1')" '"failed":1'
        same 'of a file that is there' "$("$opendfs" getfattr -d /theirs/small | grep name; "$opendfs" cat /theirs/small)" "$(printf 'user.name="small"\nsmall\n')"
        check 'an attribute for root' "$opendfs" setfattr -n security.opendfs -v x /theirs/x/large
        fails 'get --xattrs of what only root may' 1 "$work/theirs/large: security.opendfs: Operation not permitted" \
            as 12345 12345 "$opendfs" get --xattrs /theirs/x/large "$work/theirs/large"
        check 'the file is there' cmp "$work/theirs/large" "$work/x/large"
    fi
    check 'let one write' "$opendfs" setfacl -m u:12345:rwx /d
    check 'that one makes a file' as 12345 12345 "$opendfs" mkdir /d/mine
    fails 'another one does not' 1 'Permission denied' as 12346 12346 "$opendfs" mkdir /d/others
    check 'mkdir' "$opendfs" mkdir -m 1777 /sticky
    chmod 644 "$work/hello"
    check 'a file of one' as 12345 12345 "$opendfs" put -q "$work/hello" /sticky/f
    fails 'another one does not remove it' 1 'Operation not permitted' as 12346 12346 "$opendfs" rm /sticky/f
    check 'its owner does' as 12345 12345 "$opendfs" rm /sticky/f
else
    skip 'other users' 'needs root and setpriv'
fi

# All of it is still there after a restart.
before=$("$opendfs" getfacl /d /d/e /d/f /d/g; "$opendfs" getfattr -dm - /d/f)
check 'down' "$opendfs" down -q "$cluster"
check 'up' "$opendfs" up -q "$cluster"
same 'nothing is forgotten' "$("$opendfs" getfacl /d /d/e /d/f /d/g; "$opendfs" getfattr -dm - /d/f)" "$before"
finish
