# SPDX-License-Identifier: ISC
"""The relay as a daemon: heartbeats, reloads, drain and stop, lack of descriptors, status, service manager."""

import os
import re
import resource
import secrets
import signal
import socket
import subprocess
import threading
import time


import harness
from harness import LIMIT, limit_files, receive_exactly, wait_until
from fake_systemd import FakeSystemd
from test_late_files import Notifications
from relayclient import (DEVICE, IDENTITY, LENIENT, OPERATOR, SHUTDOWN, Client, assert_closed_without_data, dial, join_bytes, joined,
                         register_pair, sessions_of, try_to_send)
from setting_markers import effect


def test_heartbeat_ends_silent_clients(env, relay_of):
    """Silent clients get a PING. One that answers stays; one that does not is closed, and its peer is notified."""
    relay_of('heartbeat_interval = "200ms"; heartbeat = "1s";')
    operator, device, rid, _ = register_pair(env)
    stop = threading.Event()

    def answer():
        while not stop.is_set():
            operator.do("ping 1")
            stop.wait(0.1)

    threading.Thread(target=answer, daemon=True).start()
    device.receive("ping", limit=5)
    wait_until(lambda: any(line.startswith("peer") and "up=0" in line for line in operator.all), "the device is lost")
    assert "closed" in device.all[-1] or wait_until(lambda: "closed" in device.all[-1], "it is closed")
    assert operator.child.poll() is None
    stop.set()


def test_heartbeats_share_a_time_grid(env, relay_of):
    """PINGs to all clients are sent on one time grid, so that the relay wakes once for all of them."""
    relay_of('heartbeat_interval = "1500ms"; heartbeat = "1h"; pairing = "1h";')
    clients = [Client(env, f"g1:d:device-{n}") for n in range(5)]

    def is_on_the_grid(client):
        return any(int(line.split("n=")[1]) % 500 < 25 for line in client.all if line.startswith("ping n="))

    wait_until(lambda: all(is_on_the_grid(client) for client in clients), "each client has got a PING on the grid")


def test_drain_keeps_streams_and_rejects_sessions(env, relay_of):
    relay = relay_of("", 'relay = { drain = "5s"; };')
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    started = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.receive("restarting", **{"in": 200, "for": 10400})
    assert not harness.can_connect(env.relay_port)
    other = secrets.token_hex(16)
    operator.do("rendezvous", other, 1, 0, 0)
    operator.receive("error", code=SHUTDOWN, rid=other)
    ends[0].sendall(b"still here")
    assert receive_exactly(ends[1], 10) == b"still here"
    for client in (operator, device):
        client.receive("bye", code=SHUTDOWN, rid=rid)
        client.receive("bye", code=SHUTDOWN, rid="0" * 32)
        client.receive("closed", reason="closed")
    assert relay.wait(12) == 0
    assert time.monotonic() - started < 11


def test_drain_waits_for_streams_in_the_shared_connection(env, relay_of):
    relay = relay_of("", 'relay = { drain = "9s"; };')
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 0)
    operator.do("load", rid, 1)
    assert operator.has_no_more_frames()
    relay.send(signal.SIGTERM)
    operator.receive("restarting")
    ends[0].sendall(b"still here")
    assert receive_exactly(ends[1], 10) == b"still here"
    assert operator.has_no_more_frames() and relay.is_running()
    started = time.monotonic()
    operator.do("load", rid, 0)
    operator.receive("bye", code=SHUTDOWN, rid=rid)
    assert relay.wait(10) == 0
    assert time.monotonic() - started < 3


def test_restart_window_grows_with_clients(env, relay_of):
    relay = relay_of(LENIENT)
    clients = [Client(env, f"g1:d:device-{n}") for n in range(32)]
    relay.send(signal.SIGTERM)
    for client in clients:
        client.receive("restarting", **{"in": 320, "for": 10640})
    assert relay.wait(10) == 0


def test_stop_without_drain_closes_streams(env, relay):
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 1)
    started = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.receive("restarting")
        client.receive("bye", code=SHUTDOWN, rid=rid)
        client.receive("bye", code=SHUTDOWN, rid="0" * 32)
    assert relay.wait(10) == 0
    assert time.monotonic() - started < 3
    for end in held:
        assert_closed_without_data(end)


def test_drain_ends_when_idle(env, relay):
    operator, _, rid, port = register_pair(env)
    started = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(10) == 0
    operator.receive("restarting")
    assert time.monotonic() - started < 3


def test_second_sigterm_stops_at_once(env, relay_of):
    relay = relay_of("", 'relay = { drain = "9s"; };')
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 1)
    relay.send(signal.SIGTERM)
    operator.receive("restarting")
    started = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(5) == 0
    assert time.monotonic() - started < 2
    for end in held:
        assert_closed_without_data(end)


