# SPDX-License-Identifier: ISC
"""Commands for the same device share one session, which a process in the background holds (gotthard-cli's holder.h)."""

import contextlib
import os
import pathlib
import queue
import select
import signal
import socket
import stat
import subprocess
import tempfile
import time

import pytest

import harness
import holders
from faultproxy import Proxy
from harness import LIMIT, PROGRAMS, wait_until
from resets import receive_to_end
from setting_markers import effect, refuses
from test_cli import GOOD, error_id, run
from users import OTHER, as_user, needs_root

BY_KEY = {"GOTTHARD_TRUST_POLICY": "psk"}  # in words: without a warning


@pytest.fixture
def fleet(env):
    """The broker, the relay, and a device whose service ssh echoes."""
    env.broker_process = env.broker()
    env.relay_process = env.relay()
    env.echo = env.target(harness.echo)
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.echo.port)
    return env


class Connection:
    """A `proxy` with pipes."""

    def __init__(self, env, *args, device="GatewayOli", name="alice", environment=None, **more):
        self.child = subprocess.Popen([PROGRAMS["cli"], "proxy", device, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, cwd=env.folder, start_new_session=True,
                                      env=environment or env.cli_environment(name, **{**BY_KEY, **more}))

    def echo(self, text):
        self.child.stdin.write(text)
        self.child.stdin.flush()
        assert self.child.stdout.read(len(text)) == text
        return self

    def finish(self):
        """Ends the input. Returns (exit status, rest of the output, standard error)."""
        try:
            out, errors = self.child.communicate(timeout=LIMIT)
            return self.child.returncode, out, errors.decode()
        finally:
            self.child.kill()


def n_sessions(env):
    return env.agent_process.log().count(" agreed ")


def only_holder():
    found = holders.pids(harness.runtime_folder())
    assert len(found) == 1, found
    return found[0]


# --- sharing --------------------------------------------------------------------------------------


def test_commands_at_once_share_one_session(fleet):
    connections = [Connection(fleet) for _ in range(8)]
    for i, connection in enumerate(connections):
        connection.echo(b"number %d" % i)
    assert n_sessions(fleet) == 1 and only_holder()
    for connection in connections:
        assert connection.finish() == (0, b"", "")


def test_second_needs_neither_broker_nor_private_key(fleet):
    """It is one more stream: nothing of MQTT, and no private key is read. The certificate must be the same."""
    assert Connection(fleet).echo(b"first").finish()[0] == 0
    fleet.broker_process.stop()
    environment = fleet.cli_environment(**BY_KEY)
    for name in ("private.key", "ca.crt"):
        (pathlib.Path(fleet.certificates("alice")) / name).unlink()
    assert Connection(fleet, environment=environment).echo(b"second").finish() == (0, b"", "")
    assert n_sessions(fleet) == 1


def test_change_of_the_pins_ends_the_sharing(fleet):
    """A session that began under other pins is no proof of the device under the pins of today."""
    folder = fleet.folder / "of-alice"
    folder.mkdir()
    by_pins = {"GOTTHARD_TRUST_POLICY": "auto", "GOTTHARD_CONFIG_DIR": folder}
    first = Connection(fleet, **by_pins).echo(b"hello")
    pins = folder / "devices.pins"
    pins.write_text("")  # denies all
    pins.chmod(0o644)
    status, out, errors = Connection(fleet, **by_pins).finish()
    assert (status, out) == (77, b"") and "GTD-E" in errors, errors
    assert first.echo(b"undisturbed").finish()[0] == 0


def test_output_ends_after_the_failure_is_printed(fleet):
    """ssh ends, and kills `proxy`, at the end of its output: the reason has to be printed before."""
    connection = Connection(fleet, GOTTHARD_SERVER_PORT=harness.free_ports(1), GOTTHARD_TIMEOUTS_PEER="1s")
    wait_until(lambda: n_sessions(fleet) == 1, "the device's answer")
    holder = only_holder()
    os.kill(connection.child.pid, signal.SIGSTOP)
    wait_until(lambda: not holders.is_running(holder), "the failure")
    assert select.select([connection.child.stdout], [], [], 0)[0] == [], "the output has ended before"
    os.kill(connection.child.pid, signal.SIGCONT)
    status, out, errors = connection.finish()
    assert (status, out) == (69, b"") and "GTD-E5" in errors, errors


def test_large_transfers_at_once(fleet):
    connections = [Connection(fleet) for _ in range(3)]
    n = 4 << 20

    def carry(connection, seed):
        data = b"".join(harness.pattern(seed, n))
        out, _ = connection.child.communicate(data, timeout=LIMIT)
        assert out == data and connection.child.returncode == 0

    harness.in_threads(*(lambda c=c, i=i: carry(c, i) for i, c in enumerate(connections)))
    assert n_sessions(fleet) == 1


def test_names_that_differ_in_case_do_not_share(fleet):
    other = fleet.target(lambda sock: sock.sendall(b"the other one"))
    fleet.agent("gatewayoli", GOTTHARD_AGENT_DATA_PORT=other.port)
    assert Connection(fleet).echo(b"hello").finish()[0] == 0
    assert Connection(fleet, device="gatewayoli").finish() == (0, b"the other one", "")
    assert Connection(fleet, device="GatewayOli.gotthard").echo(b"hello").finish()[0] == 0
    assert len(holders.pids(harness.runtime_folder())) == 2


@pytest.mark.parametrize("more", [{"name": "bob"}, {"GOTTHARD_TIMEOUTS_LIFETIME": "1h"}, {"GOTTHARD_TRUST_POLICY": "auto"}])
def test_other_settings_do_not_share(fleet, more):
    assert Connection(fleet).echo(b"hello").finish()[0] == 0
    assert Connection(fleet, **more).echo(b"hello").finish()[0] == 0
    assert n_sessions(fleet) == 2 and len(holders.pids(harness.runtime_folder())) == 2


def test_another_key_does_not_share(fleet):
    """Its socket has the same name: a name that is public must not depend on a secret."""
    first = Connection(fleet).echo(b"hello")
    status, _, errors = Connection(fleet, GOTTHARD_CRYPT_KEY="7" * 64).finish()
    assert status == 69 and "GTD-E" in errors
    assert first.echo(b"undisturbed").finish() == (0, b"", "")
    assert Connection(fleet).echo(b"again").finish() == (0, b"", "")


def test_service_that_is_not_offered_leaves_the_others_alone(fleet):
    first = Connection(fleet).echo(b"hello")
    status, out, errors = Connection(fleet, "web").finish()
    assert (status, out) == (77, b"") and "GTD-E41" in errors and 'does not offer the service "web"' in errors
    assert first.finish() == (0, b"", "")


def test_refused_service_of_the_first_command_does_not_fail_the_second(fleet):
    for _ in range(3):
        bad, good = Connection(fleet, "web"), Connection(fleet)
        good.echo(b"hello")
        assert bad.finish()[0] == 77 and good.finish() == (0, b"", "")
        holders.end_all(harness.runtime_folder())


def test_more_than_the_device_permits(fleet):
    fleet.agent_process.stop()
    fleet.agent_process = fleet.agent(GOTTHARD_AGENT_DATA_PORT=fleet.echo.port, GOTTHARD_LIMITS_STREAMS=2)
    connections = [Connection(fleet).echo(b"hello") for _ in range(2)]
    more = Connection(fleet).echo(b"in a second session")
    assert n_sessions(fleet) == 2
    assert more.finish() == (0, b"", "")
    for connection in connections:
        assert connection.finish() == (0, b"", "")


@pytest.mark.soak
def test_more_than_one_holder_serves(fleet):
    """A holder serves 192 commands. The next one opens a session of its own instead of waiting for a place."""
    connections = [Connection(fleet).echo(b"hello")]
    for _ in range(8):
        connections += [Connection(fleet) for _ in range(33)]
        for connection in connections[-33:]:
            connection.echo(b"hello")
    assert n_sessions(fleet) == 2
    for connection in connections:
        assert connection.finish() == (0, b"", "")


# --- the life of a holder ---------------------------------------------------------------------------


def is_session_over(env, count=1):
    return env.agent_process.wait_for(r"session=\S+ device=GatewayOli operator=alice (closed|ended|over)", count=count)


@effect("cli", "client.hold")
@pytest.mark.parametrize("hold", ["0", "300ms", "60s"])
def test_holder_ends_some_time_after_its_last_connection(fleet, hold):
    connection = Connection(fleet, GOTTHARD_CLIENT_HOLD=hold).echo(b"hello")
    pid = only_holder()
    time.sleep(0.4)  # longer than 300 ms: a connection keeps it
    connection.echo(b"still").finish()
    if hold == "60s":
        assert Connection(fleet, GOTTHARD_CLIENT_HOLD=hold).echo(b"more").finish()[0] == 0
        assert only_holder() == pid and n_sessions(fleet) == 1
    else:
        wait_until(lambda: not holders.is_running(pid), "the holder ends")
        assert not holders.sockets(harness.runtime_folder())


@refuses("cli", "client.hold")
@pytest.mark.parametrize("hold", ["25h", "60", "-1s"])
def test_hold_out_of_range(hold):
    result = run("proxy", "dev", **{**GOOD, "GOTTHARD_CLIENT_HOLD": hold})
    assert result.returncode == 78 and "client.hold" in result.stderr.replace("GOTTHARD_CLIENT_HOLD", "client.hold")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_holder_that_ends_is_replaced(fleet, number):
    connection = Connection(fleet).echo(b"hello")
    pid = only_holder()
    os.kill(pid, number)
    status, _, errors = connection.finish()
    assert status == 69 and errors, errors
    assert Connection(fleet).echo(b"again").finish() == (0, b"", "")
    assert only_holder() != pid


def test_stopped_holder_is_replaced_and_never_takes_the_terminal(fleet):
    first = Connection(fleet).echo(b"hello")
    pid = only_holder()
    os.kill(pid, signal.SIGSTOP)
    try:
        second = Connection(fleet).echo(b"after some seconds")
        assert only_holder() != pid and n_sessions(fleet) == 2
        os.kill(pid, signal.SIGCONT)
        first.echo(b"continued")
        second.echo(b"all of it")
        assert second.finish() == (0, b"", "") and first.finish() == (0, b"", "")
    finally:
        os.kill(pid, signal.SIGKILL)  # its socket has gone: nothing else finds it


def test_session_of_half_its_lifetime_takes_no_more_connections(fleet):
    """A connection has at least half of the lifetime, also one that shares a session."""
    more = {"GOTTHARD_TIMEOUTS_LIFETIME": "8s"}
    first = Connection(fleet, **more).echo(b"hello")
    old = only_holder()
    time.sleep(4.5)
    second = Connection(fleet, **more).echo(b"hello")
    assert n_sessions(fleet) == 2 and only_holder() != old
    assert first.echo(b"undisturbed").finish() == (0, b"", "")
    wait_until(lambda: not holders.is_running(old), "the old holder ends with its last connection")
    assert second.finish() == (0, b"", "")


def test_end_of_a_command_ends_its_connection_only(env):
    ends = queue.Queue()

    def serve(sock):
        sock.sendall(sock.recv(64))
        ends.put(receive_to_end(sock).end)

    env.broker()
    env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(serve).port)
    for number, status in ((signal.SIGKILL, -9), (signal.SIGHUP, 130), (signal.SIGTERM, 130)):
        connection, other = Connection(env).echo(b"hello"), Connection(env).echo(b"other")
        pipe = os.dup(connection.child.stdin.fileno())  # the end of the command must not look like an end of file
        connection.child.send_signal(number)
        assert connection.finish()[0] == status
        assert ends.get(timeout=LIMIT) == "reset"
        os.close(pipe)
        assert other.finish()[0] == 0
        assert ends.get(timeout=LIMIT) == "eof"
    assert n_sessions(env) == 1


