#!/usr/bin/env bash
# --takeover: daemons take over from each other ten times under a verifying load on several connections, and no request is
# lost or repeated. One that cannot take over, or dies at it, changes nothing.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/takeover.sh
. "$(dirname "$0")/../lib/takeover.sh"

finally pkill -KILL -f -- "--unix $work/nbd.sock"
common=(--size 64M --supervise)
start_daemon "${common[@]}"

cat >"$work/load.py" <<'PYTHON'
"""Requests of all kinds, many in flight, whose results are known. Each connection has its own part of the device: what it
has written it reads again, and every request is answered exactly once."""
import nbd, os, random, sys, threading, time

uri, stop_file, part_bytes = sys.argv[1], sys.argv[2], 16 << 20
PAGE = 4096
failures = []


def work(part):
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    rng = random.Random(part)
    base = part * part_bytes
    content = {}  # page -> its bytes; of what is not there nothing is known yet
    requests = answers = 0

    def answered(_, error, count=1):
        nonlocal answers
        answers += 1
        assert error.value == 0, error.value
        return 1

    while not os.path.exists(stop_file):
        # A batch in flight, on pages that do not overlap.
        reads, first = [], rng.randrange(part_bytes // PAGE - 1024)
        for page in range(first, first + 64):
            at, kind = base + page * PAGE, rng.randrange(8)
            requests += 1
            if kind < 4:
                content[page] = (b"%d %d %d" % (part, page, rng.getrandbits(60))).ljust(PAGE, b".")
                h.aio_pwrite(content[page], at, completion=lambda e: answered(None, e))
            elif kind == 4:
                content[page] = bytes(PAGE)
                h.aio_zero(PAGE, at, completion=lambda e: answered(None, e))
            else:
                buffer = nbd.Buffer(PAGE)
                reads.append((page, buffer))
                h.aio_pread(buffer, at, completion=lambda e: answered(None, e))
        # Long reads, one behind the other, of pages that this batch leaves alone.
        for page in range(max(first - 128, 0), first - 31, 32):
            buffer = nbd.Buffer(32 * PAGE)
            reads.append((page, buffer))
            requests += 1
            h.aio_pread(buffer, base + page * PAGE, completion=lambda e: answered(None, e))
        if rng.randrange(20) == 0:
            # Longer than the server's window: it streams in.
            page, pages = first + 64, 512
            block = b"".join((b"%d long %d %d" % (part, page + i, requests)).ljust(PAGE, b"-") for i in range(pages))
            content.update((page + i, block[i * PAGE:(i + 1) * PAGE]) for i in range(pages))
            requests += 1
            h.aio_pwrite(block, base + page * PAGE, completion=lambda e: answered(None, e))
        while h.aio_in_flight() > 0:
            h.poll(-1)
        for first, buffer in reads:
            found = buffer.to_bytearray()
            for page in range(first, first + len(found) // PAGE):
                expected = content.get(page)
                at = (page - first) * PAGE
                assert expected is None or found[at:at + PAGE] == expected, "page %d of %d" % (page, part)
        assert answers == requests, (answers, requests)
    for page, expected in content.items():
        assert h.pread(PAGE, base + page * PAGE) == expected, "page %d of %d at the end" % (page, part)
    print("connection %d: %d requests, %d pages verified" % (part, requests, len(content)))
    h.shutdown()


def guarded(part):
    try:
        work(part)
    except BaseException as e:
        failures.append("connection %d: %r" % (part, e))


threads = [threading.Thread(target=guarded, args=(part,)) for part in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit("\n".join(failures) or 0)
PYTHON
load() { exec python3 "$work/load.py" "$uri" "$work/stop"; }
load & load=$!

for round in 1 2 3 4 5 6 7 8 9 10; do
  sleep 0.3
  taken_over "${common[@]}"
  kill -0 "$load" || fail "the load has ended in round $round"
done
expect "what the last one has printed" "$(cat "$work/taken")" "$uri"
expect "daemons that handed over" "$(grep -c 'handed over to' "$work/uzramd.log")" 10

echo "--- what cannot take over changes nothing"
refused "the state holds it with 67108864 bytes, not 33554432" --size 32M
refused "does not serve ${work//./\\.}/uzram\\.state" --size 64M --state "$work"
refused "does not listen on TCP port 1" --size 64M --port 1

echo "--- one that dies on the way, wherever"
cat >"$work/mortal.py" <<'PYTHON'
"""Speaks as a new daemon does, and ends at a step of its choice."""
import array, socket, struct, sys

path, last, version = sys.argv[1], sys.argv[2], int(sys.argv[3])
MAGIC = 0x31304B544D525A55
message = lambda step: struct.pack("<QIIIIII256s", MAGIC, step, version, 0, 0, 0, 0, b"") + bytes(0)
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.settimeout(20)
s.connect(path)


def receive():
    data, fds, _, _ = socket.recv_fds(s, 288, 253, socket.MSG_WAITALL)
    return struct.unpack_from("<QI", data)[1] if data else None, len(fds)


if last == "garbage":
    s.sendall(b"x" * 288)
    assert receive() == (None, 0)
    sys.exit()
s.sendall(message(1))
assert receive() == (3, 1)
if last == "hello":
    sys.exit()
s.sendall(message(4))
step, fds = receive()
assert step == 5 and fds >= 3 + 4, (step, fds)
if last == "silent":
    assert receive() == (None, 0)  # until the daemon gives up
PYTHON
for last in garbage hello go; do
  python3 "$work/mortal.py" "$control.takeover" "$last" 1
  uzramctl list >/dev/null
done
expect "takeovers that were called off" "$(grep -c 'has not taken over: serving on' "$work/uzramd.log")" 3
kill -0 "$load" || fail "the load has ended"

touch "$work/stop"
wait "$load" || fail "the load met an error"
stop_daemon

echo "--- a daemon whose memory is its own cannot hand over"
start_daemon --size 64M
refused "no daemon that can hand over waits there" --size 64M
stop_daemon
