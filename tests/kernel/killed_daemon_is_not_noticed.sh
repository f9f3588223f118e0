#!/usr/bin/env bash
# A supervised daemon is killed again and again, under a verifying load on ext4 and then as swap that is in use: every byte
# is right, fsck finds nothing, and no I/O error is seen. UZRAM_KILLS says how often in each of the two parts; 3 if unset.
. "$(dirname "$0")/lib.sh"

kills=${UZRAM_KILLS:-3}

watch_there() {
  "$UZRAM_BIN/uzramctl" --control "$control" attach zram0 /dev/nbd0 --watch --connections 1 "$@" 2>>"$work/watch.log" &
  watcher=$!
  finally kill "$watcher"
}
end_watch() {
  uzramctl detach /dev/nbd0
  wait "$watcher" || fail "the watcher ended with status $? after detach"
}
worker() { pgrep -P "$daemon_pid"; }
is_another() { [ -n "$(worker)" ] && [ "$(worker)" != "$1" ]; }
reconnects() { grep -c 'connected again' "$work/watch.log" || true; }
reconnected_since() { [ "$(reconnects)" -gt "$1" ]; }
# Rounds that the load has ended: it goes on, and is not only waiting.
rounds() { wc -l <"$work/rounds"; }
rounds_since() { [ "$(rounds)" -gt "$1" ]; }

# kill_daemon LOAD: and waits until the kernel has its connection again, and the load has passed everything once.
kill_daemon() {
  local before count start=$EPOCHREALTIME
  before=$(worker) count=$(reconnects)
  kill -KILL "$before"
  wait_until 10 is_another "$before"
  wait_until 30 reconnected_since "$count"
  count=$(rounds)
  wait_until 60 rounds_since $((count + 1))
  kill -0 "$1" || fail "the load has ended"
  awk -v from="$start" -v to="$EPOCHREALTIME" 'BEGIN { printf "killed; the load went on within %.1f s\n", to - from }'
}
no_io_errors() {
  ! dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|(Read|Write)-error on swap' ||
    fail "the kernel has met an I/O error"
}
finally pkill -KILL -f -- "--unix $work/nbd.sock"
start_daemon --size 192M --supervise --swap-safe --reserve 224M

echo "--- ext4 under a verifying load, $kills kills"
mkdir "$work/fs"
watch_there --mkfs ext4 --mount "$work/fs"
wait_until 20 mountpoint -q "$work/fs"
cat >"$work/files.py" <<'PYTHON'
import os, random, sys

folder, stop, rounds = sys.argv[1:]
rng = random.Random(7)
written = {}


def content(seed):
    return b"".join(b"%d %d;" % (seed, i) * 8 for i in range(seed % 1500 + 100))


def verify(name):
    with open(folder + "/" + name, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert f.read() == content(written[name]), name


while not os.path.exists(stop):
    name, seed = "file%d" % rng.randrange(200), rng.getrandbits(30)
    with open(folder + "/" + name, "wb") as f:
        f.write(content(seed))
        f.flush()
        os.fsync(f.fileno())
    written[name] = seed
    verify(rng.choice(list(written)))
    with open(rounds, "a") as f:
        f.write("round\n")
for name in written:
    verify(name)
print("verified %d files" % len(written))
PYTHON
: >"$work/rounds"
python3 "$work/files.py" "$work/fs" "$work/stop" "$work/rounds" & load=$!
wait_until 60 rounds_since 1
for ((i = 0; i < kills; ++i)); do kill_daemon "$load"; done
touch "$work/stop"
wait "$load" || fail "the load met an error"
end_watch
uzramctl attach zram0 /dev/nbd0
e2fsck -f -n /dev/nbd0 || fail "the filesystem is damaged"
uzramctl detach /dev/nbd0
uzramctl set zram0 reset 1
no_io_errors

echo "--- swap in use, $kills kills"
watch_there --swap
wait_until 20 grep -q nbd0 /proc/swaps
make_small_cgroup 32M
cat >"$work/fill.py" <<'PYTHON'
import mmap, os, sys

stop, rounds = sys.argv[1:]
PAGE, PAGES = 4096, 64 * 256  # 64 MiB


def content(i, version):
    return b"%016d%016d" % (i, version) * 128


memory = mmap.mmap(-1, PAGE * PAGES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
version = 0
while not os.path.exists(stop):
    for i in range(PAGES):
        at = slice(i * PAGE, (i + 1) * PAGE)
        assert version == 0 or memory[at] == content(i, version), "page %d has changed" % i
        memory[at] = content(i, version + 1)
        if i % (PAGES // 16) == 0:
            with open(rounds, "a") as f:
                f.write("round\n")
    version += 1
for i in range(PAGES):
    assert memory[i * PAGE:(i + 1) * PAGE] == content(i, version), "page %d has changed" % i
print("verified %d MiB, version %d" % (PAGE * PAGES >> 20, version))
PYTHON
rm "$work/stop"
: >"$work/rounds"
(echo "$BASHPID" >"$work/cgroup/small/cgroup.procs" && exec python3 "$work/fill.py" "$work/stop" "$work/rounds") & load=$!
wait_until 120 rounds_since 20
for ((i = 0; i < kills; ++i)); do kill_daemon "$load"; done
touch "$work/stop"
wait "$load" || fail "the load met an error"
swapped=$(awk '/^pswpout/ { print $2 * 4 }' /proc/vmstat)
echo "swapped out $swapped KiB"
[ "$swapped" -gt 65536 ] || fail "hardly anything was swapped"
end_watch
no_io_errors
stop_daemon
