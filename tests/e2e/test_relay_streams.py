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
from relayclient import (DEVICE, GREETING, LENIENT, LIMITED, OPERATOR, Client, is_thrown_out, join, joined,
                         never_a_byte, pair_up)


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
