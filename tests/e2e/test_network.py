# SPDX-License-Identifier: ISC
"""The network of one side changes: its address, its routes, its cable. Recovery does not wait for a heartbeat."""

import contextlib
import re
import signal
import time

import pytest

import harness
import netns
from harness import wait_until
from load import Steady

DETECTED = 2 if harness.SANITIZER == "none" else 6
RECOVERED = 2 if harness.SANITIZER == "none" else 10


class Side:
    """A tunnel under load whose one side is at the edge of a network."""

    def __init__(self, env, network, name):
        self.env, self.network, self.name = env, network, name
        env.broker()
        self.relay = env.relay()
        network.forward(env.broker_port)
        there = {"GOTTHARD_SERVER_HOST": netns.RELAY}
        with self.at_edge("device"):
            self.load = Steady(env, 4)
            self.agent = env.agent(GOTTHARD_AGENT_DATA_PORT=self.load.target.port, **there)
        with self.at_edge("operator"):
            self.tunnel = env.connect(**there)
            self.load.start(self.tunnel)

    def at_edge(self, name):
        return netns.inside(self.network.edge) if self.name == name else contextlib.nullcontext()

    def count_losses(self):
        """The number of times that this side has lost its control connection."""
        if self.name == "operator":
            return len([e for e in self.tunnel.events() if e["event"] == "relay-lost"])
        return self.agent.log().count("relay connection lost")

    def wait_for_loss(self, n, since, limit=60):
        wait_until(lambda: self.count_losses() >= n, f"the {self.name} has noticed", limit, step=0.005)
        return time.monotonic() - since

    def check_progress(self, since, what):
        self.load.wait_for_progress(64 << 10)
        took = time.monotonic() - since
        print(f"{self.name}: bytes flow {took:.2f} s after {what}")
        return took

    def relay_has(self):
        """The numbers of clients and pairs in the status at SIGUSR1."""
        count = self.relay.log().count("status sessions=")
        self.relay.send(signal.SIGUSR1)
        self.relay.wait_for("status sessions=", count=count + 1)
        line = re.findall("status (sessions=.*)", self.relay.log())[-1]
        return [int(re.search(rf"{what}=(\d+)", line).group(1)) for what in ("clients", "pairs")]

    def finish(self):
        self.load.finish(self.tunnel)
        assert self.tunnel.disconnect() == 0


@pytest.fixture
def network(env):
    network = netns.Network()
    try:
        with netns.inside(network.middle):
            yield network
            env.close()  # before its network is removed
    finally:
        network.close()


@pytest.fixture(params=["operator", "device"])
def side(env, network, request):
    return Side(env, network, request.param)


def test_tunnel_survives_address_removal(side):
    """From Wi-Fi to 4G: the other address is used at once."""
    edge, ip = side.network.edge, side.network.ip
    for n, other in ((0, 1), (1, 0)):
        started = time.monotonic()
        ip(edge, f"address del 198.18.{n}.2/24 dev up{n}")
        assert side.wait_for_loss(n + 1, started) < DETECTED
        assert side.check_progress(started, "the address went") < DETECTED + RECOVERED
        ip(edge, f"address add 198.18.{n}.2/24 dev up{n}")
        side.network.route(n, 100 * (n + 1))
    side.finish()


def test_f09_half_open_connections_are_replaced(side):
    """Twenty changes of address: connections of the old one are half-open at the relay, which closes them."""
    edge, ip = side.network.edge, side.network.ip
    wait_until(lambda: side.relay_has()[1] == 5, "each stream has moved to its own connection", step=0.1)
    before = side.relay_has()
    for round_ in range(20):
        n = round_ % 2
        started = time.monotonic()
        ip(edge, f"address del 198.18.{n}.2/24 dev up{n}")
        side.load.wait_for_progress(1 << 10)
        assert time.monotonic() - started < DETECTED + RECOVERED
        ip(edge, f"address add 198.18.{n}.2/24 dev up{n}")
        side.network.route(n, 100 * (n + 1))
    wait_until(lambda: side.relay_has() <= before, f"{before} members and pairs, and no more", limit=10, step=0.2)
    assert side.count_losses() <= 20
    side.finish()


