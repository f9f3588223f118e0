"""A disk that is written and verified at once: what must be there is known byte for byte, and where a write was not
acknowledged, for each page both what was there and what was to be."""

import random

import nbd

PAGE = 4096


class Wrong(Exception):
    """The disk holds what it must not."""


def page_of_kind(rng):
    """A page as memory holds them: zeroes, one word, noise, and most that compress to some degree."""
    kind = rng.randrange(8)
    if kind == 0:
        return bytes(PAGE)
    if kind == 1:
        return rng.randbytes(8) * (PAGE // 8)
    if kind == 2:
        return rng.randbytes(PAGE)
    piece = rng.randbytes(rng.choice((16, 256, 1024, 3000)))
    return (piece * (PAGE // len(piece) + 1))[:PAGE]


class Disk:
    """The pages [first, first + pages) of an export. Every function takes a connected nbd.NBD; nbd.Error goes through,
    once it is noted what may be there now."""

    def __init__(self, first, pages, seed):
        self.base = first * PAGE
        self.pages = pages
        self.rng = random.Random(seed)
        self.known = [bytes(PAGE)] * pages
        self.doubtful = {}  # page: all that it may hold
        self.verified = 0  # bytes

    def _may_hold(self, page):
        return self.doubtful.get(page, [self.known[page]])

    def _change(self, offset, data, apply):
        """Calls `apply`, which puts `data` at `offset` or fails."""
        first, last = offset // PAGE, (offset + len(data) - 1) // PAGE
        new = {}
        for page in range(first, last + 1):
            low = max(offset, page * PAGE)
            high = min(offset + len(data), (page + 1) * PAGE)
            part = data[low - offset : high - offset]
            start = low - page * PAGE
            new[page] = [old[:start] + part + old[start + len(part) :] for old in self._may_hold(page)]
        try:
            apply()
        except nbd.Error:
            for page, after in new.items():
                self.doubtful[page] = self._may_hold(page) + after
            raise
        for page, after in new.items():
            self._settle(page, after)

    def _settle(self, page, candidates):
        if len(set(candidates)) == 1:
            self.known[page] = candidates[0]
            self.doubtful.pop(page, None)
        else:
            self.doubtful[page] = candidates

    def write(self, h, offset, data):
        self._change(offset, data, lambda: h.pwrite(data, self.base + offset))

    def trim(self, h, page, pages):
        self._change(page * PAGE, bytes(pages * PAGE), lambda: h.trim(pages * PAGE, self.base + page * PAGE))

    def zero(self, h, offset, length):
        self._change(offset, bytes(length), lambda: h.zero(length, self.base + offset))

    def verify(self, h, page=0, pages=None):
        """Reads whole pages; Wrong where one holds what it must not."""
        pages = self.pages - page if pages is None else pages
        data = h.pread(pages * PAGE, self.base + page * PAGE)
        self.verified += len(data)
        for i in range(pages):
            there = bytes(data[i * PAGE : (i + 1) * PAGE])
            if there not in self._may_hold(page + i):
                raise Wrong(f"page {self.base // PAGE + page + i} holds what was never written there, or is lost")
            self._settle(page + i, [there])

    def verify_all(self, h, piece=256):
        for page in range(0, self.pages, piece):
            self.verify(h, page, min(piece, self.pages - page))

    def some_pages(self, most):
        count = self.rng.randint(1, min(most, self.pages))
        return self.rng.randrange(self.pages - count + 1), count

    def step(self, h, most=16):
        """One operation drawn at random."""
        page, count = self.some_pages(most)
        choice = self.rng.randrange(16)
        if choice < 6:
            self.write(h, page * PAGE, b"".join(page_of_kind(self.rng) for _ in range(count)))
        elif choice < 8:  # no page whole, or the first and the last in part
            offset = page * PAGE + self.rng.randrange(PAGE)
            length = min(self.rng.randint(1, 2 * PAGE), self.pages * PAGE - offset)
            self.write(h, offset, self.rng.randbytes(length))
        elif choice < 9:
            self.trim(h, page, count)
        elif choice < 10:
            self.zero(h, page * PAGE, count * PAGE - self.rng.randrange(PAGE))
        elif choice < 11:
            h.flush()
        else:
            self.verify(h, page, count)


def connect(uri):
    """A client with structured replies, that wants to know of holes."""
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    return h


def is_gone(h):
    """Whether the client's connection has ended, as far as it knows."""
    return h.aio_is_dead() or h.aio_is_closed()
