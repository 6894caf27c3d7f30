#!/bin/bash
# The POSIX suite (test/posix) on a mount; SOAK=1: also from two mounts, where each open may go through the other one.
set -u
. "$(dirname "$0")/lib.sh"

if ! [ -e /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
    skip 'POSIX on a mount' 'needs /dev/fuse and fusermount3'
    finish
fi
suite=$(dirname "$opendfs")/../test/posix/posix_suite
a=$work/a b=$work/b
mkdir "$a" "$b"
mounts_end() {
    local at
    for at in "$a" "$b"; do
        if grep -qF " $at " /proc/self/mountinfo; then umount -l "$at" 2>/dev/null; fi
    done
}
disks_end() { mounts_end; }
trap 'cd /; mounts_end; cleanup' EXIT
# What is left out, and why: NAME|REASON.
left_out='fallocate_allocates|space that was asked for is not counted before it is written
hugest_file|writes end at 2^54
ofd_lock_has_no_pid|the kernel does not tell locks of open files from those of processes'
# From two mounts also: what the kernel of one does not hear of before it asks, and what no file system of FUSE is told.
left_out_two='lock_across_two_files|a process that locks through two mounts is two owners: nobody can see the circle
flock_of_a_directory|the kernel keeps these locks to one machine
append_goes_to_the_end|the position after an append is by the size that this kernel knew
map_is_one_for_processes|stores to a mapping come with msync
truncate_both_ways|the time of a truncation is seen when attributes are asked for'
# run NAME LEFT_OUT OPTIONS...: all but those.
run() {
    local name=$1 out=$2 list=() test line
    shift 2
    while IFS='|' read -r test line; do
        skip "$name: $test" "$line"
        list+=(--but "$test")
    done <<<"$out"
    timeout 280 "$suite" --seconds 30 "${list[@]}" "$@" >"$work/suite" 2>&1
    line=$(tail -n 1 "$work/suite")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        skipped=$((skipped + BASH_REMATCH[3]))
        grep '^skip' "$work/suite"
        echo "        $name: $line"
        while read -r line; do bad "$name: $line"; done < <(grep '^FAIL' "$work/suite")
    else
        bad "$name: no summary: $line"
    fi
}

start_cluster --copies 2 --targets 2 || { bad 'up'; finish; }
check 'a mount' "$opendfs" mount "$cluster:/" "$a"
mkdir "$a/t"
run one "$left_out" "$a/t"
if [ -n "${SOAK:-}" ]; then
    check 'another' "$opendfs" mount "$cluster:/" "$b"
    run two "$left_out
$left_out_two" --second "$b/t" "$a/t"
fi
finish
