#!/usr/bin/env bash
# nbdcopy in over the unix socket and out over TCP, with each algorithm: every byte comes back.
. "$(dirname "$0")/lib.sh"

make_data "$work/in" 64
for algorithm in lz4 lz4hc zstd 'zstd(level=7)'; do
  port=$(free_port)
  start_daemon --size 64M --algorithm "$algorithm" --port "$port"
  nbdcopy "$work/in" "$uri"
  nbdcopy "nbd://127.0.0.1:$port/zram0" "$work/out"
  cmp "$work/in" "$work/out"
  nbdcopy --connections=4 --requests=64 "$uri" "$work/out"
  cmp "$work/in" "$work/out"
  [ "$(mm_stat zram0 3)" -lt "$(mm_stat zram0 1)" ] || fail "$algorithm saves no memory"
  stop_daemon
done
