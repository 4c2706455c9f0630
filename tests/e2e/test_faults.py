# SPDX-License-Identifier: ISC
"""Each process is killed, or runs out of descriptors: the others detect it, report it, and free everything."""

import contextlib
import os
import signal
import socket
import time

import pytest

import harness
from harness import echo, limit_files, wait_until
from test_tunnel import assert_broken


WINDOW = {"GOTTHARD_TIMEOUTS_RESUME_WINDOW": "4s"}  # shorter faults are in test_resume.py


@pytest.fixture
def parts(env):
    env.broker()
    env.relay_process = env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **WINDOW)
    return env


def open_stream(tunnel):
    sock = tunnel.dial()
    sock.sendall(b"hello")
    assert harness.receive_exactly(sock, 5) == b"hello"
    return sock


def baseline(env):
    """Descriptors and memory of the two services after the end of a first tunnel."""
    tunnel = env.connect()
    open_stream(tunnel).close()
    tunnel.disconnect()
    wait_until(lambda: not harness.children_of(env.agent_process.pid), "the worker ended")
    return settle(env)


def settle(env):
    time.sleep(0.2)  # waits for no event: the figure must be stable
    return [(harness.descriptors(p.pid), harness.rss_kib(p.pid)) for p in (env.relay_process, env.agent_process)]


def assert_back(env, before):
    def is_back():
        now = settle(env)
        return all(n[0] <= b[0] and n[1] <= b[1] * 1.25 + 2048 for n, b in zip(now, before))

    wait_until(is_back, f"descriptors and memory back to {before}, now {settle(env)}", limit=40)


def test_operator_killed(parts):
    before = baseline(parts)
    tunnel = parts.connect()
    target = parts.targets[0]
    with open_stream(tunnel):
        assert target.connections
        tunnel.kill()
        wait_until(lambda: not target.connections, "the device let its connection go", limit=10)
    wait_until(lambda: not harness.children_of(parts.agent_process.pid), "the worker ended", limit=10)
    assert_back(parts, before)
    assert receive_echo(parts)


def receive_echo(env):
    tunnel = env.connect()
    open_stream(tunnel).close()
    return tunnel.disconnect() == 0


def test_worker_killed(parts):
    before = baseline(parts)
    tunnel = parts.connect(**WINDOW)
    sock = open_stream(tunnel)
    worker, = harness.children_of(parts.agent_process.pid)
    os.kill(worker, signal.SIGKILL)
    assert_broken(sock)
    assert tunnel.wait() in (69, 75)
    assert "GTD-E7" in tunnel.log()
    assert_back(parts, before)
    assert receive_echo(parts)


def test_agent_listener_killed(parts):
    """Tunnels survive the end of the listener, and a new one replaces it."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    os.kill(parts.agent_process.pid, signal.SIGKILL)
    parts.agent_process.child.wait()
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"
    parts.agent(GOTTHARD_AGENT_DATA_PORT=parts.targets[0].port)
    assert receive_echo(parts)
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"


def test_relay_killed(parts):
    """It is not restarted in time."""
    tunnel = parts.connect(**WINDOW)
    sock = open_stream(tunnel)
    target = parts.targets[0]
    parts.relay_process.kill()
    assert_broken(sock)
    assert tunnel.wait() in (69, 75)
    assert "GTD-E7" in tunnel.log()
    wait_until(lambda: not target.connections, "the device let its connection go")
    wait_until(lambda: not harness.children_of(parts.agent_process.pid), "the worker ended", limit=60)
    parts.relay()
    assert receive_echo(parts)


def test_relay_drains_on_sigterm(parts):
    tunnel = parts.connect(**WINDOW)
    sock = open_stream(tunnel)
    started = time.monotonic()
    assert parts.relay_process.stop() == 0
    assert time.monotonic() - started < 12
    assert_broken(sock)
    assert tunnel.wait() == 69


def test_ten_seconds_of_nofile_64_on_relay_and_agent(env):
    """A flood against both while each has 64 descriptors: paired streams stay paired, no process spins, and all works afterwards."""
    env.broker()
    relay = env.relay(preexec=limit_files(64))
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, preexec=limit_files(64))
    tunnel = env.connect()
    sock = open_stream(tunnel)
    cpu = [harness.cpu_seconds(p.pid) for p in (relay, agent)]
    started = time.monotonic()
    flood = []
    while time.monotonic() - started < 10:
        if len(flood) < 150:
            flood.append(socket.socket())
            flood[-1].setblocking(False)
            flood[-1].connect_ex(("127.0.0.1", env.relay_port))
            with contextlib.suppress(ConnectionError):  # the operator's side may reset it at once
                flood.append(tunnel.dial())
        sock.sendall(b"x" * 1000)
        assert harness.receive_exactly(sock, 1000) == b"x" * 1000
        time.sleep(0.02)
    spent = [harness.cpu_seconds(p.pid) - c for p, c in zip((relay, agent), cpu)]
    for used in spent:
        assert used < 2 or harness.SANITIZER != "none", f"{used} s of 10 s"
    for one in flood:
        one.close()
    assert relay.is_running() and agent.is_running() and tunnel.is_running()

    def works():
        try:
            open_stream(tunnel).close()
            return True
        except (AssertionError, OSError):
            return False

    wait_until(works, "new connections work again", limit=30)


def test_idle_relay_with_100_sessions(env):
    """Under 0.5 % CPU, and the descriptors of 100 sessions are released."""
    env.n_relay_ports = 120
    env.relay_ports = harness.free_ports(120)
    env.broker()
    folder = env.config_folder(relayd="limits = { sessions_per_identity = 200; per_source = 1000; preauth = 1000; };",
                               agentd="limits = { sessions = 200; sessions_per_operator = 200; };")
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    before = harness.descriptors(relay.pid)
    agents = [env.agent(f"dev-{i}", GOTTHARD_CONFIG_DIR=folder) for i in range(4)]
    tunnels = [env.connect(f"dev-{i % 4}", wait=False) for i in range(100)]

    def is_up(tunnel):
        return tunnel.wait_up(120)

    for tunnel in tunnels:
        if not is_up_within(tunnel, 20):  # the devices' token buckets: 5 a second each
            tunnels[tunnels.index(tunnel)] = retry(env, tunnel)
    cpu, started = harness.cpu_seconds(relay.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 10, "ten idle seconds", limit=20)
    share = (harness.cpu_seconds(relay.pid) - cpu) / (time.monotonic() - started)
    print(f"relay idle with 100 sessions: {share * 100:.2f} % CPU, {harness.rss_kib(relay.pid)} KiB, "
          f"{harness.descriptors(relay.pid) - before} descriptors")
    assert share < 0.005 or harness.SANITIZER != "none"
    for agent in agents:
        agent.send(signal.SIGINT)
    for tunnel in tunnels:
        tunnel.wait()
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "descriptors are back")


def is_up_within(tunnel, limit):
    wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"], "up or over", limit)
    return tunnel.is_running()


def retry(env, tunnel):
    def again():
        new = env.connect(tunnel.child.args[3], wait=False)
        return new if is_up_within(new, 30) else None

    return wait_until(again, "a working tunnel", limit=120)
