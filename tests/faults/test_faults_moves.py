# SPDX-License-Identifier: ISC
"""Faults while streams move between the shared data connection and connections of their own; F-48 to F-50 of docs/faults.md.

A stream moves when it has transferred 256 KiB. The path has a delay, so that a move takes long enough to be hit in each of its
steps: ticket, connect, JOIN, handshake, HELLO, and the bytes in flight in the connection that it leaves.
"""

import os
import random
import socket
import time

import pytest

import harness
from harness import in_threads, wait_until
from invariants import RECOVERY
from test_faults_network import SIDES, STEP, behind_proxy, data_connections
from test_upgrade import upgrade

soak = pytest.mark.soak
MIB = 1 << 20
DELAY = 10  # ms, one way
BACK = STEP + RECOVERY  # seconds until everything moves after a fault
STALL = 30 if harness.SANITIZER == "none" else 60  # seconds: two probes without an answer, and another connection


def random_of(seed=None):
    seed = seed or int(os.environ.get("GOTTHARD_SEED", random.randrange(1 << 32)))
    print(f"GOTTHARD_SEED={seed}")
    return random.Random(seed)


def transfer(run, seed, n):
    """@n bytes to the echo and back over a connection of their own: each must arrive, in both directions."""
    with run.tunnel.dial("echo") as sock:
        def send():
            harness.send_pattern(sock, seed, n)
            sock.shutdown(socket.SHUT_WR)

        def receive():
            harness.receive_pattern(sock, seed, n)
            assert sock.recv(1) == b"", f"{seed}: more bytes than were sent"

        in_threads(send, receive)


def quiet_streams_continue(run, limit=BACK):
    before = [echo.n_echoes for echo in run.quiet]

    def have_moved():
        for echo in run.quiet:
            echo.check()
        return all(echo.n_echoes > n + 1 for echo, n in zip(run.quiet, before))  # the first may have arrived before the fault

    started = time.monotonic()
    wait_until(have_moved, "an echo of each quiet stream", limit)
    return time.monotonic() - started


def moved(run, proxy, n=1):
    """Waits until the @n streams of the load have moved. Returns the shared connection and those of the streams."""
    wait_until(lambda: len(data_connections(run, proxy)) == n + 1, "each stream has moved")
    shared, *own = data_connections(run, proxy)
    return shared, own


