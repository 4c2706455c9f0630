# SPDX-License-Identifier: ISC
"""Faults of the relay: killed, away, restarted with other ports, replaced; F-01 to F-05, F-37 and F-39 of docs/faults.md."""

import shutil
import signal
import socket
import time

import pytest

import harness
import invariants
from harness import LIMIT, wait_until
from fault_run import FaultRun
from invariants import RECOVERY
from process_stats import is_within
from test_tunnel import assert_broken


def kill_relay(run, seconds):
    run.relay.kill()
    run.tunnel.event("relay-lost")
    killed = time.monotonic()
    wait_until(lambda: time.monotonic() - killed >= seconds, f"{seconds} s without a relay", limit=seconds + 10)
    assert run.tunnel.is_running() and not run.load.errors


def restart_relay(run):
    """Returns the seconds until all streams continue."""
    run.start_relay()
    started = time.monotonic()
    run.load.wait_for_progress(64 << 10)
    print(f"all streams continue {time.monotonic() - started:.2f} s after the relay's restart")
    return time.monotonic() - started


def test_f01_relay_killed(env):
    with FaultRun(env, n_streams=8) as run:
        run.start()
        for n_bytes in (1 << 20, 100_003):
            run.load.wait_for_progress(n_bytes)
            run.relay.kill()
            assert is_within(restart_relay(run), RECOVERY)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_f02_relay_away(env, seconds):
    """The rings fill: reading from the local sockets stops, and no byte is dropped."""
    with FaultRun(env, n_streams=2) as run:
        run.start()
        kill_relay(run, seconds)
        before = list(run.load.progress)
        invariants.check_idle(run)  # I7: also while waiting
        assert run.load.progress == before
        assert is_within(restart_relay(run), 10 + RECOVERY)  # 10 s: the longest step of the back-off


@pytest.mark.parametrize("window", [3, pytest.param(120, marks=pytest.mark.soak)])
def test_f03_relay_away_beyond_the_window(env, window):
    variables = {"GOTTHARD_TIMEOUTS_RESUME_WINDOW": f"{window}s"}
    with FaultRun(env, n_streams=1, agent_env=variables, cli_env=variables) as run:
        sock = run.tunnel.dial("echo")
        sock.sendall(run.canary)
        assert harness.receive_exactly(sock, 64) == run.canary
        run.relay.kill()
        started = time.monotonic()
        assert_broken(sock, window + 20)
        assert run.tunnel.wait(window + 20) == 69
        assert window - 1 < time.monotonic() - started < window + 10
        assert "GTD-E70" in run.tunnel.log()
        wait_until(lambda: not run.echo.connections, "the device's side is broken as well", limit=10)
        run.start_relay()


def test_f04_relay_stopped_in_order(env):
    with FaultRun(env) as run:
        run.start()
        assert run.relay.stop() == 0
        assert is_within(restart_relay(run), 2 * RECOVERY)


def test_f05_relay_restarted_with_another_range(env):
    with FaultRun(env) as run:
        run.start()
        old = range(env.relay_ports, env.relay_ports + env.n_relay_ports)
        run.relay.kill()
        env.relay_ports = harness.free_ports(env.n_relay_ports)
        run.relay_env.update(GOTTHARD_SERVER_PORTS_FROM=str(env.relay_ports),
                               GOTTHARD_SERVER_PORTS_TO=str(env.relay_ports + env.n_relay_ports - 1))
        assert is_within(restart_relay(run), RECOVERY)
        assert not any(harness.is_listening(port) for port in old)


def test_f05_f25_all_ports_in_use(env):
    """By other programs: a new session gets an error, an existing one retries until a port is free."""
    env.n_relay_ports = 3
    with FaultRun(env) as run:
        run.start()
        run.relay.kill()
        squatters = []
        for port in range(env.relay_ports, env.relay_ports + 3):
            wait_until(lambda port=port: not harness.is_listening(port), "the old relay's port is free")
            squatters.append(socket.create_server(("0.0.0.0", port)))
        run.start_relay()
        run.relay.wait_for("no free port in ")
        done = env.cli("connect", "GatewayOli", "0:echo", name="bob")
        assert done.returncode == 75 and "port" in done.stderr, (done.returncode, done.stderr)
        assert run.tunnel.is_running()
        for squatter in squatters:
            squatter.close()
        run.load.wait_for_progress(64 << 10, limit=LIMIT)
        run.recovery += 30  # a port found in use is not tried again for a while


@pytest.mark.parametrize("n", [10, pytest.param(1000, marks=pytest.mark.soak)])
def test_f37_sessions_come_and_go(env, n):
    """Sessions one after another, which reuse the ports: no session leaves anything behind."""
    env.n_relay_ports = 4
    with FaultRun(env, n_streams=1, relayd='server = { port_cooldown = "0"; };') as run:
        started = time.monotonic()
        for number in range(n):
            wait_until(lambda: time.monotonic() - started > 0.22 * (number - 15), "the device answers five requests a second")
            run.echo_through_new_tunnel()
        print(f"{n / (time.monotonic() - started) * 60:.0f} sessions a minute")


def replace(program, folder):
    """Installs another file under the same name, as a package does. Returns its path."""
    fresh = folder / f"{program}.new"
    shutil.copy(harness.PROGRAMS[program], fresh)
    fresh.rename(folder / program)
    return folder / program


def test_f39_programs_replaced_one_by_one(env, monkeypatch):
    """Relay, then agent, then command: the existing tunnel survives the first two replacements."""
    folder = env.folder / "bin"
    folder.mkdir()
    monkeypatch.setattr(harness, "PROGRAMS", {name: replace(name, folder) for name in harness.PROGRAMS})
    run = env.folder / "run"
    run.mkdir(mode=0o700)
    with FaultRun(env, agent_env={"RUNTIME_DIRECTORY": run}) as run:
        run.start()
        worker, = run.workers()
        replace("relayd", folder)
        run.relay.send(signal.SIGTERM)
        run.relay.wait_for("draining")
        assert run.relay.stop() == 0
        assert is_within(restart_relay(run), RECOVERY)
        replace("agentd", folder)
        run.earlier_workers.append(worker)
        assert run.agent.stop() == 0
        run.load.wait_for_progress(64 << 10)
        run.start_agent()
        assert f"pid={worker}" in run.agent.log(), "the new agent does not list the running session"
        replace("cli", folder)
        run.echo_through_new_tunnel()
        run.load.wait_for_progress(64 << 10)
