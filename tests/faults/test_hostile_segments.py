# SPDX-License-Identifier: ISC
"""A peer with the session's key is hostile in the shared data connection; F-51 and F-52 of docs/faults.md.

Malformed segments cost that connection, which is replaced. A stream whose frames or numbers are wrong is reset, and the others in
the connection continue. Sessions of others are not affected, and nothing grows.
"""

import contextlib
import os
import signal
import struct
import time

import pytest

import harness
import played_end
from fault_run import FaultRun
from harness import wait_until
from played_end import (BEGIN, CONNECTED, DENIED, DONE, END, LOST, PROTOCOL, RESERVED, RST, TOO_MANY, Closed, PlayedEnd, ack, begin, data,
                        end, frame, hello, rst, segment)
from relayclient import DEVICE, OPERATOR, Client, join, raw, receive_reply
from test_hostile_operator import NO_TLS, hostile_operator, rid_of, send_no_tls

pytestmark = pytest.mark.skipif(harness.SANITIZER == "thread", reason="its preloaded library would replace this one")
GREATEST = 0xffffffff


def key_shim(env):
    """Variables of a command that writes its session's key to a file."""
    return {"LD_PRELOAD": harness.BUILD / "tests" / "preload" / "shim-session-key.so", "SESSION_KEY": env.folder / "session-key"}


def key_of(env):
    return bytes.fromhex((env.folder / "session-key").read_text())


class PlayedOperator:
    """Bob in place of the command, of which the session and its key remain."""

    def __init__(self, env, bob):
        self.env, self.bob, self.key, self.attempt = env, bob, key_of(env), 1000
        self.client = bob.client()
        self.ends = []

    def connect(self, stream=0):
        """Returns a new data connection to the device. An older one of that stream ends by that."""
        self.attempt += 1
        ticket = self.client.ticket(self.bob.rid, stream, self.attempt)
        sock = join(int(ticket["port"]) if "port" in ticket else self.env.relay_port, ticket, OPERATOR)
        receive_reply(sock)
        self.ends.append(PlayedEnd(sock, self.key, stream, self.attempt, is_operator=True))
        return self.ends[-1]

    def close(self):
        for played in self.ends:
            played.close()


@contextlib.contextmanager
def played_operator(env):
    with hostile_operator(env, **key_shim(env)) as (run, bob), contextlib.closing(PlayedOperator(env, bob)) as operator:
        yield run, operator


def can_echo(connection, stream, payload=b"hello", attempt=1):
    """Opens the stream, and waits for the echo of its first bytes."""
    connection.send(begin(stream, data(payload), attempt=attempt))
    connection.wait_until(lambda: connection.payload(stream) == payload, f"the echo of stream {stream}")
    assert connection.has(stream, CONNECTED) and connection.n_begins[stream] == 1
    return True


PING = frame(played_end.PING, bytes(8))
MALFORMED = {
    "a header of 1 byte": b"\0",
    "a header of 5 bytes": segment(1, b"x")[:5],
    "no bytes": struct.pack(">IH", 1, 0),
    "begin without bytes": struct.pack(">IH", 1, BEGIN),
    "the reserved bit": segment(1, b"x", RESERVED),
    "more bytes than in the record": segment(1, bytes(100))[:-1],
    "16,383 bytes that are not there": struct.pack(">IH", 1, 0x3fff) + b"x",
    "a second segment that is cut": segment(0, PING) + segment(1, bytes(10))[:-3],
    "begin of stream 0": segment(0, PING, BEGIN),
    "a HELLO in stream 0": segment(0, hello(0)),
    "a DATA in stream 0": segment(0, data(b"x")),
    "a PING that is too long": segment(0, frame(played_end.PING, bytes(9))),
    "flags in stream 0": segment(0, frame(played_end.PING, bytes(8), flags=1)),
    "noise": bytes(range(256)) * 8,
}


