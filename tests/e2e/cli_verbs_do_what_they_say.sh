#!/usr/bin/env bash
# Every verb of uzramctl against a real daemon, and the control endpoint by hand with curl.
. "$(dirname "$0")/lib.sh"

start_daemon --size 64M --mem-limit 32M
make_data "$work/data" 16
nbdcopy "$work/data" "$uri"

# list: zramctl's columns.
expect "the headings" "$(uzramctl list | head -n 1 | xargs)" \
  "NAME ALGORITHM DISKSIZE DATA COMPR TOTAL COMP-RATIO STREAMS MOUNTPOINT"
expect "some columns" "$(uzramctl list --noheadings --raw --output name,disksize,Mem-Limit)" "zram0 64M 32M"
expect "bytes" "$(uzramctl list -n -b --raw -o DISKSIZE,ZERO-PAGES)" "$((64 << 20)) $(mm_stat zram0 6)"
expect "all columns" "$(uzramctl list --output-all | head -n 1 | wc -w)" 13
expect "JSON" "$(uzramctl list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["devices"][0]["name"])')" zram0

# show: the kernel's forms.
expect "mm_stat's columns" "$(uzramctl show zram0 mm_stat | wc -w)" 9
expect "comp_algorithm" "$(uzramctl show zram0 comp_algorithm)" "[lz4] lz4hc zstd "
expect "disksize" "$(uzramctl show zram0 disksize)" $((64 << 20))
expect "initstate" "$(uzramctl show zram0 initstate)" 1
expect "io_stat's columns" "$(uzramctl show zram0 io_stat | wc -w)" 4
expect "bd_stat" "$(uzramctl show zram0 bd_stat)" "       0        0        0"

# classes: its rows add up to what mm_stat says.
uzramctl classes zram0 >"$work/classes"
expect "the header" "$(head -n 1 "$work/classes" | xargs)" \
  "class size almost_full almost_empty obj_allocated obj_used pages_used pages_per_zspage"
expect "rows" "$(grep -c '^ *[0-9]' "$work/classes")" 69
expect "the pages" $(($(awk '/Total/ { print $6 }' "$work/classes") * 4096)) "$(mm_stat zram0 3)"
expect "the columns of kernel 6" "$(uzramctl classes zram0 --format=kernel-6 | head -n 1 | wc -w)" 18
expect "classes as JSON" \
  "$(uzramctl classes zram0 --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["classes"]))')" 69

# set.
uzramctl set zram0 mem_limit 48M
expect "mem_limit" "$(mm_stat zram0 4)" $((48 << 20))
nbdsh -u "$uri" -c 'for at in range(0, 16 << 20, 8192): h.trim(4096, at)'
before=$(mm_stat zram0 3)
uzramctl set zram0 compact 1
[ "$(mm_stat zram0 3)" -lt "$before" ] || fail "compact freed nothing of $before bytes"
[ "$(mm_stat zram0 7)" -gt 0 ] || fail "pages_compacted is 0"
uzramctl set zram0 mem_used_max 0
expect "mem_used_max" "$(mm_stat zram0 5)" "$(mm_stat zram0 3)"

# scrub.
expect "a scrub" "$(uzramctl scrub zram0 | grep -o ', [0-9]* damaged$')" ", 0 damaged"
expect "its pages" "$(uzramctl scrub zram0 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["pages"])')" \
  $(($(mm_stat zram0 1) / 4096))

# create, reset, remove.
uzramctl create second --size 8M --algorithm 'zstd(level=9)' --mem-limit 4M --chain 8 --no-check
expect "the second device" "$(uzramctl list -n --raw -o NAME,ALGORITHM,DISKSIZE,MEM-LIMIT | tail -n 1)" \
  "second zstd(level=9) 8M 4M"
expect "its classes" "$(uzramctl classes second | grep -c '^ *[0-9]')" 119
uzramctl reset zram0
expect "mm_stat after a reset" "$(mm_stat zram0 1) $(mm_stat zram0 3)" "0 0"
nbdcopy "$uri" - | cmp -n $((64 << 20)) - /dev/zero
uzramctl set second reset 1
uzramctl remove second
expect "the devices" "$(uzramctl list -n --raw -o NAME)" zram0
uzramctl remove zram0
expect "no device" "$(uzramctl list)" ""
uzramctl create zram0 --size 1M

