# SPDX-License-Identifier: ISC
"""The shared data connection: a new local connection is one trip away from its target, however many come, and costs the relay
nothing. A stream that moves much data gets a connection of its own."""

import contextlib
import os
import select
import signal
import socket
import statistics
import struct
import threading
import time

import pytest

import data_connections
import harness
from data_connections import wait_for_status
from faultproxy import Proxy
from harness import LIMIT, echo, in_threads, wait_until
from load import Echo, Steady
from setting_markers import effect
from test_sessions import tagged

DENIED = 5
# The number of one-way trips, from a local connect and its first bytes to the target's reading them, is proven by less time than two
# of them. So a busy machine has the length of a trip to spare, and a trip of SLOW is long even for a very busy one.
BOUND = 2
SLOW = 2000  # ms: a round trip
MIB = 1 << 20


@contextlib.contextmanager
def delaying(env, one_way_ms, share=0.5):
    """Proxies for the operator's leg and the device's; both together have this one-way delay."""
    with contextlib.ExitStack() as stack:
        proxies = []
        for part in (share, 1 - share):
            proxies.append(Proxy.before_relay(env))
            stack.callback(proxies[-1].close)
            proxies[-1].command("delay", one_way_ms * part)
        yield proxies


class Clock:
    """A target that records the time of the first bytes of each connection, by their text."""

    def __init__(self, env):
        self.received = {}
        self.news = threading.Condition()
        self.port = env.target(self._serve).port

    def _serve(self, sock):
        data = harness.receive_exactly(sock, 8)
        at = time.monotonic()
        with self.news:
            self.received[data] = at
            self.news.notify_all()
        while sock.recv(1 << 16):
            pass

    def latencies(self, tunnel, numbers):
        """Opens one connection for each number, all at once. Returns the seconds that each needs to the target, in order."""
        names = [struct.pack(">Q", number) for number in numbers]
        started, socks = [], []
        for name in names:
            started.append(time.monotonic())
            socks.append(tunnel.dial())
            socks[-1].sendall(name)
        with self.news:
            assert self.news.wait_for(lambda: all(name in self.received for name in names), LIMIT)
        for sock in socks:
            sock.close()
        return [self.received[name] - at for name, at in zip(names, started)]


@contextlib.contextmanager
def clocked(env, rtt_ms, share=0.5, **more):
    """Yields a clock, and a tunnel to it with that round trip."""
    clock = Clock(env)
    env.broker()
    env.relay("--bind", "127.0.0.1")
    with delaying(env, rtt_ms / 2, share) as (near, far):
        env.agent(GOTTHARD_AGENT_DATA_PORT=clock.port, GOTTHARD_SERVER_HOST=far.host)
        yield clock, env.connect(GOTTHARD_SERVER_HOST=near.host, **more)


# --- one trip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtt_ms", [50, 150, SLOW])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_each_connection_takes_one_trip(env, rtt_ms, share):
    """From the first one on, as the slow network shows. With the quick ones a busy machine takes longer than a trip: repeated until one
    connection is not disturbed."""
    one_way, n = rtt_ms / 2000, 3 if rtt_ms == SLOW else 7
    with clocked(env, rtt_ms, share) as (clock, tunnel):
        found = []
        while len(found) < n or (min(found) >= BOUND and len(found) < 40):
            found += [seconds / one_way for seconds in clock.latencies(tunnel, [len(found)])]
    print(f"rtt={rtt_ms} ms, {share:.0%} of it at the operator's: the first connection takes {found[0]:.3f} one-way trips, "
          f"all {min(found):.3f} at least, {statistics.median(found):.3f} in the middle, {max(found):.3f} at most")
    assert min(found) >= 1  # or the measure is wrong
    if harness.SANITIZER == "none":
        assert (max if rtt_ms == SLOW else min)(found) < BOUND  # a connection of its own takes 7 and more


def test_many_connections_at_once_take_one_trip(env):
    """The last of 64 as well: a connection of its own takes 7 trips."""
    found = []
    with clocked(env, SLOW) as (clock, tunnel):
        while not found or (max(found) >= BOUND and len(clock.received) < 64 * 4):
            first = len(clock.received)
            found = [seconds * 2000 / SLOW for seconds in clock.latencies(tunnel, range(first, first + 64))]
            print(f"64 at once take {min(found):.3f} to {max(found):.3f} one-way trips")
    assert min(found) >= 1
    if harness.SANITIZER == "none":
        assert max(found) < BOUND


