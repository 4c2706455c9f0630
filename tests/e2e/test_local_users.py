# SPDX-License-Identifier: ISC
"""The operator's end of a tunnel belongs to the operator: other users of the machine cannot use it."""

import ctypes
import os
import pathlib
import queue
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile

import pytest

import harness
from harness import LIMIT, wait_until
from resets import receive_to_end, reset
from setting_markers import effect
from test_cli import GOOD, error_id, run
from users import OTHER, as_user, exchange, needs_root

LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")]


@pytest.fixture
def fleet(env):
    """The broker, the relay, and a device whose service ssh echoes."""
    env.broker()
    env.relay()
    env.echo = env.target(harness.echo)
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.echo.port)
    return env


def test_port_refuses_other_users(fleet):
    """Each way to loopback: reset before a byte of it is carried. The own user, with the same sockets, is served."""
    needs_root()
    tunnel = fleet.connect()
    for family, host in LOOPBACKS:
        assert as_user(OTHER, lambda a=(family, (host, tunnel.port())): exchange(*a)) in (b"CONNECTIONRESETERROR", b"BROKENPIPEERROR")
    assert fleet.echo.n_accepted == 0
    assert tunnel.event("stream-refused", count=3)["uid"] == OTHER
    for family, host in LOOPBACKS:
        assert exchange(family, (host, tunnel.port())) == b"hello"
    assert tunnel.event("stream-opened", count=3)["uid"] == os.geteuid()
    warnings = [line for line in tunnel.log().splitlines() if "rejected" in line]
    assert len(warnings) == 1 and f"uid {OTHER}" in warnings[0] and "--share" in warnings[0], warnings


def test_port_refuses_connection_that_was_closed(fleet):
    """The kernel gives a closed socket uid 0. It must not be carried as root's."""
    needs_root()

    def send_and_close(port):
        with socket.socket() as sock:
            sock.connect(("127.0.0.1", port))
            sock.sendall(b"hello")
        return b"sent"

    tunnel = fleet.connect()
    port = tunnel.port()
    os.kill(tunnel.pid, signal.SIGSTOP)
    assert as_user(OTHER, lambda: send_and_close(port)) == b"sent"
    os.kill(tunnel.pid, signal.SIGCONT)
    tunnel.event("stream-refused")
    assert exchange(socket.AF_INET, ("127.0.0.1", port)) == b"hello"
    assert fleet.echo.n_accepted == 1


def keeps_users():
    """Returns true if the kernel knows the user of a closed socket until its end is acknowledged, and takes socket filters."""
    version = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(KEEP_ALL)))
        except OSError:
            return False
    return version >= (6, 17)


KEEP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xffffffff))
SO_ATTACH_FILTER = 26


def test_bytes_of_a_client_that_closes_at_once_arrive(fleet):
    """It is gone before its connection is accepted: 50 times at random, and once for sure. Another user's bytes do not arrive."""
    if not keeps_users():
        pytest.skip("the kernel does not know the user of a closed socket")
    received = queue.Queue()
    fleet.echo.behavior = lambda sock: received.put(b"".join(iter(lambda: sock.recv(1 << 16), b"")))
    tunnel = fleet.connect()
    port = tunnel.port()

    def send_and_close():
        with socket.socket() as sock:
            sock.connect(("127.0.0.1", port))
            sock.sendall(b"hello")
        return b"sent"

    for _ in range(50):
        send_and_close()
    os.kill(tunnel.pid, signal.SIGSTOP)
    send_and_close()
    if os.geteuid() == 0:
        assert as_user(OTHER, send_and_close) == b"sent"
    os.kill(tunnel.pid, signal.SIGCONT)
    assert [received.get(timeout=LIMIT) for _ in range(51)] == [b"hello"] * 51
    if os.geteuid() == 0:
        assert tunnel.event("stream-refused")["uid"] == OTHER
    assert received.empty()


def test_bytes_of_closed_connection_are_reported(fleet):
    """Also if it was of the own user, which is no longer known after a reset."""
    tunnel = fleet.connect()
    os.kill(tunnel.pid, signal.SIGSTOP)
    for data in (b"hello", b""):
        with tunnel.dial() as sock:
            sock.sendall(data)
            reset(sock)
    os.kill(tunnel.pid, signal.SIGCONT)
    tunnel.event("stream-refused", count=2)
    assert tunnel.log().count("its program sent bytes and closed it at once; --share") == 1
    assert fleet.echo.n_accepted == 0


