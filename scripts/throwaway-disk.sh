#!/bin/sh
# Runs a command with a folder on an ext4 of its own, which goes with the last process that uses it.
#
# Usage: scripts/throwaway-disk.sh FOLDER COMMAND...
#
# It is in a file without a name, and no other process sees it. It has a journal: without one, ext4 looks for each
# new file at all inodes that were freed nearby in the last minutes. Nothing in it has to survive a crash, so no
# write waits for the disk. Where it can't be had, the command runs without it.
set -eu
folder=$1
shift

if [ -z "${IN_OWN_MOUNTS:-}" ]; then
    unshare --mount true || exec "$@"
    IN_OWN_MOUNTS=1 exec unshare --mount --propagation slave "$0" "$folder" "$@"
fi
unset IN_OWN_MOUNTS

image=$(mktemp "$(dirname "$0")/../.work/disk-XXXXXX")
kilobytes=$(df --output=avail -k "$image" | tail -n 1)
[ "$kilobytes" -lt 67108864 ] || kilobytes=67108864 # a run of the tests writes half of that
mkdir -p "$folder"
truncate --size "${kilobytes}K" "$image" &&
    mkfs.ext4 -q -m 0 -i 8192 -J size=256 -E lazy_itable_init=1,lazy_journal_init=1 "$image" &&
    mount -o loop,discard,noatime,noinit_itable,nobarrier,data=writeback,commit=60 "$image" "$folder" ||
    echo "No disk of its own for $folder" >&2
rm "$image"
exec "$@"
