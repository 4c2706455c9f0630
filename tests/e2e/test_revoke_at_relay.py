# SPDX-License-Identifier: ISC
"""`revoke` and `access` send the access list to the relays: a session of a revoked operator or device ends there at once, also where
the device is cut off from the broker.
"""

import json
import time

import pytest

import harness
from access_list import Authority
from faultproxy import Proxy
from harness import wait_until
from test_access_command import Admin
from test_broker import publish
from test_cli import error_id
from test_faults import open_stream
from test_relay_admission import SLOW
from test_tunnel import assert_broken
from test_upgrade import installed, upgrade  # noqa: F401 (a fixture)


class Fleet(Admin):
    """A relay and a device with the authority; the device's way to the broker can be cut."""

    def __init__(self, env):
        env.broker()
        super().__init__(env, has_relay=True)
        self.stored = env.folder / "relay-access"
        self.stored.mkdir(mode=0o700)
        self.relay = self.start_relay()
        self.way = Proxy.before_port(env.broker_port)
        self.device = self.agent(GOTTHARD_MQTT_ENDPOINT=f"localhost:{self.way.port}")

    def start_relay(self, authority=True):
        more = {"GOTTHARD_TRUST_AUTHORITY": self.public, "GOTTHARD_RELAY_ACCESS_LIST": self.stored} if authority else {}
        return self.env.relay(env=self.env.relay_environment(GOTTHARD_CRYPT_KEY=self.env.cli("keygen", "relay").stdout.strip(),
                                                             GOTTHARD_CRYPT_IV=None, **more))

    def enroll(self):
        self.add("device", "GatewayOli")
        for name in ("admin", "bob"):
            self.add("operator", name)
        self.device.wait_for("access list serial=3 .*in force")

    def session(self, name="bob"):
        tunnel = self.env.connect(name=name)
        return tunnel, open_stream(tunnel)

    def assert_shut_out(self, name="bob"):
        """The relay refuses the handshake."""
        done = self.env.cli("doctor", name=name)
        assert done.returncode != 0 and "GTD-E51" in done.stdout + done.stderr, (done.stdout, done.stderr)

    def say(self, *args, **more):
        """Returns what a command says about the relay."""
        done = self.run(*args, **more)
        return next(line for line in done.stderr.splitlines() if "relay main: " in line).split("relay main: ")[1].rstrip('"')


@pytest.fixture
def fleet(env):
    fleet = Fleet(env)
    yield fleet
    fleet.way.close()


def assert_ended_by_relay(fleet, tunnel, sock, started):
    assert_broken(sock, SLOW)
    assert tunnel.wait(SLOW) == 77, tunnel.log()
    assert time.monotonic() - started < SLOW
    assert "it refuses the operator or the device" in tunnel.log()


def revoke(fleet, *args):
    """Revokes in the background. Returns the process, and when the relay had the list."""
    process = harness.Process(fleet.env, fleet.env.unique("revoke"), [harness.PROGRAMS["cli"], "revoke", *args],
                              env=fleet.env.cli_environment("admin", GOTTHARD_TRUST_AUTHORITY_KEY=fleet.path))
    fleet.relay.wait_for("access list serial=4 .*in force")
    return process, time.monotonic()


def test_revoke_ends_a_session_of_a_device_without_its_broker(fleet, installed):  # noqa: F811
    """Through the relay alone, within a second. It stays so over a live upgrade and a restart of the relay."""
    fleet.enroll()
    tunnel, sock = fleet.session()
    fleet.way.is_black = True
    process, started = revoke(fleet, "bob")
    assert_ended_by_relay(fleet, tunnel, sock, started)
    assert "serial=4" not in fleet.device.log()
    fleet.assert_shut_out()
    process.wait_for("relay main: list 4 in force, 1 session closed")
    assert fleet.relay.stop() == 0
    fleet.relay = fleet.start_relay()
    fleet.relay.wait_for("access list serial=4 entries=3 read from relay.access_list")
    fleet.assert_shut_out()


def test_revoke_of_a_stolen_device_ends_its_sessions_at_the_relay(fleet):
    """The thief keeps it away from the broker, and its certificate from the device's list."""
    fleet.enroll()
    tunnel, sock = fleet.session()
    other, kept = fleet.session("admin")
    fleet.way.is_black = True
    process, started = revoke(fleet, "--device", "GatewayOli")
    assert_ended_by_relay(fleet, tunnel, sock, started)
    assert_broken(kept)
    assert other.wait() == 77
    process.wait_for("relay main: list 4 in force, 2 sessions closed")


def test_live_upgraded_relay_takes_and_keeps_lists(env, installed):  # noqa: F811
    fleet = Fleet(env)
    fleet.enroll()
    tunnel, sock = fleet.session()
    upgrade(fleet.relay)
    for client in ("g1:o:bob", "g1:d:GatewayOli"):
        fleet.relay.wait_for(f"client={client} up", count=2)
    assert fleet.say("publish") == "list 3 was in force"
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"
    fleet.way.is_black = True
    process, started = revoke(fleet, "bob")
    assert_ended_by_relay(fleet, tunnel, sock, started)
    upgrade(fleet.relay)
    fleet.assert_shut_out()
    process.wait_for("relay main: list 4 in force, 1 session closed")
    fleet.way.close()


