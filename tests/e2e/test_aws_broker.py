# SPDX-License-Identifier: ISC
"""The whole job on a broker with all manners of AWS IoT Core (tests/lib/aws_broker.py), with the literal policies of etc/, in
both versions of MQTT. That broker itself: its packets, and what it answers to each violation."""

import contextlib
import json
import random
import select
import signal
import socket
import ssl
import subprocess
import time

import pytest

import harness
import mqtt_packets as mqtt
from aws_manners import is_filter, topic_matches
from harness import wait_until
from mqtt_packets import CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE

DEVICE = "GatewayOli"
PREFIX = f"{harness.Env.PREFIX}/d/{DEVICE}"
VERSIONS = pytest.mark.parametrize("version", [5, 4], ids=["5", "3.1.1"])


def manners_of(version, *more):
    return [*(["v5=False"] if version == 4 else []), *more]


# --- its packets -----------------------------------------------------------------------------------

PACKETS = [  # kind, flags, fields, fields of MQTT 5 only
    (CONNECT, None, {"client_id": "x", "keep_alive": 7}, {"properties": {"receive_maximum": 20, "user_property": ("a", "b")}}),
    (CONNECT, None, {"client_id": "", "connect_flags": 0xE6, "will_topic": "t", "will_payload": b"\0w", "username": "ü",
                     "password": b""}, {"will_properties": {"will_delay": 3}}),
    (CONNACK, None, {"session_present": 1, "reason": 5}, {"properties": {"server_keep_alive": 1200, "maximum_packet_size": 149504}}),
    (PUBLISH, 0, {"topic": "a/b", "payload": b"x" * 300}, {}),
    (PUBLISH, 0x0B, {"topic": "a", "id": 65535, "payload": b""}, {"properties": {"message_expiry": 20, "subscription_id": 300}}),
    (PUBACK, None, {"id": 1}, {"reason": 0x87, "properties": {"reason_string": "no"}}),
    (SUBSCRIBE, None, {"id": 2, "filters": [("a/+", 1), ("#", 0x2C)]}, {"properties": {"subscription_id": 1}}),
    (SUBACK, None, {"id": 2, "reasons": bytes([1, 0x80])}, {}),
    (UNSUBSCRIBE, None, {"id": 3, "topics": ["a/+", "#"]}, {}),
    (UNSUBACK, None, {"id": 3}, {"reasons": bytes([0, 0x11])}),
    (PINGREQ, None, {}, {}), (PINGRESP, None, {}, {}),
    (DISCONNECT, None, {}, {"reason": 0x8E, "properties": {"server_reference": "other:8883"}}),
]


def split(data):
    """Returns the first byte and the body of the only packet in @data."""
    reader = mqtt.Reader(data[1:])
    n = mqtt.read_length(reader)
    assert n == len(data) - 1 - reader.at
    return data[0], data[1 + reader.at:]


@VERSIONS
def test_packets_return_from_their_bytes(version):
    for kind, flags, fields, more in PACKETS:
        fields = {**fields, **(more if version == 5 else {})}
        packet = mqtt.decode(*split(mqtt.encode(kind, version, flags=flags, **fields)), version)
        assert packet.kind == kind and {name: getattr(packet, name) for name in fields} == fields
    # Examples of the standards: sections 3.1.2.3 (3.1.1) and 3.14.2 (5).
    assert mqtt.encode(CONNECT, 4, connect_flags=2, keep_alive=10, client_id="c") == b"\x10\x0d\0\4MQTT\4\2\0\x0a\0\1c"
    assert vars(mqtt.decode(0xE0, b"", 5))["reason"] == 0


