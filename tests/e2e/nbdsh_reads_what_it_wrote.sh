#!/usr/bin/env bash
# nbdsh: every command with offsets and lengths of every kind, against a plain array; then requests that are refused, on
# a connection that stays good.
. "$(dirname "$0")/lib.sh"

start_daemon --size 8M
nbdsh --base-allocation -u "$uri" -c - <<'PYTHON'
import errno, random
size = h.get_size()
model = bytearray(size)
seed = random.randrange(1 << 32)
print("seed", seed)
random.seed(seed)

def some_range(most):
    length = random.choice([1, 7, 512, 4096, 8192, random.randint(1, most)])
    offset = random.randint(0, size - length)
    return (offset & ~4095 if random.random() < .5 and (offset & ~4095) + length <= size else offset), length

for step in range(3000):
    what = random.choice(["write", "write", "read", "read", "zero", "trim"])
    offset, length = some_range(200000)
    if what == "write":
        kind = random.random()
        data = random.randbytes(length) if kind < .3 else bytes([step % 256]) * length if kind < .6 \
            else (b"step %d of the model " % step * (length // 8 + 1))[:length]
        h.pwrite(data, offset, random.choice([0, nbd.CMD_FLAG_FUA]))
        model[offset:offset + length] = data
    elif what == "zero":
        h.zero(length, offset, random.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO]))
        model[offset:offset + length] = bytes(length)
    elif what == "trim":
        h.trim(length, offset)
        first, last = -(-offset // 4096) * 4096, (offset + length) // 4096 * 4096
        got = h.pread(length, offset)
        for i in range(offset, offset + length):  # rounded inwards: what is outside of whole pages stays
            if not first <= i < last:
                assert got[i - offset] == model[i], ("trim changed", i)
        model[offset:offset + length] = got
    else:
        assert h.pread(length, offset) == model[offset:offset + length], (step, offset, length)
h.flush()
h.cache(size, 0)
assert h.pread(size, 0) == model
extents = []
h.block_status(size, 0, lambda context, offset, entries, error: extents.extend(entries))
position = 0
for length, flags in zip(extents[::2], extents[1::2]):
    if flags & nbd.STATE_ZERO:
        assert not any(model[position:position + length]), ("not zero", position, length)
    position += length
assert 0 < position <= size

h.set_strict_mode(0)
def refused(code, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as e:
        assert e.errnum == code, (call, arguments, e)
    else:
        raise AssertionError((call, arguments))
refused(errno.EINVAL, h.pread, 4096, size)
refused(errno.EINVAL, h.pread, 2, size - 1)
refused(errno.ENOSPC, h.pwrite, b"xx", size - 1)
refused(errno.ENOSPC, h.zero, 4096, size)
refused(errno.EINVAL, h.trim, 4096, size)
refused(errno.EINVAL, h.cache, 4096, size)
refused(errno.EINVAL, h.pread, 4096, (1 << 63) - 4096)
assert h.pread(size, 0) == model, "a refused request has changed something"
h.shutdown()
PYTHON
stop_daemon
