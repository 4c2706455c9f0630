# SPDX-License-Identifier: ISC
"""The relay as a daemon: heartbeats, settings that change, keys, its end, descriptors, status and the service manager."""

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
from manager import Manager
from relayclient import (DEVICE, LENIENT, LIMITED, OPERATOR, SHUTDOWN, Client, dial, join_bytes, joined, never_a_byte, pair_up,
                         sessions_of, try_to_send)
from settings import effect


def test_heartbeat(world, relay_of):
    """The silent are asked; who answers stays, who does not is lost, and the other side is told."""
    relay_of('heartbeat = "200ms"; dead_after = "1s";')
    operator, device, rid, _ = pair_up(world)
    stop = threading.Event()

    def answer():
        while not stop.is_set():
            operator.do("ping 1")
            stop.wait(0.1)

    threading.Thread(target=answer, daemon=True).start()
    device.hear("ping", limit=5)
    wait_until(lambda: any(line.startswith("peer") and "up=0" in line for line in operator.all), "the device is lost")
    assert "closed" in device.all[-1] or wait_until(lambda: "closed" in device.all[-1], "it is closed")
    assert operator.child.poll() is None
    stop.set()


def test_hearts_beat_together(world, relay_of):
    """Whoever is silent, and since when: they are asked on the same grid, so that the relay wakes once for all."""
    relay_of('heartbeat = "1500ms"; dead_after = "1h"; half = "1h";')
    clients = [Client(world, f"g1:d:device-{n}") for n in range(5)]

    def is_on_the_grid(client):
        return any(int(line.split("n=")[1]) % 500 < 25 for line in client.all if line.startswith("ping n="))

    wait_until(lambda: all(is_on_the_grid(client) for client in clients), "all are asked at one moment or another of the grid")


def test_drain(world, relay_of):
    relay = relay_of("", 'relay = { drain = "5s"; };')
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.hear("restarting", **{"in": 200, "for": 10400})
    assert not harness.can_connect(world.relay_port)
    other = secrets.token_hex(16)
    operator.do("rendezvous", other, 1, 0, 0)
    operator.hear("error", code=SHUTDOWN, rid=other)
    ends[0].sendall(b"still here")
    assert receive_exactly(ends[1], 10) == b"still here"
    for client in (operator, device):
        client.hear("bye", code=SHUTDOWN, rid=rid)
        client.hear("bye", code=SHUTDOWN, rid="0" * 32)
        client.hear("closed", reason="closed")
    assert relay.wait(12) == 0
    assert time.monotonic() - begun < 11


def test_the_window_for_coming_back_grows_with_the_members(world, relay_of):
    relay = relay_of(LENIENT)
    clients = [Client(world, f"g1:d:device-{n}") for n in range(32)]
    relay.send(signal.SIGTERM)
    for client in clients:
        client.hear("restarting", **{"in": 320, "for": 10640})
    assert relay.wait(10) == 0


def test_the_end_waits_for_no_stream_unless_told_to(world, relay):
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    for client in (operator, device):
        client.hear("restarting")
        client.hear("bye", code=SHUTDOWN, rid=rid)
        client.hear("bye", code=SHUTDOWN, rid="0" * 32)
    assert relay.wait(10) == 0
    assert time.monotonic() - begun < 3
    for end in held:
        never_a_byte(end)


def test_drain_does_not_wait_for_nothing(world, relay):
    operator, _, rid, port = pair_up(world)
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(10) == 0
    operator.hear("restarting")
    assert time.monotonic() - begun < 3


def test_second_term_ends_it_at_once(world, relay_of):
    relay = relay_of("", 'relay = { drain = "9s"; };')
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    relay.send(signal.SIGTERM)
    operator.hear("restarting")
    begun = time.monotonic()
    relay.send(signal.SIGTERM)
    assert relay.wait(5) == 0
    assert time.monotonic() - begun < 2
    for end in held:
        never_a_byte(end)


def test_reload(world, relay_of):
    """All or nothing: a good file holds at once, a bad one changes nothing and says where it is bad."""
    relay = relay_of("sessions_per_identity = 1;")
    alice = Client(world, "g1:o:alice")
    alice.register(secrets.token_hex(16))
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.hear("error", code=LIMITED)
    path = relay.folder_of_config / "relayd.conf"
    for number, bad in enumerate(("limits = { sessions_per_identity = 5; nonsense = 1; };", "limits = {",
                                  "@include \"/etc\"", "limits = { sessions_per_identity = 0; };",
                                  f'crypt = {{ key = "{"0" * 64}"; }};'), 1):
        path.write_text(bad)
        relay.send(signal.SIGHUP)
        relay.wait_for("not reloaded.*(relayd.conf|crypt.key)", count=number)
    alice.do("rendezvous", secrets.token_hex(16), 1, 0, 0)
    alice.hear("error", code=LIMITED)
    path.write_text("limits = { sessions_per_identity = 2; };")
    relay.send(signal.SIGHUP)
    relay.wait_for("configuration reloaded")
    alice.register(secrets.token_hex(16))


def test_a_thousand_reloads_leak_nothing(world, relay):
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)

    def reload(count):
        relay.send(signal.SIGHUP)
        relay.wait_for("configuration reloaded", count=count)

    for n in range(1, 101):
        reload(n)
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    for _ in range(900):
        relay.send(signal.SIGHUP)
        assert operator.is_quiet()  # one turn of the loop
    reload(101)
    assert harness.descriptors(relay.pid) == before
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 1024
    assert not harness.children_of(relay.pid)
    ends[0].sendall(b"x")
    assert receive_exactly(ends[1], 1) == b"x"


