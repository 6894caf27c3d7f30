#!/bin/bash
# usage: tidy.sh changed|all    clang-tidy on the files of the newest commits, or on all.
set -uo pipefail
cd "$(dirname "$0")/.."
tools/configure.sh build/debug -Dfaults=true || exit 1
if [ "${1:-all}" = all ]; then
    mapfile -t files < <(git ls-files 'src/*.c' 'prog/*.c' 'test/*.c')
else
    # What differs from the newest commit that is at least a day older than HEAD, at most 40 files.
    day=$(($(git log -1 --format=%ct) - 86400))
    base=$(git rev-list -1 --before="$day" HEAD)
    [ -n "$base" ] || base=$(git rev-list -1 --skip=5 HEAD)
    mapfile -t files < <(git diff --name-only --diff-filter=d "${base:-HEAD}" HEAD -- 'src/*.c' 'prog/*.c' 'test/*.c' |
        tail -n 40)
fi
[ ${#files[@]} -gt 0 ] || exit 0
# gcc's options that clang does not know must not become errors of clang-tidy.
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" timeout 300 clang-tidy -p build/debug --quiet \
    --extra-arg=-Wno-unknown-warning-option
