# SPDX-License-Identifier: ISC
"""The fault proxy itself: each impairment has its documented effect and no other."""

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
def target(env):
    return env.target(harness.echo)


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


def check_echo(sock, data=b"x"):
    sock.sendall(data)
    assert harness.receive_exactly(sock, len(data)) == data


def is_silent(sock, seconds):
    return not select.select([sock], [], [], seconds)[0]


def assert_reset(who):
    """@who: a socket, or a proxy to dial; then connect() itself may fail with the reset."""
    with pytest.raises(ConnectionResetError):
        sock = dial(who) if isinstance(who, Proxy) else who
        while sock.recv(1 << 16):
            pass


def echo_and_note_ends(target):
    """Makes the target echo. Returns a list to which each connection's end is appended: "in order" or "reset"."""
    ends = []

    def behavior(sock):
        try:
            harness.echo(sock)
            ends.append("in order")
        except ConnectionResetError:
            ends.append("reset")

    target.behavior = behavior
    return ends


def test_bytes_and_half_closes_pass_unchanged(proxy, target):
    """A FIN arrives after the last byte, and the other direction continues."""
    received = {}

    def behavior(sock):
        received["up"] = harness.digest_to_eof(sock)
        harness.send_pattern(sock, "down", 20 * MIB)

    target.behavior = behavior
    with dial(proxy) as sock:
        harness.send_pattern(sock, "up", 20 * MIB)
        sock.shutdown(socket.SHUT_WR)
        assert harness.digest_to_eof(sock) == (20 * MIB, harness.digest_of_pattern("down", 20 * MIB))
    assert received["up"] == (20 * MIB, harness.digest_of_pattern("up", 20 * MIB))
    wait_until(lambda: not proxy.connections(), "the connection ended")
    status = proxy.status()
    assert (status["accepted"], status["up"], status["down"]) == (1, 20 * MIB, 20 * MIB)


def test_port_range(env):
    first = harness.free_ports(3)
    listeners = [socket.create_server(("127.0.0.1", first + n)) for n in range(3)]
    proxy = Proxy("127.9.8.7", range(first, first + 3))
    for number, listener in enumerate(listeners):
        with socket.create_connection(("127.9.8.7", first + number), timeout=LIMIT) as here:
            there, (source, _) = listener.accept()
            assert source == "127.9.8.7"  # each proxy has its own source address
            here.sendall(b"hello")
            assert harness.receive_exactly(there, 5) == b"hello"
            there.close()
        listener.close()
    proxy.close()


@pytest.mark.parametrize("ms", [0, 5, 25, 75])
def test_delay_is_precise(proxy, ms):
    """The added delay of a round trip, without the machine's own: precise to half a millisecond each way, apart from the time by
    which this machine ends a sleep too late."""
    sock = dial(proxy)
    check_echo(sock)

    def median(action, *arguments):
        """Returns milliseconds."""
        times = []
        for _ in range(41):
            started = time.perf_counter()
            action(*arguments)
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1000

    def look():
        proxy.command("delay 0")
        check_echo(sock)
        bare = median(check_echo, sock)
        proxy.command(f"delay {ms}")
        error = (median(check_echo, sock) - bare) / 2 - ms
        return error, median(time.sleep, 0.005) - 5

    looks = []

    def is_precise():
        looks.append(look())
        error, late = looks[-1]
        return -0.5 < error < (0.5 if harness.SANITIZER == "none" else 5) + late

    try:
        wait_until(is_precise, "the delay is precise", limit=20)  # the machine may be busy for a moment
    finally:
        print(f"one way of {ms} ms: how much it is off, and how late a sleep ends, in ms: {looks}")


def test_delay_one_way_only_and_jitter_keeps_order(proxy, target):
    times = {}

    def behavior(sock):
        sock.recv(1)
        times["there"] = time.monotonic()
        sock.sendall(b"y")
        harness.receive_pattern(sock, "up", MIB)
        sock.sendall(b"z")

    target.behavior = behavior
    proxy.command("handshake off")
    proxy.command("delay 300 way=up")
    sock = dial(proxy)
    times["sent"] = time.monotonic()
    sock.sendall(b"x")
    assert sock.recv(1) == b"y"
    assert times["there"] - times["sent"] >= 0.3
    assert time.monotonic() - times["there"] < 0.3
    proxy.command("delay 5")
    proxy.command("jitter 20")
    harness.send_pattern(sock, "up", MIB)
    assert sock.recv(1) == b"z"


