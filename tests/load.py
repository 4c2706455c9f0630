# SPDX-License-Identifier: ISC
"""A load for a tunnel: streams whose bytes are known, compared where they arrive, while the network breaks."""

import socket
import struct
import threading

import harness
from harness import LIMIT, in_threads, wait_until


class Steady:
    """Streams that carry patterns both ways until told to stop; every byte is compared where it arrives."""

    CHUNK = 1 << 14

    def __init__(self, world, n_streams):
        self.is_over = threading.Event()
        self.n_streams = n_streams
        self.progress = [0] * n_streams  # bytes that came back, at the operator's side
        self.up = [0] * n_streams  # and at the device's
        self.errors = []
        self.threads = []
        self.target = world.target(self._device)

    def _exchange(self, sock, mine, other, counts, number):
        def send():
            for piece in harness.pattern(mine, 1 << 50, self.CHUNK):
                if self.is_over.is_set():
                    break
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)

        def receive():
            for wanted in harness.pattern(other, 1 << 50, self.CHUNK):
                got = harness.receive_exactly(sock, len(wanted))
                if got != wanted[:len(got)]:
                    raise AssertionError(f"{other}: wrong bytes after {counts[number]}")
                counts[number] += len(got)
                if len(got) < len(wanted):
                    return

        in_threads(send, receive)

    def _device(self, sock):
        number, = struct.unpack(">I", harness.receive_exactly(sock, 4))
        self._exchange(sock, f"down {number}", f"up {number}", self.up, number)

    def _operator(self, sock, number):
        try:
            with sock:
                sock.sendall(struct.pack(">I", number))
                self._exchange(sock, f"up {number}", f"down {number}", self.progress, number)
        except BaseException as error:
            self.errors.append(error)
            raise

    def start(self, tunnel):
        for number in range(self.n_streams):
            thread = threading.Thread(target=self._operator, args=(tunnel.dial(), number), daemon=True)
            thread.start()
            self.threads.append(thread)
        self.wait_for_progress(1)

    def wait_for_progress(self, n, limit=LIMIT):
        """Every stream moves @n bytes more, each way."""
        before = list(self.progress), list(self.up)

        def all_moved():
            assert not self.errors and not self.target.errors, (self.errors, self.target.errors)
            return all(now >= then + n for now, then in zip(self.progress + self.up, before[0] + before[1]))

        wait_until(all_moved, f"every stream moves {n} bytes each way", limit)

    def finish(self, tunnel):
        self.is_over.set()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a stream did not come to its end"
        assert not self.errors and not self.target.errors, (self.errors, self.target.errors)
        for number in range(self.n_streams):
            ended = tunnel.event("stream-ended", count=number + 1)
            assert ended["code"] == 0, ended