@pytest.mark.parametrize("n_cuts", [8, pytest.param(int(os.environ.get("GOTTHARD_SWEEP", "300")), marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f48_cut_at_any_moment_of_a_move(env, side, n_cuts):
    """Some or all data connections of a side end by a FIN or a reset at a random moment of a transfer that moves."""
    generator = random_of()
    with behind_proxy(env, side, n_streams=1) as (proxy, run):
        run.start()
        proxy.command(f"delay {DELAY}")
        for number in range(n_cuts):
            def cut():
                time.sleep(generator.uniform(0, 0.4))  # the moment is the parameter of the test
                share, is_reset = generator.choice((30, 60, 100)), generator.random() < 0.5
                ids = [str(c["id"]) for c in data_connections(run, proxy) if generator.randrange(100) < share]
                if ids:
                    proxy.cut(is_reset, words=[f"on={','.join(ids)}"])

            in_threads(cut, lambda number=number: transfer(run, f"cut {number}", 2 * MIB))
        quiet_streams_continue(run)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("side", SIDES)
def test_f48_new_connection_fails(env, side, way):
    """Each connection that a stream would move to is cut in its first bytes: it stays where it is, and later moves."""
    with behind_proxy(env, side, n_streams=1) as (proxy, run):
        proxy.command(f"delay {DELAY}")
        for number, offset in enumerate((0, 30, 63, 70, 200, 400, 600)):  # JOIN, its reply, the flights of the handshake, HELLO
            proxy.command("flip", f"{offset}^1", f"way={way}", "on=new")
            transfer(run, f"{way} {offset}", 2 * MIB)
            proxy.command("flip off on=new")
            assert run.tunnel.event("stream-ended", count=number + 1, service="echo")["code"] == 0


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("side", SIDES)
def test_f49_only_the_shared_connection_is_lost(env, side, is_reset):
    """Its streams continue in the next one. Streams with a connection of their own keep it."""
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        shared, own = moved(run, proxy, run.load.n_streams)
        for _ in range(3):
            proxy.cut(is_reset, words=[f"on={shared['id']}"])
            print(f"the streams of the shared connection continue after {quiet_streams_continue(run):.2f} s")
            run.load.wait_for_progress(64 << 10)
            left = {c["id"] for c in data_connections(run, proxy)}
            assert left >= {c["id"] for c in own} and shared["id"] not in left
            shared, = [c for c in data_connections(run, proxy) if c["id"] not in {c["id"] for c in own}]


@pytest.mark.parametrize("is_reset, n_rounds", [(False, 1), (True, 1), pytest.param(True, 3, marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f49_only_connections_of_streams_are_lost(env, side, is_reset, n_rounds):
    """Each continues in the shared connection at once, and moves again after 1 s, 2 s ... The shared one is left alone."""
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        shared, own = moved(run, proxy, run.load.n_streams)
        for round_ in range(n_rounds):
            proxy.cut(is_reset, words=["on=" + ",".join(str(c["id"]) for c in own)])
            run.load.wait_for_progress(64 << 10)
            quiet_streams_continue(run)
            wait_until(lambda: len(data_connections(run, proxy)) == 1 + len(own), "each stream has moved again",
                       limit=BACK + (1 << round_))
            again, *own = data_connections(run, proxy)
            assert again["id"] == shared["id"]


@pytest.mark.parametrize("side", SIDES)
def test_f49_shared_connection_is_a_black_hole(env, side):
    """Without a FIN: its unacknowledged bytes replace it. Streams of their own are not delayed by that."""
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        shared, _ = moved(run, proxy, run.load.n_streams)
        proxy.command("black on", f"on={shared['id']}")
        run.load.wait_for_progress(64 << 10, limit=RECOVERY)
        print(f"the streams of the shared connection continue after {quiet_streams_continue(run, STALL):.2f} s")
        run.load.wait_for_progress(64 << 10)


@pytest.mark.parametrize("how", ["kill", "stop", "upgrade"])
def test_f50_relay_ends_while_streams_move(env, how):
    """At random moments: killed, stopped in order, upgraded live."""
    generator = random_of()
    with behind_proxy(env, "operator", n_streams=1) as (proxy, run):
        run.start()
        proxy.command(f"delay {DELAY}")
        for number in range(4):
            def end_relay():
                time.sleep(generator.uniform(0, 0.4))  # the moment is the parameter of the test
                if how == "upgrade":
                    upgrade(run.relay)
                    return
                if how == "stop":
                    assert run.relay.stop() == 0
                else:
                    run.relay.kill()
                run.start_relay()

            in_threads(end_relay, *[lambda n=n, number=number: transfer(run, f"{how} {number} {n}", MIB) for n in range(4)])
            quiet_streams_continue(run)


@soak
@pytest.mark.parametrize("side", SIDES)
def test_f50_outage_while_streams_move_back(env, side):
    """Streams that were quiet for a minute return to the shared connection, which is cut just then."""
    generator = random_of()
    with behind_proxy(env, side, n_streams=1) as (proxy, run):
        proxy.command(f"delay {DELAY}")
        socks = [run.tunnel.dial("echo") for _ in range(8)]
        for sock in socks:
            in_threads(lambda sock=sock: harness.send_pattern(sock, "move", MIB),
                       lambda sock=sock: harness.receive_pattern(sock, "move", MIB))
        wait_until(lambda: len(data_connections(run, proxy)) == 9, "each stream has moved")
        wait_until(lambda: len(data_connections(run, proxy)) < 9, "a stream moves back", limit=90, step=0.005)
        for _ in range(10):
            for connection in data_connections(run, proxy):
                if generator.random() < 0.5:
                    proxy.cut(generator.random() < 0.5, words=[f"on={connection['id']}"])
            time.sleep(generator.uniform(0, 0.1))  # the moment is the parameter of the test
        for sock in socks:
            sock.sendall(run.canary)
            assert harness.receive_exactly(sock, 64) == run.canary
            sock.close()
