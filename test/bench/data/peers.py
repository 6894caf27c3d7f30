"""The peers of run.py: nginx, fio and MooseFS, as Debian has them (tools/deps.sh nginx-light fio ...)."""
import json
import os
import shutil
import signal
import socket

import local

NGINX = """daemon off;
master_process on;
worker_processes 1;
%(user)s
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log warn;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    open_file_cache max=100000 inactive=600s;
    open_file_cache_valid 600s;
    default_type application/octet-stream;
    client_body_temp_path %(dir)s/t; proxy_temp_path %(dir)s/t; fastcgi_temp_path %(dir)s/t;
    uwsgi_temp_path %(dir)s/t; scgi_temp_path %(dir)s/t;
    server { listen 127.0.0.1:%(port)d; root %(dir)s; }
}
"""


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def missing(*names):
    """Of these programs: why a row cannot be measured, or None."""
    absent = [n for n in names if program(n) is None]
    return "no %s (tools/deps.sh)" % ", ".join(absent) if absent else None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Nginx:
    """One worker, sendfile, open files kept open, no log of requests: files o/NUMBER of a directory."""

    def __init__(self, processes, directory):
        self.processes, self.directory, self.port = processes, directory, free_port()
        os.makedirs(os.path.join(directory, "t"), exist_ok=True)
        config = os.path.join(directory, "nginx.conf")
        with open(config, "w") as f:
            f.write(NGINX % {"dir": directory, "port": self.port, "user": "user root;" if os.geteuid() == 0 else ""})
        errors = os.path.join(directory, "error.log")
        self.process = processes.start([program("nginx"), "-e", errors, "-p", directory, "-c", config],
                                       dies_by=signal.SIGTERM)
        local.wait_for("nginx listens", 20, self.listens)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def pids(self):
        """Master and worker."""
        own = self.process.pid
        return ",".join(str(p) for p in [own] + local.children(own))

    def close(self):
        self.processes.stop(self.process)


def fio(processes, path, size, block, depth, seconds):
    """Sequential direct reads of one file: bytes per second."""
    out = processes.run(
        [program("fio"), "--name=read", "--filename=" + path, "--rw=read", "--bs=%d" % block, "--size=%d" % size,
         "--iodepth=%d" % depth, "--ioengine=libaio", "--direct=1", "--readonly", "--runtime=%d" % seconds,
         "--output-format=json"], seconds + 60)
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return {"command": "fio", "bytes": job["read"]["io_bytes"], "seconds": job["read"]["runtime"] / 1e3,
            "client_cpu": (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3}


MOOSEFS = ("mfsmaster", "mfschunkserver", "mfsmount", "unshare", "ip")


def moosefs(processes, directory, stable, command, seconds):
    """Standard output of a command that finds a MooseFS of one chunk server mounted below `directory`; `stable`: one
    that syncs what it writes. All of it lives in namespaces of its own, which end with the command: MooseFS refuses
    addresses 127.x, so its loopback has another one, the mount is seen by nobody else, and no process can stay
    behind."""
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "moosefs.sh")
    os.makedirs(directory, exist_ok=True)
    return processes.run(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", script,
                          directory, "1" if stable else "0"] + command, seconds)
