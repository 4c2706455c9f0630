# SPDX-License-Identifier: ISC
"""A live upgrade of the relay by SIGUSR2: every stream continues on the same pair of sockets.

The relay is started from a copy, which stands for the installed program and can be replaced by a broken one.
"""

import contextlib
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import data_connections
import harness
from harness import LIMIT, echo, in_threads, receive_exactly, wait_until
from load import Steady
from fake_systemd import FakeSystemd
from test_faults import open_stream
from relayclient import (DEVICE, GREETING, LENIENT, OPERATOR, SHUTDOWN, Client, assert_closed_without_data, client_hello, dial,
                         join, joined, receive_reply, register_pair, sessions_of)
from test_restart import can_echo
from test_tunnel import assert_alive

OTHER_VERSION = harness.BUILD / "subprojects" / "gotthard-relayd" / "tests" / "relayd-other-version"
PAUSE = 0.2 if harness.SANITIZER == "none" else 5
TOOK_OVER = r"took over sessions=(\d+) pairs=(\d+) tickets=(\d+) pause=(\d+)ms"


def install(source, path):
    """Replaces the file as a package does: rename(2), so that the old file exists as long as it is executed."""
    shutil.copy(source, f"{path}.new")
    os.chmod(f"{path}.new", 0o755)
    os.rename(f"{path}.new", path)


@pytest.fixture
def installed(env, monkeypatch):
    """The path from which relays are started."""
    path = env.folder / "installed" / "gotthard-relayd"
    path.parent.mkdir()
    install(harness.PROGRAMS["relayd"], path)
    monkeypatch.setitem(harness.PROGRAMS, "relayd", path)
    return path


@pytest.fixture
def relay_with(env, relay_of):
    """Starts a relay with the configuration @more and debug log."""
    return lambda more="", **variables: relay_of(LENIENT, more, GOTTHARD_LOG_LEVEL="debug", **variables)


def upgrade(relay, expected=None):
    """Upgrades by SIGUSR2. Returns the numbers of sessions, pairs and tickets, and the pause in ms."""
    count = len(re.findall(TOOK_OVER, relay.log())) + 1
    relay.send(signal.SIGUSR2)
    found = tuple(map(int, relay.wait_for(TOOK_OVER, count=count).groups()))
    relay.wait_for("listening port=", count=count + 1)
    assert expected is None or found[:3] == expected, found
    return found


def expect_rejection(relay, reason):
    """Sends SIGUSR2 and checks that the upgrade is rejected for @reason (a pattern)."""
    count = len(re.findall("upgrade rejected", relay.log())) + 1
    relay.send(signal.SIGUSR2)
    relay.wait_for("upgrade rejected, continuing with the running version", count=count)
    assert re.search(reason, relay.log()), relay.log()
    assert "took over" not in relay.log()


def assert_no_stream_was_broken(relay):
    """Checks that each pair of the relay is the first of its stream: the shared connection, or one after a move."""
    pairs = re.findall(r"stream=(\d+) attempt=(\d+)", relay.log())
    replaced = {(stream, attempt) for stream, attempt in pairs if attempt != ("1" if stream == "0" else "2")}
    assert pairs and not replaced, replaced


class RoundTrips:
    """Sends single bytes and measures the longest round trip."""

    def __init__(self, tunnel):
        self.sock = open_stream(tunnel)
        self.is_finished = threading.Event()
        self.longest = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.is_finished.wait(0.001):
            started = time.monotonic()
            self.sock.sendall(b"?")
            assert receive_exactly(self.sock, 1) == b"?"
            self.longest = max(self.longest, time.monotonic() - started)

    def reset(self):
        longest, self.longest = self.longest, 0
        return longest

    def finish(self):
        self.is_finished.set()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        self.sock.close()


