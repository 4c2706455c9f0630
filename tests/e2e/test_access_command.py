# SPDX-License-Identifier: ISC
"""`access` and `revoke`: the authority's commands, with a real broker and real agents.

tests/lib/access_list.py checks the signed lists and parts: it is written from docs/protocol.md, section 7.
"""

import json
import os
import re
import stat

import pytest

from access_list import Authority, open_list, open_part
from harness import echo, wait_until
from setting_markers import effect, refuses
from test_broker import capture, publish
from test_cli import error_id
from test_faults import open_stream
from test_tunnel import assert_broken

MALLORY = "5e" * 32


class Admin:
    """The operator "admin", who has the authority's key, and the fleet around it."""

    def __init__(self, env, init=True, has_relay=False):
        self.env = env
        self.variables = {} if has_relay else {"GOTTHARD_SERVER_HOST": None}
        self.path = env.folder / "authority.key"
        self.list = env.folder / "authority.key.list"
        self.public = self.run("init").stdout.strip() if init else None

    def run(self, *args, command="access", **more):
        more.setdefault("GOTTHARD_TRUST_AUTHORITY_KEY", self.path)
        return self.env.cli(command, *args, name="admin", **{**self.variables, **more})

    def good(self, *args, **more):
        done = self.run(*args, **more)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done

    def add(self, kind, name, *rights):
        return self.good("add", kind, name, fingerprint(self.env, name), *rights)

    def revoke(self, *args, **more):
        return self.run(*args, command="revoke", **more)

    def text(self):
        return open_list(self.public, self.list.read_bytes())

    def agent(self, name="GatewayOli", **more):
        return self.env.agent(name, GOTTHARD_TRUST_AUTHORITY=self.public,
                              GOTTHARD_AGENT_DATA_PORT=self.env.target(echo).port, **more)


def fingerprint(env, name):
    return env.cli("fingerprint", name=name).stdout.split()[1]


@pytest.fixture
def admin(env):
    env.broker()
    return Admin(env)


@pytest.fixture
def fleet(env):
    env.broker()
    env.relay()
    return Admin(env, has_relay=True)


def at_broker(admin, n=1):
    """Returns the parts that the broker keeps, opened with the authority's key."""
    found = capture(admin.env, f"{admin.env.PREFIX}/fleet/access/+")
    wait_until(lambda: len(found.messages()) >= n, "the broker sends the parts")
    parts = {topic: open_part(admin.public, payload) for topic, payload in found.messages()}
    found.stop()
    return [parts[topic] for topic in sorted(parts, key=lambda topic: int(topic.split("/")[-1]))]


# --- init -----------------------------------------------------------------------------------------


def test_init_makes_a_key_that_nobody_else_reads(env):
    admin = Admin(env, init=False)
    done = admin.good("init")
    assert re.fullmatch(r"gk1a\.[\w-]{43}\n", done.stdout)
    assert stat.S_IMODE(os.stat(admin.path).st_mode) == 0o600
    assert admin.path.read_text().startswith("gk1a-private.")
    assert "One authority serves one fleet" in done.stderr and "trust.authority" in done.stderr
    assert admin.path.read_text().split(".")[1].strip() not in done.stdout + done.stderr


def test_init_never_overwrites_a_key(env):
    admin = Admin(env)
    before = admin.path.read_bytes()
    done = admin.run("init")
    assert done.returncode == 78 and error_id(done) == "GTD-E15" and "never overwritten" in done.stderr
    assert admin.path.read_bytes() == before


@effect("cli", "trust.authority_key")
@refuses("cli", "trust.authority_key")
def test_authority_key_is_necessary_and_secret(env):
    admin = Admin(env)
    done = admin.run("show", GOTTHARD_TRUST_AUTHORITY_KEY=None)
    assert done.returncode == 78 and "trust.authority_key is not set" in done.stderr
    admin.good("show")
    admin.path.chmod(0o644)
    done = admin.run("show")
    assert done.returncode == 78 and "must not be accessible by others" in done.stderr
    admin.path.chmod(0o600)
    admin.path.write_text("gk1a-private.AAAA\n")
    assert error_id(admin.run("show")) == "GTD-E15"


# --- add, remove, show ----------------------------------------------------------------------------


