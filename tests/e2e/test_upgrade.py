# SPDX-License-Identifier: ISC
"""A live upgrade of the relay: SIGUSR2, and every stream goes on over the very same pair of sockets.

The relay is started from a copy, which takes the place of the installed program and can be spoiled.
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

import harness
from harness import LIMIT, echo, in_threads, receive_exactly, wait_until
from load import Steady
from manager import Manager
from test_faults import open_stream
from relayclient import DEVICE, GREETING, LENIENT, OPERATOR, SHUTDOWN, Client, join, joined, pair_up, sessions_of
from test_tunnel import assert_alive

TOMORROW = harness.BUILD / "subprojects" / "gotthard-relayd" / "tests" / "relayd-of-tomorrow"
PAUSE = 0.2 if harness.SANITIZER == "none" else 5
TOOK_OVER = r"took over sessions=(\d+) pairs=(\d+) tickets=(\d+) pause=(\d+)ms"


def install(source, path):
    """As a package does it: the new file in the place of the old one, which lives on without a name."""
    shutil.copy(source, f"{path}.new")
    os.chmod(f"{path}.new", 0o755)
    os.rename(f"{path}.new", path)


@pytest.fixture
def installed(world, monkeypatch):
    """The path that relays are started from."""
    path = world.folder / "installed" / "gotthard-relayd"
    path.parent.mkdir()
    install(harness.PROGRAMS["relayd"], path)
    monkeypatch.setitem(harness.PROGRAMS, "relayd", path)
    return path


@pytest.fixture
def relay_with(world, relay_of):
    """A relay with a configuration of @more, and clients."""
    return lambda more="", **env: relay_of(LENIENT, more, GOTTHARD_LOG_LEVEL="debug", **env)


def upgrade(relay, wanted=None):
    """SIGUSR2, and waits for the take-over: sessions, pairs, tickets, and for how many ms no byte moved."""
    count = len(re.findall(TOOK_OVER, relay.log())) + 1
    relay.send(signal.SIGUSR2)
    found = tuple(map(int, relay.wait_for(TOOK_OVER, count=count).groups()))
    relay.wait_for("listening port=", count=count + 1)
    assert wanted is None or found[:3] == wanted, found
    return found


def refused(relay, why):
    """SIGUSR2, and nothing happens."""
    count = len(re.findall("upgrade refused", relay.log())) + 1
    relay.send(signal.SIGUSR2)
    relay.wait_for("upgrade refused, this program goes on", count=count)
    assert re.search(why, relay.log()), relay.log()
    assert "took over" not in relay.log()


def no_stream_was_broken(relay):
    """Each pair of the relay is of a stream's first attempt."""
    attempts = re.findall(r"stream=\d+ attempt=(\d+)", relay.log())
    assert attempts and set(attempts) == {"1"}, set(attempts)


class Pulse:
    """One byte there and back, again and again: the longest it took."""

    def __init__(self, tunnel):
        self.sock = open_stream(tunnel)
        self.is_over = threading.Event()
        self.longest = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.is_over.wait(0.001):
            begun = time.monotonic()
            self.sock.sendall(b"?")
            assert receive_exactly(self.sock, 1) == b"?"
            self.longest = max(self.longest, time.monotonic() - begun)

    def reset(self):
        longest, self.longest = self.longest, 0
        return longest

    def finish(self):
        self.is_over.set()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        self.sock.close()


