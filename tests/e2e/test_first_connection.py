# SPDX-License-Identifier: ISC
"""The first connection of either side to the relay: it is repeated, and the operator reads at once what fails, on which side."""

import contextlib
import os
import re
import shutil
import signal
import socket
import time

import pytest

import harness
from faultproxy import Proxy, loopback
from harness import echo, wait_until
from test_cli import error_id
from test_faults import open_stream

PROMPT = 3 if harness.SANITIZER == "none" else 20  # seconds until a cause is shown


@pytest.fixture
def system(env):
    """The broker and the relay. Agents are started by the tests."""
    env.broker_process = env.broker()
    env.relay_process = env.relay()
    return env


def start_agent(env, peer_timeout="20s", **more):
    return env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, GOTTHARD_TIMEOUTS_PEER=peer_timeout, **more)


def workers_end(agent, limit=5):
    wait_until(lambda: not harness.children_of(agent.pid), "the worker has exited", limit=limit)


def failure_of(tunnel, limit=10):
    """Waits for the end of a command whose tunnel was never up. Returns its "error" event."""
    event = tunnel.event("error", limit=limit)
    assert tunnel.wait(5) == event["exit"]
    return event


@contextlib.contextmanager
def silent_port(host="127.0.0.1", port=0):
    """A port that answers no SYN: the queue of its listener is full. Yields its number."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
        yield listener.getsockname()[1]


# --- the device cannot reach the relay -------------------------------------------------------------


def test_device_keeps_trying_and_reports_why(system):
    """The line while it tries, the failure with the last cause at its end, and no worker is left."""
    nowhere = harness.free_ports(1)
    agent = start_agent(system, "3s", GOTTHARD_SERVER_PORT=nowhere)
    tunnel = system.connect(wait=False)
    report = tunnel.event("device-report", limit=PROMPT)
    assert (report["relay"], report["reason"], report["last"]) == (f"localhost:{nowhere}", "Connection refused", False)
    tunnel.event("device-report", count=3)
    error = failure_of(tunnel)
    assert error["id"] == "GTD-E54"
    assert error["message"] == (f"GatewayOli cannot reach its relay localhost:{nowhere} (connection refused); "
                                f"here it is localhost:{system.relay_port}")
    workers_end(agent)
    agent.wait_for("relay not reachable .*Connection refused")


def test_device_that_keeps_trying_is_one_line_in_the_log(system):
    """The operator's log has the line once, however often the device tries."""
    nowhere = harness.free_ports(1)
    start_agent(system, "3s", GOTTHARD_SERVER_PORT=nowhere)
    result = system.cli("connect", "GatewayOli", "0:ssh")
    assert error_id(result) == "GTD-E54", result.stderr
    assert result.stderr.count(f"GatewayOli cannot reach its relay localhost:{nowhere} yet "
                               f"(connection refused; here it is localhost:{system.relay_port})") == 1
    assert "no data connection yet" not in result.stderr


@pytest.mark.parametrize("kind", ["name", "network", "silent", "not a relay"])
def test_cause_of_each_kind(system, kind):
    with contextlib.ExitStack() as stack:
        where = {"name": lambda: {"GOTTHARD_SERVER_HOST": "no-such-host.invalid"},
                 "network": lambda: {"GOTTHARD_SERVER_HOST": "2001:db8::1"},
                 "silent": lambda: {"GOTTHARD_SERVER_HOST": "127.0.0.1",
                                    "GOTTHARD_SERVER_PORT": stack.enter_context(silent_port())},
                 "not a relay": lambda: {"GOTTHARD_SERVER_PORT": system.target(lambda sock: sock.sendall(b"hello\n")).port}}[kind]()
        wanted = {"name": "no address for no-such-host.invalid", "network": "(network is unreachable|no address)",
                  "silent": "no answer", "not a relay": "TLS handshake failed|handshake"}[kind]
        if kind == "network" and has_route_to("2001:db8::1"):
            pytest.skip("this machine has a route to the documentation prefix")
        start_agent(system, "3s", **where)
        error = failure_of(system.connect(wait=False))
        assert error["id"] == "GTD-E54"
        assert re.search(wanted, error["message"]), error["message"]


