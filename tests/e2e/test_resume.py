# SPDX-License-Identifier: ISC
"""Sessions that outlive the network: streams are parked, dial the relay again, and go on to the byte."""

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
from test_faults import open_stream
from test_tunnel import assert_broken

MIB = 1 << 20
RECOVERY = 5 if harness.SANITIZER == "none" else 20


def test_relay_killed_under_load(world, seed):
    """kill -9 and another relay a moment later, again and again: every stream goes on, no byte is lost."""
    world.broker()
    relay = world.relay()
    load = Steady(world, 6)
    world.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = world.connect()
    load.start(tunnel)
    for round_ in range(4):
        load.wait_for_progress(seed.randrange(64 << 10, 4 * MIB))
        relay.kill()
        relay = world.relay()
        begun = time.monotonic()
        load.wait_for_progress(64 << 10)
        took = time.monotonic() - begun
        print(f"round {round_}: all streams go on {took:.2f} s after the relay is back")
        assert took < RECOVERY
        tunnel.event("link-lost", count=round_ + 1)
        assert tunnel.event("link-back", count=round_ + 1)["seconds"] < RECOVERY + 2
    load.finish(tunnel)
    assert len([e for e in tunnel.events() if e["event"] in ("link-lost", "link-back")]) == 8
    assert tunnel.close_politely() == 0


def test_relay_restarted_politely(world):
    """SIGTERM says that the relay stops: that is no goodbye of the device's."""
    world.broker()
    relay = world.relay()
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    sock = open_stream(tunnel)
    relay.send(signal.SIGTERM)
    relay.wait_for("draining")
    assert relay.stop() == 0  # the second does not wait for the streams
    world.relay()
    sock.sendall(b"again")
    assert harness.receive_exactly(sock, 5) == b"again"
    open_stream(tunnel).close()
    tunnel.event("link-back")
    assert tunnel.close_politely() == 0


def test_relay_away_for_long_then_back(world):
    """Neither end loses what waits: it is more than the rings hold."""
    world.broker()
    relay = world.relay()
    heard = {}

    def target(sock):
        heard["up"] = harness.digest_to_eof(sock)
        harness.send_pattern(sock, "down", 8 * MIB)

    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(target).port)
    tunnel = world.connect()
    sock = tunnel.dial()

    def send():
        harness.send_pattern(sock, "up", 24 * MIB)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    relay.kill()
    tunnel.event("link-lost")
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() - gone > 8, "a while without a relay")
    assert tunnel.is_running() and sender.is_alive()
    world.relay()
    assert harness.digest_to_eof(sock) == (8 * MIB, harness.digest_of_pattern("down", 8 * MIB))
    assert heard["up"] == (24 * MIB, harness.digest_of_pattern("up", 24 * MIB))
    assert tunnel.event("stream-ended")["code"] == 0
    assert tunnel.event("link-back")["seconds"] >= 7


def test_after_the_window_both_ends_are_broken(world):
    world.broker()
    relay = world.relay()
    seen = {}

    def target(sock):
        sock.sendall(b"hello")
        try:
            while sock.recv(4096):
                pass
            seen["end"] = "in order"
        except ConnectionResetError:
            seen["end"] = "reset"

    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(target).port, GOTTHARD_RESUME_WINDOW="3s")
    tunnel = world.connect(GOTTHARD_RESUME_WINDOW="3s")
    sock = tunnel.dial()
    assert harness.receive_exactly(sock, 5) == b"hello"
    relay.kill()
    begun = time.monotonic()
    assert_broken(sock)
    assert tunnel.wait() in (69, 75)
    took = time.monotonic() - begun
    assert 2.5 < took < 8, took
    assert "GTD-E70" in tunnel.log()
    wait_until(lambda: "end" in seen, "the device let its connection go")
    assert seen["end"] == "reset"
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=10)


def test_a_dead_relay_at_first_is_told_at_once(world):
    world.broker()
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    begun = time.monotonic()
    done = world.cli("connect", "GatewayOli")
    assert done.returncode == 69 and "GTD-E50" in done.stderr, done.stderr
    assert time.monotonic() - begun < 20


def test_ctrl_c_while_parked(world):
    world.broker()
    relay = world.relay()
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    sock = open_stream(tunnel)
    relay.kill()
    tunnel.event("link-lost")
    begun = time.monotonic()
    assert tunnel.close_politely() == 0
    assert time.monotonic() - begun < 2.5
    assert "GatewayOli could not be told" in tunnel.log()
    assert_broken(sock)


