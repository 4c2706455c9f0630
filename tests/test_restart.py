# SPDX-License-Identifier: ISC
"""What a restart of the relay, of the device or of an operator's command means for the other two."""

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
from settings import effect
from test_agent import pid_is_there
from relayclient import Client
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


def break_(network):
    network.is_refusing = True
    network.cut(is_reset=True)


def mend(network):
    network.is_refusing = False


@pytest.fixture
def apart(world):
    """A broker, a relay, and a network of its own for the device."""
    world.broker()
    world.relay_process = world.relay("--bind", "127.0.0.1")
    world.network = Proxy.before_relay(world)
    world.agent_process = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port,
                                      GOTTHARD_SERVER_HOST=world.network.host)
    yield world
    world.network.close()


def workers_end(agent, limit):
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended", limit=limit)


def test_a_goodbye_is_heard_by_a_device_that_was_away(apart):
    tunnel = apart.connect()
    open_stream(tunnel)
    break_(apart.network)
    tunnel.event("peer-lost")
    assert tunnel.close_politely() == 0
    apart.agent_process.wait_for("the relay is lost")
    mend(apart.network)
    apart.agent_process.wait_for("ended: cause=closed .*closed by the operator", limit=15)
    workers_end(apart.agent_process, 5)


def test_a_goodbye_is_heard_by_an_operator_that_was_away(world):
    world.broker()
    world.relay("--bind", "127.0.0.1")
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    network = Proxy.before_relay(world)
    tunnel = world.connect(GOTTHARD_SERVER_HOST=network.host)
    sock = open_stream(tunnel)
    break_(network)
    tunnel.event("link-lost")
    assert world.cli("disconnect", "GatewayOli").returncode == 0
    workers_end(agent, 5)
    mend(network)
    assert_broken(sock)
    assert tunnel.wait(15) == 0
    network.close()


def test_ctrl_c_between_two_tries_tells_the_device(world):
    world.broker()
    world.relay("--bind", "127.0.0.1")
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    network = Proxy.before_relay(world)
    tunnel = world.connect(GOTTHARD_SERVER_HOST=network.host)
    open_stream(tunnel)
    break_(network)
    tunnel.event("link-lost")
    wait_until(lambda: network.n_accepted > 4, "it has tried again")
    mend(network)
    assert tunnel.close_politely() == 0
    assert "could not be told" not in tunnel.log()
    agent.wait_for("ended: cause=closed .*closed by the operator", limit=5)
    network.close()


# --- the device's processes are killed ------------------------------------------------------------


def records(world, name="state"):
    folder = world.folder / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture
def noted(world):
    """A device whose sessions leave records."""
    world.broker()
    world.relay_process = world.relay()
    world.notes = {"STATE_DIRECTORY": records(world), "GOTTHARD_AGENT_DATA_PORT": world.target(echo).port}
    world.agent_process = world.agent(**world.notes)
    return world


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def assert_told_of_restart(tunnel, sock, begun, limit=10):
    assert_broken(sock)
    assert tunnel.wait(limit) == 69
    took = time.monotonic() - begun
    print(f"told after {took:.2f} s")
    assert took < limit
    assert "GTD-E71" in tunnel.log() and "restarted" in tunnel.log()


def assert_new_connect_works(world):
    begun = time.monotonic()
    assert open_stream(world.connect())
    print(f"new tunnel after {time.monotonic() - begun:.2f} s")
    assert time.monotonic() - begun < 5 or harness.SANITIZER != "none"


@effect("agentd", "STATE_DIRECTORY")
def test_the_whole_agent_is_killed(noted):
    """F-15: listener and worker at once, as by a power cut; what follows tells the operator."""
    tunnel = noted.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(noted.agent_process.pid)
    begun = time.monotonic()
    kill(noted.agent_process.pid, worker)
    noted.agent(**noted.notes)
    assert_told_of_restart(tunnel, sock, begun)
    assert_new_connect_works(noted)
    wait_until(lambda: len(list(records(noted).iterdir())) == 1, "the record of the new session alone is left")


def test_the_whole_agent_is_killed_and_the_relay_does_not_know(apart):
    """As when the power fails: no connection is closed, and the relay would miss the device after 45 s only."""
    notes = {"STATE_DIRECTORY": records(apart), "GOTTHARD_AGENT_DATA_PORT": apart.target(echo).port}
    assert apart.agent_process.stop() == 0
    agent = apart.agent(GOTTHARD_SERVER_HOST=apart.network.host, **notes)
    tunnel = apart.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    ids = ",".join(str(c["id"]) for c in apart.network.connections())
    apart.network.order("black", "on", f"on={ids}")
    begun = time.monotonic()
    kill(agent.pid, worker)
    apart.agent(GOTTHARD_SERVER_HOST=apart.network.host, **notes)
    assert_told_of_restart(tunnel, sock, begun)


