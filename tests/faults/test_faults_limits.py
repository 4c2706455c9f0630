# SPDX-License-Identifier: ISC
"""Trials of what a machine runs out of, or gets wrong: descriptors, memory, log, clock; F-24 to F-28 of docs/faults.md."""

import contextlib
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
from harness import LIMIT, limit_files, wait_until
from invariants import DOCUMENTED, IS_SANITIZED, RECOVERY, Trial

SHIMS = harness.BUILD / "tests" / "shims"
unsanitized = pytest.mark.skipif(IS_SANITIZED, reason="a sanitizer has its own malloc, and comes first")


# --- descriptors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [pytest.param(64, marks=pytest.mark.soak), 128])
def test_f24_few_descriptors(world, n):
    """A flood against both services: what is joined stays joined, nobody spins, and all works after."""
    with Trial(world) as trial:
        trial.tunnel.close_politely()
        trial.wait_no_workers()
        for process in (trial.agent, trial.relay):
            assert process.stop() == 0
        trial.start_relay(preexec=limit_files(n))
        trial.start_agent(preexec=limit_files(n))
        trial.tunnel = trial.connect()
        trial.start()
        trial.stand_by()
        cpu = [harness.cpu_seconds(p.pid) for p in (trial.relay, trial.agent)]
        begun, flood = time.monotonic(), []
        while time.monotonic() - begun < 2:
            if len(flood) < 300:
                flood.append(socket.socket())
                flood[-1].setblocking(False)
                flood[-1].bind((f"127.0.7.{1 + len(flood) % 100}", 0))
                flood[-1].connect_ex(("127.0.0.1", world.relay_port))
                with contextlib.suppress(ConnectionError):  # the operator's side may turn it away
                    flood.append(trial.tunnel.dial("echo"))
            time.sleep(0.01)
        agent_spent = harness.cpu_seconds(trial.agent.pid) - cpu[1]  # the relay carries the load meanwhile
        assert agent_spent < 0.4 or IS_SANITIZED, f"{agent_spent} s of 2 s"
        trial.load.wait_for_progress(64 << 10)
        trial.end_load(are_well=False)
        cpu = harness.cpu_seconds(trial.relay.pid)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 1, "a second with all descriptors taken")
        assert harness.cpu_seconds(trial.relay.pid) - cpu < 0.2 or IS_SANITIZED
        for one in flood:
            one.close()
        trial.recovery = 2 * RECOVERY


# --- memory ---------------------------------------------------------------------------------------


@unsanitized
def test_f26_little_memory(world):
    """Relay and worker get no more than they have and a little: new streams are refused or wait, what runs goes on."""
    # a JOIN that comes when its stream has just broken is one of nobody's, and has its penalty
    with Trial(world, relayd='limits = { penalty_failed = "0"; };') as trial:
        trial.start()
        limited = {}
        for pid in (trial.relay.pid, *trial.workers(), trial.tunnel.pid):
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                data = int(re.search(r"VmData:\s+(\d+)", file.read()).group(1)) << 10
            limited[pid] = resource.prlimit(pid, resource.RLIMIT_DATA, (data + (1 << 20), resource.RLIM_INFINITY))
        flood = []
        for _ in range(50):
            with contextlib.suppress(OSError):
                flood.append(trial.tunnel.dial("echo"))
                flood[-1].settimeout(0.05)
                flood[-1].sendall(trial.canary * 2000)
        trial.load.wait_for_progress(64 << 10)
        for sock in flood:
            sock.close()
        for pid, both in limited.items():
            resource.prlimit(pid, resource.RLIMIT_DATA, both)
        trial.load.wait_for_progress(64 << 10)
        trial.end_load(are_well=False)


