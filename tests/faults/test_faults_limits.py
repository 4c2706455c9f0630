# SPDX-License-Identifier: ISC
"""Exhausted descriptors and memory, a blocked log, a wrong clock; F-24 to F-28 of docs/faults.md."""

import contextlib
import datetime
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import time

import pytest

import harness
import invariants
from fault_run import FaultRun
from harness import LIMIT, limit_files, wait_until
from invariants import IS_SANITIZED, RECOVERY
from process_stats import DOCUMENTED_STATUSES

SHIMS = harness.BUILD / "tests" / "preload"
unsanitized = pytest.mark.skipif(IS_SANITIZED, reason="a sanitizer has its own malloc and must be loaded first")


# --- descriptors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [pytest.param(64, marks=pytest.mark.soak), 128])
def test_f24_few_descriptors(env, n):
    """A flood against both services: joined streams stay joined, no process spins, and everything works afterwards."""
    with FaultRun(env) as run:
        run.tunnel.disconnect()
        run.wait_no_workers()
        for process in (run.agent, run.relay):
            assert process.stop() == 0
        run.start_relay(preexec=limit_files(n))
        run.start_agent(preexec=limit_files(n))
        run.tunnel = run.connect()
        run.start()
        run.start_bystander()
        cpu = [harness.cpu_seconds(p.pid) for p in (run.relay, run.agent)]
        started, flood = time.monotonic(), []
        while time.monotonic() - started < 2:
            if len(flood) < 300:
                flood.append(socket.socket())
                flood[-1].setblocking(False)
                flood[-1].bind((f"127.0.7.{1 + len(flood) % 100}", 0))
                flood[-1].connect_ex(("127.0.0.1", env.relay_port))
                with contextlib.suppress(ConnectionError):  # the operator's command may reject it
                    flood.append(run.tunnel.dial("echo"))
            time.sleep(0.01)
        agent_spent = harness.cpu_seconds(run.agent.pid) - cpu[1]  # the relay transfers the load meanwhile
        assert agent_spent < 0.4 or IS_SANITIZED, f"{agent_spent} s of 2 s"
        run.load.wait_for_progress(64 << 10)
        run.end_load(is_reported=False)
        cpu = harness.cpu_seconds(run.relay.pid)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1, "a second with all descriptors taken")
        assert harness.cpu_seconds(run.relay.pid) - cpu < 0.2 or IS_SANITIZED
        for sock in flood:
            sock.close()
        run.recovery = 2 * RECOVERY


# --- memory ---------------------------------------------------------------------------------------


@unsanitized
def test_f26_little_memory(env):
    """Relay, worker and command may allocate 1 MiB more: new streams are refused or wait, existing ones continue."""
    with FaultRun(env) as run:
        run.start()
        limited = {}
        for pid in (run.relay.pid, *run.workers(), run.tunnel.pid):
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                data = int(re.search(r"VmData:\s+(\d+)", file.read()).group(1)) << 10
            limited[pid] = resource.prlimit(pid, resource.RLIMIT_DATA, (data + (1 << 20), resource.RLIM_INFINITY))
        flood = []
        for _ in range(50):
            with contextlib.suppress(OSError):
                flood.append(run.tunnel.dial("echo"))
                flood[-1].settimeout(0.05)
                flood[-1].sendall(run.canary * 2000)
        run.load.wait_for_progress(64 << 10)
        for sock in flood:
            sock.close()
        for pid, limit in limited.items():
            resource.prlimit(pid, resource.RLIMIT_DATA, limit)
        run.load.wait_for_progress(64 << 10)
        run.end_load(is_reported=False)


