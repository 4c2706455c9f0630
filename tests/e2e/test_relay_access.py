# SPDX-License-Identifier: ISC
"""The access list at the relay: a revocation ends live connections, sessions and pairs at once, and stays through a restart and a
live upgrade. What any client may send changes nothing unless the authority has signed it.

The authority is tests/lib/access_list.py, which is written from docs/protocol.md, section 7.
"""

import secrets
import subprocess
import time

import pytest

import harness
from access_list import Authority
from harness import LIMIT, receive_exactly, wait_until
from relayclient import Client, assert_closed_without_data, joined, raw, register_pair
from setting_markers import effect, refuses
from test_relay_admission import NO_RID, REFUSED, SLOW, Pair, Relay, assert_rejected
from test_upgrade import installed, upgrade  # noqa: F401 (a fixture)

ACCESS = 0x82
PIECE = 800


class Fleet:
    """A relay with an authority, and clients that carry its lists."""

    def __init__(self, env, relay_of, folder=True):
        self.env, self.authority = env, Authority()
        self.folder = env.folder / "access"
        self.folder.mkdir(mode=0o700)
        self.setting = (f'trust = {{ authority = "{self.authority.text}"; }};' +
                        (f' relay = {{ access_list = "{self.folder}"; }};' if folder else ""))
        self.relay = Relay(relay_of, self.setting)
        self.process = self.relay.process

    def restart(self):
        """Starts it again after process.stop(), with the same configuration."""
        variables = self.env.relay_environment(GOTTHARD_CONFIG_DIR=self.process.folder_of_config)
        self.process = self.env.relay(env=variables)
        return self.process

    def parts(self, serial, *lines, authority=None):
        authority = authority or self.authority
        text = authority.list(serial, *lines)
        return authority.parts(serial, text, -(-len(text) // PIECE))

    def send(self, client, parts):
        for part in parts:
            client.do("raw", raw(ACCESS, len(part).to_bytes(2, "big") + part).hex())

    def publish(self, client, serial, *lines):
        """Returns when the first part was sent. Other clients may receive frames because of it."""
        started = time.monotonic()
        self.send(client, self.parts(serial, *lines))
        self.process.wait_for(f"client={client_name(client)} access list serial={serial} entries=[0-9]+ in force")
        return started


def client_name(client):
    return client.child.args[-1]


@pytest.fixture
def fleet_of(env, relay_of):
    return lambda **more: Fleet(env, relay_of, **more)


@effect("relayd", "trust.authority")
def test_revocation_ends_live_sessions_within_a_second(env, fleet_of):
    """Any client carries the list; the sessions of others stay, also of names that no list has."""
    fleet = fleet_of()
    bob, stolen, honest = Pair(env, ("bob", "oli")), Pair(env, ("alice", "stolen-17")), Pair(env, ("alice", f"enroll-{int(time.time()) + 3600:08x}-627a14c6"))
    idle = Client(env, "g1:o:bob")
    started = fleet.publish(honest.device, 1, "revoked o:bob", "revoked d:stolen-17", *(f"revoked o:x{i}" for i in range(200)))
    bob.assert_ended(REFUSED, [bob.operator])
    stolen.assert_ended(REFUSED, [stolen.device])
    idle.receive("bye", code=REFUSED, rid=NO_RID)
    assert time.monotonic() - started < SLOW
    honest.assert_works()
    for client in (bob.device, stolen.operator):
        assert client.has_no_more_frames()
    assert_rejected(env, "g1:o:bob")
    assert_rejected(env, "g1:d:stolen-17")
    fleet.process.wait_for('client=g1:o:bob refused suppressed=[0-9]+ reason="revoked by the access list"')
    bob.device.do("rendezvous", bob.rid, 7, 0, 0)
    bob.device.receive("bye", code=REFUSED, rid=bob.rid)


def test_all_enrolments_are_revoked_by_one_line(env, fleet_of):
    fleet = fleet_of()
    newcomer, honest = Client(env, f"g1:d:enroll-{int(time.time()) + 3600:08x}-627a14c6"), Pair(env)
    fleet.publish(honest.operator, 1, "revoked d:enroll-*")
    newcomer.receive("bye", code=REFUSED, rid=NO_RID)
    assert_rejected(env, "g1:d:enroll-1")
    honest.assert_works()


def test_revoked_client_may_carry_its_own_revocation(env, fleet_of):
    """It is disconnected by the frame that it sends."""
    fleet = fleet_of()
    pair = Pair(env, ("bob", "oli"))
    fleet.publish(pair.operator, 1, "revoked o:bob")
    pair.assert_ended(REFUSED, [pair.operator])


def test_revocation_of_an_absent_side_ends_its_session(env, fleet_of):
    fleet = fleet_of()
    operator, device, rid, _ = register_pair(env, names=("bob", "oli"))
    operator.kill()
    device.receive("peer", up=0)
    fleet.publish(device, 1, "revoked o:bob")
    device.receive("bye", code=REFUSED, rid=rid)


@effect("relayd", "relay.access_list")
def test_restart_keeps_the_list_and_refuses_an_older_one(env, fleet_of):
    fleet = fleet_of()
    client = Client(env, "g1:o:alice")
    fleet.publish(client, 1, "revoked o:carol")
    fleet.publish(client, 2, "revoked o:bob")
    assert fleet.process.stop() == 0
    relay = fleet.restart()
    relay.wait_for("access list serial=2 entries=1 read from relay.access_list")
    assert_rejected(env, "g1:o:bob")
    client = Client(env, "g1:o:carol")
    fleet.send(client, fleet.parts(1, "revoked o:carol"))
    relay.wait_for("access list rejected, a newer one is known serial=2 received=1")
    assert client.has_no_more_frames()


def test_damaged_file_is_reported_and_lowers_nothing(env, fleet_of):
    fleet = fleet_of()
    fleet.publish(Client(env, "g1:o:alice"), 2, "revoked o:bob")
    assert fleet.process.stop() == 0
    path = fleet.folder / "access.list"
    path.write_bytes(path.read_bytes().replace(b"bob", b"rob"))
    relay = fleet.restart()
    relay.wait_for("the stored access list is not used.*access.list: not signed by the configured authority")
    client = Client(env, "g1:o:alice")
    fleet.send(client, fleet.parts(1, "revoked o:alice"))
    relay.wait_for("a newer one is known serial=2 received=1")
    fleet.send(client, fleet.parts(2, "revoked o:bob"))
    relay.wait_for("access list serial=2 entries=1 in force")
    assert client.has_no_more_frames()
    assert_rejected(env, "g1:o:bob")


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_live_upgrade_keeps_the_list(env, installed, fleet_of, kept):  # noqa: F811
    """Also one that no file has. The pair of others stays."""
    fleet = fleet_of(folder=kept == "file")
    honest = Pair(env)
    fleet.publish(honest.operator, 3, "revoked o:bob")
    upgrade(fleet.process)
    honest.ends[0].sendall(b"ping")
    assert receive_exactly(honest.ends[1], 4) == b"ping"
    assert_rejected(env, "g1:o:bob")
    client = Client(env, "g1:o:carol")
    fleet.send(client, fleet.parts(2, "revoked o:carol"))
    fleet.process.wait_for("a newer one is known serial=3 received=2")
    pair = Pair(env, ("dora", "ida"))
    fleet.publish(client, 4, "revoked o:dora")
    pair.assert_ended(REFUSED, [pair.operator])


def test_authority_is_never_lost_by_a_reload(env, fleet_of):
    fleet = fleet_of()
    fleet.publish(Client(env, "g1:o:alice"), 1, "revoked o:bob")
    fleet.relay.reload_rejected("trust.authority: missing, but was set", "")
    fleet.relay.reload_rejected("trust.authority", 'trust = { authority = "gk1a.short"; };')
    assert_rejected(env, "g1:o:bob")
    fleet.relay.reload(fleet.setting)
    assert_rejected(env, "g1:o:bob")


def test_rejected_lists_change_nothing_and_are_logged(env, fleet_of):
    fleet = fleet_of()
    pair = Pair(env)
    fleet.publish(pair.operator, 5, "revoked o:bob")
    good, foreign = fleet.parts(6, "revoked o:alice"), Authority()
    cases = {
        "foreign": (fleet.parts(6, "revoked o:alice", authority=foreign), "a part is malformed, damaged or of another authority"),
        "damaged": ([part[:80] + bytes([part[80] ^ 1]) + part[81:] for part in good], "a part is malformed, damaged"),
        "no part": ([b"hello"], "a part is malformed, damaged"),
        "older": (fleet.parts(4, "revoked o:alice"), "a newer one is known serial=5 received=4"),
        "list of a foreign authority": (fleet.authority.parts(6, foreign.list(6, "revoked o:alice"), 1), "not signed by the configured"),
    }
    for case, (parts, line) in cases.items():
        wait_until(lambda parts=parts, line=line: fleet.send(pair.device, parts) or line in fleet.process.log(),
                   f"the line about a list: {case}; there is one line a second")
    pair.assert_works()
    fleet.publish(pair.device, 6, "revoked o:carol")
    pair.assert_works()


def test_malformed_frame_ends_only_its_sender(env, fleet_of):
    fleet_of()
    client, other = Client(env, "g1:o:mallory"), Client(env, "g1:o:alice")
    client.do("raw", raw(ACCESS, b"\0\5abc").hex())
    client.receive("error")
    client.receive("closed")
    assert other.has_no_more_frames()


def test_flood_of_bad_parts_costs_nobody_else(env, fleet_of):
    """The sender is slowed down; a stream and a control connection of others are not, and a revocation still arrives at once."""
    fleet = fleet_of()
    honest = Pair(env)
    bad = fleet.parts(9, "revoked o:alice", authority=Authority())[0]
    frame = raw(ACCESS, len(bad).to_bytes(2, "big") + bad).hex()
    flooders = [Client(env, "g1:d:stolen-17") for _ in range(8)]
    for flooder in flooders:
        flooder.do("repeat", 2000, frame)
    fleet.process.wait_for("access list rejected")
    started = time.monotonic()
    for _ in range(20):
        honest.assert_works()
    fleet.publish(honest.operator, 1, "revoked d:stolen-17")
    assert time.monotonic() - started < 3 * SLOW
    honest.assert_works()
    for flooder in flooders:
        flooder.receive("bye", code=REFUSED, rid=NO_RID)


def test_large_list_arrives_in_parts(env, fleet_of):
    """Of 5,000 entries, in about 400 frames."""
    fleet = fleet_of()
    client = Client(env, "g1:o:alice")
    lines = [f"operator operator{i} {secrets.token_hex(32)}" for i in range(3000)] + [f"revoked d:device-{i}" for i in range(2000)]
    fleet.publish(client, 1, *lines, "revoked o:bob")
    assert_rejected(env, "g1:o:bob")
    assert_rejected(env, "g1:d:device-1999")
    assert client.has_no_more_frames()


def test_relay_without_an_authority_ignores_lists(env, relay_of):
    relay_of()
    pair = Pair(env)
    authority = Authority()
    for part in authority.parts(1, authority.list(1, "revoked o:alice"), 1):
        pair.operator.do("raw", raw(ACCESS, len(part).to_bytes(2, "big") + part).hex())
    pair.assert_works()


@refuses("relayd", "trust.authority")
@pytest.mark.parametrize("text", ["gk1a.short", "gk1a-private." + "A" * 43, "f" * 64])
def test_malformed_authority_is_rejected(env, text):
    done = subprocess.run([harness.PROGRAMS["relayd"], "--check-config"], capture_output=True, text=True, timeout=LIMIT,
                          env=env.relay_environment(GOTTHARD_TRUST_AUTHORITY=text))
    assert done.returncode == 78 and "trust.authority" in done.stderr, done.stderr


def test_stream_of_a_revoked_device_closes_without_further_data(env, fleet_of):
    """Of all its pairs, both ends are closed."""
    fleet = fleet_of()
    operator, device, rid, port = register_pair(env, names=("alice", "stolen-17"))
    ends = [*joined(operator, device, rid, port, 1), *joined(operator, device, rid, port, 2)]
    fleet.publish(operator, 1, "revoked d:stolen-17")
    for end in ends:
        assert_closed_without_data(end, SLOW)