def test_f51_malformed_segments_of_an_operator(env):
    """The device closes the connection, and the next one works: also for a stream that was in the lost one."""
    with played_operator(env) as (_, operator):
        stream = 0
        for name, record in MALFORMED.items():
            print(name)
            connection = operator.connect()
            stream += 1
            assert can_echo(connection, stream)
            with contextlib.suppress(Closed):
                connection.send(record)
            connection.wait_closed()
            connection = operator.connect()
            connection.send(begin(stream, attempt=2, rx_off=5))
            connection.wait_until(lambda: connection.n_begins.get(stream), "the stream in the next connection")
            connection.send(segment(stream, data(b" again")))
            connection.wait_until(lambda: connection.payload(stream) == b" again", "its echo")


def other_number(stream):
    return segment(stream, hello(stream + 1) + data(b"x"), BEGIN)


BAD_STREAMS = {  # the bytes of one stream, and the code by which it is reset
    "no HELLO": (lambda n: segment(n, data(b"x"), BEGIN), PROTOCOL),
    "half a HELLO": (lambda n: segment(n, hello(n)[:20], BEGIN), PROTOCOL),
    "the HELLO of another stream": (other_number, PROTOCOL),
    "attempt 0": (lambda n: begin(n, attempt=0), PROTOCOL),
    "another version": (lambda n: begin(n, version=9), PROTOCOL),
    "a second HELLO": (lambda n: begin(n, hello(n)), PROTOCOL),
    "a PING that is too long": (lambda n: begin(n, frame(played_end.PING, bytes(9))), PROTOCOL),
    "an empty DATA": (lambda n: begin(n, data(b"")), PROTOCOL),
    "an ACK beyond what was sent": (lambda n: begin(n, ack(1 << 40)), PROTOCOL),
    "an END at another place": (lambda n: begin(n, data(b"x"), end(77)), PROTOCOL),
    "DATA behind END": (lambda n: begin(n, data(b"x"), end(1), data(b"y")), PROTOCOL),
    "a frame that is not known": (lambda n: begin(n, frame(0x55)), PROTOCOL),
    "a service that is not offered": (lambda n: begin(n, service=b"nothing"), DENIED),
    "a service that is too long": (lambda n: begin(n, service=b"x" * 400), PROTOCOL),
}


def test_f51_bad_frames_of_a_stream(env):
    """Only that stream is reset; another one in the same connection continues."""
    with played_operator(env) as (_, operator):
        connection = operator.connect()
        assert can_echo(connection, 1)
        for stream, (name, (bad, code)) in enumerate(BAD_STREAMS.items(), 2):
            print(name)
            connection.send(bad(stream))
            connection.wait_until(lambda stream=stream: connection.has(stream, RST), "the reset")
            assert connection.has(stream, RST, struct.pack(">H", code)), connection.frames(stream)
            connection.send(segment(stream, frame(DONE)))
            connection.ping()
        before = connection.payload(1)
        connection.send(segment(1, data(b"still")))
        connection.wait_until(lambda: connection.payload(1) == before + b"still", "the echo of the other stream")


def test_f51_numbers_and_attempts(env):
    """Numbers that do not rise, streams that have ended, and attempts that are not greater."""
    with played_operator(env) as (_, operator):
        connection = operator.connect()
        assert can_echo(connection, 50)
        for stream in (1, 49):  # never opened, and not greater
            connection.send(begin(stream, data(b"x")))
            connection.wait_until(lambda stream=stream: connection.is_rejected(stream, LOST), "the rejection")
        for stream, attempt in ((60, 1), (61, 0)):  # not greater than the present one
            assert can_echo(connection, stream)
            connection.send(begin(stream, data(b"x"), attempt=attempt))
            connection.wait_until(lambda stream=stream: connection.has(stream, RST, struct.pack(">H", PROTOCOL)), "the reset")
        connection.send(segment(70, data(b"without begin")), segment(GREATEST, b"\xff"))  # of an older attempt: dropped
        connection.ping()
        assert 70 not in connection.received and GREATEST not in connection.received
        assert can_echo(connection, 50 + (1 << 20))
        assert can_echo(connection, GREATEST)
        connection.send(begin(GREATEST, data(b"x"), attempt=GREATEST, rx_off=5))
        connection.wait_until(lambda: connection.n_begins[GREATEST] == 2, "the answer to the greatest attempt")
        connection.send(segment(50, frame(0x99, b"skipped") + data(b"!")), segment(0, frame(0x99, b"skipped")))
        connection.wait_until(lambda: connection.payload(50) == b"hello!", "an unknown frame is skipped")


