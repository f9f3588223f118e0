#!/usr/bin/env bash
# qemu-io: patterns written, zeroed and discarded, aligned and not, are read back; qemu-img bench runs on both.
. "$(dirname "$0")/lib.sh"

start_daemon --size 64M
qemu-io -f raw -d unmap \
  -c 'write -P 0xaa 0 64k' -c 'write -P 0xbb 65537 3000' -c 'write -z 4k 4k' -c 'write -z -u 12k 8k' \
  -c 'discard 32k 8k' -c 'flush' \
  -c 'read -P 0xaa 0 4k' -c 'read -P 0 4k 4k' -c 'read -P 0xaa 8k 4k' -c 'read -P 0 12k 8k' -c 'read -P 0xaa 20k 12k' \
  -c 'read -P 0 32k 8k' -c 'read -P 0xaa 40k 24k' -c 'read -P 0xbb 65537 3000' -c 'read -P 0 68537 1000' \
  -c 'aio_write -P 0xcc 1M 4M' -c 'aio_write -P 0xdd 8M 4M' -c 'aio_flush' \
  -c 'read -P 0xcc 1M 4M' -c 'read -P 0xdd 8M 4M' "$uri" >"$work/qemu-io" || { cat "$work/qemu-io"; fail "qemu-io"; }
! grep -i 'failed' "$work/qemu-io" || fail "a pattern is not what was written"

qemu-img bench -q -f raw -t none -w -c 2000 -d 16 -s 4k "$uri"
qemu-img bench -q -f raw -t none -c 2000 -d 16 -s 4k "$uri"
stop_daemon