# --- streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("splice", ["auto", "off"])
def test_upgrade_keeps_streams_under_load(env, splice):
    """Eight streams in both directions over six upgrades: no pair and no byte is lost, and the pauses are short."""
    env.broker()
    folder = env.config_folder(relayd=f'relay = {{ splice = "{splice}"; }};')
    relay = env.relay("--log-level", "debug", env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    load = Steady(env, 8)
    env.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = env.connect()
    port = relay.wait_for(r"state=paired port=(\d+)").group(1)
    load.start(tunnel)
    data_connections.wait_for(tunnel, 9)  # each stream has moved to its own
    pauses = []
    for round_ in range(6):
        load.wait_for_progress(1 << 20)
        pauses.append(upgrade(relay, (1, 9, 0))[3])
        tunnel.event("relay-back", count=round_ + 1)
    print(f"splice={splice}: pauses of the relay in ms: {pauses}")
    load.finish(tunnel)
    assert_no_stream_was_broken(relay)
    assert set(re.findall(r"state=paired port=(\d+)", relay.log())) == {port}
    assert tunnel.disconnect() == 0


def test_upgrade_pause_is_short_for_both_ends(env):
    env.broker()
    relay = env.relay("--log-level", "debug")
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    trips = RoundTrips(tunnel)
    wait_until(lambda: trips.longest, "the first round trip")
    longest = []
    for round_ in range(5):
        trips.reset()
        upgrade(relay, (1, 1, 0))
        tunnel.event("relay-back", count=round_ + 1)
        longest.append(trips.reset())
    print("longest round trips in ms:", [round(1000 * x) for x in longest])
    trips.finish()
    assert sorted(longest)[2] < PAUSE, longest
    assert_no_stream_was_broken(relay)


def test_upgrade_is_reported_as_planned_at_both_ends(env):
    """A restart of the relay, and a killed one, are not."""
    env.broker()
    relay = env.relay("--log-level", "debug")
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    lines = harness.Process(env, "lines", [harness.PROGRAMS["cli"], "connect", "GatewayOli", "0:ssh"], env=env.cli_environment("bob"))
    lines.wait_for("tunnel to .* is up")
    sock = open_stream(tunnel)
    upgrade(relay)
    assert tunnel.event("relay-lost")["planned"] and tunnel.event("relay-lost")["reason"] == "the relay is being upgraded"
    tunnel.event("relay-back")
    lines.wait_for("Connection to the relay restored")
    lines.wait_for("info .*The relay is being upgraded; connections stay open")
    agent.wait_for("session=[0-9a-f]* operator=alice the relay is being upgraded, reconnecting")
    assert "connection lost" not in agent.log() and "connection to the relay lost" not in lines.log()
    assert can_echo(sock, b"still there")
    relay.kill()
    env.relay()
    assert not tunnel.event("relay-lost", count=2)["planned"]
    lines.wait_for("warn .*connection to the relay lost")
    agent.wait_for("operator=alice relay connection lost")


def test_upgrade_keeps_half_closed_streams(env):
    env.broker()
    relay = env.relay("--log-level", "debug")
    received, resume = threading.Event(), threading.Event()

    def device(sock):
        """Reads to the end, and answers after the upgrade."""
        total, digest = harness.digest_to_eof(sock)
        received.set()
        resume.wait(LIMIT)
        sock.sendall(f"{total} {digest}".encode())

    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(device).port)
    tunnel = env.connect()
    with tunnel.dial() as sock:
        harness.send_pattern(sock, "up", 100_000)
        sock.shutdown(socket.SHUT_WR)
        assert received.wait(LIMIT)
        upgrade(relay, (1, 1, 0))
        tunnel.event("relay-back")
        resume.set()
        assert receive_exactly(sock, 1000).decode() == f"100000 {harness.digest_of_pattern('up', 100_000)}"
    assert tunnel.event("stream-ended")["code"] == 0
    assert_no_stream_was_broken(relay)


def test_upgrade_keeps_sessions_usable(env):
    """Requests after an upgrade: new streams and `disconnect` in an old session, and a new session."""
    env.broker()
    relay = env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    open_stream(tunnel).close()
    upgrade(relay)
    assert_alive(tunnel)
    tunnel.event("relay-back")
    assert_alive(tunnel)
    other = env.connect()
    assert_alive(other)
    done = env.cli("disconnect", "GatewayOli")
    assert done.returncode == 0, done.stderr
    assert tunnel.wait() == 69 and other.wait() == 69


# --- the state ----------------------------------------------------------------------------------------


def reconnect(env, rid, names=("alice", "oli")):
    """Reconnects both sides after an upgrade, with a greater generation."""
    operator, device = Client(env, f"g1:o:{names[0]}"), Client(env, f"g1:d:{names[1]}")
    port = operator.register(rid, 2, peer=False)
    assert device.register(rid, 2, peer=True) == port
    operator.receive("peer", rid=rid, up=1, reason=0)
    return operator, device, port