def test_delay_does_not_bound_the_throughput(proxy):
    """100 ms each way, and an echo of 20 MiB in far less time than a stop-and-wait protocol takes."""
    proxy.command("delay 100")
    sock = dial(proxy)
    started = time.monotonic()
    harness.in_threads(lambda: harness.send_pattern(sock, "up", 20 * MIB),
                       lambda: harness.receive_pattern(sock, "up", 20 * MIB))
    took = time.monotonic() - started
    print(f"20 MiB in {took:.2f} s")
    assert took < (3 if harness.SANITIZER == "none" else 30)


def test_connect_takes_a_round_trip(proxy, target):
    """The first byte arrives after one and a half round trips, as with a delayed SYN."""
    proxy.command("delay 60")
    started = time.monotonic()
    sock = dial(proxy)
    check_echo(sock)
    took = time.monotonic() - started
    assert 0.240 <= took < 2, took
    started = time.monotonic()
    check_echo(sock)
    assert 0.120 <= time.monotonic() - started < 2


def test_rate(proxy):
    proxy.command("rate 8000000 way=up")
    sock = dial(proxy)
    started = time.monotonic()
    harness.in_threads(lambda: harness.send_pattern(sock, "up", 2 * MIB),
                       lambda: harness.receive_pattern(sock, "up", 2 * MIB))
    took = time.monotonic() - started
    assert 2.0 < took < 4, took
    proxy.command("rate 0")
    started = time.monotonic()
    check_echo(sock, b"z" * MIB)
    assert time.monotonic() - started < 2


def test_back_pressure(proxy, target):
    """The receiver does not read: the sender is blocked once the queue and the kernels are full."""
    release = threading.Event()
    target.behavior = lambda sock: (release.wait(LIMIT), harness.digest_to_eof(sock))
    proxy.command("delay 1")
    proxy.command(f"queue {MIB}")
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


def test_cut_sends_fin_and_reset_sends_rst(proxy, target):
    ends = echo_and_note_ends(target)
    one, two, three = (dial(proxy) for _ in range(3))
    for sock in (one, two, three):
        check_echo(sock)
    assert proxy.cut(choose=lambda n: n == 0) == 1
    assert one.recv(10) == b""
    assert proxy.cut(is_reset=True, choose=lambda n: n == 0) == 1
    assert_reset(two)
    wait_until(lambda: sorted(ends) == ["in order", "reset"], "the target's ends")
    check_echo(three)
    one.close()
    wait_until(lambda: len(proxy.connections()) == 1, "one is left")
    assert int(proxy.command("reset", "on=0%")) == 0
    assert int(proxy.command("reset", "on=100%", "port=1-9999")) == 0
    check_echo(three)


