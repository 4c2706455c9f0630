# SPDX-License-Identifier: ISC
"""A hostile broker can prevent tunnels from being opened, and nothing else. It causes no crash, no use of memory, no busy
device, and no operator's command that waits indefinitely."""

import contextlib
import itertools
import json
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness
from harness import PROGRAMS, wait_until

DEVICE = "GatewayOli"
STATE = f"{harness.Env.PREFIX}/d/{DEVICE}/state"
REQ = f"{harness.Env.PREFIX}/d/{DEVICE}/req"
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


class Whole:
    """A socket to which several threads send: each sends whole packets."""

    def __init__(self, sock):
        self.sock, self.lock = sock, threading.Lock()

    def sendall(self, data):
        with self.lock:
            self.sock.sendall(data)

    def __getattr__(self, name):
        return getattr(self.sock, name)


class PlayedBroker:
    """A minimal MQTT 5 broker without TLS. It calls @play(broker, sock) after each subscription."""

    def __init__(self, play, connack=packet(CONNACK, b"\0\0\0")):
        self.play, self.connack = play, connack
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"mqtt://127.0.0.1:{self.listener.getsockname()[1]}"
        self.n_connections = self.n_subscriptions = self.n_pings = 0
        self.published = []  # (topic, payload) of the clients
        self.puback, self.suback = b"\0", b"\1"
        self.socks = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock = Whole(self.listener.accept()[0])
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
                    sock.sendall(packet(SUBACK, body[:2] + b"\0" + self.suback))
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


# An assertion that fails in libmosquitto leaks a few bytes.
LEAKS = {"ASAN_OPTIONS": "detect_leaks=0"}


def agent_of(env, broker):
    return env.agent(DEVICE, wait=False, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None, **LEAKS)


def cli_of(env, broker, *args, **more):
    return env.cli(*args, **more, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None, **LEAKS)


def is_answering(agent):
    """Asserts that the agent runs, logs its status, and stops on SIGTERM."""
    agent.send(signal.SIGUSR1)
    agent.wait_for("status device", limit=30)
    assert agent.stop(limit=30) == 0


UNKNOWN_PROPERTY = b"\x78\0\0\0"


@pytest.mark.parametrize("connack", [packet(CONNACK, b"\0\0" + length(4) + UNKNOWN_PROPERTY), None],
                         ids=["connack", "publish"])
def test_unknown_property_fails_library_assertion(env, played, connack):
    """An assertion fails in libmosquitto 2.0.11; the program must not exit."""
    broker = played(lambda b, sock: sock.sendall(publish(REQ, b"x", properties=UNKNOWN_PROPERTY)),
                    **({"connack": connack} if connack else {}))
    agent = agent_of(env, broker)
    agent.wait_for("broker not reachable")
    is_answering(agent)
    done = cli_of(env, broker, "status", DEVICE)
    # libmosquitto 2.0.21 accepts it long enough to learn that no message is retained.
    assert (done.returncode, re.findall(r"GTD-E\d+", done.stderr)) in ((69, ["GTD-E30"]), (76, ["GTD-E23"])), done.stderr


def test_suback_without_reason_codes(env, played):
    """libmosquitto up to 2.0.18 reports it with an array of length 0 (CVE-2024-10525), later versions reject it. Neither is a
    subscription."""
    broker = played(lambda b, sock: None)
    broker.suback = b""
    agent = agent_of(env, broker)
    agent.wait_for("broker not reachable|cannot subscribe")
    is_answering(agent)
    done = cli_of(env, broker, "status", DEVICE)
    assert (done.returncode, re.findall(r"GTD-E\d+", done.stderr)) in ((77, ["GTD-E21"]), (76, ["GTD-E23"])), done.stderr


def test_broker_keepalive_is_used(env, played):
    """The broker may set a shorter keep-alive interval, which is used."""
    broker = played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(3) + b"\x13\0\1"))
    agent = env.agent(DEVICE, wait=False, GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None,
                      GOTTHARD_MQTT_KEEPALIVE="900s", **LEAKS)
    wait_until(lambda: broker.n_pings > 1, "the agent sends PINGREQ")
    assert broker.n_connections == 1
    is_answering(agent)


