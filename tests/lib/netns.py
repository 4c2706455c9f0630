# SPDX-License-Identifier: ISC
"""Private networks in the kernel: two namespaces and two cables (veth pairs) between them.

The `middle` contains the test itself, relay, broker and one side. The `edge` is the other side's machine. It reaches
the relay over either cable, as its routes decide, and the broker over a forwarder that never fails, since broker
failures are tested elsewhere. Needs root; names are unique, and close() removes everything.
"""

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading

import pytest

CLONE_NEWNET = 0x40000000
RELAY = "203.0.113.1"


def _set_namespace(fd):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(name):
    """Moves this thread, and the processes that it starts, to that namespace within the context."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _set_namespace(there)
        yield
    finally:
        _set_namespace(before)
        os.close(before)
        os.close(there)


class Network:
    def __init__(self):
        if os.getuid() != 0:
            pytest.skip("only root makes network namespaces")
        tag = secrets.token_hex(4)
        self.middle, self.edge = f"gotthard-{tag}-middle", f"gotthard-{tag}-edge"
        self.listeners = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self):
        for name in (self.middle, self.edge):
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        self.ip(self.middle, f"address add {RELAY}/32 dev lo")
        for n in (0, 1):
            self.ip(self.middle, f"link add down{n} type veth peer name up{n} netns {self.edge}")
            self.ip(self.middle, f"link set down{n} addrgenmode none")
            self.ip(self.edge, f"link set up{n} addrgenmode none")
            self.ip(self.middle, f"address add 198.18.{n}.1/24 dev down{n}")
            self.ip(self.edge, f"address add 198.18.{n}.2/24 dev up{n}")
            self.ip(self.middle, f"link set down{n} up")
            self.ip(self.edge, f"link set up{n} up")
            self.route(n, 100 * (n + 1))

    def ip(self, namespace, words):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)

    def route(self, n, metric):
        """Adds the edge's default route over cable @n; the route with the lowest metric is used."""
        self.ip(self.edge, f"route add default via 198.18.{n}.1 metric {metric}")

    def unroute(self, n, metric):
        self.ip(self.edge, f"route del default via 198.18.{n}.1 metric {metric}")

    def forward(self, port):
        """Forwards @port at each address of localhost in the edge to 127.0.0.1:@port in the middle, where the caller is."""
        with inside(self.edge):
            found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
            listeners = [socket.create_server(address[:2], family=family) for family, _, _, _, address in found]
        for listener in listeners:
            self.listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()

    def _accept(self, listener, port):
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", port))
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for name in (self.edge, self.middle):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
