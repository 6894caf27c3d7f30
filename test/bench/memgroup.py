"""A memory control group for what is measured, of either version of control groups."""
import os
import time


def read(path):
    with open(path) as f:
        return f.read()


def write(path, text):
    with open(path, "w") as f:
        f.write(str(text))


class MemoryGroup:
    """Counts and bounds what the processes in it have, the page cache included; `path` is None where none may be made
    (the reason is in `why`). Names of files are those of version 1 or 2, whichever has the memory controller here."""

    V1 = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes")
    V2 = ("/sys/fs/cgroup", "memory.max", "memory.peak")

    def __init__(self, limit_bytes):
        self.path, self.moved, self.why = None, [], "no memory controller below /sys/fs/cgroup"
        for self.root, limit, self.peak_name in (self.V1, self.V2):
            if not os.path.isdir(self.root) or (limit == "memory.max" and not self.controlled()):
                continue
            path = os.path.join(self.root, "opendfs-bench-%d" % os.getpid())
            try:
                os.mkdir(path)
            except OSError as e:
                self.why = str(e)
                continue
            try:
                write(os.path.join(path, limit), limit_bytes)
                for swap, value in (("memory.memsw.limit_in_bytes", limit_bytes), ("memory.swap.max", 0)):
                    if os.path.exists(os.path.join(path, swap)):
                        write(os.path.join(path, swap), value)
                self.path, self.why = path, ""
                return
            except OSError as e:
                self.why = str(e)
                os.rmdir(path)

    def controlled(self):
        """Version 2: children of the root have the controller, or get it now."""
        control = os.path.join(self.root, "cgroup.subtree_control")
        try:
            if "memory" not in read(control).split():
                write(control, "+memory")
            return "memory" in read(control).split()
        except OSError as e:
            self.why = str(e)
            return False

    def enter(self, pid=0):
        """A process; 0: the one that asks, as a child does before its program."""
        if self.path is not None:
            write(os.path.join(self.path, "cgroup.procs"), pid or os.getpid())
            self.moved.append(pid)

    def peak(self):
        """Most bytes since it was asked before; since the beginning where the kernel cannot begin anew (version 2 before
        Linux 6.12, which has no such file before 5.19: 0)."""
        if self.path is None:
            return 0
        path = os.path.join(self.path, self.peak_name)
        try:
            value = int(read(path))
        except OSError:
            return 0
        try:
            write(path, 0)
        except OSError:
            pass
        return value

    def close(self):
        """Those in it go back; its pages are counted by nobody then."""
        if self.path is None:
            return
        for pid in self.moved:
            if pid and os.path.exists("/proc/%d" % pid):
                write(os.path.join(self.root, "cgroup.procs"), pid)
        deadline = time.monotonic() + 10
        while read(os.path.join(self.path, "cgroup.procs")) != "":
            if time.monotonic() > deadline:
                raise RuntimeError("%s is not empty" % self.path)
            time.sleep(0.05)
        os.rmdir(self.path)
        self.path = None
