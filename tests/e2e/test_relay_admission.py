# SPDX-License-Identifier: ISC
"""Whom the relay admits: a key that it no longer has, and an identity in relay.refused, end live connections, sessions and pairs
at a reload. A missing or broken file changes nothing.
"""

import contextlib
import re
import secrets
import signal
import subprocess
import time

import pytest

import harness
from harness import LIMIT, receive_exactly, wait_until
from relayclient import LENIENT, Client, assert_closed_without_data, joined, register_pair
from setting_markers import effect, refuses
from test_tunnel import assert_alive
from test_upgrade import installed, upgrade  # noqa: F401 (a fixture)

OLD_KEY, REFUSED = 22, 23
NO_RID = "0" * 32
SLOW = 1 if harness.SANITIZER == "none" else 10


@contextlib.contextmanager
def with_key(env, key):
    """Clients that are started inside have this key."""
    before, env.key = env.key, key
    yield
    env.key = before


def key_group(current, previous=None):
    return f'crypt = {{ key = "{current}"; {f"""key_previous = "{previous}";""" if previous else ""} }};'


class Relay:
    """A relay whose configuration can be changed."""

    def __init__(self, start, more=""):
        self.process = start(LENIENT, more)
        self.path = self.process.folder_of_config / "relayd.conf"
        self.common = self.path.read_text().removesuffix(more)
        self.n_reloads = self.n_rejected = 0

    def configure(self, more):
        self.path.write_text(self.common + more)

    def reload(self, more):
        self.configure(more)
        self.process.send(signal.SIGHUP)
        self.n_reloads += 1
        self.process.wait_for("configuration reloaded", count=self.n_reloads)

    def reload_rejected(self, why, more=None):
        if more is not None:
            self.configure(more)
        self.process.send(signal.SIGHUP)
        self.n_rejected += 1
        line = self.process.wait_for("configuration not reloaded, continuing with the old one: .*", count=self.n_rejected).group()
        assert re.search(why, line), line


@pytest.fixture
def relay_with(relay_of):
    return lambda more="": Relay(relay_of, more)


class Pair:
    """A session with a joined stream."""

    def __init__(self, env, names=("alice", "oli")):
        self.operator, self.device, self.rid, port = register_pair(env, names=names)
        self.ends = joined(self.operator, self.device, self.rid, port, 1)
        self.n = 1

    def assert_works(self):
        self.ends[0].sendall(b"ping")
        assert receive_exactly(self.ends[1], 4) == b"ping"
        assert self.operator.has_no_more_frames() and self.device.has_no_more_frames()

    def assert_ended(self, code, disconnected):
        """Both sides read the reason within a second, the pair is closed, and @disconnected lose their control connections."""
        started = time.monotonic()
        for client in (self.operator, self.device):
            client.receive("bye", code=code, rid=self.rid)
        for client in disconnected:
            client.receive("bye", code=code, rid=NO_RID)
            client.receive("closed", reason="closed")
        for end in self.ends:
            assert_closed_without_data(end)
        assert time.monotonic() - started < SLOW


def assert_rejected(env, identity):
    client = Client(env, identity, hello=False)
    wait_until(lambda: client.lines, f"{identity} has an answer")
    assert "connected" not in client.all, client.all


def test_old_key_ends_with_its_removal(env, relay_with):
    """A connection is bound to the key of its ClientHello: it stays while that key is the current or the previous one."""
    old, new = env.key, secrets.token_hex(32)
    relay = relay_with(key_group(old))
    first = Pair(env)
    relay.reload(key_group(new, old))
    with with_key(env, new):
        second = Pair(env, ("bob", "ida"))
        operator = Client(env, "g1:o:carol")
    device = Client(env, "g1:d:uno")
    mixed = secrets.token_hex(16)
    operator.register(mixed)
    device.register(mixed, peer=True)
    operator.receive("peer", up=1)
    relay.reload(key_group(old, new))
    relay.reload(key_group(new, old))
    for pair in (first, second):
        pair.assert_works()
    relay.reload(key_group(new))
    first.assert_ended(OLD_KEY, (first.operator, first.device))
    second.assert_works()
    for client in (operator, device):
        client.receive("bye", code=OLD_KEY, rid=mixed)
    device.receive("bye", code=OLD_KEY, rid=NO_RID)
    assert operator.has_no_more_frames()
    assert_rejected(env, "g1:o:alice")
    with with_key(env, new):
        operator.do("rendezvous", first.rid, 9, 0, 0)
        operator.receive("bye", code=OLD_KEY, rid=first.rid)


def test_all_connections_of_an_old_key_end(env, relay_with):
    """Connections without a session or before HELLO end, and a session whose side is absent."""
    old, new = env.key, secrets.token_hex(32)
    relay = relay_with(key_group(old))
    idle, early = Client(env, "g1:o:idle"), Client(env, "g1:o:early", hello=False)
    early.receive("connected")
    pair = Pair(env)
    pair.operator.kill()
    pair.device.receive("peer", up=0)
    relay.reload(key_group(new))
    for client in (idle, early):
        client.receive("bye", code=OLD_KEY, rid=NO_RID)
        client.receive("closed", reason="closed")
    pair.device.receive("bye", code=OLD_KEY, rid=pair.rid)
    for end in pair.ends:
        assert_closed_without_data(end)


