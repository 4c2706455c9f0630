# SPDX-License-Identifier: ISC
"""A service manager's part, played for one relay: a socket that is handed in, notifications heard, a watchdog's time told."""

import contextlib
import socket
import subprocess
import time

import harness
from harness import LIMIT

HAND_IN = 'exec 3<&"$1"; export LISTEN_PID=$$ WATCHDOG_PID=$$ LISTEN_FDS=1; exec "$2"'


class Manager:
    def __init__(self, world):
        self.path = world.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(LIMIT)

    def hear(self, *wanted):
        """These words, one notification each, in this order; nothing but the watchdog's food is between them."""
        for word in wanted:
            end = time.monotonic() + LIMIT
            while word not in (said := self.socket.recv(4096).decode()):
                assert "WATCHDOG=1" in said and time.monotonic() < end, (said, wanted)

    @contextlib.contextmanager
    def relay(self, world):
        """Ready on a socket that it did not open itself."""
        env = world.relay_environment(NOTIFY_SOCKET=self.path, WATCHDOG_USEC=200000)
        with socket.create_server(("127.0.0.1", world.relay_port)) as listener:
            child = subprocess.Popen(
                ["bash", "-c", HAND_IN, "bash", str(listener.fileno()), str(harness.PROGRAMS["relayd"])], env=env,
                pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
        try:
            self.hear("READY=1")
            yield child
        finally:
            child.kill()
            child.wait()
