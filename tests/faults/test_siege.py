# SPDX-License-Identifier: ISC
"""The relay under attack by peers without a key; F-43 of docs/faults.md. Honest clients connect in their normal time meanwhile, a live
tunnel's echoes stay fast, and it reconnects after a cut. No attacker gets a byte of an answer.

Several kinds of rubbish share a flood here. `GOTTHARD_SIEGE=600 tests/soak rows faults/test_siege.py` runs each kind alone for 600 s, on
a machine that does nothing else.
"""

import contextlib
import dataclasses
import os
import secrets
import ssl

import pytest

import forge
import harness
import netns
from attack import MIXED, NAT, Attack, rotating
from relayclient import CLIENT_HELLO
from process_stats import is_within
from siege import PATIENCE, Siege


def hello_without_key():
    """What `curl -k https://relay:7000/` sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


ALERT = bytes.fromhex("1503030002022f")  # illegal_parameter, for a hello of Gotthard's form whose binder is wrong
JOIN = b"GTJ1\x01\x01\0\0"
RUBBISH = {
    "silence": b"",
    "no-key": hello_without_key(),
    "half-hello": CLIENT_HELLO[:100],
    "first-byte": b"\x16",
    "almost-a-hello": CLIENT_HELLO[:-1],
    "long-record": b"\x16\x03\x01\xff\xff\x01\0\xff\xfb" + bytes(100),
    "empty-record": b"\x16\x03\x01\0\0",
    "damaged-hello": CLIENT_HELLO,
    "no-ticket": JOIN + bytes(56),
    "half-join": JOIN + bytes(20),
    "other-version": b"GTJ1\x02\x01\0\0" + bytes(56),
    "http": b"GET / HTTP/1.0\r\n\r\n",
}
HELLOS = [data for name, data in RUBBISH.items() if data[:1] == b"\x16"]
OTHERS = [data for name, data in RUBBISH.items() if data[:1] not in (b"\x16", b"")]

FROM_ONE_NAT = {
    "once": Attack([RUBBISH["no-key"]], 100, [NAT], n=1),
    "16-at-a-time": Attack([b"G"], 200, [NAT], "wait", at_once=16),
    "8-a-second": Attack([*RUBBISH.values()], 8, [NAT], "close"),  # also a probe: it connects and closes
    "held": Attack([*RUBBISH.values()], 300, [NAT], at_once=1000),
}
FROM_EVERYWHERE = {
    "silence": Attack([b""], 400),
    "hellos": Attack(HELLOS, 500),
    "others": Attack(OTHERS, 500),
    "trickle": Attack([CLIENT_HELLO, JOIN + bytes(56)], 50, manner="trickle", at_once=300),
}
FLOOD = Attack([*RUBBISH.values()], 500)


@pytest.mark.parametrize("kind", [*FROM_ONE_NAT, *FROM_EVERYWHERE])
def test_honest_clients_connect(env, kind):
    with Siege(env) as siege, siege.attack({**FROM_ONE_NAT, **FROM_EVERYWHERE}[kind]):
        siege.check_honest_clients()


SNIFFED = {
    "replayed": lambda sniffed: Attack(sniffed.hellos + sniffed.joins, 500),
    "wrong-binder": lambda sniffed: Attack(sniffed.hellos, 500, n_random=32, alert=ALERT),
    "wrong-secret": lambda sniffed: Attack(sniffed.joins, 500, n_random=1),
}


@pytest.mark.parametrize("kind", SNIFFED)
def test_honest_clients_connect_beside_sniffed_bytes(env, kind):
    """Hellos and JOINs of honest clients are repeated, unchanged or with another binder or secret."""
    with Siege(env) as siege, siege.attack(SNIFFED[kind](siege.sniff())):
        siege.check_honest_clients()


def test_handshakes_of_a_holder_of_a_key(env):
    """Handshakes of one identity with a valid key that never end, 300 a second. All clients connect, also this one."""
    with Siege(env) as siege:
        hello, psk = siege.sniff(name="bob").hellos[0], forge.psk_of(env, 1, "bob")
        attack = Attack([forge.forge(hello, psk) for _ in range(3000)], 300, has_key=True)
        with siege.attack(attack):
            siege.check_honest_clients()


def test_clients_with_the_previous_key_connect(env):
    """During a key rotation the relay tries two keys for each hello."""
    rotation = {"GOTTHARD_CRYPT_KEY": secrets.token_hex(32), "GOTTHARD_CRYPT_KEY_PREVIOUS": env.key}
    with Siege(env, variables=rotation) as siege, siege.attack(SNIFFED["wrong-binder"](siege.sniff())):
        siege.check_honest_clients()


@pytest.fixture
def syn_cookies():
    """A kernel whose queue of SYNs is always full: it hands connections over before their first bytes."""
    with contextlib.closing(netns.Network()) as network, netns.inside(network.middle):
        with open("/proc/sys/net/ipv4/tcp_syncookies", "w", encoding="ascii") as file:
            file.write("2")
        yield


def check_distant_clients(env, flood):
    """Their first byte comes 60 ms after the connection."""
    with Siege(env, "limits = { preauth = 128; };", delay=60) as siege, siege.attack(flood):
        siege.check_honest_clients()


def test_distant_clients_connect(env):
    check_distant_clients(env, FLOOD)


def test_distant_clients_connect_with_syn_cookies(syn_cookies, env):
    """Beside connections that send a half hello: a client that is still silent is not closed for them."""
    check_distant_clients(env, Attack([RUBBISH["half-hello"]], 500, rotating()))


def test_port_of_a_session_is_attacked(env):
    with Siege(env) as siege:
        payloads = [*RUBBISH.values(), *siege.sniff().joins]
        with siege.attack(Attack(payloads, 500, ports=[siege.session_port()])):
            siege.check_honest_clients()


def test_more_connections_than_descriptors(env):
    """A relay with 96 descriptors, and 1,000 connections that stay open."""
    attack = Attack([b"", RUBBISH["half-hello"], RUBBISH["half-join"]], 1000, at_once=1000)
    with Siege(env, preexec=harness.limit_files(96)) as siege, siege.attack(attack):
        siege.check_honest_clients()


def test_relay_restarts_during_an_attack(env):
    with Siege(env) as siege:
        normal = siege.restart()
        with siege.attack(FLOOD):
            siege.check_time("connect", siege.connect())
            assert is_within(siege.restart(), 2 * normal + PATIENCE)
            siege.check_honest_clients()


def test_relay_is_upgraded_during_an_attack(env):
    """The new program knows the hellos that the old one has seen."""
    with Siege(env) as siege:
        normal = siege.upgrade()
        hellos = siege.sniff().hellos
        with siege.attack(dataclasses.replace(FLOOD, payloads=FLOOD.payloads + hellos)):
            assert is_within(siege.upgrade(), 2 * normal + PATIENCE)
            siege.check_honest_clients()


# --- the long form ---------------------------------------------------------------------------------------------------------------

SECONDS = float(os.environ.get("GOTTHARD_SIEGE", "60"))
LONG = {**FROM_ONE_NAT, **FROM_EVERYWHERE, "little-silence": Attack([b""], 40, rotating()), "probe": Attack([b""], 1, [NAT], "close"),
        "probes": Attack([b""], 50, [NAT], "close"), "8-held-a-second": Attack([*RUBBISH.values()], 8, [NAT]),
        "resets": Attack([*RUBBISH.values()], 500, manner="reset"),
        **{name: Attack([data], 500, MIXED) for name, data in RUBBISH.items() if data}}


@pytest.mark.soak
@pytest.mark.parametrize("kind", [*LONG, *SNIFFED])
def test_long_siege(env, kind):
    with Siege(env, seconds=SECONDS) as siege, siege.attack(LONG[kind] if kind in LONG else SNIFFED[kind](siege.sniff())):
        siege.check_honest_clients()