def test_upgrade_notifies_clients(env, relay_with):
    relay = relay_with()
    operator, device, rid, port = register_pair(env)
    upgrade(relay, (1, 0, 0))
    for client in operator, device:
        assert 0 < int(client.receive("restarting")["in"]) <= 1000
        client.receive("closed")
    assert reconnect(env, rid)[2] == port
    assert re.match(rf"sessions=1 clients=2 pairs=0 tickets=0 ports=1/{env.n_relay_ports} fds=3/", sessions_of(relay))


def test_upgrade_keeps_owner_of_slot(env, relay_with):
    relay = relay_with()
    *_, rid, port = register_pair(env)
    upgrade(relay)
    thief = Client(env, "g1:o:mallory")
    thief.do("rendezvous", rid, 9, 0, 0)
    thief.receive("error")
    assert reconnect(env, rid)[2] == port


def test_upgrade_keeps_session_with_one_side(env, relay_with):
    relay = relay_with()
    rid = "ab" * 16
    port = Client(env, "g1:o:alice").register(rid, peer=False)
    upgrade(relay, (1, 0, 0))
    device = Client(env, "g1:d:oli")
    assert device.register(rid, peer=False) == port
    assert Client(env, "g1:o:alice").register(rid, 2, peer=True) == port


@pytest.mark.parametrize("where", ["own port", "main port"])
@pytest.mark.parametrize("threads", [(2, 2), (1, 5), (5, 1)])
def test_upgrade_keeps_tickets_and_waiting_sides(env, relay_with, where, threads):
    """Unused tickets, tickets that one side has used, and streams that wait for one; with any number of threads."""
    text = harness.relay_groups(LENIENT + "tickets = 3;") + " relay = { threads = %d; };"
    folder = env.config_folder(relayd=text % threads[0])
    env.clients = []
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    sessions = [register_pair(env, stream=1, names=(f"alice{i}", f"oli{i}")) for i in range(5)]
    tickets, waiting = {}, {}
    for operator, device, rid, port in sessions:
        tickets[rid] = [operator.ticket(rid, stream) for stream in (1, 2)]
        waiting[rid] = join(port if where == "own port" else env.relay_port, tickets[rid][0], OPERATOR)
    wait_until(lambda: "pairs=5 tickets=10" in sessions_of(relay), "the first sides have joined")
    (folder / "relayd.conf").write_text(text % threads[1])
    upgrade(relay, (5, 5, 10))
    assert f"threads={threads[1]} " in relay.log()
    for operator, device, rid, port in sessions:
        at = port if where == "own port" else env.relay_port
        second = join(at, tickets[rid][0], DEVICE)
        other = join(at, tickets[rid][1], OPERATOR), join(at, tickets[rid][1], DEVICE)
        for sock in waiting[rid], second, *other:
            assert receive_reply(sock) == GREETING
        for a, b in (waiting[rid], second), other:
            a.sendall(b"there")
            b.sendall(b"and back")
            assert receive_exactly(b, 5) == b"there" and receive_exactly(a, 8) == b"and back"


def test_upgrade_keeps_used_half_of_ticket(env, relay_with):
    relay = relay_with()
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 1)
    held = join(port, ticket, OPERATOR)
    wait_until(lambda: "pairs=1" in sessions_of(relay), "the first side has joined")
    upgrade(relay, (1, 1, 1))
    again = join(port, ticket, OPERATOR, source="127.0.0.2")
    assert again.recv(1) == b""
    assert receive_reply(join(port, ticket, DEVICE)) == GREETING and receive_reply(held) == GREETING


def test_upgrade_repeats_tickets_and_keeps_attempts(env, relay_with):
    relay = relay_with()
    operator, device, rid, port = register_pair(env)
    ticket = operator.ticket(rid, 7, 3)
    upgrade(relay, (1, 0, 1))
    operator = Client(env, "g1:o:alice")
    operator.register(rid, 2)
    assert {**operator.receive("ticket"), "ttl": 0} == {**ticket, "ttl": 0}
    operator.do("open", rid, 7, 3)
    operator.receive("error", code=8)


def fill(sock):
    """Sends until the socket takes no more. Returns the number of bytes."""
    n = 0
    sock.setblocking(False)
    piece = next(harness.pattern("full", 1 << 16))
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 0.3:
        try:
            n += sock.send(piece[n % len(piece):])
            idle_since = time.monotonic()
        except BlockingIOError:
            select.select([], [sock], [], 0.1)
    sock.setblocking(True)
    return n


