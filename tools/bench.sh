#!/bin/bash
# usage: bench.sh NAME BUILDDIR    Table on standard error, one JSON line per figure on standard output.
# NAME: a benchmark or a group of them; test/bench/bench.c has the table.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "$2/test/bench" "$1"
