# SPDX-License-Identifier: ISC
"""Trials of the network between the parties: F-06, F-08, F-09, F-21 to F-23, F-29, F-38 and F-40 of docs/faults.md."""

import contextlib
import os
import random
import secrets
import signal
import socket
import time

import pytest

import harness
from faultproxy import Proxy
from harness import wait_until
from invariants import RECOVERY, Trial
from relayclient import Client
from test_tunnel import assert_broken

soak = pytest.mark.soak
SIDES = ["operator", "device"]
STEP = 12  # seconds between two tries at most, when nothing says that the network is back
LENIENT = 'limits = { penalty_failed = "0"; penalty_timeout = "0"; join = "2s"; second_join = "2s"; };'


@contextlib.contextmanager
def behind_proxy(world, *sides, **more):
    """A trial in which these sides reach the relay through a fault proxy."""
    proxy = Proxy.before_relay(world)
    there = {"GOTTHARD_SERVER_HOST": proxy.host}
    for side, env in (("device", "agent_env"), ("operator", "cli_env")):
        if side in sides:
            more[env] = {**more.get(env, {}), **there}
    try:
        with Trial(world, relay_args=("--bind", "127.0.0.1"), **more) as trial:
            yield proxy, trial
            proxy.fair()
    finally:
        proxy.close()


def last(seconds):
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun >= seconds, f"{seconds} s", limit=seconds + 10)


def sock_lost_and_back(trial):
    return [e["event"] for e in trial.tunnel.events() if e["event"].startswith("link-")]


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=soak), pytest.param(60, marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f06_network_gone_for_a_while(world, side, seconds):
    """It swallows; then it is back, and has forgotten every connection. (With a link that goes down: test_network.py.)"""
    with behind_proxy(world, side) as (proxy, trial):
        trial.start()
        proxy.is_black = True
        last(seconds)
        proxy.cut(is_reset=True)
        proxy.is_black = False
        begun = time.monotonic()
        trial.load.wait_for_progress(64 << 10)
        assert time.monotonic() - begun < STEP + RECOVERY


@soak
@pytest.mark.parametrize("side", SIDES)
def test_f06_network_gone_for_longer_than_the_window(world, side):
    """A silence of 130 s under the default window, and no reset in it: noticed after 45 s, given up 120 s later."""
    with behind_proxy(world, side) as (proxy, trial):
        sock = trial.tunnel.dial("echo")
        sock.sendall(trial.canary)
        assert harness.receive_exactly(sock, 64) == trial.canary
        begun = time.monotonic()
        proxy.is_black = True
        assert_broken(sock, 200)
        assert trial.tunnel.wait(60) == 69
        assert 110 < time.monotonic() - begun < 45 + 120 + 15
        wait_until(lambda: not trial.echo.connections, "the device's side is broken too", limit=60)
        proxy.is_black = False


@soak
@pytest.mark.parametrize("seconds", [30, 5])
def test_f08_nat_forgets_what_is_silent(world, seconds):
    """30 s: heartbeats keep it awake. 5 s: they are too rare, and whatever is lost that way resumes."""
    with behind_proxy(world, "device", "operator") as (proxy, trial):
        sock = trial.tunnel.dial("echo")
        proxy.order("idle", seconds)
        for _ in range(2):
            last(70)
            sock.settimeout(120)
            sock.sendall(trial.canary)
            assert harness.receive_exactly(sock, 64) == trial.canary
        sock.close()
        if seconds == 30:
            assert not sock_lost_and_back(trial)


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=soak)])
def test_f09_half_open_again_and_again(world, n):
    """A device vanishes without a word and comes back, over and over: the new connection replaces the old one at once."""
    world.clients = []
    with Trial(world) as trial:
        trial.stand_by()
        rid, gone = secrets.token_hex(16), None
        for generation in range(1, n + 1):
            device = Client(world, "g1:d:vanishing")
            device.register(rid, generation=generation)
            if gone:
                gone.kill()
                world.clients.remove(gone)
            os.kill(device.child.pid, signal.SIGSTOP)
            gone = device
        assert trial.status()["members"] <= 6, "two of each tunnel's, and the last of those that vanished"
        os.kill(gone.child.pid, signal.SIGCONT)
        gone.do("bye", 1, rid)
        gone.hear("closed")
        gone.kill()


@pytest.mark.parametrize("side", SIDES)
def test_f21_one_byte_at_a_time(world, side):
    """TLS, JOIN and frames, split at every offset."""
    with behind_proxy(world, side, n_streams=1) as (proxy, trial):
        proxy.order("chunk 1")
        trial.load.start(trial.tunnel)
        trial.load.wait_for_progress(64 << 10)
        trial.load.is_over.set()
        late = trial.connect("operator")
        trial.hear(late)
        proxy.fair()  # a goodbye that is still on such a way when its socket is closed gets lost
        assert late.close_politely() == 0
        trial.end_load()


def flip_one(proxy, trial, way, offset, n=1 << 16):
    """A new connection, of which one bit is turned at that byte: what arrives is right, or it is reset."""
    n_before = proxy.n_accepted
    proxy.order("flip", f"{offset}^{1 << random.randrange(8)}", f"way={way}", "on=new")
    data = b"".join(harness.pattern(f"flip {way} {offset}", n))
    try:
        with trial.tunnel.dial("echo") as sock:
            wait_until(lambda: proxy.n_accepted > n_before, "it is on its way")
            proxy.order("flip off on=new")  # what comes in its place is not broken
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert harness.receive_exactly(sock, n) == data, f"{way} {offset}: wrong bytes, or an end that is none"
            return "exact"
    except ConnectionError:
        return "loud"


