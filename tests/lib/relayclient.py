# SPDX-License-Identifier: ISC
"""What speaks to the relay alone. Strangers are plain sockets; clients are relay-client, which says on its control
connection exactly what it is told. The fixtures `relay_of` and `relay` of conftest.py belong to it.
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
HUNG_UP = 14
OPERATOR, DEVICE = 1, 2
GREETING = b"GTJ1\x01\0\0\0"
LENIENT = "penalty_failed = \"0\"; penalty_timeout = \"0\"; per_source = 4096; preauth = 4096; preauth_drop_from = 4096; "
RID = bytes(range(16))
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(241))


class Client:
    """A relay-client; what it prints is read in order."""

    def __init__(self, world, identity, hello=True, host="127.0.0.1", **env):
        self.world = world
        self.child = subprocess.Popen(
            [CLIENT, host, str(world.relay_port), identity], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=harness.clean_environment(GOTTHARD_CRYPT_KEY=world.key, GOTTHARD_CRYPT_IV=world.iv, **env))
        world.clients.append(self)
        self.lines, self.all = [], []
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        if hello:
            self.hear("connected")
            self.do("hello 1 1")
            self.hear("welcome")

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

    def hear(self, word, limit=LIMIT, **wanted):
        """The next line but for pings must be this one; returns its fields."""
        with self.news:
            while True:
                while self.lines and self.lines[0].startswith("ping") and word != "ping":
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
        session = self.hear("session", rid=rid)
        if peer is not None:
            assert session["peer"] == str(int(peer))
        return int(session["port"])

    def ticket(self, rid, stream, attempt=1):
        self.do("open", rid, stream, attempt)
        return self.hear("ticket", rid=rid, stream=stream, attempt=attempt)

    def is_quiet(self):
        """Nothing but what was heard: a ping goes through, and its pong is next."""
        n = secrets.randbits(60)
        self.do("ping", n)
        self.hear("pong", n=n)
        return True

    def kill(self):
        self.child.kill()
        self.child.wait(LIMIT)


def pair_up(world, rid=None, stream=1, names=("alice", "oli")):
    """Two clients in one session: operator, device, rid, port."""
    rid = rid or secrets.token_hex(16)
    operator, device = Client(world, f"g1:o:{names[0]}"), Client(world, f"g1:d:{names[1]}")
    port = operator.register(rid, peer=False)
    assert device.register(rid, peer=True) == port
    operator.hear("peer", rid=rid, up=1, reason=0)
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


def joined(operator, device, rid, port, stream, attempt=1, ports=None):
    """A stream through the relay: both sockets, greeted."""
    ticket = operator.ticket(rid, stream, attempt)
    assert device.hear("ticket", rid=rid, stream=stream) == ticket
    ends = join(port, ticket, OPERATOR), join(ports or port, ticket, DEVICE)
    for end in ends:
        assert receive_exactly(end, 8) == GREETING
    return ends


def never_a_byte(sock, limit=LIMIT):
    """It is closed, and not one byte came before that."""
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
    """Closed without the relay having waited for anything."""
    with contextlib.suppress(ConnectionResetError):
        return select.select([sock], [], [], 1)[0] and sock.recv(1) == b""
    return True


def raw(kind, body, flags=0, length=None):
    return struct.pack(">BBH", kind, flags, len(body) if length is None else length) + body


def is_thrown_out(client, code=PROTOCOL):
    client.hear("error", code=code)
    client.hear("closed")
    return True


def sessions_of(relay):
    """What a status says about sessions."""
    count = relay.log().count("status sessions=")
    relay.send(signal.SIGUSR1)
    relay.wait_for("status sessions=", count=count + 1)
    return "sessions=" + relay.log().rsplit("status sessions=", 1)[1]
