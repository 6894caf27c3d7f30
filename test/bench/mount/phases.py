"""The workloads of run.py. A phase is given one file system at a time, in each round."""
import os
import sys

import engines

HERE = os.path.dirname(os.path.realpath(__file__))
KIB = 1 << 10


def fresh(run, engine, name):
    """An empty directory in it."""
    path = os.path.join(engine.mount, "bench", name)
    remove(run, engine, path)
    run.do(engine, ["mkdir", "-p", path])
    return path


def remove(run, engine, path):
    run.do(engine, ["rm", "-rf", path], 300)


def small(run, engine):
    """Small files: created, written and closed, all threads in one directory."""
    for size in (4, 16, 64):
        for threads in (1, 8):
            name = "small%dk_%d" % (size, threads)
            run.measure(engine, name, lambda: run.bench("files", fresh(run, engine, name), threads=threads,
                                                        bytes=size * KIB, files=run.size("small")))
            remove(run, engine, os.path.join(engine.mount, "bench", name))


def create(run, engine):
    """Empty files, each thread in a directory of its own."""
    for threads in (1, 8, 16):
        name = "create_%d" % threads
        run.measure(engine, name, lambda: run.bench("files", fresh(run, engine, name), threads=threads, bytes=0, own=1,
                                                    files=run.size("create") // threads * threads))
        remove(run, engine, os.path.join(engine.mount, "bench", name))


def tree(run, engine):
    """A source tree: unpacked, copied within the file system, cloned by git, removed."""
    files, top = run.source["files"], os.path.join(engine.mount, "bench")
    a, b, c = (os.path.join(top, n) for n in ("untar", "cp", "clone"))
    run.measure(engine, "untar", lambda: ["tar", "-xf", run.source["tar"], "-C", fresh(run, engine, "untar")], ops=files)
    if run.round == 0:
        run.do(engine, ["diff", "-r", "--exclude=.git", run.source["git"], a], 300)

    def copy():
        remove(run, engine, b)
        return ["cp", "-r", a, b]

    def clone():
        remove(run, engine, c)
        return ["git", "clone", "-q", "--no-hardlinks", run.source["git"], c]
    run.measure(engine, "cp", copy, ops=files)
    run.measure(engine, "clone", clone, ops=files)
    if run.round == 0:
        run.do(engine, ["git", "-C", c, "diff", "--quiet", "HEAD"], 300)
    for path in (a, c):
        remove(run, engine, path)
    run.measure(engine, "rm", lambda: ["rm", "-r", b], ops=files, again=False)


def names(run, engine):
    """One directory of many files, caches cold."""
    count, path = run.size("names"), os.path.join(engine.mount, "bench", "names")
    if engine.name not in run.filled:
        run.do(engine, run.bench("files", fresh(run, engine, "names"), files=count, seconds=600), 660)
        run.filled.add(engine.name)
    run.measure(engine, "stat_cold", lambda: run.bench("stat", path, files=count), cold=True)
    run.measure(engine, "lsl", lambda: ["ls", "-l", path], ops=count, cold=True)
    run.measure(engine, "open_read_4k", lambda: run.bench("open_read", path, files=count), cold=True)


def seq(run, engine):
    """Large files in order."""
    for threads in (1, 8):
        mib = run.size("seq") // threads * threads
        name = "large_%d" % threads
        path = os.path.join(engine.mount, "bench", name)
        run.measure(engine, "write_%d" % threads, lambda: run.bench("write", fresh(run, engine, name), threads=threads,
                                                                   mib=mib, seconds=600))
        run.measure(engine, "read_%d" % threads, lambda: run.bench("read", path, threads=threads, mib=mib), cold=True)
        remove(run, engine, path)


def rand(run, engine):
    """4 KiB at random places of one large file."""
    mib, blocks = run.size("seq"), run.size("rand")
    path = fresh(run, engine, "random")
    run.do(engine, run.bench("write", path, mib=mib, seconds=600), 660)
    run.measure(engine, "randread", lambda: run.bench("randread", path, mib=mib, files=blocks), cold=True)
    run.measure(engine, "randread_8", lambda: run.bench("randread", path, mib=mib, files=blocks, threads=8), cold=True)
    run.measure(engine, "randwrite", lambda: run.bench("randwrite", path, mib=mib, files=blocks))
    run.measure(engine, "randwrite_8", lambda: run.bench("randwrite", path, mib=mib, files=blocks, threads=8))
    remove(run, engine, path)


def sqlite(run, engine):
    """Transactions, each durable."""
    run.measure(engine, "sqlite", lambda: [sys.executable, os.path.join(HERE, "transactions.py"),
                                           fresh(run, engine, "sqlite"), str(run.size("sqlite"))])
    remove(run, engine, os.path.join(engine.mount, "bench", "sqlite"))


PHASES = {f.__name__: f for f in (small, create, tree, names, seq, rand, sqlite)}


def make_source(work, top, log):
    """The tree that is unpacked and cloned: {tar, git, files}."""
    tar, plain = os.path.join(work, "source.tar"), os.path.join(work, "source")
    engines.run(log, ["tar", "--exclude=./build", "--exclude=./.git", "-C", top, "-cf", tar, "."])
    os.makedirs(plain, exist_ok=True)
    engines.run(log, ["tar", "-xf", tar, "-C", plain])
    git = ["git", "-C", plain, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "core.autocrlf=false"]
    for words in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "source"], ["repack", "-a", "-d", "-q"]):
        engines.run(log, git + words, 300)
    files = sum(len(names_) for folder, _, names_ in os.walk(plain) if ".git" not in folder.split(os.sep))
    return {"tar": tar, "git": plain, "files": files}