TOO_LARGE = "the broker sent a packet that needs more memory than this program may use"


def test_packet_of_256_mebibytes(env, played):
    """The agent must not allocate what a packet's length field announces. It says whose fault that is, and connects again."""
    if harness.SANITIZER != "none":
        pytest.skip("sanitizers need more address space than the limit allows")

    def play(broker, sock):
        sock.sendall(bytes([PUBLISH]) + b"\xff\xff\xff\x7f")
        for _ in range(4096):
            sock.sendall(bytes(65536))

    broker = played(play)
    agent = agent_of(env, broker)
    most = 0

    def is_over():
        nonlocal most
        most = max(most, harness.rss_kib(agent.pid))
        return "broker not reachable" in agent.log()

    wait_until(is_over, "the connection is closed")
    assert most < 160 * 1024
    agent.wait_for(TOO_LARGE)
    wait_until(lambda: broker.n_subscriptions > 1, "the agent connects again")
    is_answering(agent)


HEADER_OF_256_MEBIBYTES = bytes([PUBLISH]) + length((1 << 28) - 1)


@pytest.mark.parametrize("connack, sentence", [(packet(CONNACK, b"\0\0\0"), TOO_LARGE), (HEADER_OF_256_MEBIBYTES, "the answer is not MQTT")],
                         ids=["later", "first"])
def test_command_reads_packet_of_256_mebibytes(env, played, connack, sentence):
    """The broker is at fault, not the memory of this machine, which here has too little of it."""
    if harness.SANITIZER != "none":
        pytest.skip("sanitizers need more address space than the limit allows")
    broker = played(lambda b, sock: sock.sendall(HEADER_OF_256_MEBIBYTES), connack=connack)
    limited = ["sh", "-c", 'ulimit -d 163840; exec "$@"', "sh", PROGRAMS["cli"], "status", DEVICE]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=harness.LIMIT, cwd=env.folder,
                          env=env.cli_environment(GOTTHARD_MQTT_ENDPOINT=broker.endpoint, GOTTHARD_AWS_CERT_PATH=None))
    assert done.returncode == 76 and "GTD-E23" in done.stderr and sentence in done.stderr, (done.returncode, done.stderr)


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
def test_flood(env, played, play):
    broker = played(play)
    agent = agent_of(env, broker)
    wait_until(lambda: broker.n_subscriptions, "the flood has started")
    rss, started = harness.rss_kib(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 1, "a second has passed")
    assert harness.rss_kib(agent.pid) - rss < 16 * 1024 or harness.SANITIZER != "none"
    assert len(re.findall("online", agent.log())) <= 1
    assert len(agent.log().splitlines()) < 60
    is_answering(agent)


def test_flapping(env, played):
    """The broker closes every connection at once: the pauses grow."""
    broker = played(lambda b, sock: sock.close())
    agent = agent_of(env, broker)
    agent.wait_for(r"broker not reachable.* retry=\d\d\d\d+ms", count=3)
    waits = [int(w) for w in re.findall(r"retry=(\d+)ms", agent.log())]
    assert waits[1] >= 5000 and waits[2] >= 5000, waits
    is_answering(agent)


def test_operator_repeats_request_at_most_once(env, played):
    """STATE is published continuously and each REQ has no subscriber: it is sent at most twice."""
    state = retained_state(env)

    def play(broker, sock):
        while True:
            sock.sendall(publish(STATE, state, retain=True))
            time.sleep(0.02)

    broker = played(play)
    broker.puback = b"\x10"  # no matching subscribers
    done = cli_of(env, broker, "connect", DEVICE, "0:ssh", GOTTHARD_TIMEOUTS_ANSWER="4s")
    assert done.returncode == 69, done.stderr
    assert len([topic for topic, _ in broker.published if topic == REQ]) <= 2