class Sweep:
    """One program in a short life again and again: start, a tunnel, an echo, the end; each time another call of it fails."""

    def __init__(self, world, program, family):
        self.world, self.program, self.family = world, program, family
        self.echo = world.target(harness.echo)
        world.broker()
        self.relay = self.agent = None
        if program != "relayd":
            self.relay = world.relay()
        if program != "agentd":
            self.agent = world.agent(GOTTHARD_AGENT_DATA_PORT=self.echo.port, **self.short)

    short = {"GOTTHARD_RESUME_WINDOW": "2s", "GOTTHARD_PEER_TIMEOUT": "3s"}

    def env(self, at):
        paths = {f"FAIL_{name.upper()}": self.world.folder / name for name in ("tally", "done")}
        for path in paths.values():
            path.unlink(missing_ok=True)
        return {"LD_PRELOAD": SHIMS / "shim-fail.so", "FAIL_CALL": self.family, "FAIL_AT": at, **paths}

    def run(self, at):
        """Returns how many calls there were."""
        env = self.env(at)
        process = None
        if self.program == "relayd":
            process = harness.Process(self.world, self.world.unique("relayd"), [harness.PROGRAMS["relayd"]],
                                      env={**self.world.relay_environment(), **{k: str(v) for k, v in env.items()}})
            wait_until(lambda: harness.is_listening(self.world.relay_port) or not process.is_running(), "it is there")
        elif self.program == "agentd":
            process = self.world.agent(GOTTHARD_AGENT_DATA_PORT=self.echo.port, wait=False, **self.short, **env)
            begun = time.monotonic()  # the line itself may be what was lost
            wait_until(lambda: "online" in process.log() or not process.is_running() or time.monotonic() - begun > 5, "it is online")
        code = self.tunnel(env if self.program == "cli" else {})
        if self.program == "cli":
            assert code in DOCUMENTED["cli"], f"{self.family} {at}: the command ended with {code}"
        if process is None or process.is_running():
            if code != 0:  # what failed once is no reason to fail again
                wait_until(lambda: self.tunnel({}) == 0, f"{self.family} {at}: it works the next time", limit=20)
        if process is not None:
            process.send(signal.SIGTERM)
            process.send(signal.SIGTERM)
            assert process.wait(15) in DOCUMENTED[self.program], f"{self.family} {at}: {process.child.returncode}"
            workers = re.findall("its process was killed.*", process.log())
            assert not workers, f"{self.family} {at}: {workers}"
        self.forget()
        tally = self.world.folder / "tally"
        return max(map(int, tally.read_text().split()), default=0) if tally.exists() else 0

    def tunnel(self, env):
        """The exit status; -1000 for one that had to be told to end because it did not work."""
        tunnel = self.world.connect("GatewayOli", wait=False, GOTTHARD_CLIENT_ANSWER_TIMEOUT="2s", **self.short, **env)
        begun = time.monotonic()
        wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"] or
                   time.monotonic() - begun > 10, "up or over")
        works = False
        if tunnel.is_running():
            with contextlib.suppress(OSError, AssertionError):
                with tunnel.dial() as sock:
                    sock.settimeout(10)
                    sock.sendall(b"hello")
                    works = harness.receive_exactly(sock, 5) == b"hello"
        code = tunnel.stop(signal.SIGINT, limit=15)
        return code if code != 0 or works or env else -1000

    def forget(self):
        """Hundreds of ended processes need no log."""
        for process in [p for p in self.world.processes if not p.is_running()]:
            self.world.processes.remove(process)
            if not re.search("Sanitizer", process.log()):
                process.log_path.unlink()
                process.out_path.unlink()


FAMILIES = ["malloc", "accept", "socket", "open", "write", "splice", "SSL_write"]


@unsanitized
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_no_memory_at_the_start(world, program):
    """Every second of the first allocations, where libraries set themselves up and are easily surprised."""
    argv, env = {
        "relayd": (["--check-config"], world.relay_environment()),
        "agentd": (["--check-config"], world.agent_environment("GatewayOli")),
        "cli": (["status", "GatewayOli"], world.cli_environment("alice")),
    }[program]
    for at in range(random.choice((1, 2)), 200, 2):
        done = world.folder / f"done-{at}"
        ended = subprocess.run(
            [harness.PROGRAMS[program], *argv], capture_output=True, text=True, timeout=LIMIT, cwd=world.folder, check=False,
            env={**env, "LD_PRELOAD": str(SHIMS / "shim-fail.so"), "FAIL_CALL": "malloc", "FAIL_AT": str(at),
                 "FAIL_DONE": str(done)}, stdin=subprocess.DEVNULL)
        assert done.exists() and ended.returncode in DOCUMENTED[program], (at, ended.returncode, ended.stderr)


@unsanitized
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_a_call_fails(world, program, family):
    """The n-th of it, for a few n; nobody crashes or hangs, and after that it works."""
    sweep_of(world, program, family, n_points=5 if family == "malloc" else 2)


@unsanitized
@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_f26_a_call_fails_at_many_n(world, program, family):
    sweep_of(world, program, family, n_points=int(os.environ.get("GOTTHARD_SWEEP", "300")))


