# SPDX-License-Identifier: ISC
"""The access list at a broker with the manners of AWS IoT Core, by the literal policies of etc/: retained messages come for exact
topics only, and a subscription works 100 ms after it was granted."""

import pytest

from harness import wait_until
from test_access_command import Admin
from test_aws_broker import VERSIONS, manners_of
from test_faults import open_stream


@pytest.fixture
def fleet_of(env):
    def make(version, *manners):
        env.aws_broker(*manners_of(version, *manners))
        env.relay()
        fleet = Admin(env, has_relay=True)
        editor = env.folder / "entries"
        editor.write_text("".join(f"operator operator{i} {i:064x}\n" for i in range(900)))
        fleet.good("edit", EDITOR=f"cp {editor}")
        for kind, name in (("device", "GatewayOli"), ("operator", "admin"), ("operator", "alice"), ("operator", "bob")):
            fleet.add(kind, name)
        return fleet

    return make


@VERSIONS
def test_list_in_parts_reaches_devices_and_operators(env, fleet_of, version):
    """The device and the operator come after the list was published."""
    fleet = fleet_of(version)
    agent = fleet.agent()
    agent.wait_for("access list serial=5 entries=904 in force")
    state = env.folder / "alice-state"
    state.mkdir(mode=0o700)
    tunnel = env.connect(GOTTHARD_TRUST_AUTHORITY=fleet.public, XDG_STATE_HOME=state)
    assert tunnel.event("answered")["authenticated_by"] == "list"
    open_stream(tunnel).close()
    assert tunnel.disconnect() == 0


def test_change_reaches_a_device_that_has_a_list(fleet_of):
    """It is subscribed to part 0, and to parts of the list before."""
    fleet = fleet_of(5)
    agent = fleet.agent()
    agent.wait_for("access list serial=5 entries=904 in force")
    done = fleet.revoke("bob")
    assert done.returncode == 0 and "All devices have the access list (1)." in done.stderr, done.stderr
    fleet.good("refresh")
    agent.wait_for("access list serial=7 entries=904 in force", limit=20)


def test_list_that_was_published_before_the_subscription_worked_arrives(fleet_of):
    """Part 0 comes as a retained message, and the others exist already then."""
    fleet = fleet_of(5, "subscribe_delay_ms=1500")
    agent = fleet.agent()
    agent.wait_for("access list serial=5 entries=904 in force", limit=20)
    wait_until(lambda: "rejected" not in agent.log(), "no part is rejected")
