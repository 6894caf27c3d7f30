#!/usr/bin/env python3
"""usage: run.py PROGRAM DIRECTORY [ROUNDS] [name=value ...]
Runs the phases of bench_tree for all engines it was built with, by turns, each process inside a memory control group of
512 MiB (page cache included), and prints a table on standard error and a line of JSON per figure on standard output.
records=20000000 gets=1000000 files=5000000 seconds=540 (at most for a phase) interval=60 limit_mib=512 cache_mib=256
ours_mib=440 (what our engine may split as it likes) engines=ours,rocksdb phases=load,hit,miss,scan,upsert,rmw,files,stall"""
import json
import os
import shutil
import statistics
import subprocess
import sys

MIB = 1 << 20
GROUPS = "/sys/fs/cgroup/memory"


class Limit:
    """A memory control group (version 1) for one process at a time."""

    def __init__(self, limit_bytes):
        self.path = os.path.join(GROUPS, "opendfs-bench-%d" % os.getpid())
        try:
            os.mkdir(self.path)
            for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
                file = os.path.join(self.path, name)
                if os.path.exists(file):
                    with open(file, "w") as f:
                        f.write(str(limit_bytes))
        except OSError as e:
            print("memory is not limited: %s" % e, file=sys.stderr)
            self.path = None

    def enter(self):
        if self.path is not None:
            with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
                f.write(str(os.getpid()))

    def peak(self):
        if self.path is None:
            return 0
        with open(os.path.join(self.path, "memory.max_usage_in_bytes"), "r+") as f:
            value = int(f.read())
            f.write("0")
            return value

    def close(self):
        if self.path is not None:
            os.rmdir(self.path)


def run(options, limit, engine, phase, **more):
    directory = os.path.join(options["work"], phase if phase in ("files", "stall") else "records") + "." + engine
    if phase in ("load", "files", "stall"):
        shutil.rmtree(directory, ignore_errors=True)
    values = {"records": options["records"], "gets": options["gets"], "seconds": options["seconds"],
              "interval": options["interval"], "cache_mib": options["ours_mib" if engine == "ours" else "cache_mib"]}
    values.update(more)
    command = [options["program"], engine, phase, directory] + ["%s=%s" % v for v in values.items()]
    done = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=limit.enter, check=False)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    for line in lines:
        line["peak_mib"] = limit.peak() // MIB
        print("  " + json.dumps(line), file=sys.stderr)
    if done.returncode != 0:
        print("  %s %s: ended with %d (-9: no memory)" % (engine, phase, done.returncode), file=sys.stderr)
    if phase in ("files", "stall"):
        shutil.rmtree(directory, ignore_errors=True)
    return {line["phase"]: line for line in lines}


class Table:
    def __init__(self):
        self.rows = {}

    def add(self, engine, phase, line):
        self.rows.setdefault((engine, phase), []).append(line)

    def median(self, engine, phase, field):
        lines = self.rows.get((engine, phase))
        return statistics.median(line[field] for line in lines) if lines else None

    def best(self, phase, field, but="ours"):
        values = [self.median(e, p, field) for (e, p) in self.rows if p == phase and e != but]
        return max(values) if values else None


def say(name, value, unit, peer, ratio, target, at_most=False):
    if value is None:
        return
    met = "" if ratio is None else ("met" if (ratio <= target if at_most else ratio >= target) else "MISSED")
    print("%-18s %14.2f %-10s peer %14.2f  ratio %6.2f  target %s %.2f %s" %
          (name, value, unit, peer or 0, ratio or 0, "at most" if at_most else "at least", target, met), file=sys.stderr)
    print(json.dumps({"bench": "tree", "name": name, "value": value, "unit": unit, "peer_value": peer, "ratio": ratio,
                      "target": target}))


def against(table, name, phase, target, peer=None, field="per_second"):
    ours = table.median("ours", phase, field)
    other = table.median(peer, phase, field) if peer else table.best(phase, field)
    say(name, ours, "/s", other, ours / other if ours and other else None, target)


def report(table):
    against(table, "tree.load", "load", 1.3)
    value = table.median("ours", "load", "amplification")
    say("tree.load_wa", value, "bytes/byte", 4.5, value, 4.5, True)
    value = table.median("ours", "load", "p999_us")
    say("tree.load_p999_ms", value and value / 1000, "ms", 50, value and value / 1000, 50, True)
    against(table, "tree.get_hit", "hit", 1.1, "rocksdb")
    cpu = [table.median(e, "hit", "cpu_us") for e in ("ours", "rocksdb")]
    say("tree.get_hit_cpu", cpu[0], "us", cpu[1], cpu[0] / cpu[1] if cpu[0] and cpu[1] else None, 1, True)
    against(table, "tree.get_miss", "miss", 1.0, "rocksdb")
    against(table, "tree.scan", "scan", 1.0, "rocksdb")
    against(table, "tree.upsert", "upsert", 1.3, "rocksdb")
    ours, rmw = table.median("ours", "upsert", "per_second"), table.best("rmw", "per_second")
    say("tree.upsert_rmw", ours, "/s", rmw, ours / rmw if ours and rmw else None, 5)
    for phase in ("create", "stat", "readdir", "rename", "unlink", "rmdir_range", "aging"):
        against(table, "tree." + phase, phase, 1.0)
    value = table.median("ours", "stall", "longest_ms")
    say("tree.stall_ms", value, "ms", 20, value, 20, True)


def main(argv):
    options = {"records": 20000000, "gets": 1000000, "files": 5000000, "seconds": 540, "interval": 60, "limit_mib": 512,
               "cache_mib": 256, "ours_mib": 440, "engines": "", "phases": "load,hit,miss,scan,upsert,rmw,files,stall"}
    names = [a for a in argv if "=" not in a]
    for arg in argv:
        if "=" in arg:
            key, value = arg.split("=", 1)
            options[key] = value if key in ("engines", "phases") else int(value)
    if len(names) < 2:
        sys.exit(__doc__)
    options["program"], options["work"] = os.path.realpath(names[0]), os.path.realpath(names[1])
    rounds = int(names[2]) if len(names) > 2 else 1
    built = subprocess.run([options["program"], "--engines"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    engines = options["engines"].split(",") if options["engines"] else built
    os.makedirs(options["work"], exist_ok=True)
    limit, table = Limit(options["limit_mib"] * MIB), Table()
    try:
        for _ in range(rounds):
            for phase in options["phases"].split(","):
                for engine in engines:
                    more = {"records": options["files"], "dirs": options["files"] // 100} if phase in ("files", "stall") else {}
                    if phase == "stall":
                        if engine != "ours":
                            continue
                        more["seconds"] = min(options["seconds"], 180)
                    if phase == "files":
                        more["seconds"] = min(options["seconds"], 120)
                    for name, line in run(options, limit, engine, phase, **more).items():
                        line["cpu_us"] = (line["user_s"] + line["sys_s"]) * 1e6 / max(line["ops"], 1)
                        table.add(engine, name, line)
    finally:
        limit.close()
        for name in os.listdir(options["work"]):
            if name.startswith("records."):
                path = os.path.join(options["work"], name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    report(table)


if __name__ == "__main__":
    main(sys.argv[1:])
