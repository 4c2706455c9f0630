# SPDX-License-Identifier: ISC
"""The relay against peers without a key or with a wrong one: no byte of response, whatever they send to a port.

A peer with a key gets in whatever the others do, also those behind its own address.
"""

import contextlib
import random
import secrets
import select
import signal
import socket
import ssl
import time

import pytest

import forge
import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import (CLIENT_HELLO, DEVICE, EXPIRED, GREETING, LENIENT, OPERATOR, RECEIPT, Client, assert_closed_without_data,
                         client_hello, dial, is_refused_at_once, join, join_bytes, joined, receive_reply, register_pair,
                         try_to_send)

WRONG_KEY = bytes([21, 3, 3, 0, 2, 2, 47])  # an alert

HOSTILE = {
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
def test_unauthenticated_peers_get_no_byte(env, relay_of, where):
    relay = relay_of(LENIENT + 'join = "500ms"; handshake = "1s";')
    operator, _, _, port = register_pair(env)
    port = env.relay_port if where == "main" else port
    for name, data in HOSTILE.items():
        sock = dial(port)
        try_to_send(sock, data)
        assert_closed_without_data(sock)
    assert_closed_without_data(dial(port))  # silence
    sock = dial(port)
    sock.shutdown(socket.SHUT_WR)
    assert_closed_without_data(sock)
    assert operator.has_no_more_frames() and relay.is_running()


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_truncation_of_a_join(env, relay_of, where):
    """A JOIN with a valid ticket, cut at every byte: no response, and the ticket stays valid."""
    relay_of(LENIENT + 'join = "2s";')
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    at = env.relay_port if where == "main" else port
    for n in range(64):
        sock = dial(at)
        sock.sendall(join_bytes(ticket, OPERATOR)[:n])
        sock.shutdown(socket.SHUT_WR)
        assert_closed_without_data(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_reply(end) for end in ends] == [GREETING] * 2


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_changed_byte_of_a_join(env, relay_of, where):
    relay_of(LENIENT)
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    at = env.relay_port if where == "main" else port
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
        assert_closed_without_data(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_reply(end) for end in ends] == [GREETING] * 2


def test_invalid_tickets_get_no_byte(env, relay_of):
    relay_of(LENIENT + 'ticket = "1s";')
    operator, device, rid, port = register_pair(env)
    _, _, _, other_port = register_pair(env, names=("bob", "eli"))
    ends = joined(operator, device, rid, port, 1)
    used = operator.ticket(rid, 2)
    device.receive("ticket")
    first = join(port, used, OPERATOR)
    assert_closed_without_data(join(port, used, OPERATOR))        # its own half is used
    assert_closed_without_data(join(other_port, used, DEVICE))    # another session's port
    second = join(port, used, DEVICE)
    assert receive_reply(first) == receive_reply(second) == GREETING
    assert_closed_without_data(join(port, used, DEVICE))          # both halves are used
    expiring = operator.ticket(rid, 3)
    device.receive("ticket")
    for client in (operator, device):
        client.receive("end", stream=3, code=EXPIRED)
    assert_closed_without_data(join(port, expiring, OPERATOR))
    assert_closed_without_data(join(env.relay_port, expiring, DEVICE))
    ends[0].sendall(b"untouched")
    assert receive_exactly(ends[1], 9) == b"untouched"


def test_join_byte_by_byte(env, relay_of):
    """A JOIN byte by byte is accepted until its deadline, which no byte extends."""
    relay_of(LENIENT + 'join = "1s";')
    operator, device, rid, port = register_pair(env)
    for at in (port, env.relay_port):
        ticket = operator.ticket(rid, at)
        device.receive("ticket")
        ends = dial(at), dial(at)
        for n in range(64):
            for end, role in zip(ends, (OPERATOR, DEVICE)):
                end.sendall(join_bytes(ticket, role)[n:n + 1])
        assert [receive_reply(end) for end in ends] == [GREETING] * 2
        slow = dial(at)
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for n in range(63):
                slow.sendall(join_bytes(ticket, OPERATOR)[n:n + 1])
                if select.select([slow], [], [], 0.1)[0]:
                    break
        assert_closed_without_data(slow)
        assert time.monotonic() - started < 5


def test_second_join_has_a_deadline(env, relay_of):
    relay_of(LENIENT + 'join_peer = "300ms";')
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    first = join(port, ticket, OPERATOR)
    assert receive_exactly(first, 8) == RECEIPT
    assert_closed_without_data(first)
    for client in (operator, device):
        client.receive("end", stream=1, code=EXPIRED)
    assert_closed_without_data(join(port, ticket, DEVICE))
    joined(operator, device, rid, port, 1, attempt=2)


def test_repeated_join_at_the_main_port_counts(env, relay_of):
    """A side that gets no answer at its session's port repeats its JOIN at the main port, and the older connection is closed.
    Neither failed JOINs of its source nor the limit of its source stand in the way."""
    relay_of("per_source = 1;")
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    source = "127.0.0.70"
    first = join(port, ticket, OPERATOR, source)
    assert receive_exactly(first, 8) == RECEIPT
    assert_closed_without_data(join(env.relay_port, {**ticket, "secret": "00" * 32}, OPERATOR, source))
    waiting = dial(env.relay_port, source)
    waiting.sendall(b"G")
    second = join(env.relay_port, ticket, OPERATOR, source)
    assert receive_exactly(second, 8) == RECEIPT
    assert_closed_without_data(first)
    other = join(env.relay_port, ticket, DEVICE, "127.0.0.71")
    assert receive_reply(second) == receive_reply(other) == GREETING
    assert_closed_without_data(join(env.relay_port, ticket, DEVICE, "127.0.0.71"))
    assert_closed_without_data(join(port, ticket, DEVICE, "127.0.0.71"))  # that one is a replay


@pytest.mark.parametrize("how", ["ended", "replaced", "expired", "over"])
def test_late_join_gets_no_byte(env, relay_of, how):
    """A JOIN whose ticket has just ended is closed, and its source can join again."""
    relay_of('join_peer = "300ms"; ticket = "1s";')
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    if how == "ended":
        operator.do(f"end {rid} 1 1 1")
        device.receive("end", stream=1)
    elif how == "replaced":
        operator.ticket(rid, 1, 2)
        device.receive("ticket", attempt=2)
    elif how == "expired":
        device.receive("end", stream=1, code=EXPIRED)
    else:
        operator.do(f"bye 1 {rid}")
        device.receive("peer", up=0)
        device.receive("bye")
    source = "127.0.0.68"
    for _ in range(3):
        assert_closed_without_data(join(env.relay_port, ticket, DEVICE, source))
    Client(env, "g1:o:bob", hello=False).receive("connected")


# --- peers without and with a key behind one address ------------------------------------------------------

JOIN_OF_NOTHING = b"GTJ1\x01\x01\0\0" + bytes(56)


class Attack:
    """A number of connections from the address of the honest client, each with the first bytes that @first returns. The
    most recent ones are held open."""

    def __init__(self, port, first, n_held=40):
        self.port, self.first, self.n_held, self.held = port, first, n_held, []

    def connect(self, n):
        for _ in range(n):
            sock = dial(self.port)
            try_to_send(sock, self.first())
            self.held.append(sock)
        while len(self.held) > self.n_held:
            self.held.pop(0).close()

    def end(self):
        for sock in self.held:
            sock.close()


@pytest.mark.parametrize("what", ["rubbish", "one byte", "silence", "TLS without a key", "wrong key", "half a hello", "replay",
                                  "wrong JOIN", "half a JOIN"])
def test_proof_admits_whatever_its_source_did(env, relay_of, what):
    """A ClientHello that proves a key, and a valid ticket, are admitted beside any number of others of the same source."""
    relay = relay_of("per_source = 8; preauth = 8;")
    operator, device, rid, port = register_pair(env)
    recorded, wrong = client_hello(env), client_hello(env, key="77" * 32)
    with dial(env.relay_port) as sock:
        sock.sendall(recorded)
        assert receive_exactly(sock, 1) == b"\x16"
    first = {"rubbish": lambda: secrets.token_bytes(200), "one byte": lambda: b"G", "silence": lambda: b"",
             "TLS without a key": lambda: CLIENT_HELLO, "wrong key": lambda: wrong, "replay": lambda: recorded,
             "half a hello": lambda: recorded[:100], "wrong JOIN": lambda: JOIN_OF_NOTHING,
             "half a JOIN": lambda: JOIN_OF_NOTHING[:20]}[what]
    attacks = [Attack(env.relay_port, first), Attack(port, first)]
    for n in range(5):
        for attack in attacks:
            attack.connect(20)
        Client(env, f"g1:o:carol{n}").kill()
        ends = joined(operator, device, rid, port, n + 1)
        ends[0].sendall(b"x")
        assert receive_exactly(ends[1], 1) == b"x"
    for attack in attacks:
        attack.end()
    assert relay.log().count("evicted") <= 40, "the lines are rate-limited"


@pytest.mark.parametrize("pieces", [2, 12])
@pytest.mark.parametrize("where", ["main", "data"])
def test_slow_clients_get_in_beside_others(env, relay_of, where, pieces):
    """A ClientHello and a JOIN in pieces, at a source that is at its limit."""
    relay_of("per_source = 8; preauth = 8;")
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    at = env.relay_port if where == "main" else port
    attack = Attack(at, lambda: b"rubbish")
    first = [join_bytes(ticket, OPERATOR), join_bytes(ticket, DEVICE)]
    if where == "main":
        first.append(client_hello(env))
    attack.connect(20)
    socks = [dial(at) for _ in first]
    for n in range(pieces):
        for sock, data in zip(socks, first):
            sock.sendall(data[n * len(data) // pieces:(n + 1) * len(data) // pieces])
        attack.connect(20)
    assert [receive_reply(sock) for sock in socks[:2]] == [GREETING] * 2
    if where == "main":
        assert receive_exactly(socks[2], 1) == b"\x16"
    attack.end()


def test_replayed_hello_gets_no_byte(env, relay_of):
    """A recorded ClientHello is answered once, from whatever address it comes. The client itself is not affected."""
    relay_of('handshake = "300ms";')
    hello = client_hello(env)
    with dial(env.relay_port) as sock:
        sock.sendall(hello)
        assert receive_exactly(sock, 1) == b"\x16"
    for source in ("127.0.0.1", "127.0.0.5"):
        for data in (hello, hello + b"more"):
            sock = dial(env.relay_port, source)
            sock.sendall(data)
            assert_closed_without_data(sock)
        sock = dial(env.relay_port, source)
        for n in range(0, len(hello), 50):
            sock.sendall(hello[n:n + 50])
        assert_closed_without_data(sock)
    Client(env, "g1:o:alice")


def test_changed_copy_of_a_hello_does_not_use_it_up(env, relay):
    hello = client_hello(env)
    for n in (20, len(hello) - 1):
        sock = dial(env.relay_port)
        sock.sendall(hello[:n] + bytes([hello[n] ^ 1]) + hello[n + 1:])
        assert receive_exactly(sock, 7) == WRONG_KEY
        assert_closed_without_data(sock)
    with dial(env.relay_port) as sock:
        sock.sendall(hello)
        assert receive_exactly(sock, 1) == b"\x16"


def test_silent_connections_cost_no_descriptor(env, relay):
    """The kernel keeps a connection until its first bytes, at the main port and at a session's port."""
    operator, device, rid, port = register_pair(env)
    before = harness.descriptors(relay.pid)
    socks = [dial(at) for at in (env.relay_port, port) for _ in range(20)]
    ends = joined(operator, device, rid, port, 1)
    Client(env, "g1:o:carol")
    assert harness.descriptors(relay.pid) < before + 20
    for sock in (*socks, *ends):
        sock.close()


def test_flood_of_connections(env, relay_of):
    """At most 512 connections of one source and 1,024 in all are held. A tunnel is not affected, and all descriptors are
    released."""
    relay = relay_of('join = "1min";')
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    flood = []
    for n in range(550 + 650):
        flood.append(dial(env.relay_port, f"127.0.2.{n % 4}" if n >= 550 else "127.0.0.2"))
        flood[-1].sendall(b"G")
        if n % 10 == 0:
            ends[0].sendall(b"x")
            assert receive_exactly(ends[1], 1) == b"x"
        if n == 549:
            wait_until(lambda: 506 < harness.descriptors(relay.pid) - before < 518, "one source has its limit")
    wait_until(lambda: 1000 < harness.descriptors(relay.pid) - before < 1030, "all sources have their limit")
    assert harness.SANITIZER != "none" or harness.rss_kib(relay.pid) < rss + 8192
    for sock in flood:
        sock.close()
    wait_until(lambda: harness.descriptors(relay.pid) < before + 6, "descriptors are back")
    assert 0 < relay.log().count("evicted") <= 40, "the lines are rate-limited"
    Client(env, "g1:o:carol")


# --- ClientHellos -----------------------------------------------------------------------------------------


def test_urgent_bytes_in_a_hello(env, relay):
    """An urgent byte hides the bytes after it from a peek. The relay neither waits for them nor spins."""
    hello = CLIENT_HELLO
    cpu = harness.cpu_seconds(relay.pid)
    sock = dial(env.relay_port, "127.0.0.5")
    sock.sendall(hello[:100])
    time.sleep(0.1)
    assert not is_refused_at_once(sock)
    sock.send(b"!", socket.MSG_OOB)
    try_to_send(sock, hello[100:])
    started = time.monotonic()
    assert_closed_without_data(sock)
    assert time.monotonic() - started < 5, "the deadline is 10 s"
    assert harness.cpu_seconds(relay.pid) - cpu < 1


@pytest.mark.parametrize("is_silent", [False, True])
def test_bad_network_keeps_no_one_out(env, relay_of, is_silent):
    """A client that has shown its key and is then cut off, or silent, can connect when the network is back."""
    relay = relay_of('handshake = "300ms"; per_source = 1;')
    socks = []
    for n in range(5):
        socks.append(dial(env.relay_port))
        socks[-1].sendall(client_hello(env))
        assert receive_exactly(socks[-1], 1) == b"\x16", "an answer: the key is valid"
        if not is_silent:
            socks[-1].close()
    relay.wait_for("handshake timeout" if is_silent else "handshake failed")
    Client(env, "g1:o:alice")


def is_open_after_answer(sock):
    """Returns false if the peer has closed the socket, after whatever it sent."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except ConnectionResetError:
        pass
    return False


def begin_handshake(env, hello, n_first):
    """@n_first: the bytes of a first part, which the relay has to keep waiting; or 0."""
    sock = dial(env.relay_port)
    if n_first:
        sock.sendall(hello[:n_first])
        time.sleep(0.005)  # the relay accepts it
    sock.sendall(hello[n_first:])
    assert select.select([sock], [], [], LIMIT)[0], "an answer: the key is valid"
    return sock


@pytest.mark.parametrize("n_first", [0, 100], ids=["whole", "in two parts"])
def test_identity_has_half_of_the_handshakes(env, relay_of, n_first):
    """16 handshakes, if 64 connections may wait. One key, perhaps of a stolen device, keeps out no other."""
    relay_of("preauth = 64;")
    hello, psk = client_hello(env, "g1:d:Stolen"), forge.psk_of(env, DEVICE, "Stolen")
    honest = begin_handshake(env, client_hello(env), n_first)
    socks = [begin_handshake(env, forge.forge(hello, psk), n_first) for _ in range(40)]
    wait_until(lambda: sum(map(is_open_after_answer, socks)) == 8, "the oldest ones are closed", limit=5)
    assert is_open_after_answer(honest)
    Client(env, "g1:o:bob")
    for sock in (honest, *socks):
        sock.close()


def test_port_scan(env, relay):
    """Only sessions have open ports, and these send nothing."""
    _, _, _, port = register_pair(env)
    is_open = []
    for number in range(env.relay_ports, env.relay_ports + env.n_relay_ports):
        with contextlib.suppress(ConnectionRefusedError):
            is_open.append(number)
            sock = dial(number, "127.0.0.9")
            sock.shutdown(socket.SHUT_WR)
            assert_closed_without_data(sock)
            continue
        is_open.pop()
    assert is_open == [port]


def test_tls_without_a_valid_key(env, relay_of):
    """A ClientHello without a PSK gets no byte. A wrong and an unknown PSK get the same alert."""
    relay_of(LENIENT)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        sock = dial(env.relay_port)
        sock.sendall(outgoing.read())
        assert_closed_without_data(sock)
    reasons = set()
    for identity, key in (("g1:o:alice", secrets.token_hex(32)), ("g1:x:alice", env.key), ("alice", env.key),
                          ("g1:d:" + "x" * 129, env.key), ("g1:o:a/b", env.key)):
        client = Client(env, identity, hello=False)
        client.kill()
        world_key, env.key = env.key, key
        client = Client(env, identity, hello=False)
        env.key = world_key
        reasons.add(client.receive("closed")["reason"])
    assert len(reasons) == 1, reasons


def test_key_change_rejects_no_client(env, relay_of):
    """While the relay has two keys, both are valid. After the old one is removed, only the new one is."""
    old, new = secrets.token_hex(32), env.key
    relay = relay_of(LENIENT, f'crypt = {{ key_previous = "{old}"; }};')

    def connects(key):
        env.key = key
        client = Client(env, "g1:o:alice", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    assert connects(new) and connects(old) and not connects(secrets.token_hex(32))
    (relay.folder_of_config / "relayd.conf").write_text(harness.relay_groups(LENIENT))
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    assert connects(new) and not connects(old)
