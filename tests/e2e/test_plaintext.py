# SPDX-License-Identifier: ISC
"""Plaintext in the memory of the programs: the relay never has it, and the two ends not after the stream has ended. The memory
is read through /proc/PID/mem, which belongs to root because the programs are not dumpable."""

import os
import re
import secrets
import socket

import pytest

import harness
from harness import echo, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the memory of the programs is not readable for their user"),
    pytest.mark.skipif(harness.SANITIZER != "none", reason="sanitizers keep freed memory"),
]


def memory_has(pid, marker):
    """Returns the names of the writable areas of the process that contain the marker."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw\S* \S+ \S+ \S+ *(.*)", line)
            if not area:
                continue
            start, end = int(area[1], 16), int(area[2], 16)
            try:
                content = os.pread(memory.fileno(), end - start, start)
            except OSError:
                continue
            if marker in content:
                found.append(f"{area[3] or 'anonymous'} {end - start} +{content.find(marker)}")
    return found


@pytest.mark.parametrize("n_bytes", [64, 1000, 20000, 300000, 3000000])
def test_plaintext_is_wiped_when_the_stream_ends(env, n_bytes):
    # The packages are linked with -z now. A lazy linker would save registers, which may have plaintext, on the stack.
    env.broker()
    relay = env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, LD_BIND_NOW=1)
    tunnel = env.connect(LD_BIND_NOW=1)
    worker, = harness.children_of(agent.pid)
    marker = secrets.token_hex(16).encode()
    ends = {"operator": tunnel.pid, "worker": worker}
    data = (marker + b"-") * (n_bytes // (len(marker) + 1) + 1)
    with tunnel.dial() as sock, tunnel.dial() as other:
        other.sendall(b"another stream stays open")
        assert harness.receive_exactly(other, 25) == b"another stream stays open"
        received = []
        harness.in_threads(lambda: sock.sendall(data), lambda: received.append(harness.receive_exactly(sock, len(data))))
        assert received == [data]
        assert memory_has(os.getpid(), marker), "the search works"
        assert not memory_has(relay.pid, marker) and not memory_has(agent.pid, marker)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        for name, pid in ends.items():
            try:
                wait_until(lambda pid=pid: not memory_has(pid, marker), f"the {name} has no plaintext", limit=5)
            except AssertionError as error:
                raise AssertionError(f"{name}: {memory_has(pid, marker)}") from error
        assert not memory_has(relay.pid, marker)
    tunnel.disconnect()
