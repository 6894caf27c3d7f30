#!/usr/bin/env python3
"""Style that neither the compiler nor clang-format checks: lengths, forbidden words, file-scope state, tests."""
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")
layers = [l.split(":")[0] for l in (root / "tools/layers.txt").read_text().splitlines() if l and l[0] != "#"]
# Permitted exceptions: file -> why. The list only shrinks.
state = {
    "src/base/mem.c": "the domain of the running simulated process and the torture counter, per thread",
    "src/base/lock.c": "ranks held by the running thread",
    "src/testing/testing.c": "the list of test cases that constructors fill",
}
words = re.compile(r"\bFIXME\b|\bXXX\b|\bTODO\b(?!\(#\d+\))|not implemented|unimplemented|for now\b|placeholder")
bad = []
for name in files:
    path = root / name
    if not path.is_file() or path.suffix not in (".c", ".h", ".py", ".sh", ".md", ".def"):
        continue
    text = path.read_text(errors="replace")
    lines = text.split("\n")
    if name not in ("tools/check_style.py", "CONTRIBUTING.md") and path.suffix != ".md":
        for n, line in enumerate(lines, 1):
            if words.search(line):
                bad.append(f"{name}:{n}: says '{words.search(line)[0]}'")
    if path.suffix not in (".c", ".h"):
        continue
    limit = 200 if path.suffix == ".h" else 1000
    if len(lines) - 1 > limit:
        bad.append(f"{name}: {len(lines) - 1} lines (limit {limit})")
    for n, line in enumerate(lines, 1):
        if len(line) > 100 and "http" not in line:
            bad.append(f"{name}:{n}: {len(line)} columns (limit 100)")
        if name.startswith("src/") and name not in state and path.suffix == ".c" and not name.endswith("_test.c"):
            if re.match(r"(static )?(_Thread_local |__thread )", line) or (
                re.match(r"static [^()=]*(=[^()]*)?;$", line) and "const" not in line
            ) or re.match(r"static (?!.*\bconst\b)[\w\s\*]+(\[\w*\])* = [^(]*[;{]$", line):
                bad.append(f"{name}:{n}: file-scope state: {line.strip()}")
    if name.endswith("_test.c"):
        for m in re.finditer(r"^TEST(?:_TORTURE)?\((\w+)\)\s*\{(.*?)^\}", text, re.S | re.M):
            if not re.search(r"CHECK|check|verify|expect|must|assert", m[2]):
                bad.append(f"{name}: test {m[1]} asserts nothing")
for folder in layers:
    if any(f.startswith(f"src/{folder}/") and f.endswith(".c") for f in files):
        if f"src/{folder}/README.md" not in files:
            bad.append(f"src/{folder}: no README.md")
print("\n".join(bad))
sys.exit(bool(bad))
