#!/bin/bash
# usage: configure.sh BUILDDIR [meson options]   Sets a build directory up, and again when files came or went.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
shift
mark=$dir/.configured
now=$(find src prog test tools/layers.txt meson.build \( -name '*.[ch]' -o -name meson.build -o -name layers.txt \) | LC_ALL=C sort | sha256sum)
if [ ! -f "$dir/build.ninja" ]; then
    rm -rf "$dir"
    meson setup "$dir" "$@" >/dev/null || {
        meson setup "$dir" "$@" || true
        exit 1
    }
elif [ "$(cat "$mark" 2>/dev/null)" != "$now" ]; then
    meson setup --reconfigure "$dir" >/dev/null
fi
printf '%s\n' "$now" >"$mark"
