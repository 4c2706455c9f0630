# SPDX-License-Identifier: ISC
"""What each setting of gotthard-relayd does. Where a time is set short, the bound is well below its default."""

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import LIMIT, PROGRAMS, receive_exactly, wait_until
from manager import Manager
from relayclient import (CLIENT_HELLO, DEVICE, EXPIRED, GREETING, HUNG_UP, LENIENT, LIMITED, NO_PORT, OPERATOR, Client, dial,
                         is_refused_at_once, join, joined, never_a_byte, pair_up)
from settings import check, effect

F_GETPIPE_SZ = 1032
NO_DRAIN = 'relay = { drain = "0"; };'


class within:
    """The block takes less than so many seconds: less than it would by default."""

    def __init__(self, seconds, least=0):
        self.least, self.seconds = least, seconds

    def __enter__(self):
        self.begun = time.monotonic()

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.least <= time.monotonic() - self.begun < self.seconds


def rid():
    return secrets.token_hex(16)


def is_open(sock):
    """Neither closed nor spoken to."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b"?"
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def n_open(socks):
    return sum(is_open(sock) for sock in socks)


def is_shut_out(port, source):
    with contextlib.closing(dial(port, source)) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(b"G")
        return bool(is_refused_at_once(sock))


def fail_to_join(port, source):
    sock = dial(port, source)
    sock.sendall(b"GTJ1\x01\x01\0\0" + bytes(56))
    never_a_byte(sock)


# --- server ---------------------------------------------------------------------------------------


@effect("relayd", "server.bind")
def test_bind(world):
    """The main port and those of sessions are at that address and at no other."""
    world.clients = []
    relay = harness.Process(world, "relayd", [PROGRAMS["relayd"], "--bind", "127.0.0.2"], env=world.relay_environment())
    relay.wait_for("listening port=")
    client = Client(world, "g1:o:alice", host="127.0.0.2")
    for port in (world.relay_port, client.register(rid())):
        assert harness.can_connect(port, "127.0.0.2") and not harness.can_connect(port)
    client.kill()
    for wrong in ("localhost", "127.0.0", "127.0.0.1:7000"):
        done = check("relayd", "--bind", wrong)
        assert done.returncode == 78 and "--bind" in done.stderr, done.stderr
    done = subprocess.run([PROGRAMS["relayd"], "--bind", "192.0.2.1"], env=world.relay_environment(), capture_output=True,
                          text=True, timeout=LIMIT, check=False)
    assert done.returncode == 69 and "192.0.2.1" in done.stderr


@effect("relayd", "server.port", "server.ports_from", "server.ports_to")
def test_ports(world, relay_of):
    first = world.relay_ports + 5
    relay_of("", f"server = {{ ports_from = {first}; ports_to = {first + 1}; }};")
    alice = Client(world, "g1:o:alice")  # at the main port
    assert {alice.register(rid()), alice.register(rid())} == {first, first + 1}
    alice.do("rendezvous", rid(), 1, 0, 0)
    alice.hear("error", code=NO_PORT)


@effect("relayd", "server.ports_rest")
@pytest.mark.parametrize("rest", ["0", "1h"])
def test_ports_rest(world, relay_of, rest):
    relay_of("", f'server = {{ ports_to = {world.relay_ports + 1}; ports_rest = "{rest}"; }};')
    alice, session = Client(world, "g1:o:alice"), rid()
    port = alice.register(session)
    alice.do("bye", 1, session)
    alice.hear("closed")
    alice = Client(world, "g1:o:alice")
    assert (alice.register(rid(), hint=port) == port) == (rest == "0")


# --- the key --------------------------------------------------------------------------------------


@effect("relayd", "crypt.key", "crypt.iv")
def test_key(world, relay_of):
    """Whoever has another key, or another salt, is not let in; nor does the relay start with what is no key."""
    relay_of(LENIENT)
    Client(world, "g1:o:alice")
    for name, wrong in (("key", secrets.token_hex(32)), ("iv", secrets.token_hex(16))):
        right = getattr(world, name)
        setattr(world, name, wrong)
        Client(world, "g1:o:alice", hello=False).hear("closed")
        setattr(world, name, right)


@effect("relayd", "crypt.key_previous")
def test_key_previous(world, relay_of):
    """Whoever still has the key of before, or has the new one, is let in; nobody else."""
    previous, new = world.key, secrets.token_hex(32)
    relay_of(LENIENT, GOTTHARD_CRYPT_KEY=new, GOTTHARD_CRYPT_KEY_PREVIOUS=previous)
    for world.key in (previous, new):
        Client(world, "g1:o:alice")
    world.key = secrets.token_hex(32)
    Client(world, "g1:o:alice", hello=False).hear("closed")


# --- relay ----------------------------------------------------------------------------------------


@effect("relayd", "relay.threads")
def test_threads(world, relay_of):
    """That many carry data; sessions go to the one that has the fewest."""
    counts = []
    for n in (1, 3):
        relay = relay_of("", f"relay = {{ threads = {n}; }};")
        relay.send(signal.SIGUSR1)
        relay.wait_for("status ")  # so that all have begun
        counts.append(len(os.listdir(f"/proc/{relay.pid}/task")))
        if n == 1:
            relay.stop()
    assert counts[1] == counts[0] + 2  # a sanitizer may have one of its own
    alice = Client(world, "g1:o:alice")
    for _ in range(3):
        alice.register(rid())
    relay.send(signal.SIGUSR1)
    relay.wait_for("status session=", count=3)
    assert set(re.findall(r"status session=.* plane=(\d)", relay.log())) == {"0", "1", "2"}


def pipes_of(pid):
    """The sizes of a process's pipes."""
    sizes = []
    harness.descriptors(pid)  # for root alone
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(fd).startswith("pipe:"):
                pipe = os.open(fd, os.O_RDONLY | os.O_NONBLOCK)
                sizes.append(fcntl.fcntl(pipe, F_GETPIPE_SZ))
                os.close(pipe)
    return sizes


