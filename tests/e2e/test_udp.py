# SPDX-License-Identifier: ISC
"""Forwards of UDP: boundaries and order of datagrams, several senders, and the device's decision."""

import random
import socket
import threading

import pytest

import harness
from harness import LIMIT, wait_until
from test_permit import ports, system  # noqa: F401 (a fixture)

SHARE = ("--share",)


class UdpTarget:
    """Echoes each datagram; what it received is in ->received."""

    def __init__(self, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind((host, 0))
        self.port = self.sock.getsockname()[1]
        self.received = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(65536)
                if data == b"stop":
                    break
                self.received.append((data, peer))
                self.sock.sendto(data, peer)
            except OSError:
                break

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"stop", self.sock.getsockname())
        self.sock.close()


@pytest.fixture
def target():
    made = UdpTarget()
    yield made
    made.close()


def device(env, target, more=""):
    folder = env.config_folder(agentd=f'services = {{ ssh = "127.0.0.1:22"; dns = "udp:127.0.0.1:{target.port}"; }}; {more}')
    return env.agent(GOTTHARD_CONFIG_DIR=folder)


def sender(port, host="127.0.0.1"):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.settimeout(LIMIT)
    sock.connect((host, port))
    return sock


def answered(sock, question, got):
    """Sends @question and receives into @got. Returns true if the answer to it has come."""
    sock.send(question)
    sock.settimeout(0.5)
    try:
        while question not in got:
            got.append(sock.recv(65536))
    except TimeoutError:
        return False
    return True


def test_service_by_name_port_and_address(system, target):  # noqa: F811
    device(system, target)
    tunnel = system.connect("GatewayOli", "udp:0:dns", f"udp:0:{target.port}", f"udp:0:127.0.0.1:{target.port}", options=SHARE)
    for port in ports(tunnel):
        for host in ("127.0.0.1", "::1"):
            with sender(port, host) as sock:
                sock.send(b"question")
                assert sock.recv(65536) == b"question"
    assert len(target.received) == 6 and len({peer for _, peer in target.received}) == 6


def test_datagrams_of_each_size_keep_their_boundaries(system, target):  # noqa: F811
    device(system, target)
    tunnel = system.connect("GatewayOli", "udp:0:dns", options=SHARE)
    with sender(ports(tunnel)[0]) as sock:
        for n in (0, 1, 2, 512, 1472, 1473, 16000, 16001, 65506, 65507):
            data = random.Random(n).randbytes(n)
            sock.send(data)
            assert sock.recv(65536) == data, n
    assert [len(data) for data, _ in target.received] == [0, 1, 2, 512, 1472, 1473, 16000, 16001, 65506, 65507]


def test_order_of_several_senders(system, target):  # noqa: F811
    """A burst may lose datagrams, and reorders none; each sender gets its own answers."""
    device(system, target)
    tunnel = system.connect("GatewayOli", "udp:0:dns", options=SHARE)
    senders = [sender(ports(tunnel)[0]) for _ in range(5)]
    for number in range(200):
        for k, sock in enumerate(senders):
            sock.send(b"%d %06d" % (k, number))
    for k, sock in enumerate(senders):
        got, last = [], b"%d last" % k
        wait_until(lambda: answered(sock, last, got), "an answer after the burst")
        assert got == sorted(got) and len(got) > 1 and all(data.startswith(b"%d " % k) for data in got)
        sock.close()


def test_tcp_and_udp_do_not_mix(system, target):  # noqa: F811
    """A service of UDP is not offered as TCP, nor the other way round, and a permitted port is of one kind."""
    device(system, target, f'agent = {{ permit = "127.0.0.2:{target.port} udp:127.0.0.3:{target.port}"; }};')
    for text in ("0:dns", f"0:127.0.0.3:{target.port}", "udp:0:ssh", "udp:0:22", f"udp:0:127.0.0.2:{target.port}"):
        done = system.cli("connect", "GatewayOli", text, "--share")
        assert done.returncode == 77 and "GTD-E41" in done.stderr, (text, done.stderr)