def test_reload_is_all_or_nothing(env, relay_of):
    """A valid file applies at once; an invalid one changes nothing, and the log names its file or setting."""
    relay = relay_of("sessions_per_identity = 1;")
    alice = Client(env, "g1:o:alice")
    alice.register(secrets.token_hex(16))
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.receive("error", code=IDENTITY)
    path = relay.folder_of_config / "relayd.conf"
    for number, bad in enumerate(("limits = { sessions_per_identity = 5; nonsense = 1; };", "limits = {",
                                  "@include \"/etc\"", "limits = { sessions_per_identity = 0; };",
                                  f'crypt = {{ key = "{"0" * 64}"; }};'), 1):
        path.write_text(bad)
        relay.send(signal.SIGHUP)
        relay.wait_for("not reloaded.*(relayd.conf|crypt.key)", count=number)
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.receive("error", code=IDENTITY)
    path.write_text("limits = { sessions_per_identity = 2; };")
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    alice.register(secrets.token_hex(16))


def test_many_reloads_leak_nothing(env, relay):
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)

    def reload(count):
        relay.send(signal.SIGHUP)
        relay.wait_for("configuration reloaded", count=count)

    for n in range(1, 101):
        reload(n)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    for _ in range(900):
        relay.send(signal.SIGHUP)
        assert operator.has_no_more_frames()  # one turn of the loop
    reload(101)
    assert harness.descriptors(relay.pid) == before
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 1024
    assert not harness.children_of(relay.pid)
    ends[0].sendall(b"x")
    assert receive_exactly(ends[1], 1) == b"x"


def test_status_shows_counters_and_sessions(env, relay):
    operator, device, rid, port = register_pair(env)
    held = joined(operator, device, rid, port, 1)
    operator.ticket(rid, 2)
    wanted = rf"sessions=1 clients=2 pairs=1 tickets=1 ports=1/{env.n_relay_ports} fds=5/\d+ .*wake-ups=\d+"
    wait_until(lambda: re.match(wanted, sessions_of(relay)), "the status has all counters")
    relay.wait_for(rf"status session={rid[:8]} state=paired operator=alice device=oli port={port}")
    assert len(held) == 2


def test_flood_with_64_descriptors_spares_pairs(env, relay_of):
    """A flood on both ports does not disturb the joined pair, causes no busy loop, and leaks nothing."""
    relay = relay_of(preexec=limit_files(64))
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    flood = []
    cpu, started = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - started < 3:
        if len(flood) < 600:
            for at in (env.relay_port, port):
                flood.append(socket.socket())
                flood[-1].setblocking(False)
                flood[-1].bind((f"127.0.5.{1 + len(flood) % 100}", 0))
                flood[-1].connect_ex(("127.0.0.1", at))
        ends[0].sendall(b"ping")
        assert receive_exactly(ends[1], 4) == b"ping"
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.cpu_seconds(relay.pid) - cpu < 2
    for sock in flood:
        sock.close()
    assert relay.is_running()
    wait_until(lambda: harness.descriptors(relay.pid) < 40, "the descriptors are released")
    joined(operator, device, rid, port, 2)


