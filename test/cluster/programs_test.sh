#!/bin/bash
# Programs of every day on a mount: git, sqlite3, a compiler, rsync, tar, dpkg; once in peace, and once more while servers
# are killed with SIGKILL every 1 to 3 seconds, when none of them may notice anything but waits. SOAK=1: larger, for
# ROUNDS rounds (5) of kills, and PostgreSQL too. SEED: of the kills. ONLY: one of the programs.
set -u
. "$(dirname "$0")/lib.sh"
soak=${SOAK:-}
seed=${SEED:-$RANDOM}
RANDOM=$seed

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'programs on a mount' 'needs /dev/fuse and fusermount3'
    finish
fi
umask 022
source=$(realpath "$(dirname "$0")/../..")
chmod 755 "$work"
at=$work/at
mkdir "$at"
export HOME=$work CCACHE_DISABLE=1 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
is_mounted() { grep -qF " $at " /proc/self/mountinfo; }
striker=
server=
# Not killed: the `up` under way would start servers that nobody ends.
strike_end() {
    [ -n "$striker" ] || return 0
    : >"$work/peace"
    wait "$striker"
    striker=
}
mount_end() {
    local n
    cd /
    strike_end
    for n in 1 2 3; do
        if is_mounted; then umount -l "$at" 2>/dev/null || fusermount3 -uzq "$at"; fi
    done
    # A program that still waits for servers would keep it for ever.
    if [ -n "$server" ] && grep -qaF "$at" "/proc/$server/cmdline" 2>/dev/null; then kill -9 "$server"; fi
}
disks_end() { mount_end; }
trap 'mount_end; cleanup' EXIT
limit=100
[ -z "$soak" ] || limit=900
# step NAME COMMAND...: a check that ends in any case; what a program said of a failure is in the line.
step() { check "$1$when" timeout -k 5 $limit "${@:2}"; }
equal() { same "$1$when" "$2" "$3"; }
# A program that is not there: said once.
declare -A told
has() {
    local what=$1 program
    shift
    for program; do
        type -P "$program" >/dev/null && continue
        [ -n "${told[$what]:-}" ] || skip "$what" "needs $program (tools/deps.sh)"
        told[$what]=1
        return 1
    done
}
# In a substitution too nothing waits for ever.
for program in git sqlite3 ninja dpkg dpkg-query; do eval "$program() { timeout -k 5 \$limit $program \"\$@\"; }"; done

use_git() {
    has git git || return
    if ! git -C "$source" rev-parse HEAD >/dev/null 2>&1; then
        [ -n "$when" ] || skip git 'these sources are in no repository'
        return
    fi
    step 'git clone' git clone -q --no-local "${small[@]}" "file://$source" repo || return
    [ -n "$soak" ] || step 'git sparse-checkout' git -C repo sparse-checkout set src/base src/client tools
    step 'git fsck' git -C repo fsck --full --strict
    equal 'git status after clone' "$(git -C repo status --porcelain | head -n 3)" ''
    for i in 1 2 3; do echo "$i" >"repo/new.$i" && git -C repo add . && git -C repo -c user.name=t -c user.email=t@t commit -q -m "$i"; done
    equal 'git commits' "$(git -C repo log --format=%s -n 3 | tr '\n' ' ')" '3 2 1 '
    step 'git gc' git -C repo gc -q ${soak:+--aggressive} --prune=now
    step 'git fsck after gc' git -C repo fsck --full --strict
    equal 'git status after gc' "$(git -C repo status --porcelain | head -n 3)" ''
    step 'git checkout' git -C repo checkout -q HEAD~3
    equal 'the tree is that of the sources' "$(git -C repo rev-parse 'HEAD^{tree}')" "$(git -C "$source" rev-parse 'HEAD^{tree}')"
}

