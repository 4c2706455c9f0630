# SPDX-License-Identifier: ISC
"""Who meets whom: operators, devices, services, and how a tunnel ends."""

import os
import signal
import subprocess
import time

import harness
from harness import LIMIT, PROGRAMS, echo, wait_until
from settings import effect, refuses


def tagged(text):
    """A target that says who it is."""

    def behaviour(sock):
        sock.sendall(text.encode())
        echo(sock)

    return behaviour


def hear(tunnel, service=None):
    with tunnel.dial(service) as sock:
        return harness.receive_exactly(sock, 6).decode()


def start(world, *devices):
    world.broker()
    world.relay()
    for device in devices:
        world.agent(device, GOTTHARD_AGENT_DATA_PORT=world.target(tagged(f"<{device[-4:]}>")).port)


def test_two_operators_one_device(world):
    start(world, "dev-aaaa")
    alice, bob = world.connect("dev-aaaa", name="alice"), world.connect("dev-aaaa", name="bob")
    assert hear(alice) == "<aaaa>" and hear(bob) == "<aaaa>"
    assert alice.close_politely() == 0
    assert hear(bob) == "<aaaa>"


def test_two_devices(world):
    start(world, "dev-aaaa", "dev-bbbb")
    first, second = world.connect("dev-aaaa"), world.connect("dev-bbbb")
    assert hear(first) == "<aaaa>" and hear(second) == "<bbbb>"


@effect("agentd", "services")
@refuses("agentd", "services")
def test_two_services_and_their_names(world):
    """A service goes by its name, by its port, and by host:port; anything else is not dialled."""
    world.broker()
    world.relay()
    web = world.target(tagged("<webs>"))
    shell = world.target(tagged("<shel>"))
    folder = world.config_folder(agentd=f'services = {{ web = "127.0.0.1:{web.port}"; }};')
    world.agent(GOTTHARD_AGENT_DATA_PORT=shell.port, GOTTHARD_CONFIG_DIR=folder)
    tunnel = world.connect("GatewayOli", "0:ssh", "0:web", f"0:{web.port}", f"0:127.0.0.1:{web.port}")
    heard = [hear_on(event["port"]) for event in tunnel.events() if event["event"] == "listening"]
    assert heard == ["<shel>", "<webs>", "<webs>", "<webs>"]
    elsewhere = world.target(tagged("<else>"))
    refused = world.cli("connect", "GatewayOli", f"0:127.0.0.1:{elsewhere.port}")
    assert refused.returncode == 77, refused.stderr
    assert "GTD-E41" in refused.stderr
    assert elsewhere.n_accepted == 0


def hear_on(port):
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        return harness.receive_exactly(sock, 6).decode()


def test_quota_of_sessions(world):
    start(world, "dev-aaaa")
    first, second = world.connect("dev-aaaa"), world.connect("dev-aaaa")
    third = world.cli("connect", "dev-aaaa", "0:ssh")
    assert third.returncode == 75 and "GTD-E42" in third.stderr, third.stderr
    assert hear(first) == hear(second) == "<aaaa>"
    first.close_politely()
    wait_until(lambda: "sessions" in world.cli("status", "dev-aaaa").stdout, "status answers")

    def again():
        tunnel = world.connect("dev-aaaa", wait=False)
        wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"], "an answer")
        return tunnel.is_running()

    wait_until(again, "the place is free again")


def test_device_offline(world):
    world.broker()
    world.relay()
    agent = world.agent("dev-aaaa")
    assert agent.stop() == 0
    done = world.cli("connect", "dev-aaaa")
    assert done.returncode == 69 and "GTD-E31" in done.stderr, done.stderr
    assert "offline" in done.stderr


def test_device_lost_power(world):
    """The agent dies without a word: the broker publishes its last will."""
    broker = world.broker()
    world.relay()
    agent = world.agent("dev-aaaa")
    agent.kill()
    broker.wait_for(r"dev-aaaa.*(disconnect|closed)")
    done = world.cli("connect", "dev-aaaa")
    assert done.returncode == 69 and "GTD-E31" in done.stderr, done.stderr


def test_device_unknown(world):
    world.broker()
    begun = time.monotonic()
    done = world.cli("connect", "nobody-knows-it")
    assert done.returncode == 69 and "GTD-E30" in done.stderr, done.stderr
    assert time.monotonic() - begun < 10