@pytest.mark.parametrize("splice", [("auto", "auto"), ("off", "off"), ("auto", "off"), ("off", "auto")])
def test_upgrade_keeps_bytes_in_transit(env, relay_of, splice):
    """Unread bytes in both directions are in pipes or buffers during the upgrade."""
    text = harness.relay_groups(LENIENT) + " relay = { splice = \"%s\"; };"
    folder = env.config_folder(relayd=text % splice[0])
    env.clients = []
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    operator, device, rid, port = register_pair(env)
    ends = [joined(operator, device, rid, port, stream) for stream in (0, 1, 2)]
    n = [(fill(a), fill(b)) for a, b in ends]
    (folder / "relayd.conf").write_text(text % splice[1])
    for _ in range(3):
        upgrade(relay, (1, 3, 0))

    def receive_all(sock, n_bytes):
        piece = next(harness.pattern("full", 1 << 16))
        for at in range(0, n_bytes, len(piece)):
            wanted = piece[:n_bytes - at]
            assert receive_exactly(sock, len(wanted)) == wanted
        assert sock.recv(1) == b""

    for (a, b), (up, down) in zip(ends, n):
        a.shutdown(socket.SHUT_WR)
        b.shutdown(socket.SHUT_WR)
        in_threads(lambda: receive_all(b, up), lambda: receive_all(a, down))
    counted = rf"thread=\d+ .* pairs=0 .*bytes={sum(map(sum, n))} "
    wait_until(lambda: sessions_of(relay) and re.search(counted, relay.log()), "the pairs have ended and all bytes are counted")


def test_upgrade_with_maximum_number_of_streams(env, relay_of):
    """A session remembers twice as many streams as may be open, and the snapshot has all of them."""
    n = 1024
    relay = relay_of(LENIENT + f"streams = {n};")
    operator, device, rid, port = register_pair(env)
    for stream in range(1, n + 1):
        operator.do("open", rid, stream, 1)
    for stream in range(n - 99, n + 1):
        operator.do("end", rid, stream, 1, 0)
        operator.do("open", rid, stream + 100, 1)
    operator.do("open", rid, 0, 1)
    operator.do("ping 7")
    wait_until(lambda: "pong n=7" in operator.all, "the relay has handled all requests")
    upgrade(relay)


def test_upgrade_keeps_deadlines_and_forwards_resets(env, relay_of):
    """An upgrade does not extend the deadline of a half-closed pair. A reset is still forwarded as one."""
    relay = relay_of(LENIENT + 'half_closed = "3s"; ')
    operator, device, rid, port = register_pair(env)
    a, b = joined(operator, device, rid, port, 1)
    c, d = joined(operator, device, rid, port, 2)
    a.shutdown(socket.SHUT_WR)
    assert b.recv(1) == b""
    started = time.monotonic()
    for _ in range(3):
        upgrade(relay, (1, 2, 0))
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    with pytest.raises(ConnectionResetError):
        d.recv(1)
    with pytest.raises(ConnectionResetError):
        a.recv(1)
    assert 2.5 < time.monotonic() - started < 3 + PAUSE + 1


def test_upgrade_keeps_tombstones(env, relay_with):
    relay = relay_with()
    operator, device, rid, _ = register_pair(env)
    device.kill()
    operator.receive("peer", rid=rid, up=0)
    operator.do("bye", 1, rid)
    wait_until(lambda: f"session={rid[:8]} ended" in relay.log(), "the session ends")
    upgrade(relay, (0, 0, 0))
    device = Client(env, "g1:d:oli")
    device.do("rendezvous", rid, 2, 0, 0)
    device.receive("bye", rid=rid)


def test_upgrade_keeps_port_cooldowns_and_counters(env, relay_of):
    relay = relay_of("per_source = 1;", 'server = { port_cooldown = "1min"; };')
    operator, device, rid, port = register_pair(env)
    operator.do("bye", 1, rid)
    wait_until(lambda: f"ended operator=alice device=oli port={port}" in relay.log(), "the session ends")
    socks = [dial(env.relay_port, "127.0.0.9") for _ in range(2)]
    for sock in socks:
        sock.sendall(b"G")
    wait_until(lambda: "evicted=1 created=1 " in sessions_of(relay), "a connection is evicted")
    for sock in socks:
        sock.close()
    upgrade(relay, (0, 0, 0))
    client = Client(env, "g1:o:bob")
    assert client.register("cd" * 16, hint=port) != port
    wait_until(lambda: "evicted=1 created=2 " in sessions_of(relay), "the counters continue")


