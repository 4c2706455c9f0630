# SPDX-License-Identifier: ISC
"""A permanent black hole, and a side that is suspended for longer than the relay keeps its session; F-06 and F-29 of
docs/faults.md."""

import os
import signal
import time

import pytest

from harness import wait_until
from fault_run import FaultRun
from invariants import IS_SANITIZED
from test_faults_network import SIDES, behind_proxy, let_pass, soak

SILENT = 45  # seconds: the documented maximum until a silent connection counts as lost
SLACK = 10 if IS_SANITIZED else 2
EARLY = 'timeouts = { heartbeat_interval = "500ms"; heartbeat = "1500ms"; pairing = "1s"; session_grace = "1s"; };'


def count_losses(run, side):
    """Returns the number of control connections that this side has lost."""
    if side == "operator":
        return len([e for e in run.tunnel.events() if e["event"] == "relay-lost"])
    return run.agent.log().count("relay connection lost")


def check_progress(run, since, limit):
    """All streams continue within @limit seconds after @since."""
    run.load.wait_for_progress(64 << 10, limit + 60)
    took = time.monotonic() - since
    print(f"all streams continue after {took:.1f} s")
    assert took < limit


@soak
@pytest.mark.parametrize("side", SIDES)
def test_f06_permanent_black_hole(env, side):
    """Existing connections become black holes, new ones work: both ends and the relay detect the loss within 45 s."""
    with behind_proxy(env, side) as (proxy, run):
        run.load.rate = 1 << 20
        run.start()
        started = time.monotonic()
        proxy.command("black on on=live")
        wait_until(lambda: count_losses(run, side), f"the {side} detects the loss", SILENT + SLACK)
        print(f"the {side} detected the loss after {time.monotonic() - started:.1f} s")
        check_progress(run, started, SILENT + 2 * SLACK)
        wait_until(lambda: 'reason="heartbeat timeout"' in run.relay.log() or 'reason="replaced"' in run.relay.log(),
                   "the relay detects the loss", limit=SLACK)


@pytest.mark.parametrize("seconds", [8, pytest.param(150, marks=soak)])
@pytest.mark.parametrize("who", SIDES)
def test_f29_suspended_beyond_session_grace(env, who, seconds):
    """The relay ends the session repeatedly while the running side registers again. The suspended side finds it registered."""
    window = {"GOTTHARD_TIMEOUTS_RESUME_WINDOW": "2h"}
    limits = EARLY if seconds < 60 else 'timeouts = { session_grace = "20s"; };'
    with FaultRun(env, relayd=limits, agent_env=window, cli_env=window, recovery=20) as run:
        run.load.rate = 1 << 20
        run.start()
        if seconds < 60:
            run.is_idle_checked = False  # with heartbeats twice a second
        pid = run.tunnel.pid if who == "operator" else run.workers()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            let_pass(seconds)
            n_ended = run.relay.log().count('reason="the other side did not ')
            assert 1 <= n_ended <= 1 + seconds / 1.4, f"the session ended {n_ended} times: too rarely, or too often"
        finally:
            os.kill(pid, signal.SIGCONT)
        check_progress(run, time.monotonic(), 15 + SLACK)
