#!/bin/bash
# Every command with what it should do and what it must refuse.
set -u
. "$(dirname "$0")/lib.sh"

fails 'no command' 2 'usage' "$opendfs"
fails 'unknown command' 2 "'frobnicate'" "$opendfs" frobnicate
fails 'unknown option' 2 '--frob' "$opendfs" ls --frob
fails 'missing argument' 2 'missing' "$opendfs" mkdir
fails 'help' 0 'put' "$opendfs" help
fails 'the manual page' 0 'opendfs\-put' "$opendfs" help --man
fails 'help of a command' 0 'usage: opendfs put' "$opendfs" help put
fails 'no cluster there' 1 'cluster.ini' "$opendfs" up "$cluster"
fails 'not a number' 2 "'x'" "$opendfs" init "$cluster" --copies x
fails 'more copies than targets' 2 'copies' "$opendfs" init "$cluster" --copies 3 --targets 2
mkdir "$work/full" && touch "$work/full/precious"
fails 'init keeps its hands off' 1 'is not empty' "$opendfs" init "$work/full"
check 'init' "$opendfs" init "$cluster" --port 0 --name demo
fails 'init again' 1 'already' "$opendfs" init "$cluster"
same 'secrets are private' "$(stat -c %a "$cluster/secret/server.key" "$cluster/secret/client.key" | tr '\n' ' ')" '600 600 '
cp "$cluster/cluster.ini" "$work/good.ini"
for edit in 's/copies = 2/copies = 9/' 's/^copies/cupies/' 's/^name = .*/&\nlease = 10/' 's/^id = .*/id = 123/'; do
    sed "$edit" "$work/good.ini" >"$cluster/cluster.ini"
    fails "configuration with $edit" 1 'cluster.ini:' "$opendfs" up "$cluster"
done
rm "$cluster/cluster.ini"
fails 'configuration is gone' 1 'cluster.ini' "$opendfs" meta --config "$cluster/cluster.ini"
cp "$work/good.ini" "$cluster/cluster.ini"
chmod 644 "$cluster/secret/server.key"
fails 'secret for all to read' 1 'can be read by others' "$opendfs" meta --config "$cluster/cluster.ini"
chmod 600 "$cluster/secret/server.key"
[ "$(id -u)" != 0 ] || chown 65534:65533 "$cluster/meta.0"
check 'up' "$opendfs" up "$cluster"
same 'the root belongs to whom its directory belongs' "$("$opendfs" stat / | grep owner)" \
    "$(stat -c ' owner: uid %u, gid %g' "$cluster/meta.0")"
fails 'up again' 0 'running already' "$opendfs" up "$cluster"
fails 'status' 0 'healthy' "$opendfs" status
fails 'status names the cluster' 0 "cluster demo ($(sed -n 's/^id = //p' "$cluster/cluster.ini"))" "$opendfs" status
same 'status names all targets' "$("$opendfs" status | grep -o ' target\.[0-9]' | sort | tr '\n' ' ')" ' target.0  target.1  target.2 '

# Two servers on one directory; a directory of another cluster.
fails 'a second metadata server' 1 'runs already' "$opendfs" meta --config "$cluster/cluster.ini"
fails 'a second data node' 1 'runs already' "$opendfs" data --config "$cluster/cluster.ini" --node 0
mkdir "$work/other" && sed 's#^directory = #&../cluster/#' "$cluster/cluster.ini" >"$work/other/cluster.ini"
cp -r "$cluster/secret" "$work/other/"
fails 'a second server on the directory' 1 'in use' "$opendfs" meta --config "$work/other/cluster.ini"
fails 'a worker without a master' 1 'opendfs data' "$opendfs" data-worker --config "$cluster/cluster.ini" --target 0

# Names and sizes at their limits.
name255=$(head -c 255 /dev/zero | tr '\0' n)
check 'mkdir of 255 bytes' "$opendfs" mkdir "/$name255"
fails 'mkdir of 256 bytes' 1 'File name too long' "$opendfs" mkdir "/${name255}n"
fails 'mkdir twice' 1 'File exists' "$opendfs" mkdir "/$name255"
check 'mkdir -p' "$opendfs" mkdir -p /a/b/c
check 'mkdir -p again' "$opendfs" mkdir -p /a/b/c
fails 'mkdir without parent' 1 'No such file' "$opendfs" mkdir /x/y
mkdir "$work/in" "$work/out.d"
for size in 0 1 4095 4096 4097 8191 8192 8193 4194303 4194304 4194305 8388608 10000000; do
    head -c $size /dev/urandom >"$work/in/$size"
done
touch -d '2001-02-03 04:05:06.789' "$work/in/4097"
chmod 640 "$work/in/4097"
check 'put a tree' "$opendfs" put "$work/in" /sizes
check 'get it back' "$opendfs" get /sizes "$work/out.d/"
check 'the same bytes' diff -r "$work/in" "$work/out.d/sizes"
same 'the same attributes' "$(cd "$work/out.d/sizes" && find . -printf '%P %m %T@ %s\n' | sort)" \
    "$(cd "$work/in" && find . -printf '%P %m %T@ %s\n' | sort)"
