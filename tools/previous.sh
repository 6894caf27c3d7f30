#!/bin/bash
# usage: previous.sh   Upgrades from an earlier version of OpenDFS, whose program is made from this repository: that of
# the commit or tag in test/data/previous_version, in build/previous/COMMIT; then test/cluster/upgrade_test.sh begins with
# it. Without that commit (a shallow clone, an unpacked archive) it is skipped, with why. PROGRAM: the new one.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${PROGRAM:-build/release/prog/opendfs}
skip() {
    echo "skipped: $*"
    echo '0 passed, 0 failed, 1 skipped'
    exit 0
}
name=$(grep -v '^#' test/data/previous_version)
[ -n "$name" ] || { echo "test/data/previous_version names no commit"; exit 1; }
git rev-parse --git-dir >/dev/null 2>&1 || skip "this is no git repository, so there is no $name"
if ! commit=$(git rev-parse --verify --quiet "$name^{commit}"); then
    if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        skip "this clone is shallow and ends before $name"
    fi
    echo "test/data/previous_version names $name, which this repository does not have"
    exit 1
fi
dir=build/previous/$commit
if [ ! -x "$dir/build/release/prog/opendfs" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    git archive "$commit" | tar -x -C "$dir"
    echo "building $name ($commit)"
    log=$dir/build.log
    { "$dir/tools/configure.sh" build/release --buildtype=release &&
        ninja -C "$dir/build/release" prog/opendfs; } >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }
fi
OPENDFS_OLD=$PWD/$dir/build/release/prog/opendfs bash test/cluster/upgrade_test.sh "$program"
