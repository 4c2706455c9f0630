# SPDX-License-Identifier: ISC
"""Sessions of the relay: ownership of slots, replacement of connections, ports, grace and limits."""

import ctypes
import os
import resource
import secrets
import socket
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import (BYE, EXPIRED, GRACE, HUNG_UP, IDENTITY, IDLE, LENIENT, LIFETIME, LOST, NEW_PROCESS, NO_PORT, NO_SESSION,
                         PAIRING, REPLACED, TAKEN, WITHDRAWN, Client, is_disconnected, joined, assert_closed_without_data,
                         register_pair, sessions_of)


def test_role_comes_from_the_identity(env, relay):
    operator, device, rid, _ = register_pair(env)
    device.do("open", rid, 1, 1)
    assert is_disconnected(device)
    operator.receive("peer", rid=rid, up=0, reason=LOST)
    mallory = Client(env, "g1:d:mallory")  # in a session of another device
    mallory.do("open", rid, 1, 1)
    assert is_disconnected(mallory)
    assert operator.has_no_more_frames()


def test_sessions_of_others(env, relay):
    operator, device, rid, _ = register_pair(env)
    mallory, trudy = Client(env, "g1:o:mallory"), Client(env, "g1:d:trudy")
    for client in (mallory, trudy):
        client.do("rendezvous", rid, 99, 0, 0)
        client.receive("error", code=TAKEN, rid=rid)
        client.do("bye", 1, rid)
        client.receive("closed")
    mallory = Client(env, "g1:o:mallory")
    mallory.do("open", rid, 1, 1)
    mallory.receive("error", code=NO_SESSION, rid=rid)
    mallory.do("end", rid, 1, 1, 0)
    mallory.do("open", secrets.token_hex(16), 1, 1)
    mallory.receive("error", code=NO_SESSION)
    assert mallory.has_no_more_frames() and operator.has_no_more_frames() and device.has_no_more_frames()


def test_greater_generation_replaces(env, relay):
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    late = Client(env, "g1:o:alice")
    late.do("rendezvous", rid, 1, 0, 0)
    late.receive("error", code=TAKEN)
    fresh = Client(env, "g1:o:alice")
    assert fresh.register(rid, generation=2, peer=True) == port
    operator.receive("bye", code=REPLACED, rid=rid)
    device.receive("peer", rid=rid, up=1, reason=REPLACED)
    operator.receive("closed")
    ends[0].sendall(b"goes on")
    assert receive_exactly(ends[1], 7) == b"goes on"
    joined(fresh, device, rid, port, 2)


def test_replaced_in_one_session_only(env, relay):
    """A replaced connection with another session stays open for it."""
    operator, device, rid, port = register_pair(env)
    other = secrets.token_hex(16)
    operator.register(other)
    fresh = Client(env, "g1:o:alice")
    assert fresh.register(rid, generation=2, peer=True) == port
    operator.receive("bye", code=REPLACED, rid=rid)
    operator.do("open", rid, 7, 1)
    operator.receive("error", code=NO_SESSION)
    operator.do("open", other, 1, 1)
    operator.receive("ticket", rid=other)
    assert operator.has_no_more_frames()


