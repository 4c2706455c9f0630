# SPDX-License-Identifier: ISC
"""What a restart of the relay, of the device or of an operator's command means for the other two."""

import contextlib
import os
import re
import secrets
import signal
import time

import pytest

import harness
from faultproxy import Proxy
from harness import echo, wait_until
from test_faults import open_stream
from test_relay_protocol import Client
from test_tunnel import assert_broken


@pytest.fixture
def parts(world):
    world.clients = []
    world.broker()
    world.relay_process = world.relay()
    world.agent_process = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    yield world
    for client in world.clients:
        client.kill()


def hears(sock, text):
    sock.sendall(text)
    return harness.receive_exactly(sock, len(text)) == text


def relay_on(world, first, n=1, **more):
    """Another relay, with another range of ports."""
    return world.relay(env=world.relay_environment(
        GOTTHARD_SERVER_PORTS_FROM=first, GOTTHARD_SERVER_PORTS_TO=first + n - 1, **more))


def ports_of_sessions(relay):
    """What the relay said to each side that registered."""
    return [int(m.group(1)) for m in re.finditer(r"session=\w+ (?:operator|device)=.* port=(\d+)", relay.log())]


# --- ports ----------------------------------------------------------------------------------------


def test_the_port_stays_the_same(parts):
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    relay = parts.relay_process
    port, = set(ports_of_sessions(relay))
    for _ in range(2):
        relay.kill()
        relay = parts.relay()
        assert hears(sock, b"again")
        assert set(ports_of_sessions(relay)) == {port}
    assert tunnel.close_politely() == 0


def test_another_range_of_ports(parts):
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    others = harness.free_ports(2)
    parts.relay_process.kill()
    relay = relay_on(parts, others, 2)
    assert hears(sock, b"on another port")
    assert open_stream(tunnel)
    assert set(ports_of_sessions(relay)) <= {others, others + 1}
    assert tunnel.close_politely() == 0


def test_no_port_is_asked_for_again(parts):
    """The only port is another's when the two come back: they say so, try again, and go on once it is free."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(parts.agent_process.pid)
    for pid in (tunnel.pid, worker):
        os.kill(pid, signal.SIGSTOP)
    parts.relay_process.kill()
    only = harness.free_ports(1)
    folder = parts.config_folder(relayd='server = { ports_rest = "100ms"; };')
    relay = relay_on(parts, only, GOTTHARD_CONFIG_DIR=folder)
    other = Client(parts, "g1:o:bob")
    rid = secrets.token_hex(16)
    assert other.register(rid) == only
    for pid in (tunnel.pid, worker):
        os.kill(pid, signal.SIGCONT)
    relay.wait_for("refused .*all ports .* are taken or resting")
    parts.agent_process.wait_for("the relay is lost")
    assert tunnel.is_running()
    other.do("bye", 1, rid)
    assert hears(sock, b"at last")
    assert set(ports_of_sessions(relay)) == {only}
    assert tunnel.close_politely() == 0


def test_no_port_at_first_is_an_error(parts):
    parts.relay_process.stop()
    only = harness.free_ports(1)
    relay_on(parts, only)
    assert Client(parts, "g1:o:bob").register(secrets.token_hex(16)) == only
    done = parts.cli("connect", "GatewayOli")
    assert done.returncode == 75 and "GTD-E52" in done.stderr, done.stderr
    assert "no free port" in done.stderr


# --- how long a restart takes ---------------------------------------------------------------------


def test_a_polite_restart_is_short(parts):
    """TERM and start: the gap that an open stream sees, and the time for which nobody can connect."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    gaps = []
    relay = parts.relay_process
    for _ in range(3):
        begun = time.monotonic()
        assert relay.stop() == 0
        stopped = time.monotonic() - begun
        relay = parts.relay()
        assert hears(sock, b"after the restart")
        gaps.append((time.monotonic() - begun, stopped))
    print("seconds of a restart (all, of which stopping): " + ", ".join(f"{a:.2f} ({s:.2f})" for a, s in gaps))
    assert harness.SANITIZER != "none" or sorted(gaps)[1][0] < 3
    assert tunnel.close_politely() == 0


# --- goodbyes that were not heard -----------------------------------------------------------------


class Network:
    """The way of one side to the relay."""

    def __init__(self, world, host):
        self.host = host
        self.proxy = Proxy(host, [world.relay_port, *range(world.relay_ports, world.relay_ports + world.n_relay_ports)])

    def break_(self):
        self.proxy.is_refusing = True
        self.proxy.cut(is_reset=True)

    def mend(self):
        self.proxy.is_refusing = False


@pytest.fixture
def apart(world):
    """A broker, a relay, and a network of its own for the device."""
    world.broker()
    world.relay_process = world.relay("--bind", "127.0.0.1")
    world.network = Network(world, loopback())
    world.agent_process = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port,
                                      GOTTHARD_SERVER_HOST=world.network.host)
    yield world
    world.network.proxy.close()


def loopback():
    return f"127.{secrets.randbelow(253) + 1}.{secrets.randbelow(253) + 1}.{secrets.randbelow(252) + 2}"


def workers_end(agent, limit):
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=limit)


def test_a_goodbye_is_heard_by_a_device_that_was_away(apart):
    tunnel = apart.connect()
    open_stream(tunnel)
    apart.network.break_()
    tunnel.event("peer-lost")
    assert tunnel.close_politely() == 0
    apart.agent_process.wait_for("the relay is lost")
    apart.network.mend()
    apart.agent_process.wait_for("ended: cause=closed .*closed by the operator", limit=15)
    workers_end(apart.agent_process, 5)


def test_a_goodbye_is_heard_by_an_operator_that_was_away(world):
    world.broker()
    world.relay("--bind", "127.0.0.1")
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    network = Network(world, loopback())
    tunnel = world.connect(GOTTHARD_SERVER_HOST=network.host)
    sock = open_stream(tunnel)
    network.break_()
    tunnel.event("link-lost")
    assert world.cli("disconnect", "GatewayOli").returncode == 0
    workers_end(agent, 5)
    network.mend()
    assert_broken(sock)
    assert tunnel.wait(15) == 0
    network.proxy.close()


def test_ctrl_c_between_two_tries_tells_the_device(world):
    world.broker()
    world.relay("--bind", "127.0.0.1")
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    network = Network(world, loopback())
    tunnel = world.connect(GOTTHARD_SERVER_HOST=network.host)
    open_stream(tunnel)
    network.break_()
    tunnel.event("link-lost")
    wait_until(lambda: network.proxy.n_accepted > 4, "it has tried again")
    network.mend()
    assert tunnel.close_politely() == 0
    agent.wait_for("ended: cause=closed .*closed by the operator", limit=5)
    network.proxy.close()