# estimate: no daemon takes part.
"$UZRAM_BIN/uzramctl" estimate --algorithm lz4 --algorithm zstd --classes "$work/data" >"$work/estimate"
grep -q lz4 "$work/estimate" && grep -q zstd "$work/estimate" && grep -q pages_per_zspage "$work/estimate"
"$UZRAM_BIN/uzramctl" estimate --json "$work/data" |
  python3 -c 'import json, sys; a = json.load(sys.stdin)["algorithms"]; assert len(a) == 3 and all(x["ratio"] > 1 for x in a), a'

# The control endpoint.
http() { curl -sS --unix-socket "$control" "$@"; }
status() { http -o "$work/body" -w '%{http_code}' "$@"; }
expect "GET of an attribute" "$(http http://x/v1/devices/zram0/disksize)" $((1 << 20))
expect "PUT" "$(status -X PUT -d 1 http://x/v1/devices/zram0/compact)" 204
expect "POST" "$(status -d '{"name": "b", "size": "1M"}' http://x/v1/devices)" 201
expect "POST again" "$(status -d '{"name": "b", "size": "1M"}' http://x/v1/devices)" 409
expect "DELETE" "$(status -X DELETE http://x/v1/devices/b)" 204
expect "an unknown device" "$(status http://x/v1/devices/b)" 404
expect "its error" "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["error"])' "$work/body")" "no device 'b'"
expect "the socket's mode" "$(stat -c %a "$control")" 600
http http://x/metrics >"$work/metrics"
expect "the end of the metrics" "$(tail -n 1 "$work/metrics")" "# EOF"
python3 - "$work/metrics" <<'PYTHON'
import re, sys
types, seen = {}, set()
for line in open(sys.argv[1]).read().splitlines()[:-1]:
    if line.startswith("# TYPE "):
        _, _, name, kind = line.split()
        assert name not in types, line
        types[name] = kind
    elif not line.startswith("#"):
        name, labels, value = re.fullmatch(r'(\w+)(\{[^}]*\})? (\d+)', line).groups()
        family = {"_total": "counter", "_info": "info"}
        base = next((name[:-len(s)] for s, k in family.items() if name.endswith(s) and types.get(name[:-len(s)]) == k), name)
        assert base in types and (types[base] == "gauge" or base != name), line
        assert (name, labels) not in seen, line
        seen.add((name, labels))
assert len(seen) > 15
PYTHON

# What takes long is told to a person who watches, and to nobody else.
python3 - "$UZRAM_BIN/uzramctl" "$work/slow.sock" <<'PYTHON'
import os, pty, socket, subprocess, sys, threading, time
tool, path = sys.argv[1:]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()

def answer():
    while True:
        client, _ = server.accept()
        client.recv(4096)
        time.sleep(2.5)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n1024\n")
        client.close()

threading.Thread(target=answer, daemon=True).start()
command = [tool, "--control", path, "show", "zram0", "disksize"]
quiet = subprocess.run(command, capture_output=True)
assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"1024\n", b""), quiet
terminal, side = pty.openpty()
watched = subprocess.run(command, stdout=subprocess.PIPE, stderr=side)
os.close(side)
shown = b""
try:
    while piece := os.read(terminal, 4096):  # one read need not bring all of it
        shown += piece
except OSError:
    pass  # EIO: all was read, and nobody is at the other side any more
assert watched.stdout == b"1024\n" and b"waiting for the daemon: 1 s" in shown, (watched, shown)
assert shown.endswith(b"\r\x1b[K"), shown
PYTHON

"$UZRAM_BIN/uzramd" --help | grep -q -- '--size SIZE'
"$UZRAM_BIN/uzramctl" --help | grep -q estimate
"$UZRAM_BIN/uzramctl" list --help | grep -q COMP-RATIO
expect "the version" "$("$UZRAM_BIN/uzramd" --version | cut -d' ' -f1)" uzramd
stop_daemon