def test_target_speaks_first(env):
    """As with ssh, the client sends nothing first; the banner arrives after one round trip."""
    env.broker()
    env.relay("--bind", "127.0.0.1")
    with delaying(env, 100) as (near, far):
        env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("SSH-2.0-x")).port, GOTTHARD_SERVER_HOST=far.host)
        tunnel = env.connect(GOTTHARD_SERVER_HOST=near.host)
        found = []
        for _ in range(5):
            started = time.monotonic()
            with tunnel.dial() as sock:
                assert harness.receive_exactly(sock, 9) == b"SSH-2.0-x"
                found.append(time.monotonic() - started)
    print(f"the banner after {min(found) / 0.2:.2f} round trips")
    assert 0.2 <= min(found) < 0.3


def test_any_of_several_services(env):
    env.broker()
    env.relay()
    names = ("web", "plc", "ssh")
    targets = {name: env.target(tagged(f"<{name}>")).port for name in names}
    services = " ".join(f'{name} = "127.0.0.1:{port}";' for name, port in targets.items())
    env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(agentd=f"services = {{ {services} }};"))
    tunnel = env.connect("GatewayOli", *(f"0:{name}" for name in names))
    for count, name in enumerate(names * 3):
        with tunnel.dial(name) as sock:
            assert harness.receive_exactly(sock, len(name) + 2) == f"<{name}>".encode()
            assert tunnel.event("stream-opened", count=count + 1)["service"] == name
        tunnel.event("stream-ended", count=count + 1)
    opened = [e["stream"] for e in tunnel.events() if e["event"] == "stream-opened"]
    assert opened == [e["stream"] for e in tunnel.events() if e["event"] == "stream-ended"]
    assert len(set(opened)) == 9
    assert data_connections.n_of(tunnel) == 1


def assert_refused(tunnel, service):
    """The refusal may arrive so soon that connect() fails already."""
    with pytest.raises(ConnectionResetError), tunnel.dial(service) as sock:
        assert sock.recv(1) != b""


def test_refused_service_breaks_only_its_connection(env):
    target = env.target(echo)
    env.broker()
    env.relay()
    closed_port = harness.free_ports(1)
    config = f'services = {{ ssh = "127.0.0.1:{target.port}"; web = "127.0.0.1:{closed_port}"; }};'
    env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(agentd=config))
    tunnel = env.connect("GatewayOli", "0:ssh", "0:web")
    with tunnel.dial("ssh") as held:
        held.sendall(b"before")
        assert harness.receive_exactly(held, 6) == b"before"
        for count in range(3):
            assert_refused(tunnel, "web")
            tunnel.event("stream-ended", count=count + 1)
        held.sendall(b"after")
        assert harness.receive_exactly(held, 5) == b"after"


def test_service_of_another_role(env):
    """The service of each stream is authorized."""
    env.broker()
    env.relay()
    targets = {name: env.target(tagged(f"<{name}>")).port for name in ("ssh", "web")}
    certificate = env.certificates("alice")
    line = env.cli("fingerprint", GOTTHARD_AWS_CERT_PATH=certificate).stdout.strip()
    pins = env.folder / "pins"
    pins.write_text(f"{line} services=ssh\n")
    config = env.config_folder(agentd=f"""
        services = {{ ssh = "127.0.0.1:{targets['ssh']}"; web = "127.0.0.1:{targets['web']}"; }};
        trust = {{ policy = "pin"; pins = "{pins}"; }};""")
    agent = env.agent(GOTTHARD_CONFIG_DIR=config)
    tunnel = env.connect("GatewayOli", "0:ssh", "0:web")
    for count in range(2):
        assert_refused(tunnel, "web")
        assert tunnel.event("stream-ended", count=2 * count + 1)["code"] == DENIED
        with tunnel.dial("ssh") as sock:
            assert harness.receive_exactly(sock, 5) == b"<ssh>"
        tunnel.event("stream-ended", count=2 * count + 2)
    assert "service=web not connected" in agent.log()


# --- many streams ---------------------------------------------------------------------------------


