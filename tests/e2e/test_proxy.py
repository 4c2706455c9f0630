# SPDX-License-Identifier: ISC
"""The fault proxy itself: each fault does what it says, and what it was not told to break it does not."""

import contextlib
import json
import select
import socket
import statistics
import struct
import threading
import time

import pytest

import harness
from faultproxy import Proxy
from harness import LIMIT, wait_until

MIB = 1 << 20


@pytest.fixture
def target(world):
    return world.target(harness.echo)


@pytest.fixture
def proxy(target):
    made = Proxy.before_port(target.port)
    yield made
    made.close()
    assert made.child.returncode == 0


def dial(proxy):
    sock = socket.create_connection((proxy.host, proxy.port), timeout=LIMIT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(sock, data=b"x"):
    sock.sendall(data)
    assert harness.receive_exactly(sock, len(data)) == data


def is_silent(sock, seconds):
    return not select.select([sock], [], [], seconds)[0]


def assert_reset(who):
    """A socket, or a proxy to dial: the reset may already be the connect()'s."""
    with pytest.raises(ConnectionResetError):
        sock = dial(who) if isinstance(who, Proxy) else who
        while sock.recv(1 << 16):
            pass


def echo_and_note_ends(target):
    """How each of its connections will have ended, in a list that grows."""
    ends = []

    def behaviour(sock):
        try:
            harness.echo(sock)
            ends.append("in order")
        except ConnectionResetError:
            ends.append("reset")

    target.behaviour = behaviour
    return ends


def test_bytes_pass_unchanged_and_half_closes_too(proxy, target):
    """A FIN comes after the last byte, and the other way goes on."""
    heard = {}

    def behaviour(sock):
        heard["up"] = harness.digest_to_eof(sock)
        harness.send_pattern(sock, "down", 20 * MIB)

    target.behaviour = behaviour
    with dial(proxy) as sock:
        harness.send_pattern(sock, "up", 20 * MIB)
        sock.shutdown(socket.SHUT_WR)
        assert harness.digest_to_eof(sock) == (20 * MIB, harness.digest_of_pattern("down", 20 * MIB))
    assert heard["up"] == (20 * MIB, harness.digest_of_pattern("up", 20 * MIB))
    wait_until(lambda: not proxy.connections(), "the connection is over")
    status = proxy.status()
    assert (status["accepted"], status["up"], status["down"]) == (1, 20 * MIB, 20 * MIB)


def test_a_range_of_ports(world):
    first = harness.free_ports(3)
    listeners = [socket.create_server(("127.0.0.1", first + n)) for n in range(3)]
    proxy = Proxy("127.9.8.7", range(first, first + 3))
    for number, listener in enumerate(listeners):
        with socket.create_connection(("127.9.8.7", first + number), timeout=LIMIT) as here:
            there, (source, _) = listener.accept()
            assert source == "127.9.8.7"  # each proxy is somebody of his own
            here.sendall(b"hello")
            assert harness.receive_exactly(there, 5) == b"hello"
            there.close()
        listener.close()
    proxy.close()


@pytest.mark.parametrize("ms", [0, 5, 25, 75])
def test_delay_is_precise(proxy, ms):
    """Of a round trip, less what the machine needs for it: half a millisecond each way."""
    sock = dial(proxy)
    ask(sock)

    def median():
        times = []
        for _ in range(41):
            begun = time.perf_counter()
            ask(sock)
            times.append(time.perf_counter() - begun)
        return statistics.median(times)

    def look():
        proxy.order("delay 0")
        ask(sock)
        bare = median()
        proxy.order(f"delay {ms}")
        return (median() - bare) * 1000 / 2 - ms

    errors = []

    def is_precise():
        errors.append(look())
        return -0.5 < errors[-1] < 0.5

    with contextlib.suppress(AssertionError):  # the machine may be busy
        wait_until(is_precise, "the delay is precise", limit=20)
    print(f"one way of {ms} ms is off by {errors} ms")
    assert -0.5 < errors[-1] < (0.5 if harness.SANITIZER == "none" else 5)


def test_delay_one_way_only_and_jitter_keeps_order(proxy, target):
    times = {}

    def behaviour(sock):
        sock.recv(1)
        times["there"] = time.monotonic()
        sock.sendall(b"y")
        harness.receive_pattern(sock, "up", MIB)
        sock.sendall(b"z")

    target.behaviour = behaviour
    proxy.order("handshake off")
    proxy.order("delay 300 way=up")
    sock = dial(proxy)
    times["sent"] = time.monotonic()
    sock.sendall(b"x")
    assert sock.recv(1) == b"y"
    assert times["there"] - times["sent"] >= 0.3
    assert time.monotonic() - times["there"] < 0.3
    proxy.order("delay 5")
    proxy.order("jitter 20")
    harness.send_pattern(sock, "up", MIB)
    assert sock.recv(1) == b"z"


def test_delay_does_not_bound_the_throughput(proxy):
    """100 ms each way, and 20 MiB there and back in far fewer than the windows of a stop-and-wait."""
    proxy.order("delay 100")
    sock = dial(proxy)
    begun = time.monotonic()
    harness.in_threads(lambda: harness.send_pattern(sock, "up", 20 * MIB),
                       lambda: harness.receive_pattern(sock, "up", 20 * MIB))
    took = time.monotonic() - begun
    print(f"20 MiB in {took:.2f} s")
    assert took < (3 if harness.SANITIZER == "none" else 30)


def test_a_connect_takes_its_round_trip(proxy, target):
    """The first byte there arrives after a round trip and a half, as with a SYN that had to travel."""
    proxy.order("delay 60")
    begun = time.monotonic()
    sock = dial(proxy)
    ask(sock)
    took = time.monotonic() - begun
    assert 0.240 <= took < 2, took
    begun = time.monotonic()
    ask(sock)
    assert 0.120 <= time.monotonic() - begun < 2


def test_rate(proxy):
    proxy.order("rate 8000000 way=up")
    sock = dial(proxy)
    begun = time.monotonic()
    harness.in_threads(lambda: harness.send_pattern(sock, "up", 2 * MIB),
                       lambda: harness.receive_pattern(sock, "up", 2 * MIB))
    took = time.monotonic() - begun
    assert 2.0 < took < 4, took
    proxy.order("rate 0")
    begun = time.monotonic()
    ask(sock, b"z" * MIB)
    assert time.monotonic() - begun < 2


def test_back_pressure(proxy, target):
    """Nobody reads there: the sender is stopped after what the queue and the kernels hold."""
    release = threading.Event()
    target.behaviour = lambda sock: (release.wait(LIMIT), harness.digest_to_eof(sock))
    proxy.order("delay 1")
    proxy.order(f"queue {MIB}")
    sock = dial(proxy)
    sock.setblocking(False)
    sent = 0
    while select.select([], [sock], [], 1)[1]:
        sent += sock.send(b"x" * 65536)
    assert MIB <= sent < 40 * MIB, sent
    queued = proxy.connections()[0]["queued"]
    assert MIB <= queued <= MIB + 65536, queued
    release.set()
    assert select.select([], [sock], [], LIMIT)[1]


def test_cut_is_a_fin_and_reset_a_reset(proxy, target):
    ends = echo_and_note_ends(target)
    one, two, three = (dial(proxy) for _ in range(3))
    for sock in (one, two, three):
        ask(sock)
    assert proxy.cut(choose=lambda n: n == 0) == 1
    assert one.recv(10) == b""
    assert proxy.cut(is_reset=True, choose=lambda n: n == 0) == 1
    assert_reset(two)
    wait_until(lambda: sorted(ends) == ["in order", "reset"], "the ends there")
    ask(three)
    one.close()
    wait_until(lambda: len(proxy.connections()) == 1, "one is left")
    assert int(proxy.order("reset", "on=0%")) == 0
    assert int(proxy.order("reset", "on=100%", "port=1-9999")) == 0
    ask(three)


def test_a_reset_of_one_party_arrives_as_a_reset(proxy, target):
    ended = echo_and_note_ends(target)
    sock = dial(proxy)
    ask(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    wait_until(lambda: ended == ["reset"], "it was reset there")
    target.behaviour = lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_reset(proxy)


@pytest.mark.parametrize("way", ["up", "down", None])
def test_black(proxy, target, way):
    arrived = []
    target.behaviour = lambda sock: [(arrived.append(d), sock.sendall(d)) for d in iter(lambda: sock.recv(100), b"")]
    sock = dial(proxy)
    ask(sock)
    proxy.order("black on", *([f"way={way}"] if way else []))
    sock.sendall(b"second")
    if way == "down":
        wait_until(lambda: b"second" in arrived, "it goes up")
    assert is_silent(sock, 0.5)
    assert (b"second" in arrived) == (way == "down")
    proxy.order("black off")
    assert harness.receive_exactly(sock, 6) == b"second"


def test_black_for_good_for_those_there_are(proxy):
    """Half-open: neither a byte nor the end of the other party is heard of."""
    old = dial(proxy)
    ask(old)
    proxy.order("black on on=live")
    new = dial(proxy)
    ask(new)
    old.sendall(b"anybody?")
    assert is_silent(old, 0.5)
    old.close()
    ask(new)
    assert len(proxy.connections()) == 2


def test_new_ones_are_held_or_refused(proxy, target):
    old = dial(proxy)
    ask(old)
    proxy.order("new hold")
    held = dial(proxy)
    held.sendall(b"patience")
    assert is_silent(held, 0.3) and target.n_accepted == 1
    ask(old)
    proxy.order("new through")
    assert harness.receive_exactly(held, 8) == b"patience"
    proxy.is_refusing = True
    assert_reset(proxy)
    ask(old)
    proxy.is_refusing = False
    proxy.is_black = True
    held = dial(proxy)
    held.sendall(b"a")
    old.sendall(b"b")
    assert is_silent(held, 0.3) and is_silent(old, 0)
    proxy.is_black = False
    assert held.recv(1) == b"a" and old.recv(1) == b"b"


def test_idle_is_forgotten(proxy):
    proxy.order("idle 1")
    quiet, busy = dial(proxy), dial(proxy)
    ask(quiet)
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        ask(busy)
        select.select([busy], [], [], 0.1)
    quiet.sendall(b"still there?")
    assert is_silent(quiet, 0.5)
    proxy.order("idle 0")
    quiet.sendall(b"now?")
    assert is_silent(quiet, 0.3)
    ask(busy)
    assert [c["forgotten"] for c in proxy.connections()] == [True, False]


def test_dribble_and_chunks(proxy, target):
    sizes = []

    def behaviour(sock):
        while data := sock.recv(1 << 16):
            sizes.append(len(data))
            sock.sendall(data)

    target.behaviour = behaviour
    sock = dial(proxy)
    proxy.order("chunk 1 way=up")
    proxy.order("rate 800000 way=up")
    ask(sock, bytes(range(256)) * 4)
    assert len(sizes) > 30, sizes
    proxy.order("rate 0")
    proxy.order("chunk 100")
    harness.in_threads(lambda: harness.send_pattern(sock, "up", MIB), lambda: harness.receive_pattern(sock, "up", MIB))


def test_flip(proxy):
    sock = dial(proxy)
    ask(sock, bytes(100))
    proxy.order("flip +10^128 way=up")
    sock.sendall(bytes(100))
    assert harness.receive_exactly(sock, 100) == bytes(10) + b"\x80" + bytes(89)
    ask(sock, bytes(100))
    proxy.order("flip 3 way=down on=new")
    ask(sock, bytes(100))
    new = dial(proxy)
    new.sendall(bytes(8))
    assert harness.receive_exactly(new, 8) == bytes(3) + b"\x01" + bytes(4)
    assert [c["flipped"] for c in proxy.connections()] == [1, 1]
    proxy.order("flip off")
    ask(dial(proxy), bytes(100))


def test_stop_reading(proxy):
    sock = dial(proxy)
    ask(sock)
    proxy.order("stop on way=up")
    sock.sendall(b"later")
    assert is_silent(sock, 0.3)
    proxy.order("stop off")
    assert harness.receive_exactly(sock, 5) == b"later"


def test_replay(proxy, target):
    flights = []

    def behaviour(sock):
        flights.append(harness.receive_exactly(sock, 12))
        sock.sendall(b"answer")
        harness.receive_exactly(sock, 6)

    target.behaviour = behaviour
    sock = dial(proxy)
    sock.sendall(b"first flight")
    assert harness.receive_exactly(sock, 6) == b"answer"
    sock.sendall(b"second")
    assert proxy.order("replay", proxy.connections()[0]["id"]) == "12"
    wait_until(lambda: proxy.status()["replays"] == [{"state": "open", "sent": 12, "got": 6}], "it is answered again")
    assert flights == [b"first flight"] * 2
    with pytest.raises(ValueError):
        proxy.order("replay 77")


def test_scan(proxy):
    numbers = [proxy.scan(b"canary-one"), proxy.scan(b"c"), proxy.scan(bytes(64)), proxy.scan(b"never")]
    assert numbers == [0, 1, 2, 3]
    sock = dial(proxy)
    for byte in b"a canary-one":
        ask(sock, bytes([byte]))
    assert proxy.seen() == [2, 2, 0, 0]  # there and back
    ask(sock, b"...cana")
    ask(sock, b"ry-one and" + bytes(40))
    ask(sock, bytes(24))
    assert proxy.seen() == [4, 4, 2, 0]


def test_what_is_not_understood(proxy):
    for order in ("", "frobnicate", "delay", "delay x", "delay -1", "delay 1 way=left", "delay 1 on=", "new", "new maybe",
                  "flip x", "flip 1^0", "listen", "listen 127.0.0.1:1", "listen nonsense:1 127.0.0.1:1", "scan", "scan 0g",
                  "replay", "cut on=101%", "cut port=x", "seed x", "queue -1", "handshake"):
        with pytest.raises(ValueError, match="not understood"):
            proxy.order(order)
    assert json.loads(proxy.order("status"))["accepted"] == 0


def test_many_connections_and_no_rest(proxy, target):
    """A hundred at a time, ended in every way; nothing is left but the listener."""
    before = harness.descriptors(proxy.pid)
    for round_ in range(3):
        proxy.order(f"delay {round_}")
        socks = [dial(proxy) for _ in range(100)]
        for sock in socks:
            ask(sock)
        assert proxy.cut(is_reset=True, choose=lambda n: n % 3 == 0) == 34
        assert proxy.cut(choose=lambda n: n % 2 == 0) == 33
        for sock in socks:
            sock.close()
        wait_until(lambda: not proxy.connections(), "all are over")
    assert harness.descriptors(proxy.pid) == before
    assert proxy.n_accepted == 300
