# SPDX-License-Identifier: ISC
"""A peer without a key, as a process of its own: opens connections at a fixed rate and counts each byte of an answer.

    attacker.py FILE      a JSON object, see Attack in attack.py

It prints "ready" after the first connection, and at the end of its input one JSON object: the number of opened connections,
of those that could not be opened or were closed by the peer, and of the bytes that the peer sent. A single thread with
sockets that do not block opens some thousand connections a second, with a few percent of a core for 500.
"""

import errno
import itertools
import json
import os
import resource
import select
import socket
import struct
import sys
import time

LOOK_EVERY = 0.02  # seconds
IP_BIND_ADDRESS_NO_PORT = 24


class Attacker:
    def __init__(self, attack):
        self.attack = attack
        self.payloads = [bytes.fromhex(text) for text in attack["payloads"]]
        self.sources = itertools.cycle(attack["sources"])
        self.ports = itertools.cycle(attack["ports"])
        self.most = attack["at_once"]
        self.poll = select.epoll()
        self.open = {}  # descriptor: [socket, bytes that remain to be sent, of which one at a time]
        self.counts = {"opened": 0, "failed": 0, "closed": 0, "answered": 0, "answer": ""}
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    def run(self):
        started, n_due = time.monotonic(), 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            now = time.monotonic()
            n_due = min(self.attack["n"], 1 + int((now - started) * self.attack["rate"]))
            while self.counts["opened"] < n_due and self._make_room():
                self._open()
            if self.attack["manner"] == "trickle":
                for fd in list(self.open):
                    self._send(fd, 1)
            self._look(LOOK_EVERY)
        self._look(0)
        print(json.dumps(self.counts), flush=True)

    def _make_room(self):
        """Returns false if the attack waits for a connection to end."""
        if len(self.open) < self.most:
            return True
        if self.attack["manner"] == "wait":
            return False
        self._close(next(iter(self.open)))
        return True

    def _open(self):
        payload = self.payloads[self.counts["opened"] % len(self.payloads)]
        n_random = self.attack["n_random"]
        self.counts["opened"] += 1
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((next(self.sources), 0))
            if (error := sock.connect_ex((self.attack["host"], next(self.ports)))) not in (0, errno.EINPROGRESS):
                raise OSError(error, "connect")
        except OSError:
            self.counts["failed"] += 1
            sock.close()
            return
        self.open[sock.fileno()] = [sock, payload[:len(payload) - n_random] + os.urandom(n_random)]
        self.poll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)
        if self.attack["manner"] != "trickle":
            self._send(sock.fileno(), len(payload))
        self._close_if_sent(sock.fileno())
        if self.counts["opened"] == 1:
            print("ready", flush=True)

    def _send(self, fd, n):
        sock, data = self.open[fd]
        if not data:
            return
        try:
            self.open[fd][1] = data[sock.send(data[:n]):]
            if self.attack["manner"] != "trickle":
                self.poll.modify(fd, select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if self.open[fd][1] else 0))
        except BlockingIOError:
            self.poll.modify(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._lose(fd)

    def _close_if_sent(self, fd):
        if self.attack["manner"] in ("close", "reset") and fd in self.open and not self.open[fd][1]:
            if self.attack["manner"] == "reset":
                self.open[fd][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close(fd)

    def _look(self, timeout):
        for fd, events in self.poll.poll(timeout):
            if fd not in self.open:
                continue
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR):
                self._receive(fd)
            elif events & select.EPOLLOUT:
                self._send(fd, 1 << 20)
                self._close_if_sent(fd)

    def _receive(self, fd):
        try:
            data = self.open[fd][0].recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.counts["answered"] += len(data)
            self.counts["answer"] = self.counts["answer"] or data[:32].hex()
        else:
            self._lose(fd)

    def _lose(self, fd):
        self.counts["closed"] += 1
        self._close(fd)

    def _close(self, fd):
        self.open.pop(fd)[0].close()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as file:
        Attacker(json.load(file)).run()
