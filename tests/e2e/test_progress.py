# SPDX-License-Identifier: ISC
"""What a person sees while `connect` waits, on terminals of several widths; and what a log has instead."""

import os
import re
import signal

import pytest

from harness import PROGRAMS, Process, echo, wait_until
from terminal import Terminal

CLI = str(PROGRAMS["cli"])
DEVICE = "dev-aaaa"
WIDTHS = [40, 80, 200]
CLOCK = r"\d\d:\d\d:\d\d"


@pytest.fixture
def terminals(env):
    opened = []

    def start(*args, **more):
        opened.append(Terminal(env, *args, **more))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.end()


def assert_fits(terminal):
    """The terminal breaks no line, except commands and long paths, which must be copied whole."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.read().replace("\r\n", "\n"))
    shown = [line.split("\x1b[K")[-1] for line in text.split("\n")]
    too_long = [line for line in shown if len(line) > terminal.width and not line.startswith("  ssh ") and len(line.split()) > 1]
    assert not too_long, too_long


@pytest.mark.parametrize("width", WIDTHS)
def test_step_and_seconds(env, terminals, width):
    """One line, rewritten in place, and erased by the next one."""
    env.broker()
    env.relay()
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    os.kill(agent.pid, signal.SIGSTOP)
    terminal = terminals(DEVICE, width=width, GOTTHARD_CLIENT_PORT=0)
    terminal.wait_for_line(r"^… waiting for dev-aaaa to answer$")
    terminal.wait_for_line(r"^… waiting for dev-aaaa to answer, 3 s$")
    terminal.wait_for_line(r"^… waiting for dev-aaaa to answer, 4 s$")
    assert len(terminal.screen()) == 1, terminal.screen()
    os.kill(agent.pid, signal.SIGCONT)
    terminal.wait_for("Press Ctrl+C")
    lines = terminal.screen()
    assert lines[0].startswith("✓ dev-aaaa answered") and not any("…" in line for line in lines), lines
    assert_fits(terminal)


def test_seconds_of_a_long_step(env, terminals):
    env.broker()
    agent = env.agent("gateway-with-a-very-long-name", GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    os.kill(agent.pid, signal.SIGSTOP)
    terminal = terminals("gateway-with-a-very-long-name", width=40, GOTTHARD_CLIENT_PORT=0)
    terminal.wait_for_line(r"^… waiting for gateway-with.*\.\.\., [34] s$")
    assert_fits(terminal)
    os.kill(agent.pid, signal.SIGCONT)


@pytest.mark.parametrize("width", WIDTHS)
def test_lost_relay(env, terminals, width):
    """The attempt, the next one and the deadline; the time of day before each line after "up"."""
    env.broker()
    relay = env.relay()
    env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    terminal = terminals(DEVICE, width=width, GOTTHARD_CLIENT_PORT=0)
    terminal.wait_for("Press Ctrl+C")
    relay.kill()
    terminal.wait_for_line(rf"^{CLOCK} ! connection to the relay lost")
    if width < 75:
        terminal.wait_for_line(rf"^… relay: try \d+( in \d+ s)?, until {CLOCK}$")
        terminal.wait_for_line(r"^… relay: try ([2-9]|\d\d)")
    else:
        terminal.wait_for_line(rf"^… relay lost: attempt \d+ (in \d+ s|in progress), giving up at {CLOCK}, in \d+ s$")
        terminal.wait_for_line(r"^… relay lost: attempt ([2-9]|\d\d)")
    assert sum("…" in line for line in terminal.screen()) == 1
    env.relay()
    terminal.wait_for_line(rf"^{CLOCK} Connection to the relay")
    wait_until(lambda: not any("…" in line for line in terminal.screen()), "the line is erased")
    assert_fits(terminal)


@pytest.mark.parametrize("width", WIDTHS)
def test_lost_device(env, relay_of, terminals, width):
    env.broker()
    relay_of('heartbeat_interval = "1s"; heartbeat = "5s";')
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    terminal = terminals(DEVICE, width=width, GOTTHARD_CLIENT_PORT=0, GOTTHARD_TIMEOUTS_RESUME_WINDOW="30s")
    terminal.wait_for("Press Ctrl+C")
    worker, = [int(pid) for pid in open(f"/proc/{agent.pid}/task/{agent.pid}/children", encoding="ascii").read().split()]
    os.kill(worker, signal.SIGSTOP)  # the relay notices it by its heartbeat
    try:
        wait_until(lambda: "disconnected" in terminal.read() or terminal.child.poll() is not None, "the device is lost", 60)
        terminal.wait_for_line(rf"^{CLOCK} ! dev-aaaa disconnected")
        terminal.wait_for_line(rf"^… (waiting for dev-aaaa|dev-aaaa away), until {CLOCK}$")
        assert_fits(terminal)
    finally:
        os.kill(worker, signal.SIGCONT)


@pytest.mark.parametrize("width", WIDTHS)
def test_failure_fits(env, terminals, width):
    env.broker()
    terminal = terminals("unknown-device", width=width, GOTTHARD_CLIENT_PORT=0)
    wait_until(lambda: terminal.child.poll() is not None, "the command has failed")
    lines = terminal.screen()
    assert lines[0].startswith("✗ no device named") and "[GTD-E30]" in lines[-1], lines
    assert all(line.startswith("  ") for line in lines[1:])
    assert_fits(terminal)


def test_log_of_a_lost_relay(env):
    """Without a terminal: one fact a line, with time and level, and no escape sequence."""
    env.broker()
    relay = env.relay()
    env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect(DEVICE)
    plain = Process(env, "plain", [CLI, "connect", DEVICE, "0:ssh"], env=env.cli_environment(TERM="xterm"))
    plain.wait_for("tunnel to .* is up")
    relay.kill()
    plain.wait_for(r"warn gotthard-cli: connection to the relay lost \(.*\), reconnecting for 1[12]\d s")
    plain.wait_for(r"info gotthard-cli: attempt [2-9] to reach the relay, giving up in 1[01]\d s")
    assert tunnel.event("relay-lost")["seconds_left"] > 100
    attempt = tunnel.event("relay-attempt")
    assert attempt["attempt"] >= 1 and 100 < attempt["seconds_left"] < 121
    env.relay()
    plain.wait_for("Connection to the relay restored")
    assert "\x1b" not in plain.log() and "\r" not in plain.log()
    for line in plain.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warn|error|debug) gotthard-cli: ", line), line
