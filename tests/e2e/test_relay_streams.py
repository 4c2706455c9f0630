# SPDX-License-Identifier: ISC
"""The relay's streams: tickets, attempts, JOINs, and the bytes of a pair."""

import contextlib
import secrets
import socket
import struct
import threading
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import (DEVICE, GREETING, LENIENT, LIMITED, OPERATOR, Client, is_disconnected, join, joined,
                         assert_closed_without_data, receive_reply, register_pair)


def test_draining_stream_makes_room(env, relay_of):
    """A client that has ended one of its 64 streams may open the next at once, while the pair still drains."""
    relay_of(LENIENT)
    operator, device, rid, port = register_pair(env)
    ends = [joined(operator, device, rid, port, stream) for stream in range(1, 65)]
    operator.do("open", rid, 65, 1)
    operator.receive("end", stream=65, code=LIMITED)
    device.do("end", rid, 7, 1, 0)
    operator.receive("end", stream=7)
    ends.append(joined(operator, device, rid, port, 66))
    operator.do("open", rid, 67, 1)
    operator.receive("end", stream=67, code=LIMITED)
    for pair in ends:
        pair[0].sendall(b"x")
        assert pair[1].recv(1) == b"x"
        for end in pair:
            end.close()


def test_open_limits(env, relay_of):
    """At most 64 live streams and 16 unused tickets. The other streams wait for a ticket; the 65th is rejected. Stream 0, the shared
    connection, is beyond both limits."""
    relay_of(LENIENT)
    operator, device, rid, port = register_pair(env)
    for stream in range(1, 66):
        operator.do("open", rid, stream, 1)
    tickets = [operator.receive("ticket", stream=n) for n in range(1, 17)]
    operator.receive("end", stream=65, code=LIMITED)
    assert operator.has_no_more_frames()
    for n in range(1, 17):
        device.receive("ticket", stream=n)
    shared = joined(operator, device, rid, port, 0)
    shared[0].sendall(b"x")
    assert receive_exactly(shared[1], 1) == b"x"
    ends = []
    for n in range(48):  # each used ticket makes room for another
        ends.append((join(port, tickets[n], OPERATOR), join(port, tickets[n], DEVICE)))
        tickets.append(operator.receive("ticket", stream=17 + n))
        assert device.receive("ticket") == tickets[-1]
    ends.append((join(port, tickets[48], OPERATOR), join(port, tickets[48], DEVICE)))
    for end in ends[0]:
        assert receive_reply(end) == GREETING
        end.close()
    wait_until(lambda: opens(operator, device, rid, 65), "an ended stream makes room")


def opens(operator, device, rid, stream):
    opens.attempt = getattr(opens, "attempt", 1) + 1
    operator.do("open", rid, stream, opens.attempt)
    with operator.news:
        assert operator.news.wait_for(lambda: operator.lines, LIMIT)
        line = operator.lines.pop(0)
    return line.startswith("ticket")


def test_attempts_must_grow(env, relay):
    for attempts in ((1, 1), (5, 4), (4294967295, 4294967295), (4294967295, 1)):
        operator, _, rid, _ = register_pair(env)
        operator.ticket(rid, 4294967295, attempts[0])
        operator.do("open", rid, 4294967295, attempts[1])
        assert is_disconnected(operator)


def test_newer_attempt_ends_the_older(env, relay):
    operator, device, rid, port = register_pair(env)
    old_ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    newer = operator.ticket(rid, 1, 2)
    assert device.receive("ticket", attempt=2) == newer
    ends = join(port, newer, OPERATOR), join(port, newer, DEVICE)
    assert [receive_reply(end) for end in ends] == [GREETING] * 2
    newest = joined(operator, device, rid, port, 1, attempt=3)
    for end in ends:
        assert_closed_without_data(end)
    newest[0].sendall(b"x")
    assert receive_exactly(newest[1], 1) == b"x"
    assert_closed_without_data(join(port, old_ticket, OPERATOR))


def test_open_before_the_device_registers(env, relay):
    operator = Client(env, "g1:o:alice")
    rid = secrets.token_hex(16)
    operator.do("rendezvous", rid, 1, 0, 0)
    operator.do("open", rid, 1, 1)
    port = int(operator.receive("session")["port"])
    ticket = operator.receive("ticket")
    early = join(port, ticket, OPERATOR)
    device = Client(env, "g1:d:oli")
    device.register(rid)
    assert {**device.receive("ticket"), "ttl": 0} == {**ticket, "ttl": 0}
    late = join(port, ticket, DEVICE)
    assert receive_reply(early) == receive_reply(late) == GREETING


def test_stream_end_is_forwarded(env, relay):
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    device.receive("ticket")
    device.do("end", rid, 1, 1, 9)
    operator.receive("end", rid=rid, stream=1, attempt=1, code=9)
    assert operator.has_no_more_frames()
    assert_closed_without_data(join(port, ticket, OPERATOR))  # its ticket is not valid any more


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("where", ["data", "main", "mixed"])
def test_bytes_are_transferred(env, relay_of, splice, where):
    relay_of("", f'relay = {{ splice = "{splice}"; }};')
    operator, device, rid, port = register_pair(env)
    ports = {"data": (port, port), "main": (env.relay_port,) * 2, "mixed": (port, env.relay_port)}[where]
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

    threads = [threading.Thread(target=one, args=(a, b, f"{n}{direction}"))
               for n, ends in enumerate(streams) for direction, (a, b) in enumerate((ends, ends[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.parametrize("splice", ["auto", "off"])
def test_reset_stays_a_reset(env, relay_of, splice):
    relay_of("", f'relay = {{ splice = "{splice}"; }};')
    operator, device, rid, port = register_pair(env)
    for stream, side in ((1, 0), (2, 1)):
        ends = joined(operator, device, rid, port, stream)
        ends[side].sendall(b"x" * 100000)
        ends[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends[side].close()
        with pytest.raises(ConnectionResetError):
            while ends[1 - side].recv(65536):
                pass


def test_blocked_streams_do_not_delay_others(env, relay):
    operator, device, rid, port = register_pair(env)
    blocked = [joined(operator, device, rid, port, n) for n in range(1, 9)]
    for sender, _ in blocked:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                sender.send(bytes(1 << 20))
    other = joined(operator, device, rid, port, 9)
    cpu, started = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - started < 1:
        other[0].sendall(b"ping")
        assert receive_exactly(other[1], 4) == b"ping"
    assert harness.cpu_seconds(relay.pid) - cpu < 1.5
