# SPDX-License-Identifier: ISC
"""Groups of candidates and the figures of each, interleaved (A B C A B C).

A figure that could not be measured is a sentence in `failures`, and the run continues.
"""

import itertools
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import candidates
import harness
import measures
from faultproxy import Proxy
from harness import wait_until


class Plan:
    """The durations of the measurements."""

    def __init__(self, is_quick=False, rounds=None):
        self.rounds = rounds or (3 if is_quick else 5)
        self.seconds = 0.25 if is_quick else 0.4
        self.streams = (1, 8) if is_quick else (1, 8, 64)
        self.held = (1000,) if is_quick else (1000, 5000)
        self.idle_seconds = 2 if is_quick else 4
        self.round_trips = (50,) if is_quick else (50, 150)
        self.wan_rounds = 1 if is_quick else 2
        self.wan_seconds = 2 if is_quick else 4
        self.ping_seconds = 16 if is_quick else 31


class Results:
    def __init__(self):
        self.values = {}  # group: {candidate: {figure: [value a round]}}
        self.failures = {}  # group: {candidate: [sentence]}
        self.lock = threading.Lock()

    def add(self, group, name, figures):
        with self.lock:
            of_candidate = self.values.setdefault(group, {}).setdefault(name, {})
            for figure, value in figures.items():
                of_candidate.setdefault(figure, []).append(value)

    def fail(self, group, name, why):
        with self.lock:
            known = self.failures.setdefault(group, {}).setdefault(name, [])
            sentence = " ".join(str(why).split())[:300]
            if sentence not in known:
                known.append(sentence)

    def take(self, group, candidate, step):
        """Adds the figures that @step(candidate) returns, or the reason of its failure."""
        try:
            self.add(group, candidate.name, step(candidate))
        except PermissionError:
            self.fail(group, candidate.name, "requires root: the process is not dumpable")
        except (measures.Failed, AssertionError, OSError, ValueError) as error:
            self.fail(group, candidate.name, error)


