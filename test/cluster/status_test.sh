#!/bin/bash
# What status and metrics say while servers come and go, and while a disk fills.
set -u
. "$(dirname "$0")/lib.sh"
checker=$(dirname "$0")/../metrics_check.py
# until SECONDS TEXT: status says it before the time is over.
until_says() {
    local end=$((SECONDS + $1))
    while ! timeout 20 "$opendfs" status >"$work/out" 2>&1 || ! grep -qF -- "$2" "$work/out"; do
        [ $SECONDS -lt $end ] || return 1
    done
}
says() { if until_says "$2" "$3"; then ok "$1"; else bad "$1: $(head -n 2 "$work/out" | tr '\n' ' ')"; fi; }

if [ "$(id -u)" = 0 ] && mkdir "$work/disk" && mount -t tmpfs -o size=200m opendfs-test "$work/disk" 2>"$work/out"; then
    mounted=$work/disk
fi
check 'a cluster' make_cluster --name demo
short_rest
if [ -n "${mounted:-}" ]; then
    mv "$cluster/target.2" "$mounted/target.2"
    sed -i "s#^directory = target.2#directory = $mounted/target.2#" "$cluster/cluster.ini"
fi
goes_on 'status without a cluster' 'Does the cluster run?' env OPENDFS_SECRET="$cluster/secret/client.key" \
    "$opendfs" -C 127.0.0.1:1 status
check 'up' "$opendfs" up -q "$cluster"
head -c 20000000 /dev/urandom >"$work/in"
check 'something to store' "$opendfs" put -q "$work/in" /file

# --- all is well ---
fails 'healthy, in the first line' 0 'healthy, all ' sh -c "'$opendfs' status | head -n 1"
same 'healthy in JSON' "$(field 'o["health"], len([p for p in o["problems"] if p["severity"] != "note"])')" 'healthy 0'
same 'one metadata server' "$(field '[(m["name"], m["role"]) for m in o["metadata"]]')" "[('meta.0', 'leader')]"
same 'three targets' "$(field 'sorted(t["name"] for t in o["targets"])')" "['target.0', 'target.1', 'target.2']"
same 'the disk of the metadata' "$(field '[0 < m["disk_log"] < m["disk_total"] > m["disk_free"] for m in o["metadata"]]')" '[True]'
check 'and in words' sh -c "'$opendfs' status | grep -q 'meta.0 .* disk .* free'"
check 'status --check' "$opendfs" status --check
check 'metrics' sh -c "'$opendfs' metrics >'$work/m1'"
check 'metrics are what Prometheus reads' "$checker" "$work/m1"
same 'all servers have answered' "$(grep -c '^opendfs_up{.*} 1$' "$work/m1")" 4
for name in meta_mutations_total consensus_commit_seconds_count disk_sync_seconds_count target_write_bytes_total \
    'server_messages_requests_total{.*message="create"' 'server_messages_latency_seconds_bucket{.*message="commit"'; do
    grep -q "^opendfs_$name.* [1-9]" "$work/m1" && ok "metrics have $name" || bad "metrics have $name"
done
for name in sessions chains targets_up inodes log_bytes log_waiting disk_total_bytes disk_free_bytes disk_log_bytes; do
    grep -q "^opendfs_meta_$name{.*} [0-9]" "$work/m1" && ok "metrics have the gauge $name" || bad "metrics have the gauge $name"
done
check 'something more' "$opendfs" get -q /file "$work/back"
"$opendfs" metrics >"$work/m2"
check 'counters do not go back' "$checker" "$work/m1" "$work/m2"
same 'metrics --json' "$("$opendfs" metrics --json | python3 -c '
import json,sys
for l in sys.stdin:
    o = json.loads(l)
    if o["name"] == "opendfs_up": print(o["labels"]["daemon"], o["value"])' | sort | tr '\n' ' ')" 'meta.0 1 target.0 1 target.1 1 target.2 1 '

