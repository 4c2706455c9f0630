# SPDX-License-Identifier: ISC
"""What a session costs the relay, without streams: little, and for as long as it is there. tests/bench scale goes further."""

import contextlib
import subprocess

import pytest

import harness
from harness import wait_until

GENERATOR = harness.BUILD / "tests" / "benchmark" / "scale"
N = 300


@pytest.fixture(name="relay")
def _relay(world):
    world.n_relay_ports = N
    world.relay_ports = harness.free_ports(N)
    folder = world.config_folder(relayd="limits = { per_source = 4096; preauth = 4096; preauth_drop_from = 4096; grace = \"1s\"; "
                                        "half = \"1s\"; streams = 1024; };")
    return world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=folder))


@contextlib.contextmanager
def sessions(world, n):
    """Until the end of the block; each of an operator and a device of its own."""
    generator = subprocess.Popen([GENERATOR, "127.0.0.1", str(world.relay_port), str(n), "0", str(n)], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 env=harness.clean_environment(GOTTHARD_CRYPT_KEY=world.key, GOTTHARD_CRYPT_IV=world.iv,
                                                               ASAN_OPTIONS="detect_leaks=0"))  # it just ends
    try:
        assert generator.stdout.readline().split()[:2] == ["step", str(n)]
        yield
    finally:
        generator.stdin.close()
        generator.wait(harness.LIMIT)
        generator.stdout.close()


def test_a_session_costs_little_and_gives_it_back(world, relay):
    """Under 20 KiB and three descriptors each, and neither stays. (40 KiB here: a page more or less says nothing.)"""
    n_fds, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    with sessions(world, N):
        grown = harness.rss_kib(relay.pid) - rss
        print(f"{grown / N:.1f} KiB a session")
        assert harness.descriptors(relay.pid) - n_fds == 3 * N
        assert grown < 40 * N or harness.SANITIZER != "none"
    wait_until(lambda: harness.descriptors(relay.pid) <= n_fds, "the descriptors are back")
    left = harness.rss_kib(relay.pid) - rss
    print(f"{left} KiB of {grown} are left")
    assert left < grown / 2 or harness.SANITIZER != "none"
