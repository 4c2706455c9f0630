# SPDX-License-Identifier: ISC
"""`gotthard-cli proxy`: a connection over standard input and output, of every kind that they can be."""

import fcntl
import os
import pty
import queue
import select
import signal
import socket
import subprocess
import termios

import pytest

import harness
from harness import LIMIT, PROGRAMS
from resets import receive_to_end, reset
from test_cli import GOOD, error_id, run

BY_KEY = {"GOTTHARD_TRUST_POLICY": "psk"}  # in words: without a warning
N = 3 << 20  # more than the pipes and the sockets on the way take


@pytest.fixture
def device(env):
    """Starts a device whose service ssh is the given behavior."""
    env.broker()
    env.relay()

    def start(behavior):
        env.service = env.target(behavior)
        env.agent(GOTTHARD_AGENT_DATA_PORT=env.service.port)
        return env.service

    return start


def proxy(env, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more):
    return subprocess.Popen([PROGRAMS["cli"], "proxy", "GatewayOli", *args], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                            env=env.cli_environment(**{**BY_KEY, **more}), cwd=env.folder, start_new_session=True)


def finish(child):
    """Returns (exit status, standard error)."""
    try:
        errors = child.stderr.read().decode()
        return child.wait(LIMIT), errors
    finally:
        child.kill()


def echo_and_say(sock):
    """Echoes up to the end of file, then sends four bytes and its own end of file."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)
    sock.sendall(b"last")


def is_blocking(fd):
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


# --- pipes ----------------------------------------------------------------------------------------


def test_pipes_carry_exact_bytes_and_both_ends(env, device):
    """The end of standard input is a half-close. Standard error stays empty."""
    device(echo_and_say)
    child = proxy(env)
    data = b"".join(harness.pattern("proxy", N))

    def write():
        child.stdin.write(data)
        child.stdin.close()

    received = []
    harness.in_threads(write, lambda: received.append(child.stdout.read()))
    assert received[0] == data + b"last"
    assert finish(child) == (0, "")


def test_service_half_closes_first(env, device):
    """Standard output ends, and bytes that are written to standard input afterwards still arrive."""
    received = queue.Queue()

    def serve(sock):
        sock.sendall(b"greeting")
        sock.shutdown(socket.SHUT_WR)
        received.put(harness.digest_to_eof(sock))

    device(serve)
    child = proxy(env)
    assert child.stdout.read() == b"greeting"
    child.stdin.write(b"".join(harness.pattern("late", N)))
    child.stdin.close()
    assert received.get(timeout=LIMIT) == (N, harness.digest_of_pattern("late", N))
    assert finish(child) == (0, "")


def test_reset_of_service(env, device):
    """All bytes before it, then an end of file and an exit status that differs from success."""
    def serve(sock):
        sock.recv(1)
        harness.send_pattern(sock, "reset", 1 << 16)
        select.select([sock], [], [], LIMIT)  # until the client has read them
        reset(sock)

    device(serve)
    child = proxy(env)
    child.stdin.write(b"?")
    child.stdin.flush()
    data = b"".join(harness.pattern("reset", 1 << 16))
    assert child.stdout.read(len(data)) == data
    child.stdin.write(b"!")
    child.stdin.flush()
    assert child.stdout.read() == b""
    status, errors = finish(child)
    assert status == 69 and "connection to ssh failed" in errors


def test_reader_of_output_ends(env, device):
    """EPIPE: the service is reset, and the command ends although its standard input is open."""
    ends = queue.Queue()

    def serve(sock):
        try:
            while True:
                sock.sendall(bytes(1 << 16))
        except OSError as error:
            ends.put(type(error))

    device(serve)
    child = proxy(env)
    assert child.stdout.read(1) == b"\0"
    child.stdout.close()
    assert ends.get(timeout=LIMIT) in (ConnectionResetError, BrokenPipeError)
    status, errors = finish(child)
    assert status == 69 and "connection to ssh failed" in errors


def test_output_that_is_full(env, device):
    """A write error other than EPIPE ends both directions: /dev/full stands for a full disk."""
    ends = queue.Queue()

    def serve(sock):
        sock.sendall(b"greeting")
        ends.put(receive_to_end(sock).end)

    device(serve)
    with open("/dev/full", "wb") as full:
        child = proxy(env, stdout=full)
    assert ends.get(timeout=LIMIT) == "reset"
    assert finish(child)[0] == 69


# --- other kinds ----------------------------------------------------------------------------------


def test_files(env, device):
    device(echo_and_say)
    data = b"".join(harness.pattern("file", N))
    (env.folder / "in").write_bytes(data)
    with open(env.folder / "in", "rb") as source, open(env.folder / "out", "wb") as sink:
        assert finish(proxy(env, stdin=source, stdout=sink)) == (0, "")
    assert (env.folder / "out").read_bytes() == data + b"last"


def test_one_socket_for_both(env, device):
    device(echo_and_say)
    ours, theirs = socket.socketpair()
    child = proxy(env, stdin=theirs, stdout=theirs)
    with ours:
        theirs.close()
        harness.in_threads(lambda: harness.send_pattern(ours, "socket", N), lambda: harness.receive_pattern(ours, "socket", N))
        ours.shutdown(socket.SHUT_WR)
        assert harness.receive_exactly(ours, 5) == b"last"
    assert finish(child) == (0, "")


def test_closed_input(env, device):
    """`<&-` is an end of file at once."""
    device(echo_and_say)
    child = subprocess.Popen(["sh", "-c", 'exec "$@" <&-', "sh", PROGRAMS["cli"], "proxy", "GatewayOli"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=env.cli_environment(**BY_KEY))
    assert child.stdout.read() == b"last"
    assert finish(child) == (0, "")


@pytest.mark.parametrize("number", [0, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_terminal_blocks_again_afterwards(env, device, number):
    """The open file is the shell's as well: it must not become non-blocking, also not for Ctrl+Z or a kill."""
    device(echo_and_say)
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    child = proxy(env, stdin=theirs, stdout=theirs)
    os.write(ours, b"hello\n")
    assert os.read(ours, 6) == b"hello\n" and is_blocking(theirs)
    if number:
        child.send_signal(number)
        assert finish(child)[0] == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    else:
        os.write(ours, b"\x04")  # Ctrl+D
        assert finish(child) == (0, "") and os.read(ours, 5) == b"last"
    assert is_blocking(theirs)
    os.close(ours)
    os.close(theirs)