def test_what_one_agent_could_not_say_the_next_one_does(apart):
    """There was no way to the relay for as long as the first one lived."""
    notes = {"STATE_DIRECTORY": records(apart), "GOTTHARD_AGENT_DATA_PORT": apart.target(echo).port,
             "GOTTHARD_SERVER_HOST": apart.network.host}
    assert apart.agent_process.stop() == 0
    agent = apart.agent(**notes)
    tunnel = apart.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    break_(apart.network)
    kill(worker)
    agent.wait_for("its process was killed")
    assert agent.stop() == 0
    agent = apart.agent(**notes)
    agent.wait_for("did not live on")
    assert agent.stop() == 0
    assert tunnel.is_running()
    mend(apart.network)
    begun = time.monotonic()
    apart.agent(**notes)
    assert_told_of_restart(tunnel, sock, begun)
    wait_until(lambda: not list(records(apart).iterdir()), "the record is gone")


def test_an_adopted_worker_is_killed(noted):
    tunnel = noted.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(noted.agent_process.pid)
    assert noted.agent_process.stop() == 0
    agent = noted.agent(**noted.notes)
    agent.wait_for(f"lives on: pid={worker}")
    assert hears(sock, b"still there")
    begun = time.monotonic()
    kill(worker)
    assert_told_of_restart(tunnel, sock, begun, 5)
    assert_new_connect_works(noted)


def test_a_polite_end_is_no_restart(noted):
    """A worker that ended well while no listener was there is not said farewell for."""
    tunnel = noted.connect()
    worker, = harness.children_of(noted.agent_process.pid)
    assert noted.agent_process.stop() == 0
    assert tunnel.close_politely() == 0
    wait_until(lambda: not pid_is_there(worker), "the worker ended")
    agent = noted.agent(**noted.notes)
    assert not list(records(noted).iterdir())
    assert "did not live on" not in agent.log()


def test_records_of_before_are_found_in_the_runtime_folder(noted):
    """The folder of 0.1 is still looked at, and the new one kept to."""
    assert noted.agent_process.stop() == 0
    old = {**noted.notes, "STATE_DIRECTORY": None, "RUNTIME_DIRECTORY": records(noted, "run")}
    agent = noted.agent(**old)
    tunnel = noted.connect()
    worker, = harness.children_of(agent.pid)
    assert agent.stop() == 0
    noted.agent(**{**old, **noted.notes}).wait_for(f"lives on: pid={worker}")
    assert open_stream(noted.connect())
    assert len(list(records(noted).iterdir())) == len(list(records(noted, "run").iterdir())) == 1
    assert tunnel.close_politely() == 0
    wait_until(lambda: not list(records(noted, "run").iterdir()), "its record is gone")


def test_a_goodbye_that_the_device_could_not_say(apart):
    """`disconnect` while the device has no way to the relay: its listener says it when there is one."""
    tunnel = apart.connect()
    sock = open_stream(tunnel)
    break_(apart.network)
    apart.agent_process.wait_for("the relay is lost")
    assert apart.cli("disconnect", "GatewayOli").returncode == 0
    workers_end(apart.agent_process, 5)
    assert tunnel.is_running()
    mend(apart.network)
    assert_broken(sock)
    assert tunnel.wait(15) == 0


@pytest.mark.soak
def test_a_killed_operator_s_command_is_waited_for_40_s(parts):
    """F-16, with the window of 120 s: the relay saw it hang up; the connection to the service is reset when it is given up."""
    tunnel = parts.connect()
    open_stream(tunnel)
    worker, = harness.children_of(parts.agent_process.pid)
    begun = time.monotonic()
    kill(tunnel.pid)
    parts.agent_process.wait_for("the operator went: reason=\"hung up without a goodbye\"", limit=5)
    wait_until(lambda: not pid_is_there(worker), "the worker ended", limit=60)
    took = time.monotonic() - begun
    print(f"given up after {took:.1f} s")
    assert 35 < took < 45
    parts.relay_process.wait_for("session=\\w+ ended")


def test_a_relay_that_was_killed_is_no_hurry(parts):
    """Its kernel hangs up on everybody: that says nothing about the other side."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    parts.relay_process.kill()
    parts.relay()
    assert hears(sock, b"on we go")
    assert "hung up" not in parts.agent_process.log() + tunnel.log()
