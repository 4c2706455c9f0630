# SPDX-License-Identifier: ISC
"""Byte-exact transfer through the tunnel, whatever a single connection does."""

import hashlib
import os
import pty
import re
import select
import socket
import struct
import subprocess
import time

import pytest

import harness
from harness import LIMIT, echo, in_threads, wait_until

MIB = 1 << 20


@pytest.fixture
def parts(env):
    env.broker()
    env.relay()
    return env


def start_tunnel(env, behavior, **more):
    target = env.target(behavior)
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    return target, env.connect(**more)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_ssh_command(parts):
    sshd = harness.Sshd(parts)
    parts.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    tunnel = parts.connect()
    done = subprocess.run(sshd.ssh(tunnel.port(), "echo", "$((6*7))", ";", "exit", "3"), capture_output=True,
                          text=True, timeout=LIMIT, check=False)
    assert done.stdout == "42\n", done.stderr
    assert done.returncode == 3


def test_ssh_interactive_shell(parts):
    sshd = harness.Sshd(parts)
    parts.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    tunnel = parts.connect()
    master, slave = pty.openpty()
    shell = subprocess.Popen(sshd.ssh(tunnel.port(), "sh", tty=True), stdin=slave, stdout=slave, stderr=slave,
                             start_new_session=True)
    os.close(slave)
    received = b""
    poll = select.poll()
    poll.register(master, select.POLLIN)

    def read_until(pattern):
        nonlocal received
        end = time.monotonic() + LIMIT
        while not re.search(pattern, received):
            assert time.monotonic() < end, received
            if poll.poll(1000):
                received += os.read(master, 4096)

    try:
        os.write(master, b"echo one$((1+1))three; tty\n")
        read_until(rb"one2three")
        read_until(rb"/dev/pts/\d+")
        os.write(master, b"cat\n")
        os.write(master, b"echoed by cat\n")
        read_until(rb"echoed by cat[\s#$]+echoed by cat")
        os.write(master, b"\x03")  # the terminal discards typed-ahead input as well
        read_until(rb"\^C[^#$]*[#$] $")
        os.write(master, b"exit 7\n")
        assert shell.wait(LIMIT) == 7
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def test_256_mib_each_way(parts):
    n = 256 * MIB
    results = {}

    def sink_and_source(sock):
        def receive():
            results["up"] = harness.digest_to_eof(sock)

        def send():
            harness.send_pattern(sock, "down", n)
            sock.shutdown(socket.SHUT_WR)

        in_threads(receive, send)

    _, tunnel = start_tunnel(parts, sink_and_source)
    sock = tunnel.dial()

    def send():
        harness.send_pattern(sock, "up", n)
        sock.shutdown(socket.SHUT_WR)

    def receive():
        results["down"] = harness.digest_to_eof(sock)

    in_threads(send, receive)
    ended = tunnel.event("stream-ended")
    wait_until(lambda: "up" in results, "the target has read it all")
    assert results["up"] == (n, harness.digest_of_pattern("up", n))
    assert results["down"] == (n, harness.digest_of_pattern("down", n))
    assert (ended["up"], ended["down"], ended["code"]) == (n, n, 0)


def test_64_connections_each_with_its_own_bytes(parts):
    size = 2 * MIB

    def mirror_of_its_own(sock):
        """Reads the number of the stream, then receives its pattern and sends another one."""
        number = struct.unpack(">I", harness.receive_exactly(sock, 4))[0]
        in_threads(lambda: harness.receive_pattern(sock, f"up {number}", size),
                   lambda: harness.send_pattern(sock, f"down {number}", size))
        assert sock.recv(1) == b""

    target, tunnel = start_tunnel(parts, mirror_of_its_own)

    def one(number):
        with tunnel.dial() as sock:
            sock.sendall(struct.pack(">I", number))
            in_threads(lambda: harness.send_pattern(sock, f"up {number}", size),
                       lambda: harness.receive_pattern(sock, f"down {number}", size))
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""

    in_threads(*[lambda n=n: one(n) for n in range(64)])
    tunnel.event("stream-ended", count=64)
    assert not target.errors
    assert target.n_accepted == 64


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("first", ["operator", "device"])
def test_half_close_then_64_mib(env, first, splice):
    """One side half-closes; the 64 MiB that the other sends afterwards arrive complete."""
    env.broker()
    folder = env.config_folder(relayd=f'relay = {{ splice = "{splice}"; }};')
    env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    n = 64 * MIB
    received = {}

    def target(sock):
        if first == "operator":
            received["before"] = harness.digest_to_eof(sock)[0]
            harness.send_pattern(sock, "after", n)
        else:
            sock.shutdown(socket.SHUT_WR)
            received["after"] = harness.digest_to_eof(sock)

    _, tunnel = start_tunnel(env, target)
    with tunnel.dial() as sock:
        if first == "operator":
            sock.sendall(b"all of my request")
            sock.shutdown(socket.SHUT_WR)
            received["after"] = harness.digest_to_eof(sock)
            assert received["before"] == len(b"all of my request")
        else:
            assert sock.recv(1) == b""
            harness.send_pattern(sock, "after", n)
            sock.shutdown(socket.SHUT_WR)
            tunnel.event("stream-ended")
    wait_until(lambda: "after" in received, "the target has read to the end")
    assert received["after"] == (n, harness.digest_of_pattern("after", n))
    assert tunnel.event("stream-ended")["code"] == 0


