# SPDX-License-Identifier: ISC
"""The effect of each setting of gotthard-relayd. If a time is shortened, the bound is well below its default."""

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
from fake_systemd import FakeSystemd
from relayclient import (CLIENT_HELLO, DEVICE, EXPIRED, GRACE, GREETING, HUNG_UP, IDENTITY, IDLE, LENIENT, LIFETIME, LIMITED,
                         NO_PORT, OPERATOR, PAIRING, RECEIPT, SESSIONS, Client, dial, is_refused_at_once, join, joined,
                         assert_closed_without_data, receive_reply, register_pair)
from setting_markers import check, effect

F_GETPIPE_SZ = 1032
NO_DRAIN = 'relay = { drain = "0"; };'


class within:
    """The block takes at least @least and less than @seconds: less than with the default."""

    def __init__(self, seconds, least=0):
        self.least, self.seconds = least, seconds

    def __enter__(self):
        self.started = time.monotonic()

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.least <= time.monotonic() - self.started < self.seconds


def rid():
    return secrets.token_hex(16)


def is_open(sock):
    """Returns true if the peer has neither closed the socket nor sent a byte."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b"?"
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def n_open(socks):
    return sum(is_open(sock) for sock in socks)


# --- server ---------------------------------------------------------------------------------------


@effect("relayd", "server.bind")
def test_bind(env):
    """The main port and the session ports are at this address only."""
    env.clients = []
    relay = harness.Process(env, "relayd", [PROGRAMS["relayd"], "--bind", "127.0.0.2"], env=env.relay_environment())
    relay.wait_for("listening port=")
    client = Client(env, "g1:o:alice", host="127.0.0.2")
    for port in (env.relay_port, client.register(rid())):
        assert harness.can_connect(port, "127.0.0.2") and not harness.can_connect(port)
    client.kill()
    for wrong in ("localhost", "127.0.0", "127.0.0.1:7000"):
        done = check("relayd", "--bind", wrong)
        assert done.returncode == 78 and "--bind" in done.stderr, done.stderr
    done = subprocess.run([PROGRAMS["relayd"], "--bind", "192.0.2.1"], env=env.relay_environment(), capture_output=True,
                          text=True, timeout=LIMIT, check=False)
    assert done.returncode == 69 and "192.0.2.1" in done.stderr


@effect("relayd", "server.port", "server.ports_from", "server.ports_to")
def test_ports(env, relay_of):
    first = env.relay_ports + 5
    relay_of("", f"server = {{ ports_from = {first}; ports_to = {first + 1}; }};")
    alice = Client(env, "g1:o:alice")  # at the main port
    assert {alice.register(rid()), alice.register(rid())} == {first, first + 1}
    alice.do("rendezvous", rid(), 1, 0, 0)
    alice.receive("error", code=NO_PORT)


@effect("relayd", "server.port_cooldown")
@pytest.mark.parametrize("cooldown", ["0", "1h"])
def test_port_cooldown(env, relay_of, cooldown):
    relay_of("", f'server = {{ ports_to = {env.relay_ports + 1}; port_cooldown = "{cooldown}"; }};')
    alice, session = Client(env, "g1:o:alice"), rid()
    port = alice.register(session)
    alice.do("bye", 1, session)
    alice.receive("closed")
    alice = Client(env, "g1:o:alice")
    assert (alice.register(rid(), hint=port) == port) == (cooldown == "0")


# --- the key --------------------------------------------------------------------------------------


@effect("relayd", "crypt.key", "crypt.iv")
def test_key(env, relay_of):
    """A client with another key or salt is rejected; the relay does not start with an invalid key."""
    relay_of(LENIENT)
    Client(env, "g1:o:alice")
    for name, wrong in (("key", secrets.token_hex(32)), ("iv", secrets.token_hex(16))):
        right = getattr(env, name)
        setattr(env, name, wrong)
        Client(env, "g1:o:alice", hello=False).receive("closed")
        setattr(env, name, right)


@effect("relayd", "crypt.key_previous")
def test_key_previous(env, relay_of):
    """Clients with the previous or the new key are accepted; others are rejected."""
    previous, new = env.key, secrets.token_hex(32)
    relay_of(LENIENT, GOTTHARD_CRYPT_KEY=new, GOTTHARD_CRYPT_KEY_PREVIOUS=previous)
    for env.key in (previous, new):
        Client(env, "g1:o:alice")
    env.key = secrets.token_hex(32)
    Client(env, "g1:o:alice", hello=False).receive("closed")


# --- relay ----------------------------------------------------------------------------------------


@effect("relayd", "relay.threads")
def test_threads(env, relay_of):
    """The number of data threads. A new session goes to the thread with the fewest sessions."""
    counts = []
    for n in (1, 3):
        relay = relay_of("", f"relay = {{ threads = {n}; }};")
        relay.send(signal.SIGUSR1)
        relay.wait_for("status ")  # so that all have started
        counts.append(len(os.listdir(f"/proc/{relay.pid}/task")))
        if n == 1:
            relay.stop()
    assert counts[1] == counts[0] + 2  # a sanitizer may have its own thread
    alice = Client(env, "g1:o:alice")
    for _ in range(3):
        alice.register(rid())
    relay.send(signal.SIGUSR1)
    relay.wait_for("status session=", count=3)
    assert set(re.findall(r"status session=.* thread=(\d)", relay.log())) == {"0", "1", "2"}


def pipes_of(pid):
    """Returns the sizes of a process's pipes."""
    sizes = []
    harness.descriptors(pid)  # skips the test without root
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(fd).startswith("pipe:"):
                pipe = os.open(fd, os.O_RDONLY | os.O_NONBLOCK)
                sizes.append(fcntl.fcntl(pipe, F_GETPIPE_SZ))
                os.close(pipe)
    return sizes