def has_route_to(host):
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return True
    return False


def test_wrong_key_of_the_device_is_final(system):
    """The relay does not accept the device: repeating it is useless, and the operator reads it at once."""
    with_other_key = system.relay_environment(GOTTHARD_CRYPT_KEY="77" * 32, GOTTHARD_SERVER_PORT=harness.free_ports(1))
    port = int(with_other_key["GOTTHARD_SERVER_PORT"])
    relay = harness.Process(system, system.unique("relayd"), [harness.PROGRAMS["relayd"]], env=with_other_key)
    wait_until(lambda: harness.is_listening(port), "the other relay listens")
    start_agent(system, GOTTHARD_SERVER_PORT=port)
    started = time.monotonic()
    error = failure_of(system.connect(wait=False), PROMPT)
    assert error["id"] == "GTD-E54" and "GatewayOli is not accepted by" in error["message"] and "key" in error["message"]
    assert time.monotonic() - started < PROMPT + 2
    assert relay.is_running()


def test_full_relay_is_final(env):
    """The relay refuses the device's second session; the operator reads the relay's limit."""
    env.broker()
    folder = env.config_folder(relayd="limits = { sessions_per_identity = 1; };")
    env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    agent = start_agent(env)
    first = env.connect(name="bob")
    error = failure_of(env.connect(wait=False), PROMPT)
    assert error["id"] == "GTD-E55" and "limits.sessions_per_identity" in error["message"], error
    assert "the relay allows 1 sessions per identity" in error["message"] and "(GatewayOli has as many)" in error["message"], error
    assert first.disconnect() == 0
    workers_end(agent)


@pytest.mark.parametrize("seconds", [0.3, 3])
def test_relay_that_starts_late(env, seconds):
    """Both sides wait for it; the tunnel is up within the back-off, and works."""
    env.broker()
    start_agent(env)
    tunnel = env.connect(wait=False)
    tunnel.event("relay-retry", limit=PROMPT)
    tunnel.event("device-report", limit=PROMPT)
    time.sleep(seconds)
    env.relay()
    tunnel.wait_up(limit=10)
    assert open_stream(tunnel)
    assert tunnel.disconnect() == 0


def test_relay_that_restarts_while_a_side_waits(system):
    """The operator is registered, its relay restarts, and only then the device comes."""
    system.broker_process.wait_for("running")
    nowhere = harness.free_ports(1)
    agent = start_agent(system, GOTTHARD_SERVER_PORT=nowhere)
    tunnel = system.connect(wait=False)
    system.relay_process.wait_for("operator=alice state=waiting")
    assert system.relay_process.stop() == 0
    tunnel.event("relay-retry", limit=PROMPT)
    relay = system.relay()
    relay.wait_for("operator=alice state=waiting")
    assert agent.is_running() and tunnel.is_running()


@pytest.mark.parametrize("how", ["closes", "is silent"])
@pytest.mark.parametrize("side", ["operator", "device"])
def test_relay_that_does_not_answer_at_first(env, side, how):
    """As one under attack may: two connections of a side end without a byte. The third one registers."""
    env.broker()
    env.relay("--bind", "127.0.0.1")
    host = loopback()
    start_agent(env, GOTTHARD_SERVER_HOST=host if side == "device" else "127.0.0.1", peer_timeout="6s")
    with socket.create_server((host, env.relay_port)) as front:
        front.settimeout(10)
        tunnel = env.connect(wait=False, GOTTHARD_SERVER_HOST=host if side == "operator" else "127.0.0.1",
                             GOTTHARD_TIMEOUTS_PEER="6s")
        for _ in range(2):
            with front.accept()[0] as sock:
                sock.settimeout(10)
                while how == "is silent" and sock.recv(4096):
                    pass
    network = Proxy.before_relay(env, host=host)
    tunnel.wait_up(limit=15)
    assert open_stream(tunnel)
    network.close()