def test_device_silent(world):
    """Online by its last word, but it does not answer."""
    world.broker()
    world.relay()
    agent = world.agent("dev-aaaa")
    os.kill(agent.pid, signal.SIGSTOP)
    done = world.cli("connect", "dev-aaaa", GOTTHARD_CLIENT_ANSWER_TIMEOUT="2s")
    os.kill(agent.pid, signal.SIGCONT)
    assert done.returncode == 69 and "GTD-E32" in done.stderr, done.stderr


def test_disconnect_from_a_third_place(world):
    start(world, "dev-aaaa")
    tunnel = world.connect("dev-aaaa", name="alice")
    assert hear(tunnel) == "<aaaa>"
    done = world.cli("disconnect", "dev-aaaa", name="bob")
    assert done.returncode == 0, done.stderr
    assert tunnel.wait() == 0
    closed = tunnel.event("closed")
    assert closed["exit"] == 0
    # and a device with nothing to close says so, without being an error
    again = world.cli("disconnect", "dev-aaaa", name="bob")
    assert again.returncode == 0, again.stderr


def test_disconnect_under_pins_closes_only_ones_own(world):
    world.broker()
    world.relay()
    pins = world.folder / "operators.pins"
    lines = [world.cli("fingerprint", name=name).stdout for name in ("alice", "bob", "operator")]
    assert all(lines), "fingerprint prints a pin line"
    pins.write_text(lines[0] + lines[1] + lines[2].rstrip("\n") + " role=admin\n")
    folder = world.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    world.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<aaaa>")).port)
    tunnel = world.connect("dev-aaaa", name="alice")
    world.cli("disconnect", "dev-aaaa", name="bob")
    assert hear(tunnel) == "<aaaa>"
    assert world.cli("disconnect", "dev-aaaa", name="operator").returncode == 0
    assert tunnel.wait() == 0


def test_pins_refuse_a_stranger(world):
    """Holding the fleet key is not enough under `pin`."""
    world.broker()
    world.relay()
    pins = world.folder / "operators.pins"
    pins.write_text(world.cli("fingerprint", name="alice").stdout)
    folder = world.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    world.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<aaaa>")).port)
    assert hear(world.connect("dev-aaaa", name="alice")) == "<aaaa>"
    bob = world.cli("connect", "dev-aaaa", "0:ssh", name="bob")
    assert bob.returncode == 77 and "GTD-E40" in bob.stderr, bob.stderr
    # bob's certificate under alice's name
    env = world.cli_environment("alice", GOTTHARD_AWS_CERT_PATH=world.certificates("bob"),
                                GOTTHARD_CLIENT_ANSWER_TIMEOUT="2s")
    posing = world.cli("connect", "dev-aaaa", "0:ssh", env=env)
    assert posing.returncode != 0, posing.stderr


