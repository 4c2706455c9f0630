# SPDX-License-Identifier: ISC
"""The network under one side changes: its address, its routes, its cable. Nobody waits for a heartbeat."""

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

    def __init__(self, world, network, name):
        self.world, self.network, self.name = world, network, name
        world.broker()
        self.relay = world.relay()
        network.forward(world.broker_port)
        there = {"GOTTHARD_SERVER_HOST": netns.RELAY}
        with self.at_edge("device"):
            self.load = Steady(world, 4)
            self.agent = world.agent(GOTTHARD_AGENT_DATA_PORT=self.load.target.port, **there)
        with self.at_edge("operator"):
            self.tunnel = world.connect(**there)
            self.load.start(self.tunnel)

    def at_edge(self, name):
        return netns.inside(self.network.edge) if self.name == name else contextlib.nullcontext()

    def n_lost(self):
        """How often this side has lost its link."""
        if self.name == "operator":
            return len([e for e in self.tunnel.events() if e["event"] == "link-lost"])
        return self.agent.log().count("the relay is lost")

    def wait_for_loss(self, n, since, limit=60):
        wait_until(lambda: self.n_lost() >= n, f"the {self.name} has noticed", limit, step=0.005)
        return time.monotonic() - since

    def go_on(self, since, what):
        self.load.wait_for_progress(64 << 10)
        took = time.monotonic() - since
        print(f"{self.name}: bytes flow {took:.2f} s after {what}")
        return took

    def relay_has(self):
        """Members and pairs, as it says at SIGUSR1."""
        count = self.relay.log().count("status sessions=")
        self.relay.send(signal.SIGUSR1)
        self.relay.wait_for("status sessions=", count=count + 1)
        line = re.findall("status (sessions=.*)", self.relay.log())[-1]
        return [int(re.search(rf"{what}=(\d+)", line).group(1)) for what in ("members", "pairs")]

    def finish(self):
        self.load.finish(self.tunnel)
        assert self.tunnel.close_politely() == 0


@pytest.fixture
def network(world):
    network = netns.Network()
    try:
        with netns.inside(network.middle):
            yield network
            world.close()  # before its network goes
    finally:
        network.close()


@pytest.fixture(params=["operator", "device"])
def side(world, network, request):
    return Side(world, network, request.param)


def test_an_address_is_taken_away(side):
    """From Wi-Fi to 4G: the other address is used at once."""
    edge, ip = side.network.edge, side.network.ip
    for n, other in ((0, 1), (1, 0)):
        begun = time.monotonic()
        ip(edge, f"address del 198.18.{n}.2/24 dev up{n}")
        assert side.wait_for_loss(n + 1, begun) < DETECTED
        assert side.go_on(begun, "the address went") < DETECTED + RECOVERED
        ip(edge, f"address add 198.18.{n}.2/24 dev up{n}")
        side.network.route(n, 100 * (n + 1))
    side.finish()


def test_f09_half_open_connections_are_replaced(side):
    """Twenty times the other address: what the old one leaves behind is half-open at the relay, and is closed there."""
    edge, ip = side.network.edge, side.network.ip
    before = side.relay_has()
    for round_ in range(20):
        n = round_ % 2
        begun = time.monotonic()
        ip(edge, f"address del 198.18.{n}.2/24 dev up{n}")
        side.load.wait_for_progress(1 << 10)
        assert time.monotonic() - begun < DETECTED + RECOVERED
        ip(edge, f"address add 198.18.{n}.2/24 dev up{n}")
        side.network.route(n, 100 * (n + 1))
    wait_until(lambda: side.relay_has() <= before, f"{before} members and pairs, and no more", limit=10, step=0.2)
    assert side.n_lost() <= 20
    side.finish()


def test_a_link_goes_down_and_comes_back(side):
    """Not at the back-off's next step, but when the way is back."""
    edge, ip = side.network.edge, side.network.ip
    side.network.unroute(1, 200)
    begun = time.monotonic()
    ip(edge, "link set up0 down")
    assert side.wait_for_loss(1, begun) < DETECTED
    wait_until(lambda: time.monotonic() - begun > 5, "five seconds without a network")
    ip(edge, "link set up0 up")
    side.network.route(0, 100)
    assert side.go_on(time.monotonic(), "the link is up again") < RECOVERED
    side.finish()


