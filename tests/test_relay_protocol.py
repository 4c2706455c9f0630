# SPDX-License-Identifier: ISC
"""The relay alone, against everything that may come to its ports.

Strangers are plain sockets, each class of them from a loopback address of its own so that penalties of one do
not fall on another. Clients are relay-client, which says on its control connection exactly what it is told.
"""

import contextlib
import ctypes
import os
import random
import re
import resource
import secrets
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from settings import effect

CLIENT = harness.BUILD / "subprojects" / "gotthard-relayd" / "tests" / "relay-client"
BYE, LOST, REPLACED, NEW_PROCESS, EXPIRED, LIMITED, NO_PORT, PROTOCOL, VERSION, TAKEN, NO_SESSION, SHUTDOWN = range(1, 13)
HUNG_UP = 14
OPERATOR, DEVICE = 1, 2
GREETING = b"GTJ1\x01\0\0\0"
LENIENT = "penalty_failed = \"0\"; penalty_timeout = \"0\"; per_source = 4096; preauth = 4096; preauth_drop_from = 4096; "


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


@pytest.fixture
def relay_of(world):
    """Starts a relay with such limits; the world then has clients."""
    world.clients = []

    def start(limits="", more="", preexec=None, **env):
        folder = world.config_folder(relayd=f"limits = {{ {limits} }}; {more}")
        relay = world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder, **env), preexec=preexec)
        relay.folder_of_config = folder
        return relay

    yield start
    for client in world.clients:
        client.kill()
    for process in world.processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)  # at once


@pytest.fixture
def relay(relay_of):
    return relay_of()


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


# --- strangers ------------------------------------------------------------------------------------

CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(241))
STRANGE = {
    "one-byte": b"G",
    "random": secrets.token_bytes(64),
    "random-much": b"\x01" + secrets.token_bytes(1 << 20),
    "zeros": bytes(64),
    "http": b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "rdp": bytes.fromhex("0300002b26e00000000000436f6f6b69653a206d737473686173683d"),
    "socks": bytes.fromhex("050100"),
    "client-hello": CLIENT_HELLO,
    "join-of-another-version": b"GTJ1\x02\x01\0\0" + bytes(56),
    "join-of-no-role": b"GTJ1\x01\x03\0\0" + bytes(56),
    "join-with-dirt": b"GTJ1\x01\x01\0\x01" + bytes(56),
    "join-of-nothing": b"GTJ1\x01\x01\0\0" + bytes(56),
    "join-and-a-mebibyte": b"GTJ1\x01\x01\0\0" + b"\x01" * ((1 << 20) + 56),
}


