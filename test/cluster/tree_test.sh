#!/bin/bash
# The metadata in a tree on the disk, with little memory: names in and out, kills, a backup, its file checked by the tools.
set -u
. "$(dirname "$0")/lib.sh"
META_ENGINE=tree
META_CACHE=32M
start_cluster || { bad 'start'; finish; }
file=$cluster/meta.0/state/tree
same 'status names the engine' "$("$opendfs" status --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["metadata"][0]["engine"]["name"])')" tree
mkdir "$work/in"
for i in $(seq 20); do
    mkdir "$work/in/dir$i"
    for k in $(seq 100); do echo "$i $k" >"$work/in/dir$i/file-with-a-long-name-number-$k"; done
done
for n in 1 2 3; do
    "$opendfs" put -q "$work/in" "/copy$n" >"$work/put.log" 2>&1 &
    putter=$!
    while ! "$opendfs" ls "/copy$n" 2>/dev/null | grep -q .; do kill -0 $putter 2>/dev/null || break; done
    kill -9 "$(pid_of meta.0)" || bad 'kill'
    "$opendfs" up -q --wait 0 "$cluster" || bad 'up after a kill'
    if wait $putter; then ok "put goes on while the server dies ($n)"; else bad "put ($n): $(tail -n 2 "$work/put.log")"; fi
done
check 'healthy again' "$opendfs" up "$cluster"
for n in 1 2 3; do
    rm -rf "$work/back"
    mkdir "$work/back"
    check "get ($n)" "$opendfs" get -q "/copy$n" "$work/back/"
    check "nothing is lost or changed ($n)" diff -r "$work/in" "$work/back/copy$n"
done
check 'a directory goes' "$opendfs" rm -r -q /copy2
same 'and only that' "$("$opendfs" ls / | tr '\n' ' ')" 'copy1 copy3 '
check 'the namespace is whole' "$opendfs" fsck --namespace
check 'a backup' "$opendfs" meta backup --config "$cluster/cluster.ini" "$work/backup"
check 'which is whole' "$opendfs" meta verify "$work/backup"
check 'down' "$opendfs" down -q "$cluster"
check 'the file is there' test -s "$file"
check 'the file is whole' "$opendfs" tree verify "$file"
check 'and can be shown' sh -c "'$opendfs' tree stats '$file' >'$work/stats'"

# --- the tools, for people and for programs ---
# lines EXPRESSION COMMAND...: true of `o`, the list of what its lines say.
lines() { "${@:2}" | python3 -c "import json,sys; o = [json.loads(x) for x in sys.stdin]; sys.exit(not ($1))"; }
check 'stats for programs' lines 'len(o) > 0' "$opendfs" tree stats --json "$file"
check 'verify for programs' lines 'len(o) > 0' "$opendfs" tree verify --json "$file"
check 'a dump' sh -c "'$opendfs' tree dump '$file' | grep -q ."
check 'a dump for programs' lines 'len(o) > 1' "$opendfs" tree dump --json "$file"
check 'each block of it is somewhere' lines "all(x['bytes'] > 0 and x['offset'] > 0 for x in o if x['what'] == 'block')" \
    "$opendfs" tree dump --json "$file"
check 'with keys and values' sh -c "'$opendfs' tree dump --keys --values '$file' | grep -q 'file-with-a-long-name-number-7'"
check 'a copy' "$opendfs" tree copy -q "$file" "$work/copied"
check 'which is whole' "$opendfs" tree verify -q "$work/copied"
check 'and has the same records' cmp <("$opendfs" tree dump --keys --values "$file" | grep -o 'file-with-a-long-name-number-[0-9]*' | sort) \
    <("$opendfs" tree dump --keys --values "$work/copied" | grep -o 'file-with-a-long-name-number-[0-9]*' | sort)
check 'a new file of a sound one' "$opendfs" tree rebuild -q -o "$work/sound" "$file"
check 'which is whole, too' "$opendfs" tree verify -q "$work/sound"
fails 'not over one that is there' 1 'exists' "$opendfs" tree rebuild -o "$work/sound" "$file"
fails 'a file that is none' 1 'without any superblock' "$opendfs" tree verify "$work/stats"