class HalfOpenSocket:
    """The socket of a client that was killed, held open: half-open, as the relay sees it."""

    PIDFD_GETFD = 438

    def __init__(self, client):
        pid = client.child.pid
        number, = [n for n in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{n}").startswith("socket:")]
        pidfd = os.pidfd_open(pid)
        fd = ctypes.CDLL(None, use_errno=True).syscall(self.PIDFD_GETFD, pidfd, int(number), 0)
        os.close(pidfd)
        if fd < 0:
            pytest.skip(f"the socket of a child is not accessible: {os.strerror(ctypes.get_errno())}")
        self.socket = socket.socket(fileno=fd)
        client.kill()
        client.env.clients.remove(client)


@pytest.mark.parametrize("n", [150, pytest.param(1000, marks=pytest.mark.soak)])
def test_f09_half_open_connections_are_replaced(env, relay_of, n):
    """Control connections with a greater generation and data connections with a greater attempt replace the old ones. The relay
    closes the old ones, although their peers never do."""
    relay = relay_of("sessions_per_identity = 64; heartbeat = \"1h\";")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    operator, device, rid, port = register_pair(env)
    half_open, pairs = [], [joined(operator, device, rid, port, 1)]
    before = harness.descriptors(relay.pid)
    for i in range(2, n + 2):
        if i == n // 3:  # they linger for a second: there are always some
            rss = harness.rss_kib(relay.pid)
        half_open.append(HalfOpenSocket(operator))
        operator = Client(env, "g1:o:alice")
        assert operator.register(rid, generation=i, peer=True) == port
        device.receive("peer", rid=rid, up=1, reason=REPLACED)
        pairs.append(joined(operator, device, rid, port, 1, attempt=i))
    wait_until(lambda: harness.descriptors(relay.pid) <= before, f"{before} descriptors again")
    assert harness.SANITIZER != "none" or harness.rss_kib(relay.pid) < rss + 4096
    assert relay.is_running() and sessions_of(relay).startswith("sessions=1 ")
    pairs[-1][0].sendall(b"the last one works")
    assert receive_exactly(pairs[-1][1], 18) == b"the last one works"
    for old in half_open:
        old.socket.close()


def test_killed_client_is_reported_and_may_return(env, relay):
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    device.kill()
    operator.receive("peer", rid=rid, up=0, reason=HUNG_UP)
    ends[0].sendall(b"its data connection lives")
    assert receive_exactly(ends[1], 25) == b"its data connection lives"
    back = Client(env, "g1:d:oli")
    assert back.register(rid, generation=2, peer=True) == port
    operator.receive("peer", rid=rid, up=1, reason=0)
    back.kill()
    operator.receive("peer", rid=rid, up=0, reason=HUNG_UP)
    new_process = Client(env, "g1:d:oli")
    new_process.register(rid, generation=1, peer=True)
    operator.receive("peer", rid=rid, up=1, reason=NEW_PROCESS)


def test_hang_up_after_a_silence_is_a_loss(env, relay_of):
    """A proxy on the path may hang up on a client that is unreachable. A killed process was alive a moment before."""
    relay_of('heartbeat_interval = "300ms";')
    operator, device, rid, _ = register_pair(env)
    started = time.monotonic()
    wait_until(lambda: operator.has_no_more_frames() and time.monotonic() - started > 0.8, "a silence", step=0.1)
    device.kill()
    operator.receive("peer", rid=rid, up=0, reason=LOST)


def test_grace_expires(env, relay_of):
    relay_of('session_grace = "300ms";')
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    device.kill()
    operator.receive("peer", up=0, reason=HUNG_UP)
    operator.receive("bye", code=GRACE, rid=rid)
    for end in ends:
        assert_closed_without_data(end)


def test_waiting_session_expires(env, relay_of):
    relay_of('pairing = "300ms";')
    operator = Client(env, "g1:o:alice")
    rid = secrets.token_hex(16)
    operator.register(rid)
    operator.receive("bye", code=PAIRING, rid=rid)


def test_lifetime_and_idleness(env, relay_of):
    relay_of('idle = "2s";')
    operator, device = Client(env, "g1:o:alice"), Client(env, "g1:d:oli")
    rid = secrets.token_hex(16)
    port = operator.register(rid, ttl=4)
    device.register(rid, ttl=3)
    operator.receive("peer", up=1)
    held = joined(operator, device, rid, port, 1)  # a stream: not idle
    started = time.monotonic()
    for client in (operator, device):
        client.receive("bye", code=LIFETIME, rid=rid)
    assert 2.3 < time.monotonic() - started < 10  # the shorter of the two
    for end in held:
        assert_closed_without_data(end)
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    for end in ends:
        end.close()
    for client in (operator, device):
        client.receive("bye", code=IDLE, rid=rid)


def test_load_keeps_a_session(env, relay_of):
    """The shared connection alone does not keep a session; streams in it do. The idle time begins when the last has ended."""
    relay = relay_of('idle = "1500ms";')
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 0)
    operator.do("load", rid, 2)
    operator.has_no_more_frames()
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3, "longer than idle")
    held[0].sendall(b"x")
    assert receive_exactly(held[1], 1) == b"x"
    operator.do("load", rid, 0)
    started = time.monotonic()
    for client in (operator, device):
        client.receive("bye", code=IDLE, rid=rid)
    assert 1.4 < time.monotonic() - started < 10
    for end in held:
        assert_closed_without_data(end)
    relay.wait_for("ended operator=alice device=oli .* connections=1 ")


def test_shared_connection_does_not_keep_a_session(env, relay_of):
    relay_of('idle = "1500ms";')
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 0)
    for client in (operator, device):
        client.receive("bye", code=IDLE, rid=rid)
    for end in held:
        assert_closed_without_data(end)


