# SPDX-License-Identifier: ISC
"""The invariants are looked at by something that sees: whatever breaks one is found."""

import os
import pathlib
import re
import shutil

import pytest

import harness
import invariants
from harness import echo, wait_until
from invariants import Trial

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_all_of_them_hold_when_nothing_breaks(world):
    with Trial(world) as trial:
        trial.start()
        trial.stand_by()
        trial.load.wait_for_progress(1 << 20)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("tcpdump"), reason="looking at the wire takes root, and tcpdump")
@pytest.mark.parametrize("cut", [None, 30])
def test_a_secret_on_the_wire_is_found(world, cut):
    """Also when two packets share it."""
    trial = Trial(world)
    world.relay_port = world.target(echo).port
    trial._watch_wire()
    with harness.socket.create_connection(("127.0.0.1", world.relay_port)) as sock:
        for piece in (trial.canary[:cut], trial.canary[cut:] if cut else b"."):
            sock.sendall(piece)
            assert harness.receive_exactly(sock, len(piece)) == piece
    wait_until(lambda: "HIT canary" in trial.wire.out(), "the canary is found")
    trial.wire.stop()
    with pytest.raises(AssertionError):
        trial.secret()


def test_a_flood_of_lines_is_found():
    line = "2026-01-01T00:00:00.%03dZ info gotthard-relayd: stranger=127.0.0.1:%d refused reason=\"x\"\n"
    counts = invariants.causes("".join(line % (n, n) for n in range(50)))
    assert list(counts.values()) == [50]


def test_each_row_of_the_list_names_tests_that_there_are():
    """docs/faults.md has F-01 to F-40, and what it names exists."""
    text = (ROOT / "docs" / "faults.md").read_text()
    assert re.findall(r"^\| (F-\d\d) ", text, re.MULTILINE) == [f"F-{n:02}" for n in range(1, 41)]
    named = set(re.findall(r"`(test_\w+\.py)::(\w+)`", text))
    assert len(named) > 60
    for file, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), f"{file}::{name}"
    for path in set(re.findall(r"`((?:common|gotthard-\w+)/[\w./-]+\.c)`", text)):
        assert (ROOT / path).exists(), path
