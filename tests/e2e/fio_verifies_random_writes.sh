#!/usr/bin/env bash
# fio's nbd engine: random writes of 512 bytes to 128 KiB, 32 at a time, verified by checksum, over both sockets.
. "$(dirname "$0")/lib.sh"

port=$(free_port)
start_daemon --size 128M --port "$port"
cd "$work"
for target in "$uri" "nbd://127.0.0.1:$port/zram0"; do
  fio --name=verify --ioengine=nbd --uri="$target" --rw=randrw --bsrange=512-128k --size=128M --io_size=96M \
    --iodepth=32 --verify=crc32c --verify_fatal=1 --buffer_compress_percentage=60 --refill_buffers \
    --minimal >fio.log || { cat fio.log; fail "fio on $target"; }
done
stop_daemon
