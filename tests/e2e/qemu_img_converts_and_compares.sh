#!/usr/bin/env bash
# qemu-img: a qcow2 image becomes the device's contents, compares as identical, and comes back.
. "$(dirname "$0")/lib.sh"

make_data "$work/raw" 48
truncate -s 96M "$work/raw"
qemu-img convert -f raw -O qcow2 "$work/raw" "$work/image.qcow2"
start_daemon --size 96M
qemu-img info -f raw "$uri" | grep -F "virtual size: 96 MiB"
qemu-img convert -n -f qcow2 -O raw "$work/image.qcow2" "$uri"
qemu-img compare -f qcow2 -F raw "$work/image.qcow2" "$uri"
qemu-img convert -f raw -O qcow2 "$uri" "$work/back.qcow2"
qemu-img compare -f qcow2 -F raw "$work/back.qcow2" "$work/raw"

qemu-io -f raw -c 'write -P 0x5a 50331648 4k' "$uri"
! qemu-img compare -f qcow2 -F raw "$work/image.qcow2" "$uri" || fail "a changed page compares as identical"
stop_daemon
