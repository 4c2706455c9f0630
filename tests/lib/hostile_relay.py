# SPDX-License-Identifier: ISC
"""A relay that cheats: it stands between both sides and the real relay, and changes the data connections in its hands.

It has the tickets and sees every record, as a relay does, and no key of a session. Both sides use one port (server.single_port). A
plan names for each stream what happens to its next data connection, once. Record attacks begin at the ninth record of the direction,
when the handshake is over.
"""

import contextlib
import os
import socket
import struct
import threading

import harness
from faultproxy import loopback
from relayclient import GREETING, OPERATOR, RECEIPT

FIRST_RECORD = 9


def record(kind, body):
    return struct.pack(">BHH", kind, 0x0303, len(body)) + body


RECORD_ATTACKS = {  # the records in place of the record @r of the connection @c
    "dropped": lambda r, c: [],
    "repeated": lambda r, c: [r, r],
    "exchanged": lambda r, c: c.hold(r),
    "old": lambda r, c: [c.early[c.way], r],
    "of another stream": lambda r, c: [c.foreign(), r],
    "in place of another": lambda r, c: [c.foreign()],
    "reflected": lambda r, c: [c.latest["down" if c.way == "up" else "up"], r],
    "flipped": lambda r, c: [r[:-1] + bytes([r[-1] ^ 1])],
    "cut": lambda r, c: [r[:-1]],
    "shortened": lambda r, c: [record(r[0], r[5:-1])],
    "lengthened": lambda r, c: [record(r[0], r[5:] + b"\0")],
    "oversized": lambda r, c: [b"\x17\x03\x03\xff\xff", r],
    "empty": lambda r, c: [record(0x17, b""), r],
    "random": lambda r, c: [record(0x17, os.urandom(64)), r],
    "alert": lambda r, c: [record(0x15, b"\1\0"), r],
    "handshake": lambda r, c: [record(0x16, os.urandom(40)), r],
    "change of cipher": lambda r, c: [record(0x14, b"\1"), r],
    "receipt": lambda r, c: [RECEIPT, r],
    "greeting": lambda r, c: [GREETING, r],
}

REPLY_ATTACKS = {  # the bytes in place of the reply @r to a JOIN: a greeting, perhaps after a receipt
    "receipt twice": lambda r: RECEIPT + r,
    "greeting twice": lambda r: r + GREETING,
    "receipt after greeting": lambda r: r + RECEIPT,
    "receipt of another version": lambda r: b"GTJ1\2\1\0\0" + r,
    "cut": lambda r: r[:-1],
    "noise": lambda r: os.urandom(8) + r,
    "nothing": lambda r: b"",
    "alert": lambda r: record(0x15, b"\2\x28"),
    "hello": lambda r: record(0x16, os.urandom(100)),
}


def key_of(join):
    """Names a stream: the port of its session, with which the ticket's id begins, and its number."""
    return join[16:18] + join[8:12]


class Connection:
    """One data connection of one side: what the hostile relay knows of it."""

    def __init__(self, relay, key, client):
        self.relay, self.key, self.client = relay, key, client
        self.early, self.latest, self.n, self.held = {}, {}, {"up": 0, "down": 0}, None
        self.way, self.is_over = None, False

    def hold(self, r):
        self.held = r
        return []

    def foreign(self):
        """The latest record of another stream in the same direction."""
        return next(other.latest[self.way] for other in self.relay.connections
                    if other.key != self.key and self.way in other.latest)

    def pass_on(self, r, way):
        """Returns the records to send for @r."""
        self.n[way] += 1
        self.latest[way] = r
        self.early.setdefault(way, r)
        if self.held and self.way == way:
            held, self.held = self.held, None
            return [r, held]
        if self.n[way] >= FIRST_RECORD and (attack := self.relay.take("record", self, way)):
            self.way = way
            return RECORD_ATTACKS[attack](r, self)
        return [r]


class HostileRelay:
    def __init__(self, env):
        self.env, self.host = env, loopback()
        self.lock = threading.Lock()
        self.plan = {}  # (what, key of a JOIN): (attack, way)
        self.done = []  # connections that were attacked
        self.connections, self.joins, self.exchanged = [], {}, []
        self.exchanges = {}  # key of a JOIN: key of the JOIN that the operator's side presents in its place, once
        self.listener = socket.create_server((self.host, env.relay_port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self, what, connection, way=None):
        """Returns the attack that is planned for the connection, once."""
        with self.lock:
            attack, wanted = self.plan.get((what, connection.key), (None, None))
            if attack is None or wanted != way:
                return None
            del self.plan[what, connection.key]
            self.done.append(connection)
            return attack

    def cut(self):
        """Ends every data connection."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.client.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, StopIteration), client, socket.create_connection(("127.0.0.1", self.env.relay_port)) as relay:
            for sock in (client, relay):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = client.recv(1, socket.MSG_PEEK)
            if first == b"G":
                self._serve_data(client, relay)
            else:
                threading.Thread(target=self._forward, args=(relay, client), daemon=True).start()
                self._forward(client, relay)

    def _serve_data(self, client, relay):
        join = harness.receive_exactly(client, 64)
        connection = Connection(self, key_of(join), client)
        relay.sendall(self._exchanged(join))
        reply = harness.receive_exactly(relay, 8)
        if reply == RECEIPT:
            client.sendall(reply)
            reply = harness.receive_exactly(relay, 8)
        if attack := self.take("reply", connection):
            client.sendall(REPLY_ATTACKS[attack](reply))
        else:
            client.sendall(reply)
        self.connections.append(connection)
        try:
            threading.Thread(target=self._forward_records, args=(connection, relay, client, "down"), daemon=True).start()
            self._forward_records(connection, client, relay, "up")
        finally:
            self.connections.remove(connection)
            connection.is_over = True

    def _exchanged(self, join):
        """Returns the JOIN to present in place of @join, after that of the other stream has come."""
        key = key_of(join)
        if join[5] != OPERATOR or not (other := self.exchanges.pop(key, None)):
            return join
        self.joins[key] = join
        harness.wait_until(lambda: other in self.joins, "the JOIN of the other stream", limit=10)
        self.exchanged.append(key)
        return self.joins[other]

    @staticmethod
    def _forward_records(connection, source, sink, way):
        with contextlib.suppress(OSError):
            while len(head := harness.receive_exactly(source, 5)) == 5:
                body = harness.receive_exactly(source, int.from_bytes(head[3:], "big"))
                sink.sendall(b"".join(connection.pass_on(head + body, way)))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    @staticmethod
    def _forward(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
