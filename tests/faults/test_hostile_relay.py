# SPDX-License-Identifier: ISC
"""A relay that cheats with the data connections in its hands; F-41 of docs/faults.md. Each trick costs that connection, and no byte."""

import contextlib

import pytest

from fault_run import FaultRun
from harness import wait_until
from hostile_relay import RECORD_ATTACKS, REPLY_ATTACKS, HostileRelay
from load import Echo

RATE = 200 << 10  # bytes a second of each stream and direction


@contextlib.contextmanager
def hostile_run(env, n_streams):
    """A run whose two sides use the hostile relay."""
    with contextlib.closing(HostileRelay(env)) as relay:
        there = {"GOTTHARD_SERVER_HOST": relay.host, "GOTTHARD_SERVER_SINGLE_PORT": "true"}
        with FaultRun(env, n_streams=n_streams, relay_env={"GOTTHARD_SERVER_BIND": "127.0.0.1"}, agent_env=there, cli_env=there) as run:
            run.load.rate = RATE
            run.start()
            wait_until(lambda: len({connection.key for connection in relay.connections}) > n_streams, "each stream has moved")
            yield run, relay


def streams_of(relay, n, but=b""):
    """The keys of the @n streams that carry the most; not of the session at port @but."""
    found = {}
    for connection in list(relay.connections):
        if connection.key[:2] != but:
            found[connection.key] = max(found.get(connection.key, 0), *connection.n.values())
    return sorted(found, key=found.get)[-n:]


@pytest.mark.parametrize("way", ["up", "down"])
def test_f41_changed_records(env, way):
    """Records dropped, repeated, exchanged, of another stream, cut, or invented: one attack on each stream, at once."""
    with hostile_run(env, len(RECORD_ATTACKS)) as (run, relay):
        streams = streams_of(relay, len(RECORD_ATTACKS))
        relay.plan = {("record", stream): (attack, way) for stream, attack in zip(streams, RECORD_ATTACKS)}
        wait_until(lambda: not relay.plan, "each attack takes place")
        wait_until(lambda: all(connection.is_over for connection in relay.done), "each attacked connection ends", limit=20)
        run.load.wait_for_progress(64 << 10)


@pytest.mark.parametrize("way", ["up", "down"])
def test_f41_changed_records_of_the_shared_connection(env, way):
    """The same attacks one after another, each on the connection that many streams share: all of them continue in the next one."""
    with hostile_run(env, 1) as (run, relay):
        key = next(connection.key for connection in relay.connections if connection.key[2:] == bytes(4))
        for attack in RECORD_ATTACKS:
            relay.plan = {("record", key): (attack, way)}
            wait_until(lambda: not relay.plan, f"the attack takes place: {attack}")
            wait_until(lambda: relay.done[-1].is_over, f"the attacked connection ends: {attack}", limit=20)
            before = [echo.n_echoes for echo in run.quiet]
            wait_until(lambda before=before: all(echo.error or echo.n_echoes > n + 1 for echo, n in zip(run.quiet, before)),
                       f"the streams continue: {attack}")


def test_f41_changed_replies_to_a_join(env):
    """Receipts and greetings that are repeated, missing, or something else. The next data connection works."""
    with hostile_run(env, len(REPLY_ATTACKS)) as (run, relay):
        streams = streams_of(relay, len(REPLY_ATTACKS))
        relay.plan = {("reply", stream): (attack, None) for stream, attack in zip(streams, REPLY_ATTACKS)}
        relay.cut()
        wait_until(lambda: not relay.plan, "each attack takes place")
        run.load.wait_for_progress(64 << 10)


def test_f41_exchanged_joins(env):
    """The operator's side of a stream is joined to the device's side of another stream, of the same session and of another one."""
    with hostile_run(env, 3) as (run, relay):
        mine = streams_of(relay, 3)
        typing = Echo(run.connect("bob").dial("echo"), pause=0.01)
        wait_until(lambda: typing.n_echoes > 30, "bob's stream has a data connection")
        bobs, = streams_of(relay, 1, but=mine[0][:2])
        relay.exchanges = {mine[0]: mine[1], mine[1]: mine[0], mine[2]: bobs, bobs: mine[2]}
        n_echoes = typing.n_echoes
        relay.cut()
        wait_until(lambda: len(relay.exchanged) == 4, "all four were presented")
        run.load.wait_for_progress(64 << 10)
        wait_until(lambda: typing.n_echoes > n_echoes + 30 or typing.error, "bob's stream continues")
        typing.is_over.set()
        assert not typing.error, typing.error