def test_device_that_lost_its_power_gets_a_new_session(fleet):
    """Its session is lost, although this side waits for it: a command after its return does not wait as well."""
    first = Connection(fleet).echo(b"hello")
    for pid in [*harness.children_of(fleet.agent_process.pid), fleet.agent_process.pid]:
        os.kill(pid, signal.SIGKILL)
    assert b"waiting for it" in first.child.stderr.readline()
    fleet.agent_process = fleet.agent(GOTTHARD_AGENT_DATA_PORT=fleet.echo.port)
    second = Connection(fleet).echo(b"hello again")
    assert n_sessions(fleet) == 1
    assert second.finish() == (0, b"", "")
    first.child.kill()
    first.finish()


def test_device_that_closes_the_session(fleet):
    connection = Connection(fleet).echo(b"hello")
    assert fleet.cli("disconnect", "GatewayOli").returncode == 0
    assert connection.finish()[0] == 69
    wait_until(lambda: not holders.sockets(harness.runtime_folder()), "the holder ends")
    assert Connection(fleet).echo(b"again").finish() == (0, b"", "")


# --- what a holder must not have --------------------------------------------------------------------


def test_holder_has_nothing_of_its_caller(fleet):
    """Neither a descriptor, whose end another program may await, nor the session and the folder of a terminal."""
    reader, writer = os.pipe()
    child = subprocess.Popen([PROGRAMS["cli"], "proxy", "GatewayOli"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, pass_fds=[writer], env=fleet.cli_environment(**BY_KEY))
    os.close(writer)
    assert child.communicate(timeout=LIMIT) == (b"", b"") and child.returncode == 0
    assert os.read(reader, 1) == b""
    os.close(reader)
    pid = only_holder()
    assert os.getsid(pid) != os.getsid(0) and os.getpgid(pid) != os.getpgid(0)
    if os.geteuid() == 0:
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"


@effect("cli", "XDG_RUNTIME_DIR")
def test_socket_is_private(fleet):
    assert Connection(fleet).echo(b"hello").finish()[0] == 0
    (path,) = holders.sockets(harness.runtime_folder())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700 and stat.S_IMODE(path.stat().st_mode) == 0o600
    needs_root()

    def connect():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(path))
        return b"connected"

    os.chmod(harness.runtime_folder(), 0o755)
    try:
        assert as_user(OTHER, connect) == b"PERMISSIONERROR"
        os.chmod(path.parent, 0o755)
        assert as_user(OTHER, connect) == b"PERMISSIONERROR"
        os.chmod(path, 0o666)  # the last lock is the user of the client
        hello = bytes([2, 10])  # HOLDER_VERSION, STATUS_QUERY

        def query():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(LIMIT)
                sock.connect(str(path))
                try:
                    sock.send(hello)
                except BrokenPipeError:
                    pass
                return b"answer:" + sock.recv(64)

        assert as_user(OTHER, query) in (b"answer:", b"CONNECTIONRESETERROR")
    finally:
        os.chmod(path.parent, 0o700)
        os.chmod(harness.runtime_folder(), 0o700)


