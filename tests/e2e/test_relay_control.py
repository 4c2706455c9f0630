# SPDX-License-Identifier: ISC
"""The relay's control frames: each that is ill-formed, out of order or too many, and nobody else notices."""

import secrets
import struct
import time

import pytest

import harness
from harness import LIMIT, wait_until
from relayclient import EXPIRED, PROTOCOL, RID, VERSION, Client, is_thrown_out, pair_up, raw, sessions_of

BODIES = {  # by type: a right body (of a client's frames), or one of the right length
    0x01: struct.pack(">HHH", 1, 1, 2) + b"me", 0x02: bytes(30), 0x10: RID + struct.pack(">IHI", 1, 0, 0),
    0x11: RID + bytes(7), 0x12: RID + bytes(2), 0x20: RID + struct.pack(">II", 1, 1), 0x21: RID + bytes(58),
    0x22: RID + struct.pack(">IIHQQ", 1, 1, 0, 0, 0), 0x30: bytes(8), 0x31: bytes(8), 0x3e: bytes(8),
    0x3f: struct.pack(">H", 0) + RID, 0x40: struct.pack(">H", 0) + RID, 0x80: RID + struct.pack(">IIB", 1, 1, 0),
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


def test_who_never_stops_talking_needs_a_session(world, relay_of):
    relay_of('half = "500ms"; frames = 10;')
    client = Client(world, "g1:o:alice")
    begun = time.monotonic()
    while "bye code=5" not in " ".join(client.all):
        assert time.monotonic() - begun < LIMIT
        client.do("repeat 20", raw(0x31, bytes(8)).hex())
        time.sleep(0.02)
    client.hear("bye", code=EXPIRED)


def test_connections_without_hello_count(world, relay_of):
    """Of one identity twice as many as may be there wait for their HELLO, and all others find room."""
    relay = relay_of('sessions_per_identity = 1; descriptors = 100; hello = "1h";')
    many = [Client(world, "g1:d:mallory", hello=False) for _ in range(20)]
    wait_until(lambda: sum("closed" in " ".join(client.all) for client in many) == 12, "8 are left")
    assert Client(world, "g1:o:alice").is_quiet()
    assert " members=9 " in sessions_of(relay)


def test_frame_flood_is_slowed(world, relay_of):
    relay_of("frames = 100;")
    client = Client(world, "g1:o:alice")
    begun = time.monotonic()
    client.do("repeat 500", raw(0x30, bytes(8)).hex())
    for _ in range(500):
        client.hear("pong")
    assert time.monotonic() - begun > 2  # 200 at once, 100 a second then
    assert Client(world, "g1:o:bob").is_quiet()
