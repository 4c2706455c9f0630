# SPDX-License-Identifier: ISC
"""A broker that is the enemy: it can stop tunnels from being opened, and harm nothing else: no crash, no memory, no
device that is busy with it, no operator who waits for ever."""

import contextlib
import random
import re
import signal
import socket
import struct
import threading
import time

import pytest

import harness
from harness import wait_until

DEVICE = "GatewayOli"
STATE = f"{harness.World.PREFIX}/d/{DEVICE}/state"
REQ = f"{harness.World.PREFIX}/d/{DEVICE}/req"
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90
PINGREQ, PINGRESP = 0xC0, 0xD0


def length(n):
    out = b""
    while True:
        out += bytes([n % 128 | (128 if n > 127 else 0)])
        n //= 128
        if not n:
            return out


def packet(kind, body):
    return bytes([kind]) + length(len(body)) + body


def publish(topic, payload, qos=0, identifier=1, retain=False, properties=b""):
    return packet(PUBLISH | qos << 1 | retain, struct.pack(">H", len(topic)) + topic.encode() +
                  (struct.pack(">H", identifier) if qos else b"") + length(len(properties)) + properties + payload)


class PlayedBroker:
    """Speaks just enough MQTT 5 without TLS: what it does once a client has subscribed is @play(broker, sock)."""

    def __init__(self, play, connack=packet(CONNACK, b"\0\0\0")):
        self.play, self.connack = play, connack
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"mqtt://127.0.0.1:{self.listener.getsockname()[1]}"
        self.n_connections = self.n_subscriptions = self.n_pings = 0
        self.published = []  # (topic, payload) of the clients
        self.puback = b"\0"
        self.socks = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.n_connections += 1
                self.socks.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _read(sock):
        kind, n, shift = harness.receive_exactly(sock, 1), 0, 0
        while True:
            byte = harness.receive_exactly(sock, 1)
            if not kind or not byte:
                raise OSError("closed")
            n |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                return kind[0], harness.receive_exactly(sock, n)

    def _serve(self, sock):
        with contextlib.suppress(OSError):
            self._read(sock)
            sock.sendall(self.connack)
            while True:
                kind, body = self._read(sock)
                if kind & 0xF0 == SUBSCRIBE & 0xF0:
                    sock.sendall(packet(SUBACK, body[:2] + b"\0\1"))
                    self.n_subscriptions += 1
                    threading.Thread(target=self._play, args=(sock,), daemon=True).start()
                elif kind == PINGREQ:
                    self.n_pings += 1
                    sock.sendall(packet(PINGRESP, b""))
                elif kind & 0xF0 == PUBLISH:
                    n = struct.unpack(">H", body[:2])[0]
                    self.published.append((body[2:2 + n].decode(), body))
                    sock.sendall(packet(PUBACK, body[2 + n:4 + n] + self.puback + b"\0"))

    def _play(self, sock):
        with contextlib.suppress(OSError):
            self.play(self, sock)

    def close(self):
        for sock in [self.listener, *self.socks]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def played():
    brokers = []

    def begin(*args, **more):
        brokers.append(PlayedBroker(*args, **more))
        return brokers[-1]

    yield begin
    for broker in brokers:
        broker.close()


# What libmosquitto had in its hands when an assertion of its own ended its work is lost: a few bytes.
LOSES = {"ASAN_OPTIONS": "detect_leaks=0"}


def agent_of(world, broker):
    return world.agent(DEVICE, wait=False, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None, **LOSES)


def cli_of(world, broker, *args, **more):
    return world.cli(*args, **more, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None, **LOSES)


def is_answering(agent):
    """It lives, its loop turns, and it obeys."""
    agent.send(signal.SIGUSR1)
    agent.wait_for("status: device", limit=30)
    assert agent.stop(limit=30) == 0


UNKNOWN_PROPERTY = b"\x78\0\0\0"


@pytest.mark.parametrize("connack", [packet(CONNACK, b"\0\0" + length(4) + UNKNOWN_PROPERTY), None],
                         ids=["connack", "publish"])