@effect("relayd", "relay.splice", "relay.pipe_size")
@pytest.mark.parametrize("splice, size", [("off", 1 << 20), ("auto", 64 << 10), ("auto", 128 << 10)])
def test_splice(world, relay_of, splice, size):
    relay = relay_of("", f'relay = {{ splice = "{splice}"; pipe_size = "{size >> 10}KiB"; }};')
    ends = joined(*pair_up(world), 1)
    ends[0].sendall(b"x")
    assert receive_exactly(ends[1], 1) == b"x"
    wait_until(lambda: set(pipes_of(relay.pid)) == ({size} if splice == "auto" else set()), "such pipes")


@effect("relayd", "relay.congestion")
def test_congestion(world, relay_of):
    if not shutil.which("ss"):
        pytest.skip("ss (iproute2) is not installed")
    proc = pathlib.Path("/proc/sys/net/ipv4")
    usual = (proc / "tcp_congestion_control").read_text().strip()
    name = next((c for c in (proc / "tcp_allowed_congestion_control").read_text().split() if c != "reno"), usual)  # which is what this machine's own way has
    relay = relay_of("", f'relay = {{ congestion = "{name}"; }};')
    operator, device, session, port = pair_up(world)
    ends = joined(operator, device, session, port, 1)
    shown = subprocess.run(["ss", "-tinH", "state", "established", "sport", "=", f":{port}"], capture_output=True, text=True,
                           check=True).stdout
    assert len(re.findall(rf"^\s+{name} ", shown, re.MULTILINE)) == len(ends), shown
    assert "relay.congestion" not in relay.log()


def test_congestion_that_there_is_not(world, relay_of):
    relay = relay_of("", 'relay = { congestion = "nonsense"; };')
    relay.wait_for("warn .*relay.congestion: no \"nonsense\"")
    joined(*pair_up(world), 1)


