# shellcheck shell=bash
# What the tests under a real kernel share. To be sourced by a script that tests/kernel/uml runs.

export TMPDIR=/run
# shellcheck source=../lib/daemon.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/daemon.sh"

# connect_unix DEVICE [OPTION...]: the daemon's first export becomes the kernel's DEVICE, over the unix socket.
connect_unix() {
  local device=$1
  shift
  connected "$device" nbd-client -unix "$socket" "$device" -N zram0 "$@"
}

# connect_tcp DEVICE PORT [OPTION...]: the same over TCP.
connect_tcp() {
  local device=$1 port=$2
  shift 2
  connected "$device" nbd-client 127.0.0.1 "$port" "$device" -N zram0 "$@"
}

connected() {
  local device=$1
  shift
  "$@" || fail "nbd-client cannot connect"
  finally nbd-client -d "$device"
  wait_until 10 nbd-client -c "$device"
}

disconnect() {
  nbd-client -d "$1"
  wait_until 10 not_connected "$1"
}
not_connected() { ! nbd-client -c "$1" >/dev/null; }

# mounted DEVICE FOLDER: mounts it, and unmounts it at the end.
mounted() {
  mkdir -p "$2"
  mount "$1" "$2"
  finally umount "$2"
}

# make_small_cgroup MEMORY: $work/cgroup/small, whose processes may use no more.
make_small_cgroup() {
  mkdir "$work/cgroup"
  mount -t cgroup2 cgroup2 "$work/cgroup"
  finally umount "$work/cgroup"
  echo +memory >"$work/cgroup/cgroup.subtree_control"
  mkdir "$work/cgroup/small"
  finally rmdir "$work/cgroup/small"
  echo "$1" >"$work/cgroup/small/memory.max"
}
