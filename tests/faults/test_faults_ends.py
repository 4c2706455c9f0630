# SPDX-License-Identifier: ISC
"""Faults of the agent, the operator's command and the targets; F-09, F-15 to F-20, F-30 to F-32 and F-35 of docs/faults.md."""

import os
import re
import resource
import secrets
import signal
import socket
import struct
import time

import pytest

import harness
from fault_run import FaultRun
from harness import wait_until
from invariants import IS_SANITIZED, RECOVERY
from load import Steady
from process_stats import is_within
from test_tunnel import assert_broken

WINDOW = {"GOTTHARD_TIMEOUTS_RESUME_WINDOW": "3s"}
MIB = 1 << 20


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def held_echo(run, tunnel=None):
    """Returns both sockets of a tested connection through the tunnel: the operator's and the target's."""
    before = list(run.echo.connections)
    sock = (tunnel or run.tunnel).dial("echo")
    sock.sendall(run.canary)
    assert harness.receive_exactly(sock, 64) == run.canary
    far, = [other for other in run.echo.connections if other not in before]
    return sock, far


def still_works(run, sock):
    sock.sendall(run.canary)
    return harness.receive_exactly(sock, 64) == run.canary


# --- processes ------------------------------------------------------------------------------------


def test_f15_agent_listener_killed(env):
    """The tunnels continue; the restarted listener serves new requests."""
    with FaultRun(env) as run:
        run.start()
        run.earlier_workers += run.workers()
        os.kill(run.agent.pid, signal.SIGKILL)
        run.agent.wait()
        started = time.monotonic()
        run.start_agent()
        run.echo_through_new_tunnel()
        assert is_within(time.monotonic() - started, RECOVERY)
        run.load.wait_for_progress(MIB)


def test_f15_worker_killed(env):
    """Both sides get a reset at once: the FIN that the kernel sends for a killed process would look like an orderly end."""
    with FaultRun(env, n_streams=1) as run:
        run.start_bystander()
        sock, far = held_echo(run)
        worker = run.workers()[0]
        os.kill(worker, signal.SIGKILL)
        assert_broken(sock)
        wait_until(lambda: far not in run.echo.connections, "the target's connection is closed")
        assert isinstance(run.echo.errors.pop(), ConnectionResetError)
        assert run.tunnel.wait() == 69 and "GTD-E71" in run.tunnel.log()


@pytest.mark.parametrize("how", ["by hand", "as a service"])
def test_f15_whole_agent_killed(env, how):
    """Listener and worker at once, as in a power failure: connected operators are notified, new requests are served."""
    run = env.folder / "run"
    run.mkdir(mode=0o700)
    variables = {"RUNTIME_DIRECTORY": run} if how == "as a service" else {}
    with FaultRun(env, n_streams=1, agent_env={**WINDOW, **variables}, cli_env=WINDOW) as run:
        sock, _ = held_echo(run)
        run.agent.kill()
        started = time.monotonic()
        run.start_agent()
        assert_broken(sock)
        assert run.tunnel.wait() in (69, 75)
        assert is_within(time.monotonic() - started, 3 + RECOVERY)
        run.echo_through_new_tunnel()


def test_f16_operator_killed(env):
    """Nothing of that operator remains on the device or at the relay; the other operator is unaffected."""
    with FaultRun(env, n_streams=1, agent_env=WINDOW, relayd='timeouts = { session_grace = "3s"; };') as run:
        run.start_bystander()
        sock, _ = held_echo(run)
        run.tunnel.kill()
        assert_broken(sock)
        wait_until(lambda: len(run.workers()) == 1, "the operator's worker ended", limit=10)
        run.tunnels.remove(run.tunnel)


# --- targets ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["refuses", "resets", "closes"])
def test_f17_failing_target(env, what):
    """The target's end of its connections is forwarded. Other connections continue."""
    def behavior(sock):
        if what == "resets":
            sock.recv(1)
            reset(sock)

    target = env.target(behavior)
    if what == "refuses":
        target.close()
    with FaultRun(env, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};') as run:
        run.start_bystander()
        for _ in range(20):
            try:
                with run.tunnel.dial("ssh") as sock:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"" and what == "closes"
            except ConnectionError:
                pass  # a close with unread bytes is a reset as well


@pytest.mark.parametrize("seconds", [4, pytest.param(600, marks=pytest.mark.soak)])
def test_f18_one_stream_is_not_read(env, seconds):
    """It uses no more memory than the window, stays open, and is complete once it is read."""
    n = 32 * MIB
    target = env.target(lambda sock: harness.send_pattern(sock, "slow", n))
    with FaultRun(env, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};') as run:
        run.start_bystander()
        rss_before = [harness.rss_kib(pid) for pid in run.our_pids()]
        slow = run.tunnel.dial("ssh")
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            run.echo_through(run.tunnel)
        growth = [harness.rss_kib(pid) - before for pid, before in zip(run.our_pids(), rss_before)]
        assert max(growth) < 6 * 1024 or IS_SANITIZED, f"growth in KiB: {growth}"
        harness.receive_pattern(slow, "slow", n)
        slow.close()


