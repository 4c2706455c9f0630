# SPDX-License-Identifier: ISC
"""Sessions of several operators, devices and services, and the ends of tunnels."""

import os
import signal
import subprocess
import time

import harness
from harness import LIMIT, PROGRAMS, echo, wait_until
from setting_markers import effect, refuses


def tagged(text):
    """Returns the behavior of a target that sends @text first and then echoes."""

    def behavior(sock):
        sock.sendall(text.encode())
        echo(sock)

    return behavior


def read_tag(tunnel, service=None):
    with tunnel.dial(service) as sock:
        return harness.receive_exactly(sock, 6).decode()


def start(env, *devices, **more):
    env.broker()
    env.relay()
    for device in devices:
        env.agent(device, GOTTHARD_AGENT_DATA_PORT=env.target(tagged(f"<{device[-4:]}>")).port, **more)


def test_two_operators_one_device(env):
    start(env, "dev-aaaa")
    alice, bob = env.connect("dev-aaaa", name="alice"), env.connect("dev-aaaa", name="bob")
    assert read_tag(alice) == "<aaaa>" and read_tag(bob) == "<aaaa>"
    assert alice.disconnect() == 0
    assert read_tag(bob) == "<aaaa>"


def test_two_devices(env):
    start(env, "dev-aaaa", "dev-bbbb")
    first, second = env.connect("dev-aaaa"), env.connect("dev-bbbb")
    assert read_tag(first) == "<aaaa>" and read_tag(second) == "<bbbb>"


@effect("agentd", "services")
@refuses("agentd", "services")
def test_services_by_name_port_and_address(env):
    """A service is requested by name, by port, or by host:port. Nothing else is dialed."""
    env.broker()
    env.relay()
    web = env.target(tagged("<webs>"))
    shell = env.target(tagged("<shel>"))
    folder = env.config_folder(agentd=f'services = {{ web = "127.0.0.1:{web.port}"; }};')
    env.agent(GOTTHARD_AGENT_DATA_PORT=shell.port, GOTTHARD_CONFIG_DIR=folder)
    tunnel = env.connect("GatewayOli", "0:ssh", "0:web", f"0:{web.port}", f"0:127.0.0.1:{web.port}")
    tags = [read_tag_on(event["port"]) for event in tunnel.events() if event["event"] == "listening"]
    assert tags == ["<shel>", "<webs>", "<webs>", "<webs>"]
    elsewhere = env.target(tagged("<else>"))
    refused = env.cli("connect", "GatewayOli", f"0:127.0.0.1:{elsewhere.port}")
    assert refused.returncode == 77, refused.stderr
    assert "GTD-E41" in refused.stderr
    assert elsewhere.n_accepted == 0


def read_tag_on(port):
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        return harness.receive_exactly(sock, 6).decode()


def test_quota_of_sessions(env):
    start(env, "dev-aaaa", GOTTHARD_CONFIG_DIR=env.config_folder(agentd="limits = { sessions_per_operator = 2; };"))
    first, second = env.connect("dev-aaaa"), env.connect("dev-aaaa")
    third = env.cli("connect", "dev-aaaa", "0:ssh")
    assert third.returncode == 75 and "GTD-E42" in third.stderr, third.stderr
    assert read_tag(first) == read_tag(second) == "<aaaa>"
    first.disconnect()
    wait_until(lambda: "sessions" in env.cli("status", "dev-aaaa").stdout, "status answers")

    def again():
        tunnel = env.connect("dev-aaaa", wait=False)
        wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"], "an answer")
        return tunnel.is_running()

    wait_until(again, "another session is allowed again")


def test_device_offline(env):
    env.broker()
    env.relay()
    agent = env.agent("dev-aaaa")
    assert agent.stop() == 0
    done = env.cli("connect", "dev-aaaa")
    assert done.returncode == 69 and "GTD-E31" in done.stderr, done.stderr
    assert "offline" in done.stderr


def test_device_power_loss_publishes_last_will(env):
    """The agent is killed: the broker publishes its last will."""
    broker = env.broker()
    env.relay()
    agent = env.agent("dev-aaaa")
    agent.kill()
    broker.wait_for(r"dev-aaaa.*(disconnect|closed)")
    done = env.cli("connect", "dev-aaaa")
    assert done.returncode == 69 and "GTD-E31" in done.stderr, done.stderr


def test_device_unknown(env):
    env.broker()
    started = time.monotonic()
    done = env.cli("connect", "unknown-device")
    assert done.returncode == 69 and "GTD-E30" in done.stderr, done.stderr
    assert time.monotonic() - started < 10


