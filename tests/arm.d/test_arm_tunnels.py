# SPDX-License-Identifier: ISC
"""Tunnels between programs of ARM and native ones, from their packages. tests/arm runs this in a machine that can run both."""

import os
import pathlib
import socket
import subprocess

import pytest

import harness
from harness import in_threads, wait_until

MIB = 1 << 20
PLACES = {"relayd": "usr/sbin/gotthard-relayd", "agentd": "usr/sbin/gotthard-agentd", "cli": "usr/bin/gotthard-cli"}


def program_of(name, is_arm):
    return pathlib.Path(os.environ["GOTTHARD_ARM" if is_arm else "GOTTHARD_NATIVE"]) / PLACES[name]


def certificates_past_2038(monkeypatch):
    """Certificates of this test's authority end in 2061, beyond the times of 32 bits."""
    plain = harness._openssl

    def openssl(*args):
        args = list(args)
        if "-days" in args:
            args[args.index("-days") + 1] = "12700"
        plain(*args)

    monkeypatch.setattr(harness, "_openssl", openssl)
    monkeypatch.setattr(harness.Authority, "_shared", None)


def exchange(tunnel, n, got):
    """Sends @n bytes through the tunnel, and reads as many that the target sends."""
    sock = tunnel.dial()

    def send():
        harness.send_pattern(sock, "up", n)
        sock.shutdown(socket.SHUT_WR)

    def receive():
        got["down"] = harness.digest_to_eof(sock)

    in_threads(send, receive)


@pytest.mark.parametrize("arm", [("agentd",), ("relayd",), ("cli",), ("agentd", "relayd", "cli")], ids="-".join)
def test_tunnel_carries_every_byte(env, monkeypatch, arm):
    n, got = 20 * MIB, {}
    for name in PLACES:
        monkeypatch.setitem(harness.PROGRAMS, name, program_of(name, name in arm))
    certificates_past_2038(monkeypatch)

    def sink_and_source(sock):
        def receive():
            got["up"] = harness.digest_to_eof(sock)

        def send():
            harness.send_pattern(sock, "down", n)
            sock.shutdown(socket.SHUT_WR)

        in_threads(receive, send)

    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(sink_and_source).port)
    tunnel = env.connect(options=["--share"])  # qemu does not report whose connection it is
    exchange(tunnel, n, got)
    wait_until(lambda: "up" in got, "the target has read it all")
    assert got["up"] == (n, harness.digest_of_pattern("up", n))
    assert got["down"] == (n, harness.digest_of_pattern("down", n))


def test_programs_are_of_their_architecture():
    """Otherwise a wrong folder would compare native programs with each other."""
    for name in PLACES:
        machines = {subprocess.run(["od", "-An", "-j18", "-N2", "-tx2", program_of(name, is_arm)], check=True, capture_output=True,
                                   text=True).stdout for is_arm in (True, False)}
        assert len(machines) == 2, name
