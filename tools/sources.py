#!/usr/bin/env python3
"""List what each folder of src/ holds, for meson.build: one line per folder, fields divided by '|':
folder | folders it may use | sources | unit tests | fuzz targets     (names divided by spaces)

By convention x.c belongs to lib<folder>, x_test.c is a unit test program, x_fuzz.c a fuzz target."""
import pathlib
import sys

root = pathlib.Path(sys.argv[1])
for line in (root / "tools/layers.txt").read_text().splitlines():
    if not line.strip() or line.startswith("#"):
        continue
    folder, deps = (part.strip() for part in line.split(":"))
    files = sorted(f.name for f in (root / "src" / folder).glob("*.c"))
    tests = [f for f in files if f.endswith("_test.c")]
    fuzz = [f for f in files if f.endswith("_fuzz.c")]
    plain = [f for f in files if f not in tests and f not in fuzz]
    if files:
        print("|".join([folder, deps, " ".join(plain), " ".join(tests), " ".join(fuzz)]))
