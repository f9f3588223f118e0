#!/usr/bin/env bash
# holds_as_much_as_zram.sh ALGORITHM PERCENT [RUNS]: how much memory a program can fill before the kernel kills it, with
# swap on the kernel's zram and with swap on uzram, in turns, in the same kernel, with the same settings of it (those that
# attach makes) and the same pages (the corpus's). The median of ours is to be at least PERCENT of zram's, and none but
# the program is to be killed.
#
# What uzram gets is docs/swap.md's rule for the most: a reserve of all memory but vm.min_free_kbytes and 64 MiB, and a
# device of 98 % of what `uzramctl estimate` says that the reserve holds of such pages: the swap is full before the store.
# zram takes what memory it finds, and its device is so large that memory ends first.
. "$(dirname "$0")/../lib.sh"

algorithm=$1 percent=$2 runs=${3:-3}
: "${UZRAM_CORPUS:?a file of pages, as bench/make-corpus makes it}"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
min_free=$(awk '/^MemTotal/ { print int($2 / 10 < 32768 ? $2 / 10 : 32768) }' /proc/meminfo)
reserve=$((total - min_free / 1024 - 64))
head -c 32M "$UZRAM_CORPUS" >"$work/sample"
ratio=$("$UZRAM_BIN/uzramctl" estimate --algorithm "$algorithm" "$work/sample" | awk 'END { print $2 }')
rm "$work/sample"
size=$(awk -v reserve="$reserve" -v ratio="$ratio" 'BEGIN { print int(reserve * ratio * 98 / 100) }')
echo "$total MiB, $algorithm: pages of ratio $ratio, a reserve of $reserve MiB, a device of $size MiB"
cc -O2 -o "$work/fill" "$(dirname "$0")/fill.c"
echo "$min_free" >/proc/sys/vm/min_free_kbytes
echo $((total / 4)) >/proc/sys/vm/percpu_pagelist_high_fraction
# Where the kernel kills more than it has to, let it be bystanders, and not this test.
echo -1000 >/proc/self/oom_score_adj
for ((i = 0; i < 20; i++)); do (echo 0 >/proc/self/oom_score_adj && exec sleep 10000) & done
# shellcheck disable=SC2046  # a word each
finally kill $(jobs -p)
[ "$algorithm" != zstd ] || insmod /usr/lib/uml/modules/*/kernel/crypto/zstd.ko

# held: fills until it is killed, and prints how many MiB it had reached.
held() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
  (
    echo 1000 >/proc/self/oom_score_adj
    exec "$work/fill" "$UZRAM_CORPUS" $((total * 8))
  ) >"$work/reached" 2>/dev/null && fail "there is no end to its memory"
  tail -n 1 "$work/reached"
}
with_zram() {
  echo "$algorithm" >/sys/block/zram0/comp_algorithm
  echo "$((total * 4))M" >/sys/block/zram0/disksize
  mkswap /dev/zram0 >/dev/null
  swapon --discard /dev/zram0
  held
  swapoff /dev/zram0
  echo 1 >/sys/block/zram0/reset
}
with_uzram() {
  uzramctl attach zram0 /dev/nbd0 --swap --connections 2
  held
  uzramctl show zram0 mm_stat >>"$work/mm_stat"
  uzramctl detach zram0
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

none=$(held)
zram=() uzram=()
for ((run = 0; run < runs; run++)); do
  zram+=("$(with_zram)")
  start_daemon --size "${size}M" --algorithm "$algorithm" --swap-safe --reserve "${reserve}M"
  finally "$UZRAM_BIN/uzramctl" detach /dev/nbd0
  uzram+=("$(with_uzram)")
  stop_daemon
  echo "$total MiB, $algorithm, run $((run + 1)): zram ${zram[run]} MiB, uzram ${uzram[run]} MiB, mm_stat $(tail -n 1 "$work/mm_stat")"
done
theirs=$(median "${zram[@]}") ours=$(median "${uzram[@]}")
alive=$(jobs -r | grep -c sleep)
echo "$total MiB, $algorithm, medians of $runs: $none MiB without swap, $theirs with zram, $ours with uzram: $((ours * 100 / theirs)) %"
[ "$alive" = 20 ] || fail "$((20 - alive)) of 20 bystanders were killed"
[ $((ours * 100)) -ge $((theirs * percent)) ] || fail "less than $percent % of zram's"
