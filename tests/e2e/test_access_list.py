# SPDX-License-Identifier: ISC
"""The signed access list at a device: what it grants, how a new one ends live sessions, and what cannot change it.

The authority is tests/lib/access_list.py, which is written from docs/protocol.md, section 7.
"""

import time

import pytest

import harness
from access_list import Authority, time_text
from harness import echo, wait_until
from setting_markers import effect, refuses
from test_broker import publish
from test_faults import open_stream
from test_tunnel import assert_broken

LIMIT_S = 1 if harness.SANITIZER == "none" else harness.LIMIT


class Fleet:
    """An agent with an authority, and what the authority has published."""

    def __init__(self, env, **more):
        self.env = env
        self.authority = Authority()
        self.keys = {name: env.cli("fingerprint", name=name).stdout.split()[1] for name in ("alice", "bob")}
        self.target = env.target(echo)
        self.more = more
        self.agent = self.start()

    def start(self, wait=True):
        return self.env.agent(wait=wait, GOTTHARD_AGENT_DATA_PORT=self.target.port, GOTTHARD_TRUST_AUTHORITY=self.authority.text,
                              **self.more)

    def operator(self, name, rights=""):
        return f"operator {name} {self.keys[name]} {rights}"

    def send(self, parts, only=None):
        for i, part in enumerate(parts):
            if only is None or i in only:
                publish(self.env, f"{self.env.PREFIX}/fleet/access/{i}", part, retain=True)

    def publish(self, serial, *lines, n=1, **more):
        """Publishes a list and waits until the agent has it. Returns when it was sent."""
        text = self.authority.list(serial, *lines, **more)
        parts = self.authority.parts(serial, text, n)
        self.send(parts[:-1])
        started = time.monotonic()
        self.send(parts, only=[n - 1])
        self.agent.wait_for(f"access list serial={serial} .*in force")
        return started


@pytest.fixture
def system(env):
    env.broker()
    env.relay()
    return env


def assert_refused(fleet, name):
    result = fleet.env.cli("connect", "GatewayOli", "0:ssh", name=name)
    assert result.returncode == 77, result.stderr


def assert_granted(fleet, name="alice"):
    tunnel = fleet.env.connect(name=name)
    open_stream(tunnel).close()
    tunnel.disconnect()


@effect("agentd", "trust.authority")
@refuses("agentd", "trust.authority")
def test_without_a_list_no_operator_is_granted_anything(system):
    """The authority alone decides the policy: the fleet key is not enough."""
    fleet = Fleet(system)
    fleet.agent.wait_for("policy=list pins=0")
    assert_refused(fleet, "alice")


def test_list_grants_by_name_key_service_and_device(system):
    fleet = Fleet(system)
    fleet.publish(1, fleet.operator("alice", "services=ssh devices=Gateway*"), fleet.operator("bob", "devices=other-*"), n=3)
    assert_granted(fleet)
    assert_refused(fleet, "bob")
    fleet.publish(2, fleet.operator("alice", "services=web"), fleet.operator("bob"))
    assert_granted(fleet, "bob")
    assert_refused(fleet, "alice")


def test_list_of_thousands_of_entries_arrives_in_parts(system):
    """And is read again at a restart."""
    fleet = Fleet(system)
    others = [f"operator operator{i} {i:064x} services=ssh,web" for i in range(5000)]
    fleet.publish(1, *others, fleet.operator("alice"), n=80)
    assert_granted(fleet)
    assert fleet.agent.stop() == 0
    fleet.agent = fleet.start()
    fleet.agent.wait_for("access list serial=1 entries=5001 read from the state directory")
    assert_granted(fleet)


LOST = {  # the next list, and the reason in the log
    "revoked": (["alice", "revoked o:alice"], "revokes the operator"),
    "removed": ([], "does not grant it"),
    "other device": (["alice devices=other"], "does not grant it"),
    "expired": (["alice until=2020-01-01"], "does not grant it"),
    "other service": (["alice services=web"], "no service or target is granted"),
}


@pytest.mark.parametrize("case", LOST, ids=lambda case: case.replace(" ", "-"))
def test_new_list_ends_a_live_session_at_once(system, case):
    fleet = Fleet(system)
    fleet.publish(1, fleet.operator("alice"), fleet.operator("bob"))
    tunnel, other = system.connect(), system.connect(name="bob")
    sock, kept = open_stream(tunnel), open_stream(other)
    lines, reason = LOST[case]
    lines = [fleet.operator(*line.split(maxsplit=1)) if not line.startswith("revoked") else line for line in lines]
    started = fleet.publish(2, fleet.operator("bob"), *lines)
    assert_broken(sock)
    assert time.monotonic() - started < LIMIT_S
    assert tunnel.wait(5) == 77, tunnel.log()
    fleet.agent.wait_for(f"withdrawing reason=.*{reason}")
    kept.sendall(b"still")
    assert harness.receive_exactly(kept, 5) == b"still"
    assert_refused(fleet, "alice")


def corrupted(part):
    return part[:100] + bytes([part[100] ^ 1]) + part[101:]