# --- streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("splice", ["auto", "off"])
def test_streams_under_load(world, splice):
    """Eight streams both ways over six upgrades in a row: no pair is lost, no byte, and hardly any time."""
    world.broker()
    folder = world.config_folder(relayd=f'relay = {{ splice = "{splice}"; }};')
    relay = world.relay("--log-level", "debug", env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    load = Steady(world, 8)
    world.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = world.connect(GOTTHARD_SPARES=0)
    port = relay.wait_for(r"state=paired port=(\d+)").group(1)
    load.start(tunnel)
    pauses = []
    for round_ in range(6):
        load.wait_for_progress(1 << 20)
        pauses.append(upgrade(relay, (1, 8, 0))[3])
        tunnel.event("link-back", count=round_ + 1)
    print(f"splice={splice}: pauses of the relay in ms: {pauses}")
    load.finish(tunnel)
    no_stream_was_broken(relay)
    assert set(re.findall(r"state=paired port=(\d+)", relay.log())) == {port}
    assert tunnel.close_politely() == 0


def test_the_pause_as_the_ends_see_it(world):
    world.broker()
    relay = world.relay("--log-level", "debug")
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect(GOTTHARD_SPARES=0)
    pulse = Pulse(tunnel)
    wait_until(lambda: pulse.longest, "a byte comes back")
    longest = []
    for round_ in range(5):
        pulse.reset()
        upgrade(relay, (1, 1, 0))
        tunnel.event("link-back", count=round_ + 1)
        longest.append(pulse.reset())
    print("longest round trips in ms:", [round(1000 * x) for x in longest])
    pulse.finish()
    assert sorted(longest)[2] < PAUSE, longest
    no_stream_was_broken(relay)


def test_half_closed_streams_go_on(world):
    world.broker()
    relay = world.relay("--log-level", "debug")
    heard, go_on = threading.Event(), threading.Event()

    def device(sock):
        """Hears all of it first, and answers after the upgrade."""
        total, digest = harness.digest_to_eof(sock)
        heard.set()
        go_on.wait(LIMIT)
        sock.sendall(f"{total} {digest}".encode())

    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(device).port)
    tunnel = world.connect(GOTTHARD_SPARES=0)
    with tunnel.dial() as sock:
        harness.send_pattern(sock, "up", 100_000)
        sock.shutdown(socket.SHUT_WR)
        assert heard.wait(LIMIT)
        upgrade(relay, (1, 1, 0))
        tunnel.event("link-back")
        go_on.set()
        assert receive_exactly(sock, 1000).decode() == f"100000 {harness.digest_of_pattern('up', 100_000)}"
    assert tunnel.event("stream-ended")["code"] == 0
    no_stream_was_broken(relay)


def test_sessions_go_on(world):
    """What is asked of a session after it: new streams, `disconnect`; and a new session."""
    world.broker()
    relay = world.relay()
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    open_stream(tunnel).close()
    upgrade(relay)
    assert_alive(tunnel)
    tunnel.event("link-back")
    assert_alive(tunnel)
    other = world.connect()
    assert_alive(other)
    done = world.cli("disconnect", "GatewayOli")
    assert done.returncode == 0, done.stderr
    assert tunnel.wait() == 0 and other.wait() == 0


# --- what is handed over ------------------------------------------------------------------------------


def come_back(world, rid, names=("alice", "oli")):
    """Both sides after an upgrade, with a greater generation."""
    operator, device = Client(world, f"g1:o:{names[0]}"), Client(world, f"g1:d:{names[1]}")
    port = operator.register(rid, 2, peer=False)
    assert device.register(rid, 2, peer=True) == port
    operator.hear("peer", rid=rid, up=1, reason=0)
    return operator, device, port


def test_members_are_told(world, relay_with):
    relay = relay_with()
    operator, device, rid, port = pair_up(world)
    upgrade(relay, (1, 0, 0))
    for client in operator, device:
        assert 0 < int(client.hear("restarting")["in"]) <= 1000
        client.hear("closed")
    assert come_back(world, rid)[2] == port
    assert re.match(rf"sessions=1 members=2 pairs=0 tickets=0 ports=1/{world.n_relay_ports} fds=3/", sessions_of(relay))


def test_a_slot_stays_its_owners(world, relay_with):
    relay = relay_with()
    *_, rid, port = pair_up(world)
    upgrade(relay)
    thief = Client(world, "g1:o:mallory")
    thief.do("rendezvous", rid, 9, 0, 0)
    thief.hear("error")
    assert come_back(world, rid)[2] == port


def test_a_session_of_one_waits_on(world, relay_with):
    relay = relay_with()
    rid = "ab" * 16
    port = Client(world, "g1:o:alice").register(rid, peer=False)
    upgrade(relay, (1, 0, 0))
    device = Client(world, "g1:d:oli")
    assert device.register(rid, peer=False) == port
    assert Client(world, "g1:o:alice").register(rid, 2, peer=True) == port