# --- another engine ---
sed -i 's/^engine = tree/engine = memory/' "$cluster/cluster.ini"
fails 'another engine does not start on it' 1 'meta.0 has ended' "$opendfs" up -q "$cluster"
check 'and the log says why' grep -rqF "are of engine 'tree'" "$cluster/log"
"$opendfs" down -q "$cluster" >"$work/out" 2>&1
check 'a restore makes one' "$opendfs" meta restore --config "$cluster/cluster.ini" "$work/backup" "$work/restored"
sed -i "s#^directory = meta.0#directory = $work/restored#" "$cluster/cluster.ini"
check 'which starts' "$opendfs" up -q "$cluster"
same 'with the same names' "$("$opendfs" ls / | tr '\n' ' ')" 'copy1 copy3 '

# --- the older checkpoint ---
# The superblock of the newest one is damaged: what was committed since the other is not in a new file, and is said.
newest() { "$opendfs" tree dump --json "$file" | python3 -c "
import json, sys
o = sorted((x for x in map(json.loads, sys.stdin) if x['what'] == 'superblock'), key=lambda x: x['checkpoint'])
print(o[-1]['offset'], o[-1]['checkpoint'], o[-2]['checkpoint'], o[-2]['applied_index'])"; }
read -r at newer older index <<<"$(newest)"
cp "$file" "$work/older"
dd if=/dev/zero of="$work/older" bs=1 count=8 seek=$((at + 100)) conv=notrunc status=none
fails 'what is not in a new file is said' 1 "superblock of a newer checkpoint is damaged" "$opendfs" tree rebuild -o "$work/from_older" "$work/older"
rm -f "$work/from_older"
fails 'with the index' 1 "behind index $index of the log" "$opendfs" tree rebuild -o "$work/from_older" "$work/older"
rm -f "$work/from_older"
fails 'and what to do' 1 "whose log still begins at $((index + 1)) or before executes the rest again" \
    "$opendfs" tree rebuild -o "$work/from_older" "$work/older"
check 'the new file is whole' "$opendfs" tree verify -q "$work/from_older"
"$opendfs" tree rebuild --json -o "$work/from_older2" "$work/older" >"$work/lines"
same 'also for programs' $? 1
check 'by numbers' lines "o[-1]['what'] == 'saved_in_part' and o[-1]['checkpoint'] == $older and o[-1]['newer_checkpoint_left_out'] == $newer and \
    o[-1]['log_needed_from'] == $((index + 1)) and o[-1]['losses'] == 1" cat "$work/lines"
fails 'also when it was asked for' 1 'as asked for' "$opendfs" tree rebuild --older -o "$work/from_older3" "$file"

# --- damage ---
# In each node, so that all of them have lost something, and nowhere else.
cp "$file" "$work/damaged"
for at in $("$opendfs" tree dump --json "$file" | python3 -c "
import json, sys
for x in map(json.loads, sys.stdin):
    if x['what'] in ('block', 'segment') and x['bytes'] > 0:
        print(x['offset'] + x['bytes'] // 2)"); do
    printf 'damage' | dd of="$work/damaged" bs=1 seek="$at" conv=notrunc status=none
done
fails 'damage is found' 1 'damage' "$opendfs" tree verify "$work/damaged"
fails 'with the keys that it concerns' 1 'records' "$opendfs" tree verify "$work/damaged"
"$opendfs" tree verify --json "$work/damaged" >"$work/out"
same 'also for programs' $? 1
"$opendfs" tree dump "$work/damaged" >"$work/out" 2>&1
check 'a dump ends in no crash' test $? -lt 126
fails 'what can be saved is' 1 'saved in part' "$opendfs" tree rebuild -o "$work/saved" "$work/damaged"
check 'in a file that is whole' "$opendfs" tree verify -q "$work/saved"
finish
