# SPDX-License-Identifier: ISC
"""What a peer without a key does to a relay: the description of an attack, the process that carries it out, and a sniffer."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import threading

import harness
from harness import LIMIT

NAT = "127.0.0.1"  # the address of everybody behind one NAT: honest clients, the device, and an attacker


def rotating(n=4000):
    """Many addresses, each of another /24."""
    return [f"127.{20 + i // 200}.{i % 200}.{1 + i * 7 % 200}" for i in range(n)]


MIXED = [address for n, other in enumerate(rotating()) for address in ([other, NAT] if n % 4 == 0 else [other])]


@dataclasses.dataclass
class Attack:
    """@manner: hold (until the peer closes, or until @at_once are open), wait (no more than @at_once, none is closed),
    close (after the last byte), reset (the same, with a RST) or trickle (one byte in 20 ms). @n_random: the last bytes of a payload are random."""

    payloads: list
    rate: float  # connections a second
    sources: list = dataclasses.field(default_factory=lambda: MIXED)
    manner: str = "hold"
    at_once: int = 3000
    n: int = 1 << 40
    n_random: int = 0
    ports: list = None  # the main port
    alert: bytes = b""  # that the relay sends at most, to each
    has_key: bool = False  # the relay may answer
    host: str = NAT


class Attacker:
    def __init__(self, env, attack):
        ports = attack.ports or [env.relay_port]
        path = env.folder / env.unique("attack")
        path.write_text(json.dumps({**dataclasses.asdict(attack), "ports": ports, "payloads": [p.hex() for p in attack.payloads],
                                    "alert": attack.alert.hex()}))
        self.child = subprocess.Popen(
            ["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "attacker.py"), path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.child.stdout.readline() == "ready\n"

    def finish(self):
        """Ends the attack. Returns its counts."""
        out, _ = self.child.communicate(timeout=LIMIT)
        return json.loads(out)


class Recorder:
    """A sniffer in the way: forwards every connection to @port and keeps what the client sent first."""

    def __init__(self, port):
        self.to = port
        self.hellos, self.joins = [], []
        self.listener = socket.create_server((NAT, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        relay = socket.create_connection((NAT, self.to))
        for sock in (client, relay):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = harness.receive_exactly(client, 5)
        is_hello = first[:1] == b"\x16"
        first += harness.receive_exactly(client, int.from_bytes(first[3:], "big") if is_hello else 64 - len(first))
        (self.hellos if is_hello else self.joins).append(first)
        relay.sendall(first)
        threading.Thread(target=self._forward, args=(relay, client), daemon=True).start()
        self._forward(client, relay)

    @staticmethod
    def _forward(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
