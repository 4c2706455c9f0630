# SPDX-License-Identifier: ISC
"""Many real agents at one broker: the cost of an idle one, and their return after a restart of the broker.

The restarted broker has a share of one core only, so that its work of a return (TLS handshakes above all) takes longer than
the agents could wait if they returned at once. Good: they return in a spread, and no connection is given up and repeated.
"""

import collections
import pathlib
import re
import statistics
import time

import fleet_confinement
import harness
from fleet_ground import Ground
from fleet_report import Section
from process_stats import cpu_and_wakeups, pss_kib

MOST = 3000
MIB_EACH = 4  # memory of one agent with its sockets and its share of the broker's
SETTLE_S = 20  # after a connection, before its idle cost is measured
SAMPLE = 100  # agents whose idle cost is measured
BINS = 30  # columns of the histogram
ONLINE = re.compile(r"\bonline broker=")
LOST = re.compile(r"broker not reachable .*?reason=\"([^\"]*)\"")
CONNECTED = re.compile(r"^(\d+): New client connected from \S+ as (\S+) ", re.MULTILINE)
TIMED_OUT = re.compile(r"no answer|timed out", re.IGNORECASE)


def n_by_memory():
    """Returns how many agents the available memory holds; a third of it stays free."""
    text = pathlib.Path("/proc/meminfo").read_text()
    available_mib = int(re.search(r"^MemAvailable:\s+(\d+)", text, re.MULTILINE).group(1)) // 1024
    return max(1, min(MOST, available_mib * 2 // 3 // MIB_EACH))


def idle_cost(agents, seconds):
    """Returns the average of some agents: CPU in ms/min, wake-ups/min, PSS in KiB."""
    sample = agents[::max(1, len(agents) // SAMPLE)]
    time.sleep(min(SETTLE_S, seconds))
    before, begin = [cpu_and_wakeups(agent.pid) for agent in sample], time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - begin) / 60
    after = [cpu_and_wakeups(agent.pid) for agent in sample]
    cpu = statistics.mean(b[0] - a[0] for a, b in zip(before, after)) / minutes
    wakeups = statistics.mean(b[1] - a[1] for a, b in zip(before, after)) / minutes
    return cpu * 1000, wakeups, statistics.mean(pss_kib(agent.pid) for agent in sample)


class Return:
    """The return of all agents to a broker that restarts."""

    def __init__(self, ground, agents, broker, options):
        self.ground, self.agents = ground, agents
        self.n_online = {agent: len(ONLINE.findall(agent.log())) for agent in agents}
        self.lengths = {agent: len(agent.log()) for agent in agents}
        broker.stop()
        time.sleep(options.outage)
        self.confinement = fleet_confinement.confinement(options.share)
        self.began = time.time()
        self.broker = ground.mosquitto(ground.shipped_example(), self.confinement.add)
        self.is_complete = self._wait(options.limit)
        self.cpu_s = harness.cpu_seconds(self.broker.pid)
        self.took = time.time() - self.began
        self.seconds = self._seconds()
        self.reasons = self._reasons()

    def _wait(self, limit):
        """Waits for one agent after the other: few of them have to be looked at."""
        end = time.monotonic() + limit
        try:
            for agent in self.agents:
                agent.wait_for(ONLINE.pattern, max(1, end - time.monotonic()), count=self.n_online[agent] + 1)
        except AssertionError:
            return False
        return True

    def _seconds(self):
        """Returns the seconds, by the broker's log, at which each agent connected for the last time."""
        last = {name: int(at) for at, name in CONNECTED.findall(self.broker.log()) if name.startswith("device-")}
        return sorted(at - int(self.began) for at in last.values())

    def _reasons(self):
        """Returns the number of failures by their reasons, from the agents' logs since the broker stopped."""
        reasons = collections.Counter()
        for agent in self.agents:
            reasons.update(LOST.findall(agent.log()[self.lengths[agent]:]))
        return reasons

    def n_timed_out(self):
        return sum(n for reason, n in self.reasons.items() if TIMED_OUT.search(reason))

    def n_connects(self):
        return len(re.findall(r"^\d+: New connection from", self.broker.log(), re.MULTILINE))

    def at(self, part):
        return self.seconds[int((len(self.seconds) - 1) * part)] if self.seconds else float("nan")

    def histogram(self):
        """Returns (width of a bin in s, returns in each bin)."""
        width = max(1, -(-(self.at(1) + 1) // BINS)) if self.seconds else 1
        counts = collections.Counter(second // width for second in self.seconds)
        return width, [counts[i] for i in range(max(counts, default=0) + 1)]

    def most_per_second(self):
        return max(collections.Counter(self.seconds).values(), default=0)

    def close(self):
        self.confinement.close()


def rows_of(back, n):
    width, counts = back.histogram()
    yield "the broker's share of a core", back.confinement.description
    yield "agents", str(n)
    yield "online again", f"{len(back.seconds)} of {n}" if not back.is_complete else "all"
    yield "half of them, 90 %, 99 %, all after", " / ".join(f"{back.at(part)} s" for part in (.5, .9, .99, 1))
    yield f"returns in each {width} s", " ".join(map(str, counts))
    yield "most returns in a second", str(back.most_per_second())
    yield "connections that the broker accepted", str(back.n_connects())
    yield "connections given up by a time-out", str(back.n_timed_out())
    yield "CPU time of the broker", f"{back.cpu_s:.1f} s"
    for reason, count in back.reasons.most_common():
        yield f"failure “{reason}”", str(count)


def costs_row(name, costs):
    cpu, wakeups, pss = costs
    return name, f"{cpu:.2f} ms CPU/min, {wakeups:.1f} wake-ups/min, {pss:.0f} KiB PSS"


def run(options, progress):
    """Returns the section of the report and whether all is well."""
    n = options.n or n_by_memory()
    if options.like:
        options.share *= n / options.like
    ground = Ground()
    back = None
    try:
        broker = ground.mosquitto(ground.shipped_example())
        configuration = ground.devices_configuration()
        begin = time.monotonic()
        agents = ground.agents(n, configuration, **options.variables)
        progress(f"{n} agents are online after {time.monotonic() - begin:.0f} s")
        before = idle_cost(agents, options.idle)
        progress("the broker restarts")
        back = Return(ground, agents, broker, options)
        progress(f"{len(back.seconds)} are back after {back.took:.0f} s")
        after = idle_cost(agents, options.idle)
        rows = [*rows_of(back, n), costs_row("one idle agent, before", before), costs_row("one idle agent, after", after)]
    finally:
        ground.close()
        if back:  # its control group is empty now
            back.close()
    return section(options, n, rows), back.is_complete and back.n_timed_out() <= n / 100


def section(options, n, rows):
    more = f", as much for each agent as {options.share * options.like / n:g} for {options.like} agents" if options.like else ""
    variables = "".join(f", {name}={value}" for name, value in options.variables.items())
    return Section(f"Return after a restart of the broker{variables}", [
        f"`tests/fleet agents`: real agents at mosquitto with the shipped example. It stops for {options.outage:g} s and then has "
        f"{options.share:.3g} of a core{more}. Times count from its start.",
        f"The idle cost is the average of {SAMPLE} agents at most, over {options.idle:g} s, at the default keep-alive interval.",
    ], ["figure", "value"], rows)
