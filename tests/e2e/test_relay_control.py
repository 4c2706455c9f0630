# SPDX-License-Identifier: ISC
"""Control frames of the relay: malformed, out of order or too many, without an effect on other clients."""

import secrets
import struct
import time

import pytest

import harness
from harness import LIMIT, wait_until
from relayclient import PAIRING, PROTOCOL, RID, VERSION, Client, is_disconnected, register_pair, raw, sessions_of

BODIES = {  # by type: a valid body (of a client's frames), or one of the valid length
    0x01: struct.pack(">HHH", 1, 1, 2) + b"me", 0x02: bytes(30), 0x10: RID + struct.pack(">IHI", 1, 0, 0),
    0x11: RID + bytes(7), 0x12: RID + bytes(2), 0x20: RID + struct.pack(">IIH", 1, 1, 0), 0x21: RID + bytes(58),
    0x22: RID + struct.pack(">IIHQQ", 1, 1, 0, 0, 0), 0x30: bytes(8), 0x31: bytes(8), 0x3e: bytes(8),
    0x3f: struct.pack(">H", 0) + RID, 0x40: struct.pack(">H", 0) + RID, 0x81: RID + struct.pack(">I", 1),
}


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
    yield "unknown, too long", raw(0x80, bytes(1025))
    yield "unknown, flags", raw(0x80, b"", flags=0x80)
    yield "strings lie", raw(0x01, struct.pack(">HHH", 1, 1, 3) + b"me")
    yield "strings overlong", raw(0x01, struct.pack(">HHH", 1, 1, 65) + b"m" * 65)
    yield "NUL in a string", raw(0x01, struct.pack(">HHH", 1, 1, 2) + b"m\0")
    yield "open attempt 0", raw(0x20, RID + struct.pack(">IIH", 1, 0, 0))


@pytest.mark.parametrize("when", ["before-hello", "after-hello"])
def test_bad_frames(env, relay, when):
    witness = Client(env, "g1:o:witness")
    for _, frame in bad_frames():
        client = Client(env, "g1:o:mallory", hello=when == "after-hello")
        if when == "before-hello":
            client.receive("connected")
        client.do("raw", frame.hex())
        assert is_disconnected(client)
        client.kill()
    assert witness.has_no_more_frames() and relay.is_running()


def test_order(env, relay):
    def fresh(hello=True):
        client = Client(env, "g1:o:mallory", hello=hello)
        if not hello:
            client.receive("connected")
        return client

    for kind in BODIES:  # only HELLO may be first
        client = fresh(hello=False)
        client.do("raw", raw(kind, BODIES[kind]).hex())
        if kind == 0x01:
            client.receive("welcome")
        else:
            assert is_disconnected(client)
    for kind in (0x01, 0x02, 0x11, 0x12, 0x21, 0x3e):  # HELLO twice, and frames that only the relay sends
        client = fresh()
        body = BODIES[kind] if kind != 0x21 else RID + struct.pack(">II", 1, 1) + bytes(50)
        if kind == 0x02:
            body = struct.pack(">H16sIHI", 1, bytes(16), 0, 0, 0)
        client.do("raw", raw(kind, body).hex())
        assert is_disconnected(client)
    for versions in ((2, 2), (2, 65535)):
        client = fresh(hello=False)
        client.do("hello", *versions)
        assert is_disconnected(client, VERSION)
    for versions in ((0, 1), (1, 0)):
        client = fresh(hello=False)
        client.do("hello", *versions)
        assert is_disconnected(client)
    client = fresh(hello=False)
    client.do("hello", 1, 65535)
    assert client.receive("welcome")["version"] == "1"
    client = fresh()  # after BYE every frame is ignored
    client.do("bye", 1, "0" * 32)
    client.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    client.receive("closed")


def test_hello_has_a_deadline(env, relay_of):
    relay_of('hello = "300ms"; pairing = "300ms";')
    client = Client(env, "g1:o:alice", hello=False)
    client.receive("connected")
    client.receive("closed")
    client = Client(env, "g1:o:alice")  # RENDEZVOUS has one as well
    client.receive("bye", code=PAIRING)
    client.receive("closed")


