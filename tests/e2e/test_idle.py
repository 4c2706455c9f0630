# SPDX-License-Identifier: ISC
"""Whoever waits, waits: nobody spins, whatever it is that does not come."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

import harness
from harness import wait_until

SECONDS = 2
WAKE_UPS = 20  # a second, of all threads of a process together: a heartbeat and a watchdog are a few a minute

AGENT_SECONDS = 5  # ... and of an agent in that many, fewer than that


@pytest.fixture
def parts(world):
    world.broker()
    world.relay()
    return world


class Held:
    """A target that does nothing with its connections; they are the test's."""

    def __init__(self, world):
        self.sockets, self.done = [], threading.Event()
        self.port = world.target(self._hold).port

    def _hold(self, sock):
        self.sockets.append(sock)
        self.done.wait()

    def first(self):
        return wait_until(lambda: self.sockets, "the target is reached")[0]


def fill(sock):
    """Sends until for half a second nobody takes a byte."""
    sock.settimeout(0.5)
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def wake_ups(pid):
    n = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError):
            for line in open(f"/proc/{pid}/task/{task}/status", encoding="ascii"):
                n += int(line.split()[1]) if line.startswith("voluntary_ctxt_switches") else 0
    return n


def assert_quiet(world, but=()):
    """None of our own processes does anything worth mentioning."""
    pids = [p.pid for p in world.processes
            if p.is_running() and p not in but and p.name.startswith(("relayd", "agentd", "cli", "connect"))]
    pids += [child for pid in list(pids) for child in harness.children_of(pid)]
    assert len(pids) >= 3
    before = {pid: (harness.cpu_seconds(pid), wake_ups(pid)) for pid in pids}
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > SECONDS, "the time of a measurement")
    for pid, (cpu, n) in before.items():
        name = open(f"/proc/{pid}/cmdline", encoding="ascii").read().replace("\0", " ")[:80]
        assert harness.cpu_seconds(pid) - cpu < 0.05 * SECONDS, name
        if harness.SANITIZER == "none":  # they have threads of their own
            assert wake_ups(pid) - n < WAKE_UPS * SECONDS, (name, wake_ups(pid) - n)


def test_idle_agent(parts):
    """Who is asked for nothing says nothing but, now and then, that it lives."""
    agent, found = parts.agent(), []

    def is_idle():
        before, end = wake_ups(agent.pid), time.monotonic() + AGENT_SECONDS
        wait_until(lambda: time.monotonic() > end, "the time of a measurement", limit=2 * AGENT_SECONDS)
        found.append(wake_ups(agent.pid) - before)
        return found[-1] < AGENT_SECONDS

    if harness.SANITIZER == "none":
        wait_until(is_idle, "fewer than one wake-up a second", limit=6 * AGENT_SECONDS)


@pytest.fixture
def held(parts):
    target = Held(parts)
    parts.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    yield target
    target.done.set()


def test_idle(parts, held):
    tunnel = parts.connect()
    with tunnel.dial():
        held.first()
        assert_quiet(parts)


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("end", ["none", "fin", "reset"])
def test_nobody_reads(world, end, splice):
    """Both directions are full to the brim; and then one end hangs up, which nobody can notice yet."""
    world.broker()
    folder = world.config_folder(relayd=f'relay = {{ splice = "{splice}"; }};')
    world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    target = Held(world)
    world.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = world.connect()
    with tunnel.dial() as sock:
        far = target.first()
        fill(sock)
        fill(far)
        fill(sock)
        if end == "fin":
            sock.shutdown(socket.SHUT_WR)
        elif end == "reset":
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            far.close()
        assert_quiet(world)
    target.done.set()


@pytest.mark.parametrize("side", ["operator", "device"])
def test_half_closed(parts, held, side):
    tunnel = parts.connect()
    with tunnel.dial() as sock:
        far = held.first()
        near, other = (sock, far) if side == "operator" else (far, sock)
        near.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        assert_quiet(parts)


@pytest.mark.parametrize("who", ["relayd", "worker", "cli"])
def test_frozen(parts, held, who):
    """One of the three is stopped in the middle of a transfer; the other two wait for it."""
    tunnel = parts.connect()
    agent = next(p for p in parts.processes if p.name.startswith("agentd"))
    relay = next(p for p in parts.processes if p.name.startswith("relayd"))
    pid = {"relayd": relay.pid, "worker": harness.children_of(agent.pid)[0], "cli": tunnel.pid}[who]
    with tunnel.dial() as sock:
        far = held.first()
        os.kill(pid, signal.SIGSTOP)
        try:
            fill(sock)
            fill(far)
            assert_quiet(parts)
        finally:
            os.kill(pid, signal.SIGCONT)
