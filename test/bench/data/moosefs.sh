#!/bin/bash
# usage: moosefs.sh DIRECTORY SYNC COMMAND...   Runs COMMAND with a MooseFS of one master and one chunk server, mounted
# at DIRECTORY/mount. SYNC 0: as it comes, fsync returns when the chunk server has the bytes; 1: it syncs what it gets.
# To be started by peers.py, in network, mount and process namespaces of its own: what runs in them ends with this
# script. An argument server=mfs of COMMAND becomes the process id of the chunk server.
set -euo pipefail
directory=$1
sync=$2
shift 2
address=10.173.0.1
export PATH=$PATH:/usr/sbin:/sbin
say() { printf 'moosefs.sh: %s\n' "$*" >&2; }

ip link set lo up
ip address add $address/32 dev lo
cd "$directory"
mkdir -p master chunk data mount
chmod 700 data
printf 'MFSM NEW' >master/metadata.mfs
printf '* / rw,alldirs,maproot=0\n' >exports.cfg
printf '%s/data\n' "$directory" >hdd.cfg
cat >master.cfg <<END
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = $directory/master
EXPORTS_FILENAME = $directory/exports.cfg
TOPOLOGY_FILENAME = $directory/topology.cfg
MATOML_LISTEN_HOST = $address
MATOCS_LISTEN_HOST = $address
MATOCL_LISTEN_HOST = $address
END
# There is no message that asks a chunk server to make something stable.
cat >chunk.cfg <<END
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = $directory/chunk
HDD_CONF_FILENAME = $directory/hdd.cfg
HDD_FSYNC_BEFORE_CLOSE = $sync
MASTER_HOST = $address
CSSERV_LISTEN_HOST = $address
END
: >topology.cfg
mfsmaster -c "$directory/master.cfg" start >>said 2>&1
mfschunkserver -c "$directory/chunk.cfg" start >>said 2>&1
end=$((SECONDS + 30))
until mfsmount "$directory/mount" -H $address >>said 2>&1; do
    [ $SECONDS -lt $end ] || { say "no mount within 30 s: $(tail -n 1 said)"; exit 1; }
    sleep 0.2
done
# The chunk server has to make itself known before anything can be stored.
until timeout 20 dd if=/dev/zero of="$directory/mount/first" bs=4096 count=1 conv=fsync status=none; do
    [ $SECONDS -lt $end ] || { say 'nothing can be stored after 30 s'; exit 1; }
    sleep 0.2
done
server=$(pidof -s mfschunkserver)
args=()
for a in "$@"; do
    if [ "$a" = server=mfs ]; then a=server=$server; fi
    args+=("$a")
done
"${args[@]}"
umount "$directory/mount" || say 'the mount is still in use; it ends with its namespace'