@pytest.mark.parametrize("where", ["own port", "main port"])
@pytest.mark.parametrize("threads", [(2, 2), (1, 5), (5, 1)])
def test_tickets_and_waiting_sides(world, relay_with, where, threads):
    """Tickets that nobody used, that one side used, and that wait their turn; whatever the number of planes."""
    text = "relay = {{ threads = {}; }}; limits = {{ " + LENIENT + " tickets = 3; }};"
    folder = world.config_folder(relayd=text.format(threads[0]))
    world.clients = []
    relay = world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    sessions = [pair_up(world, stream=1, names=(f"alice{i}", f"oli{i}")) for i in range(5)]
    tickets, waiting = {}, {}
    for operator, device, rid, port in sessions:
        tickets[rid] = [operator.ticket(rid, stream) for stream in (1, 2)]
        waiting[rid] = join(port if where == "own port" else world.relay_port, tickets[rid][0], OPERATOR)
    wait_until(lambda: "pairs=5 tickets=10" in sessions_of(relay), "the first sides are here")
    (folder / "relayd.conf").write_text(text.format(threads[1]))
    upgrade(relay, (5, 5, 10))
    assert f"threads={threads[1]} " in relay.log()
    for operator, device, rid, port in sessions:
        door = port if where == "own port" else world.relay_port
        second = join(door, tickets[rid][0], DEVICE)
        other = join(door, tickets[rid][1], OPERATOR), join(door, tickets[rid][1], DEVICE)
        for sock in waiting[rid], second, *other:
            assert receive_exactly(sock, 8) == GREETING
        for a, b in (waiting[rid], second), other:
            a.sendall(b"there")
            b.sendall(b"and back")
            assert receive_exactly(b, 5) == b"there" and receive_exactly(a, 8) == b"and back"


def test_a_used_half_of_a_ticket_stays_used(world, relay_with):
    relay = relay_with()
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 1)
    held = join(port, ticket, OPERATOR)
    wait_until(lambda: "pairs=1" in sessions_of(relay), "the first side is here")
    upgrade(relay, (1, 1, 1))
    again = join(port, ticket, OPERATOR, source="127.0.0.2")
    assert again.recv(1) == b""
    assert receive_exactly(join(port, ticket, DEVICE), 8) == GREETING and receive_exactly(held, 8) == GREETING


def test_returning_sides_hear_of_tickets_and_attempts(world, relay_with):
    relay = relay_with()
    operator, device, rid, port = pair_up(world)
    ticket = operator.ticket(rid, 7, 3)
    upgrade(relay, (1, 0, 1))
    operator = Client(world, "g1:o:alice")
    operator.register(rid, 2)
    assert {**operator.hear("ticket"), "ttl": 0} == {**ticket, "ttl": 0}
    operator.do("open", rid, 7, 3)
    operator.hear("error", code=8)


def fill(sock):
    """As much as goes in; how much it was."""
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
def test_bytes_under_way(world, relay_of, splice):
    """Bytes that nobody takes, both ways, are in pipes or buffers when the upgrade comes."""
    text = "limits = {{ " + LENIENT + " }}; relay = {{ splice = \"{}\"; }};"
    folder = world.config_folder(relayd=text.format(splice[0]))
    world.clients = []
    relay = world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    operator, device, rid, port = pair_up(world)
    ends = [joined(operator, device, rid, port, stream) for stream in (1, 2, 3)]
    n = [(fill(a), fill(b)) for a, b in ends]
    (folder / "relayd.conf").write_text(text.format(splice[1]))
    for _ in range(3):
        upgrade(relay, (1, 3, 0))

    def take(sock, n_bytes):
        piece = next(harness.pattern("full", 1 << 16))
        for at in range(0, n_bytes, len(piece)):
            wanted = piece[:n_bytes - at]
            assert receive_exactly(sock, len(wanted)) == wanted
        assert sock.recv(1) == b""

    for (a, b), (up, down) in zip(ends, n):
        a.shutdown(socket.SHUT_WR)
        b.shutdown(socket.SHUT_WR)
        in_threads(lambda: take(b, up), lambda: take(a, down))
    counted = rf"plane=\d+ .* pairs=0 .*bytes={sum(map(sum, n))} "
    wait_until(lambda: sessions_of(relay) and re.search(counted, relay.log()), "the pairs end, and all is counted")


