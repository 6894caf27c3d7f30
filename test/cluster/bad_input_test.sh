#!/bin/bash
# What must not harm a running cluster: garbage on every port, foreign and missing directories, full disks.
set -u
. "$(dirname "$0")/lib.sh"
start_cluster || { bad 'start'; finish; }
head -c 20000000 /dev/urandom >"$work/big"
check 'put' "$opendfs" put "$work/big" /big
addresses=$("$opendfs" status --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(s["address"], *[t["address"] for t in s["targets"]])')

# --- garbage: random bytes, half frames, huge lengths, many connections that say nothing ---
cat >"$work/garbage.py" <<'P'
import os, random, socket, struct, sys
random.seed(int(sys.argv[1]))
MAGIC = open(sys.argv[2], "rb").read()  # bytes that a real client sent first, or nothing
idle = []
for address in sys.argv[3:]:
    host, port = address.rsplit(":", 1)
    def connect():
        s = socket.create_connection((host, int(port)), timeout=10)
        s.settimeout(0.2)
        return s
    def say(data):
        s = connect()
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)  # nothing more comes: the server need not wait
            s.recv(4096)
        except OSError:
            pass
        s.close()
    for _ in range(60):
        say(os.urandom(random.choice([1, 39, 40, 41, 100, 5000])))
    for _ in range(60):  # headers that begin well
        header = bytearray(MAGIC[:40].ljust(40, b"\0"))
        for _ in range(random.randrange(4)):
            header[random.randrange(4, 40)] = random.randrange(256)
        say(bytes(header[:random.randrange(1, 41)]) + os.urandom(random.randrange(200)))
    for length in (0xffffffff, 0x7fffffff, 1 << 20, (4 << 20) + 1):
        say(MAGIC[:4].ljust(20, b"\1") + struct.pack("<II", length, length) + bytes(12))
    for cut in range(0, len(MAGIC), 3):
        say(MAGIC[:cut])
    for _ in range(3):
        say(MAGIC + MAGIC)
    idle += [connect() for _ in range(50)]
P
# What a client says first, caught by a listener of our own.
python3 - "$work/hello" <<'P' &
import socket, sys
s = socket.create_server(("127.0.0.1", 0))
s.settimeout(10)
open(sys.argv[1] + ".port", "w").write(str(s.getsockname()[1]) + "\n")
c, _ = s.accept()
c.settimeout(2)
data = b""
try:
    while len(data) < 40:
        more = c.recv(4096)
        if not more:
            break
        data += more
except OSError:
    pass