def test_f51_done_before_the_end(env):
    """The device resets the target's connection: the bytes that are missing must not look like an end."""
    with played_operator(env) as (run, operator):
        connection = operator.connect()
        for stream, frames in enumerate(([], [data(b"x")], [data(b"x"), end(1)], [rst(1)]), 1):
            n_errors = len(run.echo.errors)
            connection.send(begin(stream, *frames, frame(DONE)))
            connection.wait_until(lambda stream=stream: connection.has(stream, DONE), "the device is done as well")
            connection.ping()
            assert len(run.echo.errors) >= n_errors
        connection.send(segment(4, data(b"behind DONE")))
        connection.ping()
        assert can_echo(connection, 10)


def test_f51_more_streams_than_permitted(env):
    """Beyond max_streams a stream is rejected. When others have ended there is room again."""
    with played_operator(env) as (_, operator):
        connection = operator.connect()
        n = 0
        while not connection.has(n, RST):
            n += 1
            assert n <= 9000, "no limit"
            connection.send(begin(n))
            if n % 100 == 0 or n > 1000:
                connection.wait_until(lambda: connection.received.get(n), "an answer")
        assert connection.is_rejected(n, TOO_MANY) and n >= 64
        print(f"{n - 1} streams are permitted")
        connection.send(segment(n, frame(DONE)))
        for stream in range(1, 11):
            connection.send(segment(stream, rst(1) + frame(DONE)))
        connection.wait_until(lambda: all(connection.has(stream, DONE) for stream in range(1, 11)), "ten streams have ended")
        assert can_echo(connection, n + 1)