def test_device_silent(env):
    """Its STATE is online, but it does not answer."""
    env.broker()
    env.relay()
    agent = env.agent("dev-aaaa")
    os.kill(agent.pid, signal.SIGSTOP)
    done = env.cli("connect", "dev-aaaa", GOTTHARD_TIMEOUTS_ANSWER="2s")
    os.kill(agent.pid, signal.SIGCONT)
    assert done.returncode == 69 and "GTD-E32" in done.stderr, done.stderr


def test_disconnect_by_another_operator(env):
    start(env, "dev-aaaa")
    tunnel = env.connect("dev-aaaa", name="alice")
    assert read_tag(tunnel) == "<aaaa>"
    done = env.cli("disconnect", "dev-aaaa", name="bob")
    assert done.returncode == 0 and "no open session of yours" in done.stderr, done.stderr
    assert read_tag(tunnel) == "<aaaa>"
    done = env.cli("disconnect", "dev-aaaa", "--all", name="bob")
    assert done.returncode == 0 and "closed 1 session" in done.stderr, done.stderr
    assert tunnel.wait() == 69
    error = tunnel.event("error")
    assert error["id"] == "GTD-E47" and "by an operator's disconnect" in error["message"], error
    assert "the log of the device has the operator's name and reason" in error["hint"], error
    assert tunnel.event("closed")["exit"] == 69
    # nothing to close is not an error
    again = env.cli("disconnect", "dev-aaaa", "--all", name="bob")
    assert again.returncode == 0, again.stderr


def test_disconnect_under_pins_closes_own_sessions_only(env):
    env.broker()
    env.relay()
    pins = env.folder / "operators.pins"
    lines = [env.cli("fingerprint", name=name).stdout for name in ("alice", "bob", "operator")]
    assert all(lines), "fingerprint prints a pin line"
    pins.write_text(lines[0] + lines[1] + lines[2].rstrip("\n") + " role=admin\n")
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port)
    tunnel = env.connect("dev-aaaa", name="alice")
    env.cli("disconnect", "dev-aaaa", "--all", name="bob")
    assert read_tag(tunnel) == "<aaaa>"
    assert env.cli("disconnect", "dev-aaaa", "--all", name="operator").returncode == 0
    assert tunnel.wait() == 69


def test_pins_refuse_unpinned_operator(env):
    """The fleet key alone is not sufficient under `pin`."""
    env.broker()
    env.relay()
    pins = env.folder / "operators.pins"
    pins.write_text(env.cli("fingerprint", name="alice").stdout)
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port)
    assert read_tag(env.connect("dev-aaaa", name="alice")) == "<aaaa>"
    bob = env.cli("connect", "dev-aaaa", "0:ssh", name="bob")
    assert bob.returncode == 77 and "GTD-E40" in bob.stderr, bob.stderr
    # bob's certificate under alice's name
    variables = env.cli_environment("alice", GOTTHARD_AWS_CERT_PATH=env.certificates("bob"),
                                    GOTTHARD_TIMEOUTS_ANSWER="2s")
    impostor = env.cli("connect", "dev-aaaa", "0:ssh", env=variables)
    assert impostor.returncode != 0, impostor.stderr


