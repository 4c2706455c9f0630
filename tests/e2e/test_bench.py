# SPDX-License-Identifier: ISC
"""The benchmark works: a short run of Gotthard alone, without checking the figures themselves."""

import json
import os
import subprocess

import harness
import pytest

pytestmark = pytest.mark.skipif(harness.SANITIZER != "none", reason="figures of a sanitized program are not representative")


def bench(folder, *args):
    subprocess.run([harness.ROOT / "tests" / "bench", "--build", harness.BUILD, "--alone", "--quick", "--rounds", "1", "--output",
                    folder, *args], check=True, timeout=300, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    results = json.loads((folder / "bench.json").read_text())
    assert not results["failures"], results["failures"]
    assert (folder / "bench.md").read_text().startswith("# ")
    return results["medians"]


@pytest.mark.skipif(os.getuid() != 0, reason="requires root: the daemons are not dumpable")
def test_every_group_of_streams(tmp_path):
    medians = bench(tmp_path, "--only", "relay", "--only", "tunnel", "--only", "latency", "--only", "connections",
                    "--only", "recovery")
    assert medians["relay"]["gotthard-relayd"]["Gbit/s down 8"] > 0
    assert medians["tunnel"]["Gotthard"]["CPU s/GB up 1"] > 0
    assert medians["latency"]["Gotthard"]["echo beside bulk p99 us"] > 0
    assert medians["latency"]["Gotthard"]["echo beside new bulk p99 us"] > 0
    assert medians["latency"]["Gotthard"]["bulk has moved ms"] > 0
    connections = medians["connections"]["Gotthard"]
    assert connections["connections/s 64"] > 0 and connections["CPU us/connection 8"] > 0
    assert connections["200 at once, last ms"] >= connections["200 at once, p50 ms"] > 0
    assert medians["recovery"]["Gotthard"]["recovery ms 100"] > 0
    assert abs(medians["relay"]["gotthard-relayd"]["descriptors/stream 1000"] - 2) < 0.1


@pytest.mark.skipif(os.getuid() != 0, reason="requires root: the daemons are not dumpable")
def test_scale(tmp_path):
    medians = bench(tmp_path, "scale", "--sessions", "40", "--streams", "256", "--agents", "3")
    assert medians["scale"]["sessions"]["sessions"] == 40
    assert medians["scale"]["streams"]["streams"] == 256
    assert medians["agents"]["gotthard-agentd"]["agents"] == 3
