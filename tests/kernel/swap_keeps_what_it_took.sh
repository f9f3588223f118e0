#!/usr/bin/env bash
# Swap through the kernel's nbd: a program that may use less memory than it writes finds every byte again.
. "$(dirname "$0")/lib.sh"

start_daemon --size 256M
connect_unix /dev/nbd0
mkswap /dev/nbd0
swapon /dev/nbd0
finally swapoff /dev/nbd0

make_small_cgroup 48M

cat >"$work/fill.py" <<'PYTHON'
import hashlib, mmap, os
PAGE, PAGES = 4096, 128 * 256  # 128 MiB

def content(i):
    """Page i: a fifth of the pages is noise, the rest text; no two are alike."""
    seed = hashlib.sha512(b"%d" % i).digest()
    return seed * 64 if i % 5 else b"".join(hashlib.sha512(seed + b"%d" % k).digest() for k in range(64))

memory = mmap.mmap(-1, PAGE * PAGES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(PAGES):
    memory[i * PAGE:(i + 1) * PAGE] = content(i)
for i in list(range(0, PAGES, 2)) + list(range(PAGES - 1, 0, -2)):
    assert memory[i * PAGE:(i + 1) * PAGE] == content(i), "page %d has changed" % i
print("verified %d MiB" % (PAGE * PAGES >> 20))
PYTHON
(echo "$BASHPID" >"$work/cgroup/small/cgroup.procs" && exec python3 "$work/fill.py")

swapped=$(awk '/^pswpout/ { print $2 * 4 }' /proc/vmstat)
echo "swapped out ${swapped} KiB"
[ "$swapped" -gt 65536 ] || fail "hardly anything was swapped"
swapoff /dev/nbd0
disconnect /dev/nbd0
stop_daemon
