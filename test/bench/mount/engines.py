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


class Bindfs(Engine):
    """A directory of ext4 through a mount that only passes on: what FUSE costs by itself."""
    name, needs = "bindfs", ("bindfs",)

    def start(self):
        os.makedirs(os.path.join(self.directory, "under"), exist_ok=True)
        self.connect()

    def connect(self):
        self.run(["bindfs", os.path.join(self.directory, "under"), self.mount])


def write(directory, name, *lines):
    with open(os.path.join(directory, name), "w") as f:
        f.write("".join(line + "\n" for line in lines))


class MooseFS(Engine):
    """A master and three chunk servers, each on an address of its own, as 127.x is refused; two copies. No nice
    level of -19; everything else is as shipped: a chunk server does not sync what it stores."""
    name, needs = "moosefs", ("mfsmaster", "mfschunkserver", "mfsmount", "mfssetgoal", "mfsfileinfo")
    net, sync = "10.173.1", 0

    def configure(self):
        d = self.directory
        common = ("WORKING_USER = root", "WORKING_GROUP = root", "NICE_LEVEL = %d" % os.nice(0))
        for name in ["master"] + ["chunk%d" % n for n in (1, 2, 3)] + ["data%d" % n for n in (1, 2, 3)]:
            os.makedirs(os.path.join(d, name), 0o700, exist_ok=True)
        with open(os.path.join(d, "master", "metadata.mfs"), "w") as f:
            f.write("MFSM NEW")
        write(d, "exports.cfg", "* / rw,alldirs,maproot=0")
        write(d, "topology.cfg")
        write(d, "master.cfg", *common, "DATA_PATH = %s/master" % d, "EXPORTS_FILENAME = %s/exports.cfg" % d,
              "TOPOLOGY_FILENAME = %s/topology.cfg" % d, *("MATO%s_LISTEN_HOST = %s.10" % (k, self.net) for k in ("ML", "CS", "CL")))
        for n in (1, 2, 3):
            address = "%s.1%d" % (self.net, n)
            write(d, "hdd%d.cfg" % n, "%s/data%d" % (d, n))
            write(d, "chunk%d.cfg" % n, *common, "DATA_PATH = %s/chunk%d" % (d, n), "HDD_CONF_FILENAME = %s/hdd%d.cfg" % (d, n),
                  "MASTER_HOST = %s.10" % self.net, "BIND_HOST = " + address, "CSSERV_LISTEN_HOST = " + address,
                  *(("HDD_FSYNC_BEFORE_CLOSE = 1",) if self.sync else ()))

    def start(self):
        self.configure()
        for n in range(4):
            self.run(["ip", "address", "add", "%s.1%d/32" % (self.net, n), "dev", "lo"])
        self.run([program("mfsmaster"), "-c", self.directory + "/master.cfg", "start"])
        for n in (1, 2, 3):
            self.run([program("mfschunkserver"), "-c", self.directory + "/chunk%d.cfg" % n, "start"])
        wait_for("mfsmount", 30, self.try_connect)
        self.run(["mfssetgoal", "-r", "2", self.mount])
        # Chunk servers have to make themselves known before anything can be stored.
        wait_for("two copies of a first file", 60, self.stores)

    def connect(self):
        self.run(["mfsmount", self.mount, "-H", self.net + ".10", "-o", "mfsnice=%d" % os.nice(0)])

    def try_connect(self):
        try:
            self.connect()
        except Failed:
            return False
        return True

    def stores(self):
        first = self.mount + "/first"
        try:
            self.run(["dd", "if=/dev/zero", "of=" + first, "bs=4096", "count=1", "conv=fsync", "status=none"], 20)
            return "copy 2:" in self.run(["mfsfileinfo", first])
        except Failed:
            return False


class MooseFSSync(MooseFS):
    """The same, but chunk servers sync what they have stored."""
    name, net, sync = "moosefs_sync", "10.173.2", 1


class Gluster(Engine):
    """Three servers with two bricks each, distributed over three pairs of bricks with their copies on neighbours: 1-2, 2-3,
    3-1. One glusterd has all of them. Everything else is as shipped."""
    name, needs, mark = "gluster", ("glusterd", "gluster", "glusterfs", "mount.glusterfs"), "gluster"
    net = "10.173.3"

    def start(self):
        # What it has outside of its directory is its own: in this mount namespace only.
        for name, place in (("lib", "/var/lib/glusterd"), ("log", "/var/log/glusterfs")):
            os.makedirs(os.path.join(self.directory, name), exist_ok=True)
            self.run(["mount", "--bind", os.path.join(self.directory, name), place])
        self.run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        os.makedirs("/run/gluster")
        self.run(["ip", "address", "add", self.net + ".10/32", "dev", "lo"])
        write(self.directory, "glusterd.vol", "volume management", "type mgmt/glusterd",
              "option working-directory /var/lib/glusterd", "option transport-type socket",
              "option transport.socket.bind-address %s.10" % self.net, "option ping-timeout 0", "option event-threads 1",
              "option transport.socket.read-fail-log off", "end-volume")
        self.run(["glusterd", "-f", self.directory + "/glusterd.vol"])
        bricks = []
        for pair, servers in enumerate(((1, 2), (2, 3), (3, 1))):
            for server in servers:
                brick = "%s/server%d/brick%d" % (self.directory, server, pair)
                os.makedirs(brick)
                bricks.append("%s.10:%s" % (self.net, brick))
        self.gluster("volume", "create", "bench", "replica", "2", *bricks, "force")
        self.gluster("volume", "start", "bench")
        self.connect()

    def gluster(self, *words):
        """Asks until there is an answer: right after its start the server refuses."""
        end = time.monotonic() + 30
        while True:
            try:
                return self.run(["gluster", "--mode=script"] + list(words), 120)
            except Failed as e:
                if time.monotonic() > end or "Connection failed" not in str(e):
                    raise
                time.sleep(0.5)

    def connect(self):
        self.run(["mount", "-t", "glusterfs", "%s.10:/bench" % self.net, self.mount])


ENGINES = {e.name: e for e in (Ours, MooseFS, Gluster, MooseFSSync, Ext4, Bindfs)}


def make(name, options):
    return ENGINES[name](options)