def test_status(world, relay):
    operator, device, rid, port = pair_up(world)
    held = joined(operator, device, rid, port, 1)
    operator.ticket(rid, 2)
    wanted = rf"sessions=1 members=2 pairs=1 tickets=1 ports=1/{world.n_relay_ports} fds=5/\d+ .*wake-ups=\d+"
    wait_until(lambda: re.match(wanted, sessions_of(relay)), "the status has it all")
    relay.wait_for(rf"status session={rid[:8]} state=paired operator=alice device=oli port={port}")
    assert len(held) == 2


def test_64_descriptors(world, relay_of):
    """A flood on both ports: the joined pair does not notice, nothing spins, and it all comes back."""
    relay = relay_of(preexec=limit_files(64))
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    flood = []
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - begun < 3:
        if len(flood) < 600:
            for at in (world.relay_port, port):
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
    wait_until(lambda: harness.descriptors(relay.pid) < 40, "descriptors are back")
    joined(operator, device, rid, port, 2)


def test_descriptors_of_the_system_run_out(world, relay_of):
    """The budget said yes and the kernel says no (a limit lowered behind its back): accept neither spins nor ends."""
    relay = relay_of(LENIENT)
    operator, device, rid, port = pair_up(world)
    ends = joined(operator, device, rid, port, 1)
    n_open = harness.descriptors(relay.pid)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (n_open + 2, n_open + 2))
    flood = [dial(world.relay_port, f"127.0.6.{n}") for n in range(1, 60)]
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    while time.monotonic() - begun < 1.5:
        ends[0].sendall(b"ping")
        assert receive_exactly(ends[1], 4) == b"ping"
        time.sleep(0.01)
    assert harness.cpu_seconds(relay.pid) - cpu < 0.75
    for sock in flood:
        sock.close()

    def works():
        client = Client(world, "g1:o:bob", hello=False)
        with client.news:
            assert client.news.wait_for(lambda: client.lines, LIMIT)
        return client.lines[0].startswith("connected")

    wait_until(works, "it accepts again")


def test_too_few_descriptors(world, relay_of):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=world.relay_environment(), preexec_fn=limit_files(20),
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 78 and "descriptors" in done.stderr


def test_port_is_taken(world, relay):
    done = subprocess.run([harness.PROGRAMS["relayd"]], env=world.relay_environment(), capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 69 and str(world.relay_port) in done.stderr


@effect("relayd", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC")
def test_service_manager(world):
    """Ready when listening, on a socket that was handed in; told when it stops."""
    world.clients = []
    manager = Manager(world)
    with manager.relay(world) as child:
        Client(world, "g1:o:alice").register(secrets.token_hex(16))
        manager.hear("WATCHDOG=1", "WATCHDOG=1")
        child.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert child.wait(LIMIT) == 0


def test_idle_relay_sleeps(world, relay):
    """50 sessions with a stream each, and nobody says anything: no wake-ups but the clients' heartbeats."""
    world.n_relay_ports = 20
    parts = [pair_up(world, names=(f"alice{n}", f"oli{n}")) for n in range(10)]
    streams = [joined(*part, 1) for part in parts]
    cpu, begun = harness.cpu_seconds(relay.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2, "two seconds to look at")
    assert harness.cpu_seconds(relay.pid) - cpu <= 0.02 * (time.monotonic() - begun)
    del streams


def test_sessions_end_in_the_moment_of_a_join(world, relay_of):
    """BYE and two JOINs at once, over and over: whoever comes first, the relay stays, and all comes back."""
    world.n_relay_ports = 40
    relay = relay_of(LENIENT + 'sessions_per_identity = 50; grace = "1s";', 'server = { ports_rest = "0"; };')
    before = harness.descriptors(relay.pid)

    def some(who):
        for _ in range(15):
            operator, device, rid, port = pair_up(world, names=(f"alice{who}", f"oli{who}"))
            tickets = [operator.ticket(rid, stream) for stream in range(1, 9)]
            ends = [dial(port if stream % 2 else world.relay_port) for stream in range(16)]
            for n, end in enumerate(ends):
                if n == who * 3:
                    (operator if who % 2 else device).do("bye", 1, rid)
                try_to_send(end, join_bytes(tickets[n // 2], OPERATOR if n % 2 else DEVICE))
            for end in ends:
                end.close()
            operator.kill()
            device.kill()

    harness.in_threads(*[lambda who=who: some(who) for who in range(4)])
    assert relay.is_running()
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "descriptors are back")
    pair_up(world)


def test_everything_comes_back(world, relay_of):
    """Many short sessions and streams leave descriptors, ports and memory as they were."""
    relay = relay_of("sessions_per_identity = 50;", 'server = { ports_rest = "0"; };')

    def some(n_sessions):
        for _ in range(n_sessions):
            operator, device, rid, port = pair_up(world)
            for stream in range(1, 6):
                for end in joined(operator, device, rid, port, stream):
                    end.close()
            operator.do("bye", 1, rid)
            operator.hear("closed")
            for client in (operator, device):
                client.kill()

    some(10)
    wait_until(lambda: "device" not in sessions_of(relay), "all sessions ended")
    before, rss = harness.descriptors(relay.pid), harness.rss_kib(relay.pid)
    some(40)
    wait_until(lambda: harness.descriptors(relay.pid) <= before, "descriptors are back")
    sanitized = harness.SANITIZER != "none"
    assert sanitized or harness.rss_kib(relay.pid) < rss + 2048