def retained_state(env):
    """Returns the retained STATE of a device, read from a real broker."""
    env.broker(tls=False)
    agent = env.agent(DEVICE, GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{env.broker_port}",
                      GOTTHARD_AWS_CERT_PATH=None)
    with socket.create_connection(("127.0.0.1", env.broker_port), timeout=harness.LIMIT) as sock:
        sock.sendall(packet(CONNECT, b"\0\4MQTT\5\2\0\x3c\0" + b"\0\4peek"))
        sock.sendall(packet(SUBSCRIBE | 2, b"\0\1\0" + struct.pack(">H", len(STATE)) + STATE.encode() + b"\0"))
        while True:
            kind, body = PlayedBroker._read(sock)
            if kind & 0xF0 == PUBLISH:
                agent.stop()
                return body[2 + len(STATE) + 1:]


@pytest.mark.parametrize("names", [["dev-aaaa"], ["dev-aaaa", "dev-bbbb"]], ids=["one", "two"])
def test_devices_lists_fleet_that_never_stops_publishing(env, played, names):
    """A fleet that publishes continuously, also after its retained states, is listed nevertheless."""
    def play(broker, sock):
        for n in itertools.count():
            for name in names:
                sock.sendall(publish(f"{harness.Env.PREFIX}/d/{name}/state", bytes(60), retain=n == 0))
                time.sleep(0.05)

    done = cli_of(env, played(play), "devices")
    assert done.returncode == 0 and all(name in done.stdout for name in names), (done.returncode, done.stderr)


def test_state_of_another_device_is_ignored(env, played):
    """An unrequested STATE has no effect on the status of the requested device."""
    state = retained_state(env)
    broker = played(lambda b, sock: sock.sendall(publish(STATE, state, retain=True)))
    assert cli_of(env, broker, "status", DEVICE).returncode == 0
    done = cli_of(env, broker, "status", "dev-gone")
    assert done.returncode == 69 and "GTD-E30" in done.stderr, (done.returncode, done.stdout)


@pytest.mark.parametrize("command", ["status", "disconnect"])
def test_broker_that_closes_at_once(env, played, command):
    """Sending on a connection that has just closed is not an internal error."""
    broker = played(None, connack=packet(CONNACK, b"\0\0\0") + b"\0\0")
    for _ in range(25):
        done = cli_of(env, broker, command, DEVICE)
        assert (done.returncode, re.findall(r"GTD-E\d+", done.stderr)) in ((69, ["GTD-E20"]), (76, ["GTD-E23"])), done.stderr


@pytest.mark.parametrize("limit", [b"\x27\0\0\0\x80", b"\x24\0"], ids=["size", "qos"])
def test_broker_with_too_small_limits(env, played, limit):
    broker = played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(len(limit)) + limit))
    done = cli_of(env, broker, "connect", DEVICE, "0:ssh")
    assert done.returncode == 77 and "GTD-E21" in done.stderr, (done.returncode, done.stderr)


def test_agent_reconnects_without_subscription(env, played):
    """An agent that cannot subscribe connects again."""
    limit = b"\x27\0\0\0\x20"
    agent = agent_of(env, played(lambda b, sock: None, connack=packet(CONNACK, b"\0\0" + length(len(limit)) + limit)))
    agent.wait_for("cannot subscribe")
    agent.wait_for("broker not reachable", limit=30)
    is_answering(agent)


def test_noise(env, played):
    """Random packets of every type, cut and lengthened. The seed is printed."""
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
        done = cli_of(env, broker, "status", DEVICE)
        assert done.returncode in (69, 76, 77), (done.returncode, done.stderr)