# --- the checker finds what is wrong ---
refused() { if "$checker" "$work/bad" >"$work/out" 2>&1; then bad "the checker refuses $1"; else ok "the checker refuses $1"; fi; }
sed 's/^opendfs_up{/opendfs_up {/' "$work/m1" >"$work/bad" && refused 'a space in front of the labels'
sed '/^# TYPE opendfs_up /d' "$work/m1" >"$work/bad" && refused 'a name without a type'
cat "$work/m1" <(grep '^opendfs_up' "$work/m1") >"$work/bad" && refused 'a sample twice'
sed 's/le="+Inf"/le="9999"/' "$work/m1" >"$work/bad" && refused 'a histogram without +Inf'
sed 's/^\(opendfs_disk_sync_seconds_count{.*}\) .*/\1 0/' "$work/m1" >"$work/bad" && refused 'a count that is not the sum'
sed 's/_total/_number/' "$work/m1" >"$work/bad" && refused 'a counter that is not named so'
head -c 3000 "$work/m1" >"$work/bad" && refused 'half of it'
cp "$work/m1" "$work/bad" && if "$checker" "$work/m2" "$work/bad" >/dev/null; then bad 'the checker refuses counters that go back'; else ok 'the checker refuses counters that go back'; fi

# --- a node dies ---
kill -STOP "$(pid_of node.1)" # it starts no new worker
kill -9 "$(pid_of target.1)"
says 'a target is down' 20 'warning: 1 of 3 targets is down: target.1 (host 1)'
grep -qF 'degraded' "$work/out" && ok 'degraded' || bad 'degraded'
fails 'what it means' 0 'Their data is served by the other copies' "$opendfs" status
fails 'what helps' 0 'opendfs data' "$opendfs" status
fails 'status --check of it' 1 'degraded' "$opendfs" status --check
says 'chains miss copies' 20 'miss a copy' # a target is down first; then its chains do without it
same 'none is dark' "$(field 'o["chains"]["full"] < o["chains"]["total"], o["chains"]["dark"]')" 'True 0'
"$opendfs" metrics >"$work/m3" 2>"$work/out" && bad 'metrics miss a server' || ok 'metrics miss a server'
grep -q 'target.1: is down' "$work/out" && ok 'and name it' || bad 'and name it'
check 'what there is can be read' "$checker" "$work/m3"
same 'it is told as not up' "$(sed -n 's/^opendfs_up{.*daemon="target.1"} //p' "$work/m3")" 0
same 'chains without all copies are counted' \
    "$(($(sed -n 's/^opendfs_meta_chains_full{.*} //p' "$work/m3") < $(sed -n 's/^opendfs_meta_chains{.*} //p' "$work/m3")))" 1

# --- another one: data is not reachable ---
kill -STOP "$(pid_of node.0)"
kill -9 "$(pid_of target.0)"
says 'data is not reachable' 20 'unavailable: '
grep -qF 'Bring the targets back that are down' "$work/out" && ok 'what helps then' || bad 'what helps then'
kill -CONT "$(pid_of node.0)" "$(pid_of node.1)"
says 'all is well again' 60 'healthy, all '
"$opendfs" metrics >"$work/m4"
same 'who was started again says so' \
    "$(sed -n 's/^opendfs_master_worker_\(restarts\|last_status\){.*daemon="\(.*\)"} /\2 \1 /p' "$work/m4" | sort | tr '\n' ' ')" \
    'target.0 last_status -9 target.0 restarts 1 target.1 last_status -9 target.1 restarts 1 target.2 last_status 0 target.2 restarts 0 '
for name in space_free_bytes space_used_bytes chunks chains_serving; do
    same "targets have the gauge $name" "$(grep -c "^opendfs_target_$name{.*} [1-9]" "$work/m4")" 3
done
check 'the file is whole' sh -c "'$opendfs' get -q /file - | cmp - '$work/in'"

# --- a disk fills ---
if [ -z "${mounted:-}" ]; then
    skip 'a full target' 'needs root and a tmpfs'
    finish
fi
"$opendfs" mkdir /fill
# A put that fails gives back what it has written: small ones leave no room behind them.
for size in 20000000 1000000 100000 10000; do
    head -c $size "$work/in" >"$work/piece"
    for i in $(seq 40); do timeout 60 "$opendfs" put -q "$work/piece" "/fill/$size.$i" >/dev/null 2>&1 || break; done
done
says 'a full target is told' 20 'full: target.2 (host 2)'
grep -qF 'Remove files, or add targets' "$work/out" && ok 'what helps against that' || bad 'what helps against that'
check 'removing' "$opendfs" rm -r /fill
says 'there is room again' 120 'healthy, all '
finish