class Sweep:
    """Runs one program repeatedly: start, a tunnel, an echo, the end. In each run another call fails."""

    def __init__(self, env, program, family):
        self.env, self.program, self.family = env, program, family
        self.echo = env.target(harness.echo)
        env.broker()
        self.relay = self.agent = None
        if program != "relayd":
            self.relay = env.relay()
        if program != "agentd":
            self.agent = env.agent(GOTTHARD_AGENT_DATA_PORT=self.echo.port, **self.short)

    short = {"GOTTHARD_TIMEOUTS_RESUME_WINDOW": "2s", "GOTTHARD_TIMEOUTS_PEER": "3s"}

    def failing_at(self, at):
        paths = {f"FAIL_{name.upper()}": self.env.folder / name for name in ("tally", "done")}
        for path in paths.values():
            path.unlink(missing_ok=True)
        return {"LD_PRELOAD": SHIMS / "shim-fail.so", "FAIL_CALL": self.family, "FAIL_AT": at, **paths}

    def run(self, at):
        """Fails the call number @at; none for 0. Returns the number of calls."""
        variables = self.failing_at(at)
        process = None
        if self.program == "relayd":
            process = harness.Process(self.env, self.env.unique("relayd"), [harness.PROGRAMS["relayd"]],
                                      env={**self.env.relay_environment(), **{k: str(v) for k, v in variables.items()}})
            wait_until(lambda: harness.is_listening(self.env.relay_port) or not process.is_running(),
                       "the relay listens or exited")
        elif self.program == "agentd":
            process = self.env.agent(GOTTHARD_AGENT_DATA_PORT=self.echo.port, wait=False, **self.short, **variables)
            started = time.monotonic()  # the log line itself may be lost
            wait_until(lambda: "online" in process.log() or not process.is_running() or time.monotonic() - started > 5,
                       "the agent is online or exited")
        has_started = process is None or process.is_running()
        code = self.tunnel(variables if self.program == "cli" else {}) if has_started else None
        if self.program == "cli":
            assert code in DOCUMENTED_STATUSES["cli"], f"{self.family} {at}: the command ended with {code}"
        if process is None or process.is_running():
            if code != 0:  # one failed call must not affect the next tunnel
                wait_until(lambda: self.tunnel({}) == 0, f"{self.family} {at}: it works the next time", limit=20)
        if process is not None:
            process.send(signal.SIGTERM)
            process.send(signal.SIGTERM)
            assert process.wait(15) in DOCUMENTED_STATUSES[self.program], f"{self.family} {at}: {process.child.returncode}"
            workers = re.findall("worker killed.*", process.log())
            assert not workers, f"{self.family} {at}: {workers}"
        self.remove_logs()
        return self.n_calls()

    def n_calls(self):
        tally = self.env.folder / "tally"
        return max(map(int, tally.read_text().split()), default=0) if tally.exists() else 0

    def n_calls_before_main(self):
        """The initialization of libraries; common/tests/test-crypto-start.c tests its failures."""
        variables = {k: str(v) for k, v in self.failing_at(0).items()}
        subprocess.run([harness.PROGRAMS[self.program], "--version"], env={**os.environ, **variables}, check=True,
                       stdout=subprocess.DEVNULL, timeout=LIMIT)
        return self.n_calls()

    def tunnel(self, variables):
        """Returns the exit status; -1000 if the tunnel was up without working and had to be terminated."""
        tunnel = self.env.connect("GatewayOli", wait=False, GOTTHARD_TIMEOUTS_ANSWER="2s", **self.short, **variables)
        started = time.monotonic()
        wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"] or
                   time.monotonic() - started > 10, "the tunnel is up or the command exited")
        works = False
        if tunnel.is_running():
            with contextlib.suppress(OSError, AssertionError):
                with tunnel.dial() as sock:
                    sock.settimeout(10)
                    sock.sendall(b"hello")
                    works = harness.receive_exactly(sock, 5) == b"hello"
        code = tunnel.stop(signal.SIGINT, limit=15)
        return code if code != 0 or works or variables else -1000

    def remove_logs(self):
        """Removes the logs of ended processes, of which there are hundreds."""
        for process in [p for p in self.env.processes if not p.is_running()]:
            self.env.processes.remove(process)
            if not re.search("Sanitizer", process.log()):
                process.log_path.unlink()
                process.out_path.unlink()