def test_pipe_blocks_again_for_the_next_command(env, device):
    """`{ gotthard-cli proxy ...; cat big; } | consumer`: the writing end is shared."""
    device(echo_and_say)
    reader, writer = os.pipe()
    source, sink = os.pipe()
    child = proxy(env, stdin=source, stdout=writer)
    os.write(sink, b"hello")
    assert os.read(reader, 5) == b"hello" and is_blocking(writer) and is_blocking(source)
    os.close(sink)
    assert finish(child) == (0, "")
    assert is_blocking(writer) and is_blocking(source)
    assert os.read(reader, 5) == b"last"
    for fd in (reader, writer, source):
        os.close(fd)


# --- ssh, failures ----------------------------------------------------------------------------------


def test_ssh_proxy_command(env, device):
    """A real ssh and a real sshd: bytes, both ends, the exit status of the remote command, and no output of ours."""
    sshd = harness.Sshd(env)
    env.agent(GOTTHARD_AGENT_DATA_PORT=sshd.port)
    command = sshd.ssh(22, "cat; exit 3")
    command[1:1] = ["-o", f"ProxyCommand={PROGRAMS['cli']} proxy GatewayOli ssh"]
    data = os.urandom(1 << 20)
    result = subprocess.run(command, input=data, capture_output=True, timeout=LIMIT, check=False,
                            env=env.cli_environment(**BY_KEY))
    assert (result.returncode, result.stdout, result.stderr) == (3, data, b"")


def test_failures_leave_output_empty(env, device):
    device(harness.echo)
    for device_name, service, status in (("missing", "ssh", 69), ("GatewayOli", "web", 77)):
        result = subprocess.run([PROGRAMS["cli"], "proxy", device_name, service], stdin=subprocess.DEVNULL, capture_output=True,
                                env=env.cli_environment(), timeout=LIMIT, check=False)
        assert (result.returncode, result.stdout) == (status, b"") and result.stderr, result


@pytest.mark.parametrize("args", [["dev", "22:ssh"], ["dev", ":22"], ["dev", "/x:ssh"], ["dev", "ssh", "web"], ["dev", "a b"], ["-x"]])
def test_misuse(args):
    result = run("proxy", *args, **GOOD)
    assert (result.returncode, result.stdout) == (64, "") and "--help" in result.stderr


def test_broker_down():
    result = run("proxy", "dev", **GOOD)
    assert (result.returncode, error_id(result), result.stdout) == (69, "GTD-E20", "")
