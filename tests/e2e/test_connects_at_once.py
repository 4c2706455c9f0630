# SPDX-License-Identifier: ISC
"""Many `connect` at once, as a script starts them: each comes up and works, or is refused by the name of a limit."""

import re

import pytest

import harness
from faultproxy import Proxy
from harness import echo, wait_until

N = 24
NAME_OF_LIMIT = re.compile(r": limits\.sessions_per_operator \(16\)")


class Fleet:
    """The broker, the relay and some devices, with the settings of the test."""

    def __init__(self, env, n_devices, relayd="", agentd="", n_ports=None, **more):
        self.env, self.devices = env, [f"device-{n}" for n in range(n_devices)]
        if n_ports:
            env.n_relay_ports, env.relay_ports = n_ports, harness.free_ports(n_ports)
        env.broker()
        self.relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=env.config_folder(relayd=relayd), **more))
        port = env.target(echo).port
        folder = env.config_folder(agentd=agentd)
        self.agents = [env.agent(name, wait=False, GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=port) for name in self.devices]
        for agent in self.agents:
            agent.wait_for(harness.AGENT_READY)

    def connect(self, n, **more):
        """Starts @n commands. Returns the tunnels that came up, and the errors of the others."""
        self.env.certificates("alice")
        tunnels = [self.env.connect(self.devices[i % len(self.devices)], wait=False, **more) for i in range(n)]
        wait_until(lambda: all(self.result_of(tunnel) for tunnel in tunnels), "each command has a result", limit=2 * harness.LIMIT)
        results = [self.result_of(tunnel) for tunnel in tunnels]
        up = [tunnel for tunnel, result in zip(tunnels, results) if result["event"] == "up"]
        return up, [result for result in results if result["event"] == "error"]

    @staticmethod
    def result_of(tunnel):
        return next((event for event in tunnel.events() if event["event"] in ("up", "error")), None)


def works(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        return harness.receive_exactly(sock, 5) == b"hello"


@pytest.mark.parametrize("n_devices", [1, 6])
def test_connects_of_one_operator_at_once(env, n_devices):
    fleet = Fleet(env, n_devices, n_ports=2 * N, agentd="limits = { sessions_per_operator = 24; };")
    up, errors = fleet.connect(N)
    assert errors == [] and len(up) == N
    assert works(up[0]) and works(up[-1])


def test_connects_beyond_the_limit_of_the_device(env):
    """As many as the device permits come up; the others read which setting refused them."""
    up, errors = Fleet(env, 1, n_ports=2 * N).connect(N)
    assert len(up) == 16 and all(map(works, up[:2]))
    assert {error["id"] for error in errors} == {"GTD-E42"}
    assert all(NAME_OF_LIMIT.search(error["message"]) for error in errors), errors


def test_connects_beyond_the_limit_of_the_relay(env):
    fleet = Fleet(env, 4, n_ports=2 * N, relayd="limits = { sessions_per_identity = 5; };")
    up, errors = fleet.connect(12)
    assert len(up) == 5
    what = "the relay allows 5 sessions per identity: limits.sessions_per_identity (this operator has as many)"
    assert all(what in error["message"] for error in errors), errors
    fleet.relay.wait_for('warn .*client=g1:o:alice rejected .*reason="the relay allows 5 sessions per identity: ')


def test_connects_beyond_the_handshakes_of_an_identity(env):
    """Over a slow path, more handshakes at once than the relay keeps of one identity, 8: the evicted commands try again."""
    fleet = Fleet(env, 3, n_ports=2 * N, relayd="limits = { preauth = 64; };")
    proxy = Proxy.before_port(env.relay_port)
    proxy.command("delay 100")
    up, errors = fleet.connect(N, GOTTHARD_SERVER_HOST="127.0.0.1", GOTTHARD_SERVER_PORT=proxy.port)
    assert errors == [] and len(up) == N
    proxy.close()


def test_wrong_key_is_not_retried(env):
    """Unlike an eviction: the relay's alert ends the command at once, also beside many others."""
    up, errors = Fleet(env, 1, GOTTHARD_CRYPT_KEY="1" * 64).connect(8)
    assert up == [] and {error["id"] for error in errors} == {"GTD-E51"}, errors
    assert all("key" in error["message"] for error in errors), errors


@pytest.mark.soak
@pytest.mark.parametrize("n_devices", [1, 64])
def test_64_connects_at_once(env, n_devices):
    fleet = Fleet(env, n_devices, n_ports=128, agentd="limits = { sessions = 64; sessions_per_operator = 64; };")
    up, errors = fleet.connect(64)
    assert errors == [] and len(up) == 64 and all(map(works, up))
