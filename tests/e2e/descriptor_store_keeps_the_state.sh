#!/usr/bin/env bash
# The wire protocol of systemd's descriptor store, with a script in systemd's place: what is stored comes back to the next
# daemon, and two daemons never serve one state.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

make_data "$work/data" 8
cat >"$work/manager.py" <<'PYTHON'
import array, os, signal, socket, subprocess, sys

work, uzramd = sys.argv[1:]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(work + "/notify")
notify.settimeout(20)
store = []  # (name, descriptor)


def start(socket_name="nbd.sock", given=store):
    """A daemon, as sd_listen_fds(3) would have it."""
    pid = os.fork()
    if pid != 0:
        return pid
    for i, fd in enumerate([os.dup2(fd, 100 + i) for i, (_, fd) in enumerate(given)]):
        os.dup2(fd, 3 + i, inheritable=True)
    env = dict(os.environ, NOTIFY_SOCKET=work + "/notify", FDSTORE="8", LISTEN_PID=str(os.getpid()))
    env.update(LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(name for name, _ in given))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(work + "/uzramd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    words = ["uzramd", "--size=16M", "--unix", work + "/" + socket_name, "--control", work + "/control.sock"]
    os.execve(uzramd, words, env)


def receive():
    text, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    message = dict(line.split("=", 1) for line in text.decode().splitlines())
    if message.get("FDSTORE") == "1":
        store.extend((message["FDNAME"], fd) for fd in fds)
    else:
        for fd in fds:
            os.close(fd)  # a barrier
    if message.get("FDSTOREREMOVE") == "1":
        for one in [one for one in store if one[0] == message["FDNAME"]]:
            os.close(one[1])
            store.remove(one)
    return message


def until_ready():
    while "READY" not in receive():
        pass


def copy(source, target):
    subprocess.run(["nbdcopy", source, target], check=True)


uri = "nbd+unix:///zram0?socket=%s/nbd.sock" % work
pid = start()
until_ready()
names = sorted(name for name, _ in store)
assert names == ["uzram-control", "uzram-nbd", "uzram-state"], names
copy(work + "/data", uri)
for _ in range(3):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pid = start()
    until_ready()
    copy(uri, work + "/back")
    assert open(work + "/back", "rb").read()[: 8 << 20] == open(work + "/data", "rb").read()
    assert sorted(name for name, _ in store) == names, store

print("--- another daemon is refused the same state")
other = start(given=[one for one in store if one[0] == "uzram-state"])
_, status = os.waitpid(other, 0)
assert os.waitstatus_to_exitcode(status) == 1, status
assert "the state: another process serves it" in open(work + "/uzramd.log").read()
copy(uri, work + "/back")

print("--- a socket that is to be another is listened on anew, and the old one is dropped")
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
pid = start("other.sock")
until_ready()
copy("nbd+unix:///zram0?socket=%s/other.sock" % work, work + "/back")
assert sorted(name for name, _ in store) == names, store
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, status

print("--- a daemon started afresh with the store (systemctl restart) has it all, too")
pid = start()
until_ready()
copy(uri, work + "/back")
assert open(work + "/back", "rb").read()[: 8 << 20] == open(work + "/data", "rb").read()
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
PYTHON
python3 "$work/manager.py" "$work" "$UZRAM_BIN/uzramd"
