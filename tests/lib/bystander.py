# SPDX-License-Identifier: ISC
"""An uninvolved session whose echo times are compared before and during a fault (invariant I6)."""

import socket
import threading
import time

import harness

WINDOW = 30  # echoes
N_WINDOWS = 4  # at least: a busy machine disturbs a single window now and then


class Bystander(threading.Thread):
    """Sends a short message every 5 ms through @tunnel, and the same one directly to the target for comparison."""

    def __init__(self, tunnel, direct_port, message):
        super().__init__(daemon=True)
        self.sock, self.message = tunnel.dial("echo"), message
        self.direct = socket.create_connection(("127.0.0.1", direct_port))
        self.direct.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.times = {"before": ([], []), "during": ([], [])}  # seconds: direct, tunnel
        self.phase, self.error = "before", None
        self.is_over = threading.Event()
        self.may_run = threading.Event()
        self.may_run.set()
        self.start()

    def run(self):
        try:
            while not self.is_over.wait(0.005):
                self.may_run.wait()
                phase = self.phase
                for sock, times in zip((self.direct, self.sock), self.times[phase]):
                    started = time.monotonic()
                    sock.sendall(self.message)
                    assert harness.receive_exactly(sock, len(self.message)) == self.message, "wrong bytes, or none"
                    times.append(time.monotonic() - started)
        except BaseException as error:
            self.error = error
        finally:
            self.sock.close()
            self.direct.close()

    def has(self, n):
        """True when the current phase has @n echoes."""
        assert self.error is None, self.error
        return len(self.times[self.phase][1]) >= n

    def has_enough(self):
        return self.has(N_WINDOWS * WINDOW)

    def stop(self):
        self.is_over.set()
        self.join(harness.LIMIT)

    def worst_echoes(self):
        """Seconds: the tunnel's worst echo before the fault; then the worst of tunnel and direct connection in the window of the fault
        with the smallest difference. A fault affects every window, other load on the machine only some."""
        direct, tunnel = self.times["during"]
        windows = [(max(tunnel[at:at + WINDOW]), max(direct[at:at + WINDOW])) for at in range(len(tunnel) - WINDOW + 1)]
        return max(self.times["before"][1]), *min(windows, key=lambda window: window[0] - window[1])