@effect("relayd", "relay.splice", "relay.pipe_size")
@pytest.mark.parametrize("splice, size", [("off", 1 << 20), ("auto", 64 << 10), ("auto", 128 << 10)])
def test_splice(env, relay_of, splice, size):
    relay = relay_of("", f'relay = {{ splice = "{splice}"; pipe_size = "{size >> 10}KiB"; }};')
    ends = joined(*register_pair(env), 1)
    ends[0].sendall(b"x")
    assert receive_exactly(ends[1], 1) == b"x"
    wait_until(lambda: set(pipes_of(relay.pid)) == ({size} if splice == "auto" else set()), "pipes of this size")


@effect("relayd", "relay.congestion")
def test_congestion(env, relay_of):
    if not shutil.which("ss"):
        pytest.skip("ss (iproute2) is not installed")
    proc = pathlib.Path("/proc/sys/net/ipv4")
    usual = (proc / "tcp_congestion_control").read_text().strip()
    allowed = (proc / "tcp_allowed_congestion_control").read_text().split()
    name = next((c for c in allowed if c != "reno"), usual)  # the default of a machine without other algorithms is reno
    relay = relay_of("", f'relay = {{ congestion = "{name}"; }};')
    operator, device, session, port = register_pair(env)
    ends = joined(operator, device, session, port, 1)
    shown = subprocess.run(["ss", "-tinH", "state", "established", "sport", "=", f":{port}"], capture_output=True, text=True,
                           check=True).stdout
    assert len(re.findall(rf"^\s+{name} ", shown, re.MULTILINE)) == len(ends), shown
    assert "relay.congestion" not in relay.log()


def test_unknown_congestion_control(env, relay_of):
    relay = relay_of("", 'relay = { congestion = "nonsense"; };')
    relay.wait_for("warn .*relay.congestion: \"nonsense\" is not available")
    joined(*register_pair(env), 1)


def test_check_shows_the_warnings_of_a_start():
    done = check("relayd", GOTTHARD_RELAY_CONGESTION="nonsense")
    assert done.returncode == 0 and 'relay.congestion: "nonsense" is not available' in done.stderr, done.stderr


@effect("relayd", "relay.drain")
@pytest.mark.parametrize("drain, least, most", [("0", 0, 4), ("2s", 1.9, 4.5)])
def test_drain_time(env, relay_of, drain, least, most):
    relay = relay_of("", f'relay = {{ drain = "{drain}"; }};')
    held = joined(*register_pair(env), 1)
    with within(most, least):
        assert relay.stop() == 0
    assert len(held) == 2


# --- deadlines ------------------------------------------------------------------------------------


@effect("relayd", "timeouts.handshake")
def test_handshake(env, relay_of):
    relay_of(LENIENT + 'handshake = "300ms";')
    for first in (b"", b"\x16", CLIENT_HELLO[:100]):
        sock = dial(env.relay_port)
        with within(5):
            sock.sendall(first)
            assert_closed_without_data(sock)


@effect("relayd", "timeouts.hello")
def test_hello(env, relay_of):
    relay_of('hello = "300ms";')
    client = Client(env, "g1:o:alice", hello=False)
    client.receive("connected")
    with within(4):
        client.receive("closed")