def test_damaged_packets_are_malformed():
    """Any bytes are a packet or Malformed. The seed is printed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(20):
        for kind, flags, fields, more in PACKETS:
            first, body = split(mqtt.encode(kind, 5, flags=flags, **fields, **more))
            body = bytearray(body[:chance.randrange(len(body) + 1)] + chance.randbytes(chance.randrange(3)))
            if body:
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            with contextlib.suppress(mqtt.Malformed):
                mqtt.decode(first, bytes(body), chance.choice([4, 5]))


def test_topics_match_filters_as_on_aws():
    for topic_filter, topic, is_match in [
            ("a/b", "a/b", True), ("a/b", "a/b/c", False), ("a/+", "a/", True), ("a/+", "a", False), ("+/b", "a/b", True),
            ("#", "a/b", True), ("a/#", "a/b/c", True), ("a/#", "a/", True), ("a/#", "a", False), ("#", "$aws/x", False),
            ("+/x", "$aws/x", False), ("$aws/#", "$aws/x", True)]:
        assert topic_matches(topic_filter, topic, hash_without_parent=True) == is_match, (topic_filter, topic)
    assert topic_matches("a/#", "a", hash_without_parent=False)
    assert [name for name in ("a/#", "+", "a/+/b", "a+", "#/a", "", "a/b#") if is_filter(name)] == ["a/#", "+", "a/+/b"]


# --- what it answers --------------------------------------------------------------------------------


class Peer:
    """A client of the broker that waits for each answer, or for the end of the connection."""

    def __init__(self, env, name=DEVICE, version=5, client_id=None, sni="localhost", connect=True, **fields):
        certs = env.certificates(name)
        context = ssl.create_default_context(cafile=certs / "ca.crt")
        context.load_cert_chain(certs / "cert.pem", certs / "private.key")
        context.check_hostname = sni is not None
        self.version = version
        tcp = socket.create_connection(("127.0.0.1", env.broker_port), timeout=harness.LIMIT)
        self.sock = context.wrap_socket(tcp, server_hostname=sni)
        self.connack = connect and self.ask(CONNECT, client_id=name if client_id is None else client_id, **fields)

    def send(self, kind, **fields):
        with contextlib.suppress(OSError):
            self.sock.sendall(mqtt.encode(kind, self.version, **fields))

    def receive(self):
        """Returns the next packet, or None at the end of the connection."""
        with contextlib.suppress(OSError, IndexError):
            header = bytearray(self.sock.recv(1))
            header += self.sock.recv(1)
            while header[-1] > 127:
                header += self.sock.recv(1)
            n = mqtt.read_length(mqtt.Reader(header[1:]))
            return mqtt.decode(header[0], harness.receive_exactly(self.sock, n), self.version)
        return None

    def ask(self, kind, **fields):
        self.send(kind, **fields)
        return self.receive()

    def has_more(self, seconds):
        return bool(self.sock.pending() or select.select([self.sock], [], [], seconds)[0])

    def subscribe(self, *names, qos=1):
        return self.ask(SUBSCRIBE, id=1, filters=[(name, qos) for name in names])

    def publish(self, topic, payload=b"x", qos=1, retain=False):
        return self.ask(PUBLISH, flags=qos << 1 | retain, id=7, topic=topic, payload=payload)


def outcome(packet):
    """Returns the kind and the reasons of an answer in one tuple; () for the end of the connection."""
    if packet is None:
        return ()
    return (packet.kind, *(getattr(packet, "reasons", None) or [getattr(packet, "reason", 0)]))


END = ()
REQUESTS = [  # the name of the certificate, the request, the answer in MQTT 5, the answer in 3.1.1
    (DEVICE, lambda p: p.publish(f"{PREFIX}/state", retain=True), (PUBACK, 0), (PUBACK, 0)),
    (DEVICE, lambda p: p.publish(f"{harness.Env.PREFIX}/d/GatewayEli/state"), (PUBACK, 0x87), END),
    (DEVICE, lambda p: p.publish(f"{harness.Env.PREFIX}/d/GatewayEli/state", qos=0), (DISCONNECT, 0x87), END),
    (DEVICE, lambda p: p.publish(f"{PREFIX}/rsp/alice", retain=True), (PUBACK, 0x87), END),
    (DEVICE, lambda p: p.subscribe(f"{PREFIX}/req"), (SUBACK, 1), (SUBACK, 1)),
    (DEVICE, lambda p: p.subscribe(f"{PREFIX}/req", f"{harness.Env.PREFIX}/d/+/req"), (SUBACK, 1, 0x87), END),
    ("alice", lambda p: p.publish(f"{PREFIX}/state"), (PUBACK, 0x87), END),
    ("alice", lambda p: p.subscribe(f"{harness.Env.PREFIX}/d/+/state", f"{PREFIX}/rsp/bob"), (SUBACK, 1, 0x87), END),
    ("tester", lambda p: p.publish("t", b"x" * (128 << 10)), (PUBACK, 0), (PUBACK, 0)),
    ("tester", lambda p: p.publish("t", b"x" * ((128 << 10) + 1)), (DISCONNECT, 0x95), END),
    ("tester", lambda p: p.publish("t", b"x" * 150000), (DISCONNECT, 0x95), END),
    ("tester", lambda p: p.publish("1/2/3/4/5/6/7/8"), (PUBACK, 0), (PUBACK, 0)),
    ("tester", lambda p: p.publish("1/2/3/4/5/6/7/8/9"), (PUBACK, 0x90), END),
    ("tester", lambda p: p.publish("t" * 257), (PUBACK, 0x90), END),
    ("tester", lambda p: p.publish("t/+"), (PUBACK, 0x90), END),
    ("tester", lambda p: p.publish("t", qos=2), (DISCONNECT, 0x9B), (PINGRESP, 0)),
    ("tester", lambda p: p.subscribe("t", qos=2), (DISCONNECT, 0x9B), (PINGRESP, 0)),
    ("tester", lambda p: p.subscribe(*"12345678"), (SUBACK, *[1] * 8), (SUBACK, *[1] * 8)),
    ("tester", lambda p: p.subscribe(*"123456789"), (DISCONNECT, 0x97), END),
    ("tester", lambda p: [p.subscribe(*(f"{n}/{m}" for m in range(7))) for n in range(8)][-1], (DISCONNECT, 0x97), END),
    ("tester", lambda p: p.subscribe("a#"), (SUBACK, 0x8F), END),
    ("tester", lambda p: p.ask(CONNECT), (DISCONNECT, 0x82), END),
    ("tester", lambda p: p.ask(SUBACK), (DISCONNECT, 0x82), END),
]


@VERSIONS
def test_broker_refuses_as_aws_does(env, version):
    broker = env.aws_broker("connects_per_s=1000")
    for name, request, *answers in REQUESTS:
        peer = Peer(env, name, version, client_id={DEVICE: DEVICE, "alice": "gtc-1"}.get(name, ""))
        wanted = answers[version == 4]
        if wanted == (PINGRESP, 0):  # the packet itself is not answered
            peer.receive, receive = (lambda: None), peer.receive
            request(peer)
            peer.receive = receive
            assert outcome(peer.ask(PINGREQ)) == wanted
        else:
            assert outcome(request(peer)) == wanted, broker.log()[-400:]
        peer.sock.close()
    assert "Traceback" not in broker.log()


CONNECTIONS = [  # arguments of Peer, the answer in MQTT 5, the answer in 3.1.1
    (dict(name=DEVICE), (CONNACK, 0), (CONNACK, 0)),
    (dict(name=DEVICE, connect_flags=0x2E, will_topic=f"{PREFIX}/state"), (CONNACK, 0), (CONNACK, 0)),
    (dict(name=DEVICE, connect_flags=0), (CONNACK, 0x87), END),  # a persistent session
    (dict(name=DEVICE, client_id="GatewayEli"), (CONNACK, 0x87), END),
    (dict(name="alice", client_id=DEVICE), (CONNACK, 0x87), END),
    (dict(name="alice", client_id="gtc-1"), (CONNACK, 0), (CONNACK, 0)),
    (dict(name="alice", client_id="gtc-1", connect_flags=0x06, will_topic=f"{PREFIX}/req"), (CONNACK, 0x87), END),
    (dict(name="GatewayEli"), END, END),  # its certificate is inactive
    (dict(name="tester", client_id="", sni=None), END, END),
]


@VERSIONS
def test_broker_admits_as_aws_does(env, version):
    (env.certificates("broker") / "inactive").write_text("GatewayEli\n")
    broker = env.aws_broker("connects_per_s=1000")
    for arguments, *answers in CONNECTIONS:
        assert outcome(Peer(env, version=version, **arguments).connack) == answers[version == 4], arguments
    for keep_alive, agreed in (0, 1200), (10, 30), (30, None), (1200, None), (2000, 1200):
        properties = Peer(env, version=5, keep_alive=keep_alive).connack.properties
        assert properties.get("server_keep_alive") == agreed
    assert {"receive_maximum": 100, "maximum_qos": 1, "maximum_packet_size": 149504}.items() <= properties.items()
    assert "Traceback" not in broker.log()


@VERSIONS
def test_broker_ends_connections_as_aws_does(env, version):
    broker = env.aws_broker("connects_per_s=1000", "publishes_per_s=10", "keep_alive_min_s=1")
    watcher = Peer(env, "tester", version, client_id="watcher")
    watcher.subscribe("#")
    time.sleep(0.2)  # until the subscription is effective
    will = dict(connect_flags=0x2E, will_topic=f"{PREFIX}/state", will_payload=b"lost")
    old = Peer(env, version=version, **will)
    assert outcome(Peer(env, version=version).connack) == (CONNACK, 0)
    assert outcome(old.receive()) == ((DISCONNECT, 0x8E) if version == 5 else END)  # taken over
    assert watcher.receive().payload == b"lost"
    asleep = Peer(env, version=version, keep_alive=1, **will)
    assert outcome(asleep.receive()) == ((DISCONNECT, 0x8D) if version == 5 else END)
    assert watcher.receive().payload == b"lost"

    many = Peer(env, "tester", version, client_id="many")
    many.sock.sendall(b"".join(mqtt.encode(PUBLISH, version, flags=2, id=n, topic="$aws/t") for n in range(1, 51)))
    answers = [outcome(many.receive()) for _ in range(50 if version == 5 else 10)]
    assert answers.count((PUBACK, 0)) >= 10 and answers.count((PUBACK, 0)) + answers.count((PUBACK, 0x97)) == len(answers)
    assert (PUBACK, 0x97) in answers or version == 4

    broker.send(signal.SIGUSR1)
    assert outcome(watcher.receive()) == ((DISCONNECT, 0x98) if version == 5 else END)
    last = Peer(env, "tester", version, client_id="last")
    broker.stop()
    assert outcome(last.receive()) == ((DISCONNECT, 0x8B) if version == 5 else END)
    assert "Traceback" not in broker.log()


@VERSIONS
def test_broker_delivers_as_aws_does(env, version):
    """Retained messages come to exact topics only; new ones only after a delay; both survive the broker."""
    without_retain = env.folder / "policies.json"
    text = (harness.ROOT / "etc" / "aws-iot-policy-example.json").read_text()
    without_retain.write_text(text.replace("iot:RetainPublish", "iot:Nothing"))
    broker = env.aws_broker("connects_per_s=1000", "subscribe_delay_ms=700", policies=without_retain)
    tester = Peer(env, "tester", version, client_id="tester")
    assert outcome(tester.publish("a/kept", b"kept", retain=True)) == (PUBACK, 0)
    broker.kill()
    broker = env.aws_broker("connects_per_s=1000", "subscribe_delay_ms=700", policies=without_retain)
    tester, other = Peer(env, "tester", version, client_id="tester"), Peer(env, "tester", version, client_id="other")
    assert outcome(tester.subscribe("a/+", "a/kept")) == (SUBACK, 1, 1)
    kept = tester.receive()
    assert (kept.topic, kept.payload, kept.flags & 1) == ("a/kept", b"kept", 1)
    other.publish("a/early")
    assert not tester.has_more(1)  # one copy of the retained message only, and the subscription was not yet effective
    other.publish("a/late")
    assert tester.receive().topic == "a/late"
    # A will that may not be retained is only delivered.
    tester.subscribe(f"{PREFIX}/state")
    time.sleep(0.8)
    Peer(env, version=version, connect_flags=0x2E, will_topic=f"{PREFIX}/state", will_payload=b"lost").sock.close()
    assert tester.receive().payload == b"lost"
    other.subscribe(f"{PREFIX}/state")
    assert not other.has_more(0.3)
    assert "Traceback" not in broker.log()


@VERSIONS
def test_broker_serves_the_clients_of_mosquitto(env, version):
    broker = env.aws_broker()
    certs = env.certificates("tester")
    options = ["-h", "localhost", "-p", str(env.broker_port), "--cafile", certs / "ca.crt", "--cert", certs / "cert.pem",
               "--key", certs / "private.key", "-V", {5: "mqttv5", 4: "mqttv311"}[version], "-q", "1"]
    sent = random.Random(1).randbytes(100000)
    (env.folder / "sent").write_bytes(sent)
    subprocess.run(["mosquitto_pub", *options, "-t", "some/topic", "-r", "-f", env.folder / "sent"], check=True, timeout=harness.LIMIT)
    done = subprocess.run(["mosquitto_sub", *options, "-t", "some/topic", "-C", "1", "-N"], check=True, timeout=harness.LIMIT,
                          capture_output=True)
    assert done.stdout == sent and "Traceback" not in broker.log()


# --- the job ----------------------------------------------------------------------------------------


def transfer(tunnel, n):
    """Sends @n bytes, receives them from the echo and compares each."""
    with tunnel.dial() as sock:
        harness.in_threads(lambda: harness.send_pattern(sock, "aws", n), lambda: harness.receive_pattern(sock, "aws", n))


def status(env):
    return env.cli("status", DEVICE).stdout


def states(env, names):
    """Returns the state of each device that `devices` lists when it asks for these names."""
    done = env.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names)
    assert done.returncode == 0, done.stderr
    return {row["device"]: row["online"] for row in map(json.loads, done.stdout.splitlines())}


@VERSIONS
def test_whole_job_on_aws(env, version):
    manners = manners_of(version)
    broker = env.aws_broker(*manners)
    env.relay()
    target = env.target(harness.echo)
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=target.port)
    assert f"{DEVICE} is online" in status(env)
    assert states(env, f"{DEVICE} dev-gone") == {DEVICE: True, "dev-gone": None}
    tunnel = env.connect(DEVICE)
    transfer(tunnel, 5 << 20)

    broker.stop(signal.SIGTERM if version == 5 else signal.SIGKILL)  # MQTT 5: with a DISCONNECT
    broker = env.aws_broker(*manners)
    agent.wait_for(harness.AGENT_READY, count=2)
    transfer(tunnel, 100000)
    assert env.cli("disconnect", DEVICE).returncode == 0
    assert tunnel.wait() == 69

    agent.kill()
    wait_until(lambda: f"{DEVICE} is offline" in status(env), "the last will is published")
    twins = [env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=target.port, STATE_DIRECTORY=None) for _ in range(2)]
    twins[0].wait_for(r"broker not reachable .*retry=\d{4,}ms")
    wait_until(lambda: f"{DEVICE} is online" in status(env), "the newer one is online")
    tunnel = env.connect(DEVICE)
    transfer(tunnel, 100000)
    assert tunnel.disconnect() == 0 and [twin.stop() for twin in twins] == [0, 0]
    assert "Traceback" not in broker.log()


def test_report_reaches_operator_whose_subscription_works_late(env):
    """The device's answer and its report come before the operator's subscription works: both are repeated."""
    env.aws_broker("subscribe_delay_ms=500")
    env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=env.config_folder(relayd="limits = { sessions_per_identity = 1; };")))
    env.agent(DEVICE, GOTTHARD_TIMEOUTS_PEER="90s", GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    env.connect(DEVICE, name="bob")
    refused = env.connect(DEVICE, wait=False, GOTTHARD_TIMEOUTS_PEER="90s")
    assert "sessions_per_identity" in json.dumps(refused.event("error"))
