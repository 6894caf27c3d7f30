#!/bin/bash
# The processes of a data node: a worker that hangs, another configuration, logs that are renamed, a user that is not
# root. What is stored is read and written meanwhile, and who is not concerned goes on as the same process.
set -u
. "$(dirname "$0")/lib.sh"
log=$cluster/log
LEASE=4s
targets_are() { [ "$("$opendfs" status --json | python3 -c 'import json,sys; print(sum(t["state"] == "up" for t in json.load(sys.stdin)["targets"]))')" = "$1" ]; }
# one_node: all targets belong to node 0, which watches them closely.
one_node() {
    sed -i -e '/^\[node\.[1-9]\]/,/^$/d' -e 's/^node = .*/node = 0/' -e "s/^\[node\.0\]/&\nwatchdog = 2s/" "$cluster/cluster.ini"
}
hup() { kill -HUP "$(pid_of node.0)"; }
is_other() { local now; now=$(pid_of "$1") && [ -n "$now" ] && [ "$now" != "$2" ] && kill -0 "$now"; }

check 'a cluster of one node' make_cluster
one_node
check 'up' "$opendfs" up -q "$cluster"
same 'the configuration is said to be good' "$("$opendfs" data --check --config "$cluster/cluster.ini")" 'node.0: 3 targets'
mkdir "$work/in"
for i in $(seq 20); do head -c $((i * 50021)) /dev/urandom >"$work/in/f$i"; done
check 'something to store' "$opendfs" put -q "$work/in" /in
back() { rm -rf "$work/back" && mkdir "$work/back" && timeout 60 "$opendfs" get -q /in "$work/back/" && diff -r "$work/in" "$work/back/in"; }

# --- a worker that hangs ---
hung=$(pid_of target.1)
other=$(pid_of target.0)
kill -STOP "$hung"
check 'a hanging worker is replaced' within 20 is_other target.1 "$hung"
grep -q 'worker hangs, killing it.*target=target.1' "$log/node.0.log" && ok 'the log says so' || bad 'the log says so'
check 'what was stored is read' back
check 'something is written' "$opendfs" put -q "$work/in/f20" /during
check 'healthy again' within 60 healthy
same 'nobody else was touched' "$(pid_of target.0)" "$other"
check 'metrics count it' sh -c "'$opendfs' metrics | grep -q 'worker_hangs{.*daemon=\"target.1\"} 1'"

# --- a worker that ends: nobody waits for its lease ---
killed=$(pid_of target.0)
gone() { [ "$(grep -c 'target is gone.*its process has ended' "$log/meta.0.log")" -gt "$1" ]; }
before=$(grep -c 'target is gone.*its process has ended' "$log/meta.0.log")
kill -9 "$killed"
check 'the metadata server hears of it at once' within 2 gone "$before"
check 'it is started again' within 10 is_other target.0 "$killed"
check 'healthy after that' within 60 healthy

# --- another configuration ---
for i in 0 1 2; do eval "pid$i=$(pid_of target.$i)"; done
mkdir "$cluster/target.3" && touch "$cluster/target.3/opendfs-new"
printf '\n[target.3]\nnode = 0\naddress = 127.0.0.1:0\ndirectory = target.3\n' >>"$cluster/cluster.ini"
hup
check 'a target that was added serves' within 30 targets_are 4
same 'the others are as they were' "$(pid_of target.0) $(pid_of target.1) $(pid_of target.2)" "$pid0 $pid1 $pid2"
cp "$cluster/cluster.ini" "$work/good.ini"
printf '\n[target.4]\nnode = 0\n' >>"$cluster/cluster.ini"
hup
check 'a bad configuration is refused' within 10 grep -q 'configuration is not reloaded.*target.4' "$log/node.0.log"
same 'and nothing is changed' "$(pid_of target.0) $(pid_of target.1) $(pid_of target.2)" "$pid0 $pid1 $pid2"
# The table of keys at the end of the file is comments.
sed "s/^\[target\.2\]/&\nlabels = nvme\nio = auto/" "$work/good.ini" >"$cluster/cluster.ini"
hup
check 'a target with other settings is restarted' within 20 is_other target.2 "$pid2"
same 'and no other' "$(pid_of target.0) $(pid_of target.1)" "$pid0 $pid1"
for key in 'scrub = 5d' 'scrub_share = 5%' 'stream = 32M' 'reads = 4096' 'read_bytes = 512M'; do
    now=$(pid_of target.2)
    sed -i "s/^\[target\.2\]/&\n$key/" "$cluster/cluster.ini"
    hup
    check "so it is with $key" within 20 is_other target.2 "$now"
