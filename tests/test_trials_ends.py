# SPDX-License-Identifier: ISC
"""Trials of the two ends and of what is behind them; F-09, F-15 to F-20, F-30 to F-32 and F-35 of docs/faults.md."""

import os
import resource
import secrets
import signal
import socket
import struct
import time

import pytest

import harness
from harness import wait_until
from invariants import IS_SANITIZED, RECOVERY, Trial
from test_tunnel import assert_broken

WINDOW = {"GOTTHARD_RESUME_WINDOW": "3s"}
MIB = 1 << 20


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def held_echo(trial, tunnel=None):
    """A connection through the tunnel that is known to work: its two ends."""
    before = list(trial.echo.connections)
    sock = (tunnel or trial.tunnel).dial("echo")
    sock.sendall(trial.canary)
    assert harness.receive_exactly(sock, 64) == trial.canary
    far, = [one for one in trial.echo.connections if one not in before]
    return sock, far


def still_works(trial, sock):
    sock.sendall(trial.canary)
    return harness.receive_exactly(sock, 64) == trial.canary


# --- processes ------------------------------------------------------------------------------------


def test_f15_agent_s_listener_killed(world):
    """The tunnels live on; whoever comes next is served by its successor."""
    with Trial(world) as trial:
        trial.start()
        trial.adopted += trial.workers()
        os.kill(trial.agent.pid, signal.SIGKILL)
        trial.agent.wait()
        begun = time.monotonic()
        trial.start_agent()
        trial.hear_echo()
        assert time.monotonic() - begun < RECOVERY
        trial.load.wait_for_progress(MIB)


def test_f15_worker_killed(world):
    """Both sides are told at once, each by a reset: the kernel's own end of a killed process would pass for one in order."""
    with Trial(world, n_streams=1) as trial:
        trial.stand_by()
        sock, far = held_echo(trial)
        worker = trial.workers()[0]
        os.kill(worker, signal.SIGKILL)
        assert_broken(sock)
        wait_until(lambda: far not in trial.echo.connections, "the target's side is told")
        assert isinstance(trial.echo.errors.pop(), ConnectionResetError)
        assert trial.tunnel.wait() == 69 and "GTD-E71" in trial.tunnel.log()


@pytest.mark.parametrize("how", ["by hand", "as a service"])
def test_f15_whole_agent_killed(world, how):
    """Listener and worker at once, as when the power goes: whoever was connected is told, whoever comes is served."""
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    env = {"RUNTIME_DIRECTORY": run} if how == "as a service" else {}
    with Trial(world, n_streams=1, agent_env={**WINDOW, **env}, cli_env=WINDOW) as trial:
        sock, _ = held_echo(trial)
        trial.agent.kill()
        begun = time.monotonic()
        trial.start_agent()
        assert_broken(sock)
        assert trial.tunnel.wait() in (69, 75)
        assert time.monotonic() - begun < 3 + RECOVERY
        trial.hear_echo()


def test_f16_operator_killed(world):
    """Nothing of his is left on the device or at the relay; the other operator does not notice."""
    with Trial(world, n_streams=1, agent_env=WINDOW, relayd='limits = { grace = "3s"; };') as trial:
        trial.stand_by()
        sock, _ = held_echo(trial)
        trial.tunnel.kill()
        assert_broken(sock)
        wait_until(lambda: len(trial.workers()) == 1, "his worker ended", limit=10)
        trial.tunnels.remove(trial.tunnel)


# --- what is behind the ends ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["refuses", "resets", "closes"])
def test_f17_target_that_is_no_good(world, what):
    """Its connections end as it wants them to; those of the others go on."""
    def behaviour(sock):
        if what == "resets":
            sock.recv(1)
            reset(sock)

    target = world.target(behaviour)
    if what == "refuses":
        target.close()
    with Trial(world, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};') as trial:
        trial.stand_by()
        for _ in range(20):
            try:
                with trial.tunnel.dial("ssh") as sock:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"" and what == "closes"
            except ConnectionError:
                pass  # a target that closes resets, too, when a byte of ours was not read