FAMILIES = ["malloc", "accept", "socket", "open", "write", "splice", "SSL_write"]


@unsanitized
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_no_memory_at_start(env, program):
    """Every second one of the first 200 allocations fails. Many of them are in the initialization of libraries."""
    argv, variables = {
        "relayd": (["--check-config"], env.relay_environment()),
        "agentd": (["--check-config"], env.agent_environment("GatewayOli")),
        "cli": (["status", "GatewayOli"], env.cli_environment("alice")),
    }[program]
    for at in range(random.choice((1, 2)), 200, 2):
        done = env.folder / f"done-{at}"
        result = subprocess.run(
            [harness.PROGRAMS[program], *argv], capture_output=True, text=True, timeout=LIMIT, cwd=env.folder, check=False,
            env={**variables, "LD_PRELOAD": str(SHIMS / "shim-fail.so"), "FAIL_CALL": "malloc", "FAIL_AT": str(at),
                 "FAIL_DONE": str(done)}, stdin=subprocess.DEVNULL)
        assert done.exists() and result.returncode in DOCUMENTED_STATUSES[program], (at, result.returncode, result.stderr)


@unsanitized
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_failing_call(env, program, family):
    """The n-th call fails, for a few n. No crash, no hang, and the next run works."""
    sweep_of(env, program, family, n_points=5 if family == "malloc" else 2)


@unsanitized
@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_failing_call_at_many_points(env, program, family):
    sweep_of(env, program, family, n_points=int(os.environ.get("GOTTHARD_SWEEP", "300")))


def sweep_of(env, program, family, n_points):
    sweep = Sweep(env, program, family)
    n_calls = sweep.run(0)
    before = sweep.n_calls_before_main() if family == "malloc" else 0
    seed = os.environ.get("GOTTHARD_SEED", str(random.randrange(1 << 32)))
    generator = random.Random(int(seed))
    points = range(before + 1, n_calls + 1)
    if len(points) > n_points:  # one at random in each of n_points equal parts
        points = [before + 1 + int((n_calls - before) * (i + generator.random()) / n_points) for i in range(n_points)]
    print(f"GOTTHARD_SEED={seed}: {program} has {n_calls} calls of {family}, {before} of them before main; {len(list(points))} fail")
    for at in points:
        print("at", at, flush=True)
        sweep.run(at)


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk requires root")
def test_f27_log_disk_full(env):
    """Both services log to a disk of 64 KiB until it is full. They lose only log lines, and log again once there is space."""
    disk = env.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        for n in range(1, 20):
            for name in ("relayd", "agentd-GatewayOli"):
                (env.folder / f"{name}-{n}.log").symlink_to(disk / f"{name}-{n}.log")
        with FaultRun(env) as run:
            run.start()
            services = run.relay, run.agent
            run.start_bystander()
            with pytest.raises(OSError), open(disk / "filler", "wb", buffering=0) as file:
                while True:
                    assert file.write(bytes(1024)) == 1024, "full"
            sizes = {}
            while sizes != (sizes := {p.name: p.log_path.stat().st_size for p in services}):
                for _ in range(20):
                    for process in services:
                        process.send(signal.SIGUSR1)
                        time.sleep(0.002)
            run.echo_through_new_tunnel()
            run.load.wait_for_progress(64 << 10)
            for process in services:
                os.truncate(process.log_path, 0)
            run.status()
            assert "log dropped lines=" in run.relay.log()
    finally:
        for link in env.folder.glob("*.log"):
            if link.is_symlink():
                text = link.read_bytes() if link.exists() else b""
                link.unlink()
                link.write_bytes(text)
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("how", ["full", "closed", "not read"])
def test_f27_log_blocked(env, how):
    """/dev/full, a pipe without a reader, and an unread pipe: no write blocks, and none ends a program."""
    reader, writer = os.pipe()
    if how == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    elif how == "closed":
        os.close(reader)
    with FaultRun(env) as run:
        run.tunnel.disconnect()
        run.wait_no_workers()
        for process in (run.agent, run.relay):
            assert process.stop() == 0
        run.start_relay(preexec=lambda: os.dup2(writer, 2) and None)
        run.start_agent(preexec=lambda: os.dup2(writer, 2) and None, wait=False)
        wait_until(lambda: "online" in env.cli("status", "GatewayOli").stdout, "the agent is online")
        run.tunnel = run.connect()
        run.start()
        run.start_bystander()
        for _ in range(500):
            for process in (run.relay, run.agent):
                process.send(signal.SIGUSR1)
        run.relay.send(signal.SIGHUP)
        run.echo_through_new_tunnel()
        run.load.wait_for_progress(64 << 10)
        run.end_load()
        invariants.check_idle(run)
        invariants.check_isolation(run)
        run.end_tunnels()
        for process in (run.agent, run.relay):  # replaced by services with a readable log
            assert process.stop() == 0
        run.start_relay()
        run.start_agent()
    for fd in {writer} | ({reader} if how != "closed" else set()):
        os.close(fd)


