#!/usr/bin/env python3
"""Fail when a library calls a system function that tools/calls.txt does not give to its folder. usage: BUILDDIR"""
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
build = pathlib.Path(sys.argv[1])
extra = {
    # function: folders beyond the rule, and why
    "write": {"base"},          # base_check_failed() says why it aborts
    "clock_gettime": {"base"},  # conditions wait with a deadline of their own clock
    "close": {"testing"}, "mkdir": {"testing"}, "rmdir": {"testing"},
    "mkdtemp": {"testing"}, "read": {"testing"},
    "chmod": {"testing"}, "getrandom": {"testing"},
    "open": {"loop", "testing"}, "open64": {"loop", "testing"},  # log files of children, /proc/sys/kernel/random/boot_id
    "readlink": {"loop"},        # the own executable, for children
    "unlink": {"net", "testing"},  # unix sockets that nobody listens on
    "sigaction": {"net", "testing"},  # SIGPIPE of sendfile
    "getpid": {"testing"}, "time": {"testing"}, "isatty": {"cli"}, "ioctl": {"cli"},
}
allowed = {}
for line in (root / "tools/calls.txt").read_text().splitlines():
    if line.strip() and not line.startswith("#"):
        _, folders, names = (part.split() for part in line.split(":"))
        for name in names:
            allowed.setdefault(name, set()).update(folders)
for name, folders in extra.items():
    allowed.setdefault(name, set()).update(folders)

bad, seen = [], 0
for lib in sorted(build.glob("src/lib*.a")):
    folder = lib.stem[3:]
    out = subprocess.run(["nm", "-A", "-u", lib], capture_output=True, text=True, check=True).stdout
    seen += 1
    for line in out.splitlines():
        name = re.sub(r"^(__)?(.*?)(_chk)?(@.*)?$", r"\2", line.split()[-1])
        if name in allowed and folder not in allowed[name]:
            where = re.sub(r".*:(\S+\.o):.*", r"\1", line)
            bad.append(f"lib{folder}.a ({where}) calls {name}(): only {', '.join(sorted(allowed[name]))} may")
if seen == 0:
    bad.append(f"no libraries in {build}/src: build first")
print("\n".join(sorted(set(bad))))
sys.exit(bool(bad))
