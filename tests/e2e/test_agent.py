# SPDX-License-Identifier: ISC
"""Reloads, restarts and signals of the agent."""

import contextlib
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
from setting_markers import effect
from test_sessions import read_tag, start, tagged


def is_process_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def start_with_pins(env, pins):
    """Starts an agent with trust.policy = "pin"."""
    env.broker()
    env.relay()
    path = env.folder / "operators.pins"
    path.write_text(pins)
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{path}"; }};')
    agent = env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder,
                      GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port)
    return agent, path, folder


def reload(agent):
    n = len(re.findall("reloaded", agent.log()))
    agent.send(signal.SIGHUP)
    agent.wait_for(r" (not )?reloaded", count=n + 1)


def test_reload_removed_pin_closes_its_sessions(env):
    pins = [env.cli("fingerprint", name=name).stdout for name in ("alice", "bob")]
    agent, path, _ = start_with_pins(env, "".join(pins))
    alice, bob = env.connect("dev-aaaa", name="alice"), env.connect("dev-aaaa", name="bob")
    assert read_tag(alice) == read_tag(bob) == "<aaaa>"
    path.write_text(pins[1])
    reload(agent)
    assert alice.wait() == 77 and "GTD-E45" in alice.log()
    assert read_tag(bob) == "<aaaa>"
    refused = env.cli("connect", "dev-aaaa", "0:ssh", name="alice")
    assert refused.returncode == 77 and "GTD-E40" in refused.stderr, refused.stderr


def test_reload_removed_service_closes_sessions_granted_to_it(env):
    pins = [env.cli("fingerprint", name=name).stdout.rstrip("\n") for name in ("alice", "bob")]
    agent, path, _ = start_with_pins(env, f"{pins[0]} services=ssh\n{pins[1]}\n")
    alice, bob = env.connect("dev-aaaa", name="alice"), env.connect("dev-aaaa", name="bob")
    path.write_text(f"{pins[0]} services=web\n{pins[1]}\n")
    reload(agent)
    assert alice.wait() == 77
    assert read_tag(bob) == "<aaaa>"


BAD = {
    "syntax": ('trust = { policy = ', None),
    "unknown key": ('trust = { police = "psk"; };', None),
    "include": ('@include "/etc"', None),
    "invalid pins": (None, "alice 1234\n"),
    "key readable by others": ('crypt = { key_file = "/etc/passwd"; };', None),
}


@pytest.mark.parametrize("case", BAD, ids=lambda c: c.replace(" ", "-"))
def test_reload_invalid_configuration_changes_nothing(env, case):
    text, pins = BAD[case]
    agent, path, folder = start_with_pins(env, env.cli("fingerprint", name="alice").stdout)
    tunnel = env.connect("dev-aaaa", name="alice")
    if text:
        (folder / "agentd.conf").write_text(text)
    if pins:
        path.write_text(pins)
    agent.send(signal.SIGHUP)
    agent.wait_for("not reloaded")
    assert read_tag(tunnel) == "<aaaa>"
    assert read_tag(env.connect("dev-aaaa", name="alice")) == "<aaaa>"
    refused = env.cli("connect", "dev-aaaa", "0:ssh", name="bob")
    assert refused.returncode == 77, refused.stderr


def test_many_signals_leak_nothing(env):
    start(env, "dev-aaaa")
    agent = next(p for p in env.processes if "agentd" in p.name)
    tunnel = env.connect("dev-aaaa")
    counts = []
    for n in (100, 500):  # the first ones outlast the start of the session
        for _ in range(n):
            agent.send(signal.SIGHUP)
            agent.send(signal.SIGUSR1)
        reload(agent)
        counts.append(harness.descriptors(agent.pid))
    assert counts[0] == counts[1]
    assert len(harness.children_of(agent.pid)) == 1
    assert read_tag(tunnel) == "<aaaa>"


def test_reload_applies_new_name_and_key(env):
    env.broker()
    env.relay()
    env.certificates("dev-bbbb")
    target = env.target(tagged("<aaaa>"))
    text = 'mqtt = {{ cert_path = "{}"; }}; device = {{ name = "{}"; }};'
    folder = env.config_folder(agentd=text.format(env.certificates("dev-aaaa"), "dev-aaaa"))
    agent = env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect("dev-aaaa")
    (folder / "agentd.conf").write_text(text.format(env.certificates("dev-bbbb"), "dev-bbbb"))
    agent.send(signal.SIGHUP)
    agent.wait_for("device=dev-bbbb online")
    assert read_tag(env.connect("dev-bbbb")) == "<aaaa>"
    assert read_tag(tunnel) == "<aaaa>"
    gone = env.cli("connect", "dev-aaaa", "0:ssh")
    assert gone.returncode == 69 and "GTD-E31" in gone.stderr, gone.stderr


def test_sigusr1_logs_status(env):
    start(env, "dev-aaaa")
    agent = next(p for p in env.processes if "agentd" in p.name)
    env.connect("dev-aaaa")
    agent.send(signal.SIGUSR1)
    agent.wait_for("status device=dev-aaaa .*connected=1 sessions=1")
    agent.wait_for("status session=[0-9a-f]{8} operator=alice state=running")


def test_sigint_closes_sessions(env):
    start(env, "dev-aaaa")
    agent = next(p for p in env.processes if "agentd" in p.name)
    tunnel = env.connect("dev-aaaa")
    worker, = harness.children_of(agent.pid)
    assert agent.stop(signal.SIGINT) == 0
    assert not is_process_alive(worker)
    assert tunnel.wait() == 69 and tunnel.event("closed")