@effect("relayd", "relay.drain")
@pytest.mark.parametrize("drain, least, most", [("0", 0, 4), ("2s", 1.9, 4.5)])
def test_drain_time(world, relay_of, drain, least, most):
    relay = relay_of("", f'relay = {{ drain = "{drain}"; }};')
    held = joined(*pair_up(world), 1)
    with within(most, least):
        assert relay.stop() == 0
    assert len(held) == 2


# --- deadlines ------------------------------------------------------------------------------------


@effect("relayd", "limits.handshake")
def test_handshake(world, relay_of):
    relay_of(LENIENT + 'handshake = "300ms";')
    for first in (b"", b"\x16", CLIENT_HELLO[:100]):
        sock = dial(world.relay_port)
        with within(5):
            sock.sendall(first)
            never_a_byte(sock)


@effect("relayd", "limits.hello")
def test_hello(world, relay_of):
    relay_of('hello = "300ms";')
    client = Client(world, "g1:o:alice", hello=False)
    client.hear("connected")
    with within(4):
        client.hear("closed")


@effect("relayd", "limits.join")
def test_join(world, relay_of):
    relay_of(LENIENT + 'join = "300ms";')
    *_, port = pair_up(world)
    for at in (port, world.relay_port):
        sock = dial(at)
        with within(4):
            sock.sendall(b"GTJ1")
            never_a_byte(sock)


@effect("relayd", "limits.second_join")
def test_second_join(world, relay_of):
    relay_of(LENIENT + 'second_join = "300ms";')
    operator, device, session, port = pair_up(world)
    ticket = operator.ticket(session, 1)
    device.hear("ticket")
    with within(5):
        never_a_byte(join(port, ticket, OPERATOR))
        operator.hear("end", stream=1, code=EXPIRED)


@effect("relayd", "limits.heartbeat", "limits.dead_after")
def test_heartbeat(world, relay_of):
    """The silent are asked, and lost if they stay silent."""
    relay_of('heartbeat = "200ms"; dead_after = "2s"; half = "1h";')
    client = Client(world, "g1:o:alice")
    with within(10, 1.5):
        with within(5):
            client.hear("ping")
        wait_until(lambda: client.all[-1].startswith("closed"), "it counts as lost")


@effect("relayd", "limits.half")
def test_half(world, relay_of):
    relay_of('half = "2s";')
    waiting, session = Client(world, "g1:o:alice"), rid()
    waiting.register(session)
    idle = Client(world, "g1:o:bob")
    with within(15):
        waiting.hear("bye", code=EXPIRED, rid=session)  # no device came
        idle.hear("bye", code=EXPIRED)                  # no session at all


@effect("relayd", "limits.grace")
def test_grace(world, relay_of):
    relay_of('grace = "300ms";')
    operator, device, session, _ = pair_up(world)
    with within(20):
        device.kill()
        operator.hear("peer", up=0, reason=HUNG_UP)
        operator.hear("bye", code=EXPIRED, rid=session)


@effect("relayd", "limits.idle")
def test_idle(world, relay_of):
    relay_of('idle = "1s";')
    operator, device, session, _ = pair_up(world)
    busy = pair_up(world, names=("bob", "eli"))
    held = joined(*busy, 1)
    with within(20):
        for client in (operator, device):
            client.hear("bye", code=EXPIRED, rid=session)
    assert busy[0].is_quiet() and len(held) == 2


@effect("relayd", "limits.lifetime")
def test_lifetime(world, relay_of):
    relay_of('lifetime = "1s";')
    operator, device, session, port = pair_up(world)
    held = joined(operator, device, session, port, 1)
    with within(20):
        for client in (operator, device):
            client.hear("bye", code=EXPIRED, rid=session)
        for end in held:
            never_a_byte(end)


@effect("relayd", "limits.half_closed")
def test_half_closed(world, relay_of):
    relay_of('half_closed = "1s";')
    operator, device, session, port = pair_up(world)
    ends = joined(operator, device, session, port, 1)
    with within(20):
        ends[0].shutdown(socket.SHUT_WR)
        assert ends[1].recv(1) == b""
        never_a_byte(ends[0])  # the other one says nothing more


