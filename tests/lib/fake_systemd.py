# SPDX-License-Identifier: ISC
"""Replaces the service manager for one relay: passes a socket, receives notifications, sets a watchdog interval."""

import contextlib
import socket
import subprocess
import time

import harness
from harness import LIMIT

PASS_SOCKET = 'exec 3<&"$1"; export LISTEN_PID=$$ WATCHDOG_PID=$$ LISTEN_FDS=1; exec "$2"'


class FakeSystemd:
    def __init__(self, env):
        self.path = env.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(LIMIT)

    def expect(self, *wanted):
        """Receives these notifications in this order. Only WATCHDOG=1 and STATUS= may be received in between."""
        for word in wanted:
            end = time.monotonic() + LIMIT
            while word not in (received := self.socket.recv(4096).decode()):
                assert received.startswith(("WATCHDOG=1", "STATUS=")) and time.monotonic() < end, (received, wanted)

    @contextlib.contextmanager
    def relay(self, env):
        """Runs a relay that listens on a passed socket, from READY=1 on."""
        variables = env.relay_environment(NOTIFY_SOCKET=self.path, WATCHDOG_USEC=200000)
        with socket.create_server(("127.0.0.1", env.relay_port)) as listener:
            child = subprocess.Popen(
                ["bash", "-c", PASS_SOCKET, "bash", str(listener.fileno()), str(harness.PROGRAMS["relayd"])], env=variables,
                pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
        try:
            self.expect("READY=1")
            yield child
        finally:
            child.kill()
            child.wait()
