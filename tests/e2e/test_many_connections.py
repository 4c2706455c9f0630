# SPDX-License-Identifier: ISC
"""Many connections at once: none waits for a second SYN, and the logs stay short and complete."""

import re
import socket
import struct
import time

import pytest

import harness
from harness import LIMIT, echo, in_threads, wait_until

AT_ONCE = 500
REQUESTS = 4000
TCP_INFO_TOTAL_RETRANS = 100  # offset in struct tcp_info


def tagged(sock):
    sock.sendall(harness.receive_exactly(sock, 8) + b"!")


@pytest.fixture
def parts(env):
    env.broker()
    env.relay()
    env.process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged).port)
    return env


def connect_with_log_lines(env, device, name="alice"):
    """A `connect` as a service has it: log lines on standard error, the port on standard output. Returns both."""
    command = harness.Process(env, env.unique("connect"), [harness.PROGRAMS["cli"], "connect", "--print-port", device, "0:ssh"],
                              env=env.cli_environment(name))
    return command, int(command.wait_for(r"^\d+$", where=command.out)[0])


def retransmissions(sock):
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("I", info, TCP_INFO_TOTAL_RETRANS)[0]


def is_established(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[0] == 1


def test_no_connection_waits_for_a_second_syn(parts):
    """The local port's queue has room for all of them. Each is served with its own bytes, as streams become free."""
    parts.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=parts.target(tagged).port, GOTTHARD_LIMITS_STREAMS=64)
    tunnel = parts.connect("GatewayTwo")
    sockets = [socket.socket() for _ in range(AT_ONCE)]
    for sock in sockets:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", tunnel.port()))
    wait_until(lambda: all(map(is_established, sockets)), "every connection is established")
    assert [sock for sock in sockets if retransmissions(sock)] == []
    for number, sock in enumerate(sockets):
        sock.settimeout(LIMIT)
        sock.sendall(struct.pack(">Q", number))
    for number, sock in enumerate(sockets):
        assert harness.receive_exactly(sock, 9) == struct.pack(">Q", number) + b"!"
        sock.close()
    assert len([e for e in tunnel.events() if e["event"] == "streams-full"]) == 1


def request_all(port, numbers, at_once=50):
    """One short connection for each number, some at a time."""
    numbers = list(numbers)
    for first in range(0, len(numbers), at_once):
        batch = [(number, socket.create_connection(("127.0.0.1", port), timeout=LIMIT)) for number in numbers[first:first + at_once]]
        for number, sock in batch:
            sock.sendall(struct.pack(">Q", number))
        for number, sock in batch:
            assert harness.receive_exactly(sock, 9) == struct.pack(">Q", number) + b"!"
            assert sock.recv(1) == b""
            sock.close()


def total(log, own, sum_):
    """(number of lines, streams, bytes up, bytes down, failed) of all lines about streams."""
    lines = re.findall(own, log, re.MULTILINE)
    sums = re.findall(sum_, log, re.MULTILINE)
    streams, up, down, failed = (sum(int(s[i]) for s in sums) for i in range(4))
    return (len(lines) + len(sums), len(lines) + streams, up + sum(int(n) for n, _ in lines),
            down + sum(int(n) for _, n in lines), failed)


def test_log_of_many_connections(parts):
    """A few hundred lines for thousands of connections, and none is missing from them."""
    command, port = connect_with_log_lines(parts, "GatewayOli")
    started = time.monotonic()
    request_all(port, range(REQUESTS))
    assert command.stop() == 0
    agent = parts.process
    agent.wait_for(rf"ended cause=closed streams={REQUESTS} up={8 * REQUESTS} down={9 * REQUESTS} ")
    n_max = 30 + 22 * (time.monotonic() - started)
    for process, own, sum_ in (
            (agent, r"stream=\d+ service=ssh ended target=\S+ source=\S+ up=(\d+) down=(\d+) ",
             r"streams=(\d+) ended up=(\d+) down=(\d+) failed=(\d+) reason"),
            (command, r"stream=\d+ service=ssh ended peer=\S+ up=(\d+) down=(\d+) ",
             r"streams=(\d+) ended up=(\d+) down=(\d+) failed=(\d+) reason")):
        n_lines, *sums = total(process.log(), own, sum_)
        assert sums == [REQUESTS, 8 * REQUESTS, 9 * REQUESTS, 0], (process.name, sums)
        assert n_lines < n_max < REQUESTS / 2, (process.name, n_lines)
        assert len(process.log().splitlines()) < n_lines + 30


def test_failures_are_not_hidden_by_a_flood_of_good_connections(env):
    """A target that refuses has lines of its own while another one serves hundreds of connections."""
    env.broker()
    env.relay()
    closed = harness.free_ports(1)
    agent = env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(
        agentd=f'services = {{ ssh = "127.0.0.1:{env.target(tagged).port}"; bad = "127.0.0.1:{closed}"; }};'))
    tunnel = env.connect("GatewayOli", "0:ssh", "0:bad")

    def fail():
        for _ in range(3):
            with pytest.raises(ConnectionError), tunnel.dial("bad") as sock:
                sock.recv(1)
                raise ConnectionResetError

    in_threads(fail, lambda: request_all(tunnel.port("ssh"), range(400)))
    agent.wait_for(rf'service=bad not connected target=127.0.0.1:{closed} .*reason="the target refused the connection"', count=3)
    tunnel.wait_for("connection to bad failed: the target refused the connection", count=3)


def test_one_connection_has_one_line(parts):
    """With the operator, the target, the source port that the target saw, the bytes of each direction, the duration and the reason."""
    seen = []

    def behavior(sock):
        seen.append(sock.getpeername()[1])
        echo(sock)

    target = parts.target(behavior)
    agent = parts.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=target.port)
    command, port = connect_with_log_lines(parts, "GatewayTwo", name="bob")
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        peer = sock.getsockname()[1]
        sock.sendall(bytes(12345))
        assert harness.receive_exactly(sock, 12345) == bytes(12345)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert command.stop() == 0
    agent.wait_for("ended cause=closed")
    line, = [line for line in agent.log().splitlines() if "stream=" in line]
    assert re.search(rf" info .*operator=bob stream=\d+ service=ssh ended target=127.0.0.1:{target.port} source=127.0.0.1:{seen[0]} "
                     r'up=12345 down=12345 seconds=\d+\.\d reason="closed"$', line), line
    line, = [line for line in command.log().splitlines() if "stream=" in line]
    assert re.search(rf'service=ssh ended peer=127.0.0.1:{peer} up=12345 down=12345 seconds=\d+\.\d reason="closed"$', line), line


@pytest.mark.parametrize("host,reason", [
    ("no-such-host.invalid", r"the target's name (does not exist|could not be resolved)"),
    ("127.0.0.1", "the target refused the connection"),
])
def test_reason_why_a_target_is_not_connected(parts, host, reason):
    """Both sides name the cause: a name that does not resolve is no unreachable target."""
    config = parts.config_folder(agentd=f'services = {{ bad = "{host}:{harness.free_ports(1)}"; }};')
    agent = parts.agent("GatewayTwo", GOTTHARD_CONFIG_DIR=config)
    tunnel = parts.connect("GatewayTwo", "0:bad")
    with pytest.raises(ConnectionError), tunnel.dial() as sock:
        sock.recv(1)
        raise ConnectionResetError
    agent.wait_for(rf'warn .*service=bad not connected target={re.escape(host)}:\d+ .*reason="{reason}"')
    tunnel.wait_for(f"connection to bad failed: {reason}")
