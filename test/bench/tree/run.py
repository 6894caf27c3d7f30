#!/usr/bin/env python3
"""usage: run.py PROGRAM DIRECTORY [ROUNDS] [name=value ...]
Runs the phases of bench_tree for all engines it was built with, by turns, each process inside a memory control group of
512 MiB (page cache included), and prints a table on standard error and a line of JSON per figure on standard output.

records=20000000 gets=1000000 files=5000000 (soak=1: 50000000) interval=60 limit_mib=512 cache_mib=256
ours_mib=440      what our engine may split as it likes
engines=ours,rocksdb   phases=load,hit,settled,miss,scan,upsert,rmw,files,stall   only these; settled:
                  hit once more, when what the load has left to be done in the background is done
seconds=540       at most for a phase of records; lmdb and wiredtiger, whose loads of random records fall to nothing, have
                  cap_lmdb=120 and cap_wiredtiger=180. What was not loaded by then is missing: "capped" in the table
file_seconds=120  at most for each mix of files; stall_seconds=180 for stall, with rate=20000 creates per second
total=0           seconds for everything: what has not begun by then is left out, and said to be; 0: no bound
raw=FILE          each line of a phase is appended to FILE. With resume=1 what FILE has is not run again: phases of
                  records that are missing need the load of their engine, which is then made again. report=1: only the table

A target that is a ratio to "the best" means the best of the others, by what each did until its cap. What is done on what
was loaded is compared with those that have loaded all; with the best of the rest only where there are none ("capped")."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # nothing is left beside the sources
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
from memgroup import MemoryGroup  # noqa: E402

MIB = 1 << 20
OURS = "ours"
SAME = {"settled": "hit"}  # phases that are another one once more
MIXES = ("create", "stat", "readdir", "rename", "unlink", "rmdir_range", "aging", "aged_scan", "aged_stat")
DEFAULTS = {"records": 20000000, "gets": 1000000, "files": 0, "soak": 0, "seconds": 540, "interval": 60, "limit_mib": 512,
            "cache_mib": 256, "ours_mib": 440, "engines": "", "phases": "load,hit,settled,miss,scan,upsert,rmw,files,stall",
            "cap_lmdb": 120, "cap_wiredtiger": 180, "cap_ours": 0, "cap_rocksdb": 0, "file_seconds": 120,
            "stall_seconds": 180, "rate": 20000, "total": 0, "raw": "", "resume": 0, "report": 0}


class Table:
    """All lines of phases: of this run, and with `resume` of the runs before."""

    def __init__(self, options):
        self.rows = {}
        self.raw = options["raw"]
        if self.raw and (options["resume"] or options["report"]) and os.path.exists(self.raw):
            with open(self.raw) as f:
                for text in f:
                    line = json.loads(text)
                    self.rows.setdefault((line["engine"], line["phase"]), []).append(line)

    def add(self, line):
        self.rows.setdefault((line["engine"], line["phase"]), []).append(line)
        if self.raw:
            with open(self.raw, "a") as f:
                f.write(json.dumps(line) + "\n")

    def count(self, engine, phase):
        return len(self.rows.get((engine, phase), []))

    def median(self, engine, phase, field):
        lines = [line for line in self.rows.get((engine, phase), []) if field in line]
        return statistics.median(line[field] for line in lines) if lines else None

    def best(self, phase, field):
        """Of the others: (value, engine); (None, None) when there are none."""
        others = [e for (e, p) in self.rows if p == phase and e != OURS]
        if phase not in ("load", "create"):
            others = [e for e in others if not self.capped(e, phase)] or others
        return max([(self.median(e, phase, field), e) for e in others], default=(None, None))

    def size(self, phase):
        """Of what ours did, for people."""
        lines = self.rows.get((OURS, phase), [])
        kind = "files" if phase in MIXES or phase == "stall" else "records"
        return "%s %s" % (format(max(line["of"] for line in lines), ","), kind) if lines else ""

    def capped(self, engine, phase):
        """What it worked on was less than it should have been."""
        base = "create" if phase in MIXES else "load"
        return any(line.get("capped") for line in self.rows.get((engine, base), []))


def parameters(options, engine, phase):
    """What bench_tree is told."""
    values = {"records": options["records"], "gets": options["gets"], "seconds": options["seconds"],
              "interval": options["interval"], "cache_mib": options["ours_mib" if engine == OURS else "cache_mib"]}
    if phase in ("files", "stall"):
        values.update(records=options["files"], dirs=options["files"] // 100 + 1, seconds=options["file_seconds"])
    if phase == "stall":
        values.update(seconds=options["stall_seconds"], rate=options["rate"])
    cap = options.get("cap_" + engine, 0)
    if cap > 0 and phase in ("load", "upsert", "rmw", "files"):
        values["seconds"] = min(values["seconds"], cap)
    return values


def capped(options, phase, line):
    wanted = {"load": options["records"], "create": options["files"]}.get(phase, 0)
    return line["ops"] < wanted


def run(options, limit, table, engine, phase):
    directory = os.path.join(options["work"], phase if phase in ("files", "stall") else "records") + "." + engine
    if phase in ("load", "files", "stall"):
        shutil.rmtree(directory, ignore_errors=True)
    values = parameters(options, engine, phase)
    command = [options["program"], engine, SAME.get(phase, phase), directory] + ["%s=%s" % v for v in values.items()]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=limit.enter)
    for text in done.stdout:  # as they come: what was measured before a death counts
        line = json.loads(text.decode())
        line["phase"] = phase if phase in SAME else line["phase"]
        line["peak_mib"] = limit.peak() // MIB
        line["cpu_us"] = (line["user_s"] + line["sys_s"]) * 1e6 / max(line["ops"], 1)
        line["capped"] = capped(options, line["phase"], line)
        line["of"] = values["records"]
        line["seconds_at_most"] = values["seconds"]
        table.add(line)
        print("  " + json.dumps(line), file=sys.stderr)
    if done.wait() != 0:
        print("  %s %s: ended with %d (-9: no memory)" % (engine, phase, done.returncode), file=sys.stderr)
    if phase in ("files", "stall"):
        shutil.rmtree(directory, ignore_errors=True)
    return done.returncode == 0


def plan(options, engines, table, rounds):
    """(engine, phase) in order. Phases of records need the load of their engine, in this round."""
    steps = []
    for n in range(rounds):
        missing = {}
        for engine in engines:
            mine = [p for p in options["phases"].split(",") if p != "stall" or engine == OURS]
            names = {"files": MIXES[-1]}  # the last of its lines
            missing[engine] = [p for p in mine if table.count(engine, names.get(p, p)) <= n]
            if any(p not in ("files", "stall") for p in missing[engine]) and "load" in mine and \
                    "load" not in missing[engine]:
                missing[engine].insert(0, "load")
        for phase in options["phases"].split(","):
            steps += [(engine, phase) for engine in engines if phase in missing[engine]]
    return steps


def say(name, value, unit, peer, ratio, target, at_most=False, note="", size=""):
    if value is None:
        print("%-18s %14s" % (name, "-"), file=sys.stderr)
        return
    wanted = "" if target is None else "target %s %.2f" % ("at most" if at_most else "at least", target)
    met = ""
    if target is not None and ratio is not None:
        met = "met" if (ratio <= target if at_most else ratio >= target) else "MISSED"
    print("%-18s %14.2f %-10s peer %14.2f  ratio %6.2f  %s %s %s" %
          (name, value, unit, peer or 0, ratio or 0, wanted, met, note), file=sys.stderr)
    print(json.dumps({"bench": "tree", "name": name, "value": value, "unit": unit, "peer_value": peer, "ratio": ratio,
                      "target": target, "at_most": at_most, "note": note.strip(), "size": size}))


def against(table, name, phase, target, peer=None, peer_phase=None):
    field = "per_second"
    ours = table.median(OURS, phase, field)
    other, engine = (table.median(peer, peer_phase or phase, field), peer) if peer else table.best(peer_phase or phase, field)
    note = ""
    if other:
        note = "(%s%s)" % (engine, ", capped" if table.capped(engine, peer_phase or phase) else "")
    if table.capped(OURS, phase):
        note += " (ours: capped)"
    say(name, ours, "1/s", other, ours / other if ours and other else None, target, note=note,
        size=table.size(phase))


def bounded(table, name, phase, field, scale, unit, limit):
    value = table.median(OURS, phase, field)
    value = value / scale if value is not None else None
    say(name, value, unit, limit, value / limit if value is not None else None, 1, True, "(a limit)",
        table.size(phase))


def processor(table, name, phase, peer):
    ours, other = (table.median(e, phase, "cpu_us") for e in (OURS, peer))
    say(name, ours, "us", other, ours / other if ours and other else None, 1, True,
        "(%s)" % peer if other else "", table.size(phase))


def report(table):
    against(table, "tree.load", "load", 1.3)
    bounded(table, "tree.load_wa", "load", "amplification", 1, "bytes/byte", 4.5)
    bounded(table, "tree.load_p999_ms", "load", "p999_us", 1000, "ms", 50)
    against(table, "tree.get_hit", "hit", 1.1, "rocksdb")
    processor(table, "tree.get_hit_cpu", "hit", "rocksdb")
    against(table, "tree.get_settled", "settled", 1.1, "rocksdb")
    processor(table, "tree.get_settled_cpu", "settled", "rocksdb")
    against(table, "tree.get_miss", "miss", 1.0, "rocksdb")
    against(table, "tree.scan", "scan", 1.0, "rocksdb")
    against(table, "tree.upsert", "upsert", 1.3, "rocksdb")
    against(table, "tree.upsert_rmw", "upsert", 5, peer_phase="rmw")
    for phase in MIXES:
        against(table, "tree." + phase, phase, None if phase.startswith("aged_") else 1.0)
    bounded(table, "tree.stall_ms", "stall", "longest_ms", 1, "ms", 20)
    bounded(table, "tree.rss_mib", "load", "rss_mib", 1, "MiB", 500)


def parse(argv):
    options = dict(DEFAULTS)
    names = [a for a in argv if "=" not in a]
    for arg in argv:
        if "=" in arg:
            key, value = arg.split("=", 1)
            if key not in options:
                sys.exit("no option '%s'\n\n%s" % (key, __doc__))
            options[key] = value if isinstance(DEFAULTS[key], str) else int(value)
    if len(names) < 2:
        sys.exit(__doc__)
    options["program"], options["work"] = os.path.realpath(names[0]), os.path.realpath(names[1])
    options["files"] = options["files"] or (50000000 if options["soak"] else 5000000)
    if options["soak"] and "file_seconds=" not in " ".join(argv):
        options["file_seconds"] = 1800
    return options, int(names[2]) if len(names) > 2 else 1


def run_all(options, engines, table, rounds):
    limit, begun = MemoryGroup(options["limit_mib"] * MIB), time.monotonic()
    if limit.path is None:
        print("  memory is not limited: %s" % limit.why, file=sys.stderr)
    failed = set()
    try:
        for engine, phase in plan(options, engines, table, rounds):
            if options["total"] and time.monotonic() - begun > options["total"]:
                print("  %s %s: left out, the time is over" % (engine, phase), file=sys.stderr)
            elif engine in failed and phase not in ("load", "files", "stall"):
                print("  %s %s: left out, its load has failed" % (engine, phase), file=sys.stderr)
            elif not run(options, limit, table, engine, phase) and phase == "load":
                failed.add(engine)
            elif phase == "load":
                failed.discard(engine)
    finally:
        limit.close()
        for name in os.listdir(options["work"]):
            if name.startswith("records."):
                path = os.path.join(options["work"], name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def main(argv):
    options, rounds = parse(argv)
    table = Table(options)
    if not options["report"]:
        built = subprocess.run([options["program"], "--engines"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
        engines = options["engines"].split(",") if options["engines"] else built
        os.makedirs(options["work"], exist_ok=True)
        print("  one memory group of %d MiB each; cache %d MiB, ours %d; checkpoint each %d s; at most %s s per phase%s" %
              (options["limit_mib"], options["cache_mib"], options["ours_mib"], options["interval"], options["seconds"],
               "".join(", %s %d s" % (e, options["cap_" + e]) for e in engines if options.get("cap_" + e))), file=sys.stderr)
        run_all(options, engines, table, rounds)
    report(table)


if __name__ == "__main__":
    main(sys.argv[1:])