@effect("cli", "client.share")
def test_share_admits_other_users(fleet):
    """The option and the setting. Each start states it once."""
    needs_root()
    folder = fleet.config_folder(cli="client = { share = true; };")
    for more in ({"options": ("--share",)}, {"GOTTHARD_CONFIG_DIR": folder}):
        tunnel = fleet.connect(**more)
        port = tunnel.port()
        assert as_user(OTHER, lambda port=port: exchange(socket.AF_INET, ("127.0.0.1", port))) == b"hello"
        assert tunnel.event("listening")["shared"] is True
        tunnel.disconnect()
    tunnel = fleet.connect(options=("--no-share",), GOTTHARD_CONFIG_DIR=folder)
    port = tunnel.port()
    assert as_user(OTHER, lambda: exchange(socket.AF_INET, ("127.0.0.1", port))) == b"CONNECTIONRESETERROR"
    assert tunnel.event("listening")["shared"] is False


def test_port_refuses_unknown_users(fleet):
    """Without sock_diag, as in some containers, every connection is refused, with the remedy. --share needs no lookup."""
    env = fleet.cli_environment(LD_PRELOAD=preload(harness.BUILD / "tests" / "preload" / "shim-diag.so"))
    tunnel = fleet.connect(env=env)
    with pytest.raises(ConnectionResetError):
        exchange(socket.AF_INET, ("127.0.0.1", tunnel.port()))
    assert fleet.echo.n_accepted == 0
    tunnel.wait_for(r"does not report its user; .*--share")
    tunnel = fleet.connect(options=("--share",), env=env)
    assert exchange(socket.AF_INET, ("127.0.0.1", tunnel.port())) == b"hello"


def preload(library):
    return ":".join(filter(None, [harness.clean_environment().get("LD_PRELOAD"), str(library)]))


# --- Unix sockets ---------------------------------------------------------------------------------


def dial_unix(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LIMIT)
    sock.connect(str(path))
    return sock


@effect("cli", "--socket")
def test_socket_serves_its_user_only(fleet):
    """Mode 0600 from its first moment, no port, and removed with the tunnel, however that ends."""
    path = fleet.folder / "oli.sock"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        tunnel = fleet.connect("GatewayOli", "ssh", options=("--socket", path))
        assert tunnel.event("listening")["socket"] == str(path) and "port" not in tunnel.event("up")
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert exchange(socket.AF_UNIX, str(path)) == b"hello"
        assert tunnel.event("stream-opened")["uid"] == os.geteuid()
        assert tunnel.stop(number) == 0 and not path.exists()
    tunnel = fleet.connect("GatewayOli", "ssh", options=("--socket", path))
    tunnel.kill()
    assert path.exists()
    tunnel = fleet.connect("GatewayOli", f"{path}:ssh")  # the same in a forward; it replaces the unused file
    assert exchange(socket.AF_UNIX, str(path)) == b"hello"
    second = fleet.cli("connect", "GatewayOli", f"{path}:ssh")
    assert (second.returncode, error_id(second)) == (75, "GTD-E60") and "another program" in second.stderr
    assert exchange(socket.AF_UNIX, str(path)) == b"hello"


def test_socket_refuses_other_users(fleet):
    """By its mode, and by the uid of the connection where a mode does not help. --share opens both."""
    needs_root()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-socket-", dir="/tmp"))
    os.chmod(folder, 0o755)
    path = folder / "oli.sock"
    try:
        tunnel = fleet.connect("GatewayOli", "ssh", options=("--socket", path))
        assert as_user(OTHER, lambda: exchange(socket.AF_UNIX, str(path))) == b"PERMISSIONERROR"
        os.chmod(path, 0o666)
        assert as_user(OTHER, lambda: exchange(socket.AF_UNIX, str(path))) in (b"BROKENPIPEERROR", b"CONNECTIONRESETERROR", b"")
        assert tunnel.event("stream-refused")["uid"] == OTHER and fleet.echo.n_accepted == 0
        tunnel.disconnect()
        fleet.connect("GatewayOli", "ssh", options=("--share", "--socket", path))
        assert as_user(OTHER, lambda: exchange(socket.AF_UNIX, str(path))) == b"hello"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("args, id_", [
    (["--socket", "/nonexistent/oli"], "GTD-E61"), (["--socket", "/dev/null"], "GTD-E61"), (["/dev/null/x:ssh"], "GTD-E61"),
    (["--socket", "/tmp/" + "x" * 96], None), (["--socket", "x", "22", "80"], None), (["--socket", "x", "2222:ssh"], None),
    (["--socket", ""], None), (["/" + "x" * 100 + ":ssh"], None),
])
def test_bad_socket(args, id_):
    result = run("connect", "dev", *args, **GOOD)
    assert (result.returncode, error_id(result)) == ((77, id_) if id_ else (64, None)), result.stderr


