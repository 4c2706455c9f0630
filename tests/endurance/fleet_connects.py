# SPDX-License-Identifier: ISC
"""Many `connect` at once from one address, to as many devices and to one. Each comes up, or is refused soon by the name of a limit."""

import collections
import dataclasses
import json
import re
import subprocess
import threading
import time

import harness
from fleet_ground import Ground
from fleet_report import Section

SOON_S = 2.
UP, REFUSED, FAILED, SILENT = "up", "refused", "failed", "silent"
NAME_OF_LIMIT = re.compile(r"\b(?:limits|timeouts)\.\w+|\bsessions_per_\w+|\bbusy\b")


class Connect:
    """One `connect --json` and its first result."""

    def __init__(self, ground, device, environment):
        self.result = None  # (kind, seconds, text)
        self.began = time.monotonic()
        self.child = subprocess.Popen([harness.PROGRAMS["cli"], "connect", "--json", device, "0:echo"], text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                      cwd=ground.folder, env=environment)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.child.stdout:
            seconds, event = time.monotonic() - self.began, json.loads(line)
            if self.result:
                continue
            if event["event"] == "up":
                self.result = UP, seconds, ""
            elif event["event"] == "error":
                text = f"{event['message']} {event.get('hint', '')}"
                named = NAME_OF_LIMIT.search(text)
                self.result = (REFUSED, seconds, named[0]) if named else (FAILED, seconds, f"{event['message']} ({event['id']})")
        self.result = self.result or (SILENT, time.monotonic() - self.began, "the command ended without a result")

    def close(self):
        self.child.terminate()
        try:
            self.child.wait(harness.LIMIT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.thread.join()
        self.child.stdout.close()


@dataclasses.dataclass
class Case:
    name: str
    is_to_one: bool
    limits: str = ""  # of the devices


def cases(n):
    return (Case(f"to {n} devices", False), Case("to one device", True),
            Case(f"to one device that permits {n}", True, f"sessions = {n}; sessions_per_operator = {n};"))


def at_part(values, part):
    return sorted(values)[round((len(values) - 1) * part)] if values else None


def seconds(value):
    return "-" if value is None else f"{value:.2f}"


def row_of(case, results, n):
    """Returns the row of a case and whether it is good."""
    times = {kind: [result[1] for result in results if result[0] == kind] for kind in (UP, REFUSED, FAILED, SILENT)}
    texts = collections.Counter(result[2] for result in results if result[2])
    n_other = n - len(times[UP]) - len(times[REFUSED])
    slowest = max(times[REFUSED], default=None)
    row = [case.name, n, len(times[UP]), len(times[REFUSED]), n_other, seconds(at_part(times[UP], .5)), seconds(at_part(times[UP], .99)),
           seconds(slowest), "; ".join(f"{count} × {text}" for text, count in texts.most_common(4)) or "-"]
    return row, n_other == 0 and (slowest or 0) <= SOON_S


def measure(case, n, progress):
    ground = Ground(n_relay_ports=2 * n)
    connects = []
    try:
        ground.mosquitto(ground.shipped_example())
        ground.env.relay()
        port = ground.env.target(harness.echo).port
        configuration = ground.devices_configuration(limits=case.limits, services=f'echo = "127.0.0.1:{port}";')
        agents = ground.agents(1 if case.is_to_one else n, configuration)
        progress(f"{case.name}: {len(agents)} agents are online")
        environment = ground.operator_environment()
        connects = [Connect(ground, f"device-{0 if case.is_to_one else i:05}", environment) for i in range(n)]
        harness.wait_until(lambda: all(connect.result for connect in connects), "each connect has a result", 120, .1)
        return row_of(case, [connect.result for connect in connects], n)
    finally:
        for connect in connects:
            connect.close()
        ground.close()


def run(options, progress):
    """Returns the section of the report and whether all is well."""
    n = options.n or 64
    measured = [measure(case, n, progress) for case in cases(n)]
    section = Section("Many connects at once", [
        f"`tests/fleet connects`: {n} commands of one operator start at once on one machine, with everything else on the same machine. Relay "
        "and agents have their default limits, unless the row states others. Times count from the start of each command, in seconds.",
        f"Each command comes up, or is refused within {SOON_S:g} s by the name of a limit.",
    ], ["connects", "number", "up", "refused by a named limit", "other", "up p50", "up p99", "slowest refusal", "reasons"],
        [row for row, _ in measured])
    return section, all(is_good for _, is_good in measured)