def show_progress(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


class Stage:
    """Starts the candidates, with one common target or (@is_apart) one target each, to be measured at once. Candidates that do
    not start are omitted. Everything is stopped at the end."""

    def __init__(self, results, group, classes, is_apart=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-bench-"))
        self.targets = [measures.Target(self.folder / f"target-{n}") for n in range(len(classes) if is_apart else 1)]
        self.candidates = []
        for number, cls in enumerate(classes):
            candidate = cls(self.folder / str(number), self.targets[number % len(self.targets)])
            self.candidates.append(candidate)
        self.results, self.group = results, group

    def __enter__(self):
        try:
            for candidate in self.candidates:
                self._start(candidate)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, candidate):
        try:
            candidate.start()
            candidate.is_up = True
        except (AssertionError, OSError, ValueError, candidates.machine.Unavailable) as error:
            self.results.fail(self.group, candidate.name, error)

    def __exit__(self, *_):
        for candidate in self.candidates:
            candidate.close()
        for target in self.targets:
            target.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def up(self):
        return [c for c in self.candidates if c.is_up]


def _interleave(results, group, stage, rounds, steps):
    for number in range(rounds):
        for step, candidate in itertools.product(steps, stage.up()):
            results.take(group, candidate, step)
        show_progress(f"{group}: round {number + 1} of {rounds}")


def run_relay(results, plan, classes):
    with Stage(results, "relay", classes) as stage:
        _interleave(results, "relay", stage, plan.rounds,
                    [lambda c, n=n: measures.throughput(c, "down", n, plan.seconds) for n in plan.streams] +
                    [lambda c: measures.echo(c, plan.seconds)])
    with Stage(results, "relay", [c for c in classes if c.hops]) as stage:
        _interleave(results, "relay", stage, 1, [lambda c: measures.idle(c, 1000, plan.idle_seconds)])


def run_tunnel(results, plan, classes, wanted=("tunnel", "latency", "connections")):
    """Three groups with the same candidates, which start once."""
    steps = {
        "tunnel": [lambda c, way=way, n=n: measures.throughput(c, way, n, plan.seconds)
                   for way in ("down", "up") for n in plan.streams],
        "latency": [lambda c: measures.echo(c, plan.seconds), lambda c: measures.echo_beside_bulk(c, plan.seconds),
                    lambda c: measures.echo_beside_other_tunnel(c, plan.seconds),
                    lambda c: measures.echo_beside_new_bulk(c, 2 * plan.seconds), measures.moving],
        "connections": [lambda c, n=n: measures.connections(c, n, 2 * plan.seconds) for n in (1, 8, 64)] +
                       [lambda c: measures.first_byte(c, 2 * plan.seconds, 0.02), lambda c: measures.burst(c, 200)],
    }
    with Stage(results, wanted[0], classes) as stage:
        for group in wanted:
            _interleave(results, group, stage, plan.rounds, steps[group])


# --- idle -----------------------------------------------------------------------------------------


class Agent(candidates.Gotthard):
    """An idle agent, and the proxy that counts its bytes to the broker."""

    name, keepalive = "gotthard-agentd, idle", 900

    def start(self):
        self.env.broker()
        self.proxy = Proxy.before_port(self.env.broker_port)
        self.agent = self.env.agent(GOTTHARD_MQTT_ENDPOINT=f"localhost:{self.proxy.port}",
                                    GOTTHARD_MQTT_KEEPALIVE=f"{self.keepalive}s", GOTTHARD_AGENT_HOST_KEYS="")
        self.roots = [self.agent]

    def close(self):
        super().close()
        self.proxy.close()

    def n_bytes(self):
        return sum(c["up"] + c["down"] for c in self.proxy.connections())


class PingingAgent(Agent):
    name, keepalive = "gotthard-agentd, keep-alive 5 s", 5


HEADERS = 3 * (20 + 20 + 12)  # of IP and TCP with timestamps: the ping, its answer, and the ACK of that


def _pings(candidate, seconds):
    """(bytes, pings) within about @seconds: a ping and its answer are one burst."""
    counts, end = [candidate.n_bytes()], time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        counts.append(candidate.n_bytes())
    bursts = [after - before for before, after in zip(counts, counts[1:]) if after > before]
    return sum(bursts), len(bursts)


def _idle_agent(candidate, seconds):
    wakeups, begin = measures.n_wakeups(candidate), time.monotonic()
    n_bytes, n_pings = _pings(candidate, seconds)
    took = time.monotonic() - begin
    figures = {
        "PSS KiB": measures.pss_kib(candidate),
        "descriptors": measures.n_descriptors(candidate),
        "wake-ups/s": (measures.n_wakeups(candidate) - wakeups) / took,
    }
    if n_pings:
        figures["payload bytes/ping"] = n_bytes / n_pings
        figures["KB/day at 15 min keep-alive"] = 96 * (n_bytes / n_pings + HEADERS) / 1000
    return figures


def run_idle(results, plan, classes):
    for cls in classes:
        with Stage(results, "idle", [cls]) as stage:
            for n in plan.held:
                for candidate in stage.up():
                    if n <= candidate.most_streams:
                        results.take("idle", candidate, lambda c, n=n: measures.idle(c, n, plan.idle_seconds))
        show_progress(f"idle: {cls.name}")
    if candidates.Gotthard in classes:
        with Stage(results, "idle agent", [Agent, PingingAgent]) as stage:
            time.sleep(plan.idle_seconds)  # the candidate has finished starting
            for candidate in stage.up():
                results.take("idle agent", candidate, lambda c: _idle_agent(c, plan.ping_seconds))


# --- a slow network -------------------------------------------------------------------------------


def _cold_connect(candidate):
    begin = time.monotonic()
    tunnel = candidate.tunnel(wait=False)
    wait_until(lambda: '"up"' in tunnel.out() or not tunnel.is_running(), "up", step=0.002)
    took = time.monotonic() - begin
    tunnel.disconnect()
    return {"cold connect ms": 1000 * took}


def _wan_figures(results, group, candidate, seconds):
    if isinstance(candidate, candidates.Gotthard):
        results.take(group, candidate, _cold_connect)

    def connect(c):
        return {"new connection p50 ms": measures.first_byte(c, seconds, 0.5)["first byte p50 us"] / 1000}

    def bulk(c, way):
        figure = measures.throughput(c, way, 1, seconds, warm_up=1)
        return {f"Mbit/s {way}": 1000 * figure[f"Gbit/s {way} 1"]}

    def echo(c):
        return {"echo p50 ms": measures.echo(c, seconds / 2)["echo p50 us"] / 1000}

    for step in (connect, echo, lambda c: measures.burst(c, 64), lambda c: measures.answer(c, seconds, 0.5),
                 lambda c: bulk(c, "down"), lambda c: bulk(c, "up")):
        results.take(group, candidate, step)


def run_wan(results, plan, classes):
    """All candidates at once: at 10 Mbit/s the machine has nothing to do."""
    for round_trip in plan.round_trips:
        group = f"wan {round_trip} ms"
        candidates.Slow.one_way_ms, candidates.Slow.bits = round_trip / 4, 10_000_000
        with Stage(results, group, classes, is_apart=True) as stage:
            for number in range(plan.wan_rounds):
                harness.in_threads(*[lambda c=c: _wan_figures(results, group, c, plan.wan_seconds) for c in stage.up()])
                show_progress(f"{group}: round {number + 1} of {plan.wan_rounds}")


# --- recovery -------------------------------------------------------------------------------------


def run_recovery(results, plan, classes):
    with Stage(results, "recovery", classes) as stage:
        _interleave(results, "recovery", stage, plan.rounds, [lambda c, n=n: measures.recovery(c, n) for n in (8, 100)])


IDLE = (candidates.Gotthard, candidates.HaproxyTls, candidates.NginxTls, candidates.Stunnel, candidates.Ssh,
        candidates.RatholeNoise, candidates.FrpTls, candidates.Chisel)
GROUPS = ("relay", "tunnel", "latency", "connections", "idle", "recovery", "wan")


def run(results, plan, wanted, is_wanted):
    """@wanted: names of groups; @is_wanted(class): whether a candidate is in the run."""

    def those(classes):
        return [c for c in classes if is_wanted(c)]

    together = tuple(g for g in ("tunnel", "latency", "connections") if g in wanted)
    if "relay" in wanted:
        run_relay(results, plan, those(candidates.RELAYS))
    if together:
        run_tunnel(results, plan, those(candidates.TUNNELS), together)
    if "idle" in wanted:
        run_idle(results, plan, those(IDLE))
    if "recovery" in wanted:
        run_recovery(results, plan, those([candidates.Gotthard]))
    if "wan" in wanted:
        run_wan(results, plan, those(candidates.SLOW))
