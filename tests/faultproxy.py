# SPDX-License-Identifier: ISC
"""A bad network between two parties, in user space: a TCP proxy that cuts, resets, or swallows.

It stands for one address and forwards port by port, so that a whole relay (its main port and its range) can be
behind it. Nothing is changed in the bytes: what it breaks it breaks as networks do.
"""

import contextlib
import select
import socket
import struct
import threading


class Proxy:
    """Listens on @host at each of @ports and forwards to 127.0.0.1 at the same port."""

    def __init__(self, host, ports):
        self.host = host
        self.lock = threading.Lock()
        self.pairs = []  # [socket here, socket there]
        self.is_black = False  # holds what comes, both ways, and lets nobody new through
        self.is_refusing = False  # resets whoever comes
        self.n_accepted = 0
        self.listeners = [socket.create_server((host, port), backlog=64) for port in ports]
        self._stop, self._wake = socket.socketpair()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            ready, _, _ = select.select([*self.listeners, self._stop], [], [])
            if self._stop in ready:
                return
            for listener in ready:
                with contextlib.suppress(OSError):
                    self._welcome(*listener.accept(), listener.getsockname()[1])

    def _welcome(self, here, _, port):
        self.n_accepted += 1
        if self.is_refusing:
            _reset(here)
            return
        there = socket.socket()
        try:
            there.connect(("127.0.0.1", port))
        except OSError:
            there.close()
            _reset(here)
            return
        pair = [here, there]
        for sock in pair:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.pairs.append(pair)
        for source, sink in ((here, there), (there, here)):
            threading.Thread(target=self._pump, args=(pair, source, sink), daemon=True).start()

    def _pump(self, pair, source, sink):
        while True:
            try:
                readable, _, _ = select.select([source], [], [], 0.05)
                if self.is_black:
                    select.select([], [], [], 0.02)
                    continue
                if not readable:
                    continue
                data = source.recv(1 << 16)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except (OSError, ValueError):  # cut, here or there
                self._close(pair, is_reset=True)
                return

    def _close(self, pair, is_reset):
        with self.lock:
            if pair not in self.pairs:
                return
            self.pairs.remove(pair)
        for sock in pair:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # wakes its pump
            if is_reset:
                _reset(sock)
            else:
                sock.close()

    def cut(self, is_reset=False, choose=lambda n: True):
        """Ends every connection that @choose(number) takes."""
        with self.lock:
            chosen = [pair for number, pair in enumerate(self.pairs) if choose(number)]
        for pair in chosen:
            self._close(pair, is_reset)
        return len(chosen)

    def close(self):
        self._wake.send(b"x")
        for listener in self.listeners:
            listener.close()
        self.cut(is_reset=True)


def _reset(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
