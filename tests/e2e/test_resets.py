# SPDX-License-Identifier: ISC
"""What a side sent before it reset its connection arrives, and then the reset."""

import queue
import random
import socket
import struct
import threading
import time

import pytest

import harness
import resets
from harness import LIMIT
from resets import CONVERSATIONS
from test_upgrade import upgrade

N_TRIES = 20


@pytest.fixture(name="host")
def running_host(env):
    env.broker()
    env.relay()
    host = resets.Host(env)
    env.agent(GOTTHARD_AGENT_DATA_PORT=host.target.port)
    return host


def describe(received):
    return received and (len(received.data), received.end)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_bytes_before_a_reset_arrive(env, host, name):
    tunnel = env.connect(options=("--share",))  # some clients close before they are accepted
    conversation = CONVERSATIONS[name]
    results = [host.hold(conversation, tunnel.dial) for _ in range(N_TRIES)]
    failures = [(describe(up), describe(down)) for up, down in results if not resets.is_whole(conversation, up, down)]
    assert not failures, f"{N_TRIES - len(failures)} of {N_TRIES} tries were right: {failures[:3]}"


@pytest.fixture(name="forwarding")
def ssh_forwarding(env, host):
    """The local port of an `ssh -L` to the host."""
    sshd, port = harness.Sshd(env), harness.free_ports(1)
    command = sshd.ssh(sshd.port)
    harness.Process(env, "ssh", [*command[:-1], "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{host.target.port}", command[-1]])
    harness.wait_until(lambda: harness.is_listening(port), "ssh forwards")
    return port


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tunnel_delivers_what_a_direct_connection_delivers(env, host, forwarding, name):
    """At least as many bytes as a direct connection and `ssh -L`, and the end of a direct connection."""
    tunnel = env.connect(options=("--share",))
    results = {}
    for way, port in (("direct", host.target.port), ("ssh", forwarding), ("tunnel", tunnel.port())):
        results[way] = host.hold(CONVERSATIONS[name], lambda port=port: socket.create_connection(("127.0.0.1", port), LIMIT))
    for side in (0, 1):
        direct, ssh, ours = (results[way][side] for way in ("direct", "ssh", "tunnel"))
        if ours:
            assert len(ours.data) >= max(len(direct.data), len(ssh.data)) and ours.end == direct.end, [
                describe(received) for received in (direct, ssh, ours)]


# --- over lost data connections -------------------------------------------------------------------

N_STREAMS = 12


class Party:
    """One side of some streams: a sender that resets them, and a reader at the other side."""

    def __init__(self, env, sender):
        self.sender = sender
        self.accepted = queue.Queue()
        self.is_over = threading.Event()
        self.relay = env.relay()
        env.broker()
        target = env.target(self._hold)
        env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
        self.env, self.tunnel = env, env.connect()

    def _hold(self, sock):
        self.accepted.put(sock)
        self.is_over.wait()

    def open(self, n):
        """Returns pairs of the sender's and the reader's socket of new streams."""
        pairs = []
        for _ in range(n):
            client = self.tunnel.dial()
            client.sendall(b"?")  # the device connects to the target at the first byte
            server = self.accepted.get(timeout=LIMIT)
            server.settimeout(LIMIT)
            assert server.recv(1) == b"?"
            pairs.append((client, server) if self.sender == "operator" else (server, client))
        return pairs

    def kill_relay(self):
        self.relay.kill()
        self.relay.wait()

    def restart_relay(self):
        self.relay = self.env.relay()


@pytest.fixture(name="party", params=["operator", "device"])
def running_party(env, request):
    party = Party(env, request.param)
    yield party
    party.is_over.set()


def check_all(pairs, sizes, pause=0, size=1 << 18):
    """Every reader gets all bytes of its stream, then the reset."""
    results = [None] * len(pairs)

    def read(number, reader):
        results[number] = resets.receive_to_end(reader, pause=pause, size=size)

    harness.in_threads(*[lambda n=n, r=reader: read(n, r) for n, (_, reader) in enumerate(pairs)])
    for number, n in enumerate(sizes):
        data = resets.words(f"stream {number}", n)
        assert results[number] == (data, "reset"), f"stream {number}: {len(results[number].data)} of {n}, {results[number].end}"


@pytest.mark.parametrize("order", ["bytes, kill, reset", "kill, bytes, reset", "bytes, reset, kill", "bytes, upgrade, reset, kill"])
def test_bytes_before_a_reset_survive_a_killed_relay(party, order):
    for _ in range(2):
        sizes = [n * 8_000 for n in range(N_STREAMS)]  # that the kernel and the small ring of an end have room for
        pairs = party.open(N_STREAMS)
        for step in order.split(", "):
            if step == "kill":
                party.kill_relay()
                continue
            if step == "upgrade":
                upgrade(party.relay)
                continue
            for number, (sender, _) in enumerate(pairs):
                if step == "bytes":
                    resets.send_flushed(sender, resets.words(f"stream {number}", sizes[number]))
                else:
                    resets.reset(sender)
        party.restart_relay()
        check_all(pairs, sizes)