def test_each_change_reaches_the_relay(fleet):
    """Also a large list. A list that is sent again has no effect, and is no error."""
    assert fleet.say("add", "operator", "alice", "5e" * 32) == "list 1 in force, 0 sessions closed"
    assert fleet.say("publish") == "list 1 was in force"
    assert fleet.say("refresh") == "list 2 in force, 0 sessions closed"
    editor = fleet.env.folder / "long"
    editor.write_text("".join(f"operator operator{i} {i:064x}\n" for i in range(1000)) + f"operator alice {'5e' * 32}\n")
    assert fleet.say("edit", EDITOR=f"cp {editor}") == "list 3 in force, 0 sessions closed"
    assert fleet.say("remove", "operator", "alice") == "list 4 in force, 0 sessions closed"
    done = fleet.good("publish", "--json")
    event = next(e for e in map(json.loads, done.stdout.splitlines()) if e["event"] == "relay")
    assert (event["relay"], event["list"], event["serial"], event["sessions_closed"]) == ("main", "in force", 4, 0)


def test_relay_with_a_newer_or_another_list_is_reported(fleet):
    """The broker has lost the newer one."""
    fleet.good("add", "operator", "alice", "5e" * 32)
    before = fleet.list.read_bytes()
    fleet.good("refresh")
    newer = fleet.list.read_bytes()
    fleet.list.write_bytes(before)
    publish(fleet.env, f"{fleet.env.PREFIX}/fleet/access/0", b"", retain=True)
    done = fleet.run("publish")
    assert done.returncode == 75 and "relay main: it has a newer list, 2" in done.stderr, done.stderr
    done = fleet.run("add", "operator", "carol", "6e" * 32, "--json")
    assert done.returncode == 75 and error_id(done) == "GTD-E35", (done.stdout, done.stderr)
    assert "relay main: it has another list with the serial 2" in done.stderr, done.stderr
    assert newer != fleet.list.read_bytes()


def test_relay_of_another_authority_rejects_the_list(fleet):
    assert fleet.relay.stop() == 0
    own, fleet.public = fleet.public, Authority().text
    fleet.relay = fleet.start_relay()
    fleet.public = own
    done = fleet.run("add", "operator", "alice", "5e" * 32)
    assert done.returncode == 75 and "relay main: it rejects the list: its trust.authority is another key" in done.stderr, done.stderr


def test_relay_without_an_authority_is_a_note(fleet):
    assert fleet.relay.stop() == 0
    fleet.relay = fleet.start_relay(authority=False)
    done = fleet.run("add", "operator", "alice", "5e" * 32)
    assert done.returncode == 0 and "relay main: it uses no access list: set trust.authority there" in done.stderr, done.stderr


def test_all_relays_get_the_list_and_an_absent_one_is_a_warning(fleet):
    """Those of the group relays as well; the broker has the list nevertheless."""
    absent = harness.free_ports(1)
    folder = fleet.env.config_folder(cli=f'relays = {{ backup = "localhost:{absent}"; third = "localhost:{fleet.env.relay_port}"; }};')
    done = fleet.run("add", "operator", "alice", "5e" * 32, GOTTHARD_CONFIG_DIR=folder)
    assert done.returncode == 75, done.stderr
    assert "relay main: list 1 in force" in done.stderr or "relay third: list 1 in force" in done.stderr, done.stderr
    assert "relay main: list 1 " in done.stderr and "relay third: list 1 " in done.stderr, done.stderr
    assert f"relay backup: not reached at localhost:{absent}: Connection refused" in done.stderr, done.stderr
    assert "serial=1 entries=1 parts=1 acknowledged" in done.stderr


def test_relay_that_refuses_this_operator_is_a_warning(fleet):
    """An operator whom the list revokes learns the effect once, and is refused then."""
    fleet.good("add", "operator", "alice", "5e" * 32)
    assert fleet.say("remove", "operator", "admin") == "list 2 in force, 0 sessions closed"
    done = fleet.run("publish")
    assert done.returncode == 75 and "relay main: " in done.stderr and "rejected" in done.stderr, done.stderr


def test_key_is_needed_for_relays_only(fleet):
    done = fleet.run("add", "operator", "alice", "5e" * 32, GOTTHARD_CRYPT_KEY=None)
    assert done.returncode == 75 and "the list was not sent to the relays: " in done.stderr, done.stderr
    fleet.good("refresh", GOTTHARD_CRYPT_KEY=None, GOTTHARD_SERVER_HOST=None)
    wait_until(lambda: "serial=2" in fleet.device.log(), "the device has the list")
