#!/usr/bin/env python3
"""usage: run.py BUILDDIR DIRECTORY [ROUNDS] [name=value ...]
The table "Measured" of data nodes: clusters, nginx, fio and MooseFS are started in DIRECTORY, asked by one program
(bench_data) by turns, and ended. A table on standard error, a line of JSON per figure on standard output.

phases=serve,store,cold,cache,write,overwrite,small,resync,idle,start   only these
engines=extent    chunk engines, with commas between: extent,file
ios=threads,uring file engines. Of the first engine and file engine the figures bear the names of the
                  table, of others with .ENGINE.IO behind them
seconds=3         of one round of a rate; ROUNDS: 5
total=3600        seconds for everything: what has not begun by then is left out, and said to be; 0: no bound
soak=1            1,000,000 files of 26 KiB, 10 GB past the page cache
tiny=1            whether it runs at all: sizes that say nothing
raw=FILE          each line of bench_data is appended to FILE

A figure is the median of its rounds, a ratio that of two medians; both sides of a ratio take turns at beginning. What
a row needs and this machine has not (a peer, a right, space) is named, and the row is counted as skipped."""
import json
import os
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # nothing is left beside the sources
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
import local  # noqa: E402
from local import MIB  # noqa: E402
from phases import PHASES  # noqa: E402

DEFAULTS = {"phases": "serve,store,cold,cache,write,overwrite,small,resync,idle,start", "engines": "extent", "ios": "threads,uring",
            "seconds": 3, "total": 3600, "soak": 0, "tiny": 0, "raw": ""}
# MiB, files, seconds: as measured, and with tiny=1.
SIZES = {"served": (256, 8), "chunks": (50000, 500), "synced": (5000, 100), "cold": (2048, 192),
         "kept": (512, 32), "past": (4096, 384), "group": (1024, 128), "written": (1024, 16),
         "overwritten": (256, 8), "overwrites": (50000, 64), "files": (200000, 300), "resync": (1024, 16),
         "read": (1024, 16), "idle": (30, 2), "rest": (10, 1), "start": (5000000, 2000)}

