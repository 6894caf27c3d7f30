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
set_meta
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
same 'the root belongs to whom its directory belongs' "$("$opendfs" ls -dn / | awk '{print $3, $4}')" \
    "$(stat -c '%u %g' "$cluster/meta.0")"
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

# Links, modes, owners, times.
check 'a tree to change' "$opendfs" mkdir -p /t/d/e /t/f
for name in 1 2 d/3 d/e/4; do echo "$name" | "$opendfs" put -q - "/t/$name"; done
check 'ln' "$opendfs" ln /t/1 /t/hard
same 'it is the same file' "$("$opendfs" stat --json /t/1 | grep -o '"ino":"[0-9]*"')" \
    "$("$opendfs" stat --json /t/hard | grep -o '"ino":"[0-9]*"')"
check 'ln -s' "$opendfs" ln -s d/3 /t/soft
same 'it leads there' "$("$opendfs" cat /t/soft)" 'd/3'
same 'stat shows it' "$("$opendfs" stat /t/soft | head -n 1)" '  path: /t/soft -> d/3'
same 'stat --json as well' "$("$opendfs" stat --json /t/soft | grep -o '"target":"d/3"')" '"target":"d/3"'
check 'ln -s to nothing' "$opendfs" ln -s nowhere /t/dangling
fails 'ln over something' 1 'File exists' "$opendfs" ln -s d/3 /t/1
check 'ln -f over something' "$opendfs" ln -sf d/3 /t/2
same 'it is that link now' "$("$opendfs" cat /t/2)" 'd/3'
check 'ln -f of a file onto itself' "$opendfs" ln -f /t/1 /t/hard
check 'ln into a directory' "$opendfs" ln /t/1 /t/d/3 /t/f
same 'both are there' "$("$opendfs" ls /t/f | tr '\n' ' ')" '1 3 '
fails 'ln of a directory' 1 '/t/d: Operation not permitted' "$opendfs" ln /t/d /t/dd
check 'a directory in the way' "$opendfs" mkdir -p /t/g/1 /t/g/copy
fails 'ln -f over a directory' 1 '/t/g/1: Is a directory' "$opendfs" ln -f /t/1 /t/g
fails 'ln of nothing' 1 'No such file' "$opendfs" ln /t/none /t/x
fails 'ln of several to a file' 1 'not a directory' "$opendfs" ln /t/1 /t/d/3 /t/hard
same 'no temporary links are left' "$("$opendfs" find / --name '.opendfs-*' | wc -l)" 0

mode() { "$opendfs" stat --json "$1" | sed 's/.*"mode":"\([0-7]*\)".*/\1/'; }
check 'chmod' "$opendfs" chmod 640 /t/1
same 'the mode' "$(mode /t/1)" 0640
check 'chmod in letters' "$opendfs" chmod u+x,g-r,o=g /t/1
same 'the mode in letters' "$(mode /t/1)" 0700
check 'chmod through a link' "$opendfs" chmod 604 /t/soft
same 'the file behind the link' "$(mode /t/d/3)" 0604
check 'chmod -R' "$opendfs" chmod -R u=rwX,go= /t
same 'directories and files' "$(mode /t) $(mode /t/d/e) $(mode /t/d/e/4)" '0700 0700 0600'
check 'chmod -R to nothing' "$opendfs" chmod -R 0 /t/d
same 'all of it' "$(mode /t/d) $(mode /t/d/3) $(mode /t/d/e/4)" '0000 0000 0000'
check 'chmod -R back' "$opendfs" chmod -R u+rwX,go+rX /t/d
fails 'chmod to no mode' 2 "'u+q'" "$opendfs" chmod u+q /t/1
fails 'chmod of nothing' 1 'No such file' "$opendfs" chmod 600 /t/none
fails 'chmod goes on' 1 '/t/none' "$opendfs" chmod 611 /t/none /t/1
same 'with what is there' "$(mode /t/1)" 0611
fails 'chmod without a path' 2 'missing' "$opendfs" chmod 600
same 'chmod --json' "$("$opendfs" chmod --json 600 /t/1 /t/none /t/hard 2>/dev/null)" '{"done":2,"failed":1}'