def test_another_text_of_the_same_key_keeps_sessions(env, relay_with):
    relay = relay_with(key_group(env.key))
    pair = Pair(env)
    for text in (env.key.upper(), env.cli("keygen", "relay").stdout.strip()):
        relay.reload(key_group(text))
        pair.assert_works()
    assert text.startswith("gk1r."), text


def test_missing_or_broken_key_keeps_everything(env, relay_with):
    path = env.folder / "relay.key"
    path.write_text(env.key)
    path.chmod(0o600)
    relay = relay_with(f'crypt = {{ key_file = "{path}"; }};')
    pair = Pair(env)
    for text in (env.key[:40], "0" * 64, ""):
        path.write_text(text)
        relay.reload_rejected("crypt.key")
    path.unlink()
    relay.reload_rejected("crypt.key.*No such file")
    relay.reload_rejected("crypt.key", key_group("broken"))
    pair.assert_works()
    Client(env, "g1:o:bob")


@pytest.mark.parametrize("changes", ["with-the-upgrade", "after-the-upgrade"])
def test_live_upgrade_remembers_the_key(env, installed, relay_with, changes):  # noqa: F811
    """The next image does not know when a session authenticated, but with which key."""
    old, new = env.key, secrets.token_hex(32)
    relay = relay_with(key_group(old))
    pair = Pair(env)
    if changes == "with-the-upgrade":
        relay.configure(key_group(new))
    upgrade(relay.process)
    if changes == "with-the-upgrade":
        for client in (pair.operator, pair.device):
            client.receive("bye", code=OLD_KEY, rid=pair.rid)
    if changes == "after-the-upgrade":
        pair.ends[0].sendall(b"ping")
        assert receive_exactly(pair.ends[1], 4) == b"ping"
        relay.reload(key_group(new))
    for end in pair.ends:
        assert_closed_without_data(end, SLOW)
    with with_key(env, new):
        device = Client(env, "g1:d:oli")
    device.do("rendezvous", pair.rid, 2, 0, 0)
    device.receive("bye", code=OLD_KEY, rid=pair.rid)


# --- refused identities ---------------------------------------------------------------------------


class List:
    """The file of relay.refused."""

    def __init__(self, env, *lines):
        self.path = env.folder / "refused"
        self.setting = f'relay = {{ refused = "{self.path}"; }};'
        self.write(*lines)

    def write(self, *lines):
        self.path.write_text("".join(f"{line}\n" for line in lines or ["# none"]))


@effect("relayd", "relay.refused")
def test_refused_identity_ends_at_a_reload(env, relay_with):
    """Its sessions end with a reason for both sides, the other side's other sessions stay, and it cannot return."""
    refused = List(env)
    relay = relay_with(refused.setting)
    mallory, stolen, honest = Pair(env, ("mallory", "oli")), Pair(env, ("alice", "stolen-17")), Pair(env, ("alice", "oli"))
    same_name = Client(env, "g1:d:mallory")
    refused.write("# lost laptop", "o:mallory", "", "\td:stolen-17\t# stolen", "o:Alice", "d:alice", "o:oli", "o:alic")
    relay.reload(refused.setting)
    relay.process.wait_for("relay.refused: identities=6")
    mallory.assert_ended(REFUSED, [mallory.operator])
    stolen.assert_ended(REFUSED, [stolen.device])
    honest.assert_works()
    for client in (mallory.device, stolen.operator, same_name):
        assert client.has_no_more_frames()
    assert_rejected(env, "g1:o:mallory")
    assert_rejected(env, "g1:d:stolen-17")
    relay.process.wait_for('client=g1:[od]:(mallory|stolen-17) refused suppressed=')
    mallory.device.do("rendezvous", mallory.rid, 7, 0, 0)
    mallory.device.receive("bye", code=REFUSED, rid=mallory.rid)
    refused.write()
    relay.reload(refused.setting)
    Pair(env, ("mallory", "oli")).assert_works()


def test_refused_identity_looks_like_an_unknown_key(env, relay_with):
    """A refused identity with the right key gets the same answer as a wrong key."""
    refused = List(env, "o:mallory")
    relay_with(refused.setting)

    def answer(identity):
        client = Client(env, identity, hello=False)
        wait_until(lambda: client.lines, "the relay has answered")
        return client.all[0]

    with with_key(env, secrets.token_hex(32)):
        wrong = answer("g1:o:alice")
    assert answer("g1:o:mallory") == wrong
    assert answer("g1:o:alice") != wrong


