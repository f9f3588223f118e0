#!/usr/bin/env bash
# Installs the package given, runs what it installed, removes it, and looks for what is left. Everything happens on a
# layer above this machine's file system, which is thrown away.
set -euo pipefail
package=$(readlink -e "$1")
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

insmod /usr/lib/uml/modules/*/kernel/fs/overlayfs/overlay.ko
mkdir /run/layer /run/root
mount -t tmpfs layer /run/layer
mkdir /run/layer/upper /run/layer/work
mount -t overlay overlay -o lowerdir=/,upperdir=/run/layer/upper,workdir=/run/layer/work /run/root
for folder in proc sys dev; do mount --bind "/$folder" "/run/root/$folder"; done
mount -t tmpfs run /run/root/run
cp "$package" /run/root/run/uzram.deb
inside() { chroot /run/root "$@"; }
files() { (cd /run/root && find usr/bin usr/sbin usr/lib/systemd usr/lib/sysusers.d usr/share/man/man8 \
  usr/share/bash-completion etc var/lib/systemd -print 2>/dev/null | sort; cat etc/passwd etc/group); }

files >/run/before
inside dpkg -i /run/uzram.deb
for file in /usr/bin/uzramd /usr/bin/uzramctl /usr/lib/systemd/system/uzramd.service \
  /usr/lib/systemd/system/uzramd.socket /usr/lib/systemd/system/uzramd-control.socket /usr/lib/systemd/system/uzram-swap@.service /usr/lib/systemd/system/uzram-mount@.service /etc/uzram/uzramd.conf \
  /usr/share/man/man8/uzramd.8 /usr/share/man/man8/uzramctl.8 /usr/share/bash-completion/completions/uzramctl; do
  inside dpkg -S "${file#/usr/share/man/}" >/dev/null || fail "$file is not in the package"
done
inside getent passwd uzram || fail "there is no user for the daemon"

# shellcheck disable=SC2016  # the shell inside expands it
inside uzramd --size 64M --run 'nbdinfo "$uri" && uzramctl --control "$control" list'
inside setpriv --reuid uzram --regid uzram --clear-groups env RUNTIME_DIRECTORY=/run uzramd --config /etc/uzram/uzramd.conf \
  --unix /var/tmp/uzram-test.sock --control /var/tmp/uzram-test.control --run true
# shellcheck disable=SC2016
completions=$(inside bash -c '. /usr/share/bash-completion/completions/uzramctl
  COMP_WORDS=(uzramctl at) COMP_CWORD=1; _uzramctl uzramctl at uzramctl; echo "${COMPREPLY[@]}"')
[ "$completions" = attach ] || fail "completing 'uzramctl at' gives '$completions'"

inside dpkg --purge uzram
files >/run/after
diff /run/before /run/after || fail "the package leaves something behind, or took something along"
echo "nothing is left"