owner() { "$opendfs" ls -dn "$1" | awk '{print $3 ":" $4}'; }
fails 'chown to nobody known' 2 'knows no such user' "$opendfs" chown no-such-user-here /t/1
fails 'chown to no group known' 2 'knows no such group' "$opendfs" chown root:no-such-group-here /t/1
fails 'chown of nothing' 1 'No such file' "$opendfs" chown "$(id -u)" /t/none
if [ "$(id -u)" = 0 ]; then
    check 'chown' "$opendfs" chown 12345:54321 /t/1
    same 'the owner' "$(owner /t/1)" 12345:54321
    check 'chown by name' "$opendfs" chown root: /t/1
    same 'and the own group' "$(owner /t/1)" "0:$(id -g root)"
    check 'chown of the group' "$opendfs" chown :777 /t/1
    same 'only the group' "$(owner /t/1)" 0:777
    check 'chown -R' "$opendfs" chown -R 11:22 /t
    same 'all of it changed' "$("$opendfs" find /t --json | grep -c '"uid":11,"gid":22')" "$("$opendfs" find /t | wc -l)"
    check 'chown of a link' "$opendfs" chown --no-dereference 33:44 /t/soft
    same 'the link, not the file' "$(owner /t/soft) $(owner /t/d/3)" '33:44 11:22'
    check 'a directory for all' "$opendfs" chmod 777 /t/f
    run_as() { setpriv --reuid 4321 --regid 4321 --clear-groups env OPENDFS_CLUSTER="$cluster" "$@"; }
    chmod 755 "$work" "$cluster" && chmod 644 "$cluster/cluster.ini" "$cluster"/run/*.address && chmod 755 "$cluster/secret" "$cluster/run"
    chown 4321 "$cluster/secret/client.key"
    check 'chmod 755 for the others' "$opendfs" chmod 755 /t /t/d
    fails 'chmod by another one' 1 'Operation not permitted' run_as "$opendfs" chmod 600 /t/1
    fails 'chown by another one' 1 'Operation not permitted' run_as "$opendfs" chown 4321 /t/1
    fails 'a directory that another one may not read' 1 '/t/d/e: Permission denied' \
        sh -c "'$opendfs' chmod 700 /t/d/e && exec setpriv --reuid 4321 --regid 4321 --clear-groups '$opendfs' find /t/d"
    same 'but the rest is found' "$(run_as "$opendfs" find /t/d 2>/dev/null | tr '\n' ' ')" '/t/d /t/d/3 /t/d/e '
    fails 'ls -R of it' 1 '/t/d/e: Permission denied' run_as "$opendfs" ls -R /t/d
    same 'lists the rest' "$(run_as "$opendfs" ls -R /t/d 2>/dev/null | tr '\n' ' ')" '/t/d: 3 e  /t/d/e: '
    check 'directories of another one' run_as "$opendfs" mkdir -p /t/f/own/a/b /t/f/own/c/d /t/f/own/e/f
    check 'which nobody may read' run_as "$opendfs" chmod 0 /t/f/own/a /t/f/own/c /t/f/own/e
    same 'chmod -R opens them on its way' "$(run_as "$opendfs" chmod -R --json u+rwX /t/f/own 2>&1)" '{"done":7,"failed":0}'
    same 'chmod -R closes them on its way' "$(run_as "$opendfs" chmod -R --json 0 /t/f/own 2>&1)" '{"done":7,"failed":0}'
    check 'rm -r of them' "$opendfs" rm -r /t/f/own
    chown 0 "$cluster/secret/client.key"
else
    skip 'chown and other users' 'needs root'
fi

times() { "$opendfs" stat --json "$1" | sed 's/.*"mtime_ns":"\([0-9-]*\)","atime_ns":"\([0-9-]*\)".*/\1 \2/'; }
check 'touch makes' "$opendfs" touch /t/new
same 'an empty file' "$("$opendfs" stat --json /t/new | grep -o '"size":0,')" '"size":0,'
check 'touch -d' "$opendfs" touch -d '2001-02-03 04:05:06.789Z' /t/new
same 'both times' "$(times /t/new)" '981173106789000000 981173106789000000'
check 'touch -a -d' "$opendfs" touch -a -d @1000000000.5 /t/new
same 'only the access' "$(times /t/new)" '981173106789000000 1000000000500000000'
check 'touch -m -t' env TZ=UTC "$opendfs" touch -m -t 200102030405.06 /t/new
same 'only the change' "$(times /t/new)" '981173106000000000 1000000000500000000'
check 'touch' "$opendfs" touch /t/new
[ "$(times /t/new | cut -c1-10)" -ge "$(($(date +%s) - 60))" ] && ok 'now' || bad 'now'
check 'touch -c of nothing' "$opendfs" touch -c /t/none
fails 'which is still nothing' 1 'No such file' "$opendfs" stat /t/none
fails 'touch with no time' 2 "'yesterday'" "$opendfs" touch -d yesterday /t/new
fails 'touch with two times' 2 'either' "$opendfs" touch -d @1 -t 01010000 /t/new
fails 'touch without a directory' 1 'No such file' "$opendfs" touch /nowhere/new