def private_hosts(env, text):
    """Returns a file and a prefix of a command that sees it as /etc/hosts."""
    hosts = env.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{text}\n")
    return hosts, ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]


needs_mounts = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a mount namespace needs root")


def start_agent_with_hosts(env, prefix):
    environment = env.agent_environment(
        "GatewayOli", GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, GOTTHARD_SERVER_HOST="relay.test")
    agent = harness.Process(env, env.unique("agentd"), [*prefix, harness.PROGRAMS["agentd"]], env=environment)
    agent.wait_for(harness.AGENT_READY)
    return agent


@needs_mounts
def test_name_that_resolves_late(system):
    hosts, prefix = private_hosts(system, "")
    start_agent_with_hosts(system, prefix)
    tunnel = system.connect(wait=False)
    assert "no address for relay.test" in tunnel.event("device-report", limit=15)["reason"]
    with open(hosts, "a", encoding="ascii") as file:
        file.write("127.0.0.1 relay.test\n")
    tunnel.wait_up(limit=20)
    assert open_stream(tunnel)


@needs_mounts
@pytest.mark.parametrize("first, is_silent", [("127.0.0.9", False), ("127.0.0.9", True), ("2001:db8::1", False)])
def test_name_whose_first_address_is_dead(system, first, is_silent):
    """The second address is used in the same attempt, and without waiting for the first one."""
    _, prefix = private_hosts(system, f"{first} relay.test\n127.0.0.1 relay.test")
    system.relay_process.stop()
    system.relay("--bind", "127.0.0.1")
    start_agent_with_hosts(system, prefix)
    with silent_port(first, system.relay_port) if is_silent else contextlib.nullcontext():
        started = time.monotonic()
        tunnel = system.connect(GOTTHARD_SERVER_HOST="127.0.0.1")
        assert open_stream(tunnel)
        assert time.monotonic() - started < PROMPT
    assert not [e for e in tunnel.events() if e["event"] == "device-report"]


# --- the operator cannot reach the relay -----------------------------------------------------------


def test_operator_cannot_reach_the_relay(system):
    """Its own cause, with the device's place; the device's session is closed over MQTT."""
    agent = start_agent(system)
    nowhere = harness.free_ports(1)
    tunnel = system.connect(wait=False, GOTTHARD_SERVER_PORT=nowhere, GOTTHARD_TIMEOUTS_PEER="3s")
    assert tunnel.event("relay-retry", limit=PROMPT)["reason"] == "Connection refused"
    assert tunnel.event("device-report", limit=PROMPT + 2)["at_relay"] is True
    error = failure_of(tunnel)
    assert error["id"] == "GTD-E50"
    assert error["message"] == (f"relay localhost:{nowhere}: Connection refused; "
                                f"GatewayOli is connected to localhost:{system.relay_port}")
    agent.wait_for('closing reason="closed by alice"', limit=5)
    workers_end(agent)


@pytest.mark.parametrize("device, operator_", [("20s", "2s"), ("2s", "20s")], ids=["operator-ends", "device-ends"])
def test_neither_can_reach_the_relay(env, device, operator_):
    """Whichever side gives up: its own cause, with the device's beside it. The log has one line for each side."""
    env.broker()
    agent = start_agent(env, device)
    result = env.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_TIMEOUTS_PEER=operator_)
    assert error_id(result) == "GTD-E50", result.stderr
    assert f"GatewayOli cannot reach localhost:{env.relay_port} either (connection refused)" in result.stderr
    assert result.stderr.count("trying again") == result.stderr.count("GatewayOli cannot reach its relay") == 1
    workers_end(agent)


def test_interrupt_while_both_try(env):
    env.broker()
    agent = start_agent(env)
    tunnel = env.connect(wait=False)
    tunnel.event("device-report", limit=PROMPT)
    started = time.monotonic()
    assert tunnel.stop(signal.SIGINT) == 130
    assert time.monotonic() - started < 3
    workers_end(agent)
    assert "could not be notified" not in tunnel.log()