@pytest.fixture
def parts(env):
    """The programs, with an echo behind the device: env.relay_process, env.agent_process."""
    env.broker()
    env.relay_process = env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    return env


def can_echo(sock, data=b"hello"):
    sock.sendall(data)
    return harness.receive_exactly(sock, len(data)) == data


def test_two_hundred_connections_at_once(env):
    """Each has its own bytes, and all are in one data connection."""
    env.broker()
    relay = env.relay()
    target = env.target(lambda sock: sock.sendall(harness.receive_exactly(sock, 8)))
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect()
    for round_ in range(3):
        socks = [tunnel.dial() for _ in range(200)]
        for number, sock in enumerate(socks):
            sock.sendall(struct.pack(">Q", number))
        for number, sock in enumerate(socks):
            assert harness.receive_exactly(sock, 8) == struct.pack(">Q", number)
            assert sock.recv(1) == b""
            sock.close()
        tunnel.event("stream-ended", count=200 * (round_ + 1))
    assert target.n_accepted == 600
    wait_for_status(relay, connections=1, load=0)


@pytest.mark.skipif(os.getuid() != 0, reason="requires root: counts descriptors")
def test_idle_streams_cost_the_relay_nothing(parts):
    tunnel = parts.connect()
    before = harness.descriptors(parts.relay_process.pid)
    socks = [tunnel.dial() for _ in range(300)]
    assert all(can_echo(sock) for sock in socks)
    found = data_connections.of_session(parts.relay_process)
    assert found["connections"] == 1 and found["load"] > 0, found  # the load is reported when it begins and when it ends
    assert harness.descriptors(parts.relay_process.pid) == before
    for sock in socks:
        sock.close()
    wait_for_status(parts.relay_process, connections=1, load=0)


@pytest.mark.skipif(os.getuid() != 0, reason="requires root: counts descriptors")
def test_idle_stream_costs_one_socket_at_each_end(parts):
    tunnel = parts.connect()
    worker, = harness.children_of(parts.agent_process.pid)
    with tunnel.dial() as sock:
        assert can_echo(sock)  # the first one also opens the socket on which the kernel is asked for its user
    tunnel.event("stream-ended")
    before = [harness.descriptors(pid) for pid in (tunnel.pid, worker)]
    socks = [tunnel.dial() for _ in range(100)]
    assert all(can_echo(sock) for sock in socks)
    wait_until(lambda: [harness.descriptors(pid) for pid in (tunnel.pid, worker)] == [n + 100 for n in before],
               "one descriptor for each stream")
    for sock in socks:
        sock.close()


def test_more_streams_than_the_device_permits(parts):
    """The next connection waits in the listener's queue until one of the streams has ended."""
    parts.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=parts.target(echo).port, GOTTHARD_LIMITS_STREAMS=3)
    tunnel = parts.connect("GatewayTwo")
    socks = [tunnel.dial() for _ in range(3)]
    assert all(can_echo(sock) for sock in socks)
    waiting = tunnel.dial()
    waiting.sendall(b"late")
    tunnel.event("streams-full", streams=3)
    socks[1].close()
    assert harness.receive_exactly(waiting, 4) == b"late"
    assert can_echo(socks[0]) and can_echo(socks[2])
    for sock in (socks[0], socks[2], waiting):
        sock.close()


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [("down",), ("up",), ("down", "up")], ids="+".join)
def test_bulk_moves_and_others_are_quick(parts, ways):
    """It gets a connection of its own, loses no byte by that, and then delays no other stream."""
    n = 512 * MIB
    answered = {}

    def device(sock):
        sides = []
        if "down" in ways:
            sides.append(lambda: (harness.send_pattern(sock, "down", n), sock.shutdown(socket.SHUT_WR)))
        if "up" in ways:
            sides.append(lambda: answered.update(up=harness.digest_to_eof(sock)))
        in_threads(*sides)

    bulk = parts.target(device)
    folder = parts.config_folder(agentd=f'services = {{ bulk = "127.0.0.1:{bulk.port}"; }};')
    parts.agent("GatewayTwo", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=parts.target(echo).port)
    tunnel = parts.connect("GatewayTwo", "0:ssh", "0:bulk")
    typing = Echo(tunnel.dial("ssh"), pause=0.005)
    wait_until(lambda: typing.n_echoes > 20, "echoes")
    assert data_connections.n_of(tunnel) == 1
    with tunnel.dial("bulk") as sock:

        def send():
            if "up" in ways:
                harness.send_pattern(sock, "up", n)
                sock.shutdown(socket.SHUT_WR)

        def receive():
            if "down" in ways:
                assert harness.digest_to_eof(sock) == (n, harness.digest_of_pattern("down", n))

        def look():
            data_connections.wait_for(tunnel, 2)
            n_echoes = typing.n_echoes
            wait_until(lambda: typing.n_echoes > n_echoes + 20, "echoes beside the bulk stream")

        in_threads(send, receive, look)
    ended = tunnel.event("stream-ended", service="bulk")
    assert ended["code"] == 0, ended
    if "up" in ways:
        assert answered["up"] == (n, harness.digest_of_pattern("up", n))
    data_connections.wait_for(tunnel, 1)
    n_echoes = typing.n_echoes
    wait_until(lambda: typing.n_echoes > n_echoes + 20, "echoes after the bulk stream")
    typing.end()