@effect("agentd", "RUNTIME_DIRECTORY")
def test_restarted_agent_restores_live_sessions(env):
    """After SIGTERM (an upgrade) and after SIGKILL, the tunnel works, is counted, and can be closed."""
    env.broker()
    env.relay()
    run = env.folder / "run"
    run.mkdir(mode=0o700)
    settings = {"RUNTIME_DIRECTORY": run, "GOTTHARD_AGENT_DATA_PORT": env.target(echo).port,
                "GOTTHARD_LIMITS_SESSIONS_PER_OPERATOR": 1}
    agent = env.agent("dev-aaaa", **settings)
    tunnel = env.connect("dev-aaaa")
    worker, = harness.children_of(agent.pid)
    with tunnel.dial() as sock:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            agent.stop(ending)
            sock.sendall(b"between")
            assert harness.receive_exactly(sock, 7) == b"between"
            agent = env.agent("dev-aaaa", **settings)
            agent.wait_for(f"operator=alice restored pid={worker}")
            sock.sendall(b"after")
            assert harness.receive_exactly(sock, 5) == b"after"
    second = env.cli("connect", "dev-aaaa", "0:ssh")
    assert second.returncode == 75 and "GTD-E42" in second.stderr, second.stderr

    def one_session():
        return json.loads(env.cli("status", "dev-aaaa", "--json").stdout.splitlines()[0]).get("sessions") == 1

    wait_until(one_session, "STATE shows the session")
    assert env.cli("disconnect", "dev-aaaa", "--all", name="bob").returncode == 0
    assert tunnel.wait() == 69
    wait_until(lambda: not is_process_alive(worker), "the worker has exited")
    wait_until(lambda: not list(run.glob("*.session")), "its session file is removed")
    assert can_connect_again(env)


def can_connect_again(env):
    tunnel = env.connect("dev-aaaa")
    with tunnel.dial() as sock:
        sock.sendall(b"again")
        return harness.receive_exactly(sock, 5) == b"again"


def test_connection_is_logged_with_source_port(env):
    """The service sees only 127.0.0.1: this log line alone connects a login to an operator."""
    seen = []

    def behavior(sock):
        seen.append(sock.getpeername()[1])
        echo(sock)

    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(behavior).port)
    tunnel = env.connect(name="bob")
    with tunnel.dial() as sock:
        sock.sendall(b"x")
        assert harness.receive_exactly(sock, 1) == b"x"
    agent.wait_for(rf"operator=bob stream=\d+ service=ssh ended .*source=127.0.0.1:{seen[0]} up=1 down=1 ")


def test_worker_has_only_its_session(env):
    """No long-term key, no environment variable of the agent, no descriptor of the listener."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, NOTIFY_SOCKET="/nonexistent/notify")
    tunnel = env.connect()
    worker, = harness.children_of(agent.pid)
    with open(f"/proc/{worker}/cmdline", "rb") as cmdline:
        assert b"GatewayOli session of alice" in cmdline.read()
    with open(f"/proc/{worker}/limits", encoding="ascii") as limits:
        assert re.search(r"Max core file size +0 +0", limits.read())
    if os.getuid() != 0:
        pytest.skip("reading environment and descriptors needs root")
    with open(f"/proc/{worker}/environ", "rb") as environ:
        text = environ.read()
    for word in (b"GOTTHARD_", b"MACHINE_ID", b"NOTIFY_SOCKET", env.key.encode()):
        assert word not in text

    def has_four_sockets():
        with contextlib.suppress(FileNotFoundError):  # one that is being closed
            return sum(os.readlink(fd.path).startswith("socket:") for fd in os.scandir(f"/proc/{worker}/fd")) == 4
        return False

    # The relay connection, the shared data connection, netlink and the resolver.
    wait_until(has_four_sockets, "four sockets of the worker")
    tunnel.disconnect()


def test_help_and_version_exit_quickly():
    for option in ("--help", "--version"):
        done = subprocess.run([harness.PROGRAMS["agentd"], option], capture_output=True, text=True, timeout=10, check=False,
                              env=harness.clean_environment())
        assert done.returncode == 0 and "gotthard-agentd" in done.stdout
    for wrong in (["--nonsense"], ["word"], ["--device-name"]):
        done = subprocess.run([harness.PROGRAMS["agentd"], *wrong], capture_output=True, text=True, timeout=10, check=False,
                              env=harness.clean_environment())
        assert done.returncode == 64, done.stderr


def test_large_stacks(env):
    """RLIMIT_STACK is the size of each thread's stack and counts as memory, of which the agent limits itself to little."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY:
        pytest.skip("the hard limit of the stack cannot be exceeded here")
    env.broker()
    env.agent(preexec=lambda: resource.setrlimit(resource.RLIMIT_STACK, (256 << 20, hard)))


def test_second_sigterm_ends_worker_with_bye_unsent(env):
    """Without a relay it cannot send BYE: its exit status reports this to the listener."""
    env.broker()
    relay = env.relay()
    agent = env.agent("GatewayOli", "--log-level", "debug", GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    env.connect()
    worker, = harness.children_of(agent.pid)
    relay.kill()
    with socket.create_server(("127.0.0.1", env.relay_port)):  # accepts connections and stays silent
        agent.wait_for("relay connection lost")
        os.kill(worker, signal.SIGTERM)
        agent.wait_for("running -> closing")
        os.kill(worker, signal.SIGTERM)
        assert agent.wait_for(r"exited status=(\d+)").group(1) == "79"
