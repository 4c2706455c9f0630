# SPDX-License-Identifier: ISC
"""The machine of a target, or of a local client, is switched off: its streams end with a reset that names it, and slow ones stay.

A socket filter that drops every packet stands for the machine that no longer answers; one test takes a network away for real.
"""

import ctypes
import re
import socket
import struct
import time

import pytest

import harness
import netns
from harness import LIMIT, wait_until
from setting_markers import effect

SO_ATTACH_FILTER = 26
LIMIT_S = 2  # timeouts.vanished
TARGET_VANISHED, CLIENT_VANISHED = 14, 15
MIB = 1 << 20


class Held:
    """A target that leaves its connections to the test."""

    def __init__(self, env):
        self.sockets = []
        self.port = env.target(self._hold).port

    def _hold(self, sock):
        self.sockets.append(sock)
        wait_until(lambda: sock.fileno() < 0, "the test has closed the connection", limit=4 * LIMIT)

    def first(self):
        return wait_until(lambda: self.sockets, "the target is reached")[0]


def vanish(sock):
    """From now on the kernel drops every packet to @sock, and answers none."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET 0: no byte
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))


def reset_of(sock):
    """Waits for the reset of @sock, and returns the seconds until then."""
    started = time.monotonic()
    sock.settimeout(LIMIT)
    with pytest.raises(ConnectionError):
        while sock.recv(1 << 16):
            pass
        raise AssertionError("an end of file")
    return time.monotonic() - started


class Parts:
    def __init__(self, env):
        env.broker()
        self.relay = env.relay()
        self.env, self.target = env, Held(env)
        self.agent = env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(agentd=f'timeouts = {{ vanished = "{LIMIT_S}s"; }};'),
                               GOTTHARD_AGENT_DATA_PORT=self.target.port)
        self.tunnel = env.connect(GOTTHARD_CONFIG_DIR=env.config_folder(cli=f'timeouts = {{ vanished = "{LIMIT_S}s"; }};'))


@pytest.fixture
def parts(env):
    return Parts(env)


@pytest.fixture(params=["idle", "data in flight", "closed window"])
def situation(request):
    return request.param


def take_away(near, far, situation):
    """@far vanishes; @near is at the other end of the tunnel. Returns the time."""
    if situation == "closed window":
        fill(near)
    vanish(far)
    if situation == "data in flight":
        near.sendall(b"into the void")
    return time.monotonic()


def fill(sock):
    """Sends until no byte is accepted for half a second."""
    sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            sock.send(bytes(1 << 16))


@effect("agentd", "timeouts.vanished")
def test_target_vanishes(parts, situation):
    """The client gets a reset, the device's line has the target and the reason, and the stream's place is free."""
    sock = parts.tunnel.dial()
    sock.sendall(b"hello")
    far = parts.target.first()
    assert harness.receive_exactly(far, 5) == b"hello"
    take_away(sock, far, situation)
    took = reset_of(sock)
    assert LIMIT_S / 2 < took < LIMIT_S + 8, took  # a closed window: after its second unanswered probe
    assert parts.tunnel.event("stream-ended")["code"] == TARGET_VANISHED
    parts.agent.wait_for(rf"warn .*stream=\d+ service=ssh ended target=127.0.0.1:{parts.target.port} source=.*"
                         'reason="the target vanished: it no longer answers"')
    parts.tunnel.wait_for("connection to ssh failed: the target vanished: it no longer answers")
    far.close()


@effect("cli", "timeouts.vanished")
def test_local_client_vanishes(parts, situation):
    """The same at the operator's side: the target gets a reset."""
    sock = parts.tunnel.dial()
    sock.sendall(b"hello")
    far = parts.target.first()
    assert harness.receive_exactly(far, 5) == b"hello"
    take_away(far, sock, situation)
    took = reset_of(far)
    assert LIMIT_S / 2 < took < LIMIT_S + 8, took
    assert parts.tunnel.event("stream-ended")["code"] == CLIENT_VANISHED
    parts.agent.wait_for('service=ssh ended target=.*reason="the client vanished: it no longer answers"')
    parts.tunnel.wait_for("connection to ssh failed: the client vanished: it no longer answers")
    sock.close()
    far.close()


@pytest.mark.parametrize("reader", ["target", "client"])
def test_reader_that_pauses_keeps_its_connection(parts, reader):
    """A window that is closed for longer than the limit: its probes are answered. Then every byte arrives."""
    sock, n = parts.tunnel.dial(), 12 * MIB
    sock.sendall(b"x")
    far = parts.target.first()
    assert harness.receive_exactly(far, 1) == b"x"
    source, sink = (sock, far) if reader == "target" else (far, sock)
    sink.settimeout(LIMIT)

    def receive():
        end = time.monotonic() + 2.5 * LIMIT_S
        wait_until(lambda: time.monotonic() > end, "the pause")
        harness.receive_pattern(sink, "slow", n)

    harness.in_threads(lambda: harness.send_pattern(source, "slow", n), receive)
    sink.sendall(b"y")
    assert harness.receive_exactly(source, 1) == b"y"
    sock.close()
    far.close()


def test_idle_connection_of_a_running_target_stays(parts):
    with parts.tunnel.dial() as sock:
        sock.sendall(b"x")
        far = parts.target.first()
        assert harness.receive_exactly(far, 1) == b"x"
        end = time.monotonic() + 2.5 * LIMIT_S
        wait_until(lambda: time.monotonic() > end, "silence of both sides")
        far.sendall(b"y")
        assert harness.receive_exactly(sock, 1) == b"y"
        far.close()


@pytest.fixture
def network(env):
    network = netns.Network()
    try:
        with netns.inside(network.middle):
            yield network
            env.close()  # before its network is removed
    finally:
        network.close()


def test_target_without_a_network(env, network):
    """The cable of the target's machine is pulled: open connections end, new ones fail in a bounded time, and each has its reason."""
    with netns.inside(network.edge):
        listener = socket.create_server(("198.18.0.2", 0))
    port = listener.getsockname()[1]
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(agentd=f"""
        services = {{ far = "198.18.0.2:{port}"; }};
        timeouts = {{ vanished = "{LIMIT_S}s"; dial = "1500ms"; }};"""))
    tunnel = env.connect("GatewayOli", "0:far")
    socks = [tunnel.dial() for _ in range(2)]
    accepted = []
    for sock in socks:
        sock.sendall(b"x")
        accepted.append(listener.accept()[0])
        assert harness.receive_exactly(accepted[-1], 1) == b"x"
    network.ip(network.edge, "link set up0 down")
    socks[0].sendall(b"into the void")
    for sock in socks:
        assert reset_of(sock) < LIMIT_S + 8
    for n in (1, 2):
        assert tunnel.event("stream-ended", count=n)["code"] == TARGET_VANISHED
    agent.wait_for(rf'ended target=198.18.0.2:{port} .*reason="the target vanished', count=2)
    sock, started = tunnel.dial(), time.monotonic()
    reset_of(sock)
    assert time.monotonic() - started < 1.5 + 3
    line = agent.wait_for(rf'service=far not connected target=198.18.0.2:{port} seconds=[\d.]+ reason="(.*?)"')
    assert re.match("the target (did not answer|cannot be reached)", line[1])
    for sock in (*socks, *accepted, listener):
        sock.close()