@effect("relayd", "limits.ticket")
def test_ticket(world, relay_of):
    relay_of('ticket = "1s";')
    operator, device, session, _ = pair_up(world)
    with within(15):
        assert operator.ticket(session, 1)["ttl"] == "1"
        device.hear("ticket")
        for client in (operator, device):
            client.hear("end", stream=1, code=EXPIRED)


# --- strangers ------------------------------------------------------------------------------------


@effect("relayd", "limits.preauth")
def test_preauth(world, relay_of):
    relay_of("preauth = 5; preauth_drop_from = 5;")
    held = [dial(world.relay_port, f"127.0.1.{n}") for n in range(1, 6)]
    for n in range(6, 9):
        assert is_shut_out(world.relay_port, f"127.0.1.{n}")
    assert n_open(held) == 5


@effect("relayd", "limits.preauth_drop_from")
@pytest.mark.parametrize("first", [1, 40])
def test_preauth_drop_from(world, relay_of, first):
    """Of 39 where 40 may be: by chance all of them would be held once in 10^16 runs; from 40 on none is dropped."""
    relay_of(f"preauth = 40; preauth_drop_from = {first};")
    socks = [dial(world.relay_port, f"127.0.1.{n}") for n in range(1, 40)]
    if first == 1:
        wait_until(lambda: n_open(socks) < 39, "some are dropped")
    else:
        assert is_refused_by_all_but(world, socks)
        assert n_open(socks) == 39


def is_refused_by_all_but(world, socks):
    """The 40th is held, the 41st is not: the relay has seen all of @socks."""
    socks.append(dial(world.relay_port, "127.0.2.1"))
    wait_until(lambda: is_shut_out(world.relay_port, "127.0.2.2"), "the house is full")
    return socks.pop()


@effect("relayd", "limits.per_source")
def test_per_source(world, relay_of):
    relay_of("per_source = 2;")
    held = [dial(world.relay_port, "127.0.1.1") for _ in range(2)]
    assert is_shut_out(world.relay_port, "127.0.1.1")
    held.append(dial(world.relay_port, "127.0.1.2"))
    assert not is_refused_at_once(held[-1]) and n_open(held) == 3


@effect("relayd", "limits.penalty_failed")
@pytest.mark.parametrize("penalty", ["0", "1h"])
def test_penalty_failed(world, relay_of, penalty):
    relay_of(f'penalty_failed = "{penalty}";')
    fail_to_join(world.relay_port, "127.0.1.1")
    assert is_shut_out(world.relay_port, "127.0.1.1") == (penalty == "1h")
    assert not is_shut_out(world.relay_port, "127.0.1.2")


@effect("relayd", "limits.penalty_timeout")
@pytest.mark.parametrize("penalty", ["0", "1h"])
def test_penalty_timeout(world, relay_of, penalty):
    relay_of(f'penalty_timeout = "{penalty}"; handshake = "300ms";')
    took = []
    for _ in range(2):
        begun = time.monotonic()
        never_a_byte(dial(world.relay_port, "127.0.1.1"))
        took.append(time.monotonic() - begun)
    assert took[0] > 0.25 and (took[1] > 0.25) == (penalty == "0")


@effect("relayd", "limits.penalty_max")
def test_penalty_max(world, relay_of):
    relay_of('penalty_failed = "1h"; penalty_max = "2s";')
    with within(60):
        fail_to_join(world.relay_port, "127.0.1.1")
        assert is_shut_out(world.relay_port, "127.0.1.1")
        wait_until(lambda: not is_shut_out(world.relay_port, "127.0.1.1"), "it is over", step=0.3)


# --- how many -------------------------------------------------------------------------------------


