#!/usr/bin/env bash
# What README.md and docs/swap.md tell to type for swap in a microVM works as it stands there, pasted in one go.
. "$(dirname "$0")/lib.sh"

root=$(dirname "$0")/../..
PATH=$UZRAM_BIN:$PATH
mkdir -p /run/uzram "$work/bin"
# user-mode-linux's modules are not where modprobe looks; the test's runner has loaded this one.
# shellcheck disable=SC2016  # for the script to expand
printf '#!/bin/sh\n[ "$1" = nbd ] && grep -q "^nbd " /proc/modules\n' >"$work/bin/modprobe"
chmod +x "$work/bin/modprobe"
PATH=$work/bin:$PATH
for document in README.md docs/swap.md; do
  sed -n '/^    modprobe nbd/,/^$/s/^    //p' "$root/$document" >"$work/typed"
  cat "$work/typed"
  [ "$(wc -l <"$work/typed")" = 3 ] || fail "$document does not say what to type"
  bash -e "$work/typed" || fail "$document's commands fail"
  finally "$UZRAM_BIN/uzramctl" detach /dev/nbd0
  finally pkill -x uzramd
  grep -q '^/dev/nbd0 ' /proc/swaps || fail "$document's commands give no swap"
  "$UZRAM_BIN/uzramctl" list
  "$UZRAM_BIN/uzramctl" detach zram0
  pkill -x uzramd
  wait_until 10 test ! -e /run/uzram/control.sock
done
