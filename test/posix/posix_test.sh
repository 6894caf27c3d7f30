#!/bin/bash
# usage: posix_test.sh POSIX_SUITE [DIR [DIR2]]
# The suite's own check: on ext4 on a loop device where that can be had (root), otherwise on a directory; then once more with
# the same tree as second "mount" (a bind mount, or the very directory). With DIR (and DIR2) it runs there instead.
# Ends with one line "N passed, N failed, N skipped".
set -uo pipefail
suite=$(realpath "$1")
passed=0
failed=0
skipped=0

# run TITLE ARGUMENT...
run() {
    local line rc=0
    echo "== $1"
    shift
    "$suite" "$@" >"$work.out" 2>&1 || rc=$?
    grep -v '^ok ' "$work.out"
    line=$(tail -n 1 "$work.out")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        skipped=$((skipped + BASH_REMATCH[3]))
        [ $rc = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || failed=$((failed + 1))
    else
        echo "FAIL: no summary, exit status $rc"
        failed=$((failed + 1))
    fi
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}

work=$(mktemp -d "${TMPDIR:-$(dirname "$suite")}/posix-test.XXXXXX")
chmod 755 "$work"
mounted=()
clean() {
    local i
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do
        umount "${mounted[i]}" || umount -l "${mounted[i]}"
    done
    rm -rf "$work" "$work.out"
}
trap clean EXIT

if [ $# -ge 3 ]; then
    run "$2 and $3" --second "$3" "$2"
    finish
elif [ $# -ge 2 ]; then
    run "$2" "$2"
    finish
fi

mkdir "$work/one" "$work/two"
kind="a directory of $(stat -f -c %T "$work")"
if [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] && command -v mkfs.ext4 >/dev/null; then
    truncate -s 256M "$work/image"
    if mkfs.ext4 -q -F -b 4096 "$work/image" && mount -o loop "$work/image" "$work/one" 2>"$work/mount.out"; then
        mounted+=("$work/one")
        kind="ext4 on a loop device"
    fi
fi
run "$kind" "$work/one"
if [ "$(id -u)" = 0 ] && mount --bind "$work/one" "$work/two" 2>/dev/null; then
    mounted+=("$work/two")
    run "$kind, through two mounts" --second "$work/two" "$work/one"
else
    run "$kind, as if through two mounts" --second "$work/one" "$work/one"
fi
finish