def test_operator_pins_the_device(env):
    """The operator's own policy: a device whose key is not pinned is rejected."""
    start(env, "dev-aaaa")
    pins = env.folder / "devices.pins"
    good = env.cli("fingerprint", env=env.cli_environment("dev-aaaa")).stdout.split()
    assert len(good) >= 2
    pins.write_text(f"dev-aaaa {good[1]} role=device\n")
    folder = env.config_folder(cli=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    assert read_tag(env.connect("dev-aaaa", GOTTHARD_CONFIG_DIR=folder)) == "<aaaa>"
    pins.write_text(f"dev-aaaa {'ab' * 32} role=device\n")
    done = env.cli("connect", "dev-aaaa", "0:ssh", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_TIMEOUTS_ANSWER="2s")
    assert done.returncode == 77 and "GTD-E33" in done.stderr, done.stderr
    agent = next(p for p in env.processes if "agentd" in p.name)
    wait_until(lambda: len(harness.children_of(agent.pid)) == 1, "the session of the refused device is closed, the other is not", 10)


def test_ctrl_c_closes_session_on_device(env):
    start(env, "dev-aaaa")
    agent = next(p for p in env.processes if "agentd" in p.name)
    tunnel = env.connect("dev-aaaa")
    assert read_tag(tunnel) == "<aaaa>"
    worker = harness.children_of(agent.pid)
    assert len(worker) == 1
    started = time.monotonic()
    assert tunnel.disconnect() == 0
    assert time.monotonic() - started < 3
    events = [e["event"] for e in tunnel.events()]
    assert "closing" in events and events[-1] == "closed"
    wait_until(lambda: not harness.children_of(agent.pid), "the worker has exited", 10)


def test_ctrl_c_with_silent_broker(env):
    import socket

    silent = socket.create_server(("127.0.0.1", env.broker_port))
    tunnel = env.connect("dev-aaaa", wait=False)
    sock, _ = silent.accept()
    sock.recv(1)
    started = time.monotonic()
    assert tunnel.stop(signal.SIGINT) == 130
    assert time.monotonic() - started < 0.8 or harness.SANITIZER != "none"  # a sanitizer sleeps at the end
    sock.close()
    silent.close()


def test_ctrl_c_before_tunnel_is_up(env):
    """In any state of its threads: the MQTT thread ends while the process exits."""
    env.broker()
    agent = env.agent("dev-aaaa")
    os.kill(agent.pid, signal.SIGSTOP)
    for event in ["requesting", "broker"] * 4:
        tunnel = env.connect("dev-aaaa", wait=False)
        tunnel.event(event)
        assert tunnel.stop(signal.SIGINT) == 130
    os.kill(agent.pid, signal.SIGCONT)


def test_status_and_devices(env):
    import json

    start(env, "dev-aaaa", "dev-bbbb")
    next(p for p in env.processes if "dev-bbbb" in p.name).stop()
    before = json.loads(env.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0])
    env.connect("dev-aaaa")

    def one_session():
        return json.loads(env.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0]).get("sessions") == 1

    wait_until(one_session, "STATE shows the session")
    status = json.loads(env.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0])
    assert status["device"] == "dev-aaaa" and status["online"] is True
    assert "ssh" in status["services"] and status["version"]
    assert status["since"] == before["since"], "a session does not change the time of being online"
    devices = {d["device"]: d for d in map(json.loads, env.cli("devices", "--json").stdout.splitlines())}
    assert devices["dev-aaaa"]["online"] is True and devices["dev-bbbb"]["online"] is False
    table = env.cli("devices").stdout
    assert "dev-aaaa" in table and "offline" in table


def test_original_commands(env):
    """`gotthard` has the four subcommands of the original tool."""
    env.broker()
    gotthard = env.folder / "gotthard"
    gotthard.symlink_to(PROGRAMS["cli"])
    for name in ("relayd", "agentd"):
        (env.folder / f"gotthard-{name}").symlink_to(PROGRAMS[name])
    path = f"{env.folder}:{os.environ['PATH']}"
    server = harness.Process(env, "server", [gotthard, "server"], env=env.relay_environment(PATH=path))
    wait_until(lambda: harness.can_connect(env.relay_port) or not server.is_running(), "the server listens")
    edge = harness.Process(env, "edge", [gotthard, "edge-device"], env=env.agent_environment(
        "dev-aaaa", PATH=path, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port))
    edge.wait_for(harness.AGENT_READY)
    port = harness.free_ports(1)
    operator = harness.Process(env, "operator", [gotthard, "connect", "dev-aaaa"],
                               env=env.cli_environment(GOTTHARD_CLIENT_PORT=port))
    wait_until(lambda: harness.can_connect(port) or not operator.is_running(), "the local port listens")
    operator.wait_for("up")
    assert read_tag_on(port) == "<aaaa>"
    done = subprocess.run([gotthard, "disconnect", "dev-aaaa"], env=env.cli_environment(), timeout=LIMIT, check=False)
    assert done.returncode == 0
    assert operator.wait() == 69


def test_print_port(env):
    start(env, "dev-aaaa")
    tunnel = harness.Process(env, "print-port", [PROGRAMS["cli"], "connect", "--print-port", "dev-aaaa", "0:ssh"],
                             env=env.cli_environment())
    wait_until(lambda: tunnel.out().endswith("\n"), "the port is printed")
    assert read_tag_on(int(tunnel.out())) == "<aaaa>"


def test_cold_connect_is_quick(env):
    """From command to "tunnel is up". The figure is printed; the limit only detects a loss of an order of magnitude."""
    start(env, "dev-aaaa")
    figures = []
    for _ in range(5):
        started = time.monotonic()
        tunnel = env.connect("dev-aaaa")
        figures.append((time.monotonic() - started) * 1000)
        tunnel.disconnect()
    print(f"cold connect on loopback: {sorted(figures)[2]:.0f} ms (median of 5, process start to `up` event)")
    assert min(figures) < 5000
