#!/usr/bin/env python3
"""usage: fuzz_pick.py CONTROL CORPUS   Copies into CORPUS those inputs which reach most that its files do not, one after the
other, until it has 40 files; none above 4 KiB. CONTROL is what libFuzzer writes with -merge_control_file: which input has
which features."""

import hashlib
import os
import sys

FILES_MAX = 40
BYTES_MAX = 4096


def read(control):
    lines = open(control).read().split("\n")
    count = int(lines[0])
    names = lines[2 : 2 + count]
    features = [set() for _ in names]
    for line in lines[2 + count :]:
        word = line.split()
        if len(word) > 2 and word[0] == "FT":
            features[int(word[1])] |= set(map(int, word[2:]))
    return list(zip(names, features))


def main():
    control, corpus = sys.argv[1:]
    inside = os.path.realpath(corpus) + os.sep
    seen, rest, files = set(), [], len(os.listdir(corpus))
    for name, features in read(control):
        if os.path.realpath(name).startswith(inside):
            seen |= features
        elif os.path.getsize(name) <= BYTES_MAX:
            rest.append((name, features))
    while rest and files < FILES_MAX:
        # The small one of two that are as good.
        best = max(rest, key=lambda x: (len(x[1] - seen), -os.path.getsize(x[0]), x[0]))
        if not best[1] - seen:
            break
        rest.remove(best)
        seen |= best[1]
        with open(best[0], "rb") as f:
            data = f.read()
        with open(os.path.join(corpus, hashlib.sha1(data).hexdigest()[:16]), "wb") as f:
            f.write(data)
        files += 1


main()
