# SPDX-License-Identifier: ISC
"""A broker that has recorded every message of a device's life sends them all again; F-13 of docs/faults.md."""

import contextlib
import itertools
import os
import secrets
import threading
import time

import pytest

import harness
from harness import wait_until
from test_broker import sessions_of
from test_hostile_broker import PUBLISH, PlayedBroker, publish
from test_message_floods import Client, received

STATE, REQ, ACK, NAK, CLOSE, REPORT = range(6)
DEVICE = "GatewayOli"


class Recorder:
    """Records all messages below the prefix: (topic, payload)."""

    def __init__(self, env, name="recorder"):
        self.messages = []
        self.client = Client(env, name)
        self.client.subscribe(f"{env.PREFIX}/#")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError):
            while True:
                kind, body = PlayedBroker._read(self.client.sock)
                if kind & 0xF0 == PUBLISH:
                    self.messages.append(received(body))

    def kinds(self):
        return {payload[4] for _, payload in self.messages if payload}


class Replay(threading.Thread):
    """Publishes every message on every topic, in turn, until finish()."""

    def __init__(self, env, topics, payloads, rate=200, is_retained=False):
        super().__init__(daemon=True)
        self.client, self.rate = Client(env, f"replay-{secrets.token_hex(4)}"), rate
        self.packets = [publish(topic, payload, retain=is_retained)
                        for topic in topics for payload in payloads]
        self.n_sent, self.is_over = 0, threading.Event()
        self.start()

    def run(self):
        for data in itertools.cycle(self.packets):
            if self.is_over.wait(1 / self.rate):
                return
            self.client.sock.sendall(data)
            self.n_sent += 1

    def has_sent_all(self):
        return self.n_sent >= len(self.packets)

    def finish(self):
        self.is_over.set()
        self.join()
        self.client.sock.close()


def life_of_a_device(env, broker):
    """Tunnels that end in each way, with messages of all types. Returns (topic, payload) of each."""
    recorder = Recorder(env)
    relay = env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **broker)
    tunnel = env.connect(**broker)
    assert env.cli("disconnect", DEVICE, **broker).returncode == 0
    tunnel.wait()
    assert relay.stop() == 0
    env.connect(wait=False, GOTTHARD_TIMEOUTS_PEER="1s", **broker).wait()
    wait_until(lambda: recorder.kinds() == {STATE, REQ, ACK, NAK, CLOSE, REPORT}, "a message of each type")
    wait_until(lambda: sessions_of(agent) == 0, "no session")
    return agent, list(recorder.messages)


def check_tunnel(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"x")
        assert harness.receive_exactly(sock, 1) == b"x"


def connect(env, broker):
    tunnel = env.connect(name="bob", **broker)
    check_tunnel(tunnel)
    assert tunnel.disconnect() == 0


@pytest.mark.parametrize("epoch", ["same epoch", "later epoch"])
def test_f13_every_message_replayed(env, epoch):
    """All recorded messages on all topics, also retained. They start no session, end none, and keep no operator out."""
    env.broker(tls=False)
    broker = dict(GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{env.broker_port}", GOTTHARD_AWS_CERT_PATH=None)
    agent, messages = life_of_a_device(env, broker)
    relay = env.relay()
    if epoch == "later epoch":
        assert agent.stop() == 0
        agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **broker)
    live = env.connect(**broker)
    prefix = f"{env.PREFIX}/d/{DEVICE}"
    topics = [f"{prefix}/req", f"{prefix}/rsp/alice", f"{prefix}/rsp/bob", f"{prefix}/state"]
    n_sessions = relay.log().count(" state=waiting")
    replays = [Replay(env, topics, [payload for _, payload in messages]),
               Replay(env, topics, [payload for _, payload in messages], is_retained=True)]
    wait_until(lambda: all(replay.has_sent_all() for replay in replays), "each message on each topic")
    assert sessions_of(agent) == 1 and relay.log().count(" state=waiting") == n_sessions
    for _ in range(3):
        connect(env, broker)
    for replay in replays:
        replay.finish()
    wait_until(lambda: sessions_of(agent) == 1, "bob's sessions ended")
    check_tunnel(live)
    assert live.disconnect() == 0, live.log()
    assert agent.stop() == 0 and relay.stop() == 0


def test_f13_flood_without_an_answer(env):
    """Messages without a valid seal, of each type, get no answer."""
    env.broker(tls=False)
    broker = dict(GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{env.broker_port}", GOTTHARD_AWS_CERT_PATH=None)
    agent, messages = life_of_a_device(env, broker)
    damaged = [payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1:] for _, payload in messages for at in (4, 20, len(payload) - 1)]
    noise = [b"GTM1" + bytes([kind]) + os.urandom(200) for kind in (*range(7), 255)] + [b"", b"G", b"GTM1", b"GTM1\1"]
    answers = Recorder(env, "answers")
    wait_until(lambda: STATE in answers.kinds(), "the retained state is received")
    flood = Replay(env, [f"{env.PREFIX}/d/{DEVICE}/req"], damaged + noise, rate=1000)
    started = time.monotonic()
    wait_until(lambda: flood.has_sent_all() and time.monotonic() - started > 1, "the flood")
    flood.finish()
    # The device may still repeat the last report of its session.
    assert {payload[4] for topic, payload in answers.messages if "/rsp/" in topic} <= {REPORT}
    assert sessions_of(agent) == 0 and agent.stop() == 0