def test_load_is_valid_until_the_next_rendezvous(env, relay_of):
    """The operator's new connection reports its load again, or the session is idle."""
    relay_of('idle = "1500ms";')
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 0)
    operator.do("load", rid, 1)
    again = Client(env, "g1:o:alice")
    again.register(rid, generation=2)
    again.do("load", rid, 1)
    again.has_no_more_frames()
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3, "longer than idle")
    assert again.has_no_more_frames()
    third = Client(env, "g1:o:alice")
    third.register(rid, generation=3)
    for _ in range(2):
        device.receive("peer", up=1)
    for client in (third, device):
        client.receive("bye", code=IDLE, rid=rid)
    for end in held:
        assert_closed_without_data(end)


def test_load_by_a_device_is_a_violation(env, relay):
    operator, device, rid, _ = register_pair(env)
    device.do("load", rid, 1)
    assert is_disconnected(device)


def test_bye_ends_the_session_for_both(env, relay):
    for who in (0, 1):
        operator, device, rid, port = register_pair(env)
        ends = joined(operator, device, rid, port, 1)
        sender, other = (operator, device) if who == 0 else (device, operator)
        sender.do("bye", 1, rid)
        sender.receive("closed", reason="closed")
        other.receive("peer", rid=rid, up=0, reason=BYE)
        other.receive("bye", code=BYE, rid=rid)
        for end in ends:
            assert_closed_without_data(end)
        wait_until(lambda p=port: not harness.can_connect(p), "its port is closed")


@pytest.mark.parametrize("code, expected", [(BYE, BYE), (NEW_PROCESS, NEW_PROCESS), (LIFETIME, LIFETIME), (EXPIRED, BYE), (77, BYE)])
def test_bye_reaches_a_client_that_returns(env, relay, code, expected):
    operator, device, rid, _ = register_pair(env)
    device.kill()
    operator.receive("peer", rid=rid, up=0, reason=HUNG_UP)
    operator.do("bye", code, rid)
    operator.receive("closed", reason="closed")
    for identity in ("g1:d:oli", "g1:o:alice"):
        back = Client(env, identity)
        back.do("rendezvous", rid, 2, 0, 0)
        back.receive("bye", code=expected, rid=rid)
        assert back.has_no_more_frames()
        back.register(secrets.token_hex(16))


def test_only_a_device_withdraws(env, relay):
    """BYE 24 of an operator is a BYE like any other: the device's log names no withdrawal."""
    for who, expected in ((0, BYE), (1, WITHDRAWN)):
        operator, device, rid, _ = register_pair(env)
        sender, other = (operator, device) if who == 0 else (device, operator)
        sender.do("bye", WITHDRAWN, rid)
        other.receive("peer", rid=rid, up=0, reason=expected)


def test_bye_is_forgotten_after_the_grace(env, relay_of):
    relay_of('session_grace = "300ms";')
    operator, _, rid, _ = register_pair(env)
    operator.do("bye", BYE, rid)
    operator.receive("closed", reason="closed")
    back = Client(env, "g1:o:alice")

    def is_forgotten():
        back.do("rendezvous", rid, 2, 0, 0)
        with back.news:
            assert back.news.wait_for(lambda: back.lines, LIMIT)
            return back.lines.pop(0).startswith("session")

    wait_until(is_forgotten, "it is a new session", limit=10)


def test_other_ends_are_not_remembered(env, relay_of):
    relay_of('session_grace = "300ms";')
    operator, device, rid, _ = register_pair(env)
    device.kill()
    operator.receive("peer", rid=rid, up=0, reason=HUNG_UP)
    operator.receive("bye", code=GRACE, rid=rid)
    Client(env, "g1:d:oli").register(rid, generation=2, peer=False)


def test_generation_0_replaces_a_connection_that_is_not_lost_yet(env, relay):
    operator, device, rid, _ = register_pair(env)
    new_process = Client(env, "g1:d:oli")
    new_process.register(rid, generation=0, peer=True)
    device.receive("bye", code=REPLACED, rid=rid)
    operator.receive("peer", rid=rid, up=1, reason=NEW_PROCESS)
    new_process.do("bye", NEW_PROCESS, rid)
    operator.receive("peer", rid=rid, up=0, reason=NEW_PROCESS)
    operator.receive("bye", code=NEW_PROCESS, rid=rid)
    mallory = Client(env, "g1:d:eli")
    _, _, other, _ = register_pair(env, names=("bob", "ule"))
    mallory.do("rendezvous", other, 0, 0, 0)
    mallory.receive("error", code=TAKEN)