class Table:
    """Figures, and rows that could not be measured."""

    def __init__(self, raw):
        self.raw, self.skipped, self.failed, self.figures = raw, 0, 0, 0

    def line(self, line):
        text = json.dumps(line)
        print("  " + text, file=sys.stderr)
        if self.raw:
            with open(self.raw, "a") as f:
                f.write(text + "\n")

    def skip(self, name, why):
        self.skipped += 1
        print("%-28s skipped: %s" % (name, why), file=sys.stderr)

    def fail(self, name, why):
        self.failed += 1
        print("%-28s FAILED: %s" % (name, why), file=sys.stderr)

    def figure(self, name, values, unit, peer=None, target=None, at_most=False, note="", size=""):
        """`peer`: what the others did in the same rounds, or a limit; `target`: of the ratio, without a peer of the
        value."""
        self.figures += 1
        note = note if peer else "" if target is None else "(a limit)"
        values = sorted(values)
        value = statistics.median(values)
        other = statistics.median(peer) if peer else None
        ratio = value / other if other else None
        judged = ratio if peer else value
        met = "" if target is None or judged is None else "met" if (judged <= target if at_most else judged >= target) \
            else "MISSED"
        wanted = "" if target is None else "target %s %s: %s" % ("at most" if at_most else "at least", target, met)
        print("%-28s %14.4g %-8s q1 %.4g q3 %.4g  %s %s %s" %
              (name, value, unit, values[len(values) // 4], values[3 * len(values) // 4],
               "" if other is None else "peer %.4g ratio %.3f" % (other, ratio or 0), wanted, note), file=sys.stderr)
        if other is None and target is not None:
            other, ratio = target, value / target
        print(json.dumps({"bench": "datanode", "name": name, "value": value, "unit": unit, "peer_value": other,
                          "ratio": ratio, "target": target, "at_most": at_most, "note": note, "size": size,
                          "samples": len(values), "q1": values[len(values) // 4],
                          "q3": values[3 * len(values) // 4]}), flush=True)


class Run:
    """One chunk engine with one file engine."""

    def __init__(self, options, processes, table, engine, io, first):
        self.o, self.processes, self.table, self.engine, self.io = options, processes, table, engine, io
        self.suffix = "" if first else ".%s.%s" % (engine, io)
        self.work, self.build = options["work"], options["build"]
        self.opendfs = os.path.join(self.build, "prog", "opendfs")
        self.began, self.numbers, self.rounds = time.monotonic(), 0, options["rounds"]

    def size(self, name):
        return SIZES[name][1 if self.o["tiny"] else 0]

    def name(self, name):
        return name + self.suffix

    def directory(self, name):
        self.numbers += 1
        path = os.path.join(self.work, "%s.%s.%s.%d" % (name, self.engine, self.io, self.numbers))
        return path

    def cluster(self, copies, lease=""):
        values = {"engine": self.engine, "io": self.io}
        return local.Cluster(self.processes, self.opendfs, self.directory("cluster"), copies, values, lease)

    def command(self, command, **args):
        words = ["%s=%s" % (k, v) for k, v in args.items()]
        return [os.path.join(self.build, "test", "bench_data"), command] + words

    def line(self, text, phase, who):
        line = json.loads(text)
        line.update({"phase": phase + self.suffix, "who": who})
        self.table.line(line)
        return line

    def data(self, phase, who, command, limit=600, **args):
        """One run of bench_data."""
        return self.line(self.processes.run(self.command(command, **args), limit), phase, who)

    def room(self, name, mib):
        """Is there space for it? Says so if not."""
        if local.free_bytes(self.work) > mib * MIB * 1.2 + 2048 * MIB:
            return True
        self.table.skip(self.name(name), "needs %d MiB of free space" % mib)
        return False


def parse(argv):
    options, names = dict(DEFAULTS), [a for a in argv if "=" not in a]
    for arg in argv:
        if "=" in arg:
            key, value = arg.split("=", 1)
            if key not in options:
                sys.exit("no option '%s'\n\n%s" % (key, __doc__))
            options[key] = value if isinstance(DEFAULTS[key], str) else int(value)
    if len(names) < 2:
        sys.exit(__doc__)
    unknown = [p for p in options["phases"].split(",") if p not in PHASES]
    if unknown:
        sys.exit("no phase '%s'; there are %s" % (unknown[0], ", ".join(PHASES)))
    options["build"], options["work"] = os.path.realpath(names[0]), os.path.realpath(names[1])
    options["rounds"] = int(names[2]) if len(names) > 2 else 1 if options["tiny"] else 5
    if options["tiny"]:
        options["seconds"] = 1
    return options


def run_all(options, processes, table):
    began, first = time.monotonic(), True
    for engine in options["engines"].split(","):
        for io in options["ios"].split(","):
            run = Run(options, processes, table, engine, io, first)
            first = False
            print("  chunk engine %s, file engine %s, %d rounds" % (engine, io, run.rounds), file=sys.stderr)
            for phase in options["phases"].split(","):
                if options["total"] and time.monotonic() - began > options["total"]:
                    table.skip(run.name(phase), "the time is over")
                    continue
                try:
                    PHASES[phase](run)
                except (RuntimeError, OSError, subprocess.TimeoutExpired, LookupError, ValueError) as e:
                    table.fail(run.name(phase), "%s: %s" % (type(e).__name__, e))


def main(argv):
    options = parse(argv)
    os.makedirs(options["work"], exist_ok=True)
    processes, table = local.Processes(), Table(options["raw"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run_all(options, processes, table)
    finally:
        processes.close()
    print("%d figures, %d rows skipped, %d phases failed" % (table.figures, table.skipped, table.failed),
          file=sys.stderr)
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