def test_property_that_the_library_cannot_bear(world, played, connack):
    """libmosquitto 2.0.11 fails an assertion, which is no reason for a program to end."""
    broker = played(lambda b, sock: sock.sendall(publish(REQ, b"x", properties=UNKNOWN_PROPERTY)),
                    **({"connack": connack} if connack else {}))
    agent = agent_of(world, broker)
    agent.wait_for("broker not reachable")
    is_answering(agent)
    done = cli_of(world, broker, "status", DEVICE)
    # libmosquitto 2.0.21 bears it long enough to hear that nothing is retained.
    assert done.returncode == 69 and ("GTD-E20" in done.stderr or "GTD-E30" in done.stderr), (done.returncode, done.stderr)


def test_keepalive_of_the_broker(world, played):
    """It may want to hear of us more often than we would say anything, and is obeyed."""
    broker = played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(3) + b"\x13\0\1"))
    agent = world.agent(DEVICE, wait=False, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None,
                        GOTTHARD_MQTT_KEEPALIVE="900s", **LOSES)
    wait_until(lambda: broker.n_pings > 1, "it says that it lives")
    assert broker.n_connections == 1
    is_answering(agent)


def test_packet_of_256_mebibytes(world, played):
    """A device has other things to do with its memory."""
    if harness.SANITIZER != "none":
        pytest.skip("sanitizers need the address space that the limit takes away")

    def play(broker, sock):
        sock.sendall(bytes([PUBLISH]) + b"\xff\xff\xff\x7f")
        for _ in range(4096):
            sock.sendall(bytes(65536))

    broker = played(play)
    agent = agent_of(world, broker)
    most = 0

    def is_over():
        nonlocal most
        most = max(most, harness.rss_kib(agent.pid))
        return "broker not reachable" in agent.log()

    wait_until(is_over, "the connection is given up")
    assert most < 160 * 1024
    is_answering(agent)


