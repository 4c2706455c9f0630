# SPDX-License-Identifier: ISC
"""A relay in Python for one operator and one device, which sends whatever frames a test wants. openssl s_server, a process for each
control connection, is its end of TLS; it has the key of the one identity that it serves."""

import contextlib
import os
import secrets
import socket
import struct
import subprocess
import threading

import forge
import harness
from relayclient import GREETING, RECEIPT, raw

HELLO, WELCOME, RENDEZVOUS, SESSION, PEER, OPEN, TICKET, STREAM_END = 0x01, 0x02, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22
PING, PONG, RESTARTING, BYE, ERROR, LOAD = 0x30, 0x31, 0x3E, 0x3F, 0x40, 0x81


class Connection:
    """One control connection. Frames are answered on the one that they came from: a late BYE has a connection of its own."""

    def __init__(self, side, child):
        self.side, self.child, self.lock = side, child, threading.Lock()
        self.is_open = True

    def read(self):
        data = b""
        while chunk := os.read(self.child.stdout.fileno(), 1 << 16):
            data += chunk
            while len(data) >= 4 and len(data) >= (n := 4 + int.from_bytes(data[2:4], "big")):
                self.side.relay.on_frame(self, data[0], data[4:n])
                data = data[n:]

    def send(self, data):
        """Sends whole frames. The client may close the connection meanwhile."""
        stdin, view = self.child.stdin, memoryview(data)
        with contextlib.suppress(OSError), self.lock:
            while view:
                view = view[stdin.write(view):]

    def close(self):
        self.is_open = False
        self.child.kill()
        self.child.wait()


class Side:
    """One client. @rid is its latest session. @connections has the latest connection of each session, by its rid."""

    def __init__(self, relay, role, name):
        self.relay = relay
        self.identity = f"g1:{'?od'[role]}:{name}"
        self.psk = forge.psk_of(relay.env, role, name).hex()
        self.rid, self.connections, self.tickets = None, {}, {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self.listener.accept()[:1], daemon=True).start()

    def _serve(self, client):
        port = harness.free_ports(1)
        child = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-quiet", "-nocert", "-tls1_3", "-psk", self.psk,
             "-psk_identity", self.identity, "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-alpn", "gotthard-r/1", "-num_tickets", "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        connection = Connection(self, child)
        harness.wait_until(lambda: harness.is_listening(port), "openssl s_server listens", step=0.005)
        with client, socket.create_connection(("127.0.0.1", port)) as tls:
            threading.Thread(target=connection.read, daemon=True).start()
            threading.Thread(target=forward, args=(tls, client), daemon=True).start()
            forward(client, tls)
        connection.close()

    def register(self, rid, connection):
        if rid not in self.connections:  # a late BYE registers for an earlier session
            self.rid = rid
        self.connections[rid] = connection

    def is_registered(self, rid):
        return rid in self.connections and self.connections[rid].is_open

    def send(self, data, rid=None):
        """Sends frames on the present connection of the session @rid, by default the latest one."""
        if connection := self.connections.get(rid or self.rid):
            connection.send(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.connections.values()):
            connection.close()


class PlayedRelay:
    """Honest until a test sends frames of its own with operator.send() and device.send()."""

    def __init__(self, env, operator="alice", device="GatewayOli"):
        self.env, self.lock = env, threading.Lock()
        self.waiting = {}  # ticket: the socket that has joined first
        self.n_joins = 0
        self.socks = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.data_port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        self.operator, self.device = Side(self, 1, operator), Side(self, 2, device)

    def other(self, side):
        return self.device if side is self.operator else self.operator

    def on_frame(self, connection, kind, body):
        side, rid = connection.side, body[:16]
        other = self.other(side)
        if kind == HELLO:
            connection.send(raw(WELCOME, struct.pack(">H16sIHI", 1, bytes(16), 15000, 64, 43200)))
        elif kind == RENDEZVOUS:
            side.register(rid, connection)
            is_up = other.is_registered(rid)
            connection.send(self.session(rid, is_up) + b"".join(side.tickets.pop(rid, [])))
            if is_up:
                other.send(raw(PEER, rid + b"\1\0"), rid)
        elif kind == OPEN:
            frame = ticket(rid, *struct.unpack(">II", body[16:24]))
            connection.send(frame)
            if other.is_registered(rid):
                other.send(frame, rid)
            else:
                other.tickets.setdefault(rid, []).append(frame)  # until it registers
        elif kind == STREAM_END:
            other.send(raw(kind, body), rid)
        elif kind == BYE:
            other.send(raw(kind, body), body[2:18])
        elif kind == PING:
            connection.send(raw(PONG, body))

    def session(self, rid, is_up, port=None):
        return raw(SESSION, rid + struct.pack(">HIB", self.data_port if port is None else port, 43200, is_up))

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socks.append(sock)
                threading.Thread(target=self._join, args=(sock,), daemon=True).start()

    def _join(self, sock):
        with contextlib.suppress(OSError):
            key = harness.receive_exactly(sock, 64)[8:]
            with self.lock:
                self.n_joins += 1
                first = self.waiting.pop(key, None)
                if not first:
                    self.waiting[key] = sock
            if not first:
                sock.sendall(RECEIPT)
                return
            for end in (first, sock):
                end.sendall(GREETING)
            for source, sink in ((first, sock), (sock, first)):
                threading.Thread(target=forward, args=(source, sink), daemon=True).start()

    def close(self):
        for side in (self.operator, self.device):
            side.close()
        for sock in [self.listener, *self.socks]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def forward(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for sock in (source, sink):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR if sock is source else socket.SHUT_WR)


def ticket(rid, stream, attempt, id_=None, segment=0):
    return raw(TICKET, rid + struct.pack(">II", stream, attempt) + (id_ or secrets.token_bytes(16)) + secrets.token_bytes(32) +
               struct.pack(">HH", 30, segment))