@pytest.mark.parametrize("where", ["main", "data"])
def test_strangers_hear_nothing(world, relay_of, where):
    relay = relay_of(LENIENT + 'join = "500ms"; handshake = "1s";')
    operator, _, _, port = pair_up(world)
    port = world.relay_port if where == "main" else port
    for name, data in STRANGE.items():
        sock = dial(port)
        try_to_send(sock, data)
        never_a_byte(sock)
    never_a_byte(dial(port))  # silence
    sock = dial(port)
    sock.shutdown(socket.SHUT_WR)
    never_a_byte(sock)
    assert operator.is_quiet() and relay.is_running()


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_truncation_of_a_join(world, relay_of, where):
    """A good ticket, cut at every byte: nothing comes back, and the ticket is still good."""
    relay_of(LENIENT + 'join = "2s";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    at = world.relay_port if where == "main" else port
    for n in range(64):
        sock = dial(at)
        sock.sendall(join_bytes(ticket, OPERATOR)[:n])
        sock.shutdown(socket.SHUT_WR)
        never_a_byte(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_changed_byte_of_a_join(world, relay_of, where):
    relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    at = world.relay_port if where == "main" else port
    good = join_bytes(ticket, OPERATOR)
    for n in range(64):
        sock = dial(at)
        changed = bytearray(good)
        changed[n] ^= 1 << random.randrange(8)
        if n == 5:
            changed[n] = 0
        if n == 0 and where == "main":
            changed[n] = 0x47 ^ 0x20
        sock.sendall(changed)
        never_a_byte(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2


def test_tickets_that_are_no_good_here(world, relay_of):
    relay_of(LENIENT + 'ticket = "1s";')
    operator, device, rid, port = pair_up(world)
    _, _, _, other_port = pair_up(world, names=("bob", "eli"))
    ends = joined(operator, device, rid, port, 1)
    used = operator.ticket(rid, 2)
    device.hear("ticket")
    first = join(port, used, OPERATOR)
    never_a_byte(join(port, used, OPERATOR))        # its own half is used
    never_a_byte(join(other_port, used, DEVICE))    # another session's port
    second = join(port, used, DEVICE)
    assert receive_exactly(first, 8) == receive_exactly(second, 8) == GREETING
    never_a_byte(join(port, used, DEVICE))          # both halves are used
    expiring = operator.ticket(rid, 3)
    device.hear("ticket")
    for client in (operator, device):
        client.hear("end", stream=3, code=EXPIRED)
    never_a_byte(join(port, expiring, OPERATOR))
    never_a_byte(join(world.relay_port, expiring, DEVICE))
    ends[0].sendall(b"untouched")
    assert receive_exactly(ends[1], 9) == b"untouched"


def test_join_in_crumbs(world, relay_of):
    """Byte for byte is good as long as it is quick; too slow is cut, however lively."""
    relay_of(LENIENT + 'join = "1s";')
    operator, device, rid, port = pair_up(world)
    for at in (port, world.relay_port):
        ticket = operator.ticket(rid, at)
        device.hear("ticket")
        ends = dial(at), dial(at)
        for n in range(64):
            for end, role in zip(ends, (OPERATOR, DEVICE)):
                end.sendall(join_bytes(ticket, role)[n:n + 1])
        assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
        slow = dial(at)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for n in range(63):
                slow.sendall(join_bytes(ticket, OPERATOR)[n:n + 1])
                if select.select([slow], [], [], 0.1)[0]:
                    break
        never_a_byte(slow)
        assert time.monotonic() - begun < 5


def test_the_second_join_has_its_deadline(world, relay_of):
    relay_of(LENIENT + 'second_join = "300ms";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    never_a_byte(join(port, ticket, OPERATOR))
    for client in (operator, device):
        client.hear("end", stream=1, code=EXPIRED)
    never_a_byte(join(port, ticket, DEVICE))
    joined(operator, device, rid, port, 1, attempt=2)


@pytest.mark.parametrize("how", ["ended", "replaced", "expired", "over"])
def test_who_is_late_is_no_offender(world, relay_of, how):
    """A JOIN whose ticket has just ended hears nothing, and its source goes on being heard. (One without a ticket is shut out.)"""
    relay_of('penalty_failed = "20s"; second_join = "300ms"; ticket = "1s";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    if how == "ended":
        operator.do(f"end {rid} 1 1 1")
        device.hear("end", stream=1)
    elif how == "replaced":
        operator.ticket(rid, 1, 2)
        device.hear("ticket", attempt=2)
    elif how == "expired":
        device.hear("end", stream=1, code=EXPIRED)
    else:
        operator.do(f"bye 1 {rid}")
        device.hear("peer", up=0)
        device.hear("bye")
    source = "127.0.0.68"
    for _ in range(3):
        never_a_byte(join(world.relay_port, ticket, DEVICE, source))
    assert not is_refused_at_once(dial(world.relay_port, source))
    never_a_byte(join(world.relay_port, {**ticket, "secret": "00" * 32}, DEVICE, source))
    assert is_refused_at_once(dial(world.relay_port, source))


def test_penalties_fall_on_their_source_alone(world, relay):
    """A failed JOIN shuts its source out; another source, and a good ticket from the same one, are not touched."""
    operator, device, rid, port = pair_up(world)
    for at in (world.relay_port, port):
        sock = dial(at, "127.0.0.66")
        sock.sendall(b"GTJ1\x01\x01\0\0" + bytes(56))
        never_a_byte(sock)
        for door in (world.relay_port, port):
            shut_out = dial(door, "127.0.0.66")
            try_to_send(shut_out, b"GTJ1")
            assert is_refused_at_once(shut_out)
        assert not is_refused_at_once(dial(world.relay_port, "127.0.0.67"))
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    ends = join(port, ticket, OPERATOR, "127.0.0.66"), join(port, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
    assert "penalty" in relay.log()


def test_flood_of_silent_connections(world, relay):
    """At most 16 of one source and 256 in all are held; a tunnel does not notice, and all of it is given back."""
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    flood = [dial(world.relay_port, "127.0.0.2") for _ in range(100)]
    wait_until(lambda: harness.descriptors(relay.pid) <= before + 17, "one source has its limit")
    for n in range(400):
        flood.append(dial(world.relay_port, f"127.0.{1 + n // 100}.{1 + n % 100}"))
        ends[0].sendall(b"x")
        assert receive_exactly(ends[1], 1) == b"x"
    held = harness.descriptors(relay.pid) - before
    assert 64 <= held <= 257, held
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 8192
    for sock in flood:
        sock.close()
    wait_until(lambda: harness.descriptors(relay.pid) <= before + 2, "descriptors are back")
    log = relay.log()
    assert log.count("refused") <= 40, "refusals are rate-limited"
    Client(world, "g1:o:carol")


def test_port_scan(world, relay):
    """Only sessions have open ports, and those say nothing."""
    _, _, _, port = pair_up(world)
    is_open = []
    for number in range(world.relay_ports, world.relay_ports + world.n_relay_ports):
        with contextlib.suppress(ConnectionRefusedError):
            is_open.append(number)
            sock = dial(number, "127.0.0.9")
            sock.shutdown(socket.SHUT_WR)
            never_a_byte(sock)
            continue
        is_open.pop()
    assert is_open == [port]


def test_tls_without_our_key(world, relay_of):
    """Any TLS client that offers no PSK hears nothing at all; a wrong or unknown one gets one alert, the same for both."""
    relay_of(LENIENT)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        sock = dial(world.relay_port)
        sock.sendall(outgoing.read())
        never_a_byte(sock)
    reasons = set()
    for identity, key in (("g1:o:alice", secrets.token_hex(32)), ("g1:x:alice", world.key), ("alice", world.key),
                          ("g1:d:" + "x" * 129, world.key), ("g1:o:a/b", world.key)):
        client = Client(world, identity, hello=False)
        client.kill()
        world_key, world.key = world.key, key
        client = Client(world, identity, hello=False)
        world.key = world_key
        reasons.add(client.hear("closed")["reason"])
    assert len(reasons) == 1, reasons


def test_keys_are_changed_without_a_cut(world, relay_of):
    """While the relay holds two keys either is good; when the old one goes, the new one stays."""
    old, new = secrets.token_hex(32), world.key
    relay = relay_of(LENIENT, f'crypt = {{ key_previous = "{old}"; }};')

    def connects(key):
        world.key = key
        client = Client(world, "g1:o:alice", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    assert connects(new) and connects(old) and not connects(secrets.token_hex(32))
    (relay.folder_of_config / "relayd.conf").write_text(f"limits = {{ {LENIENT} }};")
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    assert connects(new) and not connects(old)


# --- control frames -------------------------------------------------------------------------------

RID = bytes(range(16))
BODIES = {  # type: a right body (of a client's frames), or one of the right length
    0x01: struct.pack(">HHH", 1, 1, 2) + b"me", 0x02: bytes(30), 0x10: RID + struct.pack(">IHI", 1, 0, 0),
    0x11: RID + bytes(7), 0x12: RID + bytes(2), 0x20: RID + struct.pack(">II", 1, 1), 0x21: RID + bytes(58),
    0x22: RID + struct.pack(">IIHQQ", 1, 1, 0, 0, 0), 0x30: bytes(8), 0x31: bytes(8), 0x3e: bytes(8),
    0x3f: struct.pack(">H", 0) + RID, 0x40: struct.pack(">H", 0) + RID, 0x80: RID + struct.pack(">IIB", 1, 1, 0),
}


def raw(kind, body, flags=0, length=None):
    return struct.pack(">BBH", kind, flags, len(body) if length is None else length) + body


def is_thrown_out(client, code=PROTOCOL):
    client.hear("error", code=code)
    client.hear("closed")
    return True


def bad_frames():
    for kind, body in BODIES.items():
        yield f"{kind:#x} empty", raw(kind, b"")
        yield f"{kind:#x} short", raw(kind, body[:-1])
        yield f"{kind:#x} long", raw(kind, body + b"\0")
        yield f"{kind:#x} 1024", raw(kind, body.ljust(1024, b"\0"))
        yield f"{kind:#x} 1025", raw(kind, body.ljust(1025, b"\0"))
        yield f"{kind:#x} 65535", raw(kind, body, length=65535)
        yield f"{kind:#x} flags", raw(kind, body, flags=1)
    yield "0x7f", raw(0x7F, b"")
    yield "0x00", raw(0, b"")
    yield "unknown, too long", raw(0x81, bytes(1025))
    yield "unknown, flags", raw(0x81, b"", flags=0x80)
    yield "strings lie", raw(0x01, struct.pack(">HHH", 1, 1, 3) + b"me")
    yield "strings overlong", raw(0x01, struct.pack(">HHH", 1, 1, 65) + b"m" * 65)
    yield "NUL in a string", raw(0x01, struct.pack(">HHH", 1, 1, 2) + b"m\0")
    yield "open stream 0", raw(0x20, RID + struct.pack(">II", 0, 1))
    yield "spare that is neither", raw(0x80, RID + struct.pack(">IIB", 1, 1, 2))
    yield "open attempt 0", raw(0x20, RID + struct.pack(">II", 1, 0))


@pytest.mark.parametrize("when", ["before-hello", "after-hello"])
def test_bad_frames(world, relay, when):
    witness = Client(world, "g1:o:witness")
    for _, frame in bad_frames():
        client = Client(world, "g1:o:mallory", hello=when == "after-hello")
        if when == "before-hello":
            client.hear("connected")
        client.do("raw", frame.hex())
        assert is_thrown_out(client)
        client.kill()
    assert witness.is_quiet() and relay.is_running()


def test_order(world, relay):
    def fresh(hello=True):
        client = Client(world, "g1:o:mallory", hello=hello)
        if not hello:
            client.hear("connected")
        return client

    for kind in BODIES:  # only HELLO may be first
        client = fresh(hello=False)
        client.do("raw", raw(kind, BODIES[kind]).hex())
        if kind == 0x01:
            client.hear("welcome")
        else:
            assert is_thrown_out(client)
    for kind in (0x01, 0x02, 0x11, 0x12, 0x21, 0x3e):  # HELLO twice, and what only the relay says
        client = fresh()
        body = BODIES[kind] if kind != 0x21 else RID + struct.pack(">II", 1, 1) + bytes(50)
        if kind == 0x02:
            body = struct.pack(">H16sIHI", 1, bytes(16), 0, 0, 0)
        client.do("raw", raw(kind, body).hex())
        assert is_thrown_out(client)
    for versions in ((2, 2), (2, 65535)):
        client = fresh(hello=False)
        client.do("hello", *versions)
        assert is_thrown_out(client, VERSION)
    for versions in ((0, 1), (1, 0)):
        client = fresh(hello=False)
        client.do("hello", *versions)
        assert is_thrown_out(client)
    client = fresh(hello=False)
    client.do("hello", 1, 65535)
    assert client.hear("welcome")["version"] == "1"
    client = fresh()  # after BYE nothing is heard
    client.do("bye", 1, "0" * 32)
    client.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    client.hear("closed")


def test_hello_has_its_deadline(world, relay_of):
    relay_of('hello = "300ms"; half = "300ms";')
    client = Client(world, "g1:o:alice", hello=False)
    client.hear("connected")
    client.hear("closed")
    client = Client(world, "g1:o:alice")  # and so has RENDEZVOUS
    client.hear("bye", code=EXPIRED)
    client.hear("closed")


def test_framing(world, relay):
    """Records and frames have nothing to do with each other; what is unknown and may be, is skipped."""
    client = Client(world, "g1:o:alice")
    for byte in raw(0x30, struct.pack(">Q", 7)):
        client.do("raw", f"{byte:02x}")
    client.hear("pong", n=7)
    client.do("repeat 4000", raw(0x30, struct.pack(">Q", 9)).hex())
    for _ in range(4000):
        client.hear("pong", n=9)
    for kind in (0x81, 0xFF):
        client.do("raw", (raw(kind, b"") + raw(kind, bytes(1024))).hex())
    client.do("raw", raw(0x81, bytes(1000)).hex() * 15 + raw(0x30, struct.pack(">Q", 8)).hex())
    client.hear("pong", n=8)
    assert client.is_quiet()


def test_ping_flood_without_reading(world, relay):
    """Whoever does not read is not read: nothing grows, nobody else waits."""
    witness = Client(world, "g1:o:witness")
    rss = harness.rss_kib(relay.pid)
    deaf = Client(world, "g1:o:mallory")
    deaf.do("deaf")
    for _ in range(5):
        deaf.do("repeat 200000", raw(0x30, bytes(8)).hex())
    for _ in range(20):
        begun = time.monotonic()
        assert witness.is_quiet()
        assert time.monotonic() - begun < 2
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 4096


def test_much_in_one_turn(world, relay_of):
    """More news than a queue holds, all at once: whoever reads it is not the one to be closed."""
    relay_of("streams = 1024; tickets = 1024; frames = 100000;")
    operator, device, rid, _ = pair_up(world)
    n = 1000
    for stream in range(1, n + 1):
        operator.do("open", rid, stream, 1)
    for client in (operator, device):
        for stream in range(1, n + 1):
            client.hear("ticket", rid=rid, stream=stream)
    ends = (raw(0x22, bytes.fromhex(rid) + struct.pack(">IIHQQ", stream, 1, 1, 0, 0)) for stream in range(1, n + 1))
    device.do("raw", b"".join(ends).hex())
    for stream in range(1, n + 1):
        operator.hear("end", rid=rid, stream=stream)
    assert operator.is_quiet()


def test_the_last_of_a_turn_is_heard(world, relay_of):
    """A turn reads so many records and no more: the last of them may be the last for now, and nothing else would wake
    the relay for it."""
    relay_of("frames = 100000;")
    client = Client(world, "g1:o:alice")
    for n in range(1, 130):  # twice the records of a turn, which are 64
        client.do(f"burst {n}", raw(0x30, struct.pack(">Q", n)).hex())
        for _ in range(n):
            client.hear("pong", n=n)


def test_flood_before_hello(world, relay_of):
    """Frames that are skipped are no way around HELLO."""
    relay_of("frames = 10;")
    client = Client(world, "g1:o:alice", hello=False)
    client.hear("connected")
    client.do("repeat 100", raw(0x81, bytes(1000)).hex())
    client.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    client.hear("error", code=PROTOCOL)


def test_frame_flood_is_slowed(world, relay_of):
    relay_of("frames = 100;")
    client = Client(world, "g1:o:alice")
    begun = time.monotonic()
    client.do("repeat 500", raw(0x30, bytes(8)).hex())
    for _ in range(500):
        client.hear("pong")
    assert time.monotonic() - begun > 2  # 200 at once, 100 a second then
    assert Client(world, "g1:o:bob").is_quiet()


# --- sessions -------------------------------------------------------------------------------------


def test_role_comes_from_the_identity(world, relay):
    operator, device, rid, _ = pair_up(world)
    device.do("open", rid, 1, 1)
    assert is_thrown_out(device)
    operator.hear("peer", rid=rid, up=0, reason=LOST)
    mallory = Client(world, "g1:d:mallory")  # opens in a session that is not even his
    mallory.do("open", rid, 1, 1)
    assert is_thrown_out(mallory)
    assert operator.is_quiet()


def test_sessions_of_others(world, relay):
    operator, device, rid, _ = pair_up(world)
    mallory, trudy = Client(world, "g1:o:mallory"), Client(world, "g1:d:trudy")
    for client in (mallory, trudy):
        client.do("rendezvous", rid, 99, 0, 0)
        client.hear("error", code=TAKEN, rid=rid)
        client.do("bye", 1, rid)
        client.hear("closed")
    mallory = Client(world, "g1:o:mallory")
    mallory.do("open", rid, 1, 1)
    mallory.hear("error", code=NO_SESSION, rid=rid)
    mallory.do("end", rid, 1, 1, 0)
    mallory.do("open", secrets.token_hex(16), 1, 1)
    mallory.hear("error", code=NO_SESSION)
    assert mallory.is_quiet() and operator.is_quiet() and device.is_quiet()


def test_greater_generation_replaces(world, relay):
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    late = Client(world, "g1:o:alice")
    late.do("rendezvous", rid, 1, 0, 0)
    late.hear("error", code=TAKEN)
    fresh = Client(world, "g1:o:alice")
    assert fresh.register(rid, generation=2, peer=True) == port
    operator.hear("bye", code=REPLACED, rid=rid)
    device.hear("peer", rid=rid, up=1, reason=REPLACED)
    operator.hear("closed")
    ends[0].sendall(b"goes on")
    assert receive_exactly(ends[1], 7) == b"goes on"
    joined(fresh, device, rid, port, 2)


def test_replaced_in_one_session_only(world, relay):
    """A connection that has another session stays for that."""
    operator, device, rid, port = pair_up(world)
    other = secrets.token_hex(16)
    operator.register(other)
    fresh = Client(world, "g1:o:alice")
    assert fresh.register(rid, generation=2, peer=True) == port
    operator.hear("bye", code=REPLACED, rid=rid)
    operator.do("open", rid, 7, 1)
    operator.hear("error", code=NO_SESSION)
    operator.do("open", other, 1, 1)
    operator.hear("ticket", rid=other)
    assert operator.is_quiet()


class Corpse:
    """The socket of a client that was killed, held open: half-open, as the relay sees it."""

    PIDFD_GETFD = 438

    def __init__(self, client):
        pid = client.child.pid
        number, = [n for n in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{n}").startswith("socket:")]
        pidfd = os.pidfd_open(pid)
        fd = ctypes.CDLL(None, use_errno=True).syscall(self.PIDFD_GETFD, pidfd, int(number), 0)
        os.close(pidfd)
        if fd < 0:
            pytest.skip(f"sockets of a child are not to be had: {os.strerror(ctypes.get_errno())}")
        self.socket = socket.socket(fileno=fd)
        client.kill()
        client.world.clients.remove(client)


@pytest.mark.parametrize("n", [150, pytest.param(1000, marks=pytest.mark.soak)])
def test_f09_half_open_connections_are_replaced(world, relay_of, n):
    """Links with a greater generation, data connections with a greater attempt: the old ones are closed by the relay, although
    nobody ever closes them over there."""
    relay = relay_of("sessions_per_identity = 64; dead_after = \"1h\";")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    operator, device, rid, port = pair_up(world)
    corpses, pairs = [], [joined(operator, device, rid, port, 1)]
    before = harness.descriptors(relay.pid)
    for i in range(2, n + 2):
        if i == n // 3:  # they linger for a second: there are some at any time
            rss = harness.rss_kib(relay.pid)
        corpses.append(Corpse(operator))
        operator = Client(world, "g1:o:alice")
        assert operator.register(rid, generation=i, peer=True) == port
        device.hear("peer", rid=rid, up=1, reason=REPLACED)
        pairs.append(joined(operator, device, rid, port, 1, attempt=i))
    wait_until(lambda: harness.descriptors(relay.pid) <= before, f"{before} descriptors again")
    assert harness.SANITIZER != "none" or harness.rss_kib(relay.pid) < rss + 4096
    assert relay.is_running() and sessions_of(relay).startswith("sessions=1 ")
    pairs[-1][0].sendall(b"the last one works")
    assert receive_exactly(pairs[-1][1], 18) == b"the last one works"
    for corpse in corpses:
        corpse.socket.close()


def test_killed_client_is_shown_and_may_come_back(world, relay):
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    device.kill()
    operator.hear("peer", rid=rid, up=0, reason=HUNG_UP)
    ends[0].sendall(b"its data connection lives")
    assert receive_exactly(ends[1], 25) == b"its data connection lives"
    back = Client(world, "g1:d:oli")
    assert back.register(rid, generation=2, peer=True) == port
    operator.hear("peer", rid=rid, up=1, reason=0)
    back.kill()
    operator.hear("peer", rid=rid, up=0, reason=HUNG_UP)
    amnesiac = Client(world, "g1:d:oli")
    amnesiac.register(rid, generation=1, peer=True)
    operator.hear("peer", rid=rid, up=1, reason=NEW_PROCESS)


def test_who_hung_up_after_a_silence_is_lost(world, relay_of):
    """A proxy on the way may do that to somebody who cannot be reached; a killed process was well a moment ago."""
    relay_of('heartbeat = "300ms";')
    operator, device, rid, _ = pair_up(world)
    begun = time.monotonic()
    wait_until(lambda: operator.is_quiet() and time.monotonic() - begun > 0.8, "a silence", step=0.1)
    device.kill()
    operator.hear("peer", rid=rid, up=0, reason=LOST)


def test_grace_ends(world, relay_of):
    relay_of('grace = "300ms";')
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    device.kill()
    operator.hear("peer", up=0, reason=HUNG_UP)
    operator.hear("bye", code=EXPIRED, rid=rid)
    for end in ends:
        never_a_byte(end)


def test_half_ends(world, relay_of):
    relay_of('half = "300ms";')
    operator = Client(world, "g1:o:alice")
    rid = secrets.token_hex(16)
    operator.register(rid)
    operator.hear("bye", code=EXPIRED, rid=rid)


def test_lifetime_and_idleness(world, relay_of):
    relay_of('idle = "2s";')
    operator, device = Client(world, "g1:o:alice"), Client(world, "g1:d:oli")
    rid = secrets.token_hex(16)
    port = operator.register(rid, ttl=4)
    device.register(rid, ttl=3)
    operator.hear("peer", up=1)
    held = joined(operator, device, rid, port, 1)  # a stream: not idle
    begun = time.monotonic()
    for client in (operator, device):
        client.hear("bye", code=EXPIRED, rid=rid)
    assert 2.3 < time.monotonic() - begun < 10  # the shorter wish
    for end in held:
        never_a_byte(end)
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    for end in ends:
        end.close()
    for client in (operator, device):
        client.hear("bye", code=EXPIRED, rid=rid)


def test_a_spare_is_no_reason_to_keep_a_session(world, relay_of):
    relay = relay_of('idle = "1500ms";')
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    operator.do("spare", rid, 1, 1, 1)
    operator.do("spare", rid, 77, 1, 1)  # of another stream, of another attempt: nothing
    operator.do("spare", rid, 1, 9, 0)
    assert operator.is_quiet()
    operator.do("spare", rid, 1, 1, 0)  # bound: it is one
    operator.is_quiet()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3, "longer than idle")
    operator.do("spare", rid, 1, 1, 1)
    for client in (operator, device):
        client.hear("bye", code=EXPIRED, rid=rid)
    for end in held:
        never_a_byte(end)
    relay.wait_for("ended operator=alice device=oli .* streams=0 ")


def test_who_was_a_spare_is_forgotten_with_the_link(world, relay_of):
    """What the operator said last may be lost: better a session too long than a stream cut."""
    relay_of('idle = "1s";')
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    operator.do("spare", rid, 1, 1, 1)
    again = Client(world, "g1:o:alice")
    again.register(rid, generation=2)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2.5, "longer than idle")
    assert again.is_quiet()
    held[0].sendall(b"x")
    assert receive_exactly(held[1], 1) == b"x"


def test_only_an_operator_has_spares(world, relay):
    operator, device, rid, _ = pair_up(world)
    device.do("spare", rid, 1, 1, 1)
    assert is_thrown_out(device)


def test_bye_ends_it_for_both(world, relay):
    for who in (0, 1):
        operator, device, rid, port = pair_up(world)
        ends = joined(operator, device, rid, port, 1)
        polite, other = (operator, device) if who == 0 else (device, operator)
        polite.do("bye", 1, rid)
        polite.hear("closed", reason="closed")
        other.hear("peer", rid=rid, up=0, reason=BYE)
        other.hear("bye", code=BYE, rid=rid)
        for end in ends:
            never_a_byte(end)
        wait_until(lambda p=port: not harness.can_connect(p), "its port is shut")


@pytest.mark.parametrize("code, heard", [(BYE, BYE), (NEW_PROCESS, NEW_PROCESS), (EXPIRED, BYE), (77, BYE)])
def test_a_goodbye_is_told_to_whoever_comes_back(world, relay, code, heard):
    operator, device, rid, _ = pair_up(world)
    device.kill()
    operator.hear("peer", rid=rid, up=0, reason=HUNG_UP)
    operator.do("bye", code, rid)
    operator.hear("closed", reason="closed")
    for identity in ("g1:d:oli", "g1:o:alice"):
        back = Client(world, identity)
        back.do("rendezvous", rid, 2, 0, 0)
        back.hear("bye", code=heard, rid=rid)
        assert back.is_quiet()
        back.register(secrets.token_hex(16))


def test_a_goodbye_is_forgotten_after_grace(world, relay_of):
    relay_of('grace = "300ms";')
    operator, _, rid, _ = pair_up(world)
    operator.do("bye", BYE, rid)
    operator.hear("closed", reason="closed")
    back = Client(world, "g1:o:alice")

    def is_forgotten():
        back.do("rendezvous", rid, 2, 0, 0)
        with back.news:
            assert back.news.wait_for(lambda: back.lines, LIMIT)
            return back.lines.pop(0).startswith("session")

    wait_until(is_forgotten, "it is a new session", limit=10)


def test_an_end_that_is_no_goodbye_is_not_remembered(world, relay_of):
    relay_of('grace = "300ms";')
    operator, device, rid, _ = pair_up(world)
    device.kill()
    operator.hear("peer", rid=rid, up=0, reason=HUNG_UP)
    operator.hear("bye", code=EXPIRED, rid=rid)
    Client(world, "g1:d:oli").register(rid, generation=2, peer=False)


def test_generation_0_is_a_new_process_though_the_old_is_not_missed_yet(world, relay):
    operator, device, rid, _ = pair_up(world)
    reborn = Client(world, "g1:d:oli")
    reborn.register(rid, generation=0, peer=True)
    device.hear("bye", code=REPLACED, rid=rid)
    operator.hear("peer", rid=rid, up=1, reason=NEW_PROCESS)
    reborn.do("bye", NEW_PROCESS, rid)
    operator.hear("peer", rid=rid, up=0, reason=NEW_PROCESS)
    operator.hear("bye", code=NEW_PROCESS, rid=rid)
    mallory = Client(world, "g1:d:eli")
    _, _, other, _ = pair_up(world, names=("bob", "ule"))
    mallory.do("rendezvous", other, 0, 0, 0)
    mallory.hear("error", code=TAKEN)


def test_sessions_of_one_identity_are_limited(world, relay_of):
    relay_of("sessions_per_identity = 3;")
    alice = Client(world, "g1:o:alice")
    rids = [secrets.token_hex(16) for _ in range(4)]
    for rid in rids[:3]:
        alice.register(rid)
    alice.do("rendezvous", rids[3], 1, 0, 0)
    alice.hear("error", code=LIMITED, rid=rids[3])
    again = Client(world, "g1:o:alice")  # the limit is the identity's, not the connection's
    again.do("rendezvous", rids[3], 1, 0, 0)
    again.hear("error", code=LIMITED)
    Client(world, "g1:d:alice").register(rids[3])  # a device of that name is somebody else
    alice.do("bye", 1, rids[0])
    assert alice.is_quiet()
    again.register(secrets.token_hex(16))


def test_connections_of_one_identity_are_limited(world, relay_of):
    relay_of(LENIENT + "sessions_per_identity = 1;")
    for _ in range(4):
        Client(world, "g1:o:alice")
    many = Client(world, "g1:o:alice", hello=False)
    many.hear("connected")
    many.do("hello 1 1")
    assert is_thrown_out(many, LIMITED)
    Client(world, "g1:d:alice")


@pytest.mark.parametrize("n_granted", [5, 3])
def test_session_storm_is_slowed(world, relay_of, n_granted):
    """Whoever opens session after session does so ten times a second, refused or not; others are served meanwhile."""
    relay_of(f"sessions_per_identity = {100 if n_granted == 5 else n_granted}; frames = 100;", 'server = { ports_rest = "0"; };',
             GOTTHARD_SERVER_PORTS_TO=world.relay_ports + 4)
    alice, bob = Client(world, "g1:o:alice"), Client(world, "g1:o:bob")
    begun = time.monotonic()
    for _ in range(50):
        alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    for n in range(50):
        alice.hear("session" if n < n_granted else "error")
        if n == 30:
            assert bob.is_quiet()
    assert time.monotonic() - begun > 2  # 20 at once, ten a second then


def test_range_used_up_and_ports_of_others(world, relay_of):
    """Ports that others hold are skipped; when there is none left the client is told, and told apart."""
    blocked = socket.create_server(("127.0.0.1", world.relay_ports + 1))
    relay = relay_of("sessions_per_identity = 50;", 'server = { ports_rest = "200ms"; };',
                     GOTTHARD_SERVER_PORTS_TO=world.relay_ports + 3)
    alice = Client(world, "g1:o:alice")
    rids = [secrets.token_hex(16) for _ in range(4)]
    ports = [alice.register(rid) for rid in rids[:3]]
    assert sorted(ports) == [world.relay_ports + n for n in (0, 2, 3)]
    alice.do("rendezvous", rids[3], 1, 0, 0)
    alice.hear("error", code=NO_PORT, rid=rids[3])
    relay.wait_for(f"all ports {world.relay_ports} to {world.relay_ports + 3} are taken")
    alice.do("bye", 1, rids[1])

    def has_one():
        alice.do("rendezvous", rids[3], 1, 0, 0)
        with alice.news:
            assert alice.news.wait_for(lambda: alice.lines, LIMIT)
            line = alice.lines.pop(0)
        return line.startswith("session") and f"port={ports[1]}" in line

    wait_until(has_one, "the port has rested", step=0.1)
    blocked.close()


def test_hint_is_honoured(world, relay):
    alice = Client(world, "g1:o:alice")
    assert alice.register(secrets.token_hex(16), hint=world.relay_ports + 7) == world.relay_ports + 7
    for hint in (world.relay_ports + 7, world.relay_port, 1, 65535):
        assert alice.register(secrets.token_hex(16), hint=hint) not in (hint, world.relay_ports + 7)


# --- streams --------------------------------------------------------------------------------------


def test_one_that_leaves_makes_room(world, relay_of):
    """Who has seen the end of one of his 64 asks for the next at once, while its pair is still ending here."""
    relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    ends = [joined(operator, device, rid, port, stream) for stream in range(1, 65)]
    operator.do("open", rid, 65, 1)
    operator.hear("end", stream=65, code=LIMITED)
    device.do("end", rid, 7, 1, 0)
    operator.hear("end", stream=7)
    ends.append(joined(operator, device, rid, port, 66))
    operator.do("open", rid, 67, 1)
    operator.hear("end", stream=67, code=LIMITED)
    for pair in ends:
        pair[0].sendall(b"x")
        assert pair[1].recv(1) == b"x"
        for end in pair:
            end.close()


def test_open_limits(world, relay_of):
    """64 streams live, 16 tickets out; the others wait for their turn, the 65th is refused."""
    relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    for stream in range(1, 66):
        operator.do("open", rid, stream, 1)
    tickets = [operator.hear("ticket", stream=n) for n in range(1, 17)]
    operator.hear("end", stream=65, code=LIMITED)
    assert operator.is_quiet()
    for n in range(1, 17):
        device.hear("ticket", stream=n)
    ends = []
    for n in range(48):  # each ticket that is used lets one more out
        ends.append((join(port, tickets[n], OPERATOR), join(port, tickets[n], DEVICE)))
        tickets.append(operator.hear("ticket", stream=17 + n))
        assert device.hear("ticket") == tickets[-1]
    ends.append((join(port, tickets[48], OPERATOR), join(port, tickets[48], DEVICE)))
    for end in ends[0]:
        assert receive_exactly(end, 8) == GREETING
        end.close()
    wait_until(lambda: opens(operator, device, rid, 65), "an ended stream makes room")


def opens(operator, device, rid, stream):
    opens.attempt = getattr(opens, "attempt", 1) + 1
    operator.do("open", rid, stream, opens.attempt)
    with operator.news:
        assert operator.news.wait_for(lambda: operator.lines, LIMIT)
        line = operator.lines.pop(0)
    return line.startswith("ticket")


def test_attempts_only_grow(world, relay):
    for attempts in ((1, 1), (5, 4), (4294967295, 4294967295), (4294967295, 1)):
        operator, _, rid, _ = pair_up(world)
        operator.ticket(rid, 4294967295, attempts[0])
        operator.do("open", rid, 4294967295, attempts[1])
        assert is_thrown_out(operator)


def test_newer_attempt_ends_the_older(world, relay):
    operator, device, rid, port = pair_up(world)
    old_ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    newer = operator.ticket(rid, 1, 2)
    assert device.hear("ticket", attempt=2) == newer
    ends = join(port, newer, OPERATOR), join(port, newer, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
    newest = joined(operator, device, rid, port, 1, attempt=3)
    for end in ends:
        never_a_byte(end)
    newest[0].sendall(b"x")
    assert receive_exactly(newest[1], 1) == b"x"
    never_a_byte(join(port, old_ticket, OPERATOR))


def test_open_before_the_device_is_here(world, relay):
    operator = Client(world, "g1:o:alice")
    rid = secrets.token_hex(16)
    operator.do("rendezvous", rid, 1, 0, 0)
    operator.do("open", rid, 1, 1)
    port = int(operator.hear("session")["port"])
    ticket = operator.hear("ticket")
    early = join(port, ticket, OPERATOR)
    device = Client(world, "g1:d:oli")
    device.register(rid)
    assert {**device.hear("ticket"), "ttl": 0} == {**ticket, "ttl": 0}
    late = join(port, ticket, DEVICE)
    assert receive_exactly(early, 8) == receive_exactly(late, 8) == GREETING


def test_stream_end_is_passed_on(world, relay):
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    device.do("end", rid, 1, 1, 9)
    operator.hear("end", rid=rid, stream=1, attempt=1, code=9)
    assert operator.is_quiet()
    never_a_byte(join(port, ticket, OPERATOR))  # its ticket is no good any more


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("where", ["data", "main", "mixed"])
def test_bytes_go_through(world, relay_of, splice, where):
    relay_of("", f'relay = {{ splice = "{splice}"; }};')
    operator, device, rid, port = pair_up(world)
    ports = {"data": (port, port), "main": (world.relay_port,) * 2, "mixed": (port, world.relay_port)}[where]
    streams = [joined(operator, device, rid, ports[0], n, ports=ports[1]) for n in range(1, 5)]
    n_bytes = 16 << 20
    errors = []

    def one(sender, receiver, seed):
        def send():
            harness.send_pattern(sender, seed, n_bytes)
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            harness.receive_pattern(receiver, seed, n_bytes)
            assert receiver.recv(1) == b""
        except BaseException as error:  # shown below
            errors.append(error)
        thread.join()

    threads = [threading.Thread(target=one, args=(a, b, f"{n}{way}"))
               for n, ends in enumerate(streams) for way, (a, b) in enumerate((ends, ends[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.parametrize("splice", ["auto", "off"])
def test_reset_stays_a_reset(world, relay_of, splice):
    relay_of("", f'relay = {{ splice = "{splice}"; }};')
    operator, device, rid, port = pair_up(world)
    for stream, side in ((1, 0), (2, 1)):
        ends = joined(operator, device, rid, port, stream)
        ends[side].sendall(b"x" * 100000)
        ends[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends[side].close()
        with pytest.raises(ConnectionResetError):
            while ends[1 - side].recv(65536):
                pass


def test_stuck_streams_do_not_stop_others(world, relay):
    operator, device, rid, port = pair_up(world)
    stuck = [joined(operator, device, rid, port, n) for n in range(1, 9)]
    for sender, _ in stuck:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                sender.send(bytes(1 << 20))
    lively = joined(operator, device, rid, port, 9)
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - begun < 1:
        lively[0].sendall(b"ping")
        assert receive_exactly(lively[1], 4) == b"ping"
    assert harness.cpu_seconds(relay.pid) - cpu < 1.5


# --- the daemon -----------------------------------------------------------------------------------


def test_heartbeat(world, relay_of):
    """The silent are asked; who answers stays, who does not is lost, and the other side is told."""
    relay_of('heartbeat = "200ms"; dead_after = "1s";')
    operator, device, rid, _ = pair_up(world)
    stop = threading.Event()

    def answer():
        while not stop.is_set():
            operator.do("ping 1")
            stop.wait(0.1)

    threading.Thread(target=answer, daemon=True).start()
    device.hear("ping", limit=5)
    wait_until(lambda: any(line.startswith("peer") and "up=0" in line for line in operator.all), "the device is lost")
    assert "closed" in device.all[-1] or wait_until(lambda: "closed" in device.all[-1], "it is closed")
    assert operator.child.poll() is None
    stop.set()


def test_hearts_beat_together(world, relay_of):
    """Whoever is silent, and since when: they are asked on the same grid, so that the relay wakes once for all."""
    relay_of('heartbeat = "1500ms"; dead_after = "1h"; half = "1h";')
    clients = [Client(world, f"g1:d:device-{n}") for n in range(5)]

    def is_on_the_grid(client):
        return any(int(line.split("n=")[1]) % 500 < 25 for line in client.all if line.startswith("ping n="))

    wait_until(lambda: all(is_on_the_grid(client) for client in clients), "all are asked at one moment or another of the grid")


def test_drain(world, relay_of):
    relay = relay_of("", 'relay = { drain = "5s"; };')
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.hear("restarting", **{"in": 200, "for": 10400})
    assert not harness.can_connect(world.relay_port)
    other = secrets.token_hex(16)
    operator.do("rendezvous", other, 1, 0, 0)
    operator.hear("error", code=SHUTDOWN, rid=other)
    ends[0].sendall(b"still here")
    assert receive_exactly(ends[1], 10) == b"still here"
    for client in (operator, device):
        client.hear("bye", code=SHUTDOWN, rid=rid)
        client.hear("bye", code=SHUTDOWN, rid="0" * 32)
        client.hear("closed", reason="closed")
    assert relay.wait(12) == 0
    assert time.monotonic() - begun < 11


def test_the_window_for_coming_back_grows_with_the_members(world, relay_of):
    relay = relay_of(LENIENT)
    clients = [Client(world, f"g1:d:device-{n}") for n in range(32)]
    relay.send(signal.SIGTERM)
    for client in clients:
        client.hear("restarting", **{"in": 320, "for": 10640})
    assert relay.wait(10) == 0


def test_the_end_waits_for_no_stream_unless_told_to(world, relay):
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.hear("restarting")
        client.hear("bye", code=SHUTDOWN, rid=rid)
        client.hear("bye", code=SHUTDOWN, rid="0" * 32)
    assert relay.wait(10) == 0
    assert time.monotonic() - begun < 3
    for end in held:
        never_a_byte(end)


def test_drain_does_not_wait_for_nothing(world, relay):
    operator, _, rid, port = pair_up(world)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(10) == 0
    operator.hear("restarting")
    assert time.monotonic() - begun < 3


def test_second_term_ends_it_at_once(world, relay_of):
    relay = relay_of("", 'relay = { drain = "9s"; };')
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    relay.send(signal.SIGTERM)
    operator.hear("restarting")
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(5) == 0
    assert time.monotonic() - begun < 2
    for end in held:
        never_a_byte(end)


def test_reload(world, relay_of):
    """All or nothing: a good file holds at once, a bad one changes nothing and says where it is bad."""
    relay = relay_of("sessions_per_identity = 1;")
    alice = Client(world, "g1:o:alice")
    alice.register(secrets.token_hex(16))
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.hear("error", code=LIMITED)
    path = relay.folder_of_config / "relayd.conf"
    for number, bad in enumerate(("limits = { sessions_per_identity = 5; nonsense = 1; };", "limits = {",
                                  "@include \"/etc\"", "limits = { sessions_per_identity = 0; };",
                                  f'crypt = {{ key = "{"0" * 64}"; }};'), 1):
        path.write_text(bad)
        relay.send(signal.SIGHUP)
        relay.wait_for("not reloaded.*(relayd.conf|crypt.key)", count=number)
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.hear("error", code=LIMITED)
    path.write_text("limits = { sessions_per_identity = 2; };")
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    alice.register(secrets.token_hex(16))


def test_a_thousand_reloads_leak_nothing(world, relay):
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)

    def reload(count):
        relay.send(signal.SIGHUP)
        relay.wait_for("configuration reloaded", count=count)

    for n in range(1, 101):
        reload(n)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    for _ in range(900):
        relay.send(signal.SIGHUP)
        assert operator.is_quiet()  # one turn of the loop
    reload(101)
    assert harness.descriptors(relay.pid) == before
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 1024
    assert not harness.children_of(relay.pid)
    ends[0].sendall(b"x")
    assert receive_exactly(ends[1], 1) == b"x"


def test_status(world, relay):
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    operator.ticket(rid, 2)
    wanted = rf"sessions=1 members=2 pairs=1 tickets=1 ports=1/{world.n_relay_ports} fds=5/\d+ .*wake-ups=\d+"
    wait_until(lambda: re.match(wanted, sessions_of(relay)), "the status has it all")
    relay.wait_for(rf"status session={rid[:8]} state=paired operator=alice device=oli port={port}")
    assert len(held) == 2


def limit_files(n):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


def test_64_descriptors(world, relay_of):
    """A flood on both ports: the joined pair does not notice, nothing spins, and it all comes back."""
    relay = relay_of(preexec=limit_files(64))
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    flood = []
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - begun < 3:
        if len(flood) < 600:
            for at in (world.relay_port, port):
                flood.append(socket.socket())
                flood[-1].setblocking(False)
                flood[-1].bind((f"127.0.5.{1 + len(flood) % 100}", 0))
                flood[-1].connect_ex(("127.0.0.1", at))
        ends[0].sendall(b"ping")
        assert receive_exactly(ends[1], 4) == b"ping"
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.cpu_seconds(relay.pid) - cpu < 2
    for sock in flood:
        sock.close()
    assert relay.is_running()
    wait_until(lambda: harness.descriptors(relay.pid) < 40, "descriptors are back")
    joined(operator, device, rid, port, 2)


def test_descriptors_of_the_system_run_out(world, relay_of):
    """The budget said yes and the kernel says no (a limit lowered behind its back): accept neither spins nor ends."""
    relay = relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    n_open = harness.descriptors(relay.pid)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (n_open + 2, n_open + 2))
    flood = [dial(world.relay_port, f"127.0.6.{n}") for n in range(1, 60)]
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - begun < 1.5:
        ends[0].sendall(b"ping")
        assert receive_exactly(ends[1], 4) == b"ping"
        time.sleep(0.01)
    assert harness.cpu_seconds(relay.pid) - cpu < 0.75
    for sock in flood:
        sock.close()

    def works():
        client = Client(world, "g1:o:bob", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    wait_until(works, "it accepts again")


def test_too_few_descriptors(world, relay_of):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=world.relay_environment(), preexec_fn=limit_files(20),
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 78 and "descriptors" in done.stderr


def test_port_is_taken(world, relay):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=world.relay_environment(), capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 69 and str(world.relay_port) in done.stderr


@effect("relayd", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC")
def test_service_manager(world, relay_of):
    """Ready when listening, on a socket that was handed in; told when it stops."""
    world.clients = []
    path = world.folder / "notify"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(path))
    manager.settimeout(LIMIT)
    listener = socket.create_server(("127.0.0.1", world.relay_port))
    env = world.relay_environment(NOTIFY_SOCKET=path, WATCHDOG_USEC=200000)
    child = subprocess.Popen(
        ["bash", "-c", 'exec 3<&"$1"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$2"', "bash", str(listener.fileno()),
         str(harness.PROGRAMS["relayd"])], env=env, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
    try:
        heard = ""
        while "READY=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        listener.close()
        Client(world, "g1:o:alice").register(secrets.token_hex(16))
        heard = ""
        while heard.count("WATCHDOG=1") < 2:
            heard += manager.recv(4096).decode() + "\n"
        child.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert child.wait(LIMIT) == 0
    finally:
        child.kill()
        child.wait()


def test_idle_relay_sleeps(world, relay):
    """50 sessions with a stream each, and nobody says anything: no wake-ups but the clients' heartbeats."""
    world.n_relay_ports = 20
    parts = [pair_up(world, names=(f"alice{n}", f"oli{n}")) for n in range(10)]
    streams = [joined(*part, 1) for part in parts]
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2, "two seconds to look at")
    assert harness.cpu_seconds(relay.pid) - cpu <= 0.02 * (time.monotonic() - begun)
    del streams


def test_sessions_end_in_the_moment_of_a_join(world, relay_of):
    """BYE and two JOINs at once, over and over: whoever comes first, the relay stays, and all comes back."""
    world.n_relay_ports = 40
    relay = relay_of(LENIENT + 'sessions_per_identity = 50; grace = "1s";', 'server = { ports_rest = "0"; };')
    before = harness.descriptors(relay.pid)

    def some(who):
        for _ in range(15):
            operator, device, rid, port = pair_up(world, names=(f"alice{who}", f"oli{who}"))
            tickets = [operator.ticket(rid, stream) for stream in range(1, 9)]
            ends = [dial(port if stream % 2 else world.relay_port) for stream in range(16)]
            for n, end in enumerate(ends):
                if n == who * 3:
                    (operator if who % 2 else device).do("bye", 1, rid)
                try_to_send(end, join_bytes(tickets[n // 2], OPERATOR if n % 2 else DEVICE))
            for end in ends:
                end.close()
            operator.kill()
            device.kill()

    harness.in_threads(*[lambda who=who: some(who) for who in range(4)])
    assert relay.is_running()
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "descriptors are back")
    pair_up(world)


def test_everything_comes_back(world, relay_of):
    """Many short sessions and streams leave descriptors, ports and memory as they were."""
    relay = relay_of("sessions_per_identity = 50;", 'server = { ports_rest = "0"; };')

    def some(n_sessions):
        for _ in range(n_sessions):
            operator, device, rid, port = pair_up(world)
            for stream in range(1, 6):
                for end in joined(operator, device, rid, port, stream):
                    end.close()
            operator.do("bye", 1, rid)
            operator.hear("closed")
            for client in (operator, device):
                client.kill()

    some(10)
    wait_until(lambda: "device" not in sessions_of(relay), "all sessions ended")
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    some(40)
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "descriptors are back")
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 2048


def sessions_of(relay):
    """What a status says about sessions."""
    count = relay.log().count("status sessions=")
    relay.send(signal.SIGUSR1)
    relay.wait_for("status sessions=", count=count + 1)
    return "sessions=" + relay.log().rsplit("status sessions=", 1)[1]
