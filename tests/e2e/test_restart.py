# SPDX-License-Identifier: ISC
"""The effect of a restart of relay, device or operator's command on the other two."""

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
from setting_markers import effect
from test_agent import is_process_alive
from relayclient import Client
from test_tunnel import assert_broken


@pytest.fixture
def parts(env):
    env.clients = []
    env.broker()
    env.relay_process = env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    yield env
    for client in env.clients:
        client.kill()


def can_echo(sock, text):
    sock.sendall(text)
    return harness.receive_exactly(sock, len(text)) == text


def relay_on(env, first, n=1, **more):
    """Starts a relay with another range of ports."""
    return env.relay(env=env.relay_environment(
        GOTTHARD_SERVER_PORTS_FROM=first, GOTTHARD_SERVER_PORTS_TO=first + n - 1, **more))


def ports_of_sessions(relay):
    """Returns the port of each registration in the relay's log."""
    return [int(m.group(1)) for m in re.finditer(r"session=\w+ (?:operator|device)=.* port=(\d+)", relay.log())]


# --- ports ----------------------------------------------------------------------------------------


def test_relay_restart_keeps_port(parts):
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    relay = parts.relay_process
    port, = set(ports_of_sessions(relay))
    for _ in range(2):
        relay.kill()
        relay = parts.relay()
        assert can_echo(sock, b"again")
        assert set(ports_of_sessions(relay)) == {port}
    assert tunnel.disconnect() == 0


def test_relay_restart_with_other_ports(parts):
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    others = harness.free_ports(2)
    parts.relay_process.kill()
    relay = relay_on(parts, others, 2)
    assert can_echo(sock, b"on another port")
    assert open_stream(tunnel)
    assert set(ports_of_sessions(relay)) <= {others, others + 1}
    assert tunnel.disconnect() == 0


def test_no_free_port_is_retried(parts):
    """The only port is in use when both sides reconnect: they retry, and continue once it is free."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(parts.agent_process.pid)
    for pid in (tunnel.pid, worker):
        os.kill(pid, signal.SIGSTOP)
    parts.relay_process.kill()
    only = harness.free_ports(1)
    folder = parts.config_folder(relayd='server = { port_cooldown = "100ms"; };')
    relay = relay_on(parts, only, GOTTHARD_CONFIG_DIR=folder)
    other = Client(parts, "g1:o:bob")
    rid = secrets.token_hex(16)
    assert other.register(rid) == only
    for pid in (tunnel.pid, worker):
        os.kill(pid, signal.SIGCONT)
    relay.wait_for("rejected .*no free port in ")
    parts.agent_process.wait_for("relay connection lost")
    assert tunnel.is_running()
    other.do("bye", 1, rid)
    assert can_echo(sock, b"at last")
    assert set(ports_of_sessions(relay)) == {only}
    assert tunnel.disconnect() == 0


def test_no_free_port_at_first_is_an_error(parts):
    parts.relay_process.stop()
    only = harness.free_ports(1)
    relay_on(parts, only)
    assert Client(parts, "g1:o:bob").register(secrets.token_hex(16)) == only
    done = parts.cli("connect", "GatewayOli")
    assert done.returncode == 75 and "GTD-E52" in done.stderr, done.stderr
    assert "no free port" in done.stderr


# --- duration of a restart ------------------------------------------------------------------------


def test_orderly_relay_restart_is_short(parts):
    """SIGTERM and start: measures the interruption of an open stream, and the time without a relay."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    gaps = []
    relay = parts.relay_process
    for _ in range(3):
        started = time.monotonic()
        assert relay.stop() == 0
        stopped = time.monotonic() - started
        relay = parts.relay()
        assert can_echo(sock, b"after the restart")
        gaps.append((time.monotonic() - started, stopped))
    print("seconds of a restart (all, of which stopping): " + ", ".join(f"{a:.2f} ({s:.2f})" for a, s in gaps))
    assert harness.SANITIZER != "none" or sorted(gaps)[1][0] < 3
    assert tunnel.disconnect() == 0


# --- BYE without a network ------------------------------------------------------------------------


def break_network(network):
    network.is_refusing = True
    network.cut(is_reset=True)


def restore_network(network):
    network.is_refusing = False


@pytest.fixture
def separated(env):
    """A broker, a relay, and a proxy as the device's network."""
    env.broker()
    env.relay_process = env.relay("--bind", "127.0.0.1")
    env.network = Proxy.before_relay(env)
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port,
                                  GOTTHARD_SERVER_HOST=env.network.host)
    yield env
    env.network.close()