def test_small_answers_do_not_move(parts):
    """A connection of its own takes three round trips: what fits into the window stays where it is."""
    answer = parts.target(lambda sock: harness.send_pattern(sock, "answer", 100_000))
    parts.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=answer.port)
    tunnel = parts.connect("GatewayTwo", GOTTHARD_LOG_LEVEL="debug")
    for _ in range(20):
        with tunnel.dial() as sock:
            harness.receive_pattern(sock, "answer", 100_000)
            assert sock.recv(1) == b""
    tunnel.event("stream-ended", count=20)
    assert data_connections.n_of(tunnel) == 1
    tickets = [line for line in parts.relay_process.log().splitlines() if "stream=" in line and "stream=0 " not in line]
    assert not tickets, tickets[:3]


def test_half_close_in_either_direction(env):
    """Before the stream moves, and after it."""
    env.broker()
    env.relay()

    def answer(sock):
        n, digest = harness.digest_to_eof(sock)
        assert digest == harness.digest_of_pattern("up", n)
        harness.send_pattern(sock, "down", n)

    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(answer).port)
    tunnel = env.connect()
    for count, n in enumerate((0, 1, 100_000, MIB, 16 * MIB)):
        with tunnel.dial() as sock:
            harness.send_pattern(sock, "up", n)
            sock.shutdown(socket.SHUT_WR)
            harness.receive_pattern(sock, "down", n)
            assert sock.recv(1) == b""
        assert tunnel.event("stream-ended", count=count + 1)["code"] == 0


def test_unread_stream_stays_and_moves_when_it_is_read(parts):
    """Its window in the shared connection is full, and everybody else's is not."""
    n = 32 * MIB
    slow = parts.target(lambda sock: harness.send_pattern(sock, "slow", n))
    folder = parts.config_folder(agentd=f'services = {{ slow = "127.0.0.1:{slow.port}"; }};')
    parts.agent("GatewayTwo", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=parts.target(echo).port)
    tunnel = parts.connect("GatewayTwo", "0:ssh", "0:slow")
    stuck = tunnel.dial("slow")
    with tunnel.dial("ssh") as sock:
        assert all(can_echo(sock, bytes([i]) * 1000) for i in range(200))
    harness.receive_pattern(stuck, "slow", n)
    assert stuck.recv(1) == b""
    stuck.close()
    data_connections.wait_for(tunnel, 1)


def test_stream_beyond_the_limit_of_the_relay_stays(env):
    """limits.streams of the relay counts connections of streams of their own. The other streams continue in the shared one."""
    env.broker()
    folder = env.config_folder(relayd="limits = { streams = 1; };")
    env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    load = Steady(env, 3)
    env.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = env.connect()
    load.start(tunnel)
    load.wait_for_progress(4 * MIB)
    assert data_connections.n_of(tunnel) == 2
    load.finish(tunnel)
    data_connections.wait_for(tunnel, 1)


@pytest.mark.soak
def test_quiet_stream_moves_back(parts):
    """After a minute without data, and moves again when it has much to say."""
    tunnel = parts.connect()
    with tunnel.dial() as sock:
        for _ in range(2):
            in_threads(lambda: harness.send_pattern(sock, "up", 8 * MIB), lambda: harness.receive_pattern(sock, "up", 8 * MIB))
            data_connections.wait_for(tunnel, 2)
            wait_until(lambda: data_connections.n_of(tunnel) == 1, "the stream has moved back", limit=90, step=1)
            wait_for_status(parts.relay_process, load=1)
            assert can_echo(sock)


