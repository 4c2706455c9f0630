# SPDX-License-Identifier: ISC
"""A load of streams that end by a reset, some during a fault and the others at its end (invariant I1)."""

import contextlib
import struct
import threading

import harness
import resets
from harness import LIMIT

N_DURING = 3  # streams that are reset while the fault may last
PAUSE = 0.4  # seconds between those
SIZE = 60_000  # bytes before each reset: few enough for the kernel and the ring of an end whose relay is away

HEADER = struct.Struct(">I")


class Resets:
    """Three kinds of streams, each during the fault and at its end: the device's side sends bytes and resets; the operator's side
    does; the device's side answers an upload and closes with unread bytes."""

    KINDS = ("down", "up", "reject")

    def __init__(self, env):
        self.target = env.target(self._device)
        self.is_due = [threading.Event() for _ in range(2 * N_DURING)]
        self.is_over = threading.Event()
        self.received = {}  # number of the stream: Received
        self.opened, self.threads, self.errors = [], [], []
        self.served = set()  # numbers that have reached the device's side

    def _device(self, sock):
        header = harness.receive_exactly(sock, HEADER.size)
        if len(header) < HEADER.size:
            return
        number, = HEADER.unpack(header)
        self.served.add(number)
        sock.settimeout(None)  # some faults last longer than our limits
        with contextlib.suppress(ConnectionError):
            getattr(self, f"_device_{self.KINDS[number % 3]}")(sock, number)

    def _say(self, sock, number):
        self.is_due[number].wait()
        resets.send_flushed(sock, resets.words(f"reset {number}", SIZE))

    def _device_down(self, sock, number):
        self._say(sock, number)
        resets.reset(sock)

    def _device_up(self, sock, number):
        self.received[number] = resets.receive_to_end(sock)

    def _device_reject(self, sock, number):
        resets.wait_unread(sock)
        self._say(sock, number)
        sock.close()

    def _operator(self, sock, number):
        kind = self.KINDS[number % 3]
        with sock, contextlib.suppress(ConnectionError):
            sock.settimeout(None)
            sock.sendall(HEADER.pack(number))
            if kind == "up":
                self._say(sock, number)
                resets.reset(sock)
                return
            if kind == "reject":
                sock.sendall(b"the first bytes of an upload")
            self.received[number] = resets.receive_to_end(sock)

    def _guarded(self, *arguments):
        try:
            self._operator(*arguments)
        except BaseException as error:
            self.errors.append(error)
            raise

    def _trigger(self):
        for event in self.is_due[:N_DURING]:
            self.is_over.wait(PAUSE)
            event.set()

    def start(self, tunnel, service):
        for number in range(len(self.is_due)):
            thread = threading.Thread(target=self._guarded, args=(tunnel.dial(service), number), daemon=True)
            thread.start()
            self.threads.append(thread)
            self.opened.append(number)
        # A program that resets its connection before a suspended command accepts it is rejected (README, Limits).
        harness.wait_until(lambda: len(self.served) == len(self.opened), "each stream has reached the device")
        threading.Thread(target=self._trigger, daemon=True).start()

    def end(self, tunnel, service):
        """Resets the remaining streams. Every stream delivers its bytes and then the reset, or the tunnel reports another cause."""
        self.is_over.set()
        for event in self.is_due:
            event.set()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a stream was not reset"
        harness.wait_until(lambda: not self.target.connections, "the device's side of each stream was reset")
        self._check(tunnel, service)

    def _check(self, tunnel, service):
        assert not self.errors and not self.target.errors, (self.errors, self.target.errors)
        n_short = 0
        for number in self.opened:
            data, end = self.received.get(number, (b"", "reset"))
            assert end == "reset", f"stream {number} ended in order after {len(data)} of {SIZE} bytes"
            assert resets.words(f"reset {number}", SIZE).startswith(data), f"stream {number}: wrong bytes"
            n_short += len(data) < SIZE
        if n_short and tunnel.is_running():
            tunnel.event("stream-ended", service=service, count=len(self.opened))
            n_lost = sum(e["code"] > 1 for e in tunnel.events() if e.get("event") == "stream-ended" and e["service"] == service)
            assert n_short <= n_lost, f"{n_short} streams lost bytes before their reset, {n_lost} were reported as lost"
