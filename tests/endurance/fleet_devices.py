# SPDX-License-Identifier: ISC
"""`gotthard-cli devices` with fleets of any size, whose sealed states are retained by several brokers, over several networks.

A list is whole, or the command says that it is not and fails. A list that is silently short is the fault to look for.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time

import fleet_brokers
import harness
import states
from faultproxy import Proxy
from fleet_ground import Ground
from fleet_report import Section

LIMIT_S = 600  # for one list
WHOLE, DECLARED, SILENT = "whole", "not whole, as stated", "SILENTLY SHORT"


@dataclasses.dataclass
class Network:
    name: str
    round_trip_ms: int = 0
    pause_s: float = 0  # after each EVERY_S; nothing moves meanwhile

    EVERY_S = .5
    LIST_S = 3.  # the time of a list without the pauses, so that some of them are inside of it
    BITS_EACH = 8 * 350  # of a device's state with its headers
    RATE_MIN = 100_000  # bits per second: a TLS handshake of small lists takes less than a second

    def apply(self, proxy, n):
        """To the network of a list of @n devices."""
        proxy.command(f"delay {self.round_trip_ms / 2}")
        if self.pause_s:
            proxy.command(f"rate {max(self.RATE_MIN, int(n * self.BITS_EACH / self.LIST_S))}")


NETWORKS = (Network("below 1 ms"), Network("20 ms", 20), Network("600 ms", 600), Network("20 ms, pauses of 1 s", 20, 1.))


class Pauses:
    """Stops everything in a proxy again and again."""

    def __init__(self, proxy, network):
        self.proxy, self.network, self.is_over = proxy, network, threading.Event()
        self.thread = threading.Thread(target=self._run)
        if network.pause_s:
            self.thread.start()

    def _run(self):
        while not self.is_over.wait(Network.EVERY_S):
            self.proxy.command("black on")
            self.is_over.wait(self.network.pause_s)
            self.proxy.command("black off")

    def close(self):
        self.is_over.set()
        if self.network.pause_s:
            self.thread.join()


@dataclasses.dataclass
class List:
    """The result of one `devices`."""

    n_shown: int
    status: int
    seconds: float
    peak_mib: float
    error: str

    def verdict(self, n):
        if self.status == 0:
            return WHOLE if self.n_shown == n else SILENT
        return DECLARED

    def words(self, n):
        verdict = self.verdict(n)
        reason = self.error.removeprefix("the list is not whole: ") or "no reason"
        return verdict if self.status == 0 else f"{verdict}: {reason} (exit {self.status})"


def _events(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def run_to_its_end(child):
    """Returns the seconds and the largest resident set in MiB, as last seen in /proc: getrusage counts the time before exec."""
    begin, peak_kib = time.monotonic(), 0
    while child.poll() is None:
        with contextlib.suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{child.pid}/status").read_text(), re.MULTILINE)
            peak_kib = int(found[1]) if found else peak_kib
        if time.monotonic() - begin > LIMIT_S:
            child.kill()
        time.sleep(.02)
    return time.monotonic() - begin, peak_kib / 1024


def run_devices(folder, environment):
    """Runs the command in a home of its own: names that an earlier run has seen must not help."""
    home = pathlib.Path(tempfile.mkdtemp(dir=folder))
    with open(home / "out", "wb") as file:
        child = subprocess.Popen([harness.PROGRAMS["cli"], "devices", "--json"], stdin=subprocess.DEVNULL, stdout=file,
                                 stderr=subprocess.DEVNULL, env={**environment, "HOME": str(home)}, cwd=home)
    seconds, peak_mib = run_to_its_end(child)
    names, error = set(), ""
    for event in _events(home / "out"):
        if "device" in event and event.get("online") is not None:
            names.add(event["device"])
        elif event.get("event") == "error":
            error = f"{event['message']} [{event['id']}]"
    return List(len(names), child.returncode, seconds, peak_mib, error)


def measure(ground, broker, network, n):
    proxy = Proxy.before_port(broker.port)
    network.apply(proxy, n)
    pauses = Pauses(proxy, network)
    try:
        return run_devices(ground.folder, ground.env.cli_environment(
            fleet_brokers.OPERATOR, GOTTHARD_AWS_CERT_PATH=broker.operator, GOTTHARD_MQTT_ENDPOINT=f"localhost:{proxy.port}"))
    finally:
        pauses.close()
        proxy.close()


def fill(ground, broker, first, last):
    with states.Publisher(broker.port, broker.devices) as publisher:
        publisher.publish(states.seal(ground.env, states.fleet(last - first, first)))


def lists_of(broker_name, start, sizes, networks, progress):
    """Yields (row, list, number of devices) of one broker."""
    ground = Ground()
    try:
        broker = start(ground)
        n_before = 0
        for n in sorted(sizes):
            fill(ground, broker, n_before, n)
            n_before = n
            for network in networks:
                done = measure(ground, broker, network, n)
                progress(f"{broker_name}, {n} devices, {network.name}: {done.n_shown} in {done.seconds:.1f} s, {done.words(n)}")
                row = [f"{broker_name} {broker.version}".strip(), n, network.name, done.n_shown, done.words(n), f"{done.seconds:.1f}", f"{done.peak_mib:.0f}"]
                yield row, done.verdict(n) != SILENT
    finally:
        ground.close()


def chosen(names, wanted):
    """Returns those of @names that contain one of the parts in @wanted, all without it."""
    parts = wanted.split(",") if wanted else [""]
    return [name for name in names if any(part in name for part in parts)]


def run(options, progress):
    """Returns the section of the report and whether all is well."""
    networks = [network for network in NETWORKS if network.name in chosen([n.name for n in NETWORKS], options.networks)]
    rows, is_good, missing = [], True, []
    for name in chosen(fleet_brokers.BROKERS, options.brokers):
        start, why = fleet_brokers.starter(name)
        if not start:
            progress(f"{name}: {why}")
            missing.append(f"{name}: {why}.")
            continue
        for row, is_row_good in lists_of(name, start, options.sizes, networks, progress):
            rows.append(row)
            is_good = is_good and is_row_good
    section = Section("Lists of devices", [
        "`tests/fleet devices`: `gotthard-cli devices --json` with sealed states of as many devices, retained by the broker. Each list is whole, or "
        f"the command says that it is not and fails. A network with pauses carries the list in "
        f"{Network.LIST_S:g} s, and after each {Network.EVERY_S:g} s it carries nothing for 1 s.",
        "The time is that of the whole command. The memory is the command's largest resident set.", *missing,
    ], ["broker", "devices", "round trip", "shown", "list", "s", "MiB"], rows)
    return section, is_good
