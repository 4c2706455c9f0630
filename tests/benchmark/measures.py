# SPDX-License-Identifier: ISC
"""The figures of a candidate: one function for each.

The load and the target are two C programs, the same for every candidate (load.c, target.c). CPU, memory, descriptors and
wake-ups are the kernel's figures of the processes that transfer payload, including all their descendants.
"""

import contextlib
import os
import pathlib
import subprocess
import threading
import time

import harness
from harness import wait_until

TICK = os.sysconf("SC_CLK_TCK")
LIMIT = 30  # seconds: the limit of one measurement, for any peer
LIMIT_PER_STREAM = 0.05  # seconds: added to it for each stream


class Failed(Exception):
    """The reason, in one sentence, why there is no figure."""


class Target:
    """The target of every candidate of a group."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.port = harness.free_ports(1)
        self.socket, self.counters = folder / "target.sock", folder / "counters"
        self.child = subprocess.Popen([TOOLS / "target", str(self.port), self.counters, self.socket],
                                      stdin=subprocess.PIPE)
        wait_until(lambda: harness.is_listening(self.port), "the target listens")

    def close(self):
        self.child.stdin.close()
        self.child.wait(LIMIT)


TOOLS = harness.BUILD / "tests" / "benchmark"


class Load:
    """One run of load.c. Its lines are read as they arrive; closing its standard input ends it."""

    def __init__(self, candidate, what, n=1, seconds=None, warm_up=None, gap=None, address=None):
        argv = [TOOLS / "load", what, *(address or candidate.load()), "-n", n, "-c", candidate.target.counters]
        for option, value in (("-t", seconds), ("-w", warm_up), ("-g", gap)):
            argv += [option, value] if value is not None else []
        environment = getattr(candidate, "load_environment", lambda: None)()
        self.child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, env=environment)
        # A peer that does not answer must not block the run.
        self.timer = threading.Timer(LIMIT + (seconds or 0) + (warm_up or 0) + n * LIMIT_PER_STREAM, self.child.kill)
        self.timer.start()

    def line(self, wanted):
        """Returns the numbers of the next line, which must begin with @wanted."""
        word, *numbers = self.child.stdout.readline().split() or [""]
        if word != wanted:
            self.child.kill()
            raise Failed(self.child.stderr.read().strip()[-120:] or "no answer")
        return [float(x) for x in numbers]

    def say(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def is_running(self):
        return self.child.poll() is None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(LIMIT)
        self.timer.cancel()
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        self.child.stderr.close()


# --- figures of the kernel ------------------------------------------------------------------------


def tree(candidate):
    """Returns the pids of all processes of a candidate that transfer payload."""
    found, todo = [], [p.pid for p in candidate.roots]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            todo += harness.children_of(pid)
    return found


def cpu(candidate):
    """{pid: seconds}"""
    seconds = {}
    for pid in tree(candidate):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            seconds[pid] = (int(fields[11]) + int(fields[12])) / TICK
    return seconds


def cpu_between(before, after):
    return sum(seconds - before.get(pid, 0) for pid, seconds in after.items())


def _sum_of(candidate, name, key):
    total = 0
    for pid in tree(candidate):
        with contextlib.suppress(FileNotFoundError):
            for line in pathlib.Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(key):
                    total += int(line.split()[1])
    return total


def pss_kib(candidate):
    return _sum_of(candidate, "smaps_rollup", "Pss:")


def n_descriptors_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def n_descriptors(candidate):
    return sum(n_descriptors_of(pid) for pid in tree(candidate))


def n_wakeups(candidate):
    """Returns the number of voluntary context switches, each of which is followed by a wake-up."""
    total = 0
    for pid in tree(candidate):
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                text = (task / "status").read_text()
                total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def slab_kib():
    """The slab memory of the kernel, for the whole machine. It includes sockets."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1])
    return 0


# --- figures: a dictionary each -------------------------------------------------------------------


def settle(candidate, limit=3):
    """Waits until a candidate is idle, so that the next one is measured alone."""
    end, before = time.monotonic() + limit, cpu(candidate)
    while time.monotonic() < end:
        time.sleep(0.03)
        after = cpu(candidate)
        if cpu_between(before, after) < 1.5 / TICK:
            return
        before = after


def throughput(candidate, way, n, seconds, warm_up=None):
    with Load(candidate, way, n, seconds, warm_up) as load:
        load.line("begin")
        before, begin = cpu(candidate), time.monotonic()
        n_bytes, took = load.line("end")
        after, end = cpu(candidate), time.monotonic()
    settle(candidate)
    gbytes = n_bytes / 1e9
    if not gbytes:
        raise Failed("not a byte arrived")
    figures = {f"Gbit/s {way} {n}": gbytes * 8 / took}
    if candidate.roots:
        # The processes' figures cover a slightly longer interval than the byte counts.
        figures[f"CPU s/GB {way} {n}"] = cpu_between(before, after) * took / (end - begin) / gbytes
    return figures


def echo(candidate, seconds, label="echo", warm_up=None):
    with Load(candidate, "echo", 1, seconds, warm_up) as load:
        _, p50, p99 = load.line("end")
    return {f"{label} p50 us": p50, f"{label} p99 us": p99}


