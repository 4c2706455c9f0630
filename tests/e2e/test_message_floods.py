# SPDX-License-Identifier: ISC
"""Floods of messages on the device's req topic: an operator connects in the normal time meanwhile, and the device's CPU and
log are bounded. The sender has no key; it may publish, and it has recorded requests."""

import os
import re
import socket
import struct
import threading
import time

import pytest

import harness
from harness import wait_until
from test_hostile_broker import CONNECT, PUBLISH, REQ, SUBSCRIBE, PlayedBroker, packet, publish

N_CONNECTS = 2
RATES = (20, 200, 2000)


def received(body):
    """Returns topic and payload of a received PUBLISH without a packet identifier. Its properties are shorter than 128 bytes."""
    end = 2 + int.from_bytes(body[:2], "big")
    return body[2:end].decode(), body[end + 1 + body[end]:]


class Client:
    """An MQTT client of the real broker, without TLS."""

    def __init__(self, env, name):
        self.sock = socket.create_connection(("127.0.0.1", env.broker_port), timeout=harness.LIMIT)
        self.sock.sendall(packet(CONNECT, b"\0\4MQTT\5\2\0\0\0" + struct.pack(">H", len(name)) + name.encode()))
        assert PlayedBroker._read(self.sock)[0] == 0x20

    def subscribe(self, topic):
        self.sock.sendall(packet(SUBSCRIBE | 2, b"\0\1\0" + struct.pack(">H", len(topic)) + topic.encode() + b"\0"))
        assert PlayedBroker._read(self.sock)[0] == 0x90

    def record(self, topic, n):
        """Returns an event and the list of the next @n payloads, complete when the event is set."""
        self.subscribe(topic)
        found, done = [], threading.Event()

        def read():
            while len(found) < n:
                kind, body = PlayedBroker._read(self.sock)
                if kind & 0xF0 == PUBLISH:
                    found.append(received(body)[1])
            done.set()

        threading.Thread(target=read, daemon=True).start()
        return done, found


class Flood(threading.Thread):
    """Publishes @payloads in turn, @rate a second, until finish()."""

    def __init__(self, env, payloads, rate):
        super().__init__(daemon=True)
        self.client = Client(env, f"flood{rate}")
        self.packets = [publish(REQ, payload) for payload in payloads]
        self.rate, self.n_sent, self.is_over = rate, 0, False
        self.start()

    def run(self):
        began = time.monotonic()
        while not self.is_over:
            due = int((time.monotonic() - began) * self.rate) + 1
            batch = [self.packets[n % len(self.packets)] for n in range(self.n_sent, due)]
            self.client.sock.sendall(b"".join(batch))
            self.n_sent = max(due, self.n_sent)
            time.sleep(0.005)

    def finish(self):
        self.is_over = True
        self.join()
        self.client.sock.close()


def flipped(message):
    """Variants of @message with one bit changed, also in the type and the salt."""
    return [message[:i] + bytes([message[i] ^ 1 << i % 8]) + message[i + 1:] for i in range(4, len(message), 7)]


PAYLOADS = {
    "wrong-key": lambda reqs: [b"GTM1\1" + os.urandom(len(reqs[0]) - 5) for _ in range(50)],
    "large": lambda reqs: [b"GTM1\1" + os.urandom(8187) for _ in range(10)],
    "close": lambda reqs: [b"GTM1\4" + os.urandom(len(reqs[0]) - 5) for _ in range(50)],
    "flipped": lambda reqs: [variant for req in reqs for variant in flipped(req)],
    "replayed": lambda reqs: reqs,
    "replayed-stale": lambda reqs: reqs,
}


def timed_connect(env, broker):
    started = time.monotonic()
    tunnel = env.connect(**broker)
    seconds = time.monotonic() - started
    assert tunnel.disconnect() == 0
    return seconds


@pytest.mark.parametrize("what", PAYLOADS)
def test_operator_connects_during_flood(env, what):
    env.broker(tls=False, extra="max_queued_messages 0\n")
    env.relay()
    broker = dict(GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{env.broker_port}", GOTTHARD_AWS_CERT_PATH=None)
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **broker)
    done, reqs = Client(env, "recorder").record(REQ, N_CONNECTS)
    normal = max(timed_connect(env, broker) for _ in range(N_CONNECTS))
    assert done.wait(harness.LIMIT)
    if what == "replayed-stale":  # another epoch
        assert agent.stop() == 0
        agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **broker)
    for rate in RATES:
        flood = Flood(env, PAYLOADS[what](reqs), rate)
        n_wanted = rate / 4
        wait_until(lambda: flood.n_sent > n_wanted, "the flood has started")
        cpu, started, n_lines = harness.cpu_seconds(agent.pid), time.monotonic(), len(agent.log().splitlines())
        for _ in range(N_CONNECTS):
            seconds = timed_connect(env, broker)
            assert seconds < 2 * normal + 1, (rate, seconds, normal)
        wait_until(lambda: time.monotonic() - started > 1, "a second has passed")
        seconds = time.monotonic() - started
        flood.finish()
        print(f"{what} {rate}/s: CPU {(harness.cpu_seconds(agent.pid) - cpu) / seconds:.2f}, normal {normal:.2f} s")
        if harness.SANITIZER == "none":
            assert harness.cpu_seconds(agent.pid) - cpu < 0.8 * seconds, rate
        n_dropped = len(re.findall("message (dropped|answered)", "\n".join(agent.log().splitlines()[n_lines:])))
        assert n_dropped <= 5 * (seconds + 2), rate