def test_as_many_streams_as_may_be(world, relay_of):
    """A session remembers twice as many as may be open, and all of them go along."""
    n = 1024
    relay = relay_of(LENIENT + f"streams = {n};")
    operator, device, rid, port = pair_up(world)
    for stream in range(1, n + 1):
        operator.do("open", rid, stream, 1)
    for stream in range(n - 99, n + 1):
        operator.do("end", rid, stream, 1, 0)
        operator.do("open", rid, stream + 100, 1)
    operator.do("ping 7")
    wait_until(lambda: "pong n=7" in operator.all, "all is said")
    upgrade(relay)


def test_resets_and_deadlines_go_on(world, relay_of):
    """A half-closed pair without a byte ends when it should have, not an upgrade later; a reset stays one."""
    relay = relay_of(LENIENT + 'half_closed = "3s"; ')
    operator, device, rid, port = pair_up(world)
    a, b = joined(operator, device, rid, port, 1)
    c, d = joined(operator, device, rid, port, 2)
    a.shutdown(socket.SHUT_WR)
    assert b.recv(1) == b""
    begun = time.monotonic()
    for _ in range(3):
        upgrade(relay, (1, 2, 0))
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    with pytest.raises(ConnectionResetError):
        d.recv(1)
    with pytest.raises(ConnectionResetError):
        a.recv(1)
    assert 2.5 < time.monotonic() - begun < 3 + PAUSE + 1


def test_goodbyes_go_on(world, relay_with):
    relay = relay_with()
    operator, device, rid, _ = pair_up(world)
    device.kill()
    operator.hear("peer", rid=rid, up=0)
    operator.do("bye", 1, rid)
    wait_until(lambda: f"session={rid[:8]} ended" in relay.log(), "the session ends")
    upgrade(relay, (0, 0, 0))
    device = Client(world, "g1:d:oli")
    device.do("rendezvous", rid, 2, 0, 0)
    device.hear("bye", rid=rid)


def test_resting_ports_and_penalties_go_on(world, relay_of):
    relay = relay_of('penalty_failed = "1min"; ', 'server = { ports_rest = "1min"; };')
    operator, device, rid, port = pair_up(world)
    operator.do("bye", 1, rid)
    wait_until(lambda: f"ended operator=alice device=oli port={port}" in relay.log(), "the session ends")
    with socket.create_connection(("127.0.0.1", world.relay_port), source_address=("127.0.0.9", 0)) as sock:
        sock.sendall(b"G" + b"x" * 63)
        assert sock.recv(1) == b""
    upgrade(relay, (0, 0, 0))
    client = Client(world, "g1:o:bob")
    assert client.register("cd" * 16, hint=port) != port
    with socket.create_connection(("127.0.0.1", world.relay_port), source_address=("127.0.0.9", 0)) as sock:
        assert select.select([sock], [], [], LIMIT)[0] and sock.recv(1) == b""
    wait_until(lambda: re.search(r"refused=[1-9]\d* born=2 ", sessions_of(relay)), "it is refused, and the counters go on")


# --- refusals -----------------------------------------------------------------------------------------


def spoil_by_script(path):
    path.unlink()
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)


def spoil_by_garbage(path):
    path.unlink()
    path.write_bytes(b"\x7fELF" + os.urandom(5000))
    path.chmod(0o755)


def spoil_by_crash(path):
    path.unlink()
    path.write_text("#!/bin/sh\nkill -SEGV $$\n")
    path.chmod(0o755)


SPOILS = {
    "script": (spoil_by_script, "ended with 1"),
    "garbage": (spoil_by_garbage, "refused, .*(Exec format error|ended by signal|ended with)"),
    "crash": (spoil_by_crash, "ended by signal 11"),
    "missing": (lambda path: path.unlink(), "No such file"),
    "not executable": (lambda path: (path.unlink(), path.write_text("x")), "Permission denied"),
    "another version": (lambda path: install(TOMORROW, path), "the state is of another version"),
    "another program": (lambda path: install("/bin/false", path), "ended with 1"),
}


@pytest.mark.parametrize("how", SPOILS)
def test_refused_by_the_program(world, installed, how):
    spoil, why = SPOILS[how]
    world.broker()
    relay = world.relay("--log-level", "debug")
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    sock = open_stream(tunnel)
    spoil(installed)
    refused(relay, why)
    refused(relay, why)
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
    no_stream_was_broken(relay)


PROGRAM = harness.PROGRAMS["relayd"]