def test_socket_of_another_user_is_not_used(fleet):
    """A listener at the path could read the input of the terminal: only one of the own user is used."""
    needs_root()
    assert Connection(fleet, GOTTHARD_CLIENT_HOLD="0").echo(b"hello").finish()[0] == 0
    before = Connection(fleet).echo(b"hello")
    (path,) = holders.sockets(harness.runtime_folder())
    before.finish()
    holders.end_all(harness.runtime_folder())
    os.chmod(harness.runtime_folder(), 0o755)
    os.chmod(path.parent, 0o777)
    ready, listening = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(OTHER, OTHER, OTHER)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.bind(str(path))
            sock.listen()
            os.write(listening, b"x")
            time.sleep(LIMIT)
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"x"
        os.chmod(path.parent, 0o700)
        status, _, errors = Connection(fleet).echo(b"hello").finish()
        assert status == 0 and "not shared" in errors and "another user" in errors
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        path.unlink()
        os.chmod(harness.runtime_folder(), 0o700)


# --- failures and warnings ---------------------------------------------------------------------------


def test_failure_reaches_every_command(env):
    """As without a holder: the same text on standard error, the id, the exit status."""
    connections = [Connection(env) for _ in range(4)]
    for connection in connections:
        status, out, errors = connection.finish()
        assert (status, out) == (69, b"") and errors.count("[GTD-E20]") == 1, errors
    wait_until(lambda: not holders.sockets(harness.runtime_folder()), "the holder ends")