# find and tree.
same 'find' "$("$opendfs" find /t/d | tr '\n' ' ')" '/t/d /t/d/3 /t/d/e /t/d/e/4 '
same 'find by name' "$("$opendfs" find /t -name '[34]' | tr '\n' ' ')" '/t/d/3 /t/d/e/4 /t/f/3 '
same 'find by type' "$("$opendfs" find / --type l | tr '\n' ' ')" '/t/2 /t/dangling /t/soft '
same 'find by size' "$("$opendfs" find / -size +4M | tr '\n' ' ')" '/from-stdin /sizes/10000000 /sizes/4194305 /sizes/8388608 '
same 'find what is empty' "$("$opendfs" find /t -empty)" '/t/new'
check 'a file of the future' "$opendfs" touch -d '2131-01-01' /t/new
same 'find what is newer' "$("$opendfs" find /t -newer '2130-01-01 00:00')" '/t/new'
same 'find what is newer than another' "$("$opendfs" find /t/1 /t/new -newer /t/1)" '/t/new'
same 'find by age' "$("$opendfs" touch -d @1000000000 /t/old && "$opendfs" find /t -mtime +1000)" '/t/old'
same 'find not so deep' "$("$opendfs" find /t -maxdepth 1 -type d | tr '\n' ' ')" '/t /t/d /t/f /t/g '
same 'find deeper' "$("$opendfs" find /t -mindepth 3)" '/t/d/e/4'
same 'find -print0' "$("$opendfs" find /t/d -print0 | tr '\0' '|')" '/t/d|/t/d/3|/t/d/e|/t/d/e/4|'
fails 'find with no type' 2 "'x'" "$opendfs" find /t -type x
fails 'find with no size' 2 "'big'" "$opendfs" find /t -size big
fails 'find nowhere' 1 'No such file' "$opendfs" find /none
fails 'find goes on' 1 '/t/d/e/4' "$opendfs" find /none /t/d
check 'find -delete' "$opendfs" find /t/d -delete
same 'leaves where it began' "$("$opendfs" find /t/d)" '/t/d'
same 'tree' "$(LC_ALL=C "$opendfs" tree /t/f)" '/t/f
|-- 1
`-- 3

0 directories, 2 files'
fails 'tree of nothing' 1 'No such file' "$opendfs" tree /none
fails 'tree with no depth' 2 "'x'" "$opendfs" tree -L x /t
# The same word with a second one: files of the tree engine.
head -c 200000 /dev/urandom >"$work/no-tree"
fails 'tree verify of nothing' 1 'No such file' "$opendfs" tree verify "$work/none"
fails 'tree verify of no tree' 1 'damaged: checkpoint 0' "$opendfs" tree verify "$work/no-tree"
fails 'tree verify, as objects' 1 '{"what":"finding","severity":"damage"' "$opendfs" tree verify --json "$work/no-tree"
fails 'tree verify has four levels' 2 '--level is 1 to 4' "$opendfs" tree verify --level 5 "$work/no-tree"
fails 'tree dump of no tree' 1 'no valid superblock' "$opendfs" tree dump "$work/no-tree"
fails 'tree dump from no key' 2 'two digits' "$opendfs" tree dump --from '\xg0' "$work/no-tree"
fails 'tree stats of no tree' 1 'no valid superblock' "$opendfs" tree stats "$work/no-tree"
fails 'tree copy of no tree' 1 'no valid superblock' "$opendfs" tree copy "$work/no-tree" "$work/tree-new"
fails 'tree copy to nowhere' 2 'NEW' "$opendfs" tree copy "$work/no-tree"
fails 'tree rebuild to nowhere' 2 '--out' "$opendfs" tree rebuild "$work/no-tree"
fails 'tree rebuild of no tree' 1 'no superblock and no node' "$opendfs" tree rebuild --out "$work/tree-new" "$work/no-tree"
same 'and nothing is made' "$(ls "$work"/tree-new* 2>/dev/null)" ''
fails 'tree rebuild for nobody' 2 'no id of a cluster' "$opendfs" tree rebuild --out "$work/tree-new" --owner x "$work/no-tree"
check 'a directory of many pages' sh -c "cd '$work' && mkdir many && cd many && seq -w 5000 | xargs touch && exec '$opendfs' put -q . /many"
same 'all of them are found' "$("$opendfs" find /many -type f | wc -l)" 5000
same 'in their order' "$("$opendfs" find /many -type f | sort -c && echo sorted)" sorted
same 'with one last' "$(LC_ALL=C "$opendfs" tree /many | grep -c '^`--')" 1
same 'chmod of all of them' "$("$opendfs" chmod -R --json 711 /many)" '{"done":5001,"failed":0}'
same 'find stops where nobody reads' "$("$opendfs" find /many 2>/dev/null | head -n 1)" '/many'

