# SPDX-License-Identifier: ISC
"""The fixtures: a world that shows every log when its test fails and checks for sanitizer reports."""

import os
import pathlib
import random
import shutil
import signal
import tempfile
import time

import pytest

import harness


def pytest_runtest_logreport(report):
    """A failure is told when it happens: who stops a run does not get to its end, where the whole is."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        print(f"\n{report.when} of {report.nodeid}: {crash.message[:1000] if crash else report.longreprtext[-1000:]}", flush=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


@pytest.fixture
def world(request):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-"))
    made = harness.World(folder)
    yield made
    made.close()
    report = getattr(request.node, "report_call", None)
    reports = made.sanitizer_reports()
    if reports or report is None or report.failed:
        made.show_logs()
    shutil.rmtree(folder, ignore_errors=True)
    assert not reports, reports


@pytest.fixture
def seed():
    """Randomness that can be had again: GOTTHARD_SEED, shown when the test fails."""
    value = int(os.environ.get("GOTTHARD_SEED", time.time_ns() % 1000000))
    print(f"GOTTHARD_SEED={value}")
    return random.Random(value)


@pytest.fixture
def relay_of(world):
    """Starts a relay with such limits; the world then has clients."""
    world.clients = []

    def start(limits="", more="", preexec=None, **env):
        folder = world.config_folder(relayd=f"limits = {{ {limits} }}; {more}")
        relay = world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder, **env), preexec=preexec)
        relay.folder_of_config = folder
        return relay

    yield start
    for client in world.clients:
        client.kill()
    for process in world.processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)  # at once


@pytest.fixture
def relay(relay_of):
    return relay_of()
