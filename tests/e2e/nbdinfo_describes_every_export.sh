#!/usr/bin/env bash
# nbdinfo: size, flags and block sizes of one export, the list of all of them, and which ranges are allocated.
. "$(dirname "$0")/lib.sh"

cat >"$work/config" <<'CONFIG'
[device.first]
size = 16M

[device.second]
size = 3G
algorithm = zstd
CONFIG
start_daemon --config "$work/config"
expect "the default export" "$uri" "$(unix_uri first)"
expect "first's size" "$(nbdinfo --size "$uri")" $((16 << 20))
expect "second's size" "$(nbdinfo --size "$(unix_uri second)")" $((3 << 30))

nbdinfo --json "$uri" | python3 -c '
import json, sys
export, = json.load(sys.stdin)["exports"]
expected = {
    "is_read_only": False, "is_rotational": False, "can_cache": True, "can_df": True, "can_fast_zero": True,
    "can_flush": True, "can_fua": True, "can_multi_conn": True, "can_trim": True, "can_zero": True,
    "block_size_minimum": 1, "block_size_preferred": 4096, "block_size_maximum": 64 << 20,
}
wrong = {k: export.get(k) for k in expected if export.get(k) != expected[k]}
assert not wrong, wrong
assert "base:allocation" in export["contexts"], export["contexts"]'

nbdinfo --list --json "nbd+unix://?socket=$socket" | python3 -c '
import json, sys
exports = {e["export-name"]: e["export-size"] for e in json.load(sys.stdin)["exports"]}
assert exports == {"first": 16 << 20, "second": 3 << 30}, exports'

nbdsh -u "$uri" -c 'h.pwrite(b"x" * 65536, 1 << 20)' -c 'h.pwrite(bytes(65536), 2 << 20)'
nbdinfo --map --json "$uri" | python3 -c '
import json, sys
data = [(e["offset"], e["length"]) for e in json.load(sys.stdin) if e["type"] == 0]
assert data == [(1 << 20, 65536)], data'
stop_daemon
