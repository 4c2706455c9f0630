# SPDX-License-Identifier: ISC
"""`doctor [DEVICE]` and `gotthard-agentd --doctor`: each row of the failure table is provoked with the real programs. The row
that fails, its id and its cause are checked, that the command that fails names the same cause, and that the remedy helps."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios

import harness
from doctor import agent_doctor, doctor, faults
from setting_markers import effect


def test_healthy_system(env):
    env.broker()
    env.relay()
    target = env.target(lambda sock: sock.sendall(b"SSH-2.0-example\r\n"))
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    rows = doctor(env, "GatewayOli", expected=0)
    assert not faults(rows)
    assert rows["service ssh"]["text"] == "SSH-2.0-example"
    assert "online since" in rows["device"]["text"]
    assert rows["trust"]["result"] == "warning" and rows["certificate"]["result"] == "ok", "a third of its two days remains"
    assert rows[""]["failures"] == 0 and rows[""]["warnings"] == 1


def test_healthy_device(env):
    """From the device's side, beside the running agent, whose connection to the broker stays."""
    broker = env.broker()
    env.relay()
    target = env.target(lambda sock: sock.sendall(b"SSH-2.0-example\r\n"))
    key = env.cli("keygen", "device", "GatewayOli").stdout.split()[-1].split("=", 1)[-1]
    settings = {"GOTTHARD_CRYPT_KEY": key, "GOTTHARD_CRYPT_IV": None, "GOTTHARD_AGENT_DATA_PORT": target.port}
    agent = env.agent(**settings)
    rows = agent_doctor(env, expected=0, **settings)
    assert not faults(rows)
    assert str(target.port) in rows["service ssh"]["text"] and "GatewayOli" in rows["key"]["text"]
    assert rows["trust"]["result"] == "warning" and "any holder of the key" in rows["trust"]["text"]
    assert "not reachable" not in agent.log() and len(re.findall("online broker", agent.log())) == 1
    assert "already connected" not in broker.log()


@effect("agentd", "--doctor", "--json", "--no-color")
def test_options_of_the_agent(env):
    done = subprocess.run([harness.PROGRAMS["agentd"], "--json"], env=env.agent_environment("GatewayOli"), capture_output=True)
    assert done.returncode == 64 and b"need --doctor" in done.stderr
    lines = subprocess.run([harness.PROGRAMS["agentd"], "--doctor", "--no-color"], capture_output=True, text=True,
                           env=env.agent_environment("GatewayOli", TERM="xterm", LANG="C.UTF-8")).stdout
    assert f"✗ broker TCP: {harness.first_address_of('localhost', env.broker_port)}: Connection refused\n" in lines


def test_lines_for_people(env):
    """Without a terminal: a line for each hop, and the remedy below it. -q prints faults only."""
    env.broker()
    result = env.cli("doctor", LANG="C.UTF-8", TERM="xterm")
    assert result.returncode == 69, result.stdout
    lines = result.stdout.splitlines()
    assert "✓ broker TLS: the certificate of localhost is accepted" in lines
    at = lines.index(f"✗ relay TCP: {harness.first_address_of('localhost', env.relay_port)}: Connection refused")
    assert lines[at + 1].startswith("    start the relay on its machine: systemctl start gotthard-relayd")
    assert lines[at + 1].endswith("[GTD-E50]")
    assert lines[at + 2] == "- relay key: no connection to the relay"
    assert lines[-1] == "1 failure, 1 warning."
    plain = env.cli("doctor", TERM="dumb").stdout
    assert "ok: broker TLS: " in plain and "error: relay TCP: " in plain and "✓" not in plain and plain.isascii()
    quiet = env.cli("doctor", "--quiet", TERM="dumb").stdout
    assert "relay TCP" in quiet and "ok: " not in quiet and "skipped" not in quiet


def test_narrow_terminal(env):
    """No line of a terminal of 40 columns is longer, unless it is one word."""
    output = run_in_terminal(env, 40, "doctor", "--no-color")
    assert "broker" in output
    for line in output.splitlines():
        assert len(line.rstrip()) <= 40 or " " not in line.strip(), output
    assert "\x1b" not in output and "\x1b[32m" in run_in_terminal(env, 80, "doctor")


def run_in_terminal(env, columns, *args):
    """Runs a command with standard output on a terminal of that width. Returns the output."""
    here, there = os.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen([harness.PROGRAMS["cli"], *args], stdin=subprocess.DEVNULL, stdout=there, stderr=subprocess.DEVNULL,
                             env=env.cli_environment(TERM="xterm", LANG="C.UTF-8"))
    os.close(there)
    output = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while data := os.read(here, 4096):
            output += data
    os.close(here)
    child.wait(harness.LIMIT)
    return output.decode()
