# SPDX-License-Identifier: ISC
"""A relay that sends frames as it likes to operator and device; F-41 of docs/faults.md. It may end the tunnel, and nothing else: no
crash, no memory, no descriptors, no process that stays."""

import contextlib
import secrets
import signal
import struct
import time

import pytest

import harness
from harness import wait_until
from played_relay import BYE, ERROR, PEER, PING, RESTARTING, SESSION, STREAM_END, WELCOME, PlayedRelay, ticket
from process_stats import DOCUMENTED_STATUSES, is_alive
from relayclient import raw

GROWTH = 8 * 1024  # KiB
GREATEST = 0xffffffff


def end(rid, stream, attempt, code):
    return raw(STREAM_END, rid + struct.pack(">IIHQQ", stream, attempt, code, 0, 0))


FRAMES = {  # by name: what the relay sends in the session @rid
    "peers": lambda rid: [raw(PEER, rid + bytes([n % 2, n % 15])) for n in range(20000)],
    "ports": lambda rid: [raw(SESSION, rid + struct.pack(">HIB", n * 13 % 65536, n, n % 2)) for n in range(5000)],
    "tickets": lambda rid: [ticket(rid, n, 1) for n in range(1, 10000)],
    "attempts": lambda rid: [ticket(rid, 1, n) for n in range(2, 10000)],
    "one ticket": lambda rid: [ticket(rid, n, n, bytes(16)) for n in (1, 1, 2, 3, GREATEST, GREATEST)],
    "segments": lambda rid: [ticket(rid, n, 1, segment=n * 700 % 65536) for n in range(100)],
    "no attempt": lambda rid: [ticket(rid, 0, 0), end(rid, 0, 0, 0)],
    "shared connections": lambda rid: [ticket(rid, 0, n) for n in range(2, 10000)],
    "ends of the shared connection": lambda rid: [end(rid, 0, n % 4, n % 30) for n in range(20000)],
    "ends": lambda rid: [end(rid, n % 70, n % 4, n % 30) for n in range(20000)],
    "another session": lambda rid: [ticket(bytes(16), 1, 2), end(bytes(16), 1, 1, 0), raw(PEER, bytes(16) + b"\0\4"), raw(BYE, b"\0\1" + bytes(16))],
    "pings": lambda rid: [raw(PING, secrets.token_bytes(8)) for _ in range(20000)],
    "restarting": lambda rid: [raw(RESTARTING, struct.pack(">II", GREATEST, GREATEST))] * 100,
    "second welcome": lambda rid: [raw(WELCOME, struct.pack(">H16sIHI", 1, bytes(16), 0, 0, 0))],
    "unknown": lambda rid: [raw(0x80, bytes(1000))] * 5000,
    "oversized": lambda rid: [raw(0x81, bytes(1000), length=65535), bytes(65535)],
    "no type": lambda rid: [raw(0x7F, b"")],
    "errors": lambda rid: [raw(ERROR, struct.pack(">H", code) + rid) for code in range(100)],
    "noise": lambda rid: [secrets.token_bytes(5000)],
    **{f"bye {code}": lambda rid, code=code: [raw(BYE, struct.pack(">H", code) + rid)] for code in (0, 2, 12, 13, 99)},
}


class Parties:
    """A tunnel through a played relay, and the device's worker."""

    def __init__(self, env, relay, agent):
        self.tunnel = env.connect(wait=False, GOTTHARD_SERVER_HOST="127.0.0.1", GOTTHARD_SERVER_PORT=relay.operator.port,
                                  GOTTHARD_TIMEOUTS_RESUME_WINDOW="2s")
        self.tunnel.wait_up()
        self.relay, self.rid = relay, relay.device.rid
        self.pids = self.tunnel.pid, *harness.children_of(agent.pid)
        assert len(self.pids) == 2
        self.rss = [harness.rss_kib(pid) for pid in self.pids]

    def check_memory(self):
        for pid, before in zip(self.pids, self.rss):
            if is_alive(pid) and harness.SANITIZER == "none":
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, AttributeError):  # it has just ended
                    assert harness.rss_kib(pid) < before + GROWTH, "memory grows"

    def end(self):
        if self.tunnel.is_running():
            self.tunnel.send(signal.SIGINT)  # ends it also where it has just stopped to handle signals
        assert self.tunnel.wait() in (*DOCUMENTED_STATUSES["cli"], -signal.SIGINT), self.tunnel.log()
        wait_until(self.has_worker_ended, "the worker ends", step=0.1)

    def has_worker_ended(self):
        """A relay could keep the worker until the lifetime of the session is over. This one sends BYE, also after a reconnect."""
        self.relay.device.send(raw(BYE, b"\0\1" + self.rid), self.rid)
        return not is_alive(self.pids[1])


@pytest.mark.parametrize("victim", ["operator", "device"])
def test_f41_hostile_frames(env, victim):
    """All kinds one after another, each with a tunnel of its own."""
    env.broker()
    with contextlib.closing(PlayedRelay(env)) as relay:
        agent = env.agent(GOTTHARD_SERVER_HOST="127.0.0.1", GOTTHARD_SERVER_PORT=relay.device.port,
                          GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, GOTTHARD_TIMEOUTS_RESUME_WINDOW="2s")
        for name, frames in FRAMES.items():
            print(name)
            started = time.monotonic()
            parties = Parties(env, relay, agent)
            side = getattr(relay, victim)
            side.send(b"".join(frames(side.rid)))
            wait_until(lambda: time.monotonic() - started > 0.2, "a moment")
            parties.check_memory()
            parties.end()
            assert agent.is_running()
    assert agent.stop() == 0
