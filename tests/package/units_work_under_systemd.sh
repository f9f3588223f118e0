#!/usr/bin/env bash
# Boots systemd with the units of the package given, on a layer above this machine's file system that is thrown away: the
# swap comes up behind the daemon, stays on and answers when the daemon has been killed and when it is restarted, and is
# turned off before the daemon stops at the end.
set -euo pipefail
package=$(readlink -e "$1")
fail() {
  echo "FAILED: $*" >&2
  tail -n 40 /run/root/run/said /run/root/run/log >&2
  exit 1
}

insmod /usr/lib/uml/modules/*/kernel/fs/overlayfs/overlay.ko
mkdir /run/layer /run/root
mount -t tmpfs layer /run/layer
mkdir /run/layer/upper /run/layer/work
mount -t overlay overlay -o lowerdir=/,upperdir=/run/layer/upper,workdir=/run/layer/work /run/root
for folder in sys dev; do mount --bind "/$folder" "/run/root/$folder"; done
mount -t cgroup2 cgroup2 /run/root/sys/fs/cgroup
mount -t tmpfs run /run/root/run
mount -t proc proc /run/root/proc
cp "$package" /run/root/run/uzram.deb
chroot /run/root dpkg -i /run/uzram.deb
umount /run/root/proc

cat >/run/root/etc/uzram/uzramd.conf <<CONF
size = 64M
swap-safe = true
reserve = min(ram / 4, 32M)
CONF
units=/run/root/etc/systemd/system
mkdir -p $units/uzramd.service.d
# What is swapped to the device when the daemon stops.
cat >$units/uzramd.service.d/order.conf <<UNIT
[Service]
ExecStopPost=+/bin/sh -c '{ echo the daemon has ended; cat /proc/swaps; } >>/run/order'
UNIT
mkdir -p $units/uzram-swap@.service.d
for unit in uzramd.service uzram-swap@.service; do
  printf '[Service]\nStandardError=append:/run/log\nStandardOutput=append:/run/log\n' >$units/$unit.d/log.conf
done
cat >$units/check.target <<UNIT
[Unit]
Requires=check.service
UNIT
cat >$units/check.service <<UNIT
[Unit]
DefaultDependencies=no
Wants=uzram-swap@nbd0.service
After=uzram-swap@nbd0.service
[Service]
Type=oneshot
ExecStart=/bin/bash /run/check.sh
StandardOutput=file:/run/said
StandardError=file:/run/said
UNIT
cat >/run/root/run/check.sh <<'CHECK'
until_true() { for ((i = 0; i < 40; i++)); do "$@" >/dev/null 2>&1 && return; sleep 1; done; echo "in vain: $*"; }
swap_is_on() { grep -q nbd0 /proc/swaps && systemctl is-active uzram-swap@nbd0.service; }
until_true swap_is_on && echo "swap is on"
pid=$(systemctl show -P MainPID uzramd.service)
kill -KILL "$pid"
new_pid() { [ "$(systemctl show -P MainPID uzramd.service)" != "$pid" ] && systemctl is-active uzramd.service; }
until_true new_pid
answers() { dd if=/dev/nbd0 of=/dev/null bs=4096 count=16 iflag=direct; }
until_true answers && swap_is_on >/dev/null && echo "swap is on after the daemon's death"
systemctl restart uzramd.service
until_true swap_is_on && echo "swap is on after a restart"
echo "the end" >>/run/order
systemctl --no-block exit
CHECK
timeout -k 5 200 unshare --mount --pid --fork --mount-proc=/run/root/proc chroot /run/root \
  env -i container=uml PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=check.target --log-target=console --log-level=info --show-status=no >/run/console 2>&1 || echo "systemd ended with $?"
cat /run/root/run/said /run/root/run/order
for line in "swap is on" "swap is on after the daemon's death" "swap is on after a restart"; do
  grep -qx "$line" /run/root/run/said || fail "not: $line"
done
sed -n '/^the end/,$p' /run/root/run/order >/run/shutdown
grep -q 'the daemon has ended' /run/shutdown || fail "the daemon was not stopped at the end"
! grep nbd0 /run/shutdown || fail "the daemon stopped while it was still used as swap"
