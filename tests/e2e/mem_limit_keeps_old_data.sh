#!/usr/bin/env bash
# At mem_limit a write gets ENOSPC and the pages it would have replaced stay readable; what is freed can be used again.
. "$(dirname "$0")/lib.sh"

start_daemon --size 64M --mem-limit 8M
nbdsh -u "$uri" -c - <<'PYTHON'
import errno, random
size, stored = h.get_size(), {}
full_at = None
for offset in range(0, size, 4096):
    page = random.randbytes(4096)
    try:
        h.pwrite(page, offset)
        stored[offset] = page
    except nbd.Error as e:
        assert e.errnum == errno.ENOSPC, e
        full_at = offset
        break
assert full_at is not None and (6 << 20) < full_at <= (8 << 20), full_at

def check():
    for offset, page in stored.items():
        assert h.pread(4096, offset) == page, ("lost", offset)
    assert h.pread(4096, full_at) == bytes(4096)

check()
refused = 0
for offset in random.sample(list(stored), 200):  # an overwrite needs room for the new page beside the old one
    page = random.randbytes(4096)
    try:
        h.pwrite(page, offset)
        stored[offset] = page
    except nbd.Error as e:
        assert e.errnum == errno.ENOSPC, e
        refused += 1
assert refused > 0
check()
for offset in list(stored)[:64]:
    h.trim(4096, offset)
    stored[offset] = bytes(4096)
page = random.randbytes(4096)
h.pwrite(page, full_at)
assert h.pread(4096, full_at) == page
h.pwrite(b"z" * 4096, size - 4096)  # a same-filled page needs no memory
PYTHON
[ "$(mm_stat zram0 3)" -le $((8 << 20)) ] || fail "more memory than mem_limit: $(mm_stat zram0 3)"
expect "mem_limit" "$(mm_stat zram0 4)" $((8 << 20))
uzramctl set zram0 mem_limit 16M
nbdsh -u "$uri" -c 'import random' -c 'h.pwrite(random.randbytes(4 << 20), 32 << 20)'
stop_daemon