def test_framing(env, relay):
    """Frames may be cut and joined by records in any way. Unknown frames that may be skipped are skipped."""
    client = Client(env, "g1:o:alice")
    for byte in raw(0x30, struct.pack(">Q", 7)):
        client.do("raw", f"{byte:02x}")
    client.receive("pong", n=7)
    client.do("repeat 4000", raw(0x30, struct.pack(">Q", 9)).hex())
    for _ in range(4000):
        client.receive("pong", n=9)
    for kind in (0x80, 0xFF):
        client.do("raw", (raw(kind, b"") + raw(kind, bytes(1024))).hex())
    client.do("raw", raw(0x80, bytes(1000)).hex() * 15 + raw(0x30, struct.pack(">Q", 8)).hex())
    client.receive("pong", n=8)
    assert client.has_no_more_frames()


def test_ping_flood_without_reading(env, relay):
    """A client that does not read is not read: no queue grows, and no other client waits."""
    witness = Client(env, "g1:o:witness")
    rss = harness.rss_kib(relay.pid)
    mallory = Client(env, "g1:o:mallory")
    mallory.do("deaf")
    for _ in range(5):
        mallory.do("repeat 200000", raw(0x30, bytes(8)).hex())
    for _ in range(20):
        started = time.monotonic()
        assert witness.has_no_more_frames()
        assert time.monotonic() - started < 2
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 4096


def test_more_frames_than_a_queue_in_one_turn(env, relay_of):
    """More frames in one turn than the send queue holds. A client that reads them is not closed."""
    relay_of("streams = 1024; tickets = 1024; frames = 100000;")
    operator, device, rid, _ = register_pair(env)
    n = 1000
    for stream in range(1, n + 1):
        operator.do("open", rid, stream, 1)
    for client in (operator, device):
        for stream in range(1, n + 1):
            client.receive("ticket", rid=rid, stream=stream)
    ends = (raw(0x22, bytes.fromhex(rid) + struct.pack(">IIHQQ", stream, 1, 1, 0, 0)) for stream in range(1, n + 1))
    device.do("raw", b"".join(ends).hex())
    for stream in range(1, n + 1):
        operator.receive("end", rid=rid, stream=stream)
    assert operator.has_no_more_frames()


def test_last_record_of_a_turn_is_handled(env, relay_of):
    """The records of one turn are limited. The last of them may be the last for now, and no event would follow for it."""
    relay_of("frames = 100000;")
    client = Client(env, "g1:o:alice")
    for n in range(1, 130):  # twice the limit of a turn, 64
        client.do(f"burst {n}", raw(0x30, struct.pack(">Q", n)).hex())
        for _ in range(n):
            client.receive("pong", n=n)


def test_flood_before_hello(env, relay_of):
    """Skipped frames do not replace HELLO."""
    relay_of("frames = 10;")
    client = Client(env, "g1:o:alice", hello=False)
    client.receive("connected")
    client.do("repeat 100", raw(0x80, bytes(1000)).hex())
    client.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    client.receive("error", code=PROTOCOL)


def test_frame_flood_without_a_session_is_closed(env, relay_of):
    relay_of('pairing = "500ms"; frames = 10;')
    client = Client(env, "g1:o:alice")
    started = time.monotonic()
    while "bye code=17" not in " ".join(client.all):
        assert time.monotonic() - started < LIMIT
        client.do("repeat 20", raw(0x31, bytes(8)).hex())
        time.sleep(0.02)
    client.receive("bye", code=PAIRING)


def test_connections_without_hello_count(env, relay_of):
    """At most twice the limit of an identity may wait for HELLO; other identities can connect."""
    relay = relay_of('sessions_per_identity = 1; descriptors = 100; hello = "1h";')
    many = []
    for _ in range(20):  # one after another: handshakes in progress have a limit of their own
        many.append(Client(env, "g1:d:mallory", hello=False))
        many[-1].receive("connected")
    wait_until(lambda: sum("closed" in " ".join(client.all) for client in many) == 12, "8 are left")
    assert Client(env, "g1:o:alice").has_no_more_frames()
    assert " clients=9 " in sessions_of(relay)


def test_frame_flood_is_slowed(env, relay_of):
    relay_of("frames = 100;")
    client = Client(env, "g1:o:alice")
    started = time.monotonic()
    client.do("repeat 500", raw(0x30, bytes(8)).hex())
    for _ in range(500):
        client.receive("pong")
    assert time.monotonic() - started > 2  # 200 at once, then 100 per second
    assert Client(env, "g1:o:bob").has_no_more_frames()