FLOODS = {
    "begins of streams that are unknown": lambda: [segment(0, PING) * 3, *([begin(1, data(b"x"))] * 20), *([begin(2)] * 20)],
    "begins of one stream": lambda: [begin(900, attempt=n) for n in range(1, 200)],
    "new streams of a service that is not offered": lambda: [begin(n, service=b"nothing") for n in range(1000, 1200)],
    "segments of streams that are not there": lambda: [segment(n, bytes(50)) for n in range(1, 250)],
    "pings": lambda: [segment(0, PING)] * 500,
    "one byte each": lambda: [segment(950, b"\x02")] * 1000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_f51_flood_without_reading(env, name):
    """Answers are bounded: the device neither grows (hostile_operator checks its memory) nor lets another session wait."""
    with played_operator(env) as (run, operator):
        connection = operator.connect()
        connection.is_deaf = True
        parts, record = [], b""
        for part in FLOODS[name]():
            if len(record) + len(part) > 16000:
                parts.append(record)
                record = b""
            record += part
        parts.append(record)
        with contextlib.suppress(Closed, AssertionError):  # it may close the connection, or stop to read
            for n in range(400):
                connection.send(parts[n % len(parts)], limit=2)
        run.load.wait_for_progress(64 << 10, limit=10)
        connection.close()
        assert can_echo(operator.connect(), 1 << 24)


def test_f51_more_data_than_the_window(env):
    """A stream in the shared connection may have its window in flight, and no byte more."""
    with played_operator(env) as (_, operator):
        connection = operator.connect()
        connection.send(begin(1, window=0))  # the echo cannot send its answer, and soon does not read any more
        connection.wait_until(lambda: connection.has(1, CONNECTED), "the stream")
        with contextlib.suppress(Closed):
            for _ in range(3000):
                connection.send(segment(1, data(bytes(16000))))
                if connection.has(1, RST):
                    break
        connection.wait_until(lambda: connection.is_rejected(1, PROTOCOL), "the reset of a stream that sends too much")
        assert can_echo(connection, 2)


def test_f51_own_connections_without_tls(env):
    """The streams that should have moved there continue in the shared connection."""
    with played_operator(env) as (_, operator):
        connection = operator.connect()
        for stream, noise in enumerate(NO_TLS, 1):
            assert can_echo(connection, stream)
            ticket = operator.client.ticket(operator.bob.rid, stream, 2)
            send_no_tls(join(env.relay_port, ticket, OPERATOR), noise)
        for stream in range(1, len(NO_TLS) + 1):
            connection.send(segment(stream, data(b" again")))
            connection.wait_until(lambda stream=stream: connection.payload(stream) == b"hello again", "the echo")


# --- the device is hostile ------------------------------------------------------------------------


class PlayedDevice:
    """The device's end of bob's tunnel. The worker is stopped; its place at the relay is taken with a greater generation."""

    def __init__(self, env, run, tunnel, worker):
        self.env, self.run, self.tunnel, self.worker = env, run, tunnel, worker
        self.rid = wait_until(lambda: rid_of(env.folder / "state", b"bob"), "the session file of bob")
        self.key = key_of(env)
        os.kill(worker, signal.SIGSTOP)
        self.client = Client(env, "g1:d:GatewayOli")
        self.client.register(self.rid, generation=1000)
        self.client.do("end", self.rid, 0, 1, 2)  # the operator's first data connection is lost
        self.ends, self.n_tickets = [], 0

    def connect(self, limit=harness.LIMIT):
        """Returns the next data connection for which the operator requests a ticket: the shared one."""
        self.client.do("raw", raw(0x31, bytes(8)).hex())  # a client that was silent for 45 s is lost
        while True:
            ticket = self.client.receive("ticket", limit=limit)
            self.n_tickets += 1
            if ticket["stream"] == "0":
                break
        sock = join(self.env.relay_port, ticket, DEVICE)
        receive_reply(sock)
        self.ends.append(PlayedEnd(sock, self.key, 0, int(ticket["attempt"]), is_operator=False))
        return self.ends[-1]

    def close(self):
        for played in self.ends:
            played.close()
        os.kill(self.worker, signal.SIGCONT)


@contextlib.contextmanager
def played_device(env):
    state = env.folder / "state"
    state.mkdir(mode=0o700)
    env.clients = []
    with FaultRun(env, agent_env={"STATE_DIRECTORY": state}) as run:
        run.load.rate = 1 << 20
        run.start()
        before = set(run.workers())
        tunnel = env.connect("GatewayOli", "0:echo", name="bob", **key_shim(env))
        worker, = set(run.workers()) - before
        rss = harness.rss_kib(tunnel.pid)
        with contextlib.closing(PlayedDevice(env, run, tunnel, worker)) as device:
            yield run, device
            assert tunnel.is_running(), tunnel.log()
            assert harness.rss_kib(tunnel.pid) < rss + 8 * 1024 or harness.SANITIZER != "none"
            assert tunnel.disconnect() == 0
        wait_until(lambda: set(run.workers()) == before, "bob's worker ended")
        for client in env.clients:
            client.kill()


def accept(connection, stream, *frames):
    """Answers a new stream of the operator's, whose HELLO has arrived."""
    connection.wait_until(lambda: connection.n_begins.get(stream), f"stream {stream} of the operator")
    connection.send(begin(stream, frame(CONNECTED, b"\0\0"), *frames, service=b""))


def last_stream(connection, count):
    """Waits until the operator has begun @count streams. Returns the greatest number."""
    connection.wait_until(lambda: len(connection.n_begins.keys() - {0}) >= count, "a new stream")
    return max(connection.n_begins)


def test_f52_malformed_segments_of_a_device(env):
    """The operator drops the connection and requests the next one, with a back-off. Its streams continue there."""
    with played_device(env) as (_, device):
        connection = device.connect()
        with device.tunnel.dial() as sock:
            sock.sendall(b"first")
            stream = last_stream(connection, 1)
            accept(connection, stream, data(b"FIRST"))
            assert harness.receive_exactly(sock, 5) == b"FIRST"
            for n, (name, record) in enumerate(list(MALFORMED.items())[::3]):  # the back-off grows
                print(name)
                with contextlib.suppress(Closed):
                    connection.send(record)
                connection.wait_closed()
                connection = device.connect()
                connection.wait_until(lambda: connection.n_begins.get(stream), "the stream in the next connection")
                answer = struct.pack(">I", n)
                attempt = struct.unpack(">I", connection.frames(stream)[0][1][6:10])[0]
                connection.send(begin(stream, data(answer), attempt=attempt, rx_off=5, service=b""))
                assert harness.receive_exactly(sock, 4) == answer, name


# A device has no service to name, and half a HELLO may be continued.
@pytest.mark.parametrize("name", [name for name in BAD_STREAMS if "service" not in name and "half" not in name])
def test_f52_bad_frames_of_a_device(env, name):
    """The local connection is reset, and another one works."""
    bad, _ = BAD_STREAMS[name]
    with played_device(env) as (_, device):
        connection = device.connect()
        with device.tunnel.dial() as sock:
            sock.sendall(b"x")
            stream = last_stream(connection, 1)
            connection.send(bad(stream))
            with pytest.raises(ConnectionResetError):
                while sock.recv(1):
                    pass
                raise AssertionError("an end without a reset")
        with device.tunnel.dial() as sock:
            sock.sendall(b"y")
            accept(connection, last_stream(connection, 2), data(b"Y"))
            assert harness.receive_exactly(sock, 1) == b"Y"
            connection.ping()


def test_f52_streams_that_a_device_must_not_begin(env):
    """Only an operator opens streams. Begins of others are answered or dropped, and the connection stays."""
    with played_device(env) as (_, device):
        connection = device.connect()
        connection.send(begin(1000, data(b"x")), begin(GREATEST), segment(2000, data(b"x")), segment(0, frame(0x99, b"skipped")))
        connection.ping()
        with contextlib.suppress(Closed, AssertionError):
            for n in range(400):
                connection.send(*[begin(3000 + n * 200 + i) for i in range(200)], limit=2)
        if connection.is_closed:
            connection = device.connect()
        with device.tunnel.dial() as sock:
            sock.sendall(b"y")
            accept(connection, last_stream(connection, 1), data(b"Y"))
            assert harness.receive_exactly(sock, 1) == b"Y"


def test_f52_done_of_a_device_before_the_end(env):
    """A truncated answer is a reset and no end of file."""
    with played_device(env) as (_, device):
        connection = device.connect()
        with device.tunnel.dial() as sock:
            sock.sendall(b"x")
            stream = last_stream(connection, 1)
            accept(connection, stream, data(b"half an ans"), frame(DONE))
            with pytest.raises(ConnectionResetError):
                assert harness.receive_exactly(sock, 20) != b"half an ans", "it looks complete"
        connection.ping()
        with device.tunnel.dial() as sock:
            sock.sendall(b"y")
            stream = last_stream(connection, 2)
            accept(connection, stream, data(b"whole"), end(5))
            assert harness.receive_exactly(sock, 20) == b"whole"


def test_f52_connection_that_never_works_is_requested_with_a_back_off(env):
    """A device that ends each shared connection at once: no storm of tickets, and no busy process."""
    with played_device(env) as (_, device):
        device.connect().close()
        cpu, started = harness.cpu_seconds(device.tunnel.pid), time.monotonic()
        wait_until(lambda: device.connect().close() or device.n_tickets >= 5, "five connections")
        assert time.monotonic() - started > 1.5
        assert harness.cpu_seconds(device.tunnel.pid) - cpu < 1
        connection = device.connect()
        with device.tunnel.dial() as sock:
            sock.sendall(b"y")
            accept(connection, last_stream(connection, 1), data(b"Y"))
            assert harness.receive_exactly(sock, 1) == b"Y"