def test_refused_list_is_never_lost(env, relay_with):
    """A file that is missing, empty or broken, and a setting that is missing, keep the list in force."""
    refused = List(env, "o:mallory")
    relay = relay_with(refused.setting)
    alice = Client(env, "g1:o:alice")
    for text in ("", " \n\r\n", "o:mallory\no:al ice\n"):
        refused.path.write_text(text)
        relay.reload_rejected(f"relay.refused: {refused.path}:[12]: ")
    refused.path.unlink()
    relay.reload_rejected(f"relay.refused: {refused.path}: No such file")
    refused.write("o:mallory")
    refused.path.chmod(0o666)
    relay.reload_rejected(f"relay.refused: {refused.path}: ")
    relay.reload_rejected("relay.refused: missing", "")
    assert_rejected(env, "g1:o:mallory")
    assert alice.has_no_more_frames()


@pytest.mark.parametrize("changes", ["with-the-upgrade", "after-the-upgrade"])
def test_live_upgrade_applies_the_refused_list(env, installed, relay_with, changes):  # noqa: F811
    refused = List(env)
    relay = relay_with(refused.setting)
    mallory, honest = Pair(env, ("mallory", "oli")), Pair(env)
    if changes == "with-the-upgrade":
        refused.write("o:mallory")
    upgrade(relay.process)
    if changes == "with-the-upgrade":
        for client in (mallory.operator, mallory.device):
            client.receive("bye", code=REFUSED, rid=mallory.rid)
    honest.operator.receive("restarting")
    if changes == "after-the-upgrade":
        refused.write("o:mallory")
        relay.reload(refused.setting)
    for end in mallory.ends:
        assert_closed_without_data(end, SLOW)
    honest.ends[0].sendall(b"ping")
    assert receive_exactly(honest.ends[1], 4) == b"ping"
    assert_rejected(env, "g1:o:mallory")
    device = Client(env, "g1:d:oli")
    device.do("rendezvous", mallory.rid, 2, 0, 0)
    device.receive("bye", code=REFUSED, rid=mallory.rid)


def test_live_upgrade_never_loses_the_refused_list(env, installed, relay_with):  # noqa: F811
    """As by a reload: the running version continues, whatever is missing."""
    refused = List(env, "o:mallory")
    relay = relay_with(refused.setting)
    alice = Client(env, "g1:o:alice")
    relay.configure("")
    relay.process.send(signal.SIGUSR2)
    relay.process.wait_for("upgrade rejected, continuing with the running version reason=.relay.refused: missing")
    relay.configure(refused.setting)
    refused.path.unlink()
    relay.process.send(signal.SIGUSR2)
    relay.process.wait_for("upgrade rejected, continuing with the running version", count=2)
    assert "took over" not in relay.process.log()
    assert_rejected(env, "g1:o:mallory")
    assert alice.has_no_more_frames()


def test_refused_list_of_thousands(env, relay_with):
    """Reading, and a lookup in, a long list takes no noticeable time."""
    refused = List(env, *(f"d:device-{n:05}" for n in range(20000)), "o:mallory")
    relay = relay_with(refused.setting)
    started = time.monotonic()
    relay.reload(refused.setting)
    assert time.monotonic() - started < SLOW
    for identity in ("g1:d:device-00000", "g1:d:device-19999", "g1:o:mallory"):
        assert_rejected(env, identity)
    Client(env, "g1:d:device-20000")


@refuses("relayd", "relay.refused")
@pytest.mark.parametrize("line", ["mallory", "g1:o:mallory", "x:mallory", "O:mallory", "o:", "o:-mallory", "o:mal lory", "o:m/x",
                                  "o:mallory d:oli", "o:" + "m" * 129, "o:m\u0430llory", "o: mallory", "revoked o:mallory"])
def test_refused_names_that_cannot_exist(env, line):
    """Such a line would refuse no client: the configuration is rejected, with the file and the line."""
    refused = List(env, "# comment", line)
    folder = env.config_folder(relayd=refused.setting)
    done = subprocess.run([harness.PROGRAMS["relayd"], "--check-config"], capture_output=True, text=True, timeout=LIMIT,
                          env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    assert done.returncode == 78, done.stderr
    assert f"relay.refused: {refused.path}:2: expected o:NAME" in done.stderr, done.stderr


# --- the ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["operator", "device", "key"])
def test_both_ends_print_the_reason(env, relay_of, why):
    """The tunnel of a refused side, or of an old key, ends at the reload, and both programs state why."""
    env.broker()
    refused = List(env)
    relay = Relay(relay_of, refused.setting + key_group(env.key))
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    tunnel = env.connect()
    with tunnel.dial() as sock:
        sock.sendall(b"x")
        assert receive_exactly(sock, 1) == b"x"
        if why == "key":
            relay.reload(refused.setting + key_group(secrets.token_hex(32)))
        else:
            refused.write("o:alice" if why == "operator" else "d:GatewayOli")
            relay.reload(refused.setting + key_group(env.key))
        started = time.monotonic()
        assert tunnel.wait() == 77, tunnel.out()
        assert time.monotonic() - started < 2 * SLOW
    text = "no longer accepts the key" if why == "key" else "refuses the operator or the device"
    assert text in tunnel.log() + tunnel.out() and "GTD-E51" in tunnel.log() + tunnel.out()
    agent.wait_for(f'ended cause=relay .*reason="the relay {text}')