# ls -R: everything in the order of GNU ls, also beyond a page of directories and beyond those read ahead.
mkdir "$work/list" && (cd "$work/list" && mkdir -p {1..12}/{a..m}/{x,y} && seq -f 5/c/%04.0f 2500 | xargs mkdir && touch {1..12}/{b..d}/file)
check 'put a tree of many directories' "$opendfs" put -q "$work/list" /list
"$opendfs" ls -R /list | cmp - <(LC_ALL=C ls -R "$work/list" | sed "s#^$work/list#/list#") && ok 'ls -R' || bad 'ls -R'
same 'ls -R stops where nobody reads' "$("$opendfs" ls -R /list 2>/dev/null | head -n 1)" '/list:'
check 'rm -r of it' "$opendfs" rm -r /list

# cp.
check 'cp of a file' "$opendfs" cp /sizes/10000000 /copy
"$opendfs" cat /copy | cmp - "$work/in/10000000" && ok 'the same bytes' || bad 'the same bytes'
check 'cp -r -p' "$opendfs" cp -rp /sizes /sizes2
check 'get the copy' "$opendfs" get -q /sizes2 "$work/out.d/"
"$opendfs" get -q /sizes "$work/out.d/fresh"
check 'cp -r copies all bytes' diff -r "$work/out.d/fresh" "$work/out.d/sizes2"
same 'cp -p keeps attributes' "$(cd "$work/out.d/sizes2" && find . -printf '%P %m %T@ %s\n' | sort)" \
    "$(cd "$work/out.d/fresh" && find . -printf '%P %m %T@ %s\n' | sort)"
check 'cp into a directory' "$opendfs" cp /copy /sizes/4095 /t/f
check 'cp over a file' "$opendfs" cp /sizes/4096 /t/f/1
same 'replaces it' "$("$opendfs" ls -l /t/f | awk '{print $5, $NF}' | tr '\n' ' ')" '4096 1 4 3 4095 4095 10000000 copy '
same 'and not its other names' "$("$opendfs" cat /t/1)" '1'
(umask 077 && "$opendfs" cp -q /copy /private) && same 'cp without -p heeds the umask' "$(mode /private)" 0600
fails 'cp of a directory' 1 '-r' "$opendfs" cp /sizes /sizes3
fails 'cp into itself' 1 '/t cannot be copied into itself, to /t/f/t' "$opendfs" cp -r /t /t/f
check 'a link into it' "$opendfs" ln -s /t/f /into
fails 'cp into itself through a link' 1 'into itself' "$opendfs" cp -r /t /into/new
fails 'cp onto itself' 1 'are the same' "$opendfs" cp /copy /copy
fails 'cp of nothing' 1 'No such file' "$opendfs" cp /none /x
fails 'cp to nowhere' 1 'No such file' "$opendfs" cp /copy /none/none
fails 'cp of several to a file' 1 'Not a directory' "$opendfs" cp /copy /private /from-stdin
fails 'cp -n' 1 'File exists' "$opendfs" cp -n /private /copy
fails 'cp of a file over a directory' 1 '/t/g/copy: Is a directory' "$opendfs" cp -r /copy /t/g
fails 'cp of a directory over a file' 1 'Not a directory' "$opendfs" cp -r /t/f /copy
fails 'cp goes on' 1 '/none' "$opendfs" cp /none /copy /t
same 'with what is there' "$("$opendfs" find /t/copy -size 10000000)" '/t/copy'
same 'cp --json' "$("$opendfs" cp --json /copy /copy2 | python3 -c 'import json,sys; r = json.load(sys.stdin); print(r["files"], r["bytes"], r["failed"])')" '1 10000000 0'
same 'no temporary names are left by cp' "$("$opendfs" find / -name '.opendfs-*' | wc -l)" 0

