#!/usr/bin/env bash
# systemd finds nothing to complain about in the units, and the daemon's sandbox is in its OK range.
set -euo pipefail
: "${UZRAM_BIN:?the folder of uzramd and uzramctl}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit in uzramd.service uzramd.socket uzramd-control.socket uzram-swap@.service uzram-mount@.service; do
  # They are not installed where the units look for them.
  sed "s|/usr/bin/uzram|$UZRAM_BIN/uzram|" "$(dirname "$0")/../../systemd/$unit" >"$folder/$unit"
done
cp "$folder/uzram-swap@.service" "$folder/uzram-swap@nbd0.service"
cp "$folder/uzram-mount@.service" "$folder/uzram-mount@nbd1.service"
cd "$folder"
said=$(systemd-analyze verify --man=no ./uzramd.service ./uzramd.socket ./uzramd-control.socket ./uzram-swap@nbd0.service \
  ./uzram-mount@nbd1.service 2>&1)
[ -z "$said" ] || { echo "$said" >&2; exit 1; }
# The threshold is ten times the score that it prints.
systemd-analyze security --offline=yes --threshold=20 ./uzramd.service | tail -n 1
