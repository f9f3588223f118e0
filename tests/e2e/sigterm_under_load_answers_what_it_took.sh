#!/usr/bin/env bash
# SIGTERM while clients write: each write is answered well or its connection is closed, no reply is cut or wrong, what
# was answered before is stored, the daemon ends with status 0 and its sockets are gone.
. "$(dirname "$0")/lib.sh"

start_daemon --size 256M
cat >"$work/load.py" <<'PYTHON'
import os, random, sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size, lane, lanes = h.get_size(), int(sys.argv[2]), 4
open(sys.argv[3], "w").close()
span = size // lanes
acknowledged, last = 0, {}
try:
    while True:
        cookies = []
        for _ in range(16):
            page = random.randbytes(2048) * 2
            offset = lane * span + random.randrange(span // 4096) * 4096
            cookies.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(page)), offset))
            last[offset] = page
        for cookie in cookies:
            while not h.aio_command_completed(cookie):
                h.poll(-1)
            acknowledged += 1
        offset = random.choice(list(last))
        assert h.pread(4096, offset) == last[offset], "an acknowledged write is not stored"
except nbd.Error as e:
    assert acknowledged > 1000, "too little load: %d" % acknowledged
    if e.errno not in ("ESHUTDOWN", "ENOTCONN", "EPIPE", "ECONNRESET", None, "EINVAL"):
        raise
    assert h.aio_is_dead() or h.aio_is_closed() or e.errno == "ESHUTDOWN", "the connection is alive, yet %s" % e
    print("lane %d: %d writes acknowledged, then: %s" % (lane, acknowledged, e))
PYTHON
clients=()
for lane in 0 1 2 3; do
  python3 "$work/load.py" "$uri" "$lane" "$work/up.$lane" &
  clients+=($!)
  finally kill $!
done
for lane in 0 1 2 3; do wait_until 20 test -e "$work/up.$lane"; done
sleep 3
started=$SECONDS
stop_daemon
[ $((SECONDS - started)) -le 5 ] || fail "the daemon took $((SECONDS - started)) s to stop"
for client in "${clients[@]}"; do wait "$client" || fail "a client saw a wrong answer"; done