# JSON: one object in each line.
lines() { python3 -c 'import json,sys; print(sum(isinstance(json.loads(l), dict) for l in sys.stdin))'; }
same 'ls --json' "$("$opendfs" ls --json /sizes | lines)" 11
same 'ls -R --json' "$("$opendfs" ls -R --json /many | lines)" 5000
same 'find --json' "$("$opendfs" find --json /t/f | lines)" 5
same 'tree --json' "$("$opendfs" tree --json /t/f | lines)" 5
same 'stat --json' "$("$opendfs" stat --json /sizes/4096 /sizes/4095 | lines)" 2
"$opendfs" stat --json /sizes/4096 | python3 -c 'import json,sys; assert json.load(sys.stdin)["size"] == 4096' && ok 'stat --json has the size' || bad 'stat --json has the size'
"$opendfs" status --json | python3 -m json.tool >/dev/null && ok 'status --json' || bad 'status --json'
odd=$(printf '/t/\377\001"x')
check 'a name of any bytes' "$opendfs" mkdir "$odd"
"$opendfs" find --json /t -name '*x' | python3 -c '
import json,sys
o = json.loads(sys.stdin.read())
assert bytes.fromhex(o["path_hex"]) == b"/t/\xff\x01\"x", o' && ok 'a name of any bytes in JSON' || bad 'a name of any bytes in JSON'
same 'mkdir --json' "$("$opendfs" mkdir --json /t /j1 /j2 2>/dev/null)" '{"done":2,"failed":1}'
same 'mv --json' "$("$opendfs" mv --json /j1 /j2)" '{"done":1,"failed":0}'
same 'rm --json' "$("$opendfs" rm -r --json /j2)" '{"done":2,"failed":0}'
same 'ln --json' "$("$opendfs" ln --json -s x /j3)" '{"done":1,"failed":0}'
same 'touch --json' "$("$opendfs" touch --json /j4)" '{"done":1,"failed":0}'
same 'chown --json' "$("$opendfs" chown --json "$(id -u)" /j4)" '{"done":1,"failed":0}'

# A wrong secret; another cluster.
mkdir "$work/evil" && cp -r "$cluster/secret" "$cluster/cluster.ini" "$work/evil/"
mkdir "$work/evil/run" && cp "$cluster"/run/*.address "$work/evil/run/"
tr 0-9a-f 1-9a-f0 <"$cluster/secret/client.key" >"$work/evil/secret/client.key"
fails 'a wrong secret' 1 'does not know the secret' timeout 20 "$opendfs" -C "$work/evil" ls /
fails 'a wrong secret, options first' 1 'opendfs ls' timeout 20 "$opendfs" ls -C "$work/evil" /
sed -i 's/^id = ......../id = 00000000/' "$work/evil/cluster.ini"
fails 'another cluster' 1 'another cluster' timeout 20 "$opendfs" -C "$work/evil" ls /
fails 'the configuration file as cluster' 0 'sizes' "$opendfs" -C "$cluster/cluster.ini" ls /
goes_on 'nobody listens' 'no metadata server answers yet' \
    env OPENDFS_SECRET="$cluster/secret/client.key" "$opendfs" -C 127.0.0.1:1 ls /

# A name that nobody has: either nobody knows it, or there is nobody to ask.
goes_on 'an unknown host' 'no-such-host.invalid:9400: cannot connect: the host name ' \
    env OPENDFS_SECRET="$cluster/secret/client.key" "$opendfs" -C no-such-host.invalid ls /

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
