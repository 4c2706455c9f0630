# SPDX-License-Identifier: ISC
"""The relay against who has no key, or the wrong one: not a byte for a stranger, whatever comes to a port.

Each class of them comes from a loopback address of its own, so that penalties of one do not fall on another.
"""

import contextlib
import random
import secrets
import select
import signal
import socket
import ssl
import subprocess
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import (CLIENT, CLIENT_HELLO, DEVICE, EXPIRED, GREETING, LENIENT, OPERATOR, Client, dial,
                         is_refused_at_once, join, join_bytes, joined, never_a_byte, pair_up, try_to_send)

STRANGE = {
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
def test_strangers_hear_nothing(world, relay_of, where):
    relay = relay_of(LENIENT + 'join = "500ms"; handshake = "1s";')
    operator, _, _, port = pair_up(world)
    port = world.relay_port if where == "main" else port
    for name, data in STRANGE.items():
        sock = dial(port)
        try_to_send(sock, data)
        never_a_byte(sock)
    never_a_byte(dial(port))  # silence
    sock = dial(port)
    sock.shutdown(socket.SHUT_WR)
    never_a_byte(sock)
    assert operator.is_quiet() and relay.is_running()


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_truncation_of_a_join(world, relay_of, where):
    """A good ticket, cut at every byte: nothing comes back, and the ticket is still good."""
    relay_of(LENIENT + 'join = "2s";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    at = world.relay_port if where == "main" else port
    for n in range(64):
        sock = dial(at)
        sock.sendall(join_bytes(ticket, OPERATOR)[:n])
        sock.shutdown(socket.SHUT_WR)
        never_a_byte(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2


@pytest.mark.parametrize("where", ["main", "data"])
def test_every_changed_byte_of_a_join(world, relay_of, where):
    relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    at = world.relay_port if where == "main" else port
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
        never_a_byte(sock)
    ends = join(at, ticket, OPERATOR), join(at, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2


def test_tickets_that_are_no_good_here(world, relay_of):
    relay_of(LENIENT + 'ticket = "1s";')
    operator, device, rid, port = pair_up(world)
    _, _, _, other_port = pair_up(world, names=("bob", "eli"))
    ends = joined(operator, device, rid, port, 1)
    used = operator.ticket(rid, 2)
    device.hear("ticket")
    first = join(port, used, OPERATOR)
    never_a_byte(join(port, used, OPERATOR))        # its own half is used
    never_a_byte(join(other_port, used, DEVICE))    # another session's port
    second = join(port, used, DEVICE)
    assert receive_exactly(first, 8) == receive_exactly(second, 8) == GREETING
    never_a_byte(join(port, used, DEVICE))          # both halves are used
    expiring = operator.ticket(rid, 3)
    device.hear("ticket")
    for client in (operator, device):
        client.hear("end", stream=3, code=EXPIRED)
    never_a_byte(join(port, expiring, OPERATOR))
    never_a_byte(join(world.relay_port, expiring, DEVICE))
    ends[0].sendall(b"untouched")
    assert receive_exactly(ends[1], 9) == b"untouched"


def test_join_in_crumbs(world, relay_of):
    """Byte for byte is good as long as it is quick; too slow is cut, however lively."""
    relay_of(LENIENT + 'join = "1s";')
    operator, device, rid, port = pair_up(world)
    for at in (port, world.relay_port):
        ticket = operator.ticket(rid, at)
        device.hear("ticket")
        ends = dial(at), dial(at)
        for n in range(64):
            for end, role in zip(ends, (OPERATOR, DEVICE)):
                end.sendall(join_bytes(ticket, role)[n:n + 1])
        assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
        slow = dial(at)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for n in range(63):
                slow.sendall(join_bytes(ticket, OPERATOR)[n:n + 1])
                if select.select([slow], [], [], 0.1)[0]:
                    break
        never_a_byte(slow)
        assert time.monotonic() - begun < 5


def test_the_second_join_has_its_deadline(world, relay_of):
    relay_of(LENIENT + 'second_join = "300ms";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    never_a_byte(join(port, ticket, OPERATOR))
    for client in (operator, device):
        client.hear("end", stream=1, code=EXPIRED)
    never_a_byte(join(port, ticket, DEVICE))
    joined(operator, device, rid, port, 1, attempt=2)


@pytest.mark.parametrize("how", ["ended", "replaced", "expired", "over"])
def test_who_is_late_is_no_offender(world, relay_of, how):
    """A JOIN whose ticket has just ended hears nothing, and its source goes on being heard. (One without a ticket is shut out.)"""
    relay_of('penalty_failed = "20s"; second_join = "300ms"; ticket = "1s";')
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    if how == "ended":
        operator.do(f"end {rid} 1 1 1")
        device.hear("end", stream=1)
    elif how == "replaced":
        operator.ticket(rid, 1, 2)
        device.hear("ticket", attempt=2)
    elif how == "expired":
        device.hear("end", stream=1, code=EXPIRED)
    else:
        operator.do(f"bye 1 {rid}")
        device.hear("peer", up=0)
        device.hear("bye")
    source = "127.0.0.68"
    for _ in range(3):
        never_a_byte(join(world.relay_port, ticket, DEVICE, source))
    assert not is_refused_at_once(dial(world.relay_port, source))
    never_a_byte(join(world.relay_port, {**ticket, "secret": "00" * 32}, DEVICE, source))
    assert is_refused_at_once(dial(world.relay_port, source))


def test_penalties_fall_on_their_source_alone(world, relay):
    """A failed JOIN shuts its source out; another source, and a good ticket from the same one, are not touched."""
    operator, device, rid, port = pair_up(world)
    for at in (world.relay_port, port):
        sock = dial(at, "127.0.0.66")
        sock.sendall(b"GTJ1\x01\x01\0\0" + bytes(56))
        never_a_byte(sock)
        for door in (world.relay_port, port):
            shut_out = dial(door, "127.0.0.66")
            try_to_send(shut_out, b"GTJ1")
            assert is_refused_at_once(shut_out)
        assert not is_refused_at_once(dial(world.relay_port, "127.0.0.67"))
    ticket = operator.ticket(rid, 1)
    device.hear("ticket")
    ends = join(port, ticket, OPERATOR, "127.0.0.66"), join(port, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
    assert "penalty" in relay.log()


def test_flood_of_silent_connections(world, relay):
    """At most 16 of one source and 256 in all are held; a tunnel does not notice, and all of it is given back."""
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    flood = [dial(world.relay_port, "127.0.0.2") for _ in range(100)]
    wait_until(lambda: harness.descriptors(relay.pid) <= before + 17, "one source has its limit")
    for n in range(400):
        flood.append(dial(world.relay_port, f"127.0.{1 + n // 100}.{1 + n % 100}"))
        ends[0].sendall(b"x")
        assert receive_exactly(ends[1], 1) == b"x"
    held = harness.descriptors(relay.pid) - before
    assert 64 <= held <= 257, held
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 8192
    for sock in flood:
        sock.close()
    wait_until(lambda: harness.descriptors(relay.pid) <= before + 2, "descriptors are back")
    log = relay.log()
    assert log.count("refused") <= 40, "refusals are rate-limited"
    Client(world, "g1:o:carol")


def test_urgent_bytes_in_a_hello(world, relay):
    """They hide what comes behind them from who only looks: nobody waits for the rest, and nobody spins."""
    hello = CLIENT_HELLO
    cpu = harness.cpu_seconds(relay.pid)
    sock = dial(world.relay_port, "127.0.0.5")
    sock.sendall(hello[:100])
    time.sleep(0.1)
    assert not is_refused_at_once(sock)
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(hello[100:])
    begun = time.monotonic()
    never_a_byte(sock)
    assert time.monotonic() - begun < 5, "its time is 10 s"
    assert is_refused_at_once(dial(world.relay_port, "127.0.0.5")), "it is an offence"
    assert harness.cpu_seconds(relay.pid) - cpu < 1


def hello_of(world):
    """What a client with a good key says first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = subprocess.Popen([CLIENT, "127.0.0.1", str(listener.getsockname()[1]), "g1:o:alice"], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL,
                                 env=harness.clean_environment(GOTTHARD_CRYPT_KEY=world.key, GOTTHARD_CRYPT_IV=world.iv))
        listener.settimeout(LIMIT)
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(LIMIT)
            hello = receive_exactly(sock, 5)
            hello += receive_exactly(sock, int.from_bytes(hello[3:], "big"))
        child.kill()
        child.wait(LIMIT)
    return hello


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_bad_network_is_no_offence(world, relay_of, is_silent):
    """Whoever has shown the key and is cut off then, or falls silent, finds the door open when the network is back."""
    relay = relay_of('penalty_failed = "1h"; penalty_timeout = "1h"; handshake = "300ms";')
    hello = hello_of(world)
    socks = []
    for n in range(5):
        socks.append(dial(world.relay_port))
        socks[-1].sendall(hello)
        assert receive_exactly(socks[-1], 1) == b"\x16", "an answer: the key is good"
        if not is_silent:
            socks[-1].close()
    relay.wait_for("handshake timeout" if is_silent else "handshake failed")
    Client(world, "g1:o:alice")
    spoiled = hello[:-1] + bytes([hello[-1] ^ 1])  # the binder is last
    sock = dial(world.relay_port)
    sock.sendall(spoiled)
    wait_until(lambda: is_refused_at_once(dial(world.relay_port)), "a wrong key is an offence")


def test_port_scan(world, relay):
    """Only sessions have open ports, and those say nothing."""
    _, _, _, port = pair_up(world)
    is_open = []
    for number in range(world.relay_ports, world.relay_ports + world.n_relay_ports):
        with contextlib.suppress(ConnectionRefusedError):
            is_open.append(number)
            sock = dial(number, "127.0.0.9")
            sock.shutdown(socket.SHUT_WR)
            never_a_byte(sock)
            continue
        is_open.pop()
    assert is_open == [port]


def test_tls_without_our_key(world, relay_of):
    """Any TLS client that offers no PSK hears nothing at all; a wrong or unknown one gets one alert, the same for both."""
    relay_of(LENIENT)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        sock = dial(world.relay_port)
        sock.sendall(outgoing.read())
        never_a_byte(sock)
    reasons = set()
    for identity, key in (("g1:o:alice", secrets.token_hex(32)), ("g1:x:alice", world.key), ("alice", world.key),
                          ("g1:d:" + "x" * 129, world.key), ("g1:o:a/b", world.key)):
        client = Client(world, identity, hello=False)
        client.kill()
        world_key, world.key = world.key, key
        client = Client(world, identity, hello=False)
        world.key = world_key
        reasons.add(client.hear("closed")["reason"])
    assert len(reasons) == 1, reasons


def test_keys_are_changed_without_a_cut(world, relay_of):
    """While the relay holds two keys either is good; when the old one goes, the new one stays."""
    old, new = secrets.token_hex(32), world.key
    relay = relay_of(LENIENT, f'crypt = {{ key_previous = "{old}"; }};')

    def connects(key):
        world.key = key
        client = Client(world, "g1:o:alice", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    assert connects(new) and connects(old) and not connects(secrets.token_hex(32))
    (relay.folder_of_config / "relayd.conf").write_text(f"limits = {{ {LENIENT} }};")
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    assert connects(new) and not connects(old)
