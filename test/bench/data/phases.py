"""The phases of run.py: what is started, asked by turns, and put into the table."""
import json
import os
import shutil
import signal
import statistics
import subprocess
import time

import local
import peers
from local import MIB
from memgroup import MemoryGroup

STREAM = 1  # reads that are large, cold and in order say so (PROTO_READ_STREAM)
GB = 1e9
OBJECTS = 1 << 32  # numbers of each set of objects begin at a multiple of it


def turns(rounds, *sides):
    """(round, side): all sides in each round, the next one first each time."""
    for n in range(rounds):
        for i in range(len(sides)):
            yield n, sides[(n + i) % len(sides)]


# --- serve: from the page cache, beside nginx -------------------------------------------------------------------

# name, bytes of an object, connections, requests under way on each of ours (nginx: one; its answer is the whole object)
SERVED = (("cpu_64k", 64 << 10, 8, 1), ("cpu_1m", 1 << 20, 8, 1), ("cpu_64m", 64 << 20, 4, 2),
          ("req_4k", 4 << 10, 64, 1))


def served_objects(run, size):
    return max(2, min(run.size("served") * MIB // size, 8192))


def serve_fill(run, cluster, directory):
    """The same objects on both sides, and all of them looked at once: from then on they are in the page cache."""
    for i, (name, size, _, _) in enumerate(SERVED):
        args = {"objects": served_objects(run, size), "bytes": size, "base": i * OBJECTS}
        run.data("serve." + name, "ours", "store", cluster=cluster.directory, connections=2, depth=2, **args)
        if directory is not None:
            run.data("serve." + name, "nginx", "files", directory=directory, **args)
    os.sync()


def serve_check(run, cluster, nginx):
    for i, (name, size, _, _) in enumerate(SERVED):
        args = {"objects": served_objects(run, size), "bytes": size, "base": i * OBJECTS, "check": 1, "connections": 2}
        run.data("serve." + name, "ours", "fetch", way="chunk", cluster=cluster.directory, **args)
        if nginx is not None:
            run.data("serve." + name, "nginx", "fetch", way="http", port=nginx.port, **args)


def serve_round(run, which, side, cluster, nginx):
    name, size, connections, depth = SERVED[which]
    args = {"objects": served_objects(run, size), "bytes": size, "base": which * OBJECTS, "order": "random",
            "connections": connections, "seconds": run.o["seconds"]}
    if side == "ours":
        return run.data("serve." + name, side, "fetch", way="chunk", cluster=cluster.directory, depth=depth,
                        server=cluster.workers(), **args)
    return run.data("serve." + name, side, "fetch", way="http", port=nginx.port, server=nginx.pids(), **args)


def serve_report(run, which, lines):
    name, size, _, _ = SERVED[which]
    text = "%d KiB" % (size >> 10)
    cost = {s: [x["server_cpu"] / x["bytes"] * GB for x in lines[s]] for s in lines}
    rate = {s: [x["count"] / x["seconds"] for x in lines[s]] for s in lines}
    if name == "req_4k":
        run.table.figure(run.name("serve.req_4k"), rate["ours"], "1/s", rate.get("nginx"),
                         1.0 if "nginx" in rate else None, note="(nginx)", size=text)
        run.table.figure(run.name("serve.req_4k_cpu"), [c * size / GB * 1e6 for c in cost["ours"]], "us",
                         [c * size / GB * 1e6 for c in cost.get("nginx", [])], note="(nginx)", size=text)
        return
    run.table.figure(run.name("serve." + name), cost["ours"], "s/GB", cost.get("nginx"),
                     1.15 if "nginx" in cost else None, True, "(nginx)", text)
    speed = {s: [x["bytes"] / x["seconds"] / 1e6 for x in lines[s]] for s in lines}
    run.table.figure(run.name("serve.rate_" + name[4:]), speed["ours"], "MB/s", speed.get("nginx"), note="(nginx)",
                     size=text)


def phase_serve(run):
    why = peers.missing("nginx")
    directory = None if why else run.directory("nginx")
    cluster, nginx = run.cluster(1), None
    try:
        if directory is not None:
            os.makedirs(directory)
        serve_fill(run, cluster, directory)
        nginx = None if why else peers.Nginx(run.processes, directory)
        serve_check(run, cluster, nginx)
        for which, (name, _, _, _) in enumerate(SERVED):
            lines = {}
            for _, side in turns(run.rounds, *(["ours"] if why else ["ours", "nginx"])):
                lines.setdefault(side, []).append(serve_round(run, which, side, cluster, nginx))
            serve_report(run, which, lines)
            if why:
                run.table.skip(run.name("serve.%s against nginx" % name), why)
    finally:
        if nginx is not None:
            nginx.close()
        cluster.close()


# --- store ------------------------------------------------------------------------------------------------------


def phase_store(run):
    cluster = run.cluster(1)
    try:
        for name, size, sync in (("4k", "chunks", 0), ("4k_sync", "synced", 1)):
            lines = []
            for n in range(run.rounds):
                base = (n + (run.rounds if sync else 0)) * OBJECTS
                lines.append(run.data("store." + name, "ours", "store", cluster=cluster.directory, base=base,
                                      objects=run.size(size), bytes=4096, connections=16, depth=4, sync=sync,
                                      seconds=10 * run.o["seconds"], server=cluster.workers()))
            text = "%d chunks of 4 KiB" % run.size(size)
            run.table.figure(run.name("store." + name), [x["count"] / x["seconds"] for x in lines], "1/s",
                             target=None if sync else 20000, size=text)
            run.table.figure(run.name("store.%s_cpu" % name), [x["server_cpu"] / x["count"] * 1e6 for x in lines], "us",
                             size=text)
    finally:
        cluster.close()


# --- cold and cache: large reads past the page cache --------------------------------------------------------------

COLD_OBJECT, COLD_BLOCK, COLD_DEPTH = 64 << 20, 1 << 20, 4


def cold_objects(run, name):
    return max(1, run.size(name) * MIB // COLD_OBJECT)


def cold_fill(run, cluster, name):
    run.data(name, "ours", "store", cluster=cluster.directory, objects=cold_objects(run, "cold"), bytes=COLD_OBJECT,
             depth=2)


def cold_read(run, cluster, name):
    return run.data(name, "ours", "fetch", way="chunk", cluster=cluster.directory, objects=cold_objects(run, "cold"),
                    bytes=COLD_OBJECT, piece=COLD_BLOCK, depth=COLD_DEPTH, order="sequence", stream=STREAM,
                    server=cluster.workers())


def phase_cold(run):
    if not run.room("read.cold", 2 * run.size("cold")):
        return
    why = peers.missing("fio")
    size = cold_objects(run, "cold") * COLD_OBJECT
    cluster, directory, lines = run.cluster(1), run.directory("fio"), {}
    try:
        os.makedirs(directory)
        cold_fill(run, cluster, "read.cold")
        if not why:
            run.data("read.cold", "fio", "files", directory=directory, objects=1, bytes=size)
        for _, side in turns(run.rounds, *(["ours"] if why else ["ours", "fio"])):
            local.cache_drop(cluster.directory, directory)
            if side == "ours":
                line = cold_read(run, cluster, "read.cold")
            else:
                path = os.path.join(directory, "o", "0")
                line = run.line(json.dumps(peers.fio(run.processes, path, size, COLD_BLOCK, COLD_DEPTH, 120)),
                                "read.cold", "fio")
            lines.setdefault(side, []).append(line)
        rate = {s: [x["bytes"] / x["seconds"] / 1e6 for x in lines[s]] for s in lines}
        text = "%d MiB, %d at a time of %d KiB" % (size // MIB, COLD_DEPTH, COLD_BLOCK >> 10)
        run.table.figure(run.name("read.cold"), rate["ours"], "MB/s", rate.get("fio"), 0.9 if not why else None,
                         note="(fio)", size=text)
        run.table.figure(run.name("read.cold_cpu"), [x["server_cpu"] / x["bytes"] * GB for x in lines["ours"]], "s/GB",
                         size=text)
        if why:
            run.table.skip(run.name("read.cold against fio"), why)
    finally:
        cluster.close()


def cache_warm(run, group, path):
    """Another program's file, read once: what a reader that fills the page cache would put out of it."""
    run.processes.run(["cat", path], 120, first=group.enter, quiet=True)


def phase_cache(run):
    if not run.room("read.cache_kept", run.size("cold") + run.size("kept")):
        return
    past = 10240 if run.o["soak"] else run.size("past")
    passes = max(1, past * MIB // (cold_objects(run, "cold") * COLD_OBJECT))
    directory, cluster = run.directory("kept"), run.cluster(1)
    group = MemoryGroup(run.size("group") * MIB)
    shares = []
    try:
        os.makedirs(directory)
        cold_fill(run, cluster, "read.cache_kept")
        run.data("read.cache_kept", "other", "files", directory=directory, objects=1, bytes=run.size("kept") * MIB)
        path = os.path.join(directory, "o", "0")
        for pid in cluster.pids("target."):
            group.enter(pid)
        for _ in range(min(run.rounds, 3)):
            local.cache_drop(cluster.directory, directory)
            cache_warm(run, group, path)
            before = local.cache_share(path)
            for _ in range(passes):
                cold_read(run, cluster, "read.cache_kept")
            after = local.cache_share(path)
            run.table.line({"phase": "read.cache_kept" + run.suffix, "before": before, "after": after})
            shares.append(after / before)
        text = "%d MiB past %d MiB of a file, %s" % (
            passes * cold_objects(run, "cold") * COLD_OBJECT // MIB, run.size("kept"),
            "memory group of %d MiB" % run.size("group") if group.path else "no memory group: no pressure")
        run.table.figure(run.name("read.cache_kept"), shares, "", target=0.95, size=text)
    finally:
        cluster.close()
        group.close()


# --- write: along chains, beside what disk and sockets allow --------------------------------------------------------


def phase_write(run):
    for copies in (2, 3):
        name = "write.%dcopies" % copies
        if not run.room(name, 2 * copies * run.size("written")):
            continue
        cluster, lines = run.cluster(copies), {}
        size = run.size("written") * MIB
        try:
            for n, side in turns(run.rounds, "ours", "model"):
                if side == "model":
                    line = run.data(name, side, "model", directory=run.work, bytes=size, copies=copies)
                else:
                    line = run.data(name, side, "put", cluster=cluster.directory, path="/w%d" % n, bytes=size,
                                    server=cluster.workers())
                    cluster.remove("/w%d" % n)
                lines.setdefault(side, []).append(line)
            rate = [x["bytes"] / x["seconds"] / 1e6 for x in lines["ours"]]
            limits = [x["limit_mb_s"] for x in lines["model"]]
            by = "the disk" if statistics.median(x["disk_limit_mb_s"] for x in lines["model"]) <= \
                statistics.median(x["cpu_limit_mb_s"] for x in lines["model"]) else "processors"
            text = "%d MiB" % run.size("written")
            run.table.figure(run.name(name), rate, "MB/s", limits, 0.8, note="(model, by %s)" % by, size=text)
            cost = [x["server_cpu"] / x["bytes"] * GB for x in lines["ours"]]
            run.table.figure(run.name(name + "_cpu"), cost, "s/GB", size=text)
        finally:
            cluster.close()


# --- overwrite: beside MooseFS ---------------------------------------------------------------------------------------


def overwrite_peer(run, side, args):
    """One round of MooseFS, whose chunk server begins with nothing."""
    directory = run.directory("moosefs")
    command = run.command("overwrite", way="file", path=os.path.join(directory, "mount", "file"), server="mfs", **args)
    try:
        text = peers.moosefs(run.processes, directory, side == "stable", command, 300)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return run.line(text.strip().splitlines()[-1], "overwrite.4k", side)


def overwrite_ours(run, cluster, args):
    return run.data("overwrite.4k", "ours", "overwrite", way="cluster", cluster=cluster.directory, path="/file",
                    server=cluster.workers(), **args)


def overwrite_report(run, lines):
    rate = {s: [x["count"] / x["seconds"] for x in lines[s]] for s in lines}
    cost = {s: [x["server_cpu"] / x["count"] * 1e6 for x in lines[s]] for s in lines}
    text = "%d MiB, sync after each 32" % run.size("overwritten")
    run.table.figure(run.name("overwrite.4k"), rate["ours"], "1/s", rate.get("moosefs"),
                     2.0 if "moosefs" in rate else None, note="(MooseFS, mounted)", size=text)
    run.table.figure(run.name("overwrite.4k_cpu"), cost["ours"], "us", cost.get("moosefs"),
                     note="(MooseFS's chunk server)", size=text)
    if "stable" in rate:
        run.table.figure(run.name("overwrite.4k_stable"), rate["ours"], "1/s", rate["stable"],
                         note="(MooseFS, HDD_FSYNC_BEFORE_CLOSE)", size=text)


def phase_overwrite(run):
    why = peers.missing(*peers.MOOSEFS) or (None if os.geteuid() == 0 else "namespaces and mounts need root")
    args = {"bytes": run.size("overwritten") * MIB, "count": run.size("overwrites"), "each": 32,
            "seconds": 3 * run.o["seconds"]}
    cluster, lines = run.cluster(1), {}
    try:
        for _, side in turns(run.rounds, "ours", "moosefs", "stable"):
            try:
                if side == "ours":
                    lines.setdefault(side, []).append(overwrite_ours(run, cluster, args))
                elif not why:
                    lines.setdefault(side, []).append(overwrite_peer(run, side, args))
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                if side == "ours":
                    raise
                why = "MooseFS does not run here: %s" % e
    finally:
        cluster.close()
    overwrite_report(run, lines)
    if why:
        run.table.skip(run.name("overwrite.4k against MooseFS"), why)


# --- small: many chunks of 26 KiB (test/bench/small.c) ----------------------------------------------------------------

SMALL_TARGETS = {"small.space": (1.1, True), "small.delete": (2000, False)}


def phase_small(run):
    files = 1000000 if run.o["soak"] else run.size("files")
    rounds = 1 if run.o["soak"] else min(run.rounds, 2)
    if not run.room("small.store", files * 26 // 1024 * 2):
        return
    cluster = run.cluster(1)
    try:
        env = dict(os.environ, OPENDFS_CLUSTER=cluster.directory, BENCH_FILES=str(files))
        out = run.processes.run([os.path.join(run.build, "test", "bench"), "small", str(rounds)], 14400, env=env)
        for text in out.splitlines():
            line = run.line(text, "small", "ours")
            target, at_most = SMALL_TARGETS.get(line["name"], (None, False))
            run.table.figure(run.name(line["name"]), [line["value"]], line["unit"], target=target, at_most=at_most,
                             size="%d files of 26 KiB, 1 copy" % files)
    finally:
        cluster.close()


# --- resync ----------------------------------------------------------------------------------------------------------


def resync_lose(run, cluster):
    """The second member misses a file."""
    os.kill(cluster.pids("node.1")[0], signal.SIGSTOP)  # it starts no new worker
    os.kill(cluster.pids("target.1")[0], signal.SIGKILL)
    local.wait_for("a member is away", 30, lambda: cluster.status()["chains"]["full"] == 0)
    run.data("resync", "ours", "put", cluster=cluster.directory, path="/big", bytes=run.size("resync") * MIB)


def whole(cluster):
    chains = cluster.status()["chains"]
    return chains["full"] == chains["total"]


def resync_back(cluster, began):
    """Seconds from the beginning of the first session to the end of the last one. `began` is called in between."""
    os.kill(cluster.pids("node.1")[0], signal.SIGCONT)

    def seen():
        chains = cluster.status()["chains"]
        return chains["syncing"] > 0 or chains["full"] == chains["total"]
    local.wait_for("resync begins", 60, seen)
    start = time.monotonic()
    began()
    local.wait_for("resync ends", 600, lambda: whole(cluster))
    return time.monotonic() - start


def resync_plain(run, directory, size):
    """The same job for plain files: one is read cold, another one written and made stable."""
    source, to = os.path.join(directory, "o", "0"), os.path.join(directory, "copy")
    local.cache_drop(directory)
    began = time.monotonic()
    run.processes.run(["dd", "if=" + source, "of=" + to, "bs=1M", "conv=fsync", "status=none"], 600)
    seconds = time.monotonic() - began
    os.unlink(to)
    run.table.line({"phase": "resync.idle" + run.suffix, "who": "plain", "bytes": size, "seconds": seconds})
    return size / seconds / 1e6


def resync_round(run, cluster, read, reads):
    """(bytes per second, the line of the readers or None)"""
    found = []

    def began():
        if reads:
            found.append(run.processes.start(run.command("read", seconds=0, **read), stdout=subprocess.PIPE))
    resync_lose(run, cluster)
    local.cache_drop(cluster.directory)
    seconds = resync_back(cluster, began)
    run.table.line({"phase": "resync" + run.suffix, "readers": reads, "bytes": run.size("resync") * MIB,
                    "seconds": seconds})
    line = run.line(run.processes.stop(found[0]).decode(), "resync.p99", "resync") if reads else None
    cluster.remove("/big")
    return run.size("resync") * MIB / seconds / 1e6, line


def phase_resync(run):
    if not run.room("resync.idle", 4 * run.size("resync") + 2 * run.size("read")):
        return
    size = run.size("resync") * MIB
    cluster, directory = run.cluster(2, "2s"), run.directory("plain")
    rates, plain, busy, quiet = [], [], [], []
    read = {"cluster": cluster.directory, "path": "/read", "bytes": run.size("read") * MIB, "piece": "64k", "depth": 4}
    try:
        os.makedirs(directory)
        run.data("resync", "plain", "files", directory=directory, objects=1, bytes=size)
        run.data("resync", "ours", "put", cluster=cluster.directory, path="/read", bytes=run.size("read") * MIB)
        for _ in range(min(run.rounds, 3)):
            rates.append(resync_round(run, cluster, read, False)[0])
            plain.append(resync_plain(run, directory, size))
            local.cache_drop(cluster.directory)
            quiet.append(run.data("resync.p99", "quiet", "read", seconds=run.o["seconds"], **read)["p99_us"])
            busy.append(resync_round(run, cluster, read, True)[1]["p99_us"])
        text = "%d MiB" % run.size("resync")
        run.table.figure(run.name("resync.idle"), rates, "MB/s", plain, 0.6, note="(a plain copy)", size=text)
        run.table.figure(run.name("resync.p99"), busy, "us", quiet, 2.0, True, "(quiet)", text)
    finally:
        cluster.close()


# --- idle ----------------------------------------------------------------------------------------------------------


def phase_idle(run):
    cluster, rates = run.cluster(1), []
    try:
        pid = cluster.pids("target.")[0]
        time.sleep(run.size("rest"))
        for _ in range(min(run.rounds, 3)):
            before, began = local.wakeups(pid), time.monotonic()
            time.sleep(run.size("idle"))
            rates.append((local.wakeups(pid) - before) / (time.monotonic() - began))
            run.table.line({"phase": "idle.wakeups" + run.suffix, "per_second": rates[-1]})
        run.table.figure(run.name("idle.wakeups"), rates, "1/s", target=2, at_most=True,
                         size="%d s" % run.size("idle"))
    finally:
        cluster.close()


# --- start: a store of containers with many chunks ------------------------------------------------------------------


def phase_start(run):
    chunks = run.size("start")
    if run.suffix:  # it is the same with whatever serves clients
        return
    if not run.room("start.seconds", chunks // 2000 + 256):
        return
    directory, lines = run.directory("start"), []
    made = run.data("start.make", "ours", "start", limit=1800, directory=directory, objects=chunks)
    for _ in range(min(run.rounds, 5)):
        local.cache_drop(directory)
        lines.append(run.data("start", "ours", "start", directory=directory, objects=chunks))
    text = "%d chunks, engine extent" % chunks
    run.table.figure(run.name("start.make"), [made["made"] / made["seconds"]], "1/s", size=text)
    run.table.figure(run.name("start.seconds"), [x["start_seconds"] for x in lines], "s", target=2, at_most=True,
                     size=text)
    run.table.figure(run.name("start.memory"), [x["start_kib"] / 1024 for x in lines], "MiB", size=text)
    run.table.figure(run.name("start.lookup"), [x["lookups_per_second"] for x in lines], "1/s", size=text)
    shutil.rmtree(directory)


PHASES = {"serve": phase_serve, "store": phase_store, "cold": phase_cold, "cache": phase_cache, "write": phase_write,
          "overwrite": phase_overwrite, "small": phase_small, "resync": phase_resync, "idle": phase_idle,
          "start": phase_start}
