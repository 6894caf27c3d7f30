"""The namespaces that everything of run.py lives in: whatever is mounted or started there ends with them. And what the
processes in them, the kernel and all others use of the processors."""
import ctypes
import glob
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")
MARK = "OPENDFS_BENCH_MOUNT_INSIDE"
HOST_PROC = "proc"  # below the working directory: /proc as the machine has it


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def enter(script, arguments):
    """Does not come back outside of the namespaces: the same program is started in them. Their first process only
    waits for the others, as many servers leave their children to it."""
    if os.environ.get(MARK) == "1":
        return
    if os.geteuid() != 0:
        sys.exit("needs root: namespaces, mounts and the page cache")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, script] + arguments)


def settle_in(work):
    """In the new namespaces: loopback, /proc; the calling process goes on as a child of the one that waits."""
    host = os.path.join(work, HOST_PROC)
    os.makedirs(host, exist_ok=True)
    subprocess.run(["mount", "--bind", "/proc", host], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: os.kill(child, n))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 255)  # and the kernel ends whatever is left


def ticks(text):
    """CPU of a process and the children that it has waited for, by its stat."""
    fields = text.rsplit(")", 1)[1].split()
    return sum(int(f) for f in fields[11:15])


def cpu(pids):
    """CPU seconds so far."""
    return sum(ticks(t) for t in (read("/proc/%d/stat" % p) for p in pids) if t) / TICKS


def command_lines():
    """{process id: (name, command line)} of all in the namespace."""
    found = {}
    for path in glob.glob("/proc/[0-9]*"):
        line = read(path + "/cmdline")
        if line:  # empty: it has ended
            found[int(os.path.basename(path))] = (read(path + "/comm").strip(), line.replace("\0", " "))
    return found


class Processors:
    """Since it was made: what all, the namespace's processes and the kernel's threads have used, in seconds."""

    def __init__(self, work):
        self.host = os.path.join(work, HOST_PROC)
        self.before = self.look()

    def look(self):
        busy = [int(n) for n in read("/proc/stat").split("\n", 1)[0].split()[1:9]]
        mine = sum(ticks(t) for t in map(read, glob.glob("/proc/[0-9]*/stat")) if t)
        kernel = 0
        for path in glob.glob(self.host + "/[0-9]*/stat"):
            text = read(path)
            if text and text.rsplit(")", 1)[1].split()[1] == "2":
                kernel += ticks(text)
        return [(busy[0] + busy[1] + busy[2] + busy[5] + busy[6]) / TICKS, mine / TICKS, kernel / TICKS, busy[7] / TICKS]

    def since(self):
        all_, mine, kernel, stolen = (b - a for a, b in zip(self.before, self.look()))
        return {"mine": mine, "kernel": kernel, "others": max(all_ - mine - kernel, 0), "stolen": stolen}