def test_tunnel_survives_interface_down_and_up(side):
    """The reconnect follows the return of the route, not the next step of the back-off."""
    edge, ip = side.network.edge, side.network.ip
    side.network.unroute(1, 200)
    started = time.monotonic()
    ip(edge, "link set up0 down")
    assert side.wait_for_loss(1, started) < DETECTED
    wait_until(lambda: time.monotonic() - started > 5, "five seconds without a network")
    ip(edge, "link set up0 up")
    side.network.route(0, 100)
    assert side.check_progress(time.monotonic(), "the link is up again") < RECOVERED
    side.finish()


def test_tunnel_survives_missing_routes(side):
    side.network.unroute(1, 200)
    for round_ in (1, 2):
        started = time.monotonic()
        side.network.unroute(0, 100)
        assert side.wait_for_loss(round_, started) < DETECTED
        wait_until(lambda: time.monotonic() - started > 5, "five seconds without a route")
        side.network.route(0, 100)
        assert side.check_progress(time.monotonic(), "the route is back") < RECOVERED
    side.finish()


def test_changed_route_keeps_working_connection(side):
    side.network.route(1, 50)
    started = time.monotonic()
    while time.monotonic() - started < 7:  # longer than a probe may take
        side.load.wait_for_progress(64 << 10, limit=2 if harness.SANITIZER == "none" else 20)
    assert side.count_losses() == 0
    side.finish()


def test_tunnel_moves_from_unreachable_route(side):
    """The old address still exists, and receives nothing: a probe of 5 s, not 45."""
    side.network.ip(side.network.middle, "route add blackhole 198.18.0.2/32")
    started = time.monotonic()
    side.network.route(1, 50)
    assert 3 < side.wait_for_loss(1, started) < 5 + DETECTED
    assert side.check_progress(started, "the route has moved") < 5 + DETECTED + RECOVERED
    side.finish()


def test_tunnel_survives_pulled_cable(side):
    side.network.unroute(1, 200)
    started = time.monotonic()
    side.network.ip(side.network.middle, "link set down0 down")
    side.wait_for_loss(1, started, limit=5 + DETECTED)
    wait_until(lambda: time.monotonic() - started > 11, "the reconnect attempt is in progress")
    side.network.ip(side.network.middle, "link set down0 up")
    assert side.check_progress(time.monotonic(), "the cable is back") < RECOVERED + 1
    side.finish()


def test_tunnel_survives_flapping_network(side):
    """Up and down ten times in a few seconds: fewer dials than changes, and the tunnel survives."""
    side.network.unroute(1, 200)
    for _ in range(10):
        side.network.unroute(0, 100)
        time.sleep(0.15)  # the fault itself
        side.network.route(0, 100)
        time.sleep(0.15)
    side.load.wait_for_progress(64 << 10)
    assert side.count_losses() <= 10
    side.finish()


@pytest.fixture
def device_with_broker(env, network):
    """An agent at the edge whose broker is behind the cables."""
    env.broker(tls=False, extra=f"listener {env.broker_port} {netns.RELAY}\nallow_anonymous true\n")
    with netns.inside(network.edge):
        agent = env.agent(GOTTHARD_MQTT_ENDPOINT=f"mqtt://{netns.RELAY}:{env.broker_port}", wait=False,
                          GOTTHARD_AWS_CERT_PATH=None)
    agent.wait_for(harness.AGENT_READY)
    return agent, network


def test_broker_loss_and_recovery_are_detected_at_once(device_with_broker):
    agent, network = device_with_broker
    for round_, n in ((1, 0), (2, 1)):  # the other route works at once
        started = time.monotonic()
        network.ip(network.edge, f"address del 198.18.{n}.2/24 dev up{n}")
        agent.wait_for("the route to the broker is gone", count=round_)
        assert time.monotonic() - started < DETECTED
        agent.wait_for(harness.AGENT_READY, count=round_ + 1)
        print(f"online again after {time.monotonic() - started:.1f} s")
        assert time.monotonic() - started < DETECTED + RECOVERED + 1
        network.ip(network.edge, f"address add 198.18.{n}.2/24 dev up{n}")
        network.route(n, 100 * (n + 1))


def test_network_change_shortens_broker_backoff(device_with_broker):
    agent, network = device_with_broker
    network.unroute(1, 200)
    network.unroute(0, 100)
    agent.wait_for("broker not reachable", count=5)  # the next attempt is 16 s away
    network.route(0, 100)
    started = time.monotonic()
    agent.wait_for(harness.AGENT_READY, count=2)
    print(f"online again after {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started < RECOVERED + 3
