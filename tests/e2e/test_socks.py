# SPDX-License-Identifier: ISC
"""SOCKS5: `connect DEVICE socks` and -D. The clients name the targets, the device resolves and permits them."""

import concurrent.futures
import http.server
import os
import select
import shutil
import socket
import struct
import subprocess
import threading

import pytest

import harness
from harness import LIMIT, echo, wait_until
from setting_markers import effect
from test_permit import Device, ports, system  # noqa: F401 (a fixture)
from test_tunnel import assert_broken

IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED, GENERAL, NOT_ALLOWED, UNREACHABLE, REFUSED, COMMAND = 0, 1, 2, 4, 5, 7


def address(host):
    try:
        return bytes([IPV4]) + socket.inet_pton(socket.AF_INET, host)
    except OSError:
        pass
    try:
        return bytes([IPV6]) + socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return bytes([NAME, len(host)]) + host.encode()


def negotiate(proxy, host, port, command=1):
    """Returns the connection and the reply code."""
    sock = socket.create_connection(("127.0.0.1", proxy), timeout=LIMIT)
    sock.sendall(b"\5\1\0")
    assert harness.receive_exactly(sock, 2) == b"\5\0"
    sock.sendall(bytes([5, command, 0]) + address(host) + struct.pack(">H", port))
    reply = harness.receive_exactly(sock, 10)
    assert reply[:1] == b"\5" and reply[2:] == b"\0\1" + bytes(6)
    return sock, reply[1]


def reply_of(proxy, host, port, command=1):
    sock, code = negotiate(proxy, host, port, command)
    with sock:
        assert code == SUCCEEDED or sock.recv(1) == b""  # closed in order: the reply is not lost
    return code


@pytest.fixture
def proxy(system):  # noqa: F811
    """A device that permits 127.0.0.0/8 and localhost, and a SOCKS proxy to it."""
    Device(system, "127.0.0.0/8:* localhost:*")
    tunnel = system.connect("GatewayOli", "0:socks")
    return tunnel, ports(tunnel)[0]


def test_targets_by_address_and_name(system, proxy):  # noqa: F811
    tunnel, port = proxy
    target = system.target(echo)
    for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1"):
        sock, code = negotiate(port, host, target.port)
        with sock:
            assert code == SUCCEEDED
            sock.sendall(b"ping")
            assert harness.receive_exactly(sock, 4) == b"ping"
    assert target.n_accepted == 3


def test_each_failure_has_its_reply(system, proxy):  # noqa: F811
    tunnel, port = proxy
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    assert reply_of(port, "127.0.0.1", free) == REFUSED
    assert reply_of(port, "10.0.0.5", 80) == NOT_ALLOWED
    assert reply_of(port, "169.254.169.254", 80) == NOT_ALLOWED
    assert reply_of(port, "no-such-host.invalid", 80) == UNREACHABLE
    assert reply_of(port, "127.0.0.1", free, command=2) == COMMAND
    assert reply_of(port, "127.0.0.1", free, command=3) == COMMAND
    assert reply_of(port, "a b", 80) == GENERAL
    tunnel.wait_for("GatewayOli does not permit 169.254.169.254:80")
    assert tunnel.is_running()


def test_first_bytes_of_client_and_target(system, proxy):  # noqa: F811
    """A client that does not wait for the reply loses nothing, and the reply comes before the target's bytes."""
    tunnel, port = proxy
    target = system.target(lambda sock: (sock.sendall(b"banner"), echo(sock)))
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(b"\5\1\0" + b"\5\1\0" + address("127.0.0.1") + struct.pack(">H", target.port) + b"early")
        wanted = b"\5\0" + b"\5\0\0\1" + bytes(6) + b"banner" + b"early"
        assert harness.receive_exactly(sock, len(wanted)) == wanted


def test_many_bytes_and_the_end(system, proxy):  # noqa: F811
    tunnel, port = proxy
    n = 3_000_000
    target = system.target(lambda sock: harness.send_pattern(sock, 7, n))
    sock, code = negotiate(port, "127.0.0.1", target.port)
    with sock:
        assert code == SUCCEEDED
        assert harness.digest_to_eof(sock) == (n, harness.digest_of_pattern(7, n))


def test_client_that_leaves_while_the_target_is_dialed(system, proxy):  # noqa: F811
    """The stream ends with it; 192.0.2.1 does not answer, or is not routed."""
    tunnel, port = proxy
    with socket.create_server(("127.0.0.9", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):  # a full queue does not answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        sock.sendall(b"\5\1\0" + b"\5\1\0" + address("127.0.0.9") + struct.pack(">H", listener.getsockname()[1]))
        assert harness.receive_exactly(sock, 2) == b"\5\0"
        tunnel.event("stream-opened")
        sock.close()
        tunnel.event("stream-ended")
        for filler in fillers:
            filler.close()


def test_hostile_clients_leave_the_proxy_alone(system, proxy):  # noqa: F811
    tunnel, port = proxy
    target = system.target(echo)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=LIMIT) for _ in range(20)]
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\4\1\0\x50\x0a\0\0\5\0", bytes(4096), os.urandom(4096), b"\5"):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            sock.sendall(text)
            if text != b"\5":
                assert_broken(sock)
    sock, code = negotiate(port, "127.0.0.1", target.port)
    with sock:
        assert code == SUCCEEDED
    for sock in silent:
        sock.close()


