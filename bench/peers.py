"""What bench/compare runs: servers of NBD disks, their clients, and the kernel's zram. Each stops what it started."""
import json
import mmap
import os
import re
import socket
import subprocess
import time

ZRAM = '/sys/block/zram0'
MIB = 1 << 20


class Failed(Exception):
    """A program failed, or data did not come back as it was stored."""


def output_of(command):
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()  # not killed: make-corpus has children to stop
            raise
    if process.returncode:
        raise Failed(f'{" ".join(command)}: exit status {process.returncode}\n{out[-2000:]}{err[-2000:]}')
    return out


class Server:
    """A daemon on a unix socket, from the first answered connection until the end of a `with`."""

    def __init__(self, name, folder, command, keeps_data=True):
        self.name = name
        self.keeps_data = keeps_data
        self.replay_options = [] if keeps_data else ['--keeps-nothing']
        self.socket = f'{folder}/nbd'
        self.uri = f'nbd+unix:///?socket={self.socket}'
        self.log = f'{folder}/log'
        self.report = f'{folder}/fio.json'
        self.command = [word.replace('SOCKET', self.socket) for word in command]
        self.process = None

    def __enter__(self):
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_for_service()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_for_service(self):
        end = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log, encoding='utf-8', errors='replace') as log:
                    raise Failed(f'{" ".join(self.command)} does not serve: {log.read()[-2000:]}')
            time.sleep(0.05)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(self.socket)
                return s.recv(8) == b'NBDMAGIC'
            except OSError:
                return False

    @property
    def fio_options(self):
        return ['--ioengine=nbd', f'--uri={self.uri}']

    def cpu_seconds(self):
        with open(f'/proc/{self.process.pid}/stat', encoding='ascii') as f:
            user, system = f.read().rsplit(')', 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')

    def proportional_set_size(self):
        with open(f'/proc/{self.process.pid}/smaps_rollup', encoding='ascii') as f:
            return int(re.search(r'^Pss:\s+(\d+) kB', f.read(), re.M)[1]) * 1024


def fio(server, *options):
    """The only job of a run of fio as its JSON has it."""
    # With a given compressibility fio fills its buffers once and sends them again and again. --refill_buffers would
    # make new ones for each request and so measure fio's random numbers; page by page a compressor cannot tell.
    report = server.report
    output_of(['fio', '--name=compare', '--thread', *server.fio_options, '--norandommap',
               '--verify_state_save=0',
               '--buffer_compress_percentage=60', '--output-format=json', f'--output={report}', *options])
    with open(report, encoding='utf-8') as f:
        text = f.read()
    job = json.loads(text[text.index('{'):])['jobs'][0]
    if job['error']:
        raise Failed(f'fio met errors on {server.name}')
    return job


def fio_fill(server, size):
    """Writes all of the disk and, where it is kept, reads it back and verifies the checksum of every page."""
    verify = ['--verify=crc32c', '--verify_interval=4096', '--do_verify=1'] if server.keeps_data else []
    job = fio(server, '--rw=write', '--bs=128k', '--iodepth=8', f'--size={size}', *verify)
    if job['write']['io_bytes'] != size or (verify and job['read']['io_bytes'] != size):
        raise Failed(f'fio did not write and verify all of {server.name}')


class Zram:
    """The kernel's zram0 with lz4, until the end of a `with`; then it is reset."""

    name = 'kernel zram lz4'
    keeps_data = True
    fio_options = ['--ioengine=io_uring', '--filename=/dev/zram0', '--direct=1']

    @staticmethod
    def why_not():
        """Why it cannot be measured here, or None."""
        if not os.path.exists(ZRAM) or not os.path.exists('/dev/zram0'):
            return 'this machine has no /dev/zram0'
        if os.geteuid():
            return 'needs root'
        if _zram('disksize') != '0':
            return '/dev/zram0 is in use'
        if 'lz4' not in re.findall(r'[\w-]+', _zram('comp_algorithm')):
            return 'this kernel\'s zram has no lz4'
        return None

    def __init__(self, size, folder=None):
        self.size = size
        self.report = f'{folder}/zram.json'

    def __enter__(self):
        _zram('comp_algorithm', 'lz4')
        _zram('disksize', str(self.size))
        return self

    def __exit__(self, *_):
        for attempt in range(50):
            try:
                _zram('reset', '1')
                return
            except OSError:  # busy while udev looks at what was closed
                if attempt == 49:
                    raise
                time.sleep(0.1)

    def cpu_seconds(self):
        return 0

    def memory(self):
        """Its zspages, 16 bytes for each slot, 8 for each handle."""
        stat = [int(word) for word in _zram('mm_stat').split()]
        slots = self.size // 4096
        return stat[2] + 16 * slots + 8 * (slots - stat[5])


class ZramWithCorpus(Zram):
    """It holds the first bytes of a file."""

    def __init__(self, corpus, most_bytes):
        super().__init__(min(os.path.getsize(corpus), most_bytes) // MIB * MIB)
        self.data = mmap.mmap(-1, self.size)  # page-aligned, as O_DIRECT wants it
        with open(corpus, 'rb') as f:
            f.readinto(self.data)
        self.piece = mmap.mmap(-1, MIB)
        self.device = -1

    def __enter__(self):
        super().__enter__()
        try:
            self.device = os.open('/dev/zram0', os.O_RDWR | os.O_DIRECT | os.O_EXCL)
            self.write()
            self.read(compare=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.device >= 0:
            os.close(self.device)
        super().__exit__()

    def write(self):
        """Stores the corpus; megabytes per second of this thread's time, as bench/ratio has it."""
        view = memoryview(self.data)
        start = time.thread_time()
        for at in range(0, self.size, MIB):
            if os.pwrite(self.device, view[at:at + MIB], at) != MIB:
                raise Failed('zram wrote less than it was asked to')
        took = time.thread_time() - start
        view.release()
        return self.size / 1e6 / took

    def read(self, compare=False):
        start = time.thread_time()
        for at in range(0, self.size, MIB):
            if os.preadv(self.device, [self.piece], at) != MIB:
                raise Failed('zram read less than it was asked to')
            if compare and self.piece[:] != self.data[at:at + MIB]:
                raise Failed('zram read other data than was written')
        return self.size / 1e6 / (time.thread_time() - start)


def _zram(attribute, value=None):
    with open(f'{ZRAM}/{attribute}', 'r' if value is None else 'w', encoding='ascii') as f:
        return f.read().strip() if value is None else f.write(value)