def test_refused_by_the_configuration(world, relay_with):
    relay = relay_with()
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    conf = relay.folder_of_config / "relayd.conf"
    good = conf.read_text()
    conf.write_text(good + "nonsense = 1;")
    refused(relay, "nonsense is unknown")
    assert operator.is_quiet() and device.is_quiet()
    ends[0].sendall(b"x")
    assert ends[1].recv(1) == b"x"
    conf.write_text(good)
    upgrade(relay, (1, 1, 0))


def test_a_rehearsal_that_hangs(world, installed):
    relay = world.relay()
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    relay.wait_for("rehearses")
    relay.send(signal.SIGUSR2)
    relay.wait_for("upgrade not begun")
    relay.wait_for("upgrade refused.*ended by signal 9")
    wait_until(lambda: not harness.children_of(relay.pid), "the child is gone")
    assert relay.stop() == 0


def test_term_during_the_rehearsal(world, installed):
    relay = world.relay()
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    child, = wait_until(lambda: harness.children_of(relay.pid), "the child is there")
    begun = time.monotonic()
    assert relay.stop() == 0
    assert time.monotonic() - begun < 5
    assert "took over" not in relay.log() and "refused" not in relay.log()
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), "the child is gone")


def test_term_as_the_rehearsal_ends(world, installed, relay_with):
    """Both are heard in one turn: it is an end in peace all the same."""
    relay = relay_with('relay = { drain = "5s"; };')
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    installed.unlink()
    installed.write_text("#!/bin/sh\nexec sleep 0.5\n")
    installed.chmod(0o755)
    relay.send(signal.SIGUSR2)
    child, = wait_until(lambda: harness.children_of(relay.pid), "the child is there")
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
        client.hear("restarting")
        client.hear("bye", code=SHUTDOWN)
    assert "took over" not in relay.log()


def test_storm(world):
    """A hundred signals at any moment of upgrades: none ends the relay."""
    world.broker()
    relay = world.relay("--log-level", "debug")
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    sock = open_stream(tunnel)
    for i in range(100):
        relay.send(signal.SIGUSR2)
        sock.sendall(b"%03d" % i)
        assert receive_exactly(sock, 3) == b"%03d" % i
        time.sleep(0.003 * (i % 5))  # to hit every moment of it
    wait_until(lambda: not harness.children_of(relay.pid), "the last rehearsal is over")
    upgrade(relay)
    assert_alive(tunnel)
    no_stream_was_broken(relay)
    relay.send(signal.SIGUSR2)
    assert relay.stop() == 0


# --- the process --------------------------------------------------------------------------------------


def test_twenty_upgrades_leak_nothing(world, relay_with):
    relay = relay_with()
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)

    def state():
        return harness.descriptors(relay.pid), len(os.listdir(f"/proc/{relay.pid}/task"))

    upgrade(relay, (1, 1, 0))
    wait_until(lambda: "members=0" in sessions_of(relay), "the status")
    before = state()
    for _ in range(20):
        upgrade(relay, (1, 1, 0))
    assert state() == before
    assert re.match("sessions=1 members=0 pairs=1 tickets=0 ports=1/.* fds=3/", sessions_of(relay))
    ends[0].sendall(b"x")
    assert ends[1].recv(1) == b"x"


def test_secrets_of_the_environment_are_nowhere_to_be_read(world):
    if os.getuid() != 0:
        pytest.skip("only root looks into a process that is not dumpable")
    relay = world.relay()
    for _ in range(2):
        upgrade(relay)
        for name in "environ", "cmdline":
            with open(f"/proc/{relay.pid}/{name}", "rb") as file:
                text = file.read()
            assert world.key.encode() not in text and world.iv.encode() not in text
        names = [os.readlink(f"/proc/{relay.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{relay.pid}/fd")]
        assert not [name for name in names if "memfd" in name]
    world.clients = []
    Client(world, "g1:o:alice").register("ab" * 16)


