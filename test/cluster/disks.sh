# Disks of their own for the tests of this folder; sourced behind lib.sh: ext4 on a loop device on a file, or on a disk that
# loses what was not flushed (bad_disk.c). All of it goes at the end.
loop=
disks_end() {
    disk_off
    umount "$work/bad" 2>/dev/null
}

# Why there are none here; nothing: there are.
disks_missing() {
    local tool
    if [ "$(id -u)" != 0 ]; then
        echo 'needs root'
        return
    fi
    for tool in losetup blockdev mkfs.ext4 mount umount; do
        command -v $tool >/dev/null || { echo "there is no $tool"; return; }
    done
    truncate -s 16M "$work/try" && mkdir -p "$work/try.d" && mkfs.ext4 -q -F "$work/try" >/dev/null 2>&1
    if mount -o loop "$work/try" "$work/try.d" 2>"$work/try.out"; then
        umount "$work/try.d"
    else
        echo "no loop device can be mounted: $(head -n 1 "$work/try.out")"
    fi
    rm -rf "$work/try" "$work/try.d" "$work/try.out"
}
# need_disks NAME: the test is skipped where there are none.
need_disks() {
    local missing
    missing=$(disks_missing)
    if [ -n "$missing" ]; then
        skip "$1" "$missing"
        finish
    fi
}
# disk_make FILE: an empty file system on it. disk_on FILE: mounted at $work/disk. disk_off: no more.
disk_make() { mkfs.ext4 -q -F -b 4096 -m 0 "$1" >/dev/null 2>&1; }
disk_on() {
    mkdir -p "$work/disk"
    loop=$(losetup -f --show "$1") && mount "$loop" "$work/disk"
}
disk_off() {
    if [ -n "$loop" ]; then
        for _ in $(seq 50); do # who has just been killed may still have files open
            mountpoint -q "$work/disk" || break
            umount "$work/disk" 2>/dev/null || sleep 0.1
        done
        umount -l "$work/disk" 2>/dev/null
        losetup -d "$loop" 2>/dev/null
    fi
    loop=
}
# target_on_disk NAME: the directory of a target is on the mounted disk from now on.
target_on_disk() {
    mv "$cluster/$1" "$work/disk/$1" && sed -i "s#^directory = $1\$#directory = $work/disk/$1#" "$cluster/cluster.ini"
}
