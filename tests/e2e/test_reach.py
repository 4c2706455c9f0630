# SPDX-License-Identifier: ISC
"""The way of data connections: networks that let only the relay's main port out, and links that drop large packets."""

import contextlib
import re
import subprocess
import time

import pytest

import harness
import netns
import router
from load import Steady

SLOW = 1 if harness.SANITIZER == "none" else 4
HOWS = ["drop", "icmp", "reset", "absorb", "portal"]


class Side:
    """A relay, and a device and an operator of which one or both (@where) are behind a router."""

    def __init__(self, env, network, where):
        self.env, self.network, self.where = env, network, where
        env.broker()
        self.relay = env.relay()
        network.forward(env.broker_port)
        self.there = {"GOTTHARD_SERVER_HOST": netns.RELAY}
        with self.at_edge("device"):
            self.load = Steady(env, 2)
            self.agent = env.agent(GOTTHARD_AGENT_DATA_PORT=self.load.target.port, **self.there)

    def at_edge(self, name):
        return netns.inside(self.network.edge) if self.where in (name, "both") else contextlib.nullcontext()

    def block(self, how):
        self.network.block(self.env.relay_ports, self.env.relay_ports + self.env.n_relay_ports - 1, how)

    def connect(self, **more):
        with self.at_edge("operator"):
            self.tunnel = self.env.connect(**self.there, **more)
        return self.tunnel

    def start_load(self):
        with self.at_edge("operator"):
            self.load.start(self.tunnel)

    def notices(self):
        """What the sides behind the router have reported about their path."""
        operator = [event["what"] for event in self.tunnel.events() if event["event"] == "path"]
        device = re.findall(r"path changed reason=\"(.*)\"", self.agent.log())
        return {"operator": operator, "device": device}

    def finish(self):
        self.load.finish(self.tunnel)
        assert self.tunnel.disconnect() == 0


@pytest.fixture
def network(env):
    network = router.Router()
    try:
        with netns.inside(network.middle):
            yield network
            env.close()  # before its network is removed
    finally:
        network.close()


@pytest.fixture(params=["operator", "device", "both"])
def side(env, network, request):
    return Side(env, network, request.param)


def assert_fell_back(side, n=1):
    """Each side behind the firewall has said so once, and no other side."""
    notices = side.notices()
    for name in ("operator", "device"):
        expected = n if side.where in (name, "both") else 0
        assert len(notices[name]) == expected, notices
    if side.where != "operator":
        assert f"data connections use its main port {side.env.relay_port}" in notices["device"][0]
    if side.where != "device":
        assert notices["operator"] == ["main-port"] * n


@pytest.mark.parametrize("how", HOWS)
def test_blocked_data_ports_are_bypassed(side, how):
    """Each side finds the main port by itself within two seconds, and remembers it for its later streams."""
    side.block(how)
    started = time.monotonic()
    side.connect()
    took = time.monotonic() - started
    side.start_load()
    side.load.wait_for_progress(1 << 20)
    side.finish()
    print(f"{side.where} {how}: up after {took:.2f} s")
    assert took < 2.8 * SLOW  # MQTT and registration included
    assert_fell_back(side)


def test_data_ports_blocked_later(env, network):
    """The firewall changes while the tunnel is in use: bytes that are not acknowledged cost 8 s, not 45. The shared
    connection, to which the streams return, is known to be blocked by then."""
    side = Side(env, network, "both")
    side.connect()
    side.start_load()
    side.load.wait_for_progress(4 << 20)  # each stream has moved to a data connection of its own
    side.block("drop")
    started = time.monotonic()
    side.load.wait_for_progress(64 << 10, limit=20 * SLOW)
    print(f"{side.where}: recovered after {time.monotonic() - started:.1f} s")
    side.finish()
    assert_fell_back(side)


def check_large_packets_are_lost(side, mtu, n_steps):
    side.network.black_hole(mtu)
    side.connect()
    started = time.monotonic()
    side.start_load()
    side.load.wait_for_progress(128 << 10, limit=40 * SLOW)
    print(f"{side.where} {mtu}: large transfers after {time.monotonic() - started:.1f} s")
    side.finish()
    notices = side.notices()
    assert notices["operator"] == ["small-segments"] * n_steps
    assert len(notices["device"]) == n_steps and "large packets are lost" in notices["device"][0]


def test_large_packets_are_lost(side):
    """A link that drops large packets without ICMP: small ones are used after two losses at the same offset. That takes 8 s
    and 4 s, which no setting shortens."""
    check_large_packets_are_lost(side, 1300, 1)


@pytest.mark.soak
def test_larger_packets_than_the_least_are_lost(env, network):
    """A second step, 4 s later."""
    check_large_packets_are_lost(Side(env, network, "both"), 700, 2)


def test_large_packets_of_the_shared_connection_are_lost(env, network):
    """Requests and answers that do not move: small ones pass, and the first larger one waits for a connection with small packets."""
    side = Side(env, network, "both")
    with side.at_edge("device"):
        env.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **side.there)
    network.black_hole(1300)
    with side.at_edge("operator"):
        tunnel = env.connect("GatewayTwo", **side.there)
        with tunnel.dial() as small, tunnel.dial() as large:
            small.sendall(b"small")
            assert harness.receive_exactly(small, 5) == b"small"
            harness.send_pattern(large, "large", 50_000)
            harness.receive_pattern(large, "large", 50_000)
            small.sendall(b"small again")
            assert harness.receive_exactly(small, 11) == b"small again"
    assert [event["what"] for event in tunnel.events() if event["event"] == "path"] == ["small-segments"]


def test_lossless_path_is_left_alone(env, network):
    side = Side(env, network, "both")
    side.connect()
    side.start_load()
    side.load.wait_for_progress(4 << 20)
    side.finish()
    assert side.notices() == {"operator": [], "device": []}


def test_answer_passes_a_link_that_loses_large_packets(env, network):
    """The device's answer has the host keys for which one packet has room; with all four it would be lost."""
    endpoint = {"GOTTHARD_MQTT_ENDPOINT": f"mqtt://{netns.RELAY}:{env.broker_port}", "GOTTHARD_AWS_CERT_PATH": None}
    env.broker(tls=False, extra=f"listener {env.broker_port} {netns.RELAY}\nallow_anonymous true\n")
    env.relay()
    for name, kind in (("a", "ed25519"), ("b", "ecdsa"), ("c", "rsa"), ("d", "rsa")):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", env.folder / f"host_{name}"], check=True)
    network.black_hole(1280)
    with netns.inside(network.edge):
        agent = env.agent(GOTTHARD_AGENT_HOST_KEYS=f"{env.folder}/host_*.pub", GOTTHARD_SERVER_HOST=netns.RELAY,
                          wait=False, **endpoint)
    agent.wait_for(harness.AGENT_READY)
    tunnel = env.connect(GOTTHARD_SERVER_HOST=netns.RELAY, **endpoint)
    kinds = [line.split()[0] for line in tunnel.event("answered")["host_keys"]]
    assert sorted(kinds) == ["ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa"]