def test_bytes_over_a_socket(env):
    """Exact bytes both ways, both half-closes, and 20 connections at once, each with its own bytes."""
    n = 3 << 20

    def serve(sock):
        seed = sock.recv(8, socket.MSG_WAITALL)
        harness.in_threads(lambda: harness.receive_pattern(sock, b"up" + seed, n), lambda: harness.send_pattern(sock, b"down" + seed, n))
        assert sock.recv(1) == b""  # the client's half-close
        sock.sendall(b"last")  # after it, and then the own one

    target = env.target(serve)
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    path = env.folder / "oli.sock"
    tunnel = env.connect("GatewayOli", "ssh", options=("--socket", path))

    def talk(number):
        seed = b"%08d" % number
        with dial_unix(path) as sock:
            sock.sendall(seed)
            harness.in_threads(lambda: harness.send_pattern(sock, b"up" + seed, n), lambda: harness.receive_pattern(sock, b"down" + seed, n))
            sock.shutdown(socket.SHUT_WR)
            assert harness.receive_exactly(sock, 5) == b"last"

    harness.in_threads(*[lambda k=k: talk(k) for k in range(20)])
    assert not target.errors
    ended = [e for e in tunnel.events() if e["event"] == "stream-ended"]
    assert tunnel.event("stream-ended", count=20)["code"] == 0 and {e["code"] for e in ended} <= {0}


def test_server_half_closes_first_over_a_socket(env):
    """The client gets the end of file, and what it sends afterwards still arrives."""
    received = []

    def serve(sock):
        sock.recv(5, socket.MSG_WAITALL)
        sock.shutdown(socket.SHUT_WR)
        received.append(harness.digest_to_eof(sock))

    target = env.target(serve)
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    path = env.folder / "oli.sock"
    tunnel = env.connect("GatewayOli", "ssh", options=("--socket", path))
    with dial_unix(path) as sock:
        sock.sendall(b"hello")
        assert sock.recv(1) == b""
        harness.send_pattern(sock, "late", 1 << 20)
    assert tunnel.event("stream-ended")["code"] == 0
    wait_until(lambda: received, "the target has all bytes")
    assert received == [(1 << 20, harness.digest_of_pattern("late", 1 << 20))]


def test_reset_over_a_socket(env):
    """A client that closes with unread bytes resets the target. A reset of the target ends the socket, after all bytes before it."""
    ends = queue.Queue()

    def serve(sock):
        command = sock.recv(5, socket.MSG_WAITALL)
        sock.sendall(b"greeting")
        if command == b"leave":
            reset(sock)
            return
        ends.put(receive_to_end(sock))

    target = env.target(serve)
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    path = env.folder / "oli.sock"
    tunnel = env.connect("GatewayOli", "ssh", options=("--socket", path))
    with dial_unix(path) as sock:
        sock.sendall(b"stay!")
        select.select([sock], [], [], LIMIT)
    assert ends.get(timeout=LIMIT).end == "reset"
    with dial_unix(path) as sock:
        sock.sendall(b"leave")
        assert harness.receive_exactly(sock, 100) == b"greeting"
    tunnel.event("stream-ended", count=2)


def test_ssh_over_a_socket(env):
    """A real ssh through a real client of the socket, as the command's hint shows it."""
    sshd = harness.Sshd(env)
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    path = env.folder / "oli.sock"
    env.connect("GatewayOli", "ssh", options=("--socket", path))
    client = env.folder / "client.py"
    client.write_text(CLIENT)
    command = sshd.ssh(22, "cat; echo done >&2")
    command[1:1] = ["-o", f"ProxyCommand={sys.executable} {client} {path}"]
    data = os.urandom(1 << 20)
    result = subprocess.run(command, input=data, capture_output=True, timeout=LIMIT, check=False)
    assert result.returncode == 0 and result.stdout == data and b"done" in result.stderr, result.stderr


# `nc -U PATH`: standard input and output over a Unix socket.
CLIENT = """\
import os, socket, sys, threading
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
def send():
    while data := os.read(0, 1 << 16):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := sock.recv(1 << 16):
    os.write(1, data)
"""