def rejected_lists(fleet):
    """Messages that must change nothing, each with its line in the log. The list in force has the serial 5."""
    foreign, authority = Authority(), fleet.authority
    revoking = authority.list(6, "revoked o:alice")
    damaged = bytearray(revoking)
    damaged[-20] ^= 1
    return {
        "older": (authority.parts(4, authority.list(4, "revoked o:alice")), "a newer one is known serial=5 received=4"),
        "foreign": (foreign.parts(6, foreign.list(6, "revoked o:alice")), "a part is malformed, damaged or of another authority"),
        "foreign list in parts of the authority": (authority.parts(6, foreign.list(6, "revoked o:alice")),
                                                   "not signed by the configured authority"),
        "damaged part": ([corrupted(part) for part in authority.parts(6, revoking)], "a part is malformed, damaged"),
        "damaged list": (authority.parts(6, bytes(damaged)), "not signed by the configured authority"),
        "other serial in the text": (authority.parts(6, authority.list(5, "revoked o:alice")), "the serial in its text is old"),
        "unknown line": (authority.parts(6, authority.list(6, "revoked o:alice", "limit 5")),
                         "line 4: a line must begin with operator, device or revoked"),
        "cut": ([authority.parts(6, revoking)[0][:-1]], "a part is malformed, damaged"),
        "not a part": ([b"hello"], "a part is malformed, damaged"),
    }


def test_rejected_lists_change_nothing_and_are_logged(system):
    fleet = Fleet(system)
    fleet.publish(5, fleet.operator("alice"))
    tunnel = system.connect()
    sock = open_stream(tunnel)
    for case, (messages, line) in rejected_lists(fleet).items():
        wait_until(lambda messages=messages, line=line: fleet.send(messages) or line in fleet.agent.log(),
                   f"the line about a list: {case}; there is one line a second")
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"
    assert "withdrawing" not in fleet.agent.log()
    fleet.publish(7, fleet.operator("alice"))


def test_incomplete_list_waits_for_its_last_part(system):
    fleet = Fleet(system)
    fleet.publish(1, fleet.operator("alice"))
    tunnel = system.connect()
    sock = open_stream(tunnel)
    parts = fleet.authority.parts(2, fleet.authority.list(2, "revoked o:alice"), 4)
    fleet.send(parts, only=[3, 1, 0])
    fleet.send(Authority().parts(3, b"text"))  # is handled after them
    fleet.agent.wait_for("access list rejected.*serial=1")
    sock.sendall(b"still")
    assert harness.receive_exactly(sock, 5) == b"still"
    fleet.send(parts, only=[0, 2])
    fleet.agent.wait_for("access list serial=2 .*in force")
    assert_broken(sock)
    assert tunnel.wait(5) == 77, tunnel.log()


def test_restart_keeps_the_list_and_refuses_an_older_one(system):
    """The broker, which may be hostile, presents the older list after the restart."""
    fleet = Fleet(system)
    granting = fleet.authority.list(1, fleet.operator("alice"))
    fleet.send(fleet.authority.parts(1, granting))
    fleet.agent.wait_for("access list serial=1 .*in force")
    fleet.publish(2, fleet.operator("alice"), "revoked o:alice")
    assert fleet.agent.stop() == 0
    fleet.send(fleet.authority.parts(1, granting))
    fleet.agent = fleet.start()
    fleet.agent.wait_for("access list serial=2 entries=2 read from the state directory")
    fleet.agent.wait_for("a newer one is known serial=2 received=1")
    assert_refused(fleet, "alice")


def test_damaged_file_grants_nothing_until_the_list_returns(system):
    fleet = Fleet(system)
    fleet.publish(1, fleet.operator("alice"))
    assert fleet.agent.stop() == 0
    publish(system, f"{system.PREFIX}/fleet/access/0", b"", retain=True)
    path = system.folder / "state-GatewayOli" / "access.list"
    path.write_bytes(path.read_bytes().replace(b"alice", b"mlice"))
    fleet.agent = fleet.start()
    fleet.agent.wait_for("the stored access list is not used.*access.list: not signed by the configured authority")
    assert_refused(fleet, "alice")
    fleet.publish(1, fleet.operator("alice"))
    assert_granted(fleet)


def test_absent_authority_never_lowers_the_policy(system):
    fleet = Fleet(system)
    fleet.publish(1, fleet.operator("alice"))
    assert fleet.agent.stop() == 0
    folder = system.config_folder(agentd=f'services = {{ ssh = "127.0.0.1:{fleet.target.port}"; }};')
    agent = system.agent(wait=False, GOTTHARD_CONFIG_DIR=folder)
    agent.wait_for("trust.authority: absent, and an access list was required")
    wait_until(lambda: not agent.is_running() or "policy=list" in agent.log(), "it ends, or uses the last good configuration")
    assert "policy=psk" not in agent.log() and "policy=pin" not in agent.log()


@effect("agentd", "trust.access_max_age")
@refuses("agentd", "trust.access_max_age")
def test_list_that_is_too_old_grants_nothing(system):
    fleet = Fleet(system, GOTTHARD_TRUST_ACCESS_MAX_AGE="1h")
    fleet.publish(1, fleet.operator("alice"), issued=time_text(3700))
    assert_refused(fleet, "alice")
    fleet.publish(2, fleet.operator("alice"))
    assert_granted(fleet)
