# SPDX-License-Identifier: ISC
"""Trials of floods, before and after authentication; F-33 and F-34 of docs/faults.md. Whoever has a tunnel does not notice."""

import contextlib
import secrets
import select
import socket
import threading
import time

import pytest

import harness
from harness import wait_until
from invariants import IS_SANITIZED, Trial
from relayclient import CLIENT_HELLO, Client, raw

MIB = 1024  # in KiB


def source(n):
    """Of many: what one of them has earned does not fall on us."""
    return f"127.{20 + n // 40000 % 200}.{n // 200 % 200}.{1 + n % 200}"


class Flood(threading.Thread):
    """Comes again and again, from ever other addresses, with the same first bytes; what it hears is kept."""

    def __init__(self, port, data, n, rate, is_held=True):
        super().__init__(daemon=True)
        self.port, self.data, self.n, self.rate, self.is_held = port, data, n, rate, is_held
        self.n_done, self.heard, self.socks = 0, [], []
        self.is_over = threading.Event()
        self.start()

    def run(self):
        begun = time.monotonic()
        for n in range(self.n):
            if self.is_over.wait(max(0, begun + n / self.rate - time.monotonic())):
                break
            self._one(n)
            self.n_done += 1
            if n % 50 == 0:
                self._listen()

    def _one(self, n):
        sock = socket.socket()
        with contextlib.suppress(OSError):
            sock.bind((source(n), 0))
            sock.connect(("127.0.0.1", self.port))
            sock.setblocking(False)
            sock.sendall(self.data)
        self.socks.append(sock)
        if len(self.socks) > (800 if self.is_held else 50):
            self.socks.pop(0).close()

    def _listen(self):
        poll = select.poll()
        by_fd = {s.fileno(): s for s in self.socks if s.fileno() >= 0}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            with contextlib.suppress(OSError):
                if data := by_fd[fd].recv(100):
                    self.heard.append(data)
            self.socks.remove(by_fd[fd])
            by_fd[fd].close()

    def finish(self):
        self.join(harness.LIMIT * 3)
        self._listen()
        for sock in self.socks:
            sock.close()
        return self.heard


@contextlib.contextmanager
def watched(world, most=8 * MIB, **more):
    """A trial under load whose relay does not grow, and whose other session is measured, while it is flooded."""
    with Trial(world, n_streams=1, **more) as trial:
        trial.stand_by(100)
        rss = harness.rss_kib(trial.relay.pid)
        yield trial
        trial.isolated()
        grown = harness.rss_kib(trial.relay.pid) - rss
        print(f"the relay grew by {grown} KiB")
        assert grown < most or IS_SANITIZED
        trial.fails_closed()
        trial.recovery += 12  # the slots that strangers hold are free when their time is over


@pytest.mark.parametrize("where, what", [
    *(("main", what) for what in ("silence", "half a TLS hello", "TLS hello", "half a JOIN", "JOIN of nobody", "noise")),
    *(("session", what) for what in ("silence", "TLS hello", "JOIN of nobody"))])
def test_f33_flood_of_strangers(world, where, what):
    """Thousands a second of each kind, some held open: bounded memory, not a byte of answer, and it is over when it is over."""
    data = {"silence": b"", "half a TLS hello": CLIENT_HELLO[:100], "TLS hello": CLIENT_HELLO + b"\0", "half a JOIN": b"GTJ1\x01\x01\0\0",
            "JOIN of nobody": b"GTJ1\x01\x01\0\0" + bytes(56), "noise": secrets.token_bytes(300)}[what]
    with watched(world) as trial:
        port = world.relay_port if where == "main" else session_port(trial)
        flood = Flood(port, data, n=1200, rate=2000, is_held="half" in what or what == "silence")
        heard = flood.finish()
        assert flood.n_done == 1200
        assert not heard, heard[:3]
        trial.hear(trial.tunnel)


def session_port(trial):
    """Of the first tunnel there is."""
    trial.status()
    return int(trial.relay.wait_for(r"status session=.* operator=alice .*port=(\d+)").group(1))


