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
from fault_run import FaultRun

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def test_invariants_hold_without_fault(env):
    with FaultRun(env) as run:
        run.start()
        run.start_bystander()
        run.load.wait_for_progress(1 << 20)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("tcpdump"), reason="capturing packets requires root and tcpdump")
@pytest.mark.parametrize("cut", [None, 30])
def test_secret_in_packets_is_found(env, cut):
    """Also when it is split into two packets."""
    run = FaultRun(env)
    env.relay_port = env.target(echo).port
    run.start_sniffer()
    with harness.socket.create_connection(("127.0.0.1", env.relay_port)) as sock:
        for piece in (run.canary[:cut], run.canary[cut:] if cut else b"."):
            sock.sendall(piece)
            assert harness.receive_exactly(sock, len(piece)) == piece
    wait_until(lambda: "HIT canary" in run.sniffer.out(), "the canary is found")
    run.sniffer.stop()
    with pytest.raises(AssertionError):
        invariants.check_secrecy(run)


@pytest.mark.parametrize("wrong", [(b"", "reset"), (None, "eof"), (b"x", "reset")], ids=["short", "in order", "wrong byte"])
def test_lost_bytes_before_a_reset_are_found(env, wrong):
    with FaultRun(env) as run:
        run.start()
        data, end = wrong
        number = 4  # the operator's side resets it
        wait_until(lambda: 1 in run.resets.received, "the first resets arrived")
        run.resets.end(run.tunnel, "resets")
        good = run.resets.received[number]
        run.resets.received[number] = good._replace(data=good.data if data is None else data, end=end)
        with pytest.raises(AssertionError, match="stream 4|lost bytes"):
            run.resets.end(run.tunnel, "resets")
        run.resets.received[number] = good


def test_flood_of_log_lines_is_found():
    line = "2026-01-01T00:00:00.%03dZ info gotthard-relayd: preauth=127.0.0.1:%d rejected reason=\"x\"\n"
    counts = invariants.lines_per_cause("".join(line % (n, n) for n in range(50)))
    assert list(counts.values()) == [50]


def test_every_fault_is_documented():
    text = (ROOT / "docs" / "faults.md").read_text()
    assert re.findall(r"^\| (F-\d\d) ", text, re.MULTILINE) == [f"F-{n:02}" for n in range(1, 53)]


@pytest.mark.parametrize("document, n_least", [("faults.md", 60), ("security.md", 40)])
def test_document_names_existing_tests(document, n_least):
    text = (ROOT / "docs" / document).read_text()
    named = set(re.findall(r"`(test_\w+\.py)::(\w+)`", text))
    assert len(named) > n_least
    for file, name in named:
        (path,) = (ROOT / "tests").glob(f"*/{file}")
        assert re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE), f"{file}::{name}"
    for path in set(re.findall(r"`((?:common|gotthard-\w+)/[\w./-]+\.c)`", text)):
        assert (ROOT / path).exists(), path
    for scenario in re.findall(r"docs/model \(([\w, -]+)\)", text):
        for name in scenario.split(", "):
            assert (ROOT / "docs" / "model" / "scenarios" / f"{name}.pv").exists(), name
