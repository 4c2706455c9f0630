# SPDX-License-Identifier: ISC
"""No process spins while it waits."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

import harness
import resets
from harness import wait_until
from process_stats import pss_kib

SECONDS = 2
WAKE_UPS = 20  # per second, of all threads of a process together: heartbeat and watchdog need a few per minute

AGENT_KIB = 4096  # of an idle agent
AGENT_SECONDS = 5  # an idle agent has fewer wake-ups in this many seconds


@pytest.fixture
def parts(env):
    env.broker()
    env.relay()
    return env


class Held:
    """A target that leaves its connections to the test."""

    def __init__(self, env):
        self.sockets, self.done = [], threading.Event()
        self.port = env.target(self._hold).port

    def _hold(self, sock):
        self.sockets.append(sock)
        self.done.wait()

    def first(self):
        return wait_until(lambda: self.sockets, "the target is reached")[0]


def fill(sock):
    """Sends until no byte is accepted for half a second."""
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


def assert_idle(env, but=()):
    """Our own processes, except @but, use almost no CPU and hardly wake up."""
    pids = [p.pid for p in env.processes
            if p.is_running() and p not in but and p.name.startswith(("relayd", "agentd", "cli", "connect"))]
    pids += [child for pid in list(pids) for child in harness.children_of(pid)]
    assert len(pids) >= 3
    before = {pid: (harness.cpu_seconds(pid), wake_ups(pid)) for pid in pids}
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > SECONDS, "the measurement's duration")
    for pid, (cpu, n) in before.items():
        name = open(f"/proc/{pid}/cmdline", encoding="ascii").read().replace("\0", " ")[:80]
        assert harness.cpu_seconds(pid) - cpu < 0.05 * SECONDS, name
        if harness.SANITIZER == "none":  # a sanitizer has its own threads
            assert wake_ups(pid) - n < WAKE_UPS * SECONDS, (name, wake_ups(pid) - n)


def test_idle_agent(parts):
    """An agent without requests sends only an occasional keep-alive."""
    agent, found = parts.agent(), []

    def is_idle():
        before, end = wake_ups(agent.pid), time.monotonic() + AGENT_SECONDS
        wait_until(lambda: time.monotonic() > end, "the measurement's duration", limit=2 * AGENT_SECONDS)
        found.append(wake_ups(agent.pid) - before)
        return found[-1] < AGENT_SECONDS

    if harness.SANITIZER == "none":
        wait_until(is_idle, "fewer than one wake-up a second", limit=6 * AGENT_SECONDS)


def test_idle_agent_is_small(parts):
    """Alone it shares its libraries with fewer processes: then PSS is larger."""
    agent = parts.agent()
    assert harness.SANITIZER != "none" or pss_kib(agent.pid) <= AGENT_KIB


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
        assert_idle(parts)


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("end", ["none", "fin", "reset"])
def test_idle_while_nothing_is_read(env, end, splice):
    """Both directions are full; then one end closes, which the other cannot detect yet."""
    env.broker()
    folder = env.config_folder(relayd=f'relay = {{ splice = "{splice}"; }};')
    env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    target = Held(env)
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect()
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
        assert_idle(env)
    target.done.set()


def test_idle_while_bytes_wait_before_a_reset(env):
    """Ten clients do not read, and the target has reset their connections."""
    env.broker()
    env.relay()

    def answer_and_reset(sock):
        sock.recv(1)
        resets.send_flushed(sock, bytes(300_000))
        resets.reset(sock)

    target = env.target(answer_and_reset)
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", tunnel.port()))
            sock.sendall(b"?")
        wait_until(lambda: target.n_accepted == 10 and not target.connections, "the target has reset all")
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1.5, "the pauses have grown")
        assert_idle(env)
        assert not [e for e in tunnel.events() if e["event"] == "stream-ended"], "nothing waits"


@pytest.mark.parametrize("side", ["operator", "device"])
def test_half_closed(parts, held, side):
    tunnel = parts.connect()
    with tunnel.dial() as sock:
        far = held.first()
        near, other = (sock, far) if side == "operator" else (far, sock)
        near.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        assert_idle(parts)


@pytest.mark.parametrize("who", ["relayd", "worker", "cli"])
def test_idle_while_a_process_is_stopped(parts, held, who):
    """One of the three processes is stopped during a transfer. The other two wait for it."""
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
            assert_idle(parts)
        finally:
            os.kill(pid, signal.SIGCONT)
