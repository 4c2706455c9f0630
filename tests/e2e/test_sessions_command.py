# SPDX-License-Identifier: ISC
"""`gotthard-cli sessions`: the own tunnels of this machine, from their control sockets."""

import json
import os
import pathlib
import signal

import pytest

import harness
import holders
from harness import wait_until
from test_cli import GOOD, run
from test_shared_sessions import Connection


@pytest.fixture
def fleet(env):
    env.broker()
    env.relay_process = env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    return env


def listed():
    """No setting is needed."""
    result = run("sessions", "--json")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_no_session():
    result = run("sessions")
    assert (result.returncode, result.stdout) == (0, "") and "No session is open" in result.stderr
    assert listed() == []


def test_shared_session_and_connect_are_listed(fleet):
    connection = Connection(fleet).echo(b"12345")
    tunnel = fleet.connect("GatewayOli", "0:ssh", "0:22")
    with tunnel.dial("ssh") as sock:
        sock.sendall(b"hello world")
        assert harness.receive_exactly(sock, 11) == b"hello world"
        shared, connect = sorted(listed(), key=lambda item: item["kind"], reverse=True)
        assert (shared["kind"], shared["device"], shared["operator"], shared["state"]) == ("shared", "GatewayOli", "alice", "up")
        assert (shared["streams"], shared["up"], shared["down"], shared["forwards"]) == (1, 5, 5, "")
        assert shared["relay"] == f"localhost:{fleet.relay_port}" and 0 <= shared["seconds"] < 60
        assert holders.pids(harness.runtime_folder()) == [shared["pid"]]
        assert (connect["kind"], connect["pid"], connect["streams"], connect["up"]) == ("connect", tunnel.pid, 1, 11)
        assert connect["forwards"] == f"{tunnel.port('ssh')}:ssh {tunnel.port('22')}:22"
    wait_until(lambda: [item["streams"] for item in listed() if item["kind"] == "connect"] == [0], "the stream ends")
    assert [item["up"] for item in listed() if item["kind"] == "connect"] == [11]  # of a stream that is over
    text = run("sessions").stdout
    assert text.startswith("DEVICE") and text.count("GatewayOli") == 2 and f"{tunnel.port('ssh')}:ssh" in text
    connection.finish()
    tunnel.disconnect()
    assert [item["kind"] for item in listed()] == ["shared"]


def test_state_of_a_lost_relay(fleet):
    Connection(fleet).echo(b"x").finish()
    fleet.relay_process.kill()
    wait_until(lambda: listed()[0]["state"] == "away", "the loss is shown")


def test_sockets_of_killed_processes_are_removed(fleet):
    Connection(fleet).echo(b"x").finish()
    tunnel = fleet.connect()
    assert len(listed()) == 2
    os.kill(holders.pids(harness.runtime_folder())[0], signal.SIGKILL)
    tunnel.kill()
    assert listed() == []
    assert not [path for path in pathlib.Path(harness.runtime_folder()).glob("gotthard/*") if path.name != "lock"]


def test_stopped_process_is_reported(fleet):
    tunnel = fleet.connect()
    tunnel.send(signal.SIGSTOP)
    try:
        result = run("sessions")
        assert result.returncode == 0 and "may be stopped" in result.stderr and result.stdout == ""
    finally:
        tunnel.send(signal.SIGCONT)
    assert [item["kind"] for item in listed()] == ["connect"]


@pytest.mark.parametrize("args", [["x"], ["--config", "/dev/null"], ["--relay", "x"]])
def test_misuse(args):
    result = run("sessions", *args, **GOOD)
    assert (result.returncode, result.stdout) == (64, "")
