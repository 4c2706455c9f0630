# SPDX-License-Identifier: ISC
"""The soak for some seconds: it works, and it detects violations."""

import argparse
import random
import threading

import pytest

import soak_faults
import soak_run
import soak_ssh
from harness import wait_until


def arguments(*kinds, **more):
    return argparse.Namespace(**{"kinds": kinds, "side": None, "count": len(kinds), "duration": 600, "every": 0.2, "rate": 8,
                                 "idle": 2, "seed": 1, **more})


def test_soak_with_three_faults(tmp_path, capsys):
    names = ("relay-kill", "cut", "agent-replace")
    assert soak_run.run(arguments(*names), tmp_path / "env", random.Random(7))
    output = capsys.readouterr().out
    assert "lost or mixed: 0" in output and output.endswith("good\n"), output


def test_soak_fault_names_match_table():
    assert len(soak_faults.FAULTS) >= 20
    for name, fault in soak_faults.FAULTS.items():
        assert name == fault.name and fault.weight > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the violations end load threads
@pytest.mark.parametrize("bad", ["slow", "broken", "mixed"])
def test_soak_reports_violation(tmp_path, capsys, monkeypatch, bad):
    def function(system, generator, side):
        if bad == "broken":
            system.tunnels[0].kill()
        elif bad == "mixed":
            system.steady[0].errors.append("a wrong byte")
        return ""

    monkeypatch.setitem(soak_faults.FAULTS, "bad", soak_faults.Fault("bad", 1, function, 0, False, False))
    monkeypatch.setattr(soak_run, "SLOWER", 0)
    before = set(threading.enumerate())
    assert not soak_run.run(arguments("bad"), tmp_path / "env", random.Random(7))
    assert "BAD: " in capsys.readouterr().out
    wait_until(lambda: not set(threading.enumerate()) - before, "the load threads ended")


@pytest.mark.soak
def test_ssh_and_rsync(tmp_path, capsys):
    """The short form of `tests/soak ssh`."""
    assert soak_ssh.run(arguments(size=50_000_000, outage=10), tmp_path / "env", random.Random(7))
    assert "the same digest" in capsys.readouterr().out