@pytest.mark.skipif(not shutil.which("curl"), reason="without curl")
def test_curl(system, proxy):  # noqa: F811
    tunnel, port = proxy

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"behind the device")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(["curl", "-sS", "--noproxy", "", "--socks5-hostname", f"127.0.0.1:{port}",
                               f"http://localhost:{server.server_port}/"], capture_output=True, text=True, timeout=LIMIT)
        assert (done.returncode, done.stdout) == (0, "behind the device"), done.stderr
        denied = subprocess.run(["curl", "-sS", "--noproxy", "", "--socks5-hostname", f"127.0.0.1:{port}", "http://10.0.0.5/"],
                                capture_output=True, text=True, timeout=LIMIT)
        assert denied.returncode == 97, denied.stderr  # CURLE_PROXY
    finally:
        server.shutdown()
        server.server_close()


@effect("cli", "--socks")
def test_option_as_of_ssh(system):  # noqa: F811
    """-D is one more forward beside others. BIND is a numeric address."""
    Device(system, "127.0.0.0/8:*")
    target = system.target(echo)
    alone = harness.free_ports(1)
    tunnel = system.connect("GatewayOli", "0:ssh", options=("-D", f"127.0.0.1:{alone}"))
    listening = {event["service"]: event["port"] for event in tunnel.events() if event["event"] == "listening"}
    assert listening["socks"] == alone and set(listening) == {"ssh", "socks"}
    assert reply_of(alone, "127.0.0.1", target.port) == SUCCEEDED
    for text in ("0x10", "host:1080", ":", "1080:", "[::1]", "::1:1080", "70000"):
        done = system.cli("connect", "GatewayOli", "-D", text)
        assert done.returncode == 64 and "option '-D'" in done.stderr, (text, done.stderr)


def test_device_that_permits_nothing(system):  # noqa: F811
    Device(system, "")
    done = system.cli("connect", "GatewayOli", "socks")
    assert done.returncode == 77 and "GTD-E41" in done.stderr
    assert "GatewayOli permits no hosts behind it to this operator" in done.stderr and "agent.permit" in done.stderr


def test_socket_instead_of_a_port(system):  # noqa: F811
    Device(system, "127.0.0.0/8:*")
    target = system.target(echo)
    path = system.folder / "socks.sock"
    system.connect("GatewayOli", f"{path}:socks")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(str(path))
        sock.sendall(b"\5\1\0" + b"\5\1\0" + address("127.0.0.1") + struct.pack(">H", target.port))
        assert harness.receive_exactly(sock, 12) == b"\5\0" + b"\5\0\0\1" + bytes(6)
        sock.sendall(b"ping")
        assert harness.receive_exactly(sock, 4) == b"ping"


def test_reply_after_a_cut(system, proxy):  # noqa: F811
    """The relay is killed while a target is dialed: the reply follows on the next data connection."""
    tunnel, port = proxy
    target = system.target(echo)
    relay = next(p for p in system.processes if "relayd" in p.name)
    sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    sock.sendall(b"\5\1\0")
    assert harness.receive_exactly(sock, 2) == b"\5\0"
    relay.kill()
    sock.sendall(b"\5\1\0" + address("127.0.0.1") + struct.pack(">H", target.port))
    tunnel.event("relay-lost")
    system.relay()
    assert harness.receive_exactly(sock, 10)[1] == SUCCEEDED
    sock.sendall(b"ping")
    assert harness.receive_exactly(sock, 4) == b"ping"
    wait_until(lambda: target.n_accepted == 1, "one connection to the target")
    sock.close()


def test_clients_beyond_the_streams_wait(system):  # noqa: F811
    env = system
    folder = env.config_folder(agentd='agent = { permit = "127.0.0.0/8:*"; }; limits = { streams = 4; };')
    env.agent(GOTTHARD_CONFIG_DIR=folder)
    tunnel = env.connect("GatewayOli", "0:socks")
    port, target = ports(tunnel)[0], env.target(echo)

    def serve(_):
        sock, code = negotiate(port, "127.0.0.1", target.port)
        with sock:
            sock.sendall(b"ping")
            return code == SUCCEEDED and harness.receive_exactly(sock, 4) == b"ping"

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert all(pool.map(serve, range(20)))
    assert target.n_accepted == 20
    assert not [event for event in tunnel.events() if event["event"] == "stream-refused"]


def test_hundreds_of_clients_at_once_wait(system, proxy):  # noqa: F811
    """More than negotiate at a time: the others wait in the kernel's queue, and none is reset."""
    target = system.target(echo)
    hello = b"\5\1\0" + bytes([5, 1, 0]) + address("127.0.0.1") + struct.pack(">H", target.port) + b"ping"
    answer = b"\5\0" + bytes([5, SUCCEEDED, 0, 1]) + bytes(6) + b"ping"
    clients = {socket.create_connection(("127.0.0.1", proxy[1]), timeout=LIMIT): b"" for _ in range(400)}
    for sock in clients:
        sock.sendall(hello)
    while clients:  # the method is answered at once, the request when a stream is free, in any order
        ready = select.select(clients, [], [], LIMIT)[0]
        assert ready, f"{len(clients)} clients wait"
        for sock in ready:
            clients[sock] += sock.recv(len(answer)) or b"end"
            assert answer.startswith(clients[sock])
            if clients[sock] == answer:
                sock.close()
                del clients[sock]
    assert target.n_accepted == 400