done
now=$(pid_of target.2)
sed -i "s/^\[target\.2\]/&\nmove_rate = 50M/" "$cluster/cluster.ini"
hup
check 'a rate for copies is taken' within 10 grep -q 'another rate for copies.*move_rate=52428800' "$log/node.0.log"
same 'without another worker' "$(pid_of target.2)" "$now"
check 'healthy with it' within 60 healthy
sed -i '/^\[target\.3\]/,$d' "$cluster/cluster.ini"
gone=$(pid_of target.3)
hup
ended() { ! kill -0 "$1" 2>/dev/null; }
check 'a target that was removed ends' within 20 ended "$gone"
same 'the others stay' "$(pid_of target.0) $(pid_of target.1)" "$pid0 $pid1"
check 'what was stored is still read' back
cp "$work/good.ini" "$cluster/cluster.ini"
hup
check 'it comes back' within 60 healthy
same 'and is four again' "$(targets_are 4 && echo yes)" yes

# --- logs ---
mv "$log/node.0.log" "$log/node.0.log.1"
kill -USR1 "$(pid_of node.0)"
check 'the log is opened anew' within 10 test -e "$log/node.0.log"
hup
reopened() { [ "$(grep -c 'log level reloaded' "$log/node.0.log")" -ge 5 ]; }
check 'by the master and all workers' within 10 reopened
mv "$log/meta.0.log" "$log/meta.0.log.1"
kill -HUP "$(pid_of meta.0)"
check 'and by the metadata server' within 10 grep -q 'log level reloaded' "$log/meta.0.log"
check 'down' "$opendfs" down -q "$cluster"

# --- not root ---
if [ "$(id -u)" != 0 ]; then
    skip 'giving up root' 'needs root'
    finish
fi
user=nobody
sed -i "s/^copies = .*/&\nuser = $user/" "$cluster/cluster.ini"
rm -f "$log"/*.log
chmod 755 "$work" && chown -R "$user" "$cluster"
check 'up as root' "$opendfs" up -q "$cluster" # which makes the logs
uid=$(id -u $user)
for name in meta.0 node.0; do same "the log of $name is its user's" "$(stat -c %U "$log/$name.log")" "$user"; done
for name in meta.0 node.0 target.0 target.1 target.2; do
    same "$name is $user" "$(awk '/^(Uid|NoNewPrivs):/ {printf "%s ", $2 == $5 || NF == 2 ? $2 : "mixed"}' "/proc/$(pid_of $name)/status")" "$uid 1 "
    same "$name has no groups of root" "$(awk '/^Groups:/ {$1 = ""; print}' "/proc/$(pid_of $name)/status" | grep -cw 0)" 0
done
check 'what was stored is read there too' back
check 'and something is written' "$opendfs" put -q "$work/in/f19" /as-nobody
hung=$(pid_of target.1)
kill -9 "$hung"
check 'a worker is started again' within 20 is_other target.1 "$hung"
check 'healthy again, as nobody' within 60 healthy

# --- another program of somebody who is not root ---
master=$(pid_of node.0)
renewed() { [ "$(grep -c 'all workers run the new program' "$log/node.0.log")" -ge "$1" ]; }
kill -USR2 "$master"
check 'it goes on as a new program' within 60 renewed 1
chown root "$log/node.0.log" # as after a start with an earlier version
kill -USR2 "$master"
check 'and does so with a log that it cannot open' within 60 renewed 2
same 'it says that' "$(grep -c 'the log is not opened anew' "$log/node.0.log" | sed 's/[1-9][0-9]*/yes/')" yes
same 'it is the same process' "$(pid_of node.0)" "$master"
check 'healthy at last' within 60 healthy
finish
