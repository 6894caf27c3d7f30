#!/bin/bash
# A server that is started while its former life still holds what it needs, a lock or its port, waits for that instead
# of ending at once; but not for ever.
set -u
. "$(dirname "$0")/lib.sh"
log=$cluster/log
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
check 'a cluster' make_cluster
sed -i "/^\[meta\.0\]/,/^$/s/^address = .*/address = 127.0.0.1:$port/" "$cluster/cluster.ini"
check 'up' "$opendfs" up -q "$cluster"

# hold FILE: somebody has it for a second; returns when he has.
hold() {
    rm -f "$work/held" # of who held something before
    flock "$1" sh -c 'echo; exec sleep 1' >"$work/held" &
    holder=$!
    until [ -s "$work/held" ]; do sleep 0.02; done
}
waited() { grep -c "waiting for what somebody else still has.*$2" "$log/$1.log"; }
# starts NAME SERVER WHAT: all of the cluster starts, and SERVER has waited for WHAT.
starts() {
    local before
    before=$(waited "$2" "$3")
    check "$1: it starts" timeout 60 "$opendfs" up -q "$cluster"
    same "$1: and has waited" "$(($(waited "$2" "$3") > before))" 1
    wait "$holder"
    check "$1: healthy" healthy
}
check 'down' "$opendfs" down -q "$cluster"
hold "$cluster/meta.0/lock"
starts 'the lock of the metadata' meta.0 "$cluster/meta.0"
check 'down' "$opendfs" down -q "$cluster"
hold "$cluster/target.1/super"
starts 'the lock of a target' node.1 "$cluster/target.1"
check 'down' "$opendfs" down -q "$cluster"
rm -f "$work/held"
python3 - "$port" >"$work/held" <<'END' &
import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("held", flush=True)
time.sleep(1)
END
holder=$!
until [ -s "$work/held" ]; do sleep 0.02; done
starts 'the port' meta.0 "127.0.0.1:$port"

# --- the pid file: `up` takes who holds it for a server that runs ---
check 'down' "$opendfs" down -q "$cluster"
hold "$cluster/run/meta.0.pid"
"$opendfs" meta --config "$cluster/cluster.ini" --log "$log/meta.0.log" >"$work/meta" 2>&1 &
wait "$holder"
check 'the pid file: it starts' "$opendfs" up -q "$cluster"
same 'and has waited' "$(($(waited meta.0 meta.0.pid) > 0))" 1
check 'healthy' healthy
fails 'nobody waits for ever' 1 'meta.0 runs already' timeout 20 "$opendfs" meta --config "$cluster/cluster.ini"
finish