def test_failure_of_the_identity(fleet):
    status, out, errors = Connection(fleet, GOTTHARD_CRYPT_KEY="0" * 64).finish()
    assert (status, out) == (78, b"") and "[GTD-E11]" in errors


@pytest.mark.parametrize("hold", ["0s", "60s"])
def test_last_bytes_of_a_command_arrive(fleet, hold):
    """ssh sends its last packet, and then SIGHUP to its proxy: here the holder sees both at once."""
    received = []

    def behavior(sock):
        with contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                received.append(data)
                sock.sendall(data)
        received.append(b"end")

    fleet.echo.behavior = behavior
    connection = Connection(fleet, GOTTHARD_CLIENT_HOLD=hold).echo(b"hello")
    pid = only_holder()
    os.kill(pid, signal.SIGSTOP)
    with contextlib.closing(connection.child.stdin) as pipe:
        pipe.write(b"x" * 40000)
        pipe.flush()
        connection.child.send_signal(signal.SIGHUP)
        assert connection.child.wait(LIMIT) == 130
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: received[-1:] == [b"end"], "the target sees the end")
    assert b"".join(received) == b"hello" + b"x" * 40000 + b"end"


def test_warning_reaches_the_command(fleet):
    status, _, errors = Connection(fleet, GOTTHARD_TRUST_POLICY="auto").echo(b"hello").finish()
    assert status == 0 and "fleet key" in errors and errors.count("\n") == 1, errors


