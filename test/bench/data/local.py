"""Clusters, processes, the page cache and memory groups of this machine, for run.py."""
import ctypes
import glob
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import time

MIB = 1 << 20
PR_SET_PDEATHSIG = 1


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


class Processes:
    """All that was started here, ended by process id whatever happens."""

    def __init__(self):
        self.running = []

    def start(self, command, first=None, dies_by=signal.SIGKILL, **more):
        """`first` is called before its program. Should this process be killed, it gets the signal `dies_by`."""
        libc = ctypes.CDLL(None)

        def before():
            libc.prctl(PR_SET_PDEATHSIG, int(dies_by))
            if first is not None:
                first()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=before, **more)
        self.running.append(process)
        return process

    def stop(self, process):
        """Asks it to end, and does not wait for ever."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        out = process.communicate()[0]
        if process in self.running:
            self.running.remove(process)
        return out

    def run(self, command, seconds, quiet=False, **more):
        """Its standard output, or what it prints is thrown away; an exception when it fails or takes too long."""
        process = self.start(command, stdout=subprocess.DEVNULL if quiet else subprocess.PIPE, **more)
        try:
            out = (process.communicate(timeout=seconds)[0] or b"").decode()
        finally:
            self.stop(process)
        if process.returncode != 0:
            raise RuntimeError("%s ended with %d" % (" ".join(command[:2]), process.returncode))
        return out

    def close(self):
        for process in list(self.running):
            self.stop(process)


class Cluster:
    """A local cluster in a directory of its own: one data directory per node, so that each counts as a host."""

    def __init__(self, processes, opendfs, directory, copies, values, lease):
        """`values` of each target; `lease` of the cluster, empty: as it is made."""
        self.processes, self.opendfs, self.directory = processes, opendfs, directory
        self.command("init", "-q", directory, "--copies", str(copies), "--targets", str(copies), "--port", "0")
        path = os.path.join(directory, "cluster.ini")
        lines = "".join("\n%s = %s" % v for v in values.items())
        text = re.sub(r"^(\[target\.\d+\])$", lambda m: m.group(1) + lines, read(path), flags=re.M)
        if lease:
            text = re.sub(r"^(copies = .*)$", lambda m: m.group(1) + "\nlease = " + lease, text, count=1, flags=re.M)
        with open(path, "w") as f:
            f.write(text)
        try:
            self.command("up", "-q", directory)
        except (RuntimeError, subprocess.TimeoutExpired):
            self.close()  # some of its servers may run
            raise

    def command(self, *args, seconds=120):
        return self.processes.run([self.opendfs] + list(args), seconds)

    def status(self):
        return json.loads(self.command("-C", self.directory, "status", "--json"))

    def pids(self, prefix):
        """Process ids of the servers whose names begin so."""
        found = sorted(glob.glob(os.path.join(self.directory, "run", prefix + "*.pid")))
        return [int(read(p)) for p in found if read(p).strip().isdigit()]

    def workers(self):
        return ",".join(str(p) for p in self.pids("target."))

    def alive(self):
        """Those of its processes that live; nobody else's, should a number have been used again."""
        return [p for p in self.pids("") if self.directory in read("/proc/%d/cmdline" % p)]

    def remove(self, path):
        """A file, until no data node has anything of it."""
        self.command("-C", self.directory, "rm", path)
        wait_for("%s is gone" % path, 60, lambda: self.status()["garbage"] == 0)

    def close(self):
        for pid in self.alive():
            os.kill(pid, signal.SIGCONT)
        try:
            self.command("down", "-q", self.directory, seconds=60)
        except (RuntimeError, subprocess.TimeoutExpired):
            pass  # what is left is killed
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def wait_for(what, seconds, ready):
    """Asks until it is so."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError("not within %d s: %s" % (seconds, what))
        time.sleep(0.1)


def children(pid):
    """Process ids of those that it has started."""
    stats = [read(p).rsplit(")", 1) for p in glob.glob("/proc/[0-9]*/stat")]
    return [int(s[0].split()[0]) for s in stats if len(s) == 2 and s[1].split()[1] == str(pid)]


def wakeups(pid):
    """Voluntary context switches of all its threads so far."""
    texts = [read(p) for p in glob.glob("/proc/%d/task/*/status" % pid)]
    return sum(int(n) for t in texts for n in re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", t, re.M))


def free_bytes(directory):
    s = os.statvfs(directory)
    return s.f_bavail * s.f_frsize


# --- The page cache -----------------------------------------------------------------------------------------------


def cache_drop(*directories):
    """Nothing of what is below these directories stays in the page cache; of anybody, where that is allowed."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return
    except OSError:
        pass
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                try:
                    fd = os.open(os.path.join(folder, name), os.O_RDONLY)
                except OSError:
                    continue  # it has gone meanwhile, or is no file
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def cache_share(path):
    """The share of a file's pages that are in the page cache (mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    size = os.path.getsize(path)
    pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    fd = os.open(path, os.O_RDONLY)
    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    seen = (ctypes.c_ubyte * pages)()
    rc = libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(size), seen)
    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
    if rc != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(b & 1 for b in seen) / pages