@pytest.mark.soak
@pytest.mark.parametrize("data", [b"", CLIENT_HELLO + b"\0", b"GTJ1\x01\x01\0\0" + bytes(56)], ids=["silence", "hello", "join"])
def test_f33_flood_of_strangers_for_long(world, data):
    with watched(world) as trial:
        flood = Flood(world.relay_port, data, n=50000, rate=5000, is_held=not data)
        assert not flood.finish()
        trial.hear(trial.tunnel)


@pytest.mark.parametrize("pause", [0.25, pytest.param(4, marks=pytest.mark.soak)])
def test_f33_slowloris(world, pause):
    """A byte now and then keeps nobody in: their time is counted from the beginning."""
    limits = 'limits = { handshake = "2s"; join = "2s"; };' if pause < 1 else ""
    with watched(world, relayd=limits):
        socks = []
        for n in range(100):
            sock = socket.socket()
            sock.bind((source(n), 0))
            sock.connect(("127.0.0.1", world.relay_port))
            socks.append((sock, CLIENT_HELLO if n % 2 else b"GTJ1\x01\x01\0\0" + bytes(56)))
        begun, at = time.monotonic(), 0
        while socks and time.monotonic() - begun < 20:
            for sock, data in list(socks):
                try:
                    sock.send(data[at:at + 1])
                    if select.select([sock], [], [], 0)[0]:
                        assert sock.recv(100) == b"", "a byte for a stranger"
                        raise ConnectionResetError
                except ConnectionError:
                    socks.remove((sock, data))
                    sock.close()
            at += 1
            time.sleep(pause)
        assert not socks, f"{len(socks)} are still in"
        assert time.monotonic() - begun < (2 if pause < 1 else 10) + 2 + 2 * pause


def test_f33_port_scan(world):
    """Of the whole range, again and again: who asks hears nothing; only a session's port takes the connection at all."""
    with watched(world) as trial:
        for _ in range(10):
            for port in range(world.relay_ports, world.relay_ports + world.n_relay_ports):
                with contextlib.suppress(ConnectionError), socket.create_connection(
                        ("127.0.0.1", port), source_address=("127.0.8.1", 0)) as sock:
                    sock.sendall(b"\r\n")
                    sock.shutdown(socket.SHUT_WR)
                    assert sock.recv(100) == b""
        trial.hear(trial.tunnel)


def abuse(client, what, rid):
    """One second's worth of work for a relay, of one kind."""
    if what == "rendezvous":
        for n in range(400):
            client.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    elif what == "open":
        for stream in range(1, 1500):
            client.do("open", rid, stream, 1)
    elif what == "attempts":
        for attempt in range(1, 1500):
            client.do("open", rid, 7, attempt)
    elif what == "pings":
        client.do("deaf")
        client.do("repeat 100000", raw(0x30, bytes(8)).hex())
    else:
        client.do("repeat 20000", raw(0x80, bytes(1000)).hex())


@pytest.mark.parametrize("what", ["rendezvous", "open", "attempts", "pings", "unknown frames"])
def test_f34_abuse_by_who_is_known(world, what):
    """It has limits for each identity: that one is slowed down, or thrown out, and the others are not."""
    world.clients = []
    with watched(world) as trial:
        mallory, rid = Client(world, "g1:o:mallory"), secrets.token_hex(16)
        if what in ("open", "attempts"):
            mallory.register(rid)
        abuse(mallory, what, rid)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 1, "a second of it")
        trial.hear(trial.tunnel)
        assert trial.status()["ports"] <= 2 + 8, "sessions an identity may have"
        mallory.kill()
        trial.recovery += 35 if what == "rendezvous" else 0


def test_f34_hello_again_and_again(world):
    """Known clients that come, say hello, and go."""
    world.clients = []
    with watched(world) as trial:
        for n in range(150):
            client = Client(world, f"g1:o:mallory{n % 3}")
            client.kill()
            world.clients.remove(client)
        trial.hear(trial.tunnel)