# --- the wall clock -------------------------------------------------------------------------------

TEN_YEARS = 3652 * 86400


class WallClock:
    """An adjustable offset of the wall clock, for processes with these @variables."""

    def __init__(self, env):
        self.path = env.folder / "shift"
        self.shift(0)
        self.variables = {"LD_PRELOAD": SHIMS / "shim-clock.so", "CLOCK_SHIFT": self.path}

    def shift(self, seconds):
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds)))


@unsanitized
def test_f28_wall_clock_jumps(env):
    """All three programs, under load: ten years forward, ten years back, to 1970. No deadline uses that clock."""
    clock = WallClock(env)
    with FaultRun(env, relay_env=clock.variables, agent_env=clock.variables, cli_env=clock.variables) as run:
        run.start()
        run.cli_env = {}  # later commands have the right time, so their certificates are valid
        for jump, year in (TEN_YEARS, "20[3-9]"), (-TEN_YEARS, "20[12]"), (-time.time(), "1970-01-01"), (0, "20"):
            clock.shift(jump)
            run.load.wait_for_progress(64 << 10)
            run.echo_through(run.tunnel)
            run.echo_through_new_tunnel()
            run.relay.send(signal.SIGUSR1)
            assert run.relay.wait_for(rf"^{year}.* status sessions=1")  # before the clock changes


@unsanitized
def test_f28_time_of_being_online_follows_the_clock(env):
    """The clock was an hour ahead when the device came online. After its correction each new STATE has the right time."""
    clock = WallClock(env)
    clock.shift(3600)
    env.broker()
    agent = env.agent(env=env.agent_environment("GatewayOli", **clock.variables))

    def age():
        status = json.loads(env.cli("status", "GatewayOli", "--json").stdout.splitlines()[0])
        return time.time() - datetime.datetime.fromisoformat(status["since"].replace("Z", "+00:00")).timestamp()

    assert -3700 < age() < -3500
    clock.shift(0)
    agent.send(signal.SIGHUP)
    wait_until(lambda: -5 < age() < 60, "the time is corrected")


@unsanitized
def test_f28_wall_clock_of_1970_at_boot(env):
    """The relay works at once. The broker's certificate is not valid yet: the agent retries until the clock is set."""
    clock = WallClock(env)
    clock.shift(-time.time())
    with FaultRun(env) as run:
        assert run.tunnel.disconnect() == 0
        run.wait_no_workers()
        for process in (run.agent, run.relay):
            assert process.stop() == 0
        run.relay_env.update({k: str(v) for k, v in clock.variables.items()})
        run.agent_env.update(clock.variables)
        run.start_relay()
        run.start_agent(wait=False)
        run.agent.wait_for("broker not reachable")
        assert "1970-01-01" in run.agent.log()
        invariants.check_idle(run)
        clock.shift(0)
        run.agent.wait_for(harness.AGENT_READY, limit=30)