# --- the shared connection's life -----------------------------------------------------------------


def test_streams_survive_restarts_of_the_relay(parts):
    """The shared connection is lost without an event about a stream; when the relay is available again there is another."""
    tunnel, relay = parts.connect(), parts.relay_process
    socks = [tunnel.dial() for _ in range(30)]
    for count in range(2):
        assert all(can_echo(sock) for sock in socks)
        relay.kill()
        relay = parts.relay()
        tunnel.event("relay-back", count=count + 1)
        assert all(can_echo(sock) for sock in socks)
        assert can_echo(tunnel.dial())
    port = int(relay.wait_for(r"session=\S+ device=\S+ .*port=(\d+)")[1])
    assert harness.n_connections_at(port) == 2
    for sock in socks:
        sock.close()
    tunnel.event("stream-ended", count=30)
    events = [e for e in tunnel.events() if e["event"].startswith("stream-")]
    assert {e["event"] for e in events} == {"stream-opened", "stream-ended"}
    assert not [e for e in events if e.get("code")]


def test_one_port_network(env):
    """The shared connection and those of streams use the main port."""
    env.broker()
    relay = env.relay(env=env.relay_environment())
    load = Steady(env, 2)
    single = {"GOTTHARD_SERVER_SINGLE_PORT": "true"}
    env.agent(GOTTHARD_AGENT_DATA_PORT=load.target.port, **single)
    tunnel = env.connect(**single)
    load.start(tunnel)
    load.wait_for_progress(4 * MIB)
    wait_for_status(relay, connections=3)
    assert harness.n_connections_at(data_connections.of_session(relay)["port"]) == 0
    load.finish(tunnel)


@effect("cli", "client.shared_idle")
@pytest.mark.parametrize("idle", ["0", "500ms"])
def test_shared_idle(parts, idle):
    """The connection is closed after that time without streams, and opened again by the next one; 0 keeps it."""
    tunnel = parts.connect(GOTTHARD_CLIENT_SHARED_IDLE=idle)
    for _ in range(2):
        with tunnel.dial() as sock:
            assert can_echo(sock)
            started = time.monotonic()
            wait_until(lambda: time.monotonic() - started > 1.5, "longer than the setting")
            assert data_connections.n_of(tunnel) == 1
            assert can_echo(sock)
        if idle == "0":
            started = time.monotonic()
            wait_until(lambda: time.monotonic() - started > 1.5, "longer than the other setting")
            assert data_connections.n_of(tunnel) == 1
        else:
            data_connections.wait_for(tunnel, 0)
    assert tunnel.disconnect() == 0


@pytest.mark.parametrize("is_busy", [False, True])
def test_only_streams_keep_an_idle_session(env, is_busy):
    """`timeouts.idle` of the relay: an idle stream in the shared connection counts, the connection itself does not."""
    env.broker()
    folder = env.config_folder(relayd='timeouts = { idle = "2s"; };')
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    if is_busy:
        with tunnel.dial() as sock:
            assert can_echo(sock)
            started = time.monotonic()
            while time.monotonic() - started < 4:
                assert not select.select([sock], [], [], 0.5)[0]
            assert can_echo(sock)
    assert tunnel.wait() == 69
    relay.wait_for(r'ended .*reason="no connection for longer than timeouts.idle of the relay"')


def test_shared_connection_is_not_logged(parts):
    """An idle tunnel, its status and its end: no line and no event about a stream."""
    tunnel = parts.connect()
    data_connections.wait_for(tunnel, 1)
    worker = harness.children_of(parts.agent_process.pid)[0]
    os.kill(worker, signal.SIGUSR1)
    parts.agent_process.wait_for("status up=1 streams=0 ")
    wait_for_status(parts.relay_process, connections=1, load=0)
    started = time.monotonic()
    assert tunnel.disconnect() == 0
    assert time.monotonic() - started < 2
    parts.agent_process.wait_for(r"ended cause=closed streams=0 ")
    assert "stream=" not in parts.agent_process.log()
    assert not [e for e in tunnel.events() if e["event"].startswith("stream")]
