# SPDX-License-Identifier: ISC
"""An operator with a valid key, Bob, attacks the relay and a device from inside a session; F-42 of docs/faults.md. That may end this
session. The sessions of others, the device and the relay are unaffected."""

import contextlib
import os
import secrets
import select

import pytest

import harness
from fault_run import FaultRun
from harness import receive_exactly, wait_until
from relayclient import OPERATOR, RECEIPT, Client, join, raw, receive_reply

MIB = 1024  # in KiB
STREAM_MAX = 0xffffffff


def rid_of(folder, operator):
    """The rid of a session, which its file in the agent's state directory has after the name of the operator."""
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        if operator in data:
            at = data.index(operator) + len(operator)
            return data[at:at + 16].hex()
    return None


class Bob:
    """Bob's side of the session: clients without any behavior of their own, each of which replaces the previous one."""

    def __init__(self, env, rid):
        self.env, self.rid, self.generation = env, rid, 1000

    def client(self):
        self.generation += 1
        # The device reports the lost data connections of bob's command 0.5 s after their end, and again later.
        client = Client(self.env, "g1:o:bob", unread=("end",))
        client.register(self.rid, generation=self.generation)
        return client

    def end(self):
        client = self.client()
        client.do("bye", 1, self.rid)
        wait_until(lambda: any(line.startswith("closed") for line in client.all), "the relay has received the BYE")
        client.kill()


@contextlib.contextmanager
def hostile_operator(env, **of_command):
    """A run with the load of alice. Bob's command, with these variables, has come to the relay and is then replaced by Bob."""
    state = env.folder / "state"
    state.mkdir(mode=0o700)
    env.clients = []
    with FaultRun(env, agent_env={"STATE_DIRECTORY": state}) as run:
        run.load.rate = 1 << 20
        run.start()
        before = set(run.workers())
        tunnel = env.connect("GatewayOli", "0:echo", name="bob", **of_command)
        worker, = set(run.workers()) - before
        bob = Bob(env, wait_until(lambda: rid_of(state, b"bob"), "the session file of bob"))
        bob.client()
        assert tunnel.wait() == 76 and tunnel.event("error")["id"] == "GTD-E53", "replaced"
        assert "replaced" in tunnel.event("error")["message"] and "log of the relay" in tunnel.event("error")["hint"]
        pids = worker, run.relay.pid
        rss = [harness.rss_kib(pid) for pid in pids]
        yield run, bob
        run.load.wait_for_progress(64 << 10)
        run.echo_through(run.tunnel)
        for pid, kib in zip(pids, rss):
            assert harness.rss_kib(pid) < kib + 8 * MIB or harness.SANITIZER != "none"
        bob.end()
        wait_until(lambda: set(run.workers()) == before, "bob's worker ended")
        for client in env.clients:
            client.kill()


def open_frame(rid, stream, attempt, segment=0):
    return raw(0x20, bytes.fromhex(rid) + stream.to_bytes(4, "big") + attempt.to_bytes(4, "big") + segment.to_bytes(2, "big"))


def stream_end(rid, stream, attempt, code):
    return raw(0x22, bytes.fromhex(rid) + stream.to_bytes(4, "big") + attempt.to_bytes(4, "big") + code.to_bytes(2, "big") + bytes(16))


def load(rid, n_streams):
    return raw(0x81, bytes.fromhex(rid) + n_streams.to_bytes(4, "big"))


def send(client, frames):
    """Sends frames at once. Then the relay answers, or has closed the connection with an error."""
    for at in range(0, len(frames), 1000):
        client.do("raw", b"".join(frames[at:at + 1000]).hex())
    n = secrets.randbits(60)
    client.do("ping", n)
    wait_until(lambda: f"pong n={n}" in client.all or any(line.startswith(("error", "closed")) for line in client.all),
               "the relay answers or closes")


FLOODS = {
    "opens": [lambda rid: [open_frame(rid, n, 1) for n in range(1, 10001)],
              lambda rid: [open_frame(rid, STREAM_MAX - n, STREAM_MAX - n) for n in range(100)],
              lambda rid: [open_frame(rid, 30000 + n, 1, n * 257) for n in range(256)]],
    "attempts": [lambda rid: [open_frame(rid, 40000, n) for n in range(1, 10001)],
                 lambda rid: [open_frame(rid, 0, 1000 + n) for n in range(1, 10001)]],
    "ends": [lambda rid: [stream_end(rid, n % 300, n % 3, n % 64) for n in range(10000)],
             lambda rid: [frame for n in range(50000, 52000) for frame in (open_frame(rid, n, 1), stream_end(rid, n, 1, 21))],
             lambda rid: [load(rid, n % 2 * n) for n in range(1, 5000)],
             lambda rid: [raw(0x12, bytes.fromhex(rid) + b"\0\4")]],
}


@pytest.mark.parametrize("kind", FLOODS)
def test_f42_flood_of_frames(env, kind):
    with hostile_operator(env) as (_, bob):
        for frames in FLOODS[kind]:
            send(bob.client(), frames(bob.rid))


def test_f42_session_of_another_operator(env):
    """Frames that name alice's session have no effect on it."""
    with hostile_operator(env) as (_, bob):
        alices = wait_until(lambda: rid_of(env.folder / "state", b"alice"), "the session file of alice")
        client = bob.client()
        for generation in (0, STREAM_MAX):
            client.do("rendezvous", alices, generation, 0, 0)
            client.receive("error", rid=alices)
        send(client, [open_frame(alices, n, 1000 + n) for n in range(1, 50)])
        send(bob.client(), [stream_end(alices, n, attempt, 0) for n in range(1, 50) for attempt in (1, 2)])
        client = bob.client()
        for code in range(25):
            client.do("bye", code, alices)
        send(client, [])


NO_TLS = [b"", os.urandom(1 << 18), b"\x16\x03\x01\xff\xff" + bytes(1 << 17), b"\x16\x03\x01\x00\xc8\1\0\0\xc4"]


def send_no_tls(sock, data):
    """Sends something other than TLS to the device on a joined connection, and closes it."""
    receive_reply(sock)
    sock.settimeout(1)
    with contextlib.suppress(OSError):
        sock.sendall(data)
    sock.settimeout(None)
    if select.select([sock], [], [], 0.2)[0]:
        with contextlib.suppress(ConnectionError):
            assert len(sock.recv(100)) <= 7, "an alert at most"
    sock.close()


def test_f42_joined_without_tls(env):
    """Bob joins tickets of the shared connection without TLS: nothing, noise, a long record, half a hello."""
    with hostile_operator(env) as (_, bob):
        client = bob.client()
        for n in range(len(NO_TLS)):  # each ends the one before
            send_no_tls(join(env.relay_port, client.ticket(bob.rid, 0, 2000 + n), OPERATOR), NO_TLS[n])


def test_f42_tickets_of_streams_that_are_not_there(env):
    """The device rejects them, and the relay closes the connection without a byte, or behind its receipt."""
    with hostile_operator(env) as (_, bob):
        client = bob.client()
        for n in range(12):
            with join(env.relay_port, client.ticket(bob.rid, 2000 + n), OPERATOR) as sock, contextlib.suppress(ConnectionError):
                assert receive_exactly(sock, 16) in (b"", RECEIPT)