#!/usr/bin/env bash
# What is written while its page is being moved stays, whatever the page was before; and clients that read, write and
# discard beside passes, compactions and scrubs see what they wrote.
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/writeback.sh
. "$(dirname "$0")/../lib/writeback.sh"

backing=$work/backing
start_daemon --size 256M --backing "$backing" --backing-size 4M

# Beside readers and writers.
nbdsh -u "$uri" -c - <<'PYTHON' &
import random, time
random.seed(3)
held, end = {}, time.monotonic() + 5
while time.monotonic() < end:
    page = random.randrange(512)
    what = random.random()
    if what < .3:
        held[page] = random.randbytes(4096) if what < .15 else b"%09d " % random.randrange(1 << 29) * 410
        held[page] = held[page][:4096]
        h.pwrite(held[page], page * 4096)
    elif what < .35:
        held[page] = bytes(4096)
        h.trim(4096, page * 4096)
    elif what < .5 and page in held:
        at = random.randrange(4000)
        held[page] = held[page][:at] + b"part" + held[page][at + 4:]
        h.pwrite(b"part", page * 4096 + at)
    else:
        assert h.pread(4096, page * 4096) == held.get(page, bytes(4096)), page
for page in range(512):
    assert h.pread(4096, page * 4096) == held.get(page, bytes(4096)), page
PYTHON
clients=($!)
# Two that each have a half of the same pages, and write a few bytes at a time.
for half in 0 2048; do
  HALF=$half nbdsh -u "$uri" -c - <<'PYTHON' &
import os, random, time
half, end = int(os.environ["HALF"]), time.monotonic() + 5
random.seed(half)
held = {page: random.randbytes(2048) for page in range(600, 632)}
for page in held:
    h.pwrite(held[page], page * 4096 + half)
while time.monotonic() < end:
    page, at, data = random.choice(list(held)), random.randrange(2040), random.randbytes(8)
    h.pwrite(data, page * 4096 + half + at)
    held[page] = held[page][:at] + data + held[page][at + 8:]
    page = random.choice(list(held))
    assert h.pread(2048, page * 4096 + half) == held[page], page
PYTHON
  clients+=($!)
done
passes=0
while kill -0 "${clients[@]}" 2>"$work/out"; do
  uzramctl set zram0 idle all
  what=(idle page_indexes=600-631 huge)
  uzramctl set zram0 writeback "${what[$((++passes % 3))]}"
  uzramctl set zram0 compact 1
  uzramctl scrub zram0 >"$work/out" || fail "$(cat "$work/out")"
done
for client in "${clients[@]}"; do wait "$client"; done
nbdsh -u "$uri" -c 'h.trim(16 << 20, 0)'
[ "$passes" -gt 3 ] || fail "only $passes passes"
[ "$(bd_stat 3)" -gt 100 ] || fail "they wrote $(bd_stat 3) blocks only"
expect "what is left after a discard of all" "$(bd_stat 1) $(mm_stat zram0 1) $(mm_stat zram0 3)" "0 0 0"

# A pass over a large table takes a while: page 0 is chosen at its beginning, as it is incompressible, and again later on,
# when it has been overwritten by what compresses.
TOOL="$UZRAM_BIN/uzramctl" CONTROL="$control" nbdsh -u "$uri" -c - <<'PYTHON'
import os, subprocess, time

def start_pass():
    return subprocess.Popen([os.environ["TOOL"], "--control", os.environ["CONTROL"],
                             "set", "zram0", "writeback", "page_indexes=0-65535"])

for at in range(0, 256 << 20, 32 << 20):
    h.pwrite(b"\1" * (32 << 20), at)
begin = time.monotonic()
assert start_pass().wait() == 0
seconds = time.monotonic() - begin
for n in range(10):
    h.pwrite(os.urandom(4096), 0)
    data = (b"line %d of a text\n" % n * 300)[:4096]
    running = start_pass()
    time.sleep(seconds * (n + 1) / 11)
    h.pwrite(data, 0)
    assert running.wait() == 0
    assert h.pread(4096, 0) == data, n
PYTHON
stop_daemon
