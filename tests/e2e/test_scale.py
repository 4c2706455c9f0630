# SPDX-License-Identifier: ISC
"""The relay's memory and descriptors per session without streams. `tests/bench scale` measures larger numbers."""

import contextlib
import subprocess

import pytest

import harness
from harness import wait_until

GENERATOR = harness.BUILD / "tests" / "benchmark" / "scale"
N = 300


@pytest.fixture(name="relay")
def _relay(env):
    env.n_relay_ports = N
    env.relay_ports = harness.free_ports(N)
    folder = env.config_folder(relayd="limits = { per_source = 4096; preauth = 4096; "
                                        "streams = 1024; }; timeouts = { session_grace = \"1s\"; pairing = \"1s\"; };")
    return env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))


@contextlib.contextmanager
def sessions(env, n):
    """@n sessions until the end of the block, each with its own operator and device."""
    generator = subprocess.Popen([GENERATOR, "127.0.0.1", str(env.relay_port), str(n), "0", str(n)], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 env=harness.clean_environment(GOTTHARD_CRYPT_KEY=env.key, GOTTHARD_CRYPT_IV=env.iv,
                                                               ASAN_OPTIONS="detect_leaks=0"))  # it exits without freeing
    try:
        assert generator.stdout.readline().split()[:2] == ["step", str(n)]
        yield
    finally:
        generator.stdin.close()
        generator.wait(harness.LIMIT)
        generator.stdout.close()


def test_session_memory_is_small_and_released(env, relay):
    """Less than 20 KiB and three descriptors each, and all of it is released. (40 KiB here, to allow for page granularity.)"""
    n_fds, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    with sessions(env, N):
        grown = harness.rss_kib(relay.pid) - rss
        print(f"{grown / N:.1f} KiB a session")
        assert harness.descriptors(relay.pid) - n_fds == 3 * N
        assert grown < 40 * N or harness.SANITIZER != "none"
    wait_until(lambda: harness.descriptors(relay.pid) <= n_fds, "the descriptors are released")
    left = harness.rss_kib(relay.pid) - rss
    print(f"{left} KiB of {grown} remain")
    assert left < grown / 2 or harness.SANITIZER != "none"