@pytest.mark.parametrize("seconds", [4, pytest.param(600, marks=pytest.mark.soak)])
def test_f18_one_stream_is_not_read(world, seconds):
    """It takes the window's memory and no more, lives, and has lost nothing when somebody reads it at last."""
    n = 32 * MIB
    target = world.target(lambda sock: harness.send_pattern(sock, "slow", n))
    with Trial(world, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};') as trial:
        trial.stand_by()
        rss = [harness.rss_kib(pid) for pid in trial.ours()]
        slow = trial.tunnel.dial("ssh")
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            trial.hear(trial.tunnel)
        grown = [harness.rss_kib(pid) - was for pid, was in zip(trial.ours(), rss)]
        assert max(grown) < 6 * 1024 or IS_SANITIZED, f"KiB more: {grown}"
        harness.receive_pattern(slow, "slow", n)
        slow.close()


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("first", ["operator", "device"])
def test_f19_half_close_under_load(world, first, splice):
    """One side is done and the other has much to say: all of it arrives, through a relay that dies meanwhile."""
    n, heard = 24 * MIB, {}

    def device(sock):
        if first == "operator":
            heard["first"] = harness.digest_to_eof(sock)
            harness.send_pattern(sock, "after", n)
        else:
            sock.shutdown(socket.SHUT_WR)
            heard["after"] = harness.digest_to_eof(sock)

    target = world.target(device)
    with Trial(world, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};',
               relayd=f'relay = {{ splice = "{splice}"; }};') as trial:
        with trial.tunnel.dial("ssh") as sock:
            if first == "operator":
                sock.sendall(b"done")
                sock.shutdown(socket.SHUT_WR)
                start = harness.receive_exactly(sock, MIB)
                trial.relay.kill()
                trial.start_relay()
                rest = bytearray(start)
                while data := sock.recv(1 << 18):
                    rest += data
                assert bytes(rest) == b"".join(harness.pattern("after", n))
                assert heard["first"][0] == 4
            else:
                assert sock.recv(1) == b""
                harness.send_pattern(sock, "after", n)
                trial.relay.kill()
                trial.start_relay()
                sock.shutdown(socket.SHUT_WR)
                wait_until(lambda: "after" in heard, "the end is heard")
                assert heard["after"] == (n, harness.digest_of_pattern("after", n))
        assert trial.tunnel.event("stream-ended")["code"] == 0


def test_f20_reset_in_the_middle_of_it(world):
    """From either side, with bytes on their way: the other side sees a reset and never an end, other streams go on."""
    with Trial(world) as trial:
        trial.start()
        bob = trial.connect("bob")
        for _ in range(3):
            sock, far = held_echo(trial, bob)
            sock.sendall(bytes(256 << 10))
            reset(sock)
            wait_until(lambda: far not in trial.echo.connections, "the device's side has ended")
            assert isinstance(trial.echo.errors.pop(), ConnectionError)
            sock, far = held_echo(trial, bob)
            sock.sendall(bytes(256 << 10))
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.shutdown(socket.SHUT_RD)  # its thread ends, and closes it
            with pytest.raises(ConnectionError):
                while sock.recv(1 << 16):
                    pass
            sock.close()
        trial.load.wait_for_progress(64 << 10)


# --- signals, and what they make the services read ------------------------------------------------


def test_f30_storm_of_signals(world):
    """A thousand of each that a service knows, under load."""
    with Trial(world) as trial:
        trial.start()
        trial.stand_by()
        worker = trial.workers()[0]
        for n in range(1000):
            for pid in (trial.relay.pid, trial.agent.pid, worker):
                os.kill(pid, signal.SIGHUP if n % 2 else signal.SIGUSR1)
        trial.load.wait_for_progress(64 << 10)
        assert trial.workers()[0] == worker


