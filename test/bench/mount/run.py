#!/usr/bin/env python3
"""usage: run.py BUILDDIR DIRECTORY [name=value ...]
The table of the mount: our cluster and others are started in DIRECTORY and mounted, given the same work by turns, and
ended. Needs root; everything lives in namespaces of its own and ends with them. A table on standard error, a line of JSON
per figure on standard output.

phases=small,create,tree,names,seq,rand,sqlite   only these
engines=ours,moosefs,gluster,moosefs_sync,ext4,bindfs   only these, in this order; those that are not installed are left out, and said to be
rounds=3          a figure is the median of its rounds, a ratio that of two medians; who begins changes with each round
seconds=5         after so many seconds files and random blocks end with what they have
limit=300         a program that is not done after so many seconds is killed, and has failed
total=7200        seconds for everything: what has not begun by then is left out, and said to be; 0: no bound
noise=on          a workload during which others used more than 5 % of the processors is done again, up to twice, and as
                  long as all that was done again took less than `patience`=900 seconds; else the quietest time counts,
                  and the figure is said to be noisy. off: nothing is done again
tree=DIR          the source tree to unpack, copy and clone; else this one
tiny=1            whether it runs at all: sizes that say nothing
raw=FILE          each measurement is appended to FILE"""
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # nothing is left beside the sources
import space  # noqa: E402
from engines import ENGINES, Failed, make  # noqa: E402
from phases import PHASES, make_source  # noqa: E402

DEFAULTS = {"phases": ",".join(PHASES), "engines": ",".join(ENGINES), "rounds": 3, "seconds": 5, "limit": 300, "total": 7200,
            "noise": "on", "patience": 900, "tree": "", "tiny": 0, "raw": ""}
# As measured, and with tiny=1.
SIZES = {"small": (10000, 64), "create": (20000, 64), "names": (20000, 100), "seq": (512, 16), "rand": (20000, 64),
         "sqlite": (500, 10)}
PEERS = ("moosefs", "gluster")  # ratios are to the better of them
OTHERS = 0.05
TRIES = 3
SETTLE = 5  # seconds at most
WARM = 3 << 30  # bytes


def rate(line):
    return line["ops"] / line["seconds"]


def megabytes(line):
    return line["bytes"] / line["seconds"] / 1e6


def cost(line):
    return (line["client_cpu"] + line["server_cpu"]) / line["ops"] * 1e6


def cost_gb(line):
    return (line["client_cpu"] + line["server_cpu"]) / line["bytes"] * 1e9


# (row, what it is computed from, how, unit, the ratio that is wanted); of CPU less is better.
ROWS = (("small4k_1", rate, "1/s", 5), ("small4k_8", rate, "1/s", 8), ("small16k_1", rate, "1/s", None),
        ("small16k_8", rate, "1/s", None), ("small64k_1", rate, "1/s", None), ("small64k_8", rate, "1/s", None),
        ("untar", rate, "files/s", 4), ("cp", rate, "files/s", 4), ("clone", rate, "files/s", 4),
        ("rm", rate, "files/s", None), ("create_1", rate, "1/s", 0.6), ("create_8", rate, "1/s", 1.3),
        ("create_16", rate, "1/s", 1.3), ("stat_cold", rate, "1/s", 1.5), ("lsl", rate, "files/s", 1.2),
        ("open_read_4k", rate, "1/s", 4), ("write_1", megabytes, "MB/s", 2), ("write_8", megabytes, "MB/s", 2),
        ("read_1", megabytes, "MB/s", 1.5), ("read_8", megabytes, "MB/s", 1.5), ("randread", rate, "1/s", 2),
        ("randread_8", rate, "1/s", None), ("randwrite", rate, "1/s", 1.3), ("randwrite_8", rate, "1/s", None),
        ("sqlite", rate, "1/s", 1.3))
COSTS = (("cpu_small4k", "small4k_1", cost, "us", 0.5), ("cpu_small4k_8", "small4k_8", cost, "us", None),
         ("cpu_create", "create_1", cost, "us", None), ("cpu_open_read_4k", "open_read_4k", cost, "us", None),
         ("cpu_write", "write_1", cost_gb, "s/GB", 0.5), ("cpu_write_8", "write_8", cost_gb, "s/GB", None),
         ("cpu_read", "read_1", cost_gb, "s/GB", None))