@effect("relayd", "limits.sessions")
def test_sessions(world, relay_of):
    relay_of("sessions = 2;")
    clients = [Client(world, f"g1:o:alice{n}") for n in range(3)]
    for client in clients[:2]:
        client.register(rid())
    clients[2].do("rendezvous", rid(), 1, 0, 0)
    clients[2].hear("error", code=LIMITED)


@effect("relayd", "limits.sessions_per_identity")
def test_sessions_per_identity(world, relay_of):
    relay_of("sessions_per_identity = 1;")
    alice = Client(world, "g1:o:alice")
    alice.register(rid())
    alice.do("rendezvous", rid(), 1, 0, 0)
    alice.hear("error", code=LIMITED)
    Client(world, "g1:o:bob").register(rid())


@effect("relayd", "limits.streams")
def test_streams(world, relay_of):
    relay_of("streams = 2;", NO_DRAIN)
    operator, device, session, _ = pair_up(world)
    for stream in (1, 2):
        operator.ticket(session, stream)
    operator.do("open", session, 3, 1)
    operator.hear("end", stream=3, code=LIMITED)


@effect("relayd", "limits.tickets")
def test_tickets(world, relay_of):
    """The second stream waits until the first one's ticket is used."""
    relay_of("tickets = 1;", NO_DRAIN)
    operator, device, session, port = pair_up(world)
    ticket = operator.ticket(session, 1)
    operator.do("open", session, 2, 1)
    assert operator.is_quiet()
    ends = join(port, ticket, OPERATOR), join(port, ticket, DEVICE)
    assert [receive_exactly(end, 8) for end in ends] == [GREETING] * 2
    operator.hear("ticket", stream=2)


@effect("relayd", "limits.frames")
def test_frames(world, relay_of):
    """Two seconds' worth at once, then so many a second."""
    relay_of("frames = 50;")
    client = Client(world, "g1:o:alice")
    with within(LIMIT, 1.5):
        client.do("repeat 200", "30000008" + "00" * 8)
        for _ in range(200):
            client.hear("pong")


@effect("relayd", "limits.descriptors")
def test_descriptors(world, relay_of):
    relay = relay_of(LENIENT + "descriptors = 70;", "relay = { threads = 1; };")
    flood = [dial(world.relay_port, f"127.0.{1 + n // 200}.{1 + n % 200}") for n in range(200)]
    relay.send(signal.SIGUSR1)
    relay.wait_for(r"status sessions=.* fds=\d+/\d+")
    assert harness.descriptors(relay.pid) <= 70 and n_open(flood) < 70
    done = subprocess.run([PROGRAMS["relayd"]], env=world.relay_environment(
        GOTTHARD_CONFIG_DIR=world.config_folder(relayd="limits = { descriptors = 20; };")),
        capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 78 and "descriptors" in done.stderr


# --- log, and the service manager -----------------------------------------------------------------


@effect("relayd", "log.level")
def test_log_level(world, relay_of):
    logs = {}
    for level in ("error", "info", "debug"):
        relay = relay_of("", f'log = {{ level = "{level}"; }};')
        Client(world, "g1:o:alice").register(rid())
        assert relay.stop() == 0
        logs[level] = relay.log()
    assert logs["error"] == ""
    assert " info " in logs["info"] and " debug " not in logs["info"] and "-> half" not in logs["info"]
    assert "-> half" in logs["debug"]


@effect("all", "WATCHDOG_PID")
@pytest.mark.parametrize("who, is_watched", [("$$", True), ("1", False)])
def test_watchdog_pid(world, who, is_watched):
    """The variables of a parent's watchdog are not ours. (The others' test is in test_relay_daemon.py.)"""
    manager = Manager(world)
    relay = harness.Process(world, "relayd", ["bash", "-c", f'WATCHDOG_PID={who} exec "$0"', PROGRAMS["relayd"]],
                            env=world.relay_environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC=10**9))
    heard = ""
    while "READY=1" not in heard:
        heard += manager.socket.recv(4096).decode() + "\n"
    assert ("WATCHDOG=1" in heard) == is_watched
    assert relay.stop() == 0