def test_each_change_is_signed_stored_and_at_the_broker(admin):
    done = admin.add("operator", "alice", "services=ssh", "devices=Gateway*")
    assert "serial=1 entries=1 parts=1 acknowledged" in done.stderr
    assert admin.text() == (1, [f"operator alice {fingerprint(admin.env, 'alice')} services=ssh devices=Gateway*"])
    admin.add("device", "GatewayOli", "until=2099-12-31")
    admin.good("remove", "operator", "alice")
    serial, lines = admin.text()
    assert (serial, lines) == (3, [f"device GatewayOli {fingerprint(admin.env, 'GatewayOli')} until=2099-12-31", "revoked o:alice"])
    assert admin.good("show").stdout.encode() == admin.list.read_bytes()
    part, = at_broker(admin)
    assert part.serial == 3 and part.piece == admin.list.read_bytes()


@pytest.mark.parametrize("args, status, words", [
    (["add", "operator", "bob"], 64, "missing argument"),
    (["add", "user", "bob", MALLORY], 64, "'user' must be operator or device"),
    (["add", "operator", "b/b", MALLORY], 64, "invalid name of an operator"),
    (["add", "operator", "bob", "1234"], 64, "access add:"),
    (["add", "device", "enroll-1", MALLORY], 64, "no device may have a name that begins with enroll-"),
    (["add", "operator", "bob", MALLORY, "rights=all"], 64, "unknown word after the fingerprint"),
    (["remove", "operator"], 64, "remove needs operator or device, and a name"),
    (["show", "all"], 64, "unexpected argument 'all'"),
    (["sign"], 64, "unknown word 'sign'"),
    (["publish"], 78, "there is no access list yet"),
])
def test_wrong_arguments_change_nothing(env, args, status, words):
    admin = Admin(env)
    done = admin.run(*args)
    assert done.returncode == status and words in done.stderr
    assert not admin.list.exists()


def test_revoked_name_and_foreign_kind_are_refused(admin):
    admin.add("device", "GatewayOli")
    admin.good("remove", "operator", "bob")
    done = admin.run("add", "operator", "bob", MALLORY)
    assert done.returncode == 64 and "bob is revoked" in done.stderr and "fleet key has changed" in done.stderr
    done = admin.run("add", "operator", "eve", fingerprint(admin.env, "GatewayOli"))
    assert done.returncode == 64 and "this is the key of the device GatewayOli" in done.stderr
    assert admin.text()[0] == 2


def test_long_list_is_in_parts_and_shorter_ones_remove_them(admin):
    text = "".join(f"operator operator{i} {i:064x}\n" for i in range(300))
    editor = admin.env.folder / "long"
    editor.write_text(text)
    admin.good("edit", EDITOR=f"cp {editor}")
    parts = at_broker(admin, 4)
    assert len(parts) > 3 and {part.parts for part in parts} == {len(parts)}
    assert b"".join(part.piece for part in parts) == admin.list.read_bytes()
    editor.write_text("")
    done = admin.run("edit", EDITOR=f"cp {editor}")
    assert done.returncode == 78 and "operator operator0 has neither an entry nor a line revoked" in done.stderr
    admin.good("edit", "--yes", EDITOR=f"cp {editor}")
    assert len(at_broker(admin)) == 1


def test_json_has_the_result(admin):
    event = json.loads(admin.good("add", "operator", "alice", fingerprint(admin.env, "alice"), "--json").stdout)
    assert (event["event"], event["serial"], event["entries"], event["parts"]) == ("published", 1, 1, 1)


# --- the broker -----------------------------------------------------------------------------------


def test_broker_that_refuses_is_named_and_publish_repeats(admin):
    admin.add("operator", "alice")
    other = admin.env.certificates("alice")  # alice must not publish lists
    done = admin.run("add", "operator", "bob", MALLORY, GOTTHARD_AWS_CERT_PATH=other)
    assert done.returncode == 77 and error_id(done) == "GTD-E21" and "stored, but not at the broker" in done.stderr
    assert "access publish" in done.stderr
    assert at_broker(admin)[0].serial == 1 and admin.text()[0] == 2
    admin.good("publish")
    assert at_broker(admin)[0].serial == 2


def test_broker_that_drops_silently_is_noticed(admin):
    """MQTT 3.1.1 has no negative acknowledgement."""
    admin.add("operator", "alice")
    done = admin.run("refresh", GOTTHARD_AWS_CERT_PATH=admin.env.certificates("alice"), GOTTHARD_MQTT_VERSION="3.1.1")
    assert done.returncode == 77 and "does not keep them" in done.stderr


