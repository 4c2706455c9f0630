# SPDX-License-Identifier: ISC
"""The relay's sessions: who may be in one, who replaces whom, ports, graces and limits."""

import ctypes
import os
import resource
import secrets
import socket
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import (BYE, EXPIRED, HUNG_UP, LENIENT, LIMITED, LOST, NEW_PROCESS, NO_PORT, NO_SESSION, REPLACED,
                         TAKEN, Client, is_thrown_out, joined, never_a_byte, pair_up, sessions_of)


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


def test_sessions_that_come_and_go_keep_nobody_out(world, relay_of):
    """A port that rests is better than none."""
    relay_of(more=f'server = {{ ports_to = {world.relay_ports + 3}; ports_rest = "1h"; }};')
    for _ in range(3):
        mallory = Client(world, "g1:d:mallory")
        for _ in range(4):
            mallory.register(secrets.token_hex(16))
        mallory.do("bye", 1, "00" * 16)
        mallory.hear("closed")
    pair_up(world)


def test_hint_is_honoured(world, relay):
    alice = Client(world, "g1:o:alice")
    assert alice.register(secrets.token_hex(16), hint=world.relay_ports + 7) == world.relay_ports + 7
    for hint in (world.relay_ports + 7, world.relay_port, 1, 65535):
        assert alice.register(secrets.token_hex(16), hint=hint) not in (hint, world.relay_ports + 7)