class Between:
    """Stands between an operator and agents of one name, each at a broker of its own: the device, and an impostor that holds
    the fleet key. The impostor receives each request first, and the device only when it has answered."""

    def __init__(self, played, first_state):
        self.first_state, self.names = first_state, ("impostor", "device")
        self.states, self.requests = {}, 0
        self.brokers = {name: played(lambda b, sock: None) for name in self.names}
        self.operator = played(self._play)
        for name, broker in {**self.brokers, "operator": self.operator}.items():
            broker.published = Sink(lambda topic, body, name=name: self._forward(name, topic, body))

    def _play(self, broker, sock):
        sock.sendall(publish(STATE, b"GTM1\0" + bytes(200), retain=True))  # retained by a device with another key
        sock.sendall(publish(STATE, self.states[self.first_state], retain=True))

    @staticmethod
    def _send(broker, topic, payload):
        with contextlib.suppress(OSError):
            broker.socks[-1].sendall(publish(topic, payload))

    def _forward(self, name, topic, body):
        """@body: of a PUBLISH with QoS 1 and without properties, or with an expiry of 5 bytes."""
        at = 2 + len(topic) + 2
        payload = body[at + 1 + body[at]:]
        if topic == STATE:
            self.states[name] = payload
        elif name == "operator":
            self.request = payload
            self._send(self.brokers["impostor"], topic, payload)
        else:
            self._send(self.operator, topic, payload)
            if name == "impostor":
                self._send(self.brokers["device"], REQ, self.request)


class Sink(list):
    def __init__(self, on_append):
        super().__init__()
        self.on_append = on_append

    def append(self, item):
        super().append(item)
        self.on_append(*item)


@pytest.mark.parametrize("first_state", ["impostor", "device"])
def test_answer_of_device_after_untrusted_ones(env, played, first_state):
    """The operator waits for the answer that its pin trusts. The impostor's ACK, or its NAK with another epoch, comes first."""
    env.relay()
    between = Between(played, first_state)
    agents = {name: env.agent(DEVICE, wait=False, GOTTHARD_MQTT_ENDPOINT=between.brokers[name].endpoint,
                              GOTTHARD_AWS_CERT_PATH=env.certificates(DEVICE if name == "device" else "mallory"),
                              GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, **LEAKS) for name in between.names}
    wait_until(lambda: len(between.states) == 2, "both are online")
    pins = env.folder / "devices.pins"
    fingerprint = env.cli("fingerprint", env=env.cli_environment(DEVICE)).stdout.split()[1]
    pins.write_text(f"{DEVICE} {fingerprint} role=device\n")
    folder = env.config_folder(cli=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    operator = dict(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_MQTT_ENDPOINT=between.operator.endpoint, **LEAKS)
    tunnel = env.connect(DEVICE, **operator)
    with tunnel.dial() as sock:
        sock.sendall(b"echo")
        assert harness.receive_exactly(sock, 4) == b"echo"
    if first_state == "impostor":  # its ACK came before that of the device
        wait_until(lambda: not harness.children_of(agents["impostor"].pid), "the impostor's session was withdrawn")
    assert len(harness.children_of(agents["device"].pid)) == 1
    assert tunnel.disconnect() == 0
    # the impostor alone
    assert agents["device"].stop() == 0
    done = env.cli("connect", DEVICE, "0:ssh", GOTTHARD_TIMEOUTS_ANSWER="2s", **operator)
    assert done.returncode == 77 and ("GTD-E33" in done.stderr or first_state == "device"), done.stderr


GARBAGE_STATES = [publish(f"{harness.Env.PREFIX}/d/dev-{n:05}/state", bytes(60)) for n in range(3000)]


@pytest.mark.parametrize("command", ["status", "devices"])
def test_state_among_thousands_of_others(env, played, command):
    """The device's own STATE is found between thousands that do not open, under its name and under others. Neither an earlier
    nor a later one replaces it."""
    state = retained_state(env)
    noise = [publish(STATE, b"GTM1\0" + bytes([n % 256]) * 200) for n in range(3000)]

    def play(broker, sock):
        sock.sendall(b"".join(GARBAGE_STATES[:1500] + noise[:1500]))
        time.sleep(0.4)
        sock.sendall(publish(STATE, state, retain=True))
        while True:
            sock.sendall(b"".join(noise + GARBAGE_STATES[1500:]))
            time.sleep(0.2)

    done = cli_of(env, played(play), command, "--json", *([DEVICE] if command == "status" else []))
    rows = {row["device"]: row for row in map(json.loads, done.stdout.splitlines()) if "device" in row}
    assert rows[DEVICE]["version"], done.stdout[:200]
    assert len(rows) <= 1025
