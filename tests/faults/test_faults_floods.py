# SPDX-License-Identifier: ISC
"""Floods before and after authentication; F-33 and F-34 of docs/faults.md. Existing tunnels are unaffected."""

import contextlib
import secrets
import select
import socket
import threading
import time

import pytest

import harness
import invariants
from fault_run import FaultRun
from harness import wait_until
from invariants import IS_SANITIZED
from relayclient import CLIENT_HELLO, Client, raw

MIB = 1024  # in KiB


def source(n):
    """Returns one of many loopback addresses, so that the limit of one does not apply to the others."""
    return f"127.{20 + n // 40000 % 200}.{n // 200 % 200}.{1 + n % 200}"


class Flood(threading.Thread):
    """Connects repeatedly from changing addresses with the same first bytes, and keeps the received data."""

    def __init__(self, port, data, n, rate, is_held=True):
        super().__init__(daemon=True)
        self.port, self.data, self.n, self.rate, self.is_held = port, data, n, rate, is_held
        self.n_done, self.received, self.socks = 0, [], []
        self.is_over = threading.Event()
        self.start()

    def run(self):
        started = time.monotonic()
        for n in range(self.n):
            if self.is_over.wait(max(0, started + n / self.rate - time.monotonic())):
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
                    self.received.append(data)
            self.socks.remove(by_fd[fd])
            by_fd[fd].close()

    def finish(self):
        self.join(harness.LIMIT * 3)
        self._listen()
        for sock in self.socks:
            sock.close()
        return self.received


@contextlib.contextmanager
def watched(env, most=8 * MIB, **more):
    """A run with a bystander, for a flood. At the end: the relay has grown by less than @most KiB, and the bystander
    was unaffected."""
    with FaultRun(env, n_streams=1, **more) as run:
        run.start_bystander(100)
        rss = harness.rss_kib(run.relay.pid)
        yield run
        invariants.check_isolation(run)
        growth = harness.rss_kib(run.relay.pid) - rss
        print(f"the relay grew by {growth} KiB")
        assert growth < most or IS_SANITIZED
        invariants.check_wrong_key(run)
        run.recovery += 12  # preauth slots are released at their time limit


@pytest.mark.parametrize("where, what", [
    *(("main", what) for what in ("silence", "half a TLS hello", "TLS hello", "half a JOIN", "JOIN without a ticket", "noise")),
    *(("session", what) for what in ("silence", "TLS hello", "JOIN without a ticket"))])
def test_f33_preauth_flood(env, where, what):
    """Thousands of connections a second, some held open: bounded memory, no byte of an answer, no effect afterwards."""
    data = {"silence": b"", "half a TLS hello": CLIENT_HELLO[:100], "TLS hello": CLIENT_HELLO + b"\0",
            "half a JOIN": b"GTJ1\x01\x01\0\0", "JOIN without a ticket": b"GTJ1\x01\x01\0\0" + bytes(56),
            "noise": secrets.token_bytes(300)}[what]
    with watched(env) as run:
        port = env.relay_port if where == "main" else session_port(run)
        flood = Flood(port, data, n=1200, rate=2000, is_held="half" in what or what == "silence")
        received = flood.finish()
        assert flood.n_done == 1200
        assert not received, received[:3]
        run.echo_through(run.tunnel)


def session_port(run):
    """Returns the session port of the first tunnel."""
    run.status()
    return int(run.relay.wait_for(r"status session=.* operator=alice .*port=(\d+)").group(1))


@pytest.mark.soak
@pytest.mark.parametrize("data", [b"", CLIENT_HELLO + b"\0", b"GTJ1\x01\x01\0\0" + bytes(56)], ids=["silence", "hello", "join"])
def test_f33_long_preauth_flood(env, data):
    with watched(env) as run:
        flood = Flood(env.relay_port, data, n=50000, rate=5000, is_held=not data)
        assert not flood.finish()
        run.echo_through(run.tunnel)


@pytest.mark.parametrize("pause", [0.25, pytest.param(4, marks=pytest.mark.soak)])
def test_f33_slowloris(env, pause):
    """Single bytes do not extend the time limit, which starts with the connection."""
    limits = 'timeouts = { handshake = "2s"; join = "2s"; };' if pause < 1 else ""
    with watched(env, relayd=limits):
        socks = []
        for n in range(100):
            sock = socket.socket()
            sock.bind((source(n), 0))
            sock.connect(("127.0.0.1", env.relay_port))
            socks.append((sock, CLIENT_HELLO if n % 2 else b"GTJ1\x01\x01\0\0" + bytes(56)))
        started, at = time.monotonic(), 0
        while socks and time.monotonic() - started < 20:
            for sock, data in list(socks):
                try:
                    sock.send(data[at:at + 1])
                    if select.select([sock], [], [], 0)[0]:
                        assert sock.recv(100) == b"", "a byte for an unauthenticated peer"
                        raise ConnectionResetError
                except ConnectionError:
                    socks.remove((sock, data))
                    sock.close()
            at += 1
            time.sleep(pause)
        assert not socks, f"{len(socks)} are still connected"
        assert time.monotonic() - started < (2 if pause < 1 else 10) + 2 + 2 * pause


def test_f33_port_scan(env):
    """The whole range, repeatedly: no answer. Only a session's port accepts the connection."""
    with watched(env) as run:
        for _ in range(10):
            for port in range(env.relay_ports, env.relay_ports + env.n_relay_ports):
                with contextlib.suppress(OSError), socket.create_connection(  # also not connected any more
                        ("127.0.0.1", port), source_address=("127.0.8.1", 0)) as sock:
                    sock.sendall(b"\r\n")
                    sock.shutdown(socket.SHUT_WR)
                    assert sock.recv(100) == b""
        run.echo_through(run.tunnel)


def abuse(client, what, rid):
    """Sends frames of one kind that keep a relay busy for about a second."""
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
def test_f34_abuse_by_authenticated_client(env, what):
    """Limits apply to each identity: this one is throttled or disconnected, the others are unaffected."""
    env.clients = []
    with watched(env, relayd="limits = { sessions_per_identity = 8; };") as run:
        mallory, rid = Client(env, "g1:o:mallory"), secrets.token_hex(16)
        if what in ("open", "attempts"):
            mallory.register(rid)
        abuse(mallory, what, rid)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1, "a second of abuse")
        run.echo_through(run.tunnel)
        assert run.status()["ports"] <= 2 + 8, "more sessions than an identity may have"
        mallory.kill()
        run.recovery += 35 if what == "rendezvous" else 0


def test_f34_repeated_hello(env):
    """Authenticated clients that connect, send HELLO and disconnect."""
    env.clients = []
    with watched(env) as run:
        for n in range(150):
            client = Client(env, f"g1:o:mallory{n % 3}")
            client.kill()
            env.clients.remove(client)
        run.echo_through(run.tunnel)
