"""A uzramd under test: started, asked, looked at from outside and stopped; and the plan of what fails in it."""

import mmap
import os
import random
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} uzramd\[\d+\] ")
PATIENCE = 30  # seconds for anything to happen


class Plan:
    """The page that tests/faults/interposer.c reads; the layout is its struct plan."""

    FIELDS = {"calls": "Q", "fail_at": "Q", "run": "Q", "failed": "Q", "blocks": "q", "partial": "Q", "transfers": "Q"}

    def __init__(self):
        self._file = tempfile.NamedTemporaryFile(prefix="uzram-plan.")
        self._file.truncate(4096)
        self._page = mmap.mmap(self._file.fileno(), 4096)
        self.path = self._file.name

    def get(self, field):
        return struct.unpack_from("=" + self.FIELDS[field], self._page, 8 * list(self.FIELDS).index(field))[0]

    def set(self, field, value):
        struct.pack_into("=" + self.FIELDS[field], self._page, 8 * list(self.FIELDS).index(field), value)

    def arm(self, nth, run=1):
        """From now on the nth call and the run - 1 behind it fail. 0: none."""
        self.disarm()
        for field, value in (("calls", 0), ("failed", 0), ("run", run), ("fail_at", nth)):
            self.set(field, value)

    def disarm(self):
        """Nothing fails any more; how many calls did stays known."""
        self.set("fail_at", 0)

    def last(self):
        return bytes(self._page[56:96]).split(b"\0")[0].decode()


def one_processor():
    os.sched_setaffinity(0, {random.choice(list(os.sched_getaffinity(0)))})


class Daemon:
    """Sockets and log lie in `folder`. After start, `uri` is the first export's, or None where it did not begin to
    serve; `code` is its exit status once it has ended."""

    def __init__(self, program, folder, options, plan=None, library=None):
        self.folder = folder
        self.nbd_path = os.path.join(folder, "nbd.sock")
        self.control_path = os.path.join(folder, "control.sock")
        self.log_path = os.path.join(folder, "log")
        self.code = None
        self._watchdog = None
        env = dict(os.environ)
        if plan:
            env |= {"UZRAM_FAULT_PLAN": plan.path, "LD_PRELOAD": library}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [program, "--unix", self.nbd_path, "--control", self.control_path, *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env,
                # With more than one processor a wait for a client makes as many calls as chance says.
                preexec_fn=one_processor if plan else None)
        self.watch()
        self.uri = self._first_line()

    def watch(self):
        """Kills it unless it is watched anew, or stopped, within the time that anything may take: who waits for it then
        sees that it is gone."""
        self.unwatch()
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def unwatch(self):
        if self._watchdog:
            self._watchdog.cancel()

    def _first_line(self):
        line = self.process.stdout.readline().decode().strip()
        if not line:
            self.code = self.process.wait(PATIENCE)
        return line or None

    @property
    def pid(self):
        return self.process.pid

    def stop(self, how=signal.SIGTERM):
        """Its exit status; -SIGKILL where it had to be killed."""
        if self.code is None:
            self.process.send_signal(how)
            try:
                self.code = self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.code = self.process.wait()
        self.unwatch()
        self.process.stdout.close()
        return self.code

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def complaints(self):
        """What it has said on standard error besides its log."""
        return [line for line in self.log().splitlines() if not LOG_LINE.match(line)]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def resident(self, kind="VmRSS"):
        """Bytes of memory in use: VmRSS for all, RssAnon for what the process has to itself."""
        with open(f"/proc/{self.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields[kind].split()[0]) * 1024

    def control(self, method, path, body="", timeout=PATIENCE):
        """(status, body) of a request to the control endpoint; ConnectionError where the answer is none."""
        text = body.encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.control_path)
            s.sendall(head.encode() + text)
            answer = b""
            while part := s.recv(65536):
                answer += part
        match = re.match(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n(.*)", answer, re.DOTALL)
        if not match:
            raise ConnectionError(f"no answer to {method} {path}: {answer[:80]!r}")
        return int(match[1]), match[2].decode(errors="replace")


def wait_until(what, seconds=PATIENCE):
    """Whether `what()` becomes true within that time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
