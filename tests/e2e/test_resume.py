# SPDX-License-Identifier: ISC
"""Sessions survive network failures: streams are suspended, connect to the relay again, and resume byte-exact."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from faultproxy import Proxy
from harness import LIMIT, echo, in_threads, wait_until
from load import Steady
from process_stats import is_within
from test_faults import open_stream
from test_tunnel import assert_broken

MIB = 1 << 20
RECOVERY = 5 if harness.SANITIZER == "none" else 20


def test_relay_killed_under_load(env, seed):
    """SIGKILL and a new relay a moment later, repeatedly: every stream resumes, and no byte is lost."""
    env.broker()
    relay = env.relay()
    load = Steady(env, 6)
    env.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = env.connect()
    load.start(tunnel)
    for round_ in range(4):
        load.wait_for_progress(seed.randrange(64 << 10, 4 * MIB))
        relay.kill()
        relay = env.relay()
        started = time.monotonic()
        load.wait_for_progress(64 << 10)
        took = time.monotonic() - started
        print(f"round {round_}: all streams go on {took:.2f} s after the relay is back")
        assert is_within(took, RECOVERY)
        tunnel.event("relay-lost", count=round_ + 1)
        assert is_within(tunnel.event("relay-back", count=round_ + 1)["seconds"], RECOVERY + 2)
    load.finish(tunnel)
    assert len([e for e in tunnel.events() if e["event"] in ("relay-lost", "relay-back")]) == 8
    assert tunnel.disconnect() == 0


def test_relay_restarted_with_sigterm(env):
    """After SIGTERM the relay announces its stop, which does not count as the BYE of a device."""
    env.broker()
    relay = env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    relay.send(signal.SIGTERM)
    relay.wait_for("draining")
    assert relay.stop() == 0  # the second does not wait for the streams
    env.relay()
    sock.sendall(b"again")
    assert harness.receive_exactly(sock, 5) == b"again"
    open_stream(tunnel).close()
    tunnel.event("relay-back")
    assert tunnel.disconnect() == 0


def test_relay_away_for_long_then_back(env):
    """Neither end loses waiting data: there is more than the rings can hold."""
    env.broker()
    relay = env.relay()
    received = {}

    def target(sock):
        received["up"] = harness.digest_to_eof(sock)
        harness.send_pattern(sock, "down", 8 * MIB)

    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(target).port)
    tunnel = env.connect()
    sock = tunnel.dial()

    def send():
        harness.send_pattern(sock, "up", 24 * MIB)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    relay.kill()
    tunnel.event("relay-lost")
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() - gone > 8, "a while without a relay")
    assert tunnel.is_running() and sender.is_alive()
    env.relay()
    assert harness.digest_to_eof(sock) == (8 * MIB, harness.digest_of_pattern("down", 8 * MIB))
    assert received["up"] == (24 * MIB, harness.digest_of_pattern("up", 24 * MIB))
    assert tunnel.event("stream-ended")["code"] == 0
    assert tunnel.event("relay-back")["seconds"] >= 7


def test_after_the_window_both_ends_are_broken(env):
    env.broker()
    relay = env.relay()
    seen = {}

    def target(sock):
        sock.sendall(b"hello")
        try:
            while sock.recv(4096):
                pass
            seen["end"] = "in order"
        except ConnectionResetError:
            seen["end"] = "reset"

    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(target).port, GOTTHARD_TIMEOUTS_RESUME_WINDOW="3s")
    tunnel = env.connect(GOTTHARD_TIMEOUTS_RESUME_WINDOW="3s")
    sock = tunnel.dial()
    assert harness.receive_exactly(sock, 5) == b"hello"
    relay.kill()
    started = time.monotonic()
    assert_broken(sock)
    assert tunnel.wait() in (69, 75)
    took = time.monotonic() - started
    assert 2.5 < took < 8, took
    assert "GTD-E70" in tunnel.log() and "connection to the relay lost: " in tunnel.log()
    wait_until(lambda: "end" in seen, "the device let its connection go")
    assert seen["end"] == "reset"
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=10)


def test_unreachable_relay_fails_after_the_peer_timeout(env):
    env.broker()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    started = time.monotonic()
    done = env.cli("connect", "GatewayOli", GOTTHARD_TIMEOUTS_PEER="2s")
    assert done.returncode == 69 and "GTD-E50" in done.stderr, done.stderr
    assert time.monotonic() - started < 20


def test_ctrl_c_while_parked(env):
    env.broker()
    relay = env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    relay.kill()
    tunnel.event("relay-lost")
    started = time.monotonic()
    assert tunnel.disconnect() == 0
    assert time.monotonic() - started < 2.5
    assert "GatewayOli could not be notified" in tunnel.log()
    assert_broken(sock)


def test_worker_killed_is_reported_before_the_window_ends(env):
    """Not after the whole window: the agent's listener detects it and notifies the relay."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    os.kill(worker, signal.SIGKILL)
    started = time.monotonic()
    assert_broken(sock)
    assert tunnel.wait() == 69
    assert time.monotonic() - started < 5
    assert "GTD-E71" in tunnel.log()


