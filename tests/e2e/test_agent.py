# SPDX-License-Identifier: ISC
"""The agent's life: what a reload may change, what a restart leaves alone, and what a signal means."""

import json
import os
import re
import resource
import signal
import socket
import subprocess

import pytest

import harness
from harness import echo, wait_until
from settings import effect
from test_sessions import hear, start, tagged


def pid_is_there(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def pinned_world(world, pins):
    """An agent under pins, which is told to reload by HUP."""
    world.broker()
    world.relay()
    path = world.folder / "operators.pins"
    path.write_text(pins)
    folder = world.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{path}"; }};')
    agent = world.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder,
                        GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<aaaa>")).port)
    return agent, path, folder


def reload(agent):
    n = len(re.findall("reloaded", agent.log()))
    agent.send(signal.SIGHUP)
    agent.wait_for(r" (not )?reloaded", count=n + 1)


def test_a_pin_that_is_taken_away_ends_its_sessions(world):
    pins = [world.cli("fingerprint", name=name).stdout for name in ("alice", "bob")]
    agent, path, _ = pinned_world(world, "".join(pins))
    alice, bob = world.connect("dev-aaaa", name="alice"), world.connect("dev-aaaa", name="bob")
    assert hear(alice) == hear(bob) == "<aaaa>"
    path.write_text(pins[1])
    reload(agent)
    assert alice.wait() == 0 and alice.event("closed")
    assert hear(bob) == "<aaaa>"
    refused = world.cli("connect", "dev-aaaa", "0:ssh", name="alice")
    assert refused.returncode == 77 and "GTD-E40" in refused.stderr, refused.stderr


def test_a_service_that_is_taken_away_ends_the_sessions_it_was_granted_to(world):
    pins = [world.cli("fingerprint", name=name).stdout.rstrip("\n") for name in ("alice", "bob")]
    agent, path, _ = pinned_world(world, f"{pins[0]} services=ssh\n{pins[1]}\n")
    alice, bob = world.connect("dev-aaaa", name="alice"), world.connect("dev-aaaa", name="bob")
    path.write_text(f"{pins[0]} services=web\n{pins[1]}\n")
    reload(agent)
    assert alice.wait() == 0
    assert hear(bob) == "<aaaa>"


BAD = {
    "syntax": ('trust = { policy = ', None),
    "unknown key": ('trust = { police = "psk"; };', None),
    "include": ('@include "/etc"', None),
    "a bad line of pins": (None, "alice 1234\n"),
    "a key others may read": ('crypt = { key_file = "/etc/passwd"; };', None),
}


@pytest.mark.parametrize("case", BAD, ids=lambda c: c.replace(" ", "-"))
def test_a_reload_is_all_or_nothing(world, case):
    text, pins = BAD[case]
    agent, path, folder = pinned_world(world, world.cli("fingerprint", name="alice").stdout)
    tunnel = world.connect("dev-aaaa", name="alice")
    if text:
        (folder / "agentd.conf").write_text(text)
    if pins:
        path.write_text(pins)
    agent.send(signal.SIGHUP)
    agent.wait_for("not reloaded")
    assert hear(tunnel) == "<aaaa>"
    assert hear(world.connect("dev-aaaa", name="alice")) == "<aaaa>"
    refused = world.cli("connect", "dev-aaaa", "0:ssh", name="bob")
    assert refused.returncode == 77, refused.stderr


def test_a_storm_of_signals_leaves_nothing_behind(world):
    start(world, "dev-aaaa")
    agent = next(p for p in world.processes if "agentd" in p.name)
    tunnel = world.connect("dev-aaaa")
    before = harness.descriptors(agent.pid)
    for _ in range(500):
        agent.send(signal.SIGHUP)
        agent.send(signal.SIGUSR1)
    reload(agent)
    assert harness.descriptors(agent.pid) == before
    assert len(harness.children_of(agent.pid)) == 1
    assert hear(tunnel) == "<aaaa>"


def test_a_new_name_or_key_is_taken_over_by_a_reload(world):
    world.broker()
    world.relay()
    world.certificates("dev-bbbb")
    target = world.target(tagged("<aaaa>"))
    text = 'mqtt = {{ cert_path = "{}"; }}; device = {{ name = "{}"; }};'
    folder = world.config_folder(agentd=text.format(world.certificates("dev-aaaa"), "dev-aaaa"))
    agent = world.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = world.connect("dev-aaaa")
    (folder / "agentd.conf").write_text(text.format(world.certificates("dev-bbbb"), "dev-bbbb"))
    agent.send(signal.SIGHUP)
    agent.wait_for("device=dev-bbbb online")
    assert hear(world.connect("dev-bbbb")) == "<aaaa>"
    assert hear(tunnel) == "<aaaa>"
    gone = world.cli("connect", "dev-aaaa", "0:ssh")
    assert gone.returncode == 69 and "GTD-E31" in gone.stderr, gone.stderr


def test_sigusr1_tells_the_state(world):
    start(world, "dev-aaaa")
    agent = next(p for p in world.processes if "agentd" in p.name)
    world.connect("dev-aaaa")
    agent.send(signal.SIGUSR1)
    agent.wait_for("status: device=dev-aaaa .*connected=1 sessions=1")
    agent.wait_for("status: session=[0-9a-f]{8} operator=alice state=running")


def test_sigint_ends_the_sessions_too(world):
    start(world, "dev-aaaa")
    agent = next(p for p in world.processes if "agentd" in p.name)
    tunnel = world.connect("dev-aaaa")
    worker, = harness.children_of(agent.pid)
    assert agent.stop(signal.SIGINT) == 0
    assert not pid_is_there(worker)
    assert tunnel.wait() == 0 and tunnel.event("closed")


@effect("agentd", "RUNTIME_DIRECTORY")
def test_a_restarted_agent_knows_the_sessions_that_live_on(world):
    """After SIGTERM (an upgrade) and after SIGKILL: the tunnel works on, counts, and can be closed."""
    world.broker()
    world.relay()
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    settings = {"RUNTIME_DIRECTORY": run, "GOTTHARD_AGENT_DATA_PORT": world.target(echo).port,
                "GOTTHARD_LIMIT_PER_OPERATOR": 1}
    agent = world.agent("dev-aaaa", **settings)
    tunnel = world.connect("dev-aaaa")
    worker, = harness.children_of(agent.pid)
    with tunnel.dial() as sock:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            agent.stop(ending)
            sock.sendall(b"between")
            assert harness.receive_exactly(sock, 7) == b"between"
            agent = world.agent("dev-aaaa", **settings)
            agent.wait_for(f"operator=alice lives on: pid={worker}")
            sock.sendall(b"after")
            assert harness.receive_exactly(sock, 5) == b"after"
    second = world.cli("connect", "dev-aaaa", "0:ssh")
    assert second.returncode == 75 and "GTD-E42" in second.stderr, second.stderr

    def one_session():
        return json.loads(world.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0]).get("sessions") == 1

    wait_until(one_session, "the session shows in the presence")
    assert world.cli("disconnect", "dev-aaaa", name="bob").returncode == 0
    assert tunnel.wait() == 0
    wait_until(lambda: not pid_is_there(worker), "the worker ended")
    wait_until(lambda: not list(run.iterdir()), "its record is gone")
    assert hear_again(world)