def workers_end(agent, limit):
    wait_until(lambda: not harness.children_of(agent.pid), "the worker has exited", limit=limit)


def test_bye_reaches_device_after_its_network_returns(separated):
    tunnel = separated.connect()
    open_stream(tunnel)
    break_network(separated.network)
    tunnel.event("peer-lost")
    assert tunnel.disconnect() == 0
    separated.agent_process.wait_for("relay connection lost")
    restore_network(separated.network)
    separated.agent_process.wait_for("ended cause=closed .*closed by the operator", limit=15)
    workers_end(separated.agent_process, 5)


def test_bye_reaches_operator_after_its_network_returns(env):
    env.broker()
    env.relay("--bind", "127.0.0.1")
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    network = Proxy.before_relay(env)
    tunnel = env.connect(GOTTHARD_SERVER_HOST=network.host)
    sock = open_stream(tunnel)
    break_network(network)
    tunnel.event("relay-lost")
    assert env.cli("disconnect", "GatewayOli").returncode == 0
    workers_end(agent, 5)
    restore_network(network)
    assert_broken(sock)
    assert tunnel.wait(15) == 69
    network.close()


def test_ctrl_c_while_reconnecting_notifies_device(env):
    env.broker()
    env.relay("--bind", "127.0.0.1")
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    network = Proxy.before_relay(env)
    tunnel = env.connect(GOTTHARD_SERVER_HOST=network.host)
    open_stream(tunnel)
    break_network(network)
    tunnel.event("relay-lost")
    wait_until(lambda: network.n_accepted > 4, "it has retried")
    restore_network(network)
    assert tunnel.disconnect() == 0
    assert "could not be notified" not in tunnel.log()
    agent.wait_for("ended cause=closed .*closed by the operator", limit=5)
    network.close()


# --- the device's processes are killed ------------------------------------------------------------


def session_files(env, name="state"):
    folder = env.folder / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture
def with_files(env):
    """A device that keeps session files."""
    env.broker()
    env.relay_process = env.relay()
    env.directories = {"STATE_DIRECTORY": session_files(env), "GOTTHARD_AGENT_DATA_PORT": env.target(echo).port}
    env.agent_process = env.agent(**env.directories)
    return env


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def assert_notified_of_restart(tunnel, sock, started, limit=10):
    assert_broken(sock)
    assert tunnel.wait(limit) == 69
    took = time.monotonic() - started
    print(f"notified after {took:.2f} s")
    assert took < limit
    assert "GTD-E71" in tunnel.log() and "restarted" in tunnel.log()


def assert_new_connect_works(env):
    started = time.monotonic()
    assert open_stream(env.connect())
    print(f"new tunnel after {time.monotonic() - started:.2f} s")
    assert time.monotonic() - started < 5 or harness.SANITIZER != "none"


@effect("agentd", "STATE_DIRECTORY")
def test_killed_agent_notifies_operator_after_restart(with_files):
    """F-15: listener and worker are killed together, as by a power cut; the next listener notifies the operator."""
    tunnel = with_files.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(with_files.agent_process.pid)
    started = time.monotonic()
    kill(with_files.agent_process.pid, worker)
    with_files.agent(**with_files.directories)
    assert_notified_of_restart(tunnel, sock, started)
    assert_new_connect_works(with_files)
    wait_until(lambda: len(list(session_files(with_files).glob("*.session"))) == 1, "only the file of the new session is left")


def test_power_loss_of_device_notifies_operator_after_restart(separated):
    """No connection is closed; the relay alone would detect the loss after 45 s."""
    directories = {"STATE_DIRECTORY": session_files(separated), "GOTTHARD_AGENT_DATA_PORT": separated.target(echo).port}
    assert separated.agent_process.stop() == 0
    agent = separated.agent(GOTTHARD_SERVER_HOST=separated.network.host, **directories)
    tunnel = separated.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    ids = ",".join(str(c["id"]) for c in separated.network.connections())
    separated.network.command("black", "on", f"on={ids}")
    started = time.monotonic()
    kill(agent.pid, worker)
    separated.agent(GOTTHARD_SERVER_HOST=separated.network.host, **directories)
    assert_notified_of_restart(tunnel, sock, started)