# Each transaction moves an amount from one row to another and says so in a log, so that a lost or a torn one shows.
use_sqlite() {
    local mode n=$1 i
    has sqlite sqlite3 || return
    for mode in delete wal; do
        step "sqlite, journal mode $mode" sqlite3 "$mode.db" "PRAGMA journal_mode=$mode; create table a(id integer primary key, v int);
            create table l(n int); insert into a values (1, 1000), (2, 0);" || return
        for i in $(seq "$n"); do
            echo "PRAGMA synchronous=full; begin immediate; update a set v=v-1 where id=1; update a set v=v+1 where id=2;
                insert into l values ($i); commit;"
            # Now and then by another process.
            [ $((i % 10)) != 0 ] || echo ".quit"
        done >sql
        step "sqlite, transactions, $mode" bash -c 'set -e; while read -r line; do
                if [ "$line" = .quit ]; then sqlite3 "$0" <part; : >part; else echo "$line" >>part; fi
            done <sql; sqlite3 "$0" <part' "$mode.db"
        rm -f part
        equal "sqlite, all is there, $mode" "$(sqlite3 "$mode.db" 'select v from a order by id; select count(*), sum(n) from l; PRAGMA integrity_check' | tr '\n' ' ')" \
            "$((1000 - n)) $n $n|$((n * (n + 1) / 2)) ok "
    done
}

use_compiler() {
    has 'a compile' meson ninja cc || return
    local from=$source
    if [ -n "$soak" ]; then
        from=here
        mkdir here
        step 'sources copied' cp -a "$source"/{src,prog,include,test,tools,packaging,doc,meson.build,meson_options.txt} here || return
    fi
    step 'meson setup' meson setup build "$from" --buildtype=plain -Dwerror=false -Dfaults=true || return
    step "ninja -j4 $1" ninja -C build -j4 "$1" || grep -A 10 'FAILED:' "$work/out" | cut -c 1-300 | grep -v '^cc '
    if [ "$1" = all ]; then
        step 'the result runs' build/prog/opendfs --version
    else
        step 'the result runs' "build/$1"
    fi
    equal 'nothing left to do' "$(ninja -C build "$1" | tail -n 1)" 'ninja: no work to do.'
}

use_rsync() {
    has rsync rsync || return
    mkdir from
    (cd "$source" && cp -a src/base src/mount doc tools "$at/$dir/from")
    ln -s base from/link && ln from/tools/configure.sh from/hard && mkdir -m 700 from/closed && truncate -s 5M from/hole
    step 'rsync' rsync -aH from/ to
    step 'the same' diff -r --no-dereference from to
    equal 'the second transfers nothing' "$(timeout 100 rsync -aHi --stats from/ to | grep -E '^[<>ch.*]|Total transferred' | tr '\n' ' ')" \
        'Total transferred file size: 0 bytes '
    echo more >>from/tools/deps.sh && rm -r from/base
    step 'rsync of changes' rsync -aH --delete --checksum --inplace from/ to
    step 'the same' diff -r --no-dereference from to
}

# All that is known of the names below a directory, but the sizes of directories. Attributes have no order.
facts() {
    (
        cd "$1" || exit
        find . -mindepth 1 \( -type d -printf '%p %M %U %G %T@\n' -o -printf '%p %M %U %G %T@ %s %n %l\n' \) | LC_ALL=C sort
        find . -mindepth 1 -print0 | LC_ALL=C sort -z | xargs -0 getfacl -p
        find . -mindepth 1 -print0 | LC_ALL=C sort -z | while read -r -d '' name; do getfattr -h -d -m - "$name" | LC_ALL=C sort; done
    ) 2>&1
}
use_tar() {
    has 'tar with lists and attributes' tar getfacl getfattr || return
    mkdir -p tree/sub && cp -a "$source/src/base" tree/sub && ln -s sub tree/link && echo x >tree/file
    setfacl -m u:12345:rw,g:54321:r tree/file && setfacl -R -m d:u:12345:rwx,u:12345:rwx tree/sub
    setfattr -n user.color -v blue tree/file && setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" tree/sub/base/err.c
    [ "$(id -u)" != 0 ] || setfattr -n trusted.of -v root tree/sub
    step 'tar' tar --acls --xattrs --xattrs-include='*' --sort=name -cf tree.tar tree || return
    mkdir back
    step 'tar back' tar --acls --xattrs --xattrs-include='*' -xpf tree.tar -C back || return
    facts tree >one
    facts back/tree >two
    step 'lists, attributes and all else are the same' cmp one two
    grep -q 'user:12345:rwx' one && grep -q user.long one || bad "tar$when: nothing was compared"
    # And by way of the disk of this machine, if that has such things.
    if mkdir -p "$work/disk" && touch "$work/disk/x" && setfacl -m u:1:r "$work/disk/x" 2>/dev/null && setfattr -n user.a -v b "$work/disk/x" 2>/dev/null; then
        rm -rf "$work/disk" && mkdir "$work/disk"
        step 'tar to a disk' tar --acls --xattrs --xattrs-include='*' -xpf tree.tar -C "$work/disk"
        facts "$work/disk/tree" >three
        step 'the same there' cmp one three
    fi
}

