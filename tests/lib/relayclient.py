# SPDX-License-Identifier: ISC
"""Peers of the relay alone. Unauthenticated peers are plain sockets; clients are relay-client, which sends on its control
connection exactly the requested frames. The fixtures `relay_of` and `relay` of conftest.py belong to it.
"""

import contextlib
import secrets
import select
import signal
import socket
import struct
import subprocess
import threading

import harness
from harness import LIMIT, receive_exactly

CLIENT = harness.BUILD / "subprojects" / "gotthard-relayd" / "tests" / "relay-client"
BYE, LOST, REPLACED, NEW_PROCESS, EXPIRED, LIMITED, NO_PORT, PROTOCOL, VERSION, TAKEN, NO_SESSION, SHUTDOWN = range(1, 13)
HUNG_UP, LIFETIME, IDLE, PAIRING, GRACE, SESSIONS, IDENTITY = range(14, 21)
WITHDRAWN = 24
OPERATOR, DEVICE = 1, 2
GREETING = b"GTJ1\x01\0\0\0"
RECEIPT = b"GTJ1\x01\1\0\0"
LENIENT = "per_source = 4096; preauth = 4096; "
RID = bytes(range(16))
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(241))


class Client:
    """A relay-client; its output is read in order, without the frames @unread, whose time no test can know."""

    def __init__(self, env, identity, hello=True, host="127.0.0.1", unread=(), **variables):
        self.env, self.unread = env, {"ping", "limit", "effect", *unread}
        self.child = subprocess.Popen(
            [CLIENT, host, str(env.relay_port), identity], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=harness.clean_environment(GOTTHARD_CRYPT_KEY=env.key, GOTTHARD_CRYPT_IV=env.iv, **variables))
        env.clients.append(self)
        self.lines, self.all = [], []
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        if hello:
            self.receive("connected")
            self.do("hello 1 1")
            self.receive("welcome")

    def _read(self):
        for line in self.child.stdout:
            with self.news:
                self.lines.append(line.strip())
                self.all.append(line.strip())
                self.news.notify_all()
        with self.news:
            self.lines.append("eof")
            self.news.notify_all()

    def do(self, *words):
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(" ".join(map(str, words)) + "\n")
            self.child.stdin.flush()

    def receive(self, word, limit=LIMIT, **wanted):
        """Reads the next line that is not one of the unread frames. It must have this word. Returns its fields."""
        with self.news:
            while True:
                while self.lines and self.lines[0].split()[0] in self.unread - {word}:
                    self.lines.pop(0)
                if self.lines:
                    break
                assert self.news.wait(limit), f"no {word} after {self.all[-20:]}"
            line = self.lines.pop(0)
        assert line.split()[0] == word, f"{line!r} instead of {word} {wanted} after {self.all[-20:]}"
        fields = dict(part.split("=", 1) for part in line.split()[1:] if "=" in part)
        for key, value in wanted.items():
            assert fields[key] == str(value), f"{line!r} instead of {key}={value}"
        return fields

    def register(self, rid, generation=1, hint=0, ttl=0, peer=None):
        self.do("rendezvous", rid, generation, hint, ttl)
        session = self.receive("session", rid=rid)
        if peer is not None:
            assert session["peer"] == str(int(peer))
        return int(session["port"])

    def ticket(self, rid, stream, attempt=1):
        """The ticket of a new attempt. A connection that has replaced another one may get the last ticket again before it."""
        self.do("open", rid, stream, attempt)
        while True:
            ticket = self.receive("ticket", rid=rid, stream=stream)
            if int(ticket["attempt"]) == attempt:
                return ticket
            assert int(ticket["attempt"]) < attempt, ticket

    def has_no_more_frames(self):
        """True if no other frame is received before the answer to a ping; any other frame fails the test."""
        n = secrets.randbits(60)
        self.do("ping", n)
        self.receive("pong", n=n)
        return True

    def kill(self):
        self.child.kill()
        self.child.wait(LIMIT)


def register_pair(env, rid=None, stream=1, names=("alice", "oli")):
    """Returns two clients in one session: operator, device, rid, port."""
    rid = rid or secrets.token_hex(16)
    operator, device = Client(env, f"g1:o:{names[0]}"), Client(env, f"g1:d:{names[1]}")
    port = operator.register(rid, peer=False)
    assert device.register(rid, peer=True) == port
    operator.receive("peer", rid=rid, up=1, reason=0)
    return operator, device, rid, port


def join_bytes(ticket, role, **changed):
    t = {**ticket, **changed}
    return (b"GTJ1" + bytes([1, role, 0, 0]) + struct.pack(">II", int(t["stream"]), int(t["attempt"])) +
            bytes.fromhex(t["id"]) + bytes.fromhex(t["secret"]))


def dial(port, source="127.0.0.1"):
    sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT, source_address=(source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def join(port, ticket, role, source="127.0.0.1"):
    sock = dial(port, source)
    sock.sendall(join_bytes(ticket, role))
    return sock


def receive_reply(sock):
    """The relay's reply to a JOIN; the side that joined first has a receipt before it."""
    first = receive_exactly(sock, 8)
    return receive_exactly(sock, 8) if first == RECEIPT else first


def joined(operator, device, rid, port, stream, attempt=1, ports=None):
    """Returns both sockets of a stream through the relay, joined."""
    ticket = operator.ticket(rid, stream, attempt)
    assert device.receive("ticket", rid=rid, stream=stream) == ticket
    ends = join(port, ticket, OPERATOR), join(ports or port, ticket, DEVICE)
    for end in ends:
        assert receive_reply(end) == GREETING
    return ends


def assert_closed_without_data(sock, limit=LIMIT):
    """The peer closes the socket without sending a byte."""
    sock.settimeout(limit)
    try:
        data = sock.recv(100)
    except (ConnectionResetError, BrokenPipeError):
        data = b""
    finally:
        sock.close()
    assert data == b"", data


def try_to_send(sock, data):
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(data)


def is_refused_at_once(sock):
    """Returns true if the peer closes the socket within a second, which is before any timeout of the relay."""
    with contextlib.suppress(ConnectionResetError):
        return select.select([sock], [], [], 1)[0] and sock.recv(1) == b""
    return True


def client_hello(env, identity="g1:o:alice", key=None):
    """The ClientHello of a client, in its record. It was sent to no relay. @key: None for the relay's key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = subprocess.Popen([CLIENT, "127.0.0.1", str(listener.getsockname()[1]), identity], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL,
                                 env=harness.clean_environment(GOTTHARD_CRYPT_KEY=key or env.key, GOTTHARD_CRYPT_IV=env.iv))
        listener.settimeout(LIMIT)
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(LIMIT)
            hello = receive_exactly(sock, 5)
            hello += receive_exactly(sock, int.from_bytes(hello[3:], "big"))
        child.kill()
        child.wait(LIMIT)
    return hello


def raw(kind, body, flags=0, length=None):
    return struct.pack(">BBH", kind, flags, len(body) if length is None else length) + body


def is_disconnected(client, code=PROTOCOL):
    client.receive("error", code=code)
    client.receive("closed")
    return True


def sessions_of(relay):
    """Returns the numbers of sessions in the relay's status."""
    count = relay.log().count("status sessions=")
    relay.send(signal.SIGUSR1)
    relay.wait_for("status sessions=", count=count + 1)
    return "sessions=" + relay.log().rsplit("status sessions=", 1)[1]