def test_late_bye_is_sent_by_next_agent(separated):
    """The relay was unreachable as long as the first agent ran."""
    directories = {"STATE_DIRECTORY": session_files(separated), "GOTTHARD_AGENT_DATA_PORT": separated.target(echo).port,
             "GOTTHARD_SERVER_HOST": separated.network.host}
    assert separated.agent_process.stop() == 0
    agent = separated.agent(**directories)
    tunnel = separated.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    break_network(separated.network)
    kill(worker)
    agent.wait_for("worker killed")
    assert agent.stop() == 0
    agent = separated.agent(**directories)
    agent.wait_for("worker was killed; notifying the operator")
    assert agent.stop() == 0
    assert tunnel.is_running()
    restore_network(separated.network)
    started = time.monotonic()
    separated.agent(**directories)
    assert_notified_of_restart(tunnel, sock, started)
    wait_until(lambda: not list(session_files(separated).glob("*.session")), "the session file is removed")


def test_killed_restored_worker_notifies_operator(with_files):
    tunnel = with_files.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(with_files.agent_process.pid)
    assert with_files.agent_process.stop() == 0
    agent = with_files.agent(**with_files.directories)
    agent.wait_for(f"restored pid={worker}")
    assert can_echo(sock, b"still there")
    started = time.monotonic()
    kill(worker)
    assert_notified_of_restart(tunnel, sock, started, 5)
    assert_new_connect_works(with_files)


def test_clean_end_without_listener_sends_no_late_bye(with_files):
    """No late BYE is sent for a worker that finished while no listener was running."""
    tunnel = with_files.connect()
    worker, = harness.children_of(with_files.agent_process.pid)
    assert with_files.agent_process.stop() == 0
    assert tunnel.disconnect() == 0
    wait_until(lambda: not is_process_alive(worker), "the worker has exited")
    agent = with_files.agent(**with_files.directories)
    assert not list(session_files(with_files).glob("*.session"))
    assert "worker was killed; notifying the operator" not in agent.log()


def test_session_files_of_0_1_are_found_in_runtime_directory(with_files):
    """The directory of version 0.1 is still read; new files are in the new one."""
    assert with_files.agent_process.stop() == 0
    old = {**with_files.directories, "STATE_DIRECTORY": None, "RUNTIME_DIRECTORY": session_files(with_files, "run")}
    agent = with_files.agent(**old)
    tunnel = with_files.connect()
    worker, = harness.children_of(agent.pid)
    assert agent.stop() == 0
    with_files.agent(**{**old, **with_files.directories}).wait_for(f"restored pid={worker}")
    assert open_stream(with_files.connect())
    assert len(list(session_files(with_files).glob("*.session"))) == len(list(session_files(with_files, "run").glob("*.session"))) == 1
    assert tunnel.disconnect() == 0
    wait_until(lambda: not list(session_files(with_files, "run").glob("*.session")), "its session file is removed")


def test_late_bye_after_disconnect_without_network(separated):
    """`disconnect` while the device cannot reach the relay: its listener sends BYE when it can."""
    tunnel = separated.connect()
    sock = open_stream(tunnel)
    break_network(separated.network)
    separated.agent_process.wait_for("relay connection lost")
    assert separated.cli("disconnect", "GatewayOli").returncode == 0
    workers_end(separated.agent_process, 5)
    assert tunnel.is_running()
    restore_network(separated.network)
    assert_broken(sock)
    assert tunnel.wait(15) == 69


@pytest.mark.soak
def test_killed_operator_command_is_given_up_after_40_s(parts):
    """F-16, with a resume window of 120 s: the relay saw the connection close; the one to the service is reset at the end."""
    tunnel = parts.connect()
    open_stream(tunnel)
    worker, = harness.children_of(parts.agent_process.pid)
    started = time.monotonic()
    kill(tunnel.pid)
    parts.agent_process.wait_for("operator disconnected reason=\"connection closed without BYE\"", limit=5)
    wait_until(lambda: not is_process_alive(worker), "the worker has exited", limit=60)
    took = time.monotonic() - started
    print(f"given up after {took:.1f} s")
    assert 35 < took < 45
    parts.relay_process.wait_for("session=\\w+ ended")


def test_killed_relay_does_not_count_as_killed_peer(parts):
    """Its kernel closes all connections, which is no sign that the peer was killed."""
    tunnel = parts.connect()
    sock = open_stream(tunnel)
    parts.relay_process.kill()
    parts.relay()
    assert can_echo(sock, b"on we go")
    assert "closed without BYE" not in parts.agent_process.log() + tunnel.log()
