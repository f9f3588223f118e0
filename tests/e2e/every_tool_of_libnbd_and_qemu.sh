#!/usr/bin/env bash
# What else libnbd's and qemu's tools do with an export: maps, dumps, JSON, copies of every kind, a proxy in front of it,
# and every command and flag that libnbd's shell reaches, by the rules and against them.
. "$(dirname "$0")/lib.sh"

start_daemon --size 64M
make_data "$work/in" 16

# How each page is stored, by nbdinfo: page 0 a hole, 1 zeroes, 2 one word, 3 text, 4 noise.
nbdsh -u "$uri" -c 'import os' -c 'h.pwrite(bytes(4096) + b"w" * 4096, 4096)' \
  -c 'h.pwrite((b"some text, " * 400)[:4096], 3 * 4096)' -c 'h.pwrite(os.urandom(4096), 4 * 4096)'
nbdinfo --map=uzram:page --json "$uri" | python3 -c '
import json, sys
runs = [(e["offset"] // 4096, e["length"] // 4096, e["type"]) for e in json.load(sys.stdin)]
assert runs[:5] == [(0, 1, 1), (1, 2, 2), (3, 1, 4), (4, 1, 8), (5, 16379, 1)], runs'
nbdinfo --map=base:allocation "$uri" | head -n 3
nbdinfo --map --totals "$uri" | grep -q data || fail "no totals"
qemu-img map --output=json -f raw "$uri" | python3 -c '
import json, sys
data = [(e["start"], e["length"]) for e in json.load(sys.stdin) if e["data"]]
assert data == [(4096, 4096), (8192, 3 * 4096)], data'
nbdinfo --json "$uri" | python3 -c '
import json, sys
export, = json.load(sys.stdin)["exports"]
assert {"base:allocation", "uzram:page"} <= set(export["contexts"]), export["contexts"]'
for feature in cache df fast-zero flush fua multi-conn trim write zero; do
  nbdinfo --can "$feature" "$uri" || fail "nbdinfo --can $feature"
done
! nbdinfo --is tls "$uri" || fail "nbdinfo --is tls"
nbdinfo "$uri" | grep -q 'structured packets' || fail "no structured replies"

# Copies: of every kind of client and server, with holes made and kept, in small and large requests.
nbdcopy "$work/in" "$uri"
truncate -s 64M "$work/in"
for options in '--synchronous' '--requests=1 --request-size=4096' '--request-size=33554432' '--allocated' \
  '--destination-is-zero' '--sparse=0' '--threads=2 --connections=2 --flush'; do
  nbdsh -u "$uri" -c 'h.zero(64 << 20, 0)'
  # shellcheck disable=SC2086  # several words
  nbdcopy $options "$work/in" "$uri"
  nbdcopy "$uri" - | cmp - "$work/in"
done
{ nbddump "$uri" || true; } | head -n 4 >"$work/dump"  # head leaves early
[ -s "$work/dump" ] || fail "nbddump says nothing"
qemu-img dd -f raw -O raw bs=1M if="$uri" of="$work/dd"
cmp "$work/in" "$work/dd"
qemu-img measure -O qcow2 -f raw "$uri" >/dev/null
qemu-img convert -W -m 16 -c -f raw -O qcow2 "$uri" "$work/out.qcow2"
qemu-img compare -f qcow2 -F raw "$work/out.qcow2" "$uri"

# Through other servers that are clients of this one.
qemu-nbd --fork --pid-file="$work/proxy.pid" -k "$work/proxy.sock" --persistent --shared=4 -f raw --discard=unmap "$uri"
finally kill "$(cat "$work/proxy.pid")"
nbdcopy "nbd+unix:///?socket=$work/proxy.sock" - | cmp - "$work/in"
qemu-io -f raw -c 'write -P 0x31 1M 64k' -c 'read -P 0x31 1M 64k' -c 'discard 1M 64k' -c 'read -P 0 1M 64k' -c flush \
  "nbd+unix:///?socket=$work/proxy.sock" >/dev/null

# qemu-io: offsets of every size, vectors, flags, and what is refused.
qemu-io -f raw -c 'write -f -P 1 511 1' -c 'read -P 1 511 1' -c 'writev -P 2 4095 1 4096 7' -c 'readv -P 2 4095 4104' \
  -c 'aio_write -z 8k 64k' -c 'aio_flush' -c 'read -P 0 8k 64k' -c 'map' -c 'alloc 0 64k' "$uri" >"$work/qemu-io"
! grep -i failed "$work/qemu-io" || fail "qemu-io"
! qemu-io -f raw -c 'write 64M 4k' "$uri" 2>/dev/null | grep -q '^wrote' || fail "a write past the end was taken"

# libnbd's shell: every command, with every flag that may stand there; what the library would refuse, sent all the same.
nbdsh -u "$uri" -c '
import errno, nbd
h.pwrite(b"a" * 5000, 1000, nbd.CMD_FLAG_FUA)
assert h.pread(5000, 1000) == b"a" * 5000
chunks = []
h.pread_structured(1 << 20, 0, lambda b, o, s, e: chunks.append((o, len(b), s)), nbd.CMD_FLAG_DF)
assert len(chunks) == 1
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
h.trim(4096, 4096, nbd.CMD_FLAG_FUA)
h.cache(64 << 20, 0)
h.flush()
h.set_strict_mode(0)
def fails(code, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as e:
        assert e.errnum == code, (e.errnum, code)
    else:
        assert False, call
fails(errno.EINVAL, h.pread, 4096, 64 << 20)
fails(errno.ENOSPC, h.pwrite, b"x", 64 << 20)
fails(errno.ENOSPC, h.zero, 4096, (64 << 20) - 1)
fails(errno.EINVAL, h.trim, 4096, 64 << 20)
fails(errno.EINVAL, h.cache, 1, 64 << 20)
fails(errno.EINVAL, h.trim, 4096, 0, 1 << 9)
fails(errno.EINVAL, h.flush, nbd.CMD_FLAG_REQ_ONE)
h.flush()'
# The handshake by hand.
nbdsh -c '
h.set_opt_mode(True)
h.set_full_info(True)
h.add_meta_context("base:allocation")
h.add_meta_context("uzram:page")
h.connect_unix("'"$socket"'")
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ["zram0"], names
contexts = []
h.clear_meta_contexts()
h.add_meta_context("uzram:")
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["uzram:page"], contexts
h.opt_info()
assert h.get_size() == 64 << 20
h.set_export_name("none")
try:
    h.opt_info()
    assert False
except nbd.Error:
    pass
h.set_export_name("zram0")
h.clear_meta_contexts()
h.add_meta_context("uzram:page")
h.opt_go()
states = []
h.block_status(1 << 20, 0, lambda context, offset, entries, error: states.append(context))
assert states == ["uzram:page"], states'
stop_daemon