def test_permitted_target(system):  # noqa: F811
    elsewhere = UdpTarget("127.0.0.3")
    try:
        device(system, elsewhere, f'agent = {{ permit = "udp:127.0.0.3:{elsewhere.port}"; }};')
        tunnel = system.connect("GatewayOli", f"udp:0:127.0.0.3:{elsewhere.port}", options=SHARE)
        with sender(ports(tunnel)[0]) as sock:
            sock.send(b"snmp")
            assert sock.recv(100) == b"snmp"
    finally:
        elsewhere.close()


def test_closed_port_of_the_target_ends_the_stream(system, target):  # noqa: F811
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    device(system, target, f'agent = {{ permit = "udp:127.0.0.1:{port}"; }};')
    tunnel = system.connect("GatewayOli", f"udp:0:127.0.0.1:{port}", options=SHARE)
    with sender(ports(tunnel)[0]) as sock:
        sock.send(b"anybody")
        tunnel.event("stream-ended", code=2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:  # and a new one begins
            late.bind(("127.0.0.1", port))
            late.settimeout(0.1)

            def arrives():
                sock.send(b"again")
                try:
                    return late.recv(100) == b"again"
                except TimeoutError:
                    return False

            wait_until(arrives, "a datagram after the target is there")


def test_datagrams_after_a_cut(system, target):  # noqa: F811
    """The relay is killed and returns: datagrams arrive again, in order."""
    device(system, target)
    tunnel = system.connect("GatewayOli", "udp:0:dns", options=SHARE)
    relay = next(p for p in system.processes if "relayd" in p.name)
    with sender(ports(tunnel)[0]) as sock:
        sock.send(b"%06d" % 0)
        assert sock.recv(100) == b"%06d" % 0
        relay.kill()
        tunnel.event("relay-lost")
        for number in range(1, 50):
            sock.send(b"%06d" % number)
        system.relay()
        got = []
        wait_until(lambda: answered(sock, b"%06d" % 50, got), "an answer after the cut")
        assert got == sorted(got)


def test_other_users_are_a_decision(system):  # noqa: F811
    done = system.cli("connect", "GatewayOli", "udp:0:dns")
    assert done.returncode == 64 and "add --share" in done.stderr and "give UDP a command of its own" in done.stderr
    for text in ("udp:", "udp:dns", "udp:53", "udp:0:", "udp:0:socks", "udp:./s:dns", "udp:udp:0:dns"):
        done = system.cli("connect", "GatewayOli", text, "--share")
        assert done.returncode == 64, (text, done.stderr)


def test_flood_leaves_the_tunnel_alone(system, target):  # noqa: F811
    """Far more than the stream carries is dropped; a later question is answered."""
    device(system, target)
    tunnel = system.connect("GatewayOli", "udp:0:dns", options=SHARE)
    with sender(ports(tunnel)[0]) as sock:
        sock.setblocking(False)
        for _ in range(2000):
            try:
                sock.send(bytes(60000))
            except BlockingIOError:
                pass
        wait_until(lambda: answered(sock, b"question", []), "an answer after the flood")
    assert tunnel.is_running()


def test_senders_beyond_the_streams(system, target):  # noqa: F811
    """Each question has a port of its own, as those of a resolver have; connections find room meanwhile."""
    folder = system.config_folder(agentd=f'services = {{ web = "127.0.0.1:{system.broker_port}"; dns = "udp:127.0.0.1:{target.port}"; }}; limits = {{ streams = 8; }};')
    system.agent(GOTTHARD_CONFIG_DIR=folder)
    tunnel = system.connect("GatewayOli", "udp:0:dns", "0:web", options=SHARE)
    udp, tcp = ports(tunnel)
    for number in range(60):
        with sender(udp) as sock:
            sock.send(b"%d" % number)
            assert sock.recv(100) == b"%d" % number
    socks = [sender(udp) for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.send(b"%d" % number)
    for number, sock in enumerate(socks):
        assert sock.recv(100) == b"%d" % number
        sock.close()
    with socket.create_connection(("localhost", tcp), LIMIT):
        tunnel.event("stream-opened", service="web")
