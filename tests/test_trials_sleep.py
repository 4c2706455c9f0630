# SPDX-License-Identifier: ISC
"""Trials of silence and of sleep: a network that swallows for good, and a side that is away for longer than the relay
remembers it; F-06 and F-29 of docs/faults.md."""

import os
import signal
import time

import pytest

from harness import wait_until
from invariants import IS_SANITIZED, Trial
from test_trials_network import SIDES, behind_proxy, last, soak

SILENT = 45  # the promise: dead after this at the latest
SLACK = 10 if IS_SANITIZED else 2
EARLY = 'limits = { heartbeat = "500ms"; dead_after = "1500ms"; half = "1s"; grace = "1s"; };'


def n_lost(trial, side):
    """How often that side has lost its link."""
    if side == "operator":
        return len([e for e in trial.tunnel.events() if e["event"] == "link-lost"])
    return trial.agent.log().count("the relay is lost")


def go_on(trial, since, limit):
    trial.load.wait_for_progress(64 << 10, limit + 60)
    took = time.monotonic() - since
    print(f"all streams go on after {took:.1f} s")
    assert took < limit


@soak
@pytest.mark.parametrize("side", SIDES)
def test_f06_a_black_hole_for_good(world, side):
    """No packet comes through again, new connections do: both ends and the relay find the old ones dead within 45 s."""
    with behind_proxy(world, side) as (proxy, trial):
        trial.load.rate = 1 << 20
        trial.start()
        begun = time.monotonic()
        proxy.order("black on on=live")
        wait_until(lambda: n_lost(trial, side), f"the {side} has noticed", SILENT + SLACK)
        print(f"the {side} found its link dead after {time.monotonic() - begun:.1f} s")
        go_on(trial, begun, SILENT + 2 * SLACK)
        wait_until(lambda: 'reason="silent"' in trial.relay.log() or 'reason="replaced"' in trial.relay.log(),
                   "so does the relay", limit=SLACK)


@pytest.mark.parametrize("seconds", [8, pytest.param(150, marks=soak)])
@pytest.mark.parametrize("who", SIDES)
def test_f29_asleep_for_longer_than_the_relay_waits(world, who, seconds):
    """The relay ends the session, again and again while the one that is awake comes back to it; the sleeper finds it there."""
    window = {"GOTTHARD_RESUME_WINDOW": "2h"}
    limits = EARLY if seconds < 60 else 'limits = { grace = "20s"; };'
    with Trial(world, relayd=limits, agent_env=window, cli_env=window, recovery=20) as trial:
        trial.load.rate = 1 << 20
        trial.start()
        if seconds < 60:
            trial.quiet = lambda: None  # it beats twice a second here
        pid = trial.tunnel.pid if who == "operator" else trial.workers()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            last(seconds)
            n_ended = trial.relay.log().count('reason="expired"')
            assert 1 <= n_ended <= 1 + seconds / 2, f"the session ended {n_ended} times: too seldom, or not gently"
        finally:
            os.kill(pid, signal.SIGCONT)
        go_on(trial, time.monotonic(), 15 + SLACK)
