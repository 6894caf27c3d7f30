#!/bin/bash
# usage: bench.sh NAME BUILDDIR    Table on standard error, one JSON line per figure on standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
script=test/bench/$1.sh
[ -f "$script" ] || {
    printf 'bench: no benchmark "%s"; there are: %s\n' "$1" "$(cd test/bench && ls *.sh | sed 's/\.sh$//' | xargs)" >&2
    exit 2
}
exec bash "$script" "$2"