"$opendfs" cat /sizes/4194305 /sizes/1 2>/dev/null | cmp - <(cat "$work/in/4194305" "$work/in/1") && ok 'cat' || bad 'cat'
head -c 5000000 "$work/in/10000000" | "$opendfs" put -q - /from-stdin
"$opendfs" get -q /from-stdin - | cmp - <(head -c 5000000 "$work/in/10000000") && ok 'standard input and output' || bad 'standard input and output'
check 'replace a file' "$opendfs" put "$work/in/8193" /sizes/4097
"$opendfs" cat /sizes/4097 | cmp - "$work/in/8193" && ok 'the replaced file is the new one' || bad 'the replaced file is the new one'
same 'no temporary names are left' "$("$opendfs" ls -R / | grep -c '\.opendfs-')" 0
fails 'put without parent' 1 '/nowhere' "$opendfs" put "$work/in/1" /nowhere/1
fails 'put what is not there' 1 'No such file' "$opendfs" put "$work/none" /none
fails 'get what is not there' 1 'No such file' "$opendfs" get /none "$work/none"
fails 'get to where there is nothing' 1 'No such file' "$opendfs" get /sizes/1 "$work/none/none"
mkfifo "$work/pipe"
fails 'get onto a pipe' 1 'File exists' "$opendfs" get /sizes/1 "$work/pipe"
[ -p "$work/pipe" ] && ok 'the pipe is still one' || bad 'the pipe is still one'
fails 'a path through a file' 1 'Not a directory' "$opendfs" stat /sizes/1/x
fails 'a path that is not absolute' 2 'must begin' "$opendfs" stat sizes
fails 'full standard output' 1 'standard output' sh -c "exec '$opendfs' cat /sizes/10000000 >/dev/full"

# mv and rm.
fails 'rename into itself' 1 '/a cannot be moved into itself, to /a/b/a' "$opendfs" mv /a /a/b/a
check 'rename' "$opendfs" mv /a/b /b
check 'move into a directory' "$opendfs" mv /sizes/1 /b
same 'it is there' "$("$opendfs" ls /b | tr '\n' ' ')" '1 c '
fails 'no replace' 1 'File exists' "$opendfs" mv -n /sizes/0 /b/1
check 'replace by rename' "$opendfs" mv /sizes/8192 /b/1
fails 'a directory over a file' 1 'Not a directory' "$opendfs" mv /b/c /sizes/0/
fails 'rm of a directory' 1 '-r' "$opendfs" rm /b
check 'rm -r' "$opendfs" rm -r /b
fails 'it is gone' 1 'No such file' "$opendfs" ls /b
fails 'rm of nothing' 1 'No such file' "$opendfs" rm /b
check 'rm -f of nothing' "$opendfs" rm -f /b
fails 'rm of the root' 1 'root' "$opendfs" rm -r /

# JSON.
"$opendfs" ls --json /sizes | python3 -c 'import json,sys; assert len(json.load(sys.stdin)) == 11' && ok 'ls --json' || bad 'ls --json'
"$opendfs" stat --json /sizes/4096 | python3 -c 'import json,sys; assert json.load(sys.stdin)["size"] == 4096' && ok 'stat --json' || bad 'stat --json'
"$opendfs" status --json | python3 -m json.tool >/dev/null && ok 'status --json' || bad 'status --json'

# A wrong secret; another cluster.
mkdir "$work/evil" && cp -r "$cluster/secret" "$cluster/cluster.ini" "$work/evil/"
mkdir "$work/evil/run" && cp "$cluster"/run/*.address "$work/evil/run/"
tr 0-9a-f 1-9a-f0 <"$cluster/secret/client.key" >"$work/evil/secret/client.key"
fails 'a wrong secret' 1 'does not know the secret' timeout 20 "$opendfs" -C "$work/evil" ls /
fails 'a wrong secret, options first' 1 'opendfs ls' timeout 20 "$opendfs" ls -C "$work/evil" /
sed -i 's/^id = ......../id = 00000000/' "$work/evil/cluster.ini"
fails 'another cluster' 1 'another cluster' timeout 20 "$opendfs" -C "$work/evil" ls /
fails 'the configuration file as cluster' 0 'sizes' "$opendfs" -C "$cluster/cluster.ini" ls /
fails 'nobody listens' 124 'no metadata server answers yet' \
    env OPENDFS_SECRET="$cluster/secret/client.key" timeout 5 "$opendfs" -C 127.0.0.1:1 ls /

# A name that nobody has: either nobody knows it, or there is nobody to ask.
fails 'an unknown host' 124 'no-such-host.invalid:9400: cannot connect: the host name ' \
    env OPENDFS_SECRET="$cluster/secret/client.key" timeout 8 "$opendfs" -C no-such-host.invalid ls /

# A data directory that is not there: up does not call that good.
"$opendfs" down -q "$cluster"
mv "$cluster/target.0" "$cluster/away"
fails 'up without a data directory' 1 'target.0 does not run' "$opendfs" up --wait 3 "$cluster"
mv "$cluster/away" "$cluster/target.0"
check 'up with it again' "$opendfs" up "$cluster"

# Down and up keep everything.
before=$("$opendfs" ls -lR /)
check 'down' "$opendfs" down "$cluster"
fails 'down again' 0 'nothing was running' "$opendfs" down "$cluster"
check 'up after down' "$opendfs" up "$cluster"
same 'the same names' "$("$opendfs" ls -lR /)" "$before"
rm -rf "$work/out.d/"* && check 'get after a restart' "$opendfs" get /sizes "$work/out.d/"
check 'the same bytes after a restart' cmp "$work/in/10000000" "$work/out.d/sizes/10000000"
finish
