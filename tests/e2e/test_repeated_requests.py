# SPDX-License-Identifier: ISC
"""A request without an answer is published again: a broker may deliver to a subscription only some time after its SUBACK."""

import re
import signal
import time

import pytest

import harness
from harness import echo, wait_until

DEVICE = "GatewayOli"


def agreed(agent):
    return re.findall(r" agreed service=ssh ", agent.log())


@pytest.mark.parametrize("version", ["v5=True", "v5=False"])
@pytest.mark.parametrize("delay_ms", [100, 1000])
def test_subscriptions_that_take_effect_late(env, version, delay_ms):
    """The answer of the device is lost at first. One session is opened, and `disconnect` reads how many it has closed."""
    env.aws_broker(version, f"subscribe_delay_ms={delay_ms}")
    env.relay()
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect(DEVICE)
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
    done = env.cli("disconnect", DEVICE)
    assert done.returncode == 0 and "closed 1 session." in done.stdout + done.stderr, (done.stdout, done.stderr)
    assert tunnel.wait() == 69
    assert len(agreed(agent)) == 1


def test_repetitions_open_one_session_each(env):
    env.aws_broker("subscribe_delay_ms=500")
    env.relay()
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnels = [env.connect(DEVICE, wait=False) for _ in range(6)]
    for tunnel in tunnels:
        tunnel.wait_up()
    assert len(agreed(agent)) == 6


def test_device_that_never_answers(env):
    """The stopped process of a device: the command gives up at its time-out, and its repetitions open no session later."""
    env.broker()
    env.relay()
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    agent.send(signal.SIGSTOP)
    began = time.monotonic()
    done = env.cli("connect", DEVICE, "0:ssh", GOTTHARD_TIMEOUTS_ANSWER="3s")
    assert done.returncode == 69 and "GTD-E32" in done.stderr and "did not answer within 3 s" in done.stderr, done.stderr
    assert time.monotonic() - began >= 3
    agent.send(signal.SIGCONT)
    wait_until(lambda: "duplicate" in agent.log(), "the repetitions arrive")
    assert len(agreed(agent)) <= 1
