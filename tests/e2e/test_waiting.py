# SPDX-License-Identifier: ISC
"""`connect --wait`, `connect --background`, and the totals of SIGUSR1 and of the end."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import LIMIT, PROGRAMS, Process, echo, wait_until
from setting_markers import effect

CLI = str(PROGRAMS["cli"])
DEVICE = "dev-aaaa"


def start(env, **more):
    env.broker()
    env.relay()
    return env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **more)


def echoes(port, text=b"hello"):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(text)
        return harness.receive_exactly(sock, len(text)) == text


# --- wait -----------------------------------------------------------------------------------------


@effect("cli", "--wait")
@pytest.mark.parametrize("state", ["offline", "unknown"])
def test_wait_for_a_device(env, state):
    if state == "offline":
        assert start(env).stop() == 0
    else:
        env.broker()
        env.relay()
    tunnel = env.connect(DEVICE, options=["--wait"], wait=False)
    waiting = tunnel.event("waiting")
    assert waiting["device"] == DEVICE and waiting["id"] == ("GTD-E31" if state == "offline" else "GTD-E30")
    env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel.wait_up()
    assert echoes(tunnel.port())
    assert len([event for event in tunnel.events() if event["event"] == "waiting"]) == 1


def test_wait_is_limited(env):
    """The exit status is that of the reason."""
    assert start(env).stop() == 0
    began = time.monotonic()
    done = env.cli("connect", "--wait=7s", DEVICE, "0:ssh")
    assert done.returncode == 69 and "GTD-E31" in done.stderr, done.stderr
    assert 6.5 < time.monotonic() - began < 20
    assert "is offline" in done.stderr and "waiting for it" in done.stderr


def test_wait_for_room(env):
    """All sessions of the device are in use."""
    start(env, GOTTHARD_CONFIG_DIR=env.config_folder(agentd="limits = { sessions_per_operator = 1; };"))
    first = env.connect(DEVICE)
    done = env.cli("connect", "--wait=1s", DEVICE, "0:ssh")
    assert done.returncode == 75 and "GTD-E42" in done.stderr, done.stderr
    second = env.connect(DEVICE, options=["--wait=1min"], wait=False)
    assert second.event("waiting")["id"] == "GTD-E42"
    assert first.disconnect() == 0
    second.wait_up()
    assert echoes(second.port())


def test_wait_is_interrupted(env):
    assert start(env).stop() == 0
    tunnel = env.connect(DEVICE, options=["--wait"], wait=False)
    tunnel.event("waiting")
    assert tunnel.stop(signal.SIGINT) == 130


@pytest.mark.parametrize("option", ["--wait=x", "--wait=0s", "--wait=-1s", "--background=yes"])
def test_bad_options(env, option):
    done = env.cli("connect", option, DEVICE)
    assert done.returncode == 64 and done.stdout == "", done.stderr


# --- background -----------------------------------------------------------------------------------


def in_background(env, *options):
    return subprocess.run([CLI, "connect", "--background", *options, DEVICE, "0:ssh"], env=env.cli_environment(),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, cwd=env.folder, check=False)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@effect("cli", "--background")
def test_background(env):
    """It returns when the tunnel is up, and nothing of the terminal remains. SIGTERM and disconnect end it."""
    agent = start(env)
    for ending in ("SIGTERM", "disconnect"):
        done = in_background(env, "--print-port")
        assert done.returncode == 0, done.stderr
        port = int(done.stdout)
        done = in_background(env, "--json")
        assert done.returncode == 0, done.stderr
        events = {event["event"]: event for event in map(json.loads, done.stdout.splitlines())}
        pid = events["background"]["pid"]
        assert echoes(port) and echoes(events["up"]["port"])
        assert os.getsid(pid) == pid
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
        if ending == "SIGTERM":
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid), "the process ends", 10)
            assert echoes(port)
        assert env.cli("disconnect", DEVICE).returncode == 0
        wait_until(lambda: not is_alive(pid) and not harness.can_connect(port), "both have ended", 10)
    wait_until(lambda: not harness.children_of(agent.pid), "the device has closed all", 10)


@pytest.mark.parametrize("n_before", [0, 20])
def test_background_keeps_no_inherited_descriptor(env, n_before):
    """A lock would stay, and the reader of a pipe would wait for the tunnel. The numbers before it are in use or free."""
    start(env)
    reader, writer = os.pipe()
    others = [os.dup(writer) for _ in range(n_before)]
    done = subprocess.run([CLI, "connect", "--background", "--print-port", DEVICE, "0:ssh"], env=env.cli_environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LIMIT, cwd=env.folder, check=False, pass_fds=[writer, *others])
    for fd in (writer, *others):
        os.close(fd)
    assert done.returncode == 0, done.stderr
    assert select.select([reader], [], [], LIMIT)[0] and os.read(reader, 1) == b""
    os.close(reader)
    assert echoes(int(done.stdout))
    assert env.cli("disconnect", DEVICE).returncode == 0


def test_background_fails_in_the_foreground(env):
    env.broker()
    done = in_background(env, "--json")
    assert done.returncode == 69
    error, = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "error"]
    assert error["id"] == "GTD-E30" and error["exit"] == 69


def test_background_is_interrupted_before_it_is_up(env):
    assert start(env).stop() == 0
    parent = Process(env, "background", [CLI, "connect", "--background", "--wait", "--json", DEVICE, "0:ssh"], env=env.cli_environment())
    wait_until(lambda: '"waiting"' in parent.out(), "it waits")
    child, = harness.children_of(parent.pid)
    assert parent.stop(signal.SIGINT) == 130
    assert not is_alive(child)


# --- totals ---------------------------------------------------------------------------------------


def test_totals(env):
    """Ended and open connections count, by service."""
    start(env)
    tunnel = env.connect(DEVICE, "0:ssh", "0:22")
    plain = Process(env, "plain", [CLI, "connect", "--print-port", DEVICE, "0:ssh"], env=env.cli_environment())
    wait_until(lambda: plain.out().endswith("\n"), "the port is printed")
    for _ in range(3):
        assert echoes(tunnel.port(), b"x" * 1000) and echoes(int(plain.out()), b"x" * 1000)
    tunnel.event("stream-ended", count=3)
    plain.wait_for("stream=.* ended", count=3)
    with tunnel.dial() as sock, socket.create_connection(("127.0.0.1", int(plain.out())), timeout=LIMIT) as other:
        for stream in (sock, other):
            stream.sendall(b"x" * 500)
            assert harness.receive_exactly(stream, 500) == b"x" * 500
        tunnel.send(signal.SIGUSR1)
        plain.send(signal.SIGUSR1)
        totals = tunnel.event("totals")
        assert (totals["connections"], totals["open"], totals["up"], totals["down"]) == (4, 1, 3500, 3500), totals
        assert totals["services"]["ssh"] == {"connections": 4, "open": 1, "up": 3500, "down": 3500}
        assert totals["losses"] == 0 and totals["seconds"] > 0 and totals["up_rate"] > 0
        line = plain.wait_for(r"dev-aaaa: 4 connections, .*").group()
        assert re.search(r"4 connections, 3\.5 kB up, 3\.5 kB down in [^(]+ \([0-9.]+ k?B/s up, [0-9.]+ k?B/s down\)", line), line
        plain.wait_for(r"ssh: 4 connections \(1 open\), 3\.5 kB up, 3\.5 kB down")
    assert tunnel.disconnect() == 0 and plain.stop(signal.SIGINT) == 0
    last = [event for event in tunnel.events() if event["event"] == "totals"][-1]
    assert (last["connections"], last["open"], last["up"]) == (4, 0, 3500), last
    assert tunnel.events()[-1]["event"] == "closed"
    plain.wait_for("total of dev-aaaa: 4 connections, 3.5 kB up, 3.5 kB down")


def test_totals_before_the_tunnel_is_up(env):
    """SIGUSR1 never ends the command."""
    assert start(env).stop() == 0
    tunnel = env.connect(DEVICE, options=["--wait"], wait=False)
    tunnel.event("waiting")
    tunnel.send(signal.SIGUSR1)
    assert tunnel.event("totals")["connections"] == 0
    assert tunnel.stop(signal.SIGINT) == 130