def echo_beside_bulk(candidate, seconds):
    """In the same tunnel, when the bulk connection has run for a while."""
    with Load(candidate, "down", 1, 0, warm_up=0.3) as bulk:
        bulk.line("begin")
        figures = echo(candidate, seconds, "echo beside bulk")
    settle(candidate)
    return figures


def echo_beside_other_tunnel(candidate, seconds):
    """Ours: the bulk connection is in another operator's tunnel, in processes of its own except for the relay."""
    if not hasattr(candidate, "other_tunnel"):
        return {}
    with Load(candidate, "down", 1, 0, warm_up=0.3, address=["-p", candidate.other_tunnel().port()]) as bulk:
        bulk.line("begin")
        figures = echo(candidate, seconds, "echo beside another tunnel's bulk")
    settle(candidate)
    return figures


NEW = 0.05  # seconds: the age up to which a bulk connection is a new one


def echo_beside_new_bulk(candidate, seconds):
    """In the same tunnel, beside bulk connections that have just begun."""
    with Load(candidate, "beside", 1, seconds, gap=NEW) as load:
        _, p50, p99 = load.line("end")
    settle(candidate)
    return {"echo beside new bulk p50 us": p50, "echo beside new bulk p99 us": p99}


def moving(candidate):
    """Ours: how long a bulk stream stays in the shared connection, until the relay has joined one of its own."""
    if not hasattr(candidate, "n_data_connections"):
        return {}
    settle(candidate)
    wait_until(lambda: candidate.n_data_connections() == 1, "only the shared connection is left", LIMIT)
    with Load(candidate, "down", 1, 0, warm_up=0) as bulk:
        bulk.line("begin")
        begin = time.monotonic()
        wait_until(lambda: candidate.n_data_connections() > 1, "the bulk stream moves", LIMIT, step=0.0005)
        took = time.monotonic() - begin
    settle(candidate)
    return {"bulk has moved ms": 1000 * took}


def connections(candidate, n, seconds):
    settle(candidate)
    before = cpu(candidate)
    with Load(candidate, "connect", n, seconds) as load:
        rate, _, _ = load.line("end")
    settle(candidate)
    figures = {f"connections/s {n}": rate}
    if candidate.roots:
        figures[f"CPU us/connection {n}"] = 1e6 * cpu_between(before, cpu(candidate)) / (rate * seconds)
    return figures


def burst(candidate, n):
    """@n connections at once: the longest that one of them takes to its echo."""
    with Load(candidate, "burst", n) as load:
        worst, p50, _ = load.line("end")
    settle(candidate)
    return {f"{n} at once, last ms": worst / 1000, f"{n} at once, p50 ms": p50 / 1000}


def answer(candidate, seconds, gap):
    """A new connection and an answer of 100 KiB, to the last byte."""
    with Load(candidate, "answer", 1, seconds, gap=gap) as load:
        _, p50, _ = load.line("end")
    return {"100 KiB answer p50 ms": p50 / 1000}


def recovery(candidate, n):
    """Of @n connections after a kill -9 of the relay: from its return until all of them have transferred data again."""
    with Load(candidate, "again", n) as load:
        load.line("held")
        load.say("")
        load.line("again")
        candidate.kill_and_start_relay()
        begin = time.monotonic()
        load.say("")
        load.line("again")
        took = time.monotonic() - begin
    settle(candidate)
    return {f"recovery ms {n}": 1000 * took}


def first_byte(candidate, seconds, gap):
    """Latency of occasional connections: a tool has time between two of them to prepare the next one."""
    with Load(candidate, "connect", 1, seconds, gap=gap) as load:
        _, p50, p99 = load.line("end")
    return {"first byte p50 us": p50, "first byte p99 us": p99}


def idle(candidate, n, seconds):
    """The cost of @n idle streams, of all processes together."""
    # The first time only: memory left from earlier streams would make later ones look cheap.
    before = candidate.at_rest = candidate.at_rest or (pss_kib(candidate), n_descriptors(candidate), slab_kib())
    relay_before = n_descriptors_of(candidate.relay.pid) if hasattr(candidate, "relay") else 0
    begin = time.monotonic()
    with Load(candidate, "hold", n) as load:
        load.line("held")
        took = time.monotonic() - begin
        time.sleep(5)  # data that is acknowledged late holds memory until then
        figures = {
            f"PSS KiB/stream {n}": (pss_kib(candidate) - before[0]) / n,
            f"descriptors/stream {n}": (n_descriptors(candidate) - before[1]) / n,
            f"slab KiB/stream {n}": (slab_kib() - before[2]) / n,
            f"opened/s {n}": n / took,
        }
        if hasattr(candidate, "relay"):
            figures[f"relay's descriptors/stream {n}"] = (n_descriptors_of(candidate.relay.pid) - relay_before) / n
        wakeups, seconds_of_cpu, begin = n_wakeups(candidate), cpu(candidate), time.monotonic()
        time.sleep(max(seconds, 2 * candidate.idle_cycle))
        took = time.monotonic() - begin
        figures[f"wake-ups/s {n}"] = max(0, n_wakeups(candidate) - wakeups) / took
        figures[f"CPU % {n}"] = 100 * cpu_between(seconds_of_cpu, cpu(candidate)) / took
        if not load.is_running():
            raise Failed(f"did not hold {n} streams")
    return figures