use_dpkg() {
    has dpkg dpkg dpkg-deb || return
    if [ "$(id -u)" != 0 ]; then
        [ -n "$when" ] || skip dpkg 'needs root'
        return
    fi
    local v
    mkdir -p root/var/lib/dpkg/{info,updates,triggers} root/tmp && touch root/var/lib/dpkg/{status,available}
    for v in 1 2; do
        mkdir -p "pkg.$v/DEBIAN" "pkg.$v/usr/bin" "pkg.$v/etc" "pkg.$v/usr/share/sample"
        printf 'Package: sample\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: sample\n' $v >"pkg.$v/DEBIAN/control"
        echo /etc/sample.conf >"pkg.$v/DEBIAN/conffiles"
        echo "version $v" >"pkg.$v/etc/sample.conf"
        cp /bin/true "pkg.$v/usr/bin/sample" && ln "pkg.$v/usr/bin/sample" "pkg.$v/usr/bin/sample2"
        cp "$source"/src/base/*.c "pkg.$v/usr/share/sample" && ln -s sample.conf "pkg.$v/etc/link"
        [ $v = 2 ] || touch "pkg.$v/usr/share/sample/only.$v"
        step "dpkg-deb, version $v" dpkg-deb --root-owner-group -b "pkg.$v" "sample_$v.deb" || return
        step "dpkg --root, version $v" dpkg --root="$at/$dir/root" --force-not-root --force-bad-path --log=/dev/null --force-script-chrootless -i "sample_$v.deb" || return
    done
    equal 'dpkg: installed' "$(dpkg-query --admindir=root/var/lib/dpkg -W -f '${Version} ${Status}')" '2 install ok installed'
    equal 'dpkg: what was only in the old one' "$(ls root/usr/share/sample/only.* 2>/dev/null)" ''
    step 'dpkg --verify' bash -c '[ -z "$(dpkg --root="$0" --verify sample)" ]' "$at/$dir/root"
    step 'dpkg: it runs' root/usr/bin/sample
    step 'dpkg: purged' dpkg --root="$at/$dir/root" --force-not-root --force-bad-path --log=/dev/null -P sample
    equal 'dpkg: nothing of it is left' "$(find root -name '*sample*')" ''
}

# What ends all at once, as in a crash, and comes back has all that was committed.
use_postgres() {
    local bin as seconds=$1
    bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
    if [ -z "$bin" ] || [ "$(id -u)" != 0 ]; then
        [ -n "${told[postgres]:-}" ] || skip postgres 'needs root and the package postgresql (tools/deps.sh postgresql)'
        told[postgres]=1
        return
    fi
    mkdir -m 700 pg && chown nobody: pg
    as=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups env "HOME=$at/$dir/pg" PGHOST="$at/$dir/pg/data" PGUSER=tester)
    step initdb "${as[@]}" "$bin/initdb" -U tester -A trust -D pg/data || return
    step 'postgres starts' "${as[@]}" "$bin/pg_ctl" -w -t 300 -D pg/data -l pg/log -o "-c listen_addresses= -k $at/$dir/pg/data" start || return
    step pgbench-init "${as[@]}" "$bin/pgbench" -i -s 5 -q postgres
    step pgbench "${as[@]}" "$bin/pgbench" -c 4 -T "$seconds" postgres
    local sums='select (select sum(abalance) from pgbench_accounts) - (select sum(delta) from pgbench_history), (select sum(bbalance) from pgbench_branches) - (select sum(tbalance) from pgbench_tellers)'
    equal 'sums' "$("${as[@]}" "$bin/psql" -At -c "$sums" postgres)" '0|0'
    step 'postgres ends at once' "${as[@]}" "$bin/pg_ctl" -w -D pg/data -m immediate stop
    step 'postgres comes back' "${as[@]}" "$bin/pg_ctl" -w -t 300 -D pg/data -l pg/log -o "-c listen_addresses= -k $at/$dir/pg/data" start || return
    equal 'sums after that' "$("${as[@]}" "$bin/psql" -At -c "$sums" postgres)" '0|0'
    step 'no invalid page' bash -c "! grep -E 'PANIC|invalid page|could not (read|write|fsync)' pg/log"
    step 'postgres ends' "${as[@]}" "$bin/pg_ctl" -w -t 300 -D pg/data -m fast stop
}

# all NAME: every program, in a directory of that name.
all() {
    local use
    dir=$1
    for use in git "sqlite $transactions" "compiler $target" rsync tar dpkg ${soak:+"postgres 60"}; do
        [ "${use%% *}" = "${ONLY:-${use%% *}}" ] || continue
        mkdir -p "$at/$dir/${use%% *}" && cd "$at/$dir/${use%% *}" || { bad "no directory for $use$when"; return; }
        dir=$1/${use%% *}
        # shellcheck disable=SC2086 # its arguments
        use_$use
        cd / && dir=$1
    done
    timeout $limit rm -rf "${at:?}/$dir" || bad "rm -r$when"
}

# Any server, at any moment: its node's master starts a worker anew, `up` the others.
strike() {
    local victims victim n=0
    cd /
    trap - EXIT
    while [ ! -e "$work/peace" ]; do
        sleep "$((RANDOM % 2 + 1)).$((RANDOM % 10))"
        victims=("$cluster"/run/*.pid)
        victim=${victims[RANDOM % ${#victims[@]}]}
        kill -9 "$(cat "$victim")" 2>/dev/null
        n=$((n + 1))
        echo "$(date +%T.%N) $n ${victim##*/}" >>"$work/strikes"
        "$opendfs" up -q --wait 0 "$cluster" >>"$work/up.log" 2>&1
    done
}

# Without SOAK: one commit, and a few hundred files of it.
small=(--depth 1 --sparse)
transactions=30
target=src/base_text_test
rounds=1
if [ -n "$soak" ]; then
    small=()
    transactions=500
    target=all
    rounds=${ROUNDS:-5}
fi
start_cluster --copies 2 --targets 3 || { bad 'up'; finish; }
check 'mount' "$opendfs" mount "$cluster:/" "$at" -o "log=$work/log" || finish
server=$("$opendfs" mount --status "$at" --json | sed 's/.*"process":"\([0-9]*\)".*/\1/')
when=
all peace
echo "SEED=$seed"
strike &
striker=$!
for round in $(seq $rounds); do
    when=', under kills'
    all "kills.$round"
done
strike_end
kills=$(tail -n 1 "$work/strikes" | cut -d' ' -f2)
echo "$kills kills"
[ "$kills" -gt 3 ] || bad "only $kills kills"
when=
check 'healthy again' bash -c "\"$opendfs\" up -q \"$cluster\" && timeout 60 \"$opendfs\" status --check"
check 'the namespace is sound' "$opendfs" fsck --namespace
check 'unmount' umount "$at"
finish