def test_reset_is_forwarded(proxy, target):
    ended = echo_and_note_ends(target)
    sock = dial(proxy)
    check_echo(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    wait_until(lambda: ended == ["reset"], "the target's connection was reset")
    target.behavior = lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_reset(proxy)


@pytest.mark.parametrize("way", ["up", "down", None])
def test_black_hole(proxy, target, way):
    arrived = []
    target.behavior = lambda sock: [(arrived.append(d), sock.sendall(d)) for d in iter(lambda: sock.recv(100), b"")]
    sock = dial(proxy)
    check_echo(sock)
    proxy.command("black on", *([f"way={way}"] if way else []))
    sock.sendall(b"second")
    if way == "down":
        wait_until(lambda: b"second" in arrived, "the data arrives at the target")
    assert is_silent(sock, 0.5)
    assert (b"second" in arrived) == (way == "down")
    proxy.command("black off")
    assert harness.receive_exactly(sock, 6) == b"second"


def test_black_hole_for_existing_connections(proxy):
    """Half-open: neither a byte nor the end of the other party arrives."""
    old = dial(proxy)
    check_echo(old)
    proxy.command("black on on=live")
    new = dial(proxy)
    check_echo(new)
    old.sendall(b"lost")
    assert is_silent(old, 0.5)
    old.close()
    check_echo(new)
    assert len(proxy.connections()) == 2


def test_new_connections_are_held_or_refused(proxy, target):
    old = dial(proxy)
    check_echo(old)
    proxy.command("new hold")
    held = dial(proxy)
    held.sendall(b"delayed!")
    assert is_silent(held, 0.3) and target.n_accepted == 1
    check_echo(old)
    proxy.command("new through")
    assert harness.receive_exactly(held, 8) == b"delayed!"
    proxy.is_refusing = True
    assert_reset(proxy)
    check_echo(old)
    proxy.is_refusing = False
    proxy.is_black = True
    held = dial(proxy)
    held.sendall(b"a")
    old.sendall(b"b")
    assert is_silent(held, 0.3) and is_silent(old, 0)
    proxy.is_black = False
    assert held.recv(1) == b"a" and old.recv(1) == b"b"


def test_idle_connection_is_dropped(proxy):
    proxy.command("idle 1")
    quiet, busy = dial(proxy), dial(proxy)
    check_echo(quiet)
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        check_echo(busy)
        select.select([busy], [], [], 0.1)
    quiet.sendall(b"is it open?")
    assert is_silent(quiet, 0.5)
    proxy.command("idle 0")
    quiet.sendall(b"again")
    assert is_silent(quiet, 0.3)
    check_echo(busy)
    assert [c["forgotten"] for c in proxy.connections()] == [True, False]


def test_rate_and_chunks(proxy, target):
    sizes = []

    def behavior(sock):
        while data := sock.recv(1 << 16):
            sizes.append(len(data))
            sock.sendall(data)

    target.behavior = behavior
    sock = dial(proxy)
    proxy.command("chunk 1 way=up")
    proxy.command("rate 800000 way=up")
    check_echo(sock, bytes(range(256)) * 4)
    assert len(sizes) > 30, sizes
    proxy.command("rate 0")
    proxy.command("chunk 100")
    harness.in_threads(lambda: harness.send_pattern(sock, "up", MIB), lambda: harness.receive_pattern(sock, "up", MIB))


def test_flip(proxy):
    sock = dial(proxy)
    check_echo(sock, bytes(100))
    proxy.command("flip +10^128 way=up")
    sock.sendall(bytes(100))
    assert harness.receive_exactly(sock, 100) == bytes(10) + b"\x80" + bytes(89)
    check_echo(sock, bytes(100))
    proxy.command("flip 3 way=down on=new")
    check_echo(sock, bytes(100))
    new = dial(proxy)
    new.sendall(bytes(8))
    assert harness.receive_exactly(new, 8) == bytes(3) + b"\x01" + bytes(4)
    assert [c["flipped"] for c in proxy.connections()] == [1, 1]
    proxy.command("flip off")
    check_echo(dial(proxy), bytes(100))


def test_stop_reading(proxy):
    sock = dial(proxy)
    check_echo(sock)
    proxy.command("stop on way=up")
    sock.sendall(b"later")
    assert is_silent(sock, 0.3)
    proxy.command("stop off")
    assert harness.receive_exactly(sock, 5) == b"later"


def test_replay(proxy, target):
    flights = []

    def behavior(sock):
        flights.append(harness.receive_exactly(sock, 12))
        sock.sendall(b"answer")
        harness.receive_exactly(sock, 6)

    target.behavior = behavior
    sock = dial(proxy)
    sock.sendall(b"first flight")
    assert harness.receive_exactly(sock, 6) == b"answer"
    sock.sendall(b"second")
    assert proxy.command("replay", proxy.connections()[0]["id"]) == "12"
    wait_until(lambda: proxy.status()["replays"] == [{"state": "open", "sent": 12, "got": 6}], "the replayed data is answered")
    assert flights == [b"first flight"] * 2
    with pytest.raises(ValueError):
        proxy.command("replay 77")


def test_scan(proxy):
    numbers = [proxy.scan(b"canary-one"), proxy.scan(b"c"), proxy.scan(bytes(64)), proxy.scan(b"never")]
    assert numbers == [0, 1, 2, 3]
    sock = dial(proxy)
    for byte in b"a canary-one":
        check_echo(sock, bytes([byte]))
    assert proxy.seen() == [2, 2, 0, 0]  # both directions
    check_echo(sock, b"...cana")
    check_echo(sock, b"ry-one and" + bytes(40))
    check_echo(sock, bytes(24))
    assert proxy.seen() == [4, 4, 2, 0]


def test_invalid_commands(proxy):
    for command in ("", "frobnicate", "delay", "delay x", "delay -1", "delay 1 way=left", "delay 1 on=", "new", "new maybe",
                  "flip x", "flip 1^0", "listen", "listen 127.0.0.1:1", "listen nonsense:1 127.0.0.1:1", "scan", "scan 0g",
                  "replay", "cut on=101%", "cut port=x", "seed x", "queue -1", "handshake"):
        with pytest.raises(ValueError, match="syntax error"):
            proxy.command(command)
    assert json.loads(proxy.command("status"))["accepted"] == 0


def test_many_connections_release_everything(proxy, target):
    """A hundred connections at a time, ended in every way. Only the listener remains."""
    before = harness.descriptors(proxy.pid)
    for round_ in range(3):
        proxy.command(f"delay {round_}")
        socks = [dial(proxy) for _ in range(100)]
        for sock in socks:
            check_echo(sock)
        assert proxy.cut(is_reset=True, choose=lambda n: n % 3 == 0) == 34
        assert proxy.cut(choose=lambda n: n % 2 == 0) == 33
        for sock in socks:
            sock.close()
        wait_until(lambda: not proxy.connections(), "all connections ended")
    assert harness.descriptors(proxy.pid) == before
    assert proxy.n_accepted == 300
