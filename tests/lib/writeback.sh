# shellcheck shell=bash
# What the tests of writeback and recompression share. To be sourced, behind lib.sh.
: "${work:?a folder of the test}" "${control=}" "${uri=}"

# bd_stat COLUMN: one figure of zram0's bd_stat (1 bd_count, 2 bd_reads, 3 bd_writes).
bd_stat() { uzramctl show zram0 bd_stat | awk -v column="$1" '{ print $column }'; }

# set_fails WORDS ATTRIBUTE VALUE: the attribute cannot be set, and one line says these words.
set_fails() { refused 1 "$1" "$UZRAM_BIN/uzramctl" --control "$control" set zram0 "${@:2}"; }

# no_daemon STATUS WORDS OPTION...: a daemon does not start with these options, and says why in one line with these words.
no_daemon() {
  refused "$1" "$2" "$UZRAM_BIN/uzramd" --size 1M --unix "$work/other.sock" --control "$work/other.control" "${@:3}"
}

# is_emptied FILE SIZE: it has this size, and nothing in it.
is_emptied() {
  expect "size and blocks of $1" "$(stat -c '%s %b' "$1")" "$2 0"
  cmp -n "$2" "$1" /dev/zero
}

# page_runs FIRST COUNT: how these pages are stored, as nbdinfo tells it: value:pages for each run.
page_runs() {
  nbdinfo --map=uzram:page --json "$uri" | python3 -c '
import json, sys
first, count = map(int, sys.argv[1:])
kinds = []
for e in json.load(sys.stdin):
    kinds += [e["type"]] * (e["length"] // 4096)
runs = []
for kind in kinds[first:first + count]:
    if not runs or runs[-1][0] != kind:
        runs.append([kind, 0])
    runs[-1][1] += 1
print(*(f"{kind}:{pages}" for kind, pages in runs))' "$@"
}

# same_as FILE: the whole export reads as this file.
same_as() { nbdcopy "$uri" - | cmp - "$1" || fail "the export is not $1"; }