def test_upgrade_keeps_seen_hellos(env, relay_of):
    """A ClientHello that was admitted before the upgrade is a replay after it."""
    relay = relay_of()
    hello = client_hello(env)
    with dial(env.relay_port) as sock:
        sock.sendall(hello)
        assert receive_exactly(sock, 1) == b"\x16"
    for _ in range(2):
        upgrade(relay)
        sock = dial(env.relay_port)
        sock.sendall(hello)
        assert_closed_without_data(sock)


def test_upgrade_keeps_silent_connections_in_the_kernel(env, relay_of):
    relay = relay_of()
    upgrade(relay)
    before = harness.descriptors(relay.pid)
    socks = [dial(env.relay_port) for _ in range(10)]
    Client(env, "g1:o:alice")
    assert harness.descriptors(relay.pid) == before + 1, "silent connections are not accepted"
    for sock in socks:
        sock.close()


# --- rejections ---------------------------------------------------------------------------------------


def break_by_script(path):
    path.unlink()
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)


def break_by_garbage(path):
    path.unlink()
    path.write_bytes(b"\x7fELF" + os.urandom(5000))
    path.chmod(0o755)


def break_by_crash(path):
    path.unlink()
    path.write_text("#!/bin/sh\nkill -SEGV $$\n")
    path.chmod(0o755)


BROKEN_PROGRAMS = {
    "script": (break_by_script, "exited with status 1"),
    "garbage": (break_by_garbage, "rejected, .*(Exec format error|killed by signal|exited with status)"),
    "crash": (break_by_crash, "killed by signal 11"),
    "missing": (lambda path: path.unlink(), "No such file"),
    "not executable": (lambda path: (path.unlink(), path.write_text("x")), "Permission denied"),
    "another version": (lambda path: install(OTHER_VERSION, path), "the state is of another version"),
    "another program": (lambda path: install("/bin/false", path), "exited with status 1"),
}


@pytest.mark.parametrize("how", BROKEN_PROGRAMS)
def test_upgrade_rejected_for_unusable_program(env, installed, how):
    break_program, reason = BROKEN_PROGRAMS[how]
    env.broker()
    relay = env.relay("--log-level", "debug")
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    break_program(installed)
    expect_rejection(relay, reason)
    expect_rejection(relay, reason)
    sock.sendall(b"still")
    assert receive_exactly(sock, 5) == b"still"
    assert_alive(tunnel)
    assert not [e for e in tunnel.events() if e["event"].startswith("link")]
    assert "restarting" not in relay.log() and " down " not in relay.log()
    with contextlib.suppress(FileNotFoundError):
        installed.unlink()
    install(PROGRAM, installed)
    upgrade(relay)
    sock.sendall(b"again")
    assert receive_exactly(sock, 5) == b"again"
    assert_no_stream_was_broken(relay)


PROGRAM = harness.PROGRAMS["relayd"]


def test_upgrade_rejected_for_invalid_configuration(env, relay_with):
    relay = relay_with()
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    conf = relay.folder_of_config / "relayd.conf"
    good = conf.read_text()
    conf.write_text(good + "nonsense = 1;")
    expect_rejection(relay, "unknown setting nonsense")
    assert operator.has_no_more_frames() and device.has_no_more_frames()
    ends[0].sendall(b"x")
    assert ends[1].recv(1) == b"x"
    conf.write_text(good)
    upgrade(relay, (1, 1, 0))


def test_upgrade_kills_hanging_rehearsal(env, installed):
    relay = env.relay()
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    relay.wait_for("upgrade started")
    relay.send(signal.SIGUSR2)
    relay.wait_for("upgrade not started")
    relay.wait_for("upgrade rejected.*killed by signal 9")
    wait_until(lambda: not harness.children_of(relay.pid), "the child is gone")
    assert relay.stop() == 0


def test_sigterm_during_rehearsal_stops_at_once(env, installed):
    relay = env.relay()
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    child, = wait_until(lambda: harness.children_of(relay.pid), "the child exists")
    started = time.monotonic()
    assert relay.stop() == 0
    assert time.monotonic() - started < 5
    assert "took over" not in relay.log() and "upgrade rejected" not in relay.log()
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), "the child is gone")


