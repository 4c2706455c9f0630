# SPDX-License-Identifier: ISC
"""Each party dies, or runs out of descriptors: the others notice, say so, and free everything."""

import contextlib
import os
import signal
import socket
import time

import pytest

import harness
from harness import echo, limit_files, wait_until
from test_tunnel import assert_broken


WINDOW = {"GOTTHARD_RESUME_WINDOW": "4s"}  # what outlives a shorter fault is test_resume.py's


@pytest.fixture
def parts(world):
    world.broker()
    world.relay_process = world.relay()
    world.agent_process = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port, **WINDOW)
    return world


def open_stream(tunnel):
    sock = tunnel.dial()
    sock.sendall(b"hello")
    assert harness.receive_exactly(sock, 5) == b"hello"
    return sock


def baseline(world):
    """Descriptors and memory of the two services, after one tunnel has come and gone."""
    tunnel = world.connect()
    open_stream(tunnel).close()
    tunnel.close_politely()
    wait_until(lambda: not harness.children_of(world.agent_process.pid), "the worker ended")
    return settle(world)


def settle(world):
    time.sleep(0.2)  # not for anything to happen: to read a figure that has come to rest
    return [(harness.descriptors(p.pid), harness.rss_kib(p.pid)) for p in (world.relay_process, world.agent_process)]


def assert_back(world, before):
    def is_back():
        now = settle(world)
        return all(n[0] <= b[0] and n[1] <= b[1] * 1.25 + 2048 for n, b in zip(now, before))

    wait_until(is_back, f"descriptors and memory back to {before}, now {settle(world)}", limit=40)


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
    assert hear_echo(parts)


def hear_echo(world):
    tunnel = world.connect()
    open_stream(tunnel).close()
    return tunnel.close_politely() == 0


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
    assert hear_echo(parts)


def test_agent_listener_killed(parts):
    """The listener's death leaves tunnels alone, and a new one takes its place."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    os.kill(parts.agent_process.pid, signal.SIGKILL)
    parts.agent_process.child.wait()
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"
    parts.agent(GOTTHARD_AGENT_DATA_PORT=parts.targets[0].port)
    assert hear_echo(parts)
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"


def test_relay_killed(parts):
    """And nobody starts it again in time."""
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
    assert hear_echo(parts)


def test_relay_drains_on_sigterm(parts):
    tunnel = parts.connect(**WINDOW)
    sock = open_stream(tunnel)
    begun = time.monotonic()
    assert parts.relay_process.stop() == 0
    assert time.monotonic() - begun < 12
    assert_broken(sock)
    assert tunnel.wait() == 69


def test_ten_seconds_of_nofile_64_on_relay_and_agent(world):
    """A flood against both while each has 64 descriptors: what is joined stays joined, nobody spins, and it all works after."""
    world.broker()
    relay = world.relay(preexec=limit_files(64))
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port, preexec=limit_files(64))
    tunnel = world.connect()
    sock = open_stream(tunnel)
    cpu = [harness.cpu_seconds(p.pid) for p in (relay, agent)]
    begun = time.monotonic()
    flood = []
    while time.monotonic() - begun < 10:
        if len(flood) < 150:
            flood.append(socket.socket())
            flood[-1].setblocking(False)
            flood[-1].connect_ex(("127.0.0.1", world.relay_port))
            with contextlib.suppress(ConnectionError):  # the operator's side may turn it away at once
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


def test_idle_relay_with_100_sessions(world):
    """Under 0.5 % CPU, and the descriptors of 100 sessions come back."""
    world.n_relay_ports = 120
    world.relay_ports = harness.free_ports(120)
    world.broker()
    folder = world.config_folder(relayd="limits = { sessions_per_identity = 200; per_source = 1000; preauth = 1000; "
                                        "preauth_drop_from = 1000; };",
                                 agentd="limits = { sessions = 200; per_operator = 200; };")
    relay = world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    before = harness.descriptors(relay.pid)
    agents = [world.agent(f"dev-{i}", GOTTHARD_CONFIG_DIR=folder) for i in range(4)]
    tunnels = [world.connect(f"dev-{i % 4}", wait=False) for i in range(100)]

    def is_up(tunnel):
        return tunnel.wait_up(120)

    for tunnel in tunnels:
        if not is_up_within(tunnel, 20):  # the devices' token buckets: 5 a second each
            tunnels[tunnels.index(tunnel)] = retry(world, tunnel)
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 10, "ten idle seconds", limit=20)
    share = (harness.cpu_seconds(relay.pid) - cpu) / (time.monotonic() - begun)
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


def retry(world, tunnel):
    def again():
        new = world.connect(tunnel.child.args[3], wait=False)
        return new if is_up_within(new, 30) else None

    return wait_until(again, "a tunnel at last", limit=120)
