# SPDX-License-Identifier: ISC
"""tests/fleet with a few devices: it works, and it detects what it looks for."""

import argparse
import os
import signal
import sys
import time

import pytest

import fleet_agents
import fleet_confinement
import fleet_connects
import fleet_devices
import fleet_report
import harness

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="requires root: the daemons are not dumpable")


def options(**more):
    return argparse.Namespace(**{"n": 3, "share": .5, "outage": .1, "idle": .1, "limit": harness.LIMIT * 2, "like": None, "variables": {}, **more})


@pytest.mark.skipif(harness.SANITIZER != "none", reason="figures of a sanitized program are not representative")
def test_agents_return():
    section, is_good = fleet_agents.run(options(), print)
    figures = dict(section.rows)
    assert is_good and figures["online again"] == "all" and figures["agents"] == "3", section.text()


def test_connects_come_up():
    section, _ = fleet_connects.run(options(), print)
    assert [row[2:5] for row in section.rows] == [[3, 0, 0]] * 3, section.text()


@pytest.mark.parametrize("reason, is_time_out", [
    ("no answer from the broker to CONNECT within 20 s", True), ("Connection refused", False),
    ("the broker or the network closed the connection", False),
])
def test_time_outs_are_found_in_logs(reason, is_time_out):
    found = fleet_agents.LOST.findall(f'warn device=d broker not reachable broker=localhost:8883 retry=1ms reason="{reason}"')
    assert found == [reason] and bool(fleet_agents.TIMED_OUT.search(reason)) == is_time_out


def test_lists_of_devices():
    section, is_good = fleet_devices.run(options(sizes=[5, 20], networks="below", brokers="example"), print)
    assert is_good and [row[1:5] for row in section.rows] == [[n, "below 1 ms", n, "whole"] for n in (5, 20)], section.text()


@pytest.mark.parametrize("n_shown, status, verdict", [
    (20, 0, fleet_devices.WHOLE), (19, 0, fleet_devices.SILENT), (19, 69, fleet_devices.DECLARED), (0, 0, fleet_devices.SILENT),
])
def test_lists_are_judged(n_shown, status, verdict):
    assert fleet_devices.List(n_shown, status, 1., 20., "").verdict(20) == verdict


@pytest.mark.parametrize("results, is_good", [
    ([("up", 9., "")], True),
    ([("refused", 1., "limits.sessions")], True),
    ([("refused", 3., "limits.sessions")], False),
    ([("failed", 1., "did not answer")], False),
    ([("silent", 1., "the command ended without a result")], False),
])
def test_connects_are_judged(results, is_good):
    case = fleet_connects.cases(1)[0]
    assert fleet_connects.row_of(case, results, 1)[1] == is_good


class Busy(harness.Process):
    """A process that computes without a pause."""

    def __init__(self, env):
        super().__init__(env, "busy", [sys.executable, "-c", "while True: pass"])


@pytest.mark.parametrize("make", [fleet_confinement.confinement, fleet_confinement.duty_cycle])
def test_confined_process_has_its_share(env, make):
    process, confined = Busy(env), make(.1)
    try:
        confined.add(process)
        before, begin = harness.cpu_seconds(process.pid), time.monotonic()
        time.sleep(1)
        share = (harness.cpu_seconds(process.pid) - before) / (time.monotonic() - begin)
        assert share < .5, f"{share} with {confined.description}"
    finally:
        process.stop(signal.SIGKILL)
        confined.close()


def test_report_replaces_its_section():
    def section(title, value):
        return fleet_report.Section(title, ["A note."], ["figure", "value"], [("x", value)])

    text = fleet_report.replace(fleet_report.HEAD, section("One", 1))
    text = fleet_report.replace(text, section("Two", 2))
    again = fleet_report.replace(text, section("One", 3))
    assert "| x | 3 |" in again and "| x | 2 |" in again and "| x | 1 |" not in again
    assert again.startswith(fleet_report.HEAD) and again.index("## One") < again.index("## Two")
