# SPDX-License-Identifier: ISC
"""Trials of the relay: it dies, stays away, comes back elsewhere, is replaced; F-01 to F-05, F-37 and F-39 of docs/faults.md."""

import shutil
import signal
import socket
import time

import pytest

import harness
from harness import LIMIT, wait_until
from invariants import RECOVERY, Trial
from test_tunnel import assert_broken


def stays_away(trial, seconds):
    trial.relay.kill()
    trial.tunnel.event("link-lost")
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() - gone >= seconds, f"{seconds} s without a relay", limit=seconds + 10)
    assert trial.tunnel.is_running() and not trial.load.errors


def comes_back(trial):
    trial.start_relay()
    begun = time.monotonic()
    trial.load.wait_for_progress(64 << 10)
    print(f"all streams go on {time.monotonic() - begun:.2f} s after the relay is back")
    return time.monotonic() - begun


def test_f01_relay_killed(world):
    with Trial(world, n_streams=8) as trial:
        trial.start()
        for n_bytes in (1 << 20, 100_003):
            trial.load.wait_for_progress(n_bytes)
            trial.relay.kill()
            assert comes_back(trial) < RECOVERY


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_f02_relay_away(world, seconds):
    """The rings fill: the local readers are stopped, nothing is dropped."""
    with Trial(world, n_streams=2) as trial:
        trial.start()
        stays_away(trial, seconds)
        before = list(trial.load.progress)
        trial.quiet()  # I7: also while waiting
        assert trial.load.progress == before
        assert comes_back(trial) < 10 + RECOVERY  # the longest step of the back-off, and then


@pytest.mark.parametrize("window", [3, pytest.param(120, marks=pytest.mark.soak)])
def test_f03_relay_away_beyond_the_window(world, window):
    env = {"GOTTHARD_RESUME_WINDOW": f"{window}s"}
    with Trial(world, n_streams=1, agent_env=env, cli_env=env) as trial:
        sock = trial.tunnel.dial("echo")
        sock.sendall(trial.canary)
        assert harness.receive_exactly(sock, 64) == trial.canary
        trial.relay.kill()
        begun = time.monotonic()
        assert_broken(sock, window + 20)
        assert trial.tunnel.wait(window + 20) == 69
        assert window - 1 < time.monotonic() - begun < window + 10
        assert "GTD-E70" in trial.tunnel.log()
        wait_until(lambda: not trial.echo.connections, "the device's side is broken too", limit=10)
        trial.start_relay()


def test_f04_relay_stopped_politely(world):
    with Trial(world) as trial:
        trial.start()
        assert trial.relay.stop() == 0
        assert comes_back(trial) < 2 * RECOVERY


def test_f05_relay_comes_back_with_another_range(world):
    with Trial(world) as trial:
        trial.start()
        old = range(world.relay_ports, world.relay_ports + world.n_relay_ports)
        trial.relay.kill()
        world.relay_ports = harness.free_ports(world.n_relay_ports)
        trial.relay_env.update(GOTTHARD_SERVER_PORTS_FROM=str(world.relay_ports),
                               GOTTHARD_SERVER_PORTS_TO=str(world.relay_ports + world.n_relay_ports - 1))
        assert comes_back(trial) < RECOVERY
        assert not any(harness.is_listening(port) for port in old)


def test_f05_f25_ports_are_all_taken_for_a_while(world):
    """By other programs: what wants a port is told so, or tries again until there is one."""
    world.n_relay_ports = 3
    with Trial(world) as trial:
        trial.start()
        trial.relay.kill()
        squatters = []
        for port in range(world.relay_ports, world.relay_ports + 3):
            wait_until(lambda port=port: not harness.is_listening(port), "the old relay is gone")
            squatters.append(socket.create_server(("0.0.0.0", port)))
        trial.start_relay()
        trial.relay.wait_for("all ports .* are taken")
        done = world.cli("connect", "GatewayOli", "0:echo", name="bob")
        assert done.returncode == 75 and "port" in done.stderr, (done.returncode, done.stderr)
        assert trial.tunnel.is_running()
        for squatter in squatters:
            squatter.close()
        trial.load.wait_for_progress(64 << 10, limit=LIMIT)
        trial.recovery += 30  # a port that was found taken is left alone for a while


@pytest.mark.parametrize("n", [10, pytest.param(1000, marks=pytest.mark.soak)])
def test_f37_sessions_come_and_go(world, n):
    """One after the other, and the ports come round: nothing is left of any."""
    world.n_relay_ports = 4
    with Trial(world, n_streams=1, relayd='server = { ports_rest = "0"; };') as trial:
        begun = time.monotonic()
        for number in range(n):
            wait_until(lambda: time.monotonic() - begun > 0.22 * (number - 15), "the device answers five questions a second")
            trial.hear_echo()
        print(f"{n / (time.monotonic() - begun) * 60:.0f} sessions a minute")


def replaced(program, folder):
    """As a package does: another file under the same name."""
    fresh = folder / f"{program}.new"
    shutil.copy(harness.PROGRAMS[program], fresh)
    fresh.rename(folder / program)
    return folder / program


def test_f39_programs_are_replaced_one_after_the_other(world, monkeypatch):
    """Relay, then agent, then CLI: the tunnel of before goes on through the first two."""
    folder = world.folder / "bin"
    folder.mkdir()
    monkeypatch.setattr(harness, "PROGRAMS", {name: replaced(name, folder) for name in harness.PROGRAMS})
    run = world.folder / "run"
    run.mkdir(mode=0o700)
    with Trial(world, agent_env={"RUNTIME_DIRECTORY": run}) as trial:
        trial.start()
        worker, = trial.workers()
        replaced("relayd", folder)
        trial.relay.send(signal.SIGTERM)
        trial.relay.wait_for("draining")
        assert trial.relay.stop() == 0
        assert comes_back(trial) < RECOVERY
        replaced("agentd", folder)
        trial.adopted.append(worker)
        assert trial.agent.stop() == 0
        trial.load.wait_for_progress(64 << 10)
        trial.start_agent()
        assert f"pid={worker}" in trial.agent.log(), "the new agent knows the session that lives on"
        replaced("cli", folder)
        trial.hear_echo()
        trial.load.wait_for_progress(64 << 10)
