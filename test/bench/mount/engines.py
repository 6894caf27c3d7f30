"""The file systems of run.py: each is started in a directory of its own and mounted at DIRECTORY/mount."""
import os
import shutil
import signal
import subprocess
import time

import space


class Failed(Exception):
    """Of an engine: it is left out from then on."""


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def run(log, command, seconds=60, quiet=False, **more):
    """What a program says that must not fail. `log`: a file, as what it leaves behind may hold its output open."""
    with open(log, "ab+") as f:
        begin = f.seek(0, os.SEEK_END)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=f, stderr=f, timeout=seconds, **more)
        except subprocess.TimeoutExpired:
            raise Failed("%s: not done within %d s" % (" ".join(command[:3]), seconds)) from None
        f.seek(begin)
        said = f.read().decode(errors="replace").strip()
    if done.returncode != 0 and not quiet:
        raise Failed("%s: %s" % (" ".join(command[:3]), said[-300:] or "status %d" % done.returncode))
    return said


def wait_for(what, seconds, ready):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Failed("not within %d s: %s" % (seconds, what))
        time.sleep(0.05)


def is_mounted(path):
    return any(" %s " % path in line for line in space.read("/proc/self/mountinfo").splitlines())


class Engine:
    """`needs`: programs. `mark`: begins the names of processes that have no directory of ours in their command line."""
    needs, mark = (), None

    def __init__(self, options):
        self.directory = os.path.join(options["work"], self.name)
        self.mount, self.options = os.path.join(self.directory, "mount"), options
        os.makedirs(self.mount, exist_ok=True)

    def missing(self):
        absent = [n for n in self.needs if program(n) is None]
        return "no %s (tools/deps.sh)" % ", ".join(absent) if absent else None

    def processes(self):
        """[client], [servers], by process id."""
        client, servers = [], []
        for pid, (name, line) in space.command_lines().items():
            if self.mark is not None and name.startswith(self.mark) or self.directory + "/" in line + "/":
                if pid != os.getpid() and pid != 1 and not name.startswith(("bench_mount", "python", "unshare")):
                    (client if self.is_client(line) else servers).append(pid)
        return client, servers

    def is_client(self, line):
        return self.mount in line

    def run(self, command, seconds=60, **more):
        return run(os.path.join(self.directory, "said"), command, seconds, **more)

    def connect(self):
        """Mounts it."""

    def unmount(self):
        """Also if its client is gone."""
        for options in ([], [], ["-l"]):
            if is_mounted(self.mount):
                try:
                    self.run(["umount"] + options + [self.mount], 20)
                except Failed:
                    time.sleep(0.5)  # then once more, lazily

    def disconnect(self):
        self.unmount()
        wait_for("the client of %s ends" % self.name, 30, lambda: not self.processes()[0])

    def cold(self):
        self.disconnect()
        self.cache_drop()
        self.connect()

    def cache_drop(self):
        self.run(["sync", "-f", self.options["work"]], 300)
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")

    def kill_client(self):
        """What waits for an answer of it gets an error."""
        for pid in self.processes()[0]:
            os.kill(pid, signal.SIGKILL)
        self.unmount()

    def stop(self):
        """Nothing of it is left."""
        try:
            self.disconnect()
        except Failed:
            pass  # killed below
        end = time.monotonic() + 10
        number = signal.SIGTERM
        while any(self.processes()):
            for pid in sum(self.processes(), []):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass  # it has ended meanwhile
            number = signal.SIGKILL if time.monotonic() > end - 5 else number
            if time.monotonic() > end:
                break  # the namespace ends them
            time.sleep(0.2)


class Ours(Engine):
    """Three targets, two copies, a metadata server, as init makes them. Cold: its servers have started anew, as they have
    caches of their own."""
    name = "ours"

    def __init__(self, options):
        super().__init__(options)
        self.opendfs = os.path.join(options["build"], "prog", "opendfs")
        self.cluster = os.path.join(self.directory, "cluster")

    def start(self):
        self.run([self.opendfs, "init", "-q", self.cluster, "--copies", "2", "--targets", "3", "--port", "0"])
        self.up()
        self.connect()

    def up(self):
        self.run([self.opendfs, "up", "-q", self.cluster], 120)
        wait_for("our cluster is healthy", 60, self.healthy)

    def healthy(self):
        try:
            self.run([self.opendfs, "-C", self.cluster, "status", "--check"], 20)
        except Failed:
            return False
        return True

    def connect(self):
        self.run([self.opendfs, "mount", self.cluster + ":/", self.mount, "-o", "log=" + self.directory + "/log"])

    def cold(self):
        self.disconnect()
        self.run([self.opendfs, "down", "-q", self.cluster], 120)
        self.cache_drop()
        self.up()
        self.connect()


class Ext4(Engine):
    """The file system that all the others store on, if that is ext4."""
    name = "ext4"

    def start(self):
        pass

    def disconnect(self):
        pass


ENGINES = {e.name: e for e in (Ours, Ext4)}


def make(name, options):
    return ENGINES[name](options)
