# SPDX-License-Identifier: ISC
"""The README's set-up from nothing to the first prompt, on loopback: new-fleet-example, the broker's folder, the relay's bundle, tokens.

The programs, the broker's settings and the certificates are those of the README. Ports, and the folders of /etc, are the test's.
"""

import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
from enroller import Newcomer
from harness import LIMIT, PROGRAMS, ROOT, Process, clean_environment, echo, is_listening, receive_exactly, wait_until
from setting_markers import private_file

SCRIPT = ROOT / "etc" / "new-fleet-example"


class NewFleet:
    def __init__(self, env):
        self.env = env
        self.home = env.folder / "home"
        self.folder = self.home / ".config/gotthard"
        (self.home / "bin").mkdir(parents=True, mode=0o700)
        (self.home / "bin/gotthard-cli").symlink_to(PROGRAMS["cli"])
        self.variables = clean_environment(HOME=self.home, XDG_STATE_HOME=self.home / "state", PATH=f"{self.home}/bin:{os.environ['PATH']}")

    def script(self, *args):
        return subprocess.run([SCRIPT, *args], env=self.variables, capture_output=True, text=True, timeout=LIMIT)

    def set_ports(self):
        """The script writes the usual ports."""
        for name in ("cli.conf", "fleet.conf"):
            text = (self.folder / name).read_text()
            text = text.replace("port = 7000", f"port = {self.env.relay_port}").replace(":8883", f":{self.env.broker_port}")
            (self.folder / name).write_text(text)

    def start_broker(self):
        """What broker/install does, with another folder, port and user."""
        folder = self.env.folder / "mosquitto"
        shutil.copytree(self.folder / "broker", folder)
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        text = (folder / "gotthard.conf").read_text().replace("/etc/mosquitto/gotthard", str(folder))
        listener = "\n".join(line for line in text.splitlines() if line).replace("listener 8883", f"listener {self.env.broker_port} localhost")
        (folder / "gotthard.conf").write_text(f"user {user}\nlog_dest stderr\n{listener}\n")
        broker = Process(self.env, self.env.unique("broker"), ["mosquitto", "-c", folder / "gotthard.conf"])
        wait_until(lambda: is_listening(self.env.broker_port) or not broker.is_running(), "the broker listens")
        assert broker.is_running(), broker.log()
        return broker

    def start_relay(self):
        config = self.env.folder / "relay-config"
        config.mkdir()
        subprocess.run([PROGRAMS["relayd"], "--install", self.folder / "relay.bundle"], env=clean_environment(GOTTHARD_CONFIG_DIR=config),
                       check=True, capture_output=True)
        return self.env.relay(env=clean_environment(
            GOTTHARD_CONFIG_DIR=config, GOTTHARD_SERVER_PORT=self.env.relay_port, GOTTHARD_SERVER_PORTS_FROM=self.env.relay_ports,
            GOTTHARD_SERVER_PORTS_TO=self.env.relay_ports + self.env.n_relay_ports - 1))

    def enroll(self, *args):
        command = Process(self.env, self.env.unique("enroll"),
                          [PROGRAMS["cli"], "enroll", "--config", self.folder / "fleet.conf", *args, "--yes"], env=self.variables)
        return command, command.wait_for(r"^(gk1t\.\S+)$", where=command.out)[1]

    def enrol(self, name):
        """Returns the agent of an enrolled device, with an echo in place of sshd."""
        command, token = self.enroll(name)
        device = Newcomer(self.env, token)
        assert device.wait() == 0 and command.wait() == 0, (device.log(), command.log())
        return self.env.agent(name, env=clean_environment(GOTTHARD_CONFIG_DIR=device.config, STATE_DIRECTORY=device.state,
                                                          GOTTHARD_AGENT_DATA_PORT=self.env.target(echo).port))

    def connect(self, device, **more):
        return self.env.connect(device, env={**self.variables, "GOTTHARD_CLIENT_PORT": "0", **more})


@pytest.fixture
def fleet(env):
    return NewFleet(env)


def assert_echo(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert receive_exactly(sock, 5) == b"hello"


def test_from_nothing_to_the_first_prompt(fleet):
    assert fleet.script("alice", "localhost", "localhost").returncode == 0
    fleet.set_ports()
    broker = fleet.start_broker()
    fleet.start_relay()
    agent = fleet.enrol("GatewayOli")
    assert_echo(fleet.connect("GatewayOli"))
    assert "operator=alice" in agent.log()
    fleet.enrol("Pump7")
    listed = subprocess.run([PROGRAMS["cli"], "devices"], env=fleet.variables, capture_output=True, text=True, timeout=LIMIT)
    assert re.search(r"^GatewayOli +online", listed.stdout, re.M) and re.search(r"^Pump7 +online", listed.stdout, re.M), listed

    command, token = fleet.enroll("--operator", "bob")
    acl = fleet.env.folder / "mosquitto/acl"
    acl.write_text(acl.read_text() + (ROOT / "etc/mosquitto-example.acl").read_text().partition("name.\n")[2].replace("alice", "bob"))
    broker.send(signal.SIGHUP)
    bob = {**fleet.variables, "HOME": str(fleet.env.folder / "bob"), "XDG_STATE_HOME": str(fleet.env.folder / "bob/state")}
    (fleet.env.folder / "bob").mkdir(mode=0o700)
    path = private_file(fleet.env.folder / "bob.token", token)
    joined = subprocess.run([PROGRAMS["cli"], "join", path], env=bob, capture_output=True, text=True, timeout=LIMIT)
    assert joined.returncode == 0 and command.wait() == 0, (joined.stderr, command.log())
    assert_echo(fleet.connect("Pump7", **{name: bob[name] for name in ("HOME", "XDG_STATE_HOME")}))


def test_daily_commands_have_no_fleet_key(fleet):
    assert fleet.script("alice", "broker.example.org", "relay.example.org").returncode == 0
    for path in fleet.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert "fleet.key" not in (fleet.folder / "cli.conf").read_text()
    assert (fleet.folder / "alice.key").read_text().startswith("gk1o.alice.")
    assert "user operator alice" in (fleet.folder / "broker/acl").read_text()
    done = subprocess.run([PROGRAMS["cli"], "enroll", "GatewayOli", "--yes"], env=fleet.variables, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 78 and "only the fleet key" in done.stderr


def test_script_never_overwrites(fleet):
    private_file(fleet.folder / "cli.conf", "")
    done = fleet.script("alice", "broker.example.org", "relay.example.org")
    assert done.returncode == 1 and "cli.conf exists" in done.stderr
    assert [path.name for path in fleet.folder.iterdir()] == ["cli.conf"]


@pytest.mark.parametrize("args", [[], ["alice", "broker"], ["a/b", "broker", "relay"], ["broker", "b", "r"], ["alice", "a b", "relay"],
                                  ["alice", 'x"; };', "relay"], ["alice", "broker", "-x"]])
def test_script_checks_its_arguments(fleet, args):
    assert fleet.script(*args).returncode in (1, 64)
    assert not fleet.folder.exists()