def test_it_is_the_same_process_and_the_new_program(world, installed):
    relay = world.relay("--server-port", str(world.relay_port))
    install(PROGRAM, installed)
    upgrade(relay)
    install(PROGRAM, installed)
    upgrade(relay)
    if os.getuid() == 0:
        assert os.readlink(f"/proc/{relay.pid}/exe") == str(installed)
    with open(f"/proc/{relay.pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    assert words[1].startswith(b"--take-over=") and words[2:-1] == [b"--server-port", str(world.relay_port).encode()]
    assert relay.stop() == 0


def test_started_by_a_relative_path(world, installed, monkeypatch):
    monkeypatch.setitem(harness.PROGRAMS, "relayd", os.path.relpath(installed, world.folder))
    relay = world.relay()
    upgrade(relay)
    upgrade(relay)


def test_service_manager(world):
    """Told of it, and the watchdog fed; a socket that was handed in stays."""
    world.clients = []
    manager = Manager(world)
    with manager.relay(world) as child:
        for _ in range(3):
            child.send_signal(signal.SIGUSR2)
            manager.hear("RELOADING=1\nMONOTONIC_USEC=", "READY=1", "WATCHDOG=1", "WATCHDOG=1")
        Client(world, "g1:o:alice").register("ab" * 16)
        child.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert child.wait(LIMIT) == 0


def test_settings_follow_but_for_the_port(world, relay_with):
    relay = relay_with()
    conf = relay.folder_of_config / "relayd.conf"
    conf.write_text(conf.read_text() + f"relay = {{ threads = 3; }}; server = {{ port = {world.relay_port + 1}; }};")
    upgrade(relay)
    assert "server.port changes with a restart only" in relay.log()
    assert re.findall(r"listening port=(\d+) .*threads=3 ", relay.log()) == [str(world.relay_port)]
    Client(world, "g1:o:alice").register("ab" * 16)


@pytest.mark.parametrize("fd", ["0", "2", "3", "99", "x", "-1", ""])
def test_hidden_options_by_hand(world, fd):
    """Nothing is there to be taken over."""
    for option in "--rehearse", "--take-over":
        done = subprocess.run([harness.PROGRAMS["relayd"], f"{option}={fd}"], env=world.relay_environment(),
                              capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
        assert done.returncode in (64, 70), done
    assert "take-over" not in subprocess.run([harness.PROGRAMS["relayd"], "--help"], capture_output=True, text=True).stdout


# --- the package ----------------------------------------------------------------------------------------


def configure(world, pid, program, reload="kill -USR2 $pid"):
    """What the package's postinst asks of a service manager that is not there, for the process @pid."""
    script = (harness.ROOT / "debian" / "gotthard-relayd.postinst").read_text()
    script = script.replace("program=/usr/sbin/gotthard-relayd", f"program={program}").replace("sleep 0.2", "sleep 0.02")
    script = script.replace("[ -d /run/systemd/system ]", "true").replace("#DEBHELPER#", "")
    stubs = world.folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / "systemctl").write_text(f"#!/bin/sh\necho {pid}\n")
    (stubs / "deb-systemd-invoke").write_text(
        f'#!/bin/sh\npid={pid}\necho "$@" >> {stubs}/asked\n[ "$1" != reload ] || {reload}\n')
    for stub in stubs.iterdir():
        stub.chmod(0o755)
    (stubs / "asked").write_text("")
    done = subprocess.run(["sh", "-c", script, "postinst", "configure", "0.1.0"], capture_output=True, text=True,
                          env={"PATH": f"{stubs}:{os.environ['PATH']}"}, timeout=LIMIT)
    assert done.returncode == 0, done
    return [line.split()[0] for line in (stubs / "asked").read_text().splitlines()]


def test_the_package_upgrades_a_running_relay(world, installed):
    if os.getuid() != 0:
        pytest.skip("only root sees which program a process that is not dumpable runs")
    relay = world.relay()
    install(PROGRAM, installed)
    assert configure(world, relay.pid, installed) == ["reload"]
    relay.wait_for(TOOK_OVER)
    # a bad configuration: ExecReload's first command fails
    install(PROGRAM, installed)
    assert configure(world, relay.pid, installed, reload="false") == ["reload"]
    # one that refuses is restarted, and so is one that would not survive the signal
    install(TOMORROW, installed)
    assert configure(world, relay.pid, installed) == ["reload", "restart"]
    sleeper = harness.Process(world, "sleeper", ["sleep", "60"])
    assert configure(world, sleeper.pid, installed) == ["restart"]
    assert configure(world, 0, installed) == []
    assert relay.is_running() and sleeper.is_running()