def hear_again(world):
    tunnel = world.connect("dev-aaaa")
    with tunnel.dial() as sock:
        sock.sendall(b"again")
        return harness.receive_exactly(sock, 5) == b"again"


def test_each_dial_is_logged_with_its_source_port(world):
    """What listens sees only 127.0.0.1: this line is the only link from a login to an operator."""
    seen = []

    def behaviour(sock):
        seen.append(sock.getpeername()[1])
        echo(sock)

    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(behaviour).port)
    tunnel = world.connect(name="bob")
    with tunnel.dial() as sock:
        sock.sendall(b"x")
        assert harness.receive_exactly(sock, 1) == b"x"
    agent.wait_for(rf"operator=bob service=ssh stream=\d+ dialled: .*source=127.0.0.1:{seen[0]}$")


def test_a_worker_holds_no_more_than_its_session(world):
    """No long-term key, no variable of the agent's, no descriptor of the listener's."""
    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port, NOTIFY_SOCKET="/nonexistent/notify")
    tunnel = world.connect(GOTTHARD_SPARES=0)
    worker, = harness.children_of(agent.pid)
    with open(f"/proc/{worker}/cmdline", "rb") as cmdline:
        assert b"GatewayOli session of alice" in cmdline.read()
    with open(f"/proc/{worker}/limits", encoding="ascii") as limits:
        assert re.search(r"Max core file size +0 +0", limits.read())
    if os.getuid() != 0:
        pytest.skip("only root sees the rest")
    with open(f"/proc/{worker}/environ", "rb") as environ:
        text = environ.read()
    for word in (b"GOTTHARD_", b"MACHINE_ID", b"NOTIFY_SOCKET", world.key.encode()):
        assert word not in text
    sockets = [fd for fd in os.listdir(f"/proc/{worker}/fd") if "socket:" in os.readlink(f"/proc/{worker}/fd/{fd}")]
    assert len(sockets) == 2  # to the relay, and to the kernel for news of the network
    tunnel.close_politely()


def test_help_and_version_are_quick_and_good():
    for option in ("--help", "--version"):
        done = subprocess.run([harness.PROGRAMS["agentd"], option], capture_output=True, text=True, timeout=10, check=False,
                              env=harness.clean_environment())
        assert done.returncode == 0 and "gotthard-agentd" in done.stdout
    for wrong in (["--nonsense"], ["word"], ["--device-name"]):
        done = subprocess.run([harness.PROGRAMS["agentd"], *wrong], capture_output=True, text=True, timeout=10, check=False,
                              env=harness.clean_environment())
        assert done.returncode == 64, done.stderr


def test_large_stacks(world):
    """`ulimit -s` of the shell that begins it is each thread's, and counts as memory, of which the agent takes little."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY:
        pytest.skip("no larger stack may be had here")
    world.broker()
    world.agent(preexec=lambda: resource.setrlimit(resource.RLIMIT_STACK, (256 << 20, hard)))


def test_worker_that_is_told_twice(world):
    """It has no way for its goodbye and no time to find one: the listener learns that nobody was told."""
    world.broker()
    relay = world.relay()
    agent = world.agent("GatewayOli", "--log-level", "debug", GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    world.connect()
    worker, = harness.children_of(agent.pid)
    relay.kill()
    with socket.create_server(("127.0.0.1", world.relay_port)):  # takes connections, and says nothing
        agent.wait_for("the relay is lost")
        os.kill(worker, signal.SIGTERM)
        agent.wait_for("running -> closing")
        os.kill(worker, signal.SIGTERM)
        assert agent.wait_for(r"exited: status=(\d+)").group(1) == "79"
