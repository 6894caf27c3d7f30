#!/bin/sh
# man_pages.sh OPENDFS DIRECTORY: writes opendfs.1 and a page for each command, made by `opendfs help --man`.
set -eu
opendfs=$1 directory=$2
names=$("$opendfs" help --names)
[ -n "$names" ]
rm -rf "$directory" && mkdir -p "$directory"
"$opendfs" help --man >"$directory/opendfs.1"
for name in $names; do
    "$opendfs" help --man "$name" >"$directory/opendfs-$name.1"
done