def test_worker_killed_is_told_quickly(world):
    """Not after the whole window: the agent's listener knows it, and says so at the relay."""
    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    os.kill(worker, signal.SIGKILL)
    begun = time.monotonic()
    assert_broken(sock)
    assert tunnel.wait() == 69
    assert time.monotonic() - begun < 5
    assert "GTD-E71" in tunnel.log()


def test_operator_killed_frees_the_device(world):
    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port, GOTTHARD_RESUME_WINDOW="2s")
    tunnel = world.connect()
    sock = open_stream(tunnel)
    tunnel.kill()
    wait_until(lambda: not world.targets[0].connections, "the device let its connection go", limit=10)
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=10)
    sock.close()


def test_ssh_outlives_a_relay(world):
    world.broker()
    relay = world.relay()
    sshd = harness.Sshd(world)
    world.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    tunnel = world.connect()
    shell = subprocess.Popen(sshd.ssh(tunnel.port(), "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        shell.stdin.write(b"before\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"before\n"
        relay.kill()
        shell.stdin.write(b"meanwhile\n")
        shell.stdin.flush()
        world.relay()
        assert shell.stdout.readline() == b"meanwhile\n"
        out, _ = shell.communicate(b"after\n", timeout=LIMIT)
        assert out == b"after\n" and shell.returncode == 0
    finally:
        shell.kill()
        shell.wait()


# --- a bad network between one side and the relay ------------------------------------------------------


@pytest.fixture(params=["operator", "device"])
def behind_proxy(request, world):
    """The one side reaches the relay through a proxy at another loopback address."""
    world.broker()
    world.relay("--bind", "127.0.0.1")
    proxy = Proxy.before_relay(world)
    load = Steady(world, 4)
    there = {"GOTTHARD_SERVER_HOST": proxy.host}
    world.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port, **(there if request.param == "device" else {}))
    tunnel = world.connect(**(there if request.param == "operator" else {}))
    load.start(tunnel)
    yield proxy, load, tunnel
    proxy.close()


def test_a_network_that_cuts_at_random(behind_proxy, seed):
    proxy, load, tunnel = behind_proxy
    worst = 0
    for _ in range(12):
        load.wait_for_progress(seed.randrange(1, MIB))
        proxy.cut(is_reset=seed.random() < 0.5, choose=lambda n: seed.random() < 0.6)
        begun = time.monotonic()
        load.wait_for_progress(64 << 10)
        worst = max(worst, time.monotonic() - begun)
    print(f"worst recovery {worst:.2f} s")
    assert worst < RECOVERY
    load.finish(tunnel)
    assert tunnel.close_politely() == 0


def test_a_network_that_refuses_for_a_while(behind_proxy):
    proxy, load, tunnel = behind_proxy
    for is_reset in (True, False):
        proxy.is_refusing = True
        proxy.cut(is_reset)
        gone = time.monotonic()
        wait_until(lambda: time.monotonic() - gone > 3, "three seconds without a way")
        proxy.is_refusing = False
        load.wait_for_progress(64 << 10)
        assert time.monotonic() - gone < 3 + 2 * RECOVERY
    load.finish(tunnel)


def test_a_network_that_swallows_for_a_while(behind_proxy):
    """A black hole of a few seconds costs nothing but them; one that ends with a cut is dialled around."""
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
    """Cuts at any moment of a connection's life: what ends in order was whole, both ways, and the rest was reset."""
    proxy, load, tunnel = behind_proxy
    is_over = threading.Event()
    outcomes = {"exact": 0, "loud": 0}

    def mirror_the_digest(sock):
        total, digest = harness.digest_to_eof(sock)
        sock.sendall(f"{total} {digest}".encode())

    def device(sock):
        with contextlib.suppress(ConnectionError):
            mirror_the_digest(sock)

    load.target.behaviour = device

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

    def weather():
        try:
            for _ in range(15):
                is_over.wait(0.1 + seed.random() * 0.5)
                proxy.cut(is_reset=seed.random() < 0.5, choose=lambda n: seed.random() < 0.5)
        finally:
            is_over.set()

    in_threads(weather, *[lambda s=s: operator(random.Random(s)) for s in range(6)])
    print(outcomes)
    assert outcomes["exact"] > 10
    load.finish(tunnel)
    ended = [e for e in tunnel.events() if e["event"] == "stream-ended" and e["code"] == 0]
    assert len(ended) >= outcomes["exact"]