@effect("relayd", "timeouts.join")
def test_join(env, relay_of):
    relay_of(LENIENT + 'join = "300ms";')
    *_, port = register_pair(env)
    for at in (port, env.relay_port):
        sock = dial(at)
        with within(4):
            sock.sendall(b"GTJ1")
            assert_closed_without_data(sock)


@effect("relayd", "timeouts.join_peer")
def test_join_peer(env, relay_of):
    relay_of(LENIENT + 'join_peer = "300ms";')
    operator, device, session, port = register_pair(env)
    ticket = operator.ticket(session, 1)
    device.receive("ticket")
    with within(5):
        first = join(port, ticket, OPERATOR)
        assert receive_exactly(first, 8) == RECEIPT
        assert_closed_without_data(first)
        operator.receive("end", stream=1, code=EXPIRED)


@effect("relayd", "timeouts.heartbeat_interval", "timeouts.heartbeat")
def test_heartbeat(env, relay_of):
    """Silent clients are probed, and count as lost if they stay silent."""
    relay_of('heartbeat_interval = "200ms"; heartbeat = "2s"; pairing = "1h";')
    client = Client(env, "g1:o:alice")
    with within(10, 1.5):
        with within(5):
            client.receive("ping")
        wait_until(lambda: client.all[-1].startswith("closed"), "the client counts as lost")


@effect("relayd", "timeouts.pairing")
def test_pairing_timeout(env, relay_of):
    relay_of('pairing = "2s";')
    waiting, session = Client(env, "g1:o:alice"), rid()
    waiting.register(session)
    idle = Client(env, "g1:o:bob")
    with within(15):
        waiting.receive("bye", code=PAIRING, rid=session)  # no device came
        idle.receive("bye", code=PAIRING)                  # no session at all


@effect("relayd", "timeouts.session_grace")
def test_session_grace(env, relay_of):
    relay_of('session_grace = "300ms";')
    operator, device, session, _ = register_pair(env)
    with within(20):
        device.kill()
        operator.receive("peer", up=0, reason=HUNG_UP)
        operator.receive("bye", code=GRACE, rid=session)


@effect("relayd", "timeouts.idle")
def test_idle(env, relay_of):
    relay_of('idle = "1s";')
    operator, device, session, _ = register_pair(env)
    busy = register_pair(env, names=("bob", "eli"))
    held = joined(*busy, 1)
    with within(20):
        for client in (operator, device):
            client.receive("bye", code=IDLE, rid=session)
    assert busy[0].has_no_more_frames() and len(held) == 2


@effect("relayd", "timeouts.lifetime")
def test_lifetime(env, relay_of):
    relay_of('lifetime = "1s";')
    operator, device, session, port = register_pair(env)
    held = joined(operator, device, session, port, 1)
    with within(20):
        for client in (operator, device):
            client.receive("bye", code=LIFETIME, rid=session)
        for end in held:
            assert_closed_without_data(end)


@effect("relayd", "timeouts.half_closed")
def test_half_closed(env, relay_of):
    relay_of('half_closed = "1s";')
    operator, device, session, port = register_pair(env)
    ends = joined(operator, device, session, port, 1)
    with within(20):
        ends[0].shutdown(socket.SHUT_WR)
        assert ends[1].recv(1) == b""
        assert_closed_without_data(ends[0])  # the other end gets no more bytes


@effect("relayd", "timeouts.ticket")
def test_ticket(env, relay_of):
    relay_of('ticket = "1s";')
    operator, device, session, _ = register_pair(env)
    with within(15):
        assert operator.ticket(session, 1)["ttl"] == "1"
        device.receive("ticket")
        for client in (operator, device):
            client.receive("end", stream=1, code=EXPIRED)


# --- preauth --------------------------------------------------------------------------------------


def begin(port, source):
    """A connection that waits at the relay. (The kernel keeps a silent one to itself.)"""
    sock = dial(port, source)
    sock.sendall(b"G")
    return sock


@effect("relayd", "limits.preauth")
def test_preauth(env, relay_of):
    relay_of("preauth = 5;")
    held = [begin(env.relay_port, f"127.0.1.{n}") for n in range(1, 9)]
    for sock in held[:3]:
        assert_closed_without_data(sock)
    assert n_open(held[3:]) == 5


@effect("relayd", "limits.per_source")
def test_per_source(env, relay_of):
    relay_of("per_source = 2;")
    held = [begin(env.relay_port, "127.0.1.1") for _ in range(2)]
    held.append(begin(env.relay_port, "127.0.1.2"))
    held.append(begin(env.relay_port, "127.0.1.1"))
    assert_closed_without_data(held.pop(0))
    assert not is_refused_at_once(held[-1]) and n_open(held) == 3


