# SPDX-License-Identifier: ISC
"""A load for a tunnel: streams of known bytes, compared on arrival, while faults occur."""

import contextlib
import random
import socket
import struct
import threading
import time

import harness
import resets
from harness import LIMIT, in_threads, wait_until


class Steady:
    """Streams that carry patterns in both directions until end(); every byte is compared on arrival."""

    CHUNK = 1 << 14

    def __init__(self, env, n_streams, rate=None, first=0):
        """@rate: bytes a second of each stream, each way. @first: number of the first stream; each has its own pattern."""
        self.rate, self.first = rate, first
        self.is_over = threading.Event()
        self.n_streams = n_streams
        self.progress = [0] * n_streams  # bytes received at the operator's side
        self.up = [0] * n_streams  # bytes received at the device's side
        self.sent_up, self.sent_down = [0] * n_streams, [0] * n_streams
        self.errors = []
        self.threads = []
        self.target = env.target(self._device)

    def _pacer(self):
        """Waits to keep the rate; missed time is not caught up."""
        at = time.monotonic()

        def pace():
            nonlocal at
            now = time.monotonic()
            at = max(at + self.CHUNK / self.rate, now - 0.1)
            if at > now:
                self.is_over.wait(at - now)

        return pace if self.rate else lambda: None

    def _exchange(self, sock, mine, other, sent, counts, number):
        def send():
            pace = self._pacer()
            for piece in harness.pattern(mine, 1 << 50, self.CHUNK):
                if self.is_over.is_set():
                    break
                sock.sendall(piece)
                sent[number] += len(piece)
                pace()
            sock.shutdown(socket.SHUT_WR)

        def receive():
            for wanted in harness.pattern(other, 1 << 50, self.CHUNK):
                got = harness.receive_exactly(sock, len(wanted))
                if got != wanted[:len(got)]:
                    raise AssertionError(f"{other}: wrong bytes after {counts[number]}")
                counts[number] += len(got)
                if len(got) < len(wanted):
                    assert self.is_over.is_set(), f"{other}: an unexpected end of file after {counts[number]}"
                    return

        in_threads(send, receive)

    def _device(self, sock):
        number, = struct.unpack(">I", harness.receive_exactly(sock, 4))
        self._exchange(sock, f"down {number}", f"up {number}", self.sent_down, self.up, number - self.first)

    def _operator(self, sock, number):
        try:
            with sock:
                sock.settimeout(None)  # some faults last longer than our limits
                sock.sendall(struct.pack(">I", number))
                self._exchange(sock, f"up {number}", f"down {number}", self.sent_up, self.progress, number - self.first)
        except BaseException as error:
            self.errors.append(error)
            raise

    def start(self, tunnel, service=None):
        """May be called again after end()."""
        self.is_over.clear()
        self.threads = []
        for number in range(self.first, self.first + self.n_streams):
            thread = threading.Thread(target=self._operator, args=(tunnel.dial(service), number), daemon=True)
            thread.start()
            self.threads.append(thread)
        self.wait_for_progress(1)

    def check(self):
        assert not self.errors and not self.target.errors, (self.errors, self.target.errors)

    def progress_of_all(self):
        """Bytes of each stream that have arrived, at the operators' side and then at the device's."""
        return self.progress + self.up

    def wait_for_progress(self, n, limit=LIMIT):
        """Waits until every stream has moved @n more bytes in each direction."""
        before = self.progress_of_all()

        def all_moved():
            self.check()
            return all(now >= then + n for now, then in zip(self.progress_of_all(), before))

        wait_until(all_moved, f"every stream moves {n} bytes each way", limit)

    def end(self):
        """Ends all streams in order and checks that they are complete in both directions."""
        self.is_over.set()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a stream did not end"
        self.check()  # the device counts received bytes a moment later
        wait_until(lambda: (self.up, self.progress) == (self.sent_up, self.sent_down), "the last byte of each stream")

    def finish(self, tunnel):
        self.end()
        for number in range(self.n_streams):
            ended = tunnel.event("stream-ended", count=number + 1, service="ssh")
            assert ended["code"] == 0, ended


class Echo(threading.Thread):
    """An interactive user: a few bytes at a time, each echoed."""

    def __init__(self, sock, pause=0.05, n=64):
        super().__init__(daemon=True)
        self.sock, self.pause, self.n = sock, pause, n
        self.is_over = threading.Event()
        self.n_echoes, self.worst, self.error = 0, 0, None
        self.start()

    def run(self):
        try:
            with self.sock:
                self.sock.settimeout(None)
                for piece in harness.pattern("typed", 1 << 50, self.n):
                    if self.is_over.wait(self.pause):
                        return
                    started = time.monotonic()
                    self.sock.sendall(piece)
                    assert harness.receive_exactly(self.sock, len(piece)) == piece, "wrong bytes, or none"
                    self.worst = max(self.worst, time.monotonic() - started)
                    self.n_echoes += 1
        except BaseException as error:
            self.error = error

    def check(self):
        assert self.error is None, self.error

    def end(self):
        self.is_over.set()
        self.join(LIMIT)
        assert not self.is_alive(), "no echo"
        self.check()


class Shorts:
    """Short connections, one after another in each thread: each is complete in both directions, or reset. The device's side ends
    some of them by a reset after the answer."""

    SIZES = (0, 1, 1000, 100_000, 1 << 20)

    def __init__(self, env, n_threads=2, seed=1, pause=0.1):
        self.n_threads, self.seed, self.pause = n_threads, seed, pause
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.n_exact = self.n_reset = self.n_bytes = 0
        self.errors, self.threads = [], []
        self.target = env.target(self._device)

    @staticmethod
    def _device(sock):
        with contextlib.suppress(ConnectionError):
            total, digest = harness.digest_to_eof(sock)
            sock.sendall(f"{total} {digest}".encode())
            if total in Shorts.SIZES[::2]:
                resets.flush(sock)
                resets.reset(sock)

    def _one(self, tunnel, service, n):
        received = resets.Received(b"", "reset")
        with contextlib.suppress(ConnectionError), tunnel.dial(service) as sock:
            sock.settimeout(2 * LIMIT + 60)
            harness.send_pattern(sock, f"short {n}", n)
            sock.shutdown(socket.SHUT_WR)
            received = resets.receive_to_end(sock)
        is_exact = received.data.decode() == f"{n} {harness.digest_of_pattern(f'short {n}', n)}"
        assert is_exact or received.end == "reset", (n, received)
        with self.lock:
            self.n_exact += is_exact
            self.n_reset += not is_exact
            self.n_bytes += n if is_exact else 0

    def _run(self, tunnel, service, generator):
        try:
            while not self.is_over.wait(generator.random() * 2 * self.pause):
                self._one(tunnel, service, generator.choice(self.SIZES))
        except BaseException as error:
            self.errors.append(error)

    def start(self, tunnel, service=None):
        self.is_over.clear()
        self.threads = []
        for number in range(self.n_threads):
            thread = threading.Thread(target=self._run, args=(tunnel, service, random.Random(self.seed + number)), daemon=True)
            thread.start()
            self.threads.append(thread)

    def check(self):
        assert not self.errors and not self.target.errors, (self.errors, self.target.errors)

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join(3 * LIMIT)
            assert not thread.is_alive(), "a short connection hangs"
        self.check()
