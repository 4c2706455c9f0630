# SPDX-License-Identifier: ISC
"""Sealed states of any number of devices at a broker, without their agents: seal-states makes them, and one connection
publishes them."""

import dataclasses
import secrets
import socket
import ssl
import struct
import subprocess

import harness
import mqtt_packets as mqtt
from mqtt_packets import CONNACK, CONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH

SEALER = harness.BUILD / "tests" / "states" / "seal-states"
VERSION = 4  # MQTT 3.1.1
QOS_1 = 0x02
BATCH = 500  # messages that wait for their acknowledgments


@dataclasses.dataclass
class State:
    name: str
    is_online: bool = True
    epoch: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))
    seq: int = 1
    since: int = 1_700_000_000
    sessions: int = 0
    services: tuple = ("ssh",)
    tags: tuple = ()

    def line(self):
        online = "online" if self.is_online else "offline"
        return " ".join([self.name, online, self.epoch, str(self.seq), str(self.since), str(self.sessions), *self.services, *self.tags])


def fleet(n, first=0):
    """@n devices dev-00000 and so on, every third of them offline."""
    return [State(f"dev-{i:05}", is_online=i % 3 != 0) for i in range(first, first + n)]


def seal(env, states, prefix=harness.Env.PREFIX):
    """Returns a list of (topic, payload)."""
    text = "".join(state.line() + "\n" for state in states)
    out = subprocess.run([SEALER, prefix], input=text.encode(), capture_output=True, check=True,
                         env=harness.clean_environment(GOTTHARD_CRYPT_KEY=env.key, GOTTHARD_CRYPT_IV=env.iv)).stdout
    pieces, at = [], 0
    while at < len(out):
        n = struct.unpack_from(">H", out, at)[0]
        pieces.append(out[at + 2:at + 2 + n])
        at += 2 + n
    return [(topic.decode(), payload) for topic, payload in zip(pieces[::2], pieces[1::2])]


# --- publishing ------------------------------------------------------------------------------------


class Publisher:
    """One connection that publishes. With @certificates (a folder, as Env.certificates returns) it uses TLS."""

    def __init__(self, port, certificates=None, host="localhost", client_id="publisher"):
        self.sock = socket.create_connection((host, port), timeout=harness.LIMIT)
        if certificates:
            context = ssl.create_default_context(cafile=certificates / "ca.crt")
            context.load_cert_chain(certificates / "cert.pem", certificates / "private.key")
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        # Not 0 and not the example's max_keepalive: mosquitto 2.0.21 refuses the one, and disconnects clients with the other.
        self.sock.sendall(mqtt.encode(CONNECT, VERSION, client_id=client_id, keep_alive=3600))
        assert self._receive() == (CONNACK, b"\0\0")

    def _receive(self):
        head = harness.receive_exactly(self.sock, 2)
        assert len(head) == 2, "the broker closed the connection"
        return head[0], harness.receive_exactly(self.sock, head[1])

    def publish(self, messages, retain=True):
        """Publishes all (topic, payload) with QoS 1, as agents do, and waits until the broker has acknowledged them."""
        for first in range(0, len(messages), BATCH):
            batch = messages[first:first + BATCH]
            self.sock.sendall(b"".join(mqtt.encode(PUBLISH, VERSION, QOS_1 | retain, topic=topic, id=number, payload=payload)
                                       for number, (topic, payload) in enumerate(batch, 1)))
            for _ in batch:
                assert self._receive()[0] == PUBACK
        self.sock.sendall(mqtt.encode(PINGREQ, VERSION))
        assert self._receive() == (PINGRESP, b"")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def retain(env, states, name="god"):
    """Leaves the states at the broker of @env, as @name, whom its access rules must permit that."""
    with Publisher(env.broker_port, env.certificates(name)) as publisher:
        publisher.publish(seal(env, states))