@pytest.mark.parametrize("state", ["connecting", "online", "with a tunnel", "broker gone"])
def test_f30_agent_terminated_in_each_state(world, state):
    """It ends within 10 s with status 0, a second signal or none; a tunnel outlives it."""
    with Trial(world, n_streams=1) as trial:
        if state != "with a tunnel":
            assert trial.tunnel.close_politely() == 0
            trial.wait_no_workers()
        if state in ("connecting", "broker gone"):
            trial.broker.kill()
        if state == "connecting":
            assert trial.agent.stop() == 0
            trial.start_agent(wait=False)
            trial.agent.wait_for("started")
        if state == "with a tunnel":
            trial.adopted += trial.workers()
        begun = time.monotonic()
        trial.agent.send(signal.SIGTERM)
        assert trial.agent.stop() == 0
        assert time.monotonic() - begun < 10
        if state == "with a tunnel":
            trial.hear(trial.tunnel)
        if not trial.broker.is_running():
            trial.broker = world.broker()
        trial.start_agent()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f30_relay_terminated_twice(world, number):
    """The second at once; streams are parked, and go on with the next relay."""
    with Trial(world) as trial:
        trial.start()
        begun = time.monotonic()
        trial.relay.send(number)
        assert trial.relay.stop(number) == 0
        assert time.monotonic() - begun < 10
        trial.start_relay()
        trial.load.wait_for_progress(64 << 10)


@pytest.mark.parametrize("what", ["nonsense", "folder", "no descriptor"])
def test_f31_reload_of_what_is_wrong(world, what):
    """All or nothing: the old configuration stays, and the log has the reason."""
    with Trial(world) as trial:
        trial.start()
        limits = {}
        for name, process in (("relayd", trial.relay), ("agentd", trial.agent)):
            path = trial.folder / f"{name}.conf"
            text = path.read_text()
            if what == "nonsense":
                path.write_text(text + "\nlimits = { sessions = \"many\";\n")
            elif what == "folder":
                path.unlink()
                path.mkdir()
            else:
                limits[process] = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, limits[process][1]))
            before = len(process.log())
            process.send(signal.SIGHUP)
            wait_until(lambda: "reload" in process.log()[before:], "it says what came of it")
            said = process.log()[before:]
            assert "configuration reloaded" not in said and " reloaded: services" not in said, said
            if what != "no descriptor":
                assert f"{name}.conf" in said, said
            if what == "folder":
                path.rmdir()
            path.write_text(text)
        trial.load.wait_for_progress(64 << 10)
        for process, both in limits.items():
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, both)


def test_f32_key_rotation_under_load(world):
    """First the services learn the new key, then the operators use it, then the old one goes: the tunnel of before goes on."""
    old, new = world.key, secrets.token_hex(32)
    with Trial(world) as trial:
        trial.start()
        for path in (trial.folder / "relayd.conf", trial.folder / "agentd.conf"):
            path.write_text(path.read_text() + f'\ncrypt = {{ key = "{new}"; key_previous = "{old}"; }};\n')
        for process in (trial.relay, trial.agent):
            process.send(signal.SIGHUP)
            process.wait_for("reloaded")
        trial.hear_echo()  # still with the old one
        world.key = new
        trial.hear_echo()
        for path in (trial.folder / "relayd.conf", trial.folder / "agentd.conf"):
            path.write_text(path.read_text().replace(f' key_previous = "{old}";', ""))
        for process in (trial.relay, trial.agent):
            process.send(signal.SIGHUP)
            process.wait_for("reloaded", count=2)
        world.key = old
        done = world.cli("connect", "GatewayOli", "0:echo", name="bob", GOTTHARD_CLIENT_ANSWER_TIMEOUT="1s")
        assert done.returncode in (69, 77), done.stderr
        world.key = new
        trial.load.wait_for_progress(64 << 10)


def test_f35_two_operators_one_device(world):
    """Each has bytes of his own; the end of one is not the other's."""
    with Trial(world) as trial:
        trial.start()
        bob = trial.connect("bob")
        with bob.dial("echo") as sock:
            for _ in range(50):
                assert still_works(trial, sock)
        assert bob.close_politely() == 0
        trial.load.wait_for_progress(64 << 10)

