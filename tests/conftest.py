# SPDX-License-Identifier: ISC
"""The fixtures: a private system for each test, which shows all logs when the test fails and checks for sanitizer reports."""

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
    """Prints a failure when it happens: an interrupted run never reaches the summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        print(f"\n{report.when} of {report.nodeid}: {crash.message[:1000] if crash else report.longreprtext[-1000:]}", flush=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


@pytest.fixture
def env(request):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-"))
    made = harness.Env(folder)
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
    """A reproducible random generator, seeded with GOTTHARD_SEED. The seed is shown when the test fails."""
    value = int(os.environ.get("GOTTHARD_SEED", time.time_ns() % 1000000))
    print(f"GOTTHARD_SEED={value}")
    return random.Random(value)


@pytest.fixture
def relay_of(env):
    """Starts a relay with these limits and timeouts. env.clients has the test's clients, which are killed at the end."""
    env.clients = []

    def start(limits="", more="", preexec=None, **variables):
        folder = env.config_folder(relayd=f"{harness.relay_groups(limits)} {more}")
        relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder, **variables), preexec=preexec)
        relay.folder_of_config = folder
        return relay

    yield start
    for client in env.clients:
        client.kill()
    for process in env.processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)  # the second one skips draining


@pytest.fixture
def relay(relay_of):
    return relay_of()