def test_newer_list_at_the_broker_is_not_overwritten(admin):
    """A second machine with the key has changed the list; `fetch` takes it."""
    admin.add("operator", "alice")
    second = Admin(admin.env, init=False)
    second.path, second.list, second.public = admin.env.folder / "second.key", admin.env.folder / "second.key.list", admin.public
    second.path.write_bytes(admin.path.read_bytes())
    second.path.chmod(0o600)
    done = second.run("add", "operator", "bob", MALLORY)
    assert done.returncode == 77 and error_id(done) == "GTD-E16" and "access fetch" in done.stderr
    assert not second.list.exists() and at_broker(admin)[0].serial == 1
    second.good("fetch")
    assert second.list.read_bytes() == admin.list.read_bytes()
    second.good("add", "operator", "bob", MALLORY)
    assert error_id(admin.run("publish")) == "GTD-E16"


def test_other_list_with_the_same_serial_is_noticed(admin):
    """Two machines with the key have signed at once."""
    admin.add("operator", "alice")
    other = Authority(admin.path.read_text())
    publish(admin.env, f"{admin.env.PREFIX}/fleet/access/0", other.parts(1, other.list(1, "revoked o:alice"))[0], retain=True)
    done = admin.run("add", "operator", "bob", MALLORY)
    assert error_id(done) == "GTD-E16" and "but is another one" in done.stderr
    admin.good("fetch")
    assert admin.text() == (1, ["revoked o:alice"])


def test_part_of_another_authority_is_replaced(admin):
    foreign = Authority()
    publish(admin.env, f"{admin.env.PREFIX}/fleet/access/0", foreign.parts(9, foreign.list(9))[0], retain=True)
    done = admin.add("operator", "alice")
    assert "damaged or of another authority" in done.stderr
    assert at_broker(admin)[0].serial == 1