def test_loss_of_the_relay_is_reported_to_each_command(fleet):
    connections = [Connection(fleet).echo(b"hello") for _ in range(2)]
    fleet.relay_process.kill()
    lost = [connection.child.stderr.readline().decode() for connection in connections]
    assert all("connection to the relay lost" in line for line in lost), lost
    late = Connection(fleet)  # it waits
    fleet.relay_process = fleet.relay()
    for connection in [*connections, late]:
        connection.echo(b"and again")
    for connection in [*connections, late]:
        assert connection.finish()[0] == 0
    assert n_sessions(fleet) == 1


@contextlib.contextmanager
def occupied_folders(tmp_path):
    """Yields an $XDG_RUNTIME_DIR that is too long for a socket, while the next folder, below /tmp, is a file."""
    long = tmp_path / ("x" * 90)
    long.mkdir(mode=0o700)
    fallback = pathlib.Path(f"/tmp/gotthard-{os.geteuid()}")
    if fallback.exists():
        pytest.skip(f"{fallback} exists")
    fallback.write_text("")
    try:
        yield long
    finally:
        fallback.unlink()


@effect("cli", "XDG_RUNTIME_DIR")
def test_without_a_private_folder_each_command_has_a_session(fleet, tmp_path):
    with occupied_folders(tmp_path) as long:
        for _ in range(2):
            status, _, errors = Connection(fleet, XDG_RUNTIME_DIR=long, HOME="/nonexistent").echo(b"hello").finish()
            assert status == 0 and "not shared" in errors and "set XDG_RUNTIME_DIR" in errors and errors.count("\n") == 1, errors
    assert n_sessions(fleet) == 2


@effect("cli", "XDG_CACHE_HOME")
def test_control_socket_in_the_cache(fleet):
    with tempfile.TemporaryDirectory(prefix="c") as cache, occupied_folders(fleet.folder) as long:
        try:
            for _ in range(2):
                connection = Connection(fleet, XDG_RUNTIME_DIR=long, HOME="/nonexistent", XDG_CACHE_HOME=cache)
                assert connection.echo(b"hello").finish() == (0, b"", "")
            assert n_sessions(fleet) == 1 and len(holders.pids(cache)) == 1
        finally:
            holders.end_all(cache)


def test_further_command_waits_for_one_round_trip(env):
    """From the start of the command to the first byte back: nothing but the way to the service and back."""
    env.broker()
    env.relay("--bind", "127.0.0.1")
    leg = Proxy.before_relay(env)
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    more = {"GOTTHARD_SERVER_HOST": leg.host}
    rtt = 0.4
    times = []
    try:
        first = Connection(env, **more).echo(b"first")
        leg.command("delay", 1000 * rtt / 2)
        for _ in range(4):  # the best one: a busy machine adds to the others
            time.sleep(4 * rtt)  # for the next stream in reserve
            began = time.monotonic()
            connection = Connection(env, **more).echo(b"hello")
            times.append(time.monotonic() - began)
            assert connection.finish()[0] == 0
        print(f"RTT {rtt} s: {times}")
        assert rtt <= min(times) < 1.5 * rtt, times
        first.finish()
    finally:
        leg.close()