def test_each_side_uses_another_relay(system):
    """Each waits at its own: both are named, long before any time-out."""
    port = harness.free_ports(1)
    first = harness.free_ports(2)
    environment = system.relay_environment(GOTTHARD_SERVER_PORT=port, GOTTHARD_SERVER_PORTS_FROM=first,
                                           GOTTHARD_SERVER_PORTS_TO=first + 1)
    harness.Process(system, system.unique("relayd"), [harness.PROGRAMS["relayd"]], env=environment)
    wait_until(lambda: harness.is_listening(port), "the other relay listens")
    agent = start_agent(system, GOTTHARD_SERVER_PORT=port)
    error = failure_of(system.connect(wait=False), PROMPT + 4)
    assert error["id"] == "GTD-E54"
    assert error["message"] == (f"GatewayOli waits at relay localhost:{port} and this side at relay "
                                f"localhost:{system.relay_port}: not the same one")
    workers_end(agent)


# --- the way of the reports ------------------------------------------------------------------------


def test_broker_restarts_before_the_report(env):
    """Both sides return to the broker, and the reports continue."""
    broker = env.broker()
    start_agent(env, GOTTHARD_SERVER_PORT=harness.free_ports(1))
    env.relay()
    tunnel = env.connect(wait=False)
    tunnel.event("device-report", limit=PROMPT)
    broker.kill()
    n = sum(event["event"] == "device-report" for event in tunnel.events())
    env.broker()
    tunnel.event("device-report", limit=15, count=n + 1)
    assert tunnel.stop(signal.SIGINT) == 130


def test_agent_stops_before_the_tunnel_is_up(system):
    """SIGTERM closes the session politely, and the report takes the way of the answer."""
    agent = start_agent(system, GOTTHARD_AGENT_KEEP_SESSIONS=None, GOTTHARD_SERVER_PORT=harness.free_ports(1))
    tunnel = system.connect(wait=False)
    tunnel.event("device-report", limit=PROMPT)
    assert agent.stop() == 0
    error = failure_of(tunnel, PROMPT)
    assert error["id"] == "GTD-E71" and "ended the session before it was up" in error["message"]


def test_worker_is_killed_before_the_tunnel_is_up(system):
    agent = start_agent(system, GOTTHARD_SERVER_PORT=harness.free_ports(1))
    tunnel = system.connect(wait=False)
    tunnel.event("device-report", limit=PROMPT)
    worker, = harness.children_of(agent.pid)
    os.kill(worker, signal.SIGKILL)
    error = failure_of(tunnel, PROMPT)
    assert error["id"] == "GTD-E71" and "the session's process has failed" in error["message"]


def test_agent_is_killed_before_the_tunnel_is_up(system):
    """SIGKILL to all of its processes: the broker has its will at once, and no process is left for another report."""
    agent = start_agent(system, GOTTHARD_SERVER_PORT=harness.free_ports(1))
    tunnel = system.connect(wait=False, GOTTHARD_TIMEOUTS_PEER="2s")
    tunnel.event("device-report", limit=PROMPT)
    agent.kill()
    tunnel.event("device-offline", limit=PROMPT)
    error = failure_of(tunnel)
    assert error["id"] == "GTD-E31" and "GatewayOli went offline before the tunnel was up" in error["message"]


def test_relay_that_waits_for_a_shorter_time(env):
    """timeouts.pairing of the relay ends; the operator registers again, and the tunnel is up once the device comes."""
    env.broker()
    folder = env.config_folder(relayd='timeouts = { pairing = "1s"; };')
    relay = env.relay("--bind", "127.0.0.1", env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    network = Proxy.before_relay(env)
    network.is_refusing = True
    agent = start_agent(env, GOTTHARD_SERVER_HOST=network.host)
    tunnel = env.connect(wait=False)
    agent.wait_for("relay not reachable")
    relay.wait_for("operator=alice state=waiting", count=3)
    network.is_refusing = False
    tunnel.wait_up(limit=15)
    assert open_stream(tunnel) and not [e for e in tunnel.events() if e["event"] == "relay-retry"]
    network.close()