def test_sigterm_with_end_of_rehearsal_drains(env, installed, relay_with):
    """Both events arrive in one turn of the loop; the relay drains as after any SIGTERM."""
    relay = relay_with('relay = { drain = "5s"; };')
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 0.5\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    child, = wait_until(lambda: harness.children_of(relay.pid), "the child exists")
    relay.send(signal.SIGSTOP)
    wait_until(lambda: "\nState:\tZ" in pathlib.Path(f"/proc/{child}/status").read_text(), "the child has ended")
    relay.send(signal.SIGTERM)
    relay.send(signal.SIGCONT)
    relay.wait_for("draining")
    ends[0].sendall(b"still here")
    assert receive_exactly(ends[1], 10) == b"still here"
    for end in ends:
        end.close()
    for client in operator, device:
        client.receive("restarting")
        client.receive("bye", code=SHUTDOWN)
    assert "took over" not in relay.log()


def test_upgrade_survives_many_signals(env):
    """A hundred signals at all moments of upgrades: none stops the relay."""
    env.broker()
    relay = env.relay("--log-level", "debug")
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    for i in range(100):
        relay.send(signal.SIGUSR2)
        sock.sendall(b"%03d" % i)
        assert receive_exactly(sock, 3) == b"%03d" % i
        time.sleep(0.003 * (i % 5))  # different moments of an upgrade
    wait_until(lambda: not harness.children_of(relay.pid), "the last rehearsal is over")
    upgrade(relay)
    assert_alive(tunnel)
    assert_no_stream_was_broken(relay)
    relay.send(signal.SIGUSR2)
    assert relay.stop() == 0


# --- the process --------------------------------------------------------------------------------------


def test_upgrade_leaks_no_descriptors_or_threads(env, relay_with):
    relay = relay_with()
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)

    def state():
        return harness.descriptors(relay.pid), len(os.listdir(f"/proc/{relay.pid}/task"))

    upgrade(relay, (1, 1, 0))
    wait_until(lambda: "clients=0" in sessions_of(relay), "the status")
    before = state()
    for _ in range(20):
        upgrade(relay, (1, 1, 0))
    assert state() == before
    assert re.match("sessions=1 clients=0 pairs=1 tickets=0 ports=1/.* fds=3/", sessions_of(relay))
    ends[0].sendall(b"x")
    assert ends[1].recv(1) == b"x"


def test_upgrade_does_not_expose_secrets(env):
    if os.getuid() != 0:
        pytest.skip("only root can read a process that is not dumpable")
    relay = env.relay()
    for _ in range(2):
        upgrade(relay)
        for name in "environ", "cmdline":
            with open(f"/proc/{relay.pid}/{name}", "rb") as file:
                text = file.read()
            assert env.key.encode() not in text and env.iv.encode() not in text
        names = [os.readlink(f"/proc/{relay.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{relay.pid}/fd")]
        assert not [name for name in names if "memfd" in name]
    env.clients = []
    Client(env, "g1:o:alice").register("ab" * 16)