@pytest.mark.parametrize("splice", ["auto", "off"])
@pytest.mark.parametrize("first", ["operator", "device"])
def test_f19_half_close_under_load(env, first, splice):
    """One side sends FIN and the other still sends much data: all of it arrives, although the relay is killed meanwhile."""
    n, received = 24 * MIB, {}

    def device(sock):
        if first == "operator":
            received["first"] = harness.digest_to_eof(sock)
            harness.send_pattern(sock, "after", n)
        else:
            sock.shutdown(socket.SHUT_WR)
            received["after"] = harness.digest_to_eof(sock)

    target = env.target(device)
    with FaultRun(env, agentd=f'agent = {{ data_host = "127.0.0.1"; data_port = {target.port}; }};',
               relayd=f'relay = {{ splice = "{splice}"; }};') as run:
        with run.tunnel.dial("ssh") as sock:
            if first == "operator":
                sock.sendall(b"done")
                sock.shutdown(socket.SHUT_WR)
                start = harness.receive_exactly(sock, MIB)
                run.relay.kill()
                run.start_relay()
                content = bytearray(start)
                while data := sock.recv(1 << 18):
                    content += data
                assert bytes(content) == b"".join(harness.pattern("after", n))
                assert received["first"][0] == 4
            else:
                assert sock.recv(1) == b""
                harness.send_pattern(sock, "after", n)
                run.relay.kill()
                run.start_relay()
                sock.shutdown(socket.SHUT_WR)
                wait_until(lambda: "after" in received, "the device's side receives the end of file")
                assert received["after"] == (n, harness.digest_of_pattern("after", n))
        assert run.tunnel.event("stream-ended")["code"] == 0


def test_f20_reset_during_transfer(env):
    """From either side, with bytes in flight: the other side receives a reset and no end of file; other streams continue."""
    with FaultRun(env) as run:
        run.start()
        bob = run.connect("bob")
        for _ in range(3):
            sock, far = held_echo(run, bob)
            sock.sendall(bytes(256 << 10))
            reset(sock)
            wait_until(lambda: far not in run.echo.connections, "the device's side has ended")
            assert isinstance(run.echo.errors.pop(), ConnectionError)
            sock, far = held_echo(run, bob)
            sock.sendall(bytes(256 << 10))
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.shutdown(socket.SHUT_RD)  # its thread ends and closes it
            with pytest.raises(ConnectionError):
                while sock.recv(1 << 16):
                    pass
            sock.close()
        run.load.wait_for_progress(64 << 10)


# --- signals and reloads ------------------------------------------------


def test_f30_storm_of_signals(env):
    """A thousand SIGHUP and SIGUSR1 under load."""
    with FaultRun(env) as run:
        run.start()
        run.start_bystander()
        worker = run.workers()[0]
        for n in range(1000):
            for pid in (run.relay.pid, run.agent.pid, worker):
                os.kill(pid, signal.SIGHUP if n % 2 else signal.SIGUSR1)
        run.load.wait_for_progress(64 << 10)
        assert run.workers()[0] == worker


def reload(process):
    """Sends SIGHUP and waits until it is handled. Returns the log line."""
    n = process.log_path.stat().st_size
    process.send(signal.SIGHUP)

    def line():
        with open(process.log_path, encoding="utf-8") as log:
            log.seek(n)
            return re.search(".* reloaded.*\n", log.read())

    return wait_until(line, f"{process.name} reloads", step=0.001).group()


def test_f31_a_thousand_reloads(env):
    """Relay and agent, each time with another configuration, and now and then with a bad one. A tunnel carries its load meanwhile;
    its worker, descriptors and memory stay as they were. Not a FaultRun: each reload logs its warnings."""
    env.broker()
    load = Steady(env, 1, rate=1 << 20)
    folder = env.config_folder(relayd="", agentd="")
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=load.target.port)
    tunnel = env.connect()
    load.start(tunnel)
    workers, before = harness.children_of(agent.pid), {}
    for n in range(1000):
        is_bad = n % 50 == 49
        for process, text in ((relay, f"limits = {{ per_source = {20 + n % 7}; }};"), (agent, f'timeouts = {{ resume_window = "{100 + n % 7}s"; }};')):
            (folder / f"{process.name.split('-')[0]}.conf").write_text("nonsense" if is_bad else text)
            assert ("not reloaded" in reload(process)) == is_bad
            if n == 100:
                before[process] = n_descriptors(process), harness.rss_kib(process.pid)
    for process, (n_fds, rss) in before.items():
        assert n_descriptors(process) == n_fds, process.name
        assert harness.rss_kib(process.pid) < rss + 1024 or IS_SANITIZED, process.name
    assert harness.children_of(agent.pid) == workers
    load.wait_for_progress(64 << 10)
    load.finish(tunnel)


