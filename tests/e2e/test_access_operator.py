# SPDX-License-Identifier: ISC
"""An operator checks devices by the access list: from the broker, and from the copy that commands keep.

The authority is tests/lib/access_list.py.
"""

import json

import pytest

from access_list import Authority, time_text
from harness import echo
from setting_markers import effect, refuses
from test_access_command import MALLORY, fingerprint
from test_broker import publish
from test_cli import error_id
from test_faults import open_stream


class Operator:
    """alice with an authority, one device that accepts the key alone, and lists at the broker."""

    def __init__(self, env):
        self.env = env
        self.authority = Authority()
        self.state = env.folder / "alice-state"
        self.state.mkdir(mode=0o700)
        self.agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
        self.device = f"device GatewayOli {fingerprint(env, 'GatewayOli')}"
        self.variables = {"GOTTHARD_TRUST_AUTHORITY": self.authority.text, "XDG_STATE_HOME": self.state}

    def publish(self, serial, *lines, n=1, **more):
        for i, part in enumerate(self.authority.parts(serial, self.authority.list(serial, *lines, **more), n)):
            publish(self.env, f"{self.env.PREFIX}/fleet/access/{i}", part, retain=True)

    def withhold(self):
        publish(self.env, f"{self.env.PREFIX}/fleet/access/0", b"", retain=True)

    def connect(self, **more):
        return self.env.connect(**self.variables, **more)

    def assert_refused(self, words, **more):
        done = self.env.cli("connect", "GatewayOli", "0:ssh", "--answer-timeout", "3s", **self.variables, **more)
        assert done.returncode == 77 and error_id(done) == "GTD-E33" and words in done.stderr, done.stderr

    def stored(self):
        return next(self.state.glob("gotthard/access-*/access.list")).read_text()


@pytest.fixture
def alice(env):
    env.broker()
    env.relay()
    return Operator(env)


NOT_LISTED = "the access list has no valid entry of GatewayOli with this key"


@effect("cli", "trust.authority")
def test_listed_device_is_accepted(alice):
    alice.publish(1, alice.device)
    tunnel = alice.connect()
    assert tunnel.event("answered")["authenticated_by"] == "list"
    open_stream(tunnel).close()
    tunnel.disconnect()
    assert alice.stored().startswith("serial 1\n")


@refuses("cli", "trust.authority")
@pytest.mark.parametrize("case", ["none", "other key", "revoked", "expired", "operator"])
def test_device_without_a_valid_entry_is_refused(alice, case):
    lines = {"none": [], "other key": [f"device GatewayOli {MALLORY}"], "revoked": [alice.device, "revoked d:GatewayOli"],
             "expired": [f"{alice.device} until=2020-01-01"], "operator": [alice.device.replace("device", "operator", 1)]}
    alice.publish(1, *lines[case])
    alice.assert_refused(NOT_LISTED)


def test_without_a_list_no_device_is_accepted(alice):
    alice.assert_refused("there is no access list of this authority")
    foreign = Authority()
    publish(alice.env, f"{alice.env.PREFIX}/fleet/access/0", foreign.parts(1, foreign.list(1, alice.device))[0], retain=True)
    alice.assert_refused("there is no access list of this authority")


def test_first_list_in_many_parts_comes_before_the_answer(alice):
    others = [f"device device{i} {i:064x}" for i in range(2000)]
    alice.publish(1, *others, alice.device, n=40)
    tunnel = alice.connect()
    open_stream(tunnel).close()
    tunnel.disconnect()


def test_stored_list_counts_where_the_broker_withholds_it_or_repeats_an_older_one(alice):
    alice.publish(1, alice.device)
    alice.connect().disconnect()
    alice.withhold()
    alice.connect().disconnect()
    alice.publish(2, alice.device, "revoked d:GatewayOli")
    alice.assert_refused(NOT_LISTED)
    alice.publish(1, alice.device)
    alice.assert_refused(NOT_LISTED)
    assert alice.stored().startswith("serial 2\n")


def test_damaged_copy_is_not_used(alice):
    alice.publish(1, alice.device)
    alice.connect().disconnect()
    alice.withhold()
    path = next(alice.state.glob("gotthard/access-*/access.list"))
    path.write_text(path.read_text().replace("GatewayOli", "GatewayEli"))
    alice.assert_refused("there is no access list of this authority")
    alice.publish(1, alice.device)
    alice.connect().disconnect()


@effect("cli", "trust.access_max_age")
@refuses("cli", "trust.access_max_age")
def test_list_that_is_too_old_proves_no_device(alice):
    alice.publish(1, alice.device, issued=time_text(3700))
    alice.connect().disconnect()
    alice.assert_refused("is older than trust.access_max_age", GOTTHARD_TRUST_ACCESS_MAX_AGE="1h")
    alice.publish(2, alice.device)
    alice.connect(GOTTHARD_TRUST_ACCESS_MAX_AGE="1h").disconnect()


def test_status_accepts_the_answer_of_a_listed_device_only(alice):
    """Every holder of the keys of devices can invent states and answers."""
    alice.publish(1, alice.device)
    done = alice.env.cli("status", "GatewayOli", **alice.variables)
    assert done.returncode == 0 and "answered" in done.stdout, done.stderr
    alice.publish(2, f"device GatewayOli {MALLORY}")
    done = alice.env.cli("status", "GatewayOli", **alice.variables)
    assert "answered" not in done.stdout and f"no answer to the query: the answer is not from a trusted key: {NOT_LISTED}" in done.stderr


def test_policy_and_authority_must_agree(env):
    done = env.cli("connect", "GatewayOli", GOTTHARD_TRUST_POLICY="list")
    assert done.returncode == 78 and "list needs trust.authority" in done.stderr
    done = env.cli("connect", "GatewayOli", GOTTHARD_TRUST_AUTHORITY="gk1a.short")
    assert done.returncode == 78 and "trust.authority:" in done.stderr


def test_policy_that_is_set_is_kept(alice):
    """psk in words, beside an authority: the list is not used."""
    tunnel = alice.connect(GOTTHARD_TRUST_POLICY="psk")
    assert tunnel.event("answered")["authenticated_by"] == "psk"
    tunnel.disconnect()
    shown = alice.env.cli("config", "show", **alice.variables).stdout
    assert "trust policy list: only devices of the access list" in shown


def test_doctor_names_the_list(alice):
    alice.publish(1, alice.device)
    alice.connect().disconnect()
    rows = alice.env.cli("doctor", "GatewayOli", "--json", **alice.variables)
    found = [json.loads(line) for line in rows.stdout.splitlines()]
    assert any("the access list (1 entries here)" in json.dumps(row) for row in found), rows.stdout