def test_operator_killed_frees_the_device(env):
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, GOTTHARD_TIMEOUTS_RESUME_WINDOW="2s")
    tunnel = env.connect()
    sock = open_stream(tunnel)
    tunnel.kill()
    wait_until(lambda: not env.targets[0].connections, "the device let its connection go", limit=10)
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=10)
    sock.close()


def test_ssh_outlives_a_relay(env):
    env.broker()
    relay = env.relay()
    sshd = harness.Sshd(env)
    env.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    tunnel = env.connect()
    shell = subprocess.Popen(sshd.ssh(tunnel.port(), "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        shell.stdin.write(b"before\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"before\n"
        relay.kill()
        shell.stdin.write(b"meanwhile\n")
        shell.stdin.flush()
        env.relay()
        assert shell.stdout.readline() == b"meanwhile\n"
        out, _ = shell.communicate(b"after\n", timeout=LIMIT)
        assert out == b"after\n" and shell.returncode == 0
    finally:
        shell.kill()
        shell.wait()


# --- a bad network between one side and the relay ------------------------------------------------------


@pytest.fixture(params=["operator", "device"])
def behind_proxy(request, env):
    """One side connects to the relay through a proxy at another loopback address."""
    env.broker()
    env.relay("--bind", "127.0.0.1")
    proxy = Proxy.before_relay(env)
    load = Steady(env, 4)
    there = {"GOTTHARD_SERVER_HOST": proxy.host}
    env.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port, **(there if request.param == "device" else {}))
    tunnel = env.connect(**(there if request.param == "operator" else {}))
    load.start(tunnel)
    yield proxy, load, tunnel
    proxy.close()


def test_tunnel_survives_random_cuts(behind_proxy, seed):
    proxy, load, tunnel = behind_proxy
    worst = 0
    for _ in range(12):
        load.wait_for_progress(seed.randrange(1, MIB))
        proxy.cut(is_reset=seed.random() < 0.5, choose=lambda n: seed.random() < 0.6)
        started = time.monotonic()
        load.wait_for_progress(64 << 10)
        worst = max(worst, time.monotonic() - started)
    print(f"worst recovery {worst:.2f} s")
    assert is_within(worst, RECOVERY)
    load.finish(tunnel)
    assert tunnel.disconnect() == 0


def test_tunnel_survives_refusing_network(behind_proxy):
    proxy, load, tunnel = behind_proxy
    for is_reset in (True, False):
        proxy.is_refusing = True
        proxy.cut(is_reset)
        gone = time.monotonic()
        wait_until(lambda: time.monotonic() - gone > 3, "three seconds without a way")
        proxy.is_refusing = False
        load.wait_for_progress(64 << 10)
        assert is_within(time.monotonic() - gone, 3 + 2 * RECOVERY)
    load.finish(tunnel)


def test_tunnel_survives_black_hole(behind_proxy):
    """A black hole of a few seconds costs only that time; if it ends with a cut, a new connection replaces the old one."""
    proxy, load, tunnel = behind_proxy
    for is_cut in (False, True):
        proxy.is_black = True
        gone = time.monotonic()
        wait_until(lambda: time.monotonic() - gone > 3, "three seconds of silence")
        if is_cut:
            proxy.cut()
        proxy.is_black = False
        load.wait_for_progress(64 << 10, limit=15)
    load.finish(tunnel)


def test_short_connections_are_exact_or_loud(behind_proxy, seed):
    """Cuts at any moment of a connection's life: a connection that ends in order was complete in both directions, any other is reset."""
    proxy, load, tunnel = behind_proxy
    is_over = threading.Event()
    outcomes = {"exact": 0, "loud": 0}

    def mirror_the_digest(sock):
        total, digest = harness.digest_to_eof(sock)
        sock.sendall(f"{total} {digest}".encode())

    def device(sock):
        with contextlib.suppress(ConnectionError):
            mirror_the_digest(sock)

    load.target.behavior = device

    def operator(random_):
        while not is_over.is_set():
            n = random_.choice((0, 1, 1000, 100_000, 2 * MIB))
            try:
                with tunnel.dial() as sock:
                    harness.send_pattern(sock, n, n)
                    sock.shutdown(socket.SHUT_WR)
                    answer = harness.receive_exactly(sock, 1000).decode()
                assert answer == f"{n} {harness.digest_of_pattern(n, n)}"
                outcomes["exact"] += 1
            except ConnectionError:
                outcomes["loud"] += 1

    def impairment():
        try:
            for _ in range(15):
                is_over.wait(0.1 + seed.random() * 0.5)
                proxy.cut(is_reset=seed.random() < 0.5, choose=lambda n: seed.random() < 0.5)
        finally:
            is_over.set()

    in_threads(impairment, *[lambda s=s: operator(random.Random(s)) for s in range(6)])
    print(outcomes)
    assert outcomes["exact"] > 10
    load.finish(tunnel)
    ended = [e for e in tunnel.events() if e["event"] == "stream-ended" and e["code"] == 0]
    assert len(ended) >= outcomes["exact"]