class Run:
    def __init__(self, options):
        self.o, self.round, self.filled, self.lines, self.began = options, 0, set(), [], time.monotonic()
        self.log, self.spent, self.failures = os.path.join(options["work"], "said"), 0, 0
        self.source = make_source(options["work"], options["tree"], self.log) if "tree" in options["phases"] else None

    def size(self, name):
        return SIZES[name][1 if self.o["tiny"] else 0]

    def bench(self, command, directory, **args):
        args.setdefault("seconds", self.o["seconds"])
        return [os.path.join(self.o["build"], "test", "bench_mount"), command, directory] + \
            ["%s=%d" % v for v in args.items()]

    def do(self, engine, command, seconds=120):
        """One program that works on a mount. Whoever waits for a mount that does not answer can only be ended by ending
        the mount's client."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            engine.kill_client()
            process.communicate()
            engine.connect()
            raise Failed("%s: not done within %d s; the client was killed" % (" ".join(command[:2]), seconds)) from None
        if process.returncode != 0:
            raise Failed("%s ended with %d: %s" % (" ".join(command[:2]), process.returncode,
                                                   (err or out).decode(errors="replace")[-200:].strip()))
        return out

    def settle(self):
        """What was done before is done: no process works any more, in the background or on the disk."""
        subprocess.run(["sync", "-f", self.o["work"]], timeout=300, check=True)
        end = time.monotonic() + SETTLE
        while time.monotonic() < end:
            used = space.Processors(self.o["work"])
            time.sleep(0.3)
            if used.since()["mine"] < 0.05:
                break

    def warm(self):
        """A host takes back what its virtual machine does not use, and gives it page by page: who is first to need memory
        would pay for all. A process that ends leaves behind what it had touched."""
        size = min(WARM, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
        touch = "import mmap; mmap.mmap(-1, %d, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)" % size
        subprocess.run([sys.executable, "-c", touch], timeout=120, check=True)

    def once(self, engine, command, cold, ops):
        words = command()
        if cold:
            engine.cold()
        self.settle()
        self.warm()
        client, servers = engine.processes()
        used, own = space.Processors(self.o["work"]), resource.getrusage(resource.RUSAGE_CHILDREN)
        before, began = (space.cpu(client), space.cpu(servers)), time.monotonic()
        out = self.do(engine, words, self.o["limit"])
        seconds = time.monotonic() - began
        after, now = (space.cpu(client), space.cpu(servers)), resource.getrusage(resource.RUSAGE_CHILDREN)
        line = json.loads(out) if ops is None else {"ops": ops, "bytes": 0, "seconds": seconds}
        line.update({k: round(v, 3) for k, v in used.since().items()})
        line["others_share"] = round(line["others"] / (seconds * os.cpu_count()), 3)
        line["client_cpu"], line["server_cpu"] = (round(b - a, 2) for a, b in zip(before, after))
        line["own_cpu"] = round(now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime, 3)
        if line.get("errors"):
            raise Failed("%d errors: %s" % (line["errors"], line["first_error"]))
        return line

    def measure(self, engine, name, command, ops=None, cold=False, again=True):
        """`command()` makes everything ready and says what is to be run; `ops`: of a program that prints no line;
        `again`: it can be done again."""
        best = None
        for n in range(TRIES if again and self.o["noise"] == "on" else 1):
            if n > 0 and self.spent > self.o["patience"]:
                break
            began = time.monotonic()
            try:
                line = self.once(engine, command, cold, ops)
            except (Failed, OSError, ValueError, KeyError) as e:
                self.fail(engine, name, e)
                return
            self.spent += time.monotonic() - began if n > 0 else 0
            if best is None or line["others_share"] < best["others_share"]:
                best = line
            if best["others_share"] <= OTHERS:
                break
        best.update({"engine": engine.name, "name": name, "round": self.round, "cold": int(cold),
                     "noisy": int(best["others_share"] > OTHERS)})
        self.keep(best)

    def keep(self, line):
        self.lines.append(line)
        print("%5.0f s  %d %-12s %-12s %6d ops %8.1f MB/s %8.0f 1/s  CPU: client %.2f, servers %.2f, own %.2f, others %.0f %%" %
              (time.monotonic() - self.began, line["round"] + 1, line["engine"], line["name"], line["ops"],
               megabytes(line), rate(line), line["client_cpu"], line["server_cpu"], line["own_cpu"],
               line["others_share"] * 100), file=sys.stderr)
        if self.o["raw"]:
            with open(self.o["raw"], "a") as f:
                f.write(json.dumps(line) + "\n")

    def fail(self, engine, name, why):
        self.failures += 1
        print("%-10s %-16s FAILED: %s" % (engine.name, name, why), file=sys.stderr)


def of(lines, engine, name, how):
    """Its values, and whether any of them is noisy. What has no processes has no costs."""
    if how in (cost, cost_gb) and engine == "ext4":
        return [], False
    mine = [x for x in lines if x["engine"] == engine and x["name"] == name and x["ops"] > 0]
    return [how(x) for x in mine], any(x["noisy"] for x in mine)


def figure(lines, row, name, how, unit, target):
    """One row: ours beside the better of the peers, all others for scale."""
    less = how in (cost, cost_gb)
    values, noisy = of(lines, "ours", name, how)
    all_ = {e: statistics.median(of(lines, e, name, how)[0]) for e in ENGINES if of(lines, e, name, how)[0]}
    noisy = noisy or any(of(lines, e, name, how)[1] for e in all_)
    if not all_:
        return
    ours = all_.get("ours")
    peers = sorted(((v, e) for e, v in all_.items() if e in PEERS), reverse=not less)
    ratio = ours / peers[0][0] if ours and peers and peers[0][0] else None
    if target and name.startswith("read_") and peers and all_.get("ext4"):
        target = min(target, 0.8 * all_["ext4"] / peers[0][0])
    met = "" if ratio is None or target is None else "met" if (ratio <= target if less else ratio >= target) else "MISSED"
    print("%-18s %10s %-8s ratio %-6s target %-6s %-6s %s%s" %
          (row, "-" if ours is None else "%.4g" % ours, unit, "-" if ratio is None else "%.2f" % ratio,
           "-" if target is None else "%.2f" % target, met,
           "  ".join("%s %.4g" % (e, v) for e, v in all_.items() if e != "ours"), "  noisy" if noisy else ""), file=sys.stderr)
    if ours is not None:
        print(json.dumps({"bench": "mount", "name": "mount." + row, "value": ours, "unit": unit,
                          "peer_value": peers[0][0] if peers else None, "ratio": ratio, "target": target, "at_most": less,
                          "note": " ".join(([peers[0][1]] if peers else []) + (["noisy"] if noisy else [])),
                          "samples": len(values), "all": all_}), flush=True)


def report(lines):
    for name, how, unit, target in ROWS:
        figure(lines, name, name, how, unit, target)
    for row in COSTS:
        figure(lines, *row)


def parse(argv):
    options, names = dict(DEFAULTS), [a for a in argv if "=" not in a]
    for arg in argv:
        if "=" in arg:
            key, value = arg.split("=", 1)
            if key not in options:
                sys.exit("no option '%s'\n\n%s" % (key, __doc__))
            options[key] = value if isinstance(DEFAULTS[key], str) else int(value)
    if len(names) != 2:
        sys.exit(__doc__)
    for key, known in (("phases", PHASES), ("engines", ENGINES)):
        options[key] = options[key].split(",")
        unknown = [p for p in options[key] if p not in known]
        if unknown:
            sys.exit("%s: no '%s'; there are %s" % (key, unknown[0], ", ".join(known)))
    options["build"], options["work"] = os.path.realpath(names[0]), os.path.realpath(names[1])
    options["tree"] = os.path.realpath(options["tree"] or os.path.join(os.path.dirname(__file__), "../../.."))
    if options["tiny"]:
        options["rounds"], options["seconds"] = 1, 1
    return options


def begin_all(run):
    """The engines that there are."""
    started = []
    for name in run.o["engines"]:
        engine = make(name, run.o)
        why = engine.missing()
        if why is not None:
            print("%-10s skipped: %s" % (name, why), file=sys.stderr)
            continue
        started.append(engine)
        try:
            engine.start()
        except (Failed, OSError) as e:
            run.fail(engine, "start", e)
            started.remove(engine)
            engine.stop()
    return started


def run_all(run, started):
    began = time.monotonic()
    for run.round in range(run.o["rounds"]):
        for phase in run.o["phases"]:
            for i in range(len(started)):
                engine = started[(i + run.round) % len(started)]
                if run.o["total"] and time.monotonic() - began > run.o["total"]:
                    print("%-10s %-16s left out: the time is over" % (engine.name, phase), file=sys.stderr)
                    continue
                try:
                    PHASES[phase](run, engine)
                except (Failed, OSError, subprocess.SubprocessError) as e:
                    run.fail(engine, phase, e)


def main(argv):
    options = parse(argv)
    space.enter(os.path.realpath(__file__), argv)
    os.makedirs(options["work"], exist_ok=True)
    space.settle_in(options["work"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(options)
    run_all(run, begin_all(run))
    report(run.lines)
    print("%d measurements, %d failed" % (len(run.lines), run.failures), file=sys.stderr)
    sys.exit(1 if run.failures else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
