# SPDX-License-Identifier: ISC
"""Service managers that end the agent together with all its processes: containers, runit, supervisord, a shell.

They send SIGTERM to the agent or to its whole process group. When the agent has exited, or after a few seconds, the
kernel ends every other process. Only a manager that sets agent.keep_sessions leaves the workers alone.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import time

import pytest

import harness
from harness import echo, wait_until
from setting_markers import effect
from test_agent import is_process_alive
from test_faults import open_stream
from test_restart import can_echo
from test_tunnel import assert_broken

STOP_LIMIT = 5 if harness.SANITIZER == "none" else 20  # docker stop kills after 10 s


@pytest.fixture
def system(env):
    env.broker_process = env.broker()
    env.relay_process = env.relay()
    return env


def start_agent(env, is_kept=False, **more):
    return env.agent(**{"GOTTHARD_AGENT_DATA_PORT": env.target(echo).port,
                        "GOTTHARD_AGENT_KEEP_SESSIONS": "true" if is_kept else None, **more})


def stop_as_manager(agent, is_group=False, n_signals=1):
    """SIGTERM; when the agent has exited, SIGKILL to whatever is left of its process group. Returns the duration."""
    started = time.monotonic()
    for _ in range(n_signals):
        (os.killpg if is_group else os.kill)(agent.pid, signal.SIGTERM)
    assert agent.wait() == 0, agent.log()
    took = time.monotonic() - started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.pid, signal.SIGKILL)
    return took


def assert_closed_at_once(tunnel, sock):
    """The device's BYE has reached the operator: no waiting, and the command has ended."""
    started = time.monotonic()
    assert_broken(sock)
    assert tunnel.wait(3) == 69
    assert tunnel.event("closed")["reason"] == "device" and time.monotonic() - started < 3


