# SPDX-License-Identifier: ISC
"""The limits in the systemd units: both are there, and the programs stay far below them at the greatest values of their settings."""

import configparser
import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest

import harness
from harness import wait_until

UNITS = pathlib.Path(__file__).resolve().parent.parent.parent / "systemd"
LOOKUPS = 64  # threads of a session's resolver (LOOKUPS_MAX of resolver.c)


def service(program):
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    parser.optionxform = str
    parser.read(UNITS / f"gotthard-{program}.service.in")
    return parser["Service"]


def n_tasks(*pids):
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)


def descendants(pid):
    children = harness.children_of(pid)
    return children + [each for child in children for each in descendants(child)]


@pytest.fixture(name="little_memory")
def little_memory_fixture(env):
    """Returns a function that limits the calling process to 40 MiB, as MemoryMax= does."""
    for folder, limit in ((pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (pathlib.Path("/sys/fs/cgroup"), "memory.max")):
        group = folder / env.folder.name
        try:
            group.mkdir()
            (group / limit).write_text(str(40 << 20))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        break
    else:
        pytest.skip("needs root and a writable memory cgroup")
    yield lambda: (group / "cgroup.procs").write_text("0")
    env.close()
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the processes ended")
    group.rmdir()


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_units_limit_memory_and_tasks(program):
    limits = service(program)
    assert limits["MemoryMax"].endswith("%") and 25 <= int(limits["MemoryMax"][:-1]) <= 80
    assert int(limits["TasksMax"]) > 0


@pytest.fixture(name="unit_folder")
def unit_folder_fixture(tmp_path):
    """The units with the shipped drop-ins, as systemd-analyze reads them."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    for program in ("relayd", "agentd"):
        unit = f"gotthard-{program}.service"
        text = (UNITS / f"{unit}.in").read_text().replace("@sbindir@/gotthard-" + program, "/bin/true")
        (tmp_path / unit).write_text(text)
    return tmp_path


def analyze(folder, *args):
    return subprocess.run(["systemd-analyze", *args], env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}, capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_units_have_little_exposure(unit_folder, program):
    """At most 1.6, with what the programs need: the network, and for the relay a port below 1024."""
    result = analyze(unit_folder, "security", "--offline=true", "--threshold=16", "--no-pager", unit_folder / f"gotthard-{program}.service")
    assert "Overall exposure level" in result.stdout and result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_units_and_their_drop_ins_are_valid(unit_folder, program):
    """systemd ignores a key that it does not know, with a warning."""
    unit = f"gotthard-{program}.service"
    drop_ins = unit_folder / f"{unit}.d"
    drop_ins.mkdir()
    for path in UNITS.glob("*.conf"):
        text = path.read_text()
        (drop_ins / path.name).write_text(text.replace("#Load", "Load"))
    result = analyze(unit_folder, "verify", "--man=no", unit)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list(drop_ins.iterdir())) == 2


def test_agent_continues_when_a_session_runs_out_of_memory():
    """The default, stop, would end all tunnels with the one that exceeds the limit."""
    assert service("agentd")["OOMPolicy"] == "continue" and service("agentd")["KillMode"] == "process"


@pytest.mark.skipif(harness.SANITIZER != "none", reason="needs more memory")
def test_session_without_memory_ends_alone(env, little_memory):
    """The session whose data is not read is killed. The other one, and the agent, continue."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, preexec=little_memory)
    other = env.connect(name="bob")
    with other.dial() as sock, contextlib.ExitStack() as stack:
        greedy = env.connect()
        streams = [stack.enter_context(greedy.dial()) for _ in range(40)]
        for each in streams:
            each.setblocking(False)

        def is_killed():
            for each in streams:
                with contextlib.suppress(OSError):
                    each.send(bytes(1 << 20))
            return "killed" in agent.log()

        wait_until(is_killed, "the session is killed", step=0.01)
        sock.sendall(b"other")
        assert harness.receive_exactly(sock, 5) == b"other"
    assert agent.is_running() and env.connect("GatewayOli", name="operator").disconnect() == 0


def test_relay_with_the_most_threads_has_room(env, relay_of):
    relay = relay_of("", "relay = { threads = 64; };")
    wait_until(lambda: n_tasks(relay.pid) > 64, "all threads run")
    assert n_tasks(relay.pid) < int(service("relayd")["TasksMax"]) * 3 / 4


def test_agent_with_the_most_sessions_has_room(env):
    """limits.sessions is at most 1,000; by default 8 sessions may resolve names with all their threads."""
    env.broker()
    env.relay()
    agent = env.agent()
    alone = n_tasks(agent.pid)
    env.connect()
    sessions = descendants(agent.pid)
    wait_until(lambda: n_tasks(*descendants(agent.pid)) <= 2 * len(sessions), "no lookup is in progress")
    each = n_tasks(*descendants(agent.pid))
    room = int(service("agentd")["TasksMax"]) - alone - LOOKUPS
    assert 1000 * each < room and 8 * (each + LOOKUPS) < room, (alone, each)