def test_routes_are_gone_for_a_while(side):
    side.network.unroute(1, 200)
    for round_ in (1, 2):
        begun = time.monotonic()
        side.network.unroute(0, 100)
        assert side.wait_for_loss(round_, begun) < DETECTED
        wait_until(lambda: time.monotonic() - begun > 5, "five seconds without a route")
        side.network.route(0, 100)
        assert side.go_on(time.monotonic(), "the route is back") < RECOVERED
    side.finish()


def test_a_route_that_moves_leaves_alone_what_works(side):
    side.network.route(1, 50)
    begun = time.monotonic()
    while time.monotonic() - begun < 7:  # longer than a proof may take
        side.load.wait_for_progress(64 << 10, limit=2 if harness.SANITIZER == "none" else 20)
    assert side.n_lost() == 0
    side.finish()


def test_a_route_that_moves_from_one_that_leads_nowhere(side):
    """The old address is still there, and nothing comes back to it: 5 s for a proof, not 45."""
    side.network.ip(side.network.middle, "route add blackhole 198.18.0.2/32")
    begun = time.monotonic()
    side.network.route(1, 50)
    assert 3 < side.wait_for_loss(1, begun) < 5 + DETECTED
    assert side.go_on(begun, "the route has moved") < 5 + DETECTED + RECOVERED
    side.finish()


def test_a_cable_is_pulled_and_put_back(side):
    side.network.unroute(1, 200)
    begun = time.monotonic()
    side.network.ip(side.network.middle, "link set down0 down")
    side.wait_for_loss(1, begun, limit=5 + DETECTED)
    wait_until(lambda: time.monotonic() - begun > 11, "the redial is on its way into the void")
    side.network.ip(side.network.middle, "link set down0 up")
    assert side.go_on(time.monotonic(), "the cable is back") < RECOVERED + 1
    side.finish()


def test_a_network_that_flaps(side):
    """Up and down ten times in a few seconds: not a dial for each, and it ends well."""
    side.network.unroute(1, 200)
    for _ in range(10):
        side.network.unroute(0, 100)
        time.sleep(0.15)  # the fault itself
        side.network.route(0, 100)
        time.sleep(0.15)
    side.load.wait_for_progress(64 << 10)
    assert side.n_lost() <= 10
    side.finish()


@pytest.fixture
def device_with_broker(world, network):
    """An agent at the edge that reaches its broker over the cables."""
    world.broker(tls=False, extra=f"listener {world.broker_port} {netns.RELAY}\nallow_anonymous true\n")
    with netns.inside(network.edge):
        agent = world.agent(GOTTHARD_MQTT_ENDPOINT=f"mqtt://{netns.RELAY}:{world.broker_port}", wait=False,
                            GOTTHARD_AWS_CERT_PATH=None)
    agent.wait_for(harness.AGENT_READY)
    return agent, network


def test_the_broker_is_given_up_and_found_again_at_once(device_with_broker):
    agent, network = device_with_broker
    for round_, n in ((1, 0), (2, 1)):  # there is another way at once
        begun = time.monotonic()
        network.ip(network.edge, f"address del 198.18.{n}.2/24 dev up{n}")
        agent.wait_for("the network has gone", count=round_)
        assert time.monotonic() - begun < DETECTED
        agent.wait_for(harness.AGENT_READY, count=round_ + 1)
        print(f"online again after {time.monotonic() - begun:.1f} s")
        assert time.monotonic() - begun < DETECTED + RECOVERED + 1
        network.ip(network.edge, f"address add 198.18.{n}.2/24 dev up{n}")
        network.route(n, 100 * (n + 1))


def test_a_wait_for_the_broker_is_cut_short(device_with_broker):
    agent, network = device_with_broker
    network.unroute(1, 200)
    network.unroute(0, 100)
    agent.wait_for("broker not reachable", count=5)  # the next attempt is 16 s away
    network.route(0, 100)
    begun = time.monotonic()
    agent.wait_for(harness.AGENT_READY, count=2)
    print(f"online again after {time.monotonic() - begun:.1f} s")
    assert time.monotonic() - begun < RECOVERED + 3
