# SPDX-License-Identifier: ISC
"""Urgent bytes of TCP arrive in their place, as normal bytes."""

import socket

import pytest

import harness

MESSAGES = {  # (bytes, flags) in the order of sending
    "in the middle": [(b"a" * 1_000_000, 0), (b"!", socket.MSG_OOB), (b"b" * 1_000_000, 0)],
    "first": [(b"!", socket.MSG_OOB), (b"rest", 0)],
    "last": [(b"all", 0), (b"!", socket.MSG_OOB)],
    "alone": [(b"!", socket.MSG_OOB)],
    "several": [(bytes([n]), n % 2 and socket.MSG_OOB) for n in range(100)],
    "ABOR as of telnet": [(b"RETR file\r\n", 0), (b"\xff\xf4", 0), (b"\xff\xf2", socket.MSG_OOB), (b"ABOR\r\n", 0)],
    "ABOR as of ftplib": [(b"ABOR\r\n", socket.MSG_OOB)],
}


def send(sock, message):
    for data, flags in message:
        if flags:
            assert sock.send(data, flags) == len(data)
        else:
            sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def receive(sock, message):
    wanted = b"".join(data for data, _ in message)
    got = harness.receive_exactly(sock, len(wanted) + 1)
    assert len(got) == len(wanted) and got == wanted, f"{len(got)} of {len(wanted)} bytes, or in another order"


@pytest.mark.parametrize("sender", ["operator", "device"])
@pytest.mark.parametrize("name", MESSAGES)
def test_urgent_bytes_stay_in_order(env, sender, name):
    message = MESSAGES[name]
    theirs, ours = (receive, send) if sender == "operator" else (send, receive)
    env.broker()
    env.relay()
    target = env.target(lambda sock: theirs(sock, message))
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port)
    tunnel = env.connect()
    for number in range(1, 6):
        with tunnel.dial() as sock:
            ours(sock, message)
            if sender == "operator":
                assert sock.recv(1) == b""
            else:
                sock.shutdown(socket.SHUT_WR)
            assert tunnel.event("stream-ended", count=number)["code"] == 0
    harness.wait_until(lambda: not target.connections, "the target has compared the bytes")
    assert not target.errors, target.errors