@effect("agentd", "agent.keep_sessions")
@pytest.mark.parametrize("is_group", [False, True], ids=["agent", "group"])
@pytest.mark.parametrize("n_signals", [1, 3])
def test_manager_kills_what_the_agent_leaves(system, is_group, n_signals):
    agent = start_agent(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    took = stop_as_manager(agent, is_group, n_signals)
    assert not is_process_alive(worker)
    assert took < STOP_LIMIT and "worker killed" not in agent.log()
    assert_closed_at_once(tunnel, sock)


def test_manager_that_declares_it_leaves_the_sessions_alone(system):
    state = system.folder / "state"
    state.mkdir(mode=0o700)
    agent = start_agent(system, is_kept=True, STATE_DIRECTORY=state)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    assert agent.stop() == 0
    assert "sessions continue" in agent.log()
    assert can_echo(sock, b"still there") and tunnel.disconnect() == 0


def test_manager_declares_it_but_signals_the_group(system):
    """Each worker gets its own SIGTERM and sends BYE, although the agent leaves it alone."""
    agent = start_agent(system, is_kept=True)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    os.killpg(agent.pid, signal.SIGTERM)
    assert agent.wait() == 0
    assert_closed_at_once(tunnel, sock)


def test_manager_stops_an_agent_with_restored_sessions(system):
    state = system.folder / "state"
    state.mkdir(mode=0o700)
    more = {"STATE_DIRECTORY": state, "GOTTHARD_AGENT_DATA_PORT": system.target(echo).port}
    agent = start_agent(system, is_kept=True, **more)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    assert agent.stop() == 0
    agent = start_agent(system, **more)
    agent.wait_for("restored pid=")
    assert stop_as_manager(agent) < STOP_LIMIT
    assert_closed_at_once(tunnel, sock)
    assert not list(state.glob("*.session"))


@pytest.mark.parametrize("fault", ["broker", "relay", "worker", "broker and relay"])
def test_manager_stops_an_agent_in_time_despite_a_process_that_hangs(system, fault):
    """The end has a limit. For a worker that hangs the agent sends the BYE."""
    agent = start_agent(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    pids = {"broker": system.broker_process.pid, "relay": system.relay_process.pid, "worker": worker}
    hung = [pid for name, pid in pids.items() if name in fault]
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        took = stop_as_manager(agent)
    finally:
        for pid in hung:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert took < STOP_LIMIT and not is_process_alive(worker)
    if fault == "broker":
        assert_closed_at_once(tunnel, sock)
    elif fault == "worker":
        assert_broken(sock)
        assert tunnel.wait(3) == 69 and "restarted" in tunnel.log()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a PID namespace needs root")
@pytest.mark.parametrize("has_init", [False, True], ids=["agent-is-init", "shell-is-init"])
def test_container_stops_politely(system, has_init):
    """`docker stop`: SIGTERM to process 1. The kernel kills every other process of the namespace when it exits.

    The agent as process 1 knows that its sessions cannot continue, whatever its setting. A shell passes the signal on.
    """
    inner = [str(harness.PROGRAMS["agentd"])]
    if has_init:
        inner = ["sh", "-c", f"trap 'kill -TERM $agent' TERM; {inner[0]} & agent=$!; wait $agent; wait $agent"]
    environment = system.agent_environment("GatewayOli", GOTTHARD_AGENT_DATA_PORT=system.target(echo).port,
                                           GOTTHARD_AGENT_KEEP_SESSIONS=None if has_init else "true")
    container = harness.Process(system, "container", ["unshare", "--pid", "--fork", "--kill-child", *inner], env=environment)
    container.wait_for("online")
    tunnel = system.connect()
    sock = open_stream(tunnel)
    init, = harness.children_of(container.pid)
    started = time.monotonic()
    os.kill(init, signal.SIGTERM)
    assert container.wait() == 0, container.log()
    assert time.monotonic() - started < STOP_LIMIT and "closing the sessions" in container.log()
    assert_closed_at_once(tunnel, sock)


def test_shipped_unit_declares_what_it_does():
    """The unit that ends the main process only sets the variable, and no other unit text contradicts it."""
    text = (harness.ROOT / "systemd" / "gotthard-agentd.service.in").read_text()
    assert re.search(r"^KillMode=process$", text, re.M)
    assert re.search(r"^Environment=GOTTHARD_AGENT_KEEP_SESSIONS=true$", text, re.M)
    assert re.search(r"^FileDescriptorStoreMax=2$", text, re.M)
    assert re.search(r"^Restart=always$", text, re.M) and "\nRestartPreventExitStatus" not in text


# --- SIGKILL: no process is left, and the kernel closes the connections ---------------------------


def n_unread_from(port):
    """Returns the received bytes that a stopped process has not read from its connection to this port."""
    tables = [path for path in map(pathlib.Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [row.split() for path in tables for row in path.read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[2].endswith(f":{port:04X}"))


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
def test_killed_agent_is_noticed_at_once(system, is_reset):
    """SIGKILL to the whole group. With a byte unread in its socket the kernel sends a reset in place of a FIN."""
    agent = start_agent(system)
    tunnel = system.connect()
    worker, = harness.children_of(agent.pid)
    if is_reset:
        pending = tunnel.dial()
        pending.sendall(b"x")
        assert harness.receive_exactly(pending, 1) == b"x"
        os.kill(worker, signal.SIGSTOP)
        pending.sendall(bytes(300_000))  # more than its window: it is to move, and its ticket stays unread
        wait_until(lambda: n_unread_from(system.relay_port), "a ticket that the worker has not read")
    os.killpg(agent.pid, signal.SIGKILL)
    started = time.monotonic()
    assert tunnel.event("peer-lost", limit=5)["reason"] == "connection closed without BYE"
    assert time.monotonic() - started < 2
    system.relay_process.wait_for("client=g1:d:GatewayOli down .*reason=\"" + ("Connection reset" if is_reset else "connection closed"))
    if is_reset:
        pending.close()