# --- amounts --------------------------------------------------------------------------------------


@effect("relayd", "limits.sessions")
def test_sessions(env, relay_of):
    relay_of("sessions = 2;")
    clients = [Client(env, f"g1:o:alice{n}") for n in range(3)]
    for client in clients[:2]:
        client.register(rid())
    clients[2].do("rendezvous", rid(), 1, 0, 0)
    clients[2].receive("error", code=SESSIONS)


@effect("relayd", "limits.sessions_per_identity")
def test_sessions_per_identity(env, relay_of):
    relay_of("sessions_per_identity = 1;")
    alice = Client(env, "g1:o:alice")
    alice.register(rid())
    alice.do("rendezvous", rid(), 1, 0, 0)
    alice.receive("error", code=IDENTITY)
    Client(env, "g1:o:bob").register(rid())


@effect("relayd", "limits.streams")
def test_streams(env, relay_of):
    relay_of("streams = 2;", NO_DRAIN)
    operator, device, session, _ = register_pair(env)
    for stream in (1, 2):
        operator.ticket(session, stream)
    operator.do("open", session, 3, 1)
    operator.receive("end", stream=3, code=LIMITED)


@effect("relayd", "limits.tickets")
def test_tickets(env, relay_of):
    """The second stream waits until the first one's ticket is used."""
    relay_of("tickets = 1;", NO_DRAIN)
    operator, device, session, port = register_pair(env)
    ticket = operator.ticket(session, 1)
    operator.do("open", session, 2, 1)
    assert operator.has_no_more_frames()
    ends = join(port, ticket, OPERATOR), join(port, ticket, DEVICE)
    assert [receive_reply(end) for end in ends] == [GREETING] * 2
    operator.receive("ticket", stream=2)


@effect("relayd", "limits.frames")
def test_frames(env, relay_of):
    """A burst of the frames of two seconds, then this many per second."""
    relay_of("frames = 50;")
    client = Client(env, "g1:o:alice")
    with within(LIMIT, 1.5):
        client.do("repeat 200", "30000008" + "00" * 8)
        for _ in range(200):
            client.receive("pong")


@effect("relayd", "limits.descriptors")
def test_descriptors(env, relay_of):
    relay = relay_of(LENIENT + "descriptors = 70;", "relay = { threads = 1; };")
    flood = [begin(env.relay_port, f"127.0.{1 + n // 200}.{1 + n % 200}") for n in range(200)]
    wait_until(lambda: n_open(flood) < 70, "the others are closed")
    relay.send(signal.SIGUSR1)
    relay.wait_for(r"status sessions=.* fds=\d+/\d+")
    assert harness.descriptors(relay.pid) <= 70
    done = subprocess.run([PROGRAMS["relayd"]], env=env.relay_environment(
        GOTTHARD_CONFIG_DIR=env.config_folder(relayd="limits = { descriptors = 20; };")),
        capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 78 and "descriptors" in done.stderr


# --- log and service manager ----------------------------------------------------------------------


@effect("relayd", "log.level")
def test_log_level(env, relay_of):
    logs = {}
    for level in ("error", "info", "debug"):
        relay = relay_of("", f'log = {{ level = "{level}"; }};')
        Client(env, "g1:o:alice").register(rid())
        assert relay.stop() == 0
        logs[level] = relay.log()
    assert logs["error"] == ""
    assert " info " in logs["info"] and " debug " not in logs["info"] and "-> waiting" not in logs["info"]
    assert "-> waiting" in logs["debug"]


@effect("all", "WATCHDOG_PID")
@pytest.mark.parametrize("who, is_watched", [("$$", True), ("1", False)])
def test_watchdog_pid(env, who, is_watched):
    """Watchdog variables for another pid are ignored. (The other variables are tested in test_relay_daemon.py.)"""
    systemd = FakeSystemd(env)
    relay = harness.Process(env, "relayd", ["bash", "-c", f'WATCHDOG_PID={who} exec "$0"', PROGRAMS["relayd"]],
                            env=env.relay_environment(NOTIFY_SOCKET=systemd.path, WATCHDOG_USEC=10**9))
    received = ""
    while "READY=1" not in received:
        received += systemd.socket.recv(4096).decode() + "\n"
    assert ("WATCHDOG=1" in received) == is_watched
    assert relay.stop() == 0
