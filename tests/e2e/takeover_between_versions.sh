#!/usr/bin/env bash
# --takeover: a client with extended headers goes on, also where the daemons' images are of other versions and the state
# is recovered instead; what cannot be served is refused in one line, and the running daemon serves on.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/takeover.sh
. "$(dirname "$0")/../lib/takeover.sh"

finally pkill -KILL -f -- "--unix $work/nbd.sock"
state=$(mktemp -d /dev/shm/uzram-test.XXXXXX)
finally rm -rf "$state"

cat >"$work/extended.py" <<'PYTHON'
"""Writes and reads pages with extended headers until a file exists; each request is answered exactly once."""
import os, random, socket, struct, sys

path, stop_file, PAGE = sys.argv[1], sys.argv[2], 4096
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(path)


def receive(n):
    got = b""
    while len(got) < n:
        part = s.recv(n - len(got))
        assert part, "the connection has ended"
        got += part
    return got


def option(number, data=b""):
    s.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)
    while True:
        _, _, kind, length = struct.unpack(">QIII", receive(20))
        receive(length)
        assert kind < 1 << 31, (number, kind)
        if kind == 1:  # acknowledged
            return


def ask(command, cookie, offset, length, payload=b""):
    flags = 1 << 5 if payload else 0
    s.sendall(struct.pack(">IHHQQQ", 0x21E41C71, flags, command, cookie, offset, length) + payload)


def answer(cookie):
    """The data of the chunks of one reply."""
    data, done = b"", False
    while not done:
        magic, flags, kind, its, _, length = struct.unpack(">IHHQQQ", receive(32))
        assert (magic, its) == (0x6E8A278C, cookie) and kind in (0, 1), (hex(magic), kind, its, cookie)
        payload = receive(length)
        data += payload[8:] if kind == 1 else b""
        done = flags & 1
    return data


receive(18)
s.sendall(struct.pack(">I", 3))
option(11)  # extended headers
option(7, struct.pack(">IH", 0, 0))
rng, content, requests = random.Random(1), {}, 0
while not os.path.exists(stop_file):
    page = rng.randrange(4096)
    requests += 2
    content[page] = (b"%d %d " % (page, requests)).ljust(PAGE, b".")
    ask(1, requests, page * PAGE, PAGE, content[page])
    answer(requests)
    page = rng.choice(list(content))
    ask(0, requests + 1, page * PAGE, PAGE)
    assert answer(requests + 1) == content[page], page
for page, expected in content.items():
    requests += 2
    ask(0, requests, page * PAGE, PAGE)
    assert answer(requests) == expected, page
ask(2, 0, 0, 0)
print("%d pages verified" % len(content))
PYTHON

cat >"$work/relay.py" <<'PYTHON'
"""Stands between a new daemon and the one that runs, which becomes one whose image is of another version."""
import os, socket, struct, sys

path, real = sys.argv[1], sys.argv[2]
SIZE = 288
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("ready", flush=True)
new = listener.accept()[0]
old = socket.socket(socket.AF_UNIX)
old.connect(real)
while True:
    for one, other in ((new, old), (old, new)):
        data, fds, _, _ = socket.recv_fds(one, SIZE, 253, socket.MSG_WAITALL)
        if not data:
            sys.exit()
        step, version = struct.unpack_from("<II", data, 8)
        if step == 3:
            data = data[:12] + struct.pack("<I", version + 1) + data[16:]
        socket.send_fds(other, [data], fds)
        for fd in fds:
            os.close(fd)
        if step == 6:
            sys.exit()
PYTHON

# Of another version for the next one that asks.
with_another_version() {
  mv "$control.takeover" "$work/real"
  : >"$work/relayed"
  python3 "$work/relay.py" "$control.takeover" "$work/real" >"$work/relayed" & relay=$!
  wait_until 20 test -s "$work/relayed"
  "$@"
  wait "$relay" || true
  rm -f "$control.takeover"
  mv "$work/real" "$control.takeover"
}
load() { exec python3 "$work/extended.py" "$socket" "$work/stop"; }

start_daemon --size 16M --state "$state"
load & load=$!
for _ in 1 2 3; do
  sleep 0.2
  taken_over --size 16M --state "$state"
done
kill -0 "$load" || fail "the load has ended"

echo "--- an image of another version: the state is recovered"
with_another_version taken_over --size 16M --state "$state"
grep -q 'took over 1 devices with' <(said) || fail "it was not recovered: $(said)"
kill -0 "$load" || fail "the load has ended"

echo "--- what cannot be served: the running daemon serves on"
# flip OFFSET: one bit of the state; again, and it is as it was.
flip() {
  local was
  was=$(od -An -tu1 -j "$1" -N 1 "$state/uzram.state")
  # shellcheck disable=SC2059  # the format is the byte
  printf "\\x$(printf %x $((was ^ 16)))" | dd of="$state/uzram.state" bs=1 seek="$1" conv=notrunc status=none
}
flip $((4096 + 8))
refused 'it is of version [0-9]*, this program reads version' --size 16M --state "$state"
flip $((4096 + 8))
record=$(grep -obam 1 zram0 "$state/uzram.state" | head -n 1 | cut -d: -f1)
flip "$record"
refused 'damaged' --size 16M --state "$state"
with_another_version refused 'holds the record of a device, and it is damaged' --size 16M --state "$state"
flip "$record"
kill -0 "$load" || fail "the load has ended"
taken_over --size 16M --state "$state"
touch "$work/stop"
wait "$load" || fail "the load met an error"
stop_daemon