def test_operator_pins_the_device(world):
    """The operator's own policy: a device whose key is not pinned is not believed."""
    start(world, "dev-aaaa")
    pins = world.folder / "devices.pins"
    good = world.cli("fingerprint", env=world.cli_environment("dev-aaaa")).stdout.split()
    assert len(good) >= 2
    pins.write_text(f"dev-aaaa {good[1]} role=device\n")
    folder = world.config_folder(cli=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    assert hear(world.connect("dev-aaaa", GOTTHARD_CONFIG_DIR=folder)) == "<aaaa>"
    pins.write_text(f"dev-aaaa {'ab' * 32} role=device\n")
    done = world.cli("connect", "dev-aaaa", "0:ssh", GOTTHARD_CONFIG_DIR=folder)
    assert done.returncode == 77 and "GTD-E33" in done.stderr, done.stderr
    agent = next(p for p in world.processes if "agentd" in p.name)
    wait_until(lambda: len(harness.children_of(agent.pid)) == 1, "what it had agreed to is closed, the other is not", 10)


def test_ctrl_c_is_polite_and_tells_the_device(world):
    start(world, "dev-aaaa")
    agent = next(p for p in world.processes if "agentd" in p.name)
    tunnel = world.connect("dev-aaaa")
    assert hear(tunnel) == "<aaaa>"
    worker = harness.children_of(agent.pid)
    assert len(worker) == 1
    begun = time.monotonic()
    assert tunnel.close_politely() == 0
    assert time.monotonic() - begun < 3
    told = [e["event"] for e in tunnel.events()]
    assert "closing" in told and told[-1] == "closed"
    wait_until(lambda: not harness.children_of(agent.pid), "the device let go", 10)


def test_ctrl_c_at_a_silent_broker(world):
    import socket

    silent = socket.create_server(("127.0.0.1", world.broker_port))
    tunnel = world.connect("dev-aaaa", wait=False)
    sock, _ = silent.accept()
    sock.recv(1)
    begun = time.monotonic()
    assert tunnel.stop(signal.SIGINT) == 130
    assert time.monotonic() - begun < 0.8 or harness.SANITIZER != "none"  # one of them sleeps at the end
    sock.close()
    silent.close()


def test_ctrl_c_before_it_is_up(world):
    """Whatever its threads are at: the broker's ends while the process does."""
    world.broker()
    agent = world.agent("dev-aaaa")
    os.kill(agent.pid, signal.SIGSTOP)
    for event in ["requesting", "broker"] * 4:
        tunnel = world.connect("dev-aaaa", wait=False)
        tunnel.event(event)
        assert tunnel.stop(signal.SIGINT) == 130
    os.kill(agent.pid, signal.SIGCONT)


def test_status_and_devices(world):
    import json

    start(world, "dev-aaaa", "dev-bbbb")
    next(p for p in world.processes if "dev-bbbb" in p.name).stop()
    before = json.loads(world.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0])
    world.connect("dev-aaaa")

    def one_session():
        return json.loads(world.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0]).get("sessions") == 1

    wait_until(one_session, "the session shows in the presence")
    status = json.loads(world.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0])
    assert status["device"] == "dev-aaaa" and status["online"] is True
    assert "ssh" in status["services"] and status["version"]
    assert status["since"] == before["since"], "a session does not make it come online anew"
    devices = {d["device"]: d for d in map(json.loads, world.cli("devices", "--json").stdout.splitlines())}
    assert devices["dev-aaaa"]["online"] is True and devices["dev-bbbb"]["online"] is False
    table = world.cli("devices").stdout
    assert "dev-aaaa" in table and "offline" in table


def test_the_original_commands(world):
    """`gotthard` has the original tool's four words."""
    world.broker()
    gotthard = world.folder / "gotthard"
    gotthard.symlink_to(PROGRAMS["cli"])
    for name in ("relayd", "agentd"):
        (world.folder / f"gotthard-{name}").symlink_to(PROGRAMS[name])
    path = f"{world.folder}:{os.environ['PATH']}"
    server = harness.Process(world, "server", [gotthard, "server"], env=world.relay_environment(PATH=path))
    wait_until(lambda: harness.can_connect(world.relay_port) or not server.is_running(), "the server listens")
    edge = harness.Process(world, "edge", [gotthard, "edge-device"], env=world.agent_environment(
        "dev-aaaa", PATH=path, GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<aaaa>")).port))
    edge.wait_for(harness.AGENT_READY)
    port = harness.free_ports(1)
    operator = harness.Process(world, "operator", [gotthard, "connect", "dev-aaaa"],
                               env=world.cli_environment(GOTTHARD_CLIENT_PORT=port))
    wait_until(lambda: harness.can_connect(port) or not operator.is_running(), "the local port listens")
    operator.wait_for("up")
    assert hear_on(port) == "<aaaa>"
    done = subprocess.run([gotthard, "disconnect", "dev-aaaa"], env=world.cli_environment(), timeout=LIMIT, check=False)
    assert done.returncode == 0
    assert operator.wait() == 0


def test_print_port(world):
    start(world, "dev-aaaa")
    tunnel = harness.Process(world, "print-port", [PROGRAMS["cli"], "connect", "--print-port", "dev-aaaa", "0:ssh"],
                             env=world.cli_environment())
    wait_until(lambda: tunnel.out().endswith("\n"), "the port is printed")
    assert hear_on(int(tunnel.out())) == "<aaaa>"


def test_cold_connect_is_quick(world):
    """From command to "tunnel is up". The figure is printed; the bound only catches a lost order of magnitude."""
    start(world, "dev-aaaa")
    figures = []
    for _ in range(5):
        begun = time.monotonic()
        tunnel = world.connect("dev-aaaa")
        figures.append((time.monotonic() - begun) * 1000)
        tunnel.close_politely()
    print(f"cold connect on loopback: {sorted(figures)[2]:.0f} ms (median of 5, process start to `up` event)")
    assert min(figures) < 5000