open(sys.argv[1], "wb").write(data)
P
listener=$!
until [ -s "$work/hello.port" ]; do kill -0 $listener || break; done
OPENDFS_SECRET=$cluster/secret/client.key timeout 2 "$opendfs" -C "127.0.0.1:$(cat "$work/hello.port")" ls / >/dev/null 2>&1
wait $listener
[ "$(stat -c %s "$work/hello")" -ge 40 ] && ok 'a first message was caught' || bad 'a first message was caught'
before=$(cat "$cluster"/run/*.pid | tr '\n' ' ')
for seed in 1 2; do
    # shellcheck disable=SC2086
    check "garbage on every port ($seed)" timeout 300 python3 "$work/garbage.py" $seed "$work/hello" $addresses
done
same 'no process has ended' "$(cat "$cluster"/run/*.pid | tr '\n' ' ')" "$before"
check 'get after the garbage' "$opendfs" get -q /big "$work/back"
check 'the same bytes' cmp "$work/big" "$work/back"
same 'no worker was started again' "$(grep -c 'starts again' "$cluster"/log/*.log | awk -F: '{ n += $2 } END { print n }')" 0

# --- a data directory of another cluster; one that is gone ---
export OPENDFS_CLUSTER=$work/second
check 'another cluster' "$opendfs" init -q "$work/second" --port 0 --targets 2
set_meta "$work/second"
check 'it runs' "$opendfs" up -q "$work/second"
check 'and stops' "$opendfs" down -q "$work/second"
check 'down' "$opendfs" down -q "$cluster"
mv "$cluster/target.1" "$work/own"
cp -r "$work/second/target.0" "$cluster/target.1"
export OPENDFS_CLUSTER=$cluster
fails 'up with a foreign data directory' 1 'target.1' "$opendfs" up --wait 5 "$cluster"
if grep -q 'another cluster' "$cluster/log/node.1.log"; then ok 'the log says whose it is'; else bad 'the log says whose it is'; fi
check 'reading goes on without it' "$opendfs" get -q /big "$work/back2"
check 'the same bytes without it' cmp "$work/big" "$work/back2"
"$opendfs" down -q "$cluster"
rm -rf "$cluster/target.1"
fails 'up with a missing data directory' 1 'target.1' "$opendfs" up --wait 5 "$cluster"
mkdir "$cluster/target.1"
"$opendfs" down -q "$cluster"
fails 'up with an empty data directory' 1 'target.1' "$opendfs" up --wait 5 "$cluster"
same 'the empty directory stays empty' "$(ls -A "$cluster/target.1")" ''
"$opendfs" down -q "$cluster"
rmdir "$cluster/target.1" && mv "$work/own" "$cluster/target.1"
check 'up with its own directory again' "$opendfs" up -q "$cluster"
"$opendfs" down -q "$cluster"
cp -r "$cluster/meta.0" "$work/own-meta"
rm -rf "$cluster/meta.0" && cp -r "$work/second/meta.0" "$cluster/meta.0"
fails 'up with foreign metadata' 1 'cluster' "$opendfs" up --wait 5 "$cluster"
rm -rf "$cluster/meta.0"
fails 'up without metadata' 1 "meta.0' does not exist: mount its disk or restore a backup" "$opendfs" up --wait 5 "$cluster"
mkdir "$cluster/meta.0"
fails 'up with empty metadata' 1 "meta.0' holds no metadata: mount its disk or restore a backup" "$opendfs" up --wait 5 "$cluster"
same 'the empty metadata directory stays empty' "$(ls -A "$cluster/meta.0")" ''
rmdir "$cluster/meta.0"
mv "$work/own-meta" "$cluster/meta.0"
check 'up with its own metadata again' "$opendfs" up -q "$cluster"
check 'everything is there' "$opendfs" get -q /big "$work/back3"
check 'the same bytes again' cmp "$work/big" "$work/back3"
"$opendfs" down -q "$cluster"

# --- a full disk: a small file system below one target ---
small_disk() {
    mkdir -p "$work/disk"
    mount -t tmpfs -o "size=$1" opendfs-test "$work/disk" 2>"$work/out" && mounted=$work/disk
}
if [ "$(id -u)" = 0 ] && small_disk 64m; then
    export OPENDFS_CLUSTER=$work/third
    "$opendfs" init -q "$work/third" --port 0 --targets 2
    set_meta "$work/third"
    short_rest "$work/third"
    mv "$work/third/target.1" "$work/disk/target.1"
    sed -i "s#^directory = target.1#directory = $work/disk/target.1#" "$work/third/cluster.ini"
    check 'up with a small disk' "$opendfs" up -q "$work/third"
    check 'what fits goes in' "$opendfs" put "$work/big" /fits
    head -c 60000000 /dev/urandom >"$work/bigger"
    fails 'a full disk is told' 1 'no space' "$opendfs" put "$work/bigger" /bigger
    fails 'and nothing half is left' 1 'No such file' "$opendfs" stat /bigger
    check 'what was there is there' "$opendfs" get -q /fits "$work/fits"
    check 'unchanged' cmp "$work/big" "$work/fits"
    check 'deleting works on a full disk' "$opendfs" rm /fits
    again() { "$opendfs" put -q "$work/big" /again >/dev/null 2>&1; }
    check 'and makes room' within 60 again
    "$opendfs" down -q "$work/third"
    umount "$work/disk" && mounted=
else
    skip 'a full disk' "needs root and a tmpfs: $(head -n 1 "$work/out")"
fi
finish
