# SPDX-License-Identifier: ISC
"""Commands other than `connect` on a pseudo-terminal, 40 and 80 columns wide: what a person sees, types and gets."""

import os
import re
import signal

import pytest

import states
from harness import LIMIT, echo, wait_until
from terminal import Terminal
from test_ssh import Device

DEVICE = "dev-aaaa"

pytestmark = pytest.mark.parametrize("width", [40, 80])


@pytest.fixture
def terminals(env):
    opened = []

    def start(*args, **more):
        opened.append(Terminal(env, *args, **more))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.end()


@pytest.fixture
def agent(env):
    env.broker()
    env.relay()
    return env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)


def end_of(terminal):
    """Waits for the end of the command. Returns its exit status and what the screen shows, as one text."""
    wait_until(lambda: terminal.read() and terminal.child.poll() is not None, "the command ends")
    return terminal.child.returncode, "".join(terminal.screen())


def test_status(env, agent, terminals, width):
    tunnel = env.connect(DEVICE)
    code, text = end_of(terminals(DEVICE, command="status", width=width))
    assert code == 0 and text.startswith(f"{DEVICE} is online") and "…" not in text, text
    assert "alice, ssh, up for " in text and re.search(r"answered +in \d+ ms", text), text
    tunnel.disconnect()


def test_sessions(env, agent, terminals, width):
    tunnel = env.connect(DEVICE)
    code, text = end_of(terminals(command="sessions", width=width))
    assert code == 0 and text.startswith("DEVICE") and text.count(DEVICE) == 1, text
    tunnel.disconnect()


def test_disconnect(env, agent, terminals, width):
    tunnel = env.connect(DEVICE)
    terminal = terminals(DEVICE, command="disconnect", width=width)
    code, text = end_of(terminal)
    assert (code, text) == (0, f"{DEVICE} closed 1 session.")
    tunnel.wait()


@pytest.mark.parametrize("command", ["disconnect", "status"])
def test_a_silent_device_shows_the_seconds(agent, terminals, width, command):
    os.kill(agent.pid, signal.SIGSTOP)
    terminal = terminals(DEVICE, command=command, width=width)
    terminal.wait_for_line(rf"^… waiting for {DEVICE} to answer$")
    terminal.wait_for_line(rf"^… waiting for {DEVICE} to answer, [34] s$")
    os.kill(agent.pid, signal.SIGCONT)
    code, text = end_of(terminal)
    assert code == 0 and "…" not in text, text


def test_wait_of_connect_shows_its_deadline(env, terminals, width):
    env.broker()
    terminal = terminals("--wait=90s", "gw", width=width, GOTTHARD_CLIENT_PORT=0)
    if width < 80:  # no room
        terminal.wait_for_line(r"^… waiting for gw to be available, \d+ s$")
    else:
        terminal.wait_for_line(r"^… waiting for gw to be available, \d+ s, until \d\d:\d\d:\d\d$")


def test_doctor_shows_what_it_checks(agent, terminals, width):
    os.kill(agent.pid, signal.SIGSTOP)
    terminal = terminals(DEVICE, command="doctor", width=width)
    terminal.wait_for_line(r"^… checking the device, [3-5] s$")
    os.kill(agent.pid, signal.SIGCONT)
    _, text = end_of(terminal)
    assert "…" not in text, text


def test_shell_by_ssh(env, terminals, width):
    """A prompt, a command, and the exit status of the shell."""
    env.broker()
    env.relay()
    device = Device(env)
    terminal = terminals("-tt", "-F", device.config, f"{device.sshd.user}@{device.name}", "PS1='prompt> ' exec sh -i",
                         command="ssh", width=width)
    terminal.wait_for_line(r"^prompt> $")
    os.write(terminal.reader, b"stty size\n")
    terminal.wait_for_line(rf"^24 {width}$")
    os.write(terminal.reader, b"exit 7\n")
    assert terminal.child.wait(timeout=LIMIT) == 7


@pytest.mark.parametrize("answer, code", [("n", 130), ("y", 0)])
def test_question_of_forget(env, terminals, width, answer, code):
    env.broker()
    states.retain(env, states.fleet(2))
    terminal = terminals("dev-00001", command="forget", width=width, name="god")
    wait_until(lambda: "dev-00001" in "".join(terminal.screen()) and "?" in terminal.text, "the question is shown")
    os.write(terminal.reader, answer.encode() + b"\n")
    ended, text = end_of(terminal)
    assert ended == code, text