def sweep_of(world, program, family, n_points):
    sweep = Sweep(world, program, family)
    n_calls = sweep.run(0)
    seed = os.environ.get("GOTTHARD_SEED", str(random.randrange(1 << 32)))
    chance = random.Random(int(seed))
    points = range(1, n_calls + 1)
    if n_calls > n_points:  # anywhere, one in each of so many equal parts
        points = [1 + int(n_calls * (i + chance.random()) / n_points) for i in range(n_points)]
    print(f"GOTTHARD_SEED={seed}: {program} has {n_calls} calls of {family}; {len(list(points))} of them fail")
    for at in points:
        print("at", at, flush=True)
        sweep.run(at)


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="a full disk of its own takes a mount")
def test_f27_disk_of_the_log_is_full(world):
    """Both services log to a disk of 64 KiB until it is full: they lose lines, and nothing else; later there are lines again."""
    disk = world.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        for n in range(1, 20):
            for name in ("relayd", "agentd-GatewayOli"):
                (world.folder / f"{name}-{n}.log").symlink_to(disk / f"{name}-{n}.log")
        with Trial(world) as trial:
            trial.start()
            services = trial.relay, trial.agent
            trial.stand_by()
            with pytest.raises(OSError), open(disk / "everything else", "wb", buffering=0) as file:
                while True:
                    assert file.write(bytes(1024)) == 1024, "full"
            sizes = {}
            while sizes != (sizes := {p.name: p.log_path.stat().st_size for p in services}):
                for _ in range(20):
                    for process in services:
                        process.send(signal.SIGUSR1)
                        time.sleep(0.002)
            trial.hear_echo()
            trial.load.wait_for_progress(64 << 10)
            for process in services:
                os.truncate(process.log_path, 0)
            trial.status()
            assert "log lost=" in trial.relay.log()
    finally:
        for link in world.folder.glob("*.log"):
            if link.is_symlink():
                text = link.read_bytes() if link.exists() else b""
                link.unlink()
                link.write_bytes(text)
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("how", ["full", "closed", "not read"])
def test_f27_log_that_takes_nothing(world, how):
    """/dev/full, a pipe without a reader, and one that nobody reads: no write blocks, and none ends a program."""
    reader, writer = os.pipe()
    if how == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    elif how == "closed":
        os.close(reader)
    with Trial(world) as trial:
        trial.tunnel.close_politely()
        trial.wait_no_workers()
        for process in (trial.agent, trial.relay):
            assert process.stop() == 0
        trial.start_relay(preexec=lambda: os.dup2(writer, 2) and None)
        trial.start_agent(preexec=lambda: os.dup2(writer, 2) and None, wait=False)
        wait_until(lambda: "online" in world.cli("status", "GatewayOli").stdout, "the agent is there")
        trial.tunnel = trial.connect()
        trial.start()
        trial.stand_by()
        for _ in range(500):
            for process in (trial.relay, trial.agent):
                process.send(signal.SIGUSR1)
        trial.relay.send(signal.SIGHUP)
        trial.hear_echo()
        trial.load.wait_for_progress(64 << 10)
        trial.end_load()
        trial.quiet()
        trial.isolated()
        trial.end_tunnels()
        for process in (trial.agent, trial.relay):  # those whose log can be read take their place
            assert process.stop() == 0
        trial.start_relay()
        trial.start_agent()
    for fd in {writer} | ({reader} if how != "closed" else set()):
        os.close(fd)


# --- the wall clock -------------------------------------------------------------------------------

TEN_YEARS = 3652 * 86400


class WallClock:
    """How far it is off, for whoever runs with this environment."""

    def __init__(self, world):
        self.path = world.folder / "shift"
        self.shift(0)
        self.env = {"LD_PRELOAD": SHIMS / "shim-clock.so", "CLOCK_SHIFT": self.path}

    def shift(self, seconds):
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds)))


@unsanitized
def test_f28_wall_clock_jumps(world):
    """Of all three, in the middle of it: ten years on, ten back, to 1970. Nobody's deadline is there."""
    clock = WallClock(world)
    with Trial(world, relay_env=clock.env, agent_env=clock.env, cli_env=clock.env) as trial:
        trial.start()
        trial.cli_env = {}  # who comes later has the right time, and so his certificates are good
        for jump, year in (TEN_YEARS, "20[3-9]"), (-TEN_YEARS, "20[12]"), (-time.time(), "1970-01-01"), (0, "20"):
            clock.shift(jump)
            trial.load.wait_for_progress(64 << 10)
            trial.hear(trial.tunnel)
            trial.hear_echo()
            trial.relay.send(signal.SIGUSR1)
            assert trial.relay.wait_for(rf"^{year}.* status sessions=1")  # before the clock goes on


@unsanitized
def test_f28_wall_clock_of_1970_at_boot(world):
    """The relay works at once. The broker's certificate is not valid yet: the agent waits until the time is there."""
    clock = WallClock(world)
    clock.shift(-time.time())
    with Trial(world) as trial:
        assert trial.tunnel.close_politely() == 0
        trial.wait_no_workers()
        for process in (trial.agent, trial.relay):
            assert process.stop() == 0
        trial.relay_env.update({k: str(v) for k, v in clock.env.items()})
        trial.agent_env.update(clock.env)
        trial.start_relay()
        trial.start_agent(wait=False)
        trial.agent.wait_for("broker not reachable")
        assert "1970-01-01" in trial.agent.log()
        trial.quiet()
        clock.shift(0)
        trial.agent.wait_for(harness.AGENT_READY, limit=30)