def test_sessions_of_one_identity_are_limited(env, relay_of):
    relay_of("sessions_per_identity = 3;")
    alice = Client(env, "g1:o:alice")
    rids = [secrets.token_hex(16) for _ in range(4)]
    for rid in rids[:3]:
        alice.register(rid)
    alice.do("rendezvous", rids[3], 1, 0, 0)
    alice.receive("limit", code=IDENTITY, rid=rids[3], value=3)
    alice.receive("error", code=IDENTITY, rid=rids[3])
    again = Client(env, "g1:o:alice")  # the limit is per identity, not per connection
    again.do("rendezvous", rids[3], 1, 0, 0)
    again.receive("error", code=IDENTITY)
    Client(env, "g1:d:alice").register(rids[3])  # a device of the same name is another identity
    alice.do("bye", 1, rids[0])
    assert alice.has_no_more_frames()
    again.register(secrets.token_hex(16))


def test_connections_of_one_identity_are_limited(env, relay_of):
    relay_of(LENIENT + "sessions_per_identity = 1;")
    for _ in range(4):
        Client(env, "g1:o:alice")
    many = Client(env, "g1:o:alice", hello=False)
    many.receive("connected")
    many.do("hello 1 1")
    assert is_disconnected(many, IDENTITY)
    Client(env, "g1:d:alice")


@pytest.mark.parametrize("n_granted", [5, 3])
def test_session_storm_is_slowed(env, relay_of, n_granted):
    """A client may request ten sessions per second, rejected or not. Other clients are served meanwhile."""
    relay_of(f"sessions_per_identity = {100 if n_granted == 5 else n_granted}; frames = 100;", 'server = { port_cooldown = "0"; };',
             GOTTHARD_SERVER_PORTS_TO=env.relay_ports + 4)
    alice, bob = Client(env, "g1:o:alice"), Client(env, "g1:o:bob")
    started = time.monotonic()
    for _ in range(50):
        alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    for n in range(50):
        alice.receive("session" if n < n_granted else "error")
        if n == 30:
            assert bob.has_no_more_frames()
    assert time.monotonic() - started > 2  # 20 at once, then ten per second


def test_range_used_up_and_ports_of_others(env, relay_of):
    """Ports in use by other programs are skipped. A client gets an error of its own if none is free."""
    blocked = socket.create_server(("127.0.0.1", env.relay_ports + 1))
    relay = relay_of("sessions_per_identity = 50;", 'server = { port_cooldown = "200ms"; };',
                     GOTTHARD_SERVER_PORTS_TO=env.relay_ports + 3)
    alice = Client(env, "g1:o:alice")
    rids = [secrets.token_hex(16) for _ in range(4)]
    ports = [alice.register(rid) for rid in rids[:3]]
    assert sorted(ports) == [env.relay_ports + n for n in (0, 2, 3)]
    alice.do("rendezvous", rids[3], 1, 0, 0)
    alice.receive("error", code=NO_PORT, rid=rids[3])
    relay.wait_for(f"no free port in {env.relay_ports}-{env.relay_ports + 3}")
    alice.do("bye", 1, rids[1])

    def has_one():
        alice.do("rendezvous", rids[3], 1, 0, 0)
        with alice.news:
            assert alice.news.wait_for(lambda: alice.lines, LIMIT)
            line = alice.lines.pop(0)
        return line.startswith("session") and f"port={ports[1]}" in line

    wait_until(has_one, "the cool-down of the port has ended", step=0.1)
    blocked.close()


def test_port_in_cooldown_is_used_if_no_other_is_free(env, relay_of):
    """A port in its cool-down is better than none."""
    relay_of(more=f'server = {{ ports_to = {env.relay_ports + 3}; port_cooldown = "1h"; }};')
    for _ in range(3):
        mallory = Client(env, "g1:d:mallory")
        ports = [mallory.register(secrets.token_hex(16)) for _ in range(4)]
        mallory.do("bye", 1, "00" * 16)
        mallory.receive("closed")
        for port in ports:  # a data thread closes them a moment later
            wait_until(lambda p=port: not harness.can_connect(p), f"port {port} is closed")
    register_pair(env)


def test_port_hint_is_used(env, relay):
    alice = Client(env, "g1:o:alice")
    assert alice.register(secrets.token_hex(16), hint=env.relay_ports + 7) == env.relay_ports + 7
    for hint in (env.relay_ports + 7, env.relay_port, 1, 65535):
        assert alice.register(secrets.token_hex(16), hint=hint) not in (hint, env.relay_ports + 7)