def test_bytes_before_a_reset_survive_repeated_cuts(party):
    """8 MiB and then a reset, while the relay is killed again and again."""
    sizes = [8 * resets.MIB + 1, 4 * resets.MIB, 100_000, 1]
    pairs = party.open(len(sizes))

    def send(number, sender):
        resets.send_flushed(sender, resets.words(f"stream {number}", sizes[number]))
        resets.reset(sender)

    def cut():
        for _ in range(3):
            time.sleep(0.1)
            party.kill_relay()
            party.restart_relay()

    harness.in_threads(cut, lambda: check_all(pairs, sizes, pause=0.01),
                       *[lambda n=n, s=sender: send(n, s) for n, (sender, _) in enumerate(pairs)])


def test_slow_reader_gets_every_byte_before_the_reset(party):
    sizes = [3 * resets.MIB] * 4
    pairs = party.open(len(sizes))

    def send(number, sender):
        resets.send_flushed(sender, resets.words(f"stream {number}", sizes[number]))
        resets.reset(sender)

    harness.in_threads(lambda: check_all(pairs, sizes, pause=0.005, size=1 << 14),
                       *[lambda n=n, s=sender: send(n, s) for n, (sender, _) in enumerate(pairs)])


def test_many_streams_are_reset_at_once(party):
    sizes = [n * 4_000 for n in range(60)]
    pairs = party.open(len(sizes))
    for number, (sender, _) in enumerate(pairs):
        resets.send_flushed(sender, resets.words(f"stream {number}", sizes[number]))
    for sender, _ in pairs:
        resets.reset(sender)
    check_all(pairs, sizes)
    party.tunnel.event("stream-ended", count=len(sizes), code=1)


# --- random conversations -------------------------------------------------------------------------

SEED = struct.Struct(">Q")


class Side:
    """One side of the conversation @seed: sends its bytes, reads with pauses, and ends in order or by a reset."""

    def __init__(self, sock, seed, number):
        random_ = random.Random(seed)
        self.sock, self.seed, self.number = sock, seed, number
        sizes = [random_.choice((0, 1, 1000, 100_000, 700_000)) for _ in range(2)]
        resetter = random_.choice((0, 1, None))  # it reads nothing
        self.is_resetter = resetter == number
        self.mine = resets.words(f"{seed} {number}", sizes[number])
        self.wanted = resets.Received(resets.words(f"{seed} {1 - number}", sizes[1 - number]), "eof" if resetter is None else "reset")
        self.pause = random_.choice((0, 0, 0.002))
        self.received, self.has_failed = None, False

    def _write(self):
        try:
            self.sock.sendall(self.mine)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # also "not connected" by shutdown(): the reset came before
            self.has_failed = True

    def _read(self):
        self.received = resets.receive_to_end(self.sock, pause=self.pause, size=1 << 15)

    def run(self):
        self.sock.settimeout(LIMIT)
        if self.is_resetter:
            resets.send_flushed(self.sock, self.mine)
            resets.reset(self.sock)
            return
        harness.in_threads(self._write, self._read)
        end = "reset" if self.has_failed else self.received.end
        assert (self.received.data, end) == self.wanted, (
            f"seed {self.seed}, side {self.number}: {len(self.received.data)} of {len(self.wanted.data)}, {end}")


@pytest.mark.parametrize("n_kills", [0, 4])
def test_random_conversations(env, n_kills):
    """Each side gets all that the other sent, and the end of the other, unless it was reset itself."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # of the first
    env.broker()
    relays, ended = [env.relay()], []

    def serve(sock):
        Side(sock, *SEED.unpack(harness.receive_exactly(sock, SEED.size)), 1).run()
        ended.append(sock)

    target = env.target(serve)
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect(options=("--share",))

    def talk(first):
        for number in range(first, first + 20):
            with tunnel.dial() as sock:
                sock.sendall(SEED.pack(number))
                Side(sock, number, 0).run()

    def kill():
        for _ in range(n_kills):
            time.sleep(0.3)
            relays[-1].kill()
            relays[-1].wait()
            relays.append(env.relay())

    harness.in_threads(kill, *[lambda n=n: talk(seed + 20 * n) for n in range(6)])
    harness.wait_until(lambda: len(ended) + len(target.errors) == 120, "the target has ended")
    assert not target.errors, target.errors