def test_accept_survives_lack_of_descriptors(env, relay_of):
    """The kernel has fewer descriptors than the budget (a limit lowered later): accepting neither spins nor stops."""
    relay = relay_of(LENIENT)
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    n_open = harness.descriptors(relay.pid)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (n_open + 2, n_open + 2))
    flood = [dial(env.relay_port, f"127.0.6.{n}") for n in range(1, 60)]
    for sock in flood:
        try_to_send(sock, b"G")
    cpu, started = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - started < 1.5:
        ends[0].sendall(b"ping")
        assert receive_exactly(ends[1], 4) == b"ping"
        time.sleep(0.01)
    assert harness.cpu_seconds(relay.pid) - cpu < 0.75
    for sock in flood:
        sock.close()

    def is_accepting():
        client = Client(env, "g1:o:bob", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    wait_until(is_accepting, "the relay accepts again")


def test_start_fails_with_too_few_descriptors(env, relay_of):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=env.relay_environment(), preexec_fn=limit_files(20),
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 78 and "descriptors" in done.stderr


def test_relay_started_without_standard_descriptors(env, relay_of):
    """They must be /dev/null: a socket or epoll descriptor in their place would receive the log."""
    def close_standard_descriptors():
        for fd in (0, 1, 2):
            os.close(fd)

    relay = relay_of(preexec=close_standard_descriptors)
    opened = [os.readlink(f"/proc/{relay.pid}/fd/{fd}") for fd in (0, 1, 2)]
    assert opened == ["/dev/null"] * 3
    operator, device, rid, port = register_pair(env)
    ends = joined(operator, device, rid, port, 1)
    ends[0].sendall(b"ping")
    assert receive_exactly(ends[1], 4) == b"ping"


def test_start_fails_when_port_is_in_use(env, relay):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=env.relay_environment(), capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 69 and str(env.relay_port) in done.stderr


@effect("relayd", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC")
def test_service_manager_notifications_and_sockets(env):
    """READY=1 on an inherited socket, the watchdog, and STOPPING=1."""
    env.clients = []
    systemd = FakeSystemd(env)
    with systemd.relay(env) as child:
        Client(env, "g1:o:alice").register(secrets.token_hex(16))
        before = harness.descriptors(child.pid)
        silent = [dial(env.relay_port) for _ in range(10)]  # the kernel keeps them, as at a socket of our own
        Client(env, "g1:o:bob")
        assert harness.descriptors(child.pid) == before + 1
        systemd.expect("WATCHDOG=1", "WATCHDOG=1")
        for sock in silent:
            sock.close()
        child.send_signal(signal.SIGTERM)
        systemd.expect("STOPPING=1")
        assert child.wait(LIMIT) == 0


def test_status_of_the_service_follows_tunnels_and_connections(env):
    """At most one text a second, and the last one is right."""
    manager = Notifications(env)
    env.n_relay_ports, env.clients = 20, []
    relay = env.relay(env=env.relay_environment(NOTIFY_SOCKET=manager.path))
    manager.wait_for(f"STATUS=listening on port {env.relay_port}, 0 tunnels, 0 data connections")
    manager.wait_for("READY=1")
    started, n_texts = time.monotonic(), 0
    parts = [register_pair(env, names=(f"alice{n}", f"oli{n}")) for n in range(10)]
    streams = joined(*parts[0], 1)
    while "10 tunnels, 1 data connection" not in manager.socket.recv(4096).decode():
        n_texts += 1
    assert n_texts <= 2 + time.monotonic() - started
    for sock in streams:
        sock.close()
    manager.wait_for("10 tunnels, 0 data connections")
    relay.send(signal.SIGUSR2)
    manager.wait_for("STATUS=listening on port")
    manager.wait_for("READY=1")


def test_idle_relay_sleeps(env, relay):
    """Ten idle sessions with a stream each: only the clients' heartbeats wake the relay."""
    env.n_relay_ports = 20
    parts = [register_pair(env, names=(f"alice{n}", f"oli{n}")) for n in range(10)]
    streams = [joined(*part, 1) for part in parts]
    cpu, started = harness.cpu_seconds(relay.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 2, "two seconds pass")
    assert harness.cpu_seconds(relay.pid) - cpu <= 0.02 * (time.monotonic() - started)
    del streams


def test_bye_concurrent_with_joins_leaks_nothing(env, relay_of):
    """BYE and JOINs at the same time, many times, in any order: the relay survives and leaks nothing."""
    env.n_relay_ports = 40
    relay = relay_of(LENIENT + 'sessions_per_identity = 50; session_grace = "1s";', 'server = { port_cooldown = "0"; };')
    before = harness.descriptors(relay.pid)

    def run_sessions(who):
        for _ in range(15):
            operator, device, rid, port = register_pair(env, names=(f"alice{who}", f"oli{who}"))
            tickets = [operator.ticket(rid, stream) for stream in range(1, 9)]
            ends = [dial(port if stream % 2 else env.relay_port) for stream in range(16)]
            for n, end in enumerate(ends):
                if n == who * 3:
                    (operator if who % 2 else device).do("bye", 1, rid)
                try_to_send(end, join_bytes(tickets[n // 2], OPERATOR if n % 2 else DEVICE))
            for end in ends:
                end.close()
            operator.kill()
            device.kill()

    harness.in_threads(*[lambda who=who: run_sessions(who) for who in range(4)])
    assert relay.is_running()
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "the descriptors are released")
    register_pair(env)


def test_many_sessions_leak_nothing(env, relay_of):
    """Many short sessions and streams leave descriptors, ports and memory as they were."""
    relay = relay_of("sessions_per_identity = 50;", 'server = { port_cooldown = "0"; };')

    def run_sessions(n_sessions):
        for _ in range(n_sessions):
            operator, device, rid, port = register_pair(env)
            for stream in range(1, 6):
                for end in joined(operator, device, rid, port, stream):
                    end.close()
            operator.do("bye", 1, rid)
            operator.receive("closed")
            for client in (operator, device):
                client.kill()

    run_sessions(10)
    wait_until(lambda: "device" not in sessions_of(relay), "all sessions ended")
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    run_sessions(40)
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "the descriptors are released")
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 2048