def test_upgrade_keeps_pid_and_arguments(env, installed):
    relay = env.relay("--server-port", str(env.relay_port))
    install(PROGRAM, installed)
    upgrade(relay)
    install(PROGRAM, installed)
    upgrade(relay)
    if os.getuid() == 0:
        assert os.readlink(f"/proc/{relay.pid}/exe") == str(installed)
    with open(f"/proc/{relay.pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    assert words[1].startswith(b"--take-over=") and words[2:-1] == [b"--server-port", str(env.relay_port).encode()]
    assert relay.stop() == 0


def test_upgrade_after_start_by_relative_path(env, installed, monkeypatch):
    monkeypatch.setitem(harness.PROGRAMS, "relayd", os.path.relpath(installed, env.folder))
    relay = env.relay()
    upgrade(relay)
    upgrade(relay)


def test_upgrade_notifies_service_manager(env):
    """The manager is notified, the watchdog is fed, and the inherited socket stays open."""
    env.clients = []
    systemd = FakeSystemd(env)
    with systemd.relay(env) as child:
        for _ in range(3):
            child.send_signal(signal.SIGUSR2)
            systemd.expect("RELOADING=1\nMONOTONIC_USEC=", "READY=1", "WATCHDOG=1", "WATCHDOG=1")
        Client(env, "g1:o:alice").register("ab" * 16)
        child.send_signal(signal.SIGTERM)
        systemd.expect("STOPPING=1")
        assert child.wait(LIMIT) == 0


def test_upgrade_applies_settings_except_the_port(env, relay_with):
    relay = relay_with()
    conf = relay.folder_of_config / "relayd.conf"
    conf.write_text(conf.read_text() + f"relay = {{ threads = 3; }}; server = {{ port = {env.relay_port + 1}; }};")
    upgrade(relay)
    assert "server.port changes with a restart only" in relay.log()
    assert re.findall(r"listening port=(\d+) .*threads=3 ", relay.log()) == [str(env.relay_port)]
    Client(env, "g1:o:alice").register("ab" * 16)


@pytest.mark.parametrize("fd", ["0", "2", "3", "99", "x", "-1", ""])
def test_hidden_options_fail_without_state(env, fd):
    """Started by hand, there is no state to take over."""
    for option in "--rehearse", "--take-over":
        done = subprocess.run([harness.PROGRAMS["relayd"], f"{option}={fd}"], env=env.relay_environment(),
                              capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
        assert done.returncode in (64, 70), done
    assert "take-over" not in subprocess.run([harness.PROGRAMS["relayd"], "--help"], capture_output=True, text=True).stdout


# --- the package ----------------------------------------------------------------------------------------


def configure(env, pid, program, reload="true", status=0, check="true", exit_status=0):
    """Runs the package's postinst with a stub service manager for the process @pid. Returns its requests.

    @reload: a command that stands for ExecReload=; @status: its exit status, as the manager shows it. @check: for check-service.
    """
    script = (harness.ROOT / "debian" / "gotthard-relayd.postinst").read_text()
    script = script.replace("program=/usr/sbin/gotthard-relayd", f"program={program}").replace("sleep 0.2", "sleep 0.02")
    script = script.replace("check=/usr/lib/gotthard-relayd/check-service", f"check={check}")
    script = script.replace("[ -d /run/systemd/system ]", "true").replace("#DEBHELPER#", "")
    stubs = env.folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / "systemctl").write_text(
        f'#!/bin/sh\ncase $* in *MainPID*) echo {pid} ;; *) echo "{{ path=x ; pid=1 ; code=exited ; status={status} }}" ;; esac\n')
    (stubs / "deb-systemd-invoke").write_text(
        f'#!/bin/sh\npid={pid}\necho "$@" >> {stubs}/requests\n[ "$1" != reload ] || {reload}\n')
    for stub in stubs.iterdir():
        stub.chmod(0o755)
    (stubs / "requests").write_text("")
    done = subprocess.run(["sh", "-c", script, "postinst", "configure", "0.1.0"], capture_output=True, text=True,
                          env={"PATH": f"{stubs}:{os.environ['PATH']}"}, timeout=LIMIT)
    assert done.returncode == exit_status and ("NOT UPGRADED" in done.stderr) == bool(exit_status), done
    return [line.split()[0] for line in (stubs / "requests").read_text().splitlines()]


def test_package_upgrades_running_relay(env, installed):
    if os.getuid() != 0:
        pytest.skip("only root can read the program of a process that is not dumpable")
    relay = env.relay()
    install(PROGRAM, installed)
    assert configure(env, relay.pid, installed, reload="true") == ["reload"]
    # a relay from before --reload takes over, without an answer
    assert configure(env, relay.pid, installed, reload="{ kill -USR2 $pid; false; }", status=69) == ["reload"]
    relay.wait_for(TOOK_OVER)
    # a bad configuration
    install(PROGRAM, installed)
    assert configure(env, relay.pid, installed, reload="false", status=78, check="false", exit_status=1) == ["reload"]
    # a relay whose state the program cannot take over is restarted, and so is a program that the signal would kill
    install(OTHER_VERSION, installed)
    assert configure(env, relay.pid, installed, reload="false", status=70) == ["reload", "restart"]
    sleeper = harness.Process(env, "sleeper", ["sleep", "60"])
    assert configure(env, sleeper.pid, installed) == ["restart"]
    assert configure(env, sleeper.pid, installed, check="false", exit_status=1) == []
    assert configure(env, 0, installed) == []
    assert relay.is_running() and sleeper.is_running()