def test_two_commands_at_once_do_not_sign_one_serial(admin):
    import fcntl

    with open(admin.path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = admin.run("add", "operator", "bob", MALLORY)
        assert done.returncode == 78 and "another command is changing the access list" in done.stderr


# --- edit and refresh -----------------------------------------------------------------------------


def test_edit_checks_before_it_signs(admin):
    admin.add("operator", "alice")
    env = admin.env
    script = env.folder / "editor"
    script.write_text("#!/bin/sh\nprintf 'operator bob 12\\n' >>\"$1\"\n")
    script.chmod(0o755)
    done = admin.run("edit", EDITOR=script)
    assert done.returncode == 78 and "line 4:" in done.stderr
    copy = re.search(r"/tmp/gotthard-access-\w+", done.stderr)[0]
    assert "operator bob 12" in open(copy).read()
    os.unlink(copy)
    assert admin.text()[0] == 1
    script.write_text(f"#!/bin/sh\nprintf '# the night shift\\noperator bob {MALLORY}\\n' >>\"$1\"\n")
    admin.good("edit", EDITOR=script)
    serial, lines = admin.text()
    assert serial == 2 and lines[1:] == ["# the night shift", f"operator bob {MALLORY}"]
    assert "Nothing was changed" in admin.good("edit", EDITOR="true").stderr
    done = admin.run("edit", EDITOR="false")
    assert done.returncode == 78 and "editor ended with status 1" in done.stderr
    assert admin.text()[0] == 2


def test_refresh_signs_the_same_entries_again(admin):
    admin.add("operator", "alice")
    before = admin.text()
    admin.good("refresh")
    assert admin.text() == (2, before[1])
    assert at_broker(admin)[0].serial == 2


# --- revoke ---------------------------------------------------------------------------------------


def test_revoke_ends_sessions_and_counts_devices(fleet):
    env = fleet.env
    agent, pump = fleet.agent(), fleet.agent("Pump7")
    for name in ("GatewayOli", "Pump7"):
        fleet.add("device", name)
    for name in ("admin", "bob"):
        fleet.add("operator", name)
    agent.wait_for("access list serial=4 .*in force")
    tunnel = env.connect(name="bob")
    sock = open_stream(tunnel)
    done = fleet.revoke("bob")
    assert done.returncode == 0 and "All devices have the access list (2)." in done.stderr, done.stderr
    assert_broken(sock)
    assert tunnel.wait() == 77
    pump.wait_for("access list serial=5 .*in force")
    assert env.cli("connect", "GatewayOli", "0:ssh", name="bob").returncode == 77
    assert "revoked o:bob" in fleet.text()[1]


def test_revoke_names_devices_without_the_list(fleet):
    """One is offline, one has never been there, and one uses no list. A repetition counts again."""
    fleet.add("operator", "bob")
    fleet.add("operator", "admin")
    fleet.agent()
    pump = fleet.agent("Pump7")
    fleet.env.agent("other")  # without an authority
    for name in ("GatewayOli", "Pump7", "other", "spare"):
        fleet.add("device", name)
    pump.wait_for("access list serial=6 .*in force")
    assert pump.stop() == 0
    done = fleet.revoke("bob", "--json")
    assert done.returncode == 75, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    result = next(event for event in events if event["event"] == "confirmed")
    assert (result["serial"], result["devices"], result["confirmed"]) == (7, 4, 1)
    missing = {row["device"]: row["reason"] for row in result["missing"]}
    assert missing["Pump7"].startswith("offline since") and missing["other"] == "uses no access list"
    assert missing["spare"] == "the broker has no state of it"
    error = next(event for event in events if event["event"] == "error")
    assert error["id"] == "GTD-E35" and "1 of 4 devices have the access list; not yet: " in error["message"]
    done = fleet.revoke("bob")
    assert done.returncode == 75 and "was revoked before" in done.stderr and fleet.text()[0] == 7


def test_revoke_accepts_no_answer_without_a_listed_key(fleet):
    """A holder of the fleet key can invent states and answers; the device's own key signs nothing for it."""
    fleet.add("operator", "admin")
    agent = fleet.agent()
    fleet.good("add", "device", "GatewayOli", MALLORY)  # the list has another key for it
    agent.wait_for("access list serial=2 .*in force")
    done = fleet.revoke("bob")
    assert done.returncode == 75 and "not signed by a key that the list has for it" in done.stderr, done.stderr


def test_revoke_of_all_enrolments(fleet):
    """The only pattern; no operator and no device has such a name."""
    fleet.agent()
    fleet.add("operator", "admin")
    assert fleet.revoke("--device", "enroll-*").returncode == 0
    assert fleet.text()[1][1:] == ["revoked d:enroll-*"]
    for args in (["enroll-*"], ["--device", "plant-*"]):
        assert fleet.revoke(*args).returncode == 64


@effect("cli", "--device")
def test_revoke_of_a_device(fleet):
    fleet.agent()
    for name in ("GatewayOli", "Pump7"):
        fleet.add("device", name)
    done = fleet.revoke("--device", "Pump7")
    assert done.returncode == 75 and "GatewayOli (the list does not let this operator ask it)" in done.stderr, done.stderr
    fleet.add("operator", "admin")
    done = fleet.revoke("--device", "Pump7")
    assert done.returncode == 0 and "All devices have the access list (1)." in done.stderr, done.stderr
    assert "revoked d:Pump7" in fleet.text()[1]


def test_revoke_of_an_unknown_name_is_a_warning(fleet):
    fleet.agent()
    fleet.add("operator", "admin")
    done = fleet.revoke("mallory")
    assert done.returncode == 0 and "the list had no entry of the operator mallory" in done.stderr, done.stderr
    assert "the access list names no devices" in done.stderr and "All devices have the access list (1)" in done.stderr
    assert fleet.text()[1][1:] == ["revoked o:mallory"]


def test_revoke_does_not_count_what_the_broker_hides(env):
    """A broker without retained messages names no device."""
    env.broker(extra="retain_available false\n")
    done = Admin(env).revoke("mallory")
    assert done.returncode == 69 and error_id(done) == "GTD-E34" and "there may be more" in done.stderr, done.stderr
    assert "keeps no retained messages" in done.stderr


# --- devices --------------------------------------------------------------------------------------


def test_devices_shows_who_has_an_older_list(admin):
    """The column is there if a device has a list."""
    plain = admin.env.agent("other")
    assert "LIST" not in admin.env.cli("devices").stdout
    pump = admin.agent("Pump7")
    admin.add("operator", "alice")
    pump.wait_for("access list serial=1 .*in force")
    assert pump.stop() == 0
    agent = admin.agent()
    admin.good("refresh")
    agent.wait_for("access list serial=2 .*in force")
    wait_until(lambda: re.search(r"^GatewayOli .* 2 ", admin.env.cli("devices").stdout, re.M), "its state has the serial")
    shown = admin.env.cli("devices").stdout
    assert re.search(r"^DEVICE .* LIST +SERVICES$", shown, re.M) and re.search(r"^Pump7 .* 1 old ", shown, re.M), shown
    assert re.search(r"^other .* - ", shown, re.M), shown
    rows = {row["device"]: row.get("access_serial") for row in map(json.loads, admin.env.cli("devices", "--json").stdout.splitlines())}
    assert rows == {"GatewayOli": 2, "Pump7": 1, "other": None}
    assert "access list 1\n" in admin.env.cli("status", "Pump7").stdout
    assert plain.stop() == 0