def flood_of(*packets):
    def play(broker, sock):
        data = b"".join(packets) * (1 + 60000 // sum(map(len, packets)))
        while True:
            sock.sendall(data)

    return play


@pytest.mark.parametrize("play", [
    flood_of(publish(REQ, b"GTM1\1" + bytes(100))), flood_of(publish(REQ, b"")), flood_of(packet(SUBACK, b"\0\7\0\1")),
    flood_of(packet(CONNACK, b"\0\0\0")), flood_of(publish(REQ, bytes(1 << 20))),
    flood_of(publish("some/other/topic", b"x" * 100), packet(PUBACK, b"\0\7")),
], ids=["req", "empty", "suback", "connack", "large", "mixed"])
def test_flood(world, played, play):
    broker = played(play)
    agent = agent_of(world, broker)
    wait_until(lambda: broker.n_subscriptions, "it begins")
    rss, begun = harness.rss_kib(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 1, "a second of it")
    assert harness.rss_kib(agent.pid) - rss < 16 * 1024 or harness.SANITIZER != "none"
    assert len(re.findall("online", agent.log())) <= 1
    assert len(agent.log().splitlines()) < 60
    is_answering(agent)


def test_flapping(world, played):
    """Closed again and again as soon as it is up: the pauses grow."""
    broker = played(lambda b, sock: sock.close())
    agent = agent_of(world, broker)
    agent.wait_for(r"broker not reachable.* retry=\d\d\d\d+ms", count=3)
    waits = [int(w) for w in re.findall(r"retry=(\d+)ms", agent.log())]
    assert waits[1] >= 5000 and waits[2] >= 5000, waits
    is_answering(agent)


def test_operator_is_not_kept_asking(world, played):
    """Presence that comes again and again, and each time "nobody heard you": once more is asked, not for ever."""
    state = retained_state(world)

    def play(broker, sock):
        while True:
            sock.sendall(publish(STATE, state, retain=True))
            time.sleep(0.02)

    broker = played(play)
    broker.puback = b"\x10"  # no matching subscribers
    done = cli_of(world, broker, "connect", DEVICE, "0:ssh", GOTTHARD_CLIENT_ANSWER_TIMEOUT="4s")
    assert done.returncode == 69, done.stderr
    assert len([topic for topic, _ in broker.published if topic == REQ]) <= 2


def retained_state(world):
    """What a device publishes, as a real broker gives it to anybody who may read it."""
    world.broker(tls=False)
    agent = world.agent(DEVICE, GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{world.broker_port}",
                        GOTTHARD_AWS_CERT_PATH=None)
    with socket.create_connection(("127.0.0.1", world.broker_port), timeout=harness.LIMIT) as sock:
        sock.sendall(packet(CONNECT, b"\0\4MQTT\5\2\0\x3c\0" + b"\0\4peek"))
        sock.sendall(packet(SUBSCRIBE | 2, b"\0\1\0" + struct.pack(">H", len(STATE)) + STATE.encode() + b"\0"))
        while True:
            kind, body = PlayedBroker._read(sock)
            if kind & 0xF0 == PUBLISH:
                agent.stop()
                return body[2 + len(STATE) + 1:]


@pytest.mark.parametrize("names", [["dev-aaaa"], ["dev-aaaa", "dev-bbbb"]], ids=["one", "two"])
def test_devices_that_never_fall_silent(world, played, names):
    """A fleet that says something all the time is listed all the same."""
    def play(broker, sock):
        while True:
            for name in names:
                sock.sendall(publish(f"{harness.World.PREFIX}/d/{name}/state", bytes(60)))
                time.sleep(0.05)

    done = cli_of(world, played(play), "devices")
    assert done.returncode == 0 and all(name in done.stdout for name in names), (done.returncode, done.stderr)


def test_presence_of_another_device(world, played):
    """It was not asked for, and says nothing of the one that was."""
    state = retained_state(world)
    broker = played(lambda b, sock: sock.sendall(publish(STATE, state, retain=True)))
    assert cli_of(world, broker, "status", DEVICE).returncode == 0
    done = cli_of(world, broker, "status", "dev-gone")
    assert done.returncode == 69 and "GTD-E30" in done.stderr, (done.returncode, done.stdout)


@pytest.mark.parametrize("command", ["status", "disconnect"])
def test_broker_that_is_gone_at_once(world, played, command):
    """What is said to a connection that has just ended is no internal error."""
    broker = played(None, connack=packet(CONNACK, b"\0\0\0") + b"\0\0")
    for _ in range(25):
        done = cli_of(world, broker, command, DEVICE)
        assert done.returncode == 69 and "GTD-E20" in done.stderr, (done.returncode, done.stderr)


@pytest.mark.parametrize("limit", [b"\x27\0\0\0\x80", b"\x24\0"], ids=["size", "qos"])
def test_broker_that_takes_too_little(world, played, limit):
    broker = played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(len(limit)) + limit))
    done = cli_of(world, broker, "connect", DEVICE, "0:ssh")
    assert done.returncode == 77 and "GTD-E21" in done.stderr, (done.returncode, done.stderr)


def test_broker_that_takes_no_subscription(world, played):
    """A device that hears nothing does not stay so."""
    limit = b"\x27\0\0\0\x20"
    agent = agent_of(world, played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(len(limit)) + limit)))
    agent.wait_for("the broker takes no subscription")
    agent.wait_for("broker not reachable", limit=30)
    is_answering(agent)


def test_noise(world, played):
    """Packets of every kind with any bytes inside, cut and lengthened; the seed is printed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def noise():
        body = chance.choice([
            lambda: publish(REQ, chance.randbytes(60), qos=chance.randrange(4), properties=chance.randbytes(chance.randrange(8))),
            lambda: packet(chance.randrange(256), chance.randbytes(chance.randrange(40))),
            lambda: packet(chance.randrange(2, 16) << 4 | chance.choice([0, 2]), b"\0\1" + chance.randbytes(chance.randrange(12))),
        ])()
        return body[:chance.randrange(len(body))] if chance.random() < 0.1 else body

    broker = played(lambda b, sock: sock.sendall(b"".join(noise() for _ in range(3))))
    for _ in range(25):
        broker.connack = packet(CONNACK, b"\0\0\0") if chance.random() < 0.7 else noise()
        done = cli_of(world, broker, "status", DEVICE)
        assert done.returncode in (69, 76, 77), (done.returncode, done.stderr)
