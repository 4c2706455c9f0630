# SPDX-License-Identifier: ISC
"""The soak, for some seconds: that it works, and that it notices what is bad."""

import argparse
import random

import pytest

import soak_faults
import soak_run
import soak_ssh


def arguments(*kinds, **more):
    return argparse.Namespace(**{"kinds": kinds, "side": None, "count": len(kinds), "duration": 600, "every": 0.2, "rate": 8,
                                 "idle": 2, "seed": 1, **more})


def test_a_few_faults(tmp_path, capsys):
    names = ("relay-kill", "cut", "agent-replace")
    assert soak_run.run(arguments(*names), tmp_path / "world", random.Random(7))
    said = capsys.readouterr().out
    assert "lost or mixed: 0" in said and said.endswith("good\n"), said


def test_every_fault_is_known_by_name():
    assert len(soak_faults.FAULTS) >= 20
    for name, fault in soak_faults.FAULTS.items():
        assert name == fault.name and fault.weight > 0


@pytest.mark.parametrize("bad", ["slow", "broken", "mixed"])
def test_what_is_bad_is_noticed(tmp_path, capsys, monkeypatch, bad):
    def function(system, dice, side):
        if bad == "broken":
            system.tunnels[0].kill()
        elif bad == "mixed":
            system.steady[0].errors.append("another's byte")
        return ""

    monkeypatch.setitem(soak_faults.FAULTS, "bad", soak_faults.Fault("bad", 1, function, 0, False, False))
    monkeypatch.setattr(soak_run, "SLOWER", 0)
    assert not soak_run.run(arguments("bad"), tmp_path / "world", random.Random(7))
    assert "BAD: " in capsys.readouterr().out


@pytest.mark.soak
def test_ssh_and_rsync(tmp_path, capsys):
    """The short form of `tests/soak ssh`."""
    assert soak_ssh.run(arguments(size=50_000_000, outage=10), tmp_path / "world", random.Random(7))
    assert "the same digest" in capsys.readouterr().out