def n_descriptors(process):
    return harness.descriptors(process.pid) if os.getuid() == 0 else 0


@pytest.mark.parametrize("state", ["connecting", "online", "with a tunnel", "broker gone"])
def test_f30_agent_terminated_in_each_state(env, state):
    """It exits within 10 s with status 0, also after two signals. A tunnel survives it."""
    with FaultRun(env, n_streams=1) as run:
        if state != "with a tunnel":
            assert run.tunnel.disconnect() == 0
            run.wait_no_workers()
        if state in ("connecting", "broker gone"):
            run.broker.kill()
        if state == "connecting":
            assert run.agent.stop() == 0
            run.start_agent(wait=False)
            run.agent.wait_for("started")
        if state == "with a tunnel":
            run.earlier_workers += run.workers()
        started = time.monotonic()
        run.agent.send(signal.SIGTERM)
        assert run.agent.stop() == 0
        assert time.monotonic() - started < 10
        if state == "with a tunnel":
            run.echo_through(run.tunnel)
        if not run.broker.is_running():
            run.broker = env.broker()
        run.start_agent()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f30_relay_terminated_twice(env, number):
    """Two signals, the second immediately after the first: streams are parked and continue with the next relay."""
    with FaultRun(env) as run:
        run.start()
        started = time.monotonic()
        run.relay.send(number)
        assert run.relay.stop(number) == 0
        assert time.monotonic() - started < 10
        run.start_relay()
        run.load.wait_for_progress(64 << 10)


@pytest.mark.parametrize("what", ["nonsense", "folder", "no descriptor"])
def test_f31_reload_of_bad_configuration(env, what):
    """All or nothing: the old configuration stays in effect, and the log has the reason."""
    with FaultRun(env) as run:
        run.start()
        limits = {}
        for name, process in (("relayd", run.relay), ("agentd", run.agent)):
            path = run.folder / f"{name}.conf"
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
            wait_until(lambda: "reload" in process.log()[before:], "the reload is logged")
            new_lines = process.log()[before:]
            assert "configuration reloaded" not in new_lines and " reloaded services=" not in new_lines, new_lines
            if what != "no descriptor":
                assert f"{name}.conf" in new_lines, new_lines
            if what == "folder":
                path.rmdir()
            path.write_text(text)
        run.load.wait_for_progress(64 << 10)
        for process, limit in limits.items():
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)


def test_f32_key_rotation_under_load(env):
    """The services accept the new key, then the operators use it, then the old one is removed. A tunnel ends with its key."""
    old, new = env.key, secrets.token_hex(32)
    with FaultRun(env) as run:
        run.start()
        for path in (run.folder / "relayd.conf", run.folder / "agentd.conf"):
            path.write_text(path.read_text() + f'\ncrypt = {{ key = "{new}"; key_previous = "{old}"; }};\n')
        for process in (run.relay, run.agent):
            process.send(signal.SIGHUP)
            process.wait_for("reloaded")
        run.echo_through_new_tunnel()  # still with the old key
        env.key = new
        new_tunnel = run.connect("bob")
        run.load.wait_for_progress(64 << 10)
        run.end_load()  # its tunnel is of the old key
        for path in (run.folder / "relayd.conf", run.folder / "agentd.conf"):
            path.write_text(path.read_text().replace(f' key_previous = "{old}";', ""))
        for process in (run.relay, run.agent):
            process.send(signal.SIGHUP)
            process.wait_for("reloaded", count=2)
        assert run.tunnel.wait() in (69, 77), run.tunnel.out()
        env.key = old
        done = env.cli("connect", "GatewayOli", "0:echo", name="bob", GOTTHARD_TIMEOUTS_ANSWER="1s")
        assert done.returncode in (69, 77), done.stderr
        env.key = new
        run.echo_through(new_tunnel)


def test_f35_two_operators_one_device(env):
    """Each operator receives its own bytes. The end of one session does not affect the other."""
    with FaultRun(env) as run:
        run.start()
        bob = run.connect("bob")
        with bob.dial("echo") as sock:
            for _ in range(50):
                assert still_works(run, sock)
        assert bob.disconnect() == 0
        run.load.wait_for_progress(64 << 10)