def assert_broken(sock, limit=LIMIT):
    """The local socket gets an RST, never an orderly end, which could pass for a complete file."""
    sock.settimeout(limit)
    with pytest.raises(ConnectionResetError):
        while sock.recv(4096):
            pass


def assert_alive(tunnel, service=None):
    with tunnel.dial(service) as sock:
        sock.sendall(b"alive check!")
        assert harness.receive_exactly(sock, 12) == b"alive check!"


def with_good_and_bad(env, bad_port, **more):
    """A tunnel with two services: `ssh` echoes, `bad` is the target under test."""
    good = env.target(echo)
    folder = env.config_folder(agentd=f'services = {{ bad = "127.0.0.1:{bad_port}"; }};')
    env.agent(GOTTHARD_AGENT_DATA_PORT=good.port, GOTTHARD_CONFIG_DIR=folder, **more)
    return env.connect("GatewayOli", "0:ssh", "0:bad")


def test_target_refuses(parts):
    closed = harness.free_ports(1)
    tunnel = with_good_and_bad(parts, closed)
    with tunnel.dial("ssh") as bystander:
        bystander.sendall(b"one")
        assert harness.receive_exactly(bystander, 3) == b"one"
        with pytest.raises(ConnectionResetError):  # from connect() already, if the refusal arrives first
            tunnel.dial("bad").recv(1)
        assert tunnel.event("stream-ended", service="bad")["code"] == 2
        bystander.sendall(b"two")
        assert harness.receive_exactly(bystander, 3) == b"two"
    assert_alive(tunnel, "ssh")


def test_target_hangs(parts):
    """A listener whose queue is full: connect() gets no answer. Only that connection waits, and is reset in the end."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    tunnel = with_good_and_bad(parts, listener.getsockname()[1], GOTTHARD_TIMEOUTS_DIAL="3s")
    waiting = tunnel.dial("bad")
    assert_alive(tunnel, "ssh")
    assert_broken(waiting)
    assert tunnel.event("stream-ended", service="bad")["code"] == 3
    assert_alive(tunnel, "ssh")


def test_target_resets(parts):
    def rude(sock):
        sock.recv(4)
        reset(sock)

    tunnel = with_good_and_bad(parts, parts.target(rude).port)
    sock = tunnel.dial("bad")
    sock.sendall(b"boo!")
    assert_broken(sock)
    assert tunnel.event("stream-ended", service="bad")["code"] == 1
    assert_alive(tunnel, "ssh")


def test_target_closes_at_once(parts):
    tunnel = with_good_and_bad(parts, parts.target(lambda sock: None).port)
    with tunnel.dial("bad") as sock:
        assert sock.recv(1) == b""
    assert_alive(tunnel, "ssh")


def test_operator_side_reset_reaches_the_target(parts):
    seen = {}

    def target(sock):
        sock.sendall(b"hello")
        try:
            seen["end"] = sock.recv(1)
        except ConnectionResetError:
            seen["end"] = "reset"

    _, tunnel = start_tunnel(parts, target)
    sock = tunnel.dial()
    assert harness.receive_exactly(sock, 5) == b"hello"
    reset(sock)
    wait_until(lambda: "end" in seen, "the target notices")
    assert seen["end"] == "reset"


def test_slow_reader_does_not_delay_other_streams(parts):
    """One stream is not read: memory stays bounded, the others continue, and a later read gets all of it."""
    n_slow = 64 * MIB
    fast = parts.target(lambda sock: harness.send_pattern(sock, "fast", 64 * MIB))
    slow = parts.target(lambda sock: harness.send_pattern(sock, "slow", n_slow))
    folder = parts.config_folder(agentd=f'services = {{ slow = "127.0.0.1:{slow.port}"; }};')
    agent = parts.agent(GOTTHARD_AGENT_DATA_PORT=fast.port, GOTTHARD_CONFIG_DIR=folder)
    tunnel = parts.connect("GatewayOli", "0:ssh", "0:slow")
    stuck = tunnel.dial("slow")
    with tunnel.dial("ssh") as sock:
        harness.receive_pattern(sock, "fast", 64 * MIB)
    pids = [tunnel.pid, *harness.children_of(agent.pid)]
    for pid in pids:
        assert harness.SANITIZER != "none" or harness.rss_kib(pid) < 24 * 1024, f"{harness.rss_kib(pid)} KiB in {pid}"
    harness.receive_pattern(stuck, "slow", n_slow)
    assert stuck.recv(1) == b""
    stuck.close()


def test_many_short_connections(parts):
    target, tunnel = start_tunnel(parts, echo)
    relay = next(p for p in parts.processes if p.name.startswith("relayd"))
    baseline = harness.descriptors(relay.pid)

    def some(first):
        for number in range(first, first + 25):
            with tunnel.dial() as sock:
                message = hashlib.sha256(str(number).encode()).digest()
                sock.sendall(message)
                assert harness.receive_exactly(sock, 32) == message

    in_threads(*[lambda f=f: some(f) for f in range(0, 200, 25)])
    tunnel.event("stream-ended", count=200)
    assert target.n_accepted == 200
    wait_until(lambda: harness.descriptors(relay.pid) <= baseline, "the relay's descriptors are back")
