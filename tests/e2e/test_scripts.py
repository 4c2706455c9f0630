# SPDX-License-Identifier: ISC
"""What scripts rely on: JSON events with errors in them, and exit statuses."""

import json
import os
import signal
import subprocess

import pytest

import harness
from harness import LIMIT, PROGRAMS, Process, clean_environment, echo

CLI = str(PROGRAMS["cli"])
DEVICE = "dev-aaaa"


def start(env, **more):
    env.broker()
    env.relay()
    return env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **more)


def error_of(result):
    """The one error event, which has all its members."""
    events = [json.loads(line) for line in result.stdout.splitlines()]
    error, = [event for event in events if event.get("event") == "error"]
    assert set(error) == {"time", "event", "id", "message", "hint", "exit"}
    assert error["exit"] == result.returncode and error["message"] and error["hint"]
    return error


def run(*args, **variables):
    return subprocess.run([CLI, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT,
                          env=clean_environment(**variables), check=False)


@pytest.mark.parametrize("args", [
    ["--json"], ["--json", "frobnicate"], ["connect", "--json"], ["connect", "--json", "dev", "--nope"], ["connect", "--nope", "dev", "--json"],
    ["connect", "dev", "65536", "--json"], ["connect", "a/b", "--json"], ["status", "--json", "a/b"], ["devices", "--json", "1x=y"],
    ["disconnect", "--json", "a", "b"], ["connect", "dev", "--json", "--bind"], ["forget", "--json", "a"],
])
def test_usage_errors_are_events(args):
    result = run(*args)
    assert result.returncode == 64
    assert error_of(result)["id"] == "GTD-E12"


def test_a_word_after_the_options_is_no_option():
    result = run("connect", "--nope", "--", "--json")
    assert result.returncode == 64 and result.stdout == ""


@pytest.mark.parametrize("args", [["connect", "dev"], ["status", "dev"], ["devices"], ["disconnect", "dev"], ["forget", "dev", "--yes"]])
def test_configuration_errors_are_events(args):
    result = run(*args, "--json")
    assert result.returncode == 78 and error_of(result)["id"] in ("GTD-E10", "GTD-E11")


@pytest.mark.parametrize("args", [["connect", "0:ssh"], ["status"], ["disconnect"]])
def test_an_unknown_device_is_an_event(env, args):
    env.broker()
    result = env.cli(args[0], "unknown", *args[1:], "--json")
    assert result.returncode == 69 and error_of(result)["id"] == "GTD-E30"


def test_tunnel_closed_by_the_other_side(env):
    agent = start(env)
    tunnel = env.connect(DEVICE)
    plain = Process(env, "plain", [CLI, "connect", DEVICE, "0:ssh"], env=env.cli_environment())
    plain.wait_for("tunnel to .* is up")
    assert agent.stop(signal.SIGINT) == 0
    assert tunnel.wait() == 69 and plain.wait() == 69
    assert tunnel.event("error")["id"] == "GTD-E47" and tunnel.event("closed")["exit"] == 69
    assert "[GTD-E47]" in plain.log() and "closed" in plain.log().partition("[GTD-E47]")[2]


def test_interrupted_before_the_tunnel_is_up(env):
    """In both states: waiting for the answer, and for the relay. Each ends with an event and a line."""
    env.broker()
    agent = env.agent(DEVICE)
    for event in ("answered", "broker"):
        if event == "broker":
            os.kill(agent.pid, signal.SIGSTOP)
        tunnel = env.connect(DEVICE, wait=False)
        tunnel.event(event)
        plain = Process(env, env.unique("plain"), [CLI, "connect", DEVICE, "0:ssh"], env=env.cli_environment())
        plain.wait_for("answered within" if event == "answered" else "connected to MQTT")
        assert tunnel.stop(signal.SIGINT) == 130 and plain.stop(signal.SIGINT) == 130
        assert tunnel.event("closed")["exit"] == 130
        assert "Interrupted" in plain.log().splitlines()[-1]
    os.kill(agent.pid, signal.SIGCONT)


def test_interrupt_stays_ignored_in_a_background_job(env):
    """A shell without job control ignores SIGINT for `command &`. Ctrl+C is for the foreground then."""
    start(env)
    out = env.folder / "background.out"
    shell = subprocess.run(["sh", "-c", f"{CLI} connect --print-port {DEVICE} 0:ssh >{out} 2>/dev/null & echo $!"],
                           env=env.cli_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=True)
    pid = int(shell.stdout)
    try:
        harness.wait_until(lambda: out.read_text().endswith("\n"), "the tunnel is up")
        os.kill(pid, signal.SIGINT)
        with harness.socket.create_connection(("127.0.0.1", int(out.read_text())), timeout=LIMIT) as sock:
            sock.sendall(b"hello")
            assert harness.receive_exactly(sock, 5) == b"hello"
    finally:
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("args", [["--help"], ["help", "connect"], ["help", "config"], ["config", "show"], ["version"]])
def test_a_reader_that_leaves_early_is_no_error(args):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([CLI, *args], stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, text=True,
                            timeout=LIMIT, env=clean_environment(), check=False)
    os.close(writer)
    assert result.returncode == 0 and result.stderr == ""


def test_other_services_are_named(env):
    """Those that the device offers, and nothing that it does not have."""
    from terminal import Terminal

    folder = env.config_folder(agentd=f'services = {{ ssh = "127.0.0.1:{env.target(echo).port}"; web = "127.0.0.1:{env.target(echo).port}"; }};')
    env.broker()
    env.relay()
    env.agent(DEVICE, GOTTHARD_CONFIG_DIR=folder)
    terminal = Terminal(env, DEVICE, GOTTHARD_CLIENT_PORT=0)
    try:
        terminal.wait_for("Press Ctrl+C")
        lines = terminal.screen()
        assert "  also here: web" in lines, lines
        assert not any("1880" in line or "<" in line for line in lines), lines
        command, = [line.split() for line in lines if line.startswith("  ssh ")]
        assert command[-1] == "localhost"
    finally:
        terminal.end()