@pytest.mark.parametrize("n_flips", [4, pytest.param(int(os.environ.get("GOTTHARD_SWEEP", "300")), marks=soak)])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("side", SIDES)
def test_f22_a_bit_is_flipped(world, side, way, n_flips):
    seed = int(os.environ.get("GOTTHARD_SEED", random.randrange(1 << 32)))
    print(f"GOTTHARD_SEED={seed}")
    chance = random.Random(seed)
    with behind_proxy(world, side, n_streams=1, relayd=LENIENT) as (proxy, trial):
        trial.start()
        outcomes = {"exact": 0, "loud": 0}
        for n in range(n_flips):
            offset = chance.randrange(80) if n % 3 == 0 else chance.randrange(4096) if n % 3 == 1 else chance.randrange(60000)
            outcomes[flip_one(proxy, trial, way, offset)] += 1
        print(outcomes)
        assert outcomes["exact"] >= n_flips // 2, "most of it resumes"


@pytest.mark.parametrize("weather", ["delay 300", "rate 64000", "jitter 100"])
def test_f23_slow_networks(world, weather):
    """600 ms round trip, 64 kbit/s, an uneven one: it works, and nobody is taken for dead."""
    with behind_proxy(world, "device", n_streams=1) as (proxy, trial):
        proxy.order(weather)
        sock = trial.tunnel.dial("echo")
        for _ in range(3):
            sock.sendall(trial.canary)
            assert harness.receive_exactly(sock, 64) == trial.canary
        trial.recovery = 20
        trial.hear_echo()
        assert not sock_lost_and_back(trial)
        sock.close()
        proxy.fair()


@pytest.mark.parametrize("seconds", [3, pytest.param(40, marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f23_stalls_are_no_deaths(world, side, seconds):
    """Nothing moves for less than 45 s, and then all of it does."""
    with behind_proxy(world, side) as (proxy, trial):
        trial.start()
        proxy.order("black on")
        last(seconds)
        proxy.order("black off")
        trial.load.wait_for_progress(64 << 10, limit=15)
        assert not sock_lost_and_back(trial)


@pytest.mark.parametrize("who, seconds", [
    *((who, 2) for who in ("relay", "worker", "cli")),
    *(pytest.param(who, 60, marks=soak) for who in ("relay", "worker", "cli", "agent"))])
def test_f29_one_of_them_sleeps(world, who, seconds):
    """SIGSTOP and SIGCONT under load, as when a machine is suspended: no storm of timers, and on it goes."""
    with Trial(world) as trial:
        trial.start()
        pid = {"relay": trial.relay.pid, "worker": trial.workers()[0], "cli": trial.tunnel.pid, "agent": trial.agent.pid}[who]
        os.kill(pid, signal.SIGSTOP)
        last(seconds)
        os.kill(pid, signal.SIGCONT)
        begun = time.monotonic()
        trial.load.wait_for_progress(64 << 10)
        assert time.monotonic() - begun < STEP + RECOVERY
        trial.recovery += STEP


@pytest.mark.parametrize("family", ["IPv4 only", "IPv6 only", "IPv6 refuses", "IPv6 swallows"])
def test_f38_families_of_addresses(world, family):
    """The relay's name has both addresses, and one may lead nowhere."""
    bind, host = {"IPv4 only": ("127.0.0.1", "127.0.0.1"), "IPv6 only": ("::1", "::1")}.get(family, ("127.0.0.1", "localhost"))
    there = {"GOTTHARD_SERVER_HOST": host}
    full = []
    if family == "IPv6 swallows":  # a listener whose queue is full, at every port
        for port in (world.relay_port, *range(world.relay_ports, world.relay_ports + world.n_relay_ports)):
            listener = socket.socket(socket.AF_INET6)
            listener.bind(("::1", port))
            listener.listen(0)
            full.append(listener)
            for _ in range(3):
                full.append(socket.socket(socket.AF_INET6))
                full[-1].setblocking(False)
                full[-1].connect_ex(("::1", port))
    with Trial(world, relay_args=("--bind", bind), agent_env=there, cli_env=there, n_streams=2) as trial:
        trial.relay_host = bind
        trial.start()
        begun = time.monotonic()
        trial.hear_echo()
        print(f"{family}: {time.monotonic() - begun:.2f} s for a tunnel")
        trial.load.wait_for_progress(64 << 10)
    for one in full:
        one.close()


@soak
@pytest.mark.parametrize("who", ["relay", "device", "operator"])
def test_f40_power_is_gone(world, who):
    """One party stops and its network swallows, for a minute; then both are back, and what was open is forgotten."""
    side = "device" if who == "relay" else who
    with behind_proxy(world, side) as (proxy, trial):
        trial.start()
        pids = {"relay": [trial.relay.pid], "device": [trial.agent.pid, *trial.workers()], "operator": [trial.tunnel.pid]}[who]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        proxy.is_black = True
        last(60)
        proxy.cut(is_reset=True)
        proxy.is_black = False
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        begun = time.monotonic()
        trial.load.wait_for_progress(64 << 10)
        assert time.monotonic() - begun < STEP + RECOVERY
        trial.recovery += STEP
