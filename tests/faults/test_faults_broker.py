# SPDX-License-Identifier: ISC
"""Faults of the broker: unreachable, silent, unresolvable, restarted at critical moments, or forging messages; F-10 to F-14 of
docs/faults.md."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import ssl
import threading
import time

import pytest

import harness
import invariants
from harness import LIMIT, wait_until
from fault_run import FaultRun
from invariants import IS_SANITIZED
from test_broker import capture, publish

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
RECONNECTED = 15 if not IS_SANITIZED else 60  # seconds: the agent's back-off after a few failures is up to 8 s


def wait_agent_online(run, count):
    run.agent.wait_for(harness.AGENT_READY, count=count, limit=RECONNECTED)


def test_f10_broker_restarted_while_idle(env):
    """The broker loses the retained state of the device, and receives it again."""
    with FaultRun(env) as run:
        run.start()
        run.broker.kill()
        run.broker = env.broker()
        wait_agent_online(run, 2)
        assert "online" in env.cli("status", "GatewayOli").stdout


@pytest.mark.parametrize("moment", ["before the request is read", "between request and answer"])
def test_f10_broker_restarted_around_a_request(env, moment):
    """The operator gets an answer or an error about the broker. No orphaned session remains."""
    variables = {"GOTTHARD_TIMEOUTS_PEER": "3s"}
    with FaultRun(env, agent_env=variables, cli_env=variables) as run:
        run.start()
        requests = capture(env, f"{env.PREFIX}/d/+/req")
        os.kill(run.agent.pid, signal.SIGSTOP)
        tunnel = env.connect("GatewayOli", "0:echo", name="bob", wait=False)
        wait_until(requests.messages, "the request is at the broker")
        if moment == "between request and answer":
            os.kill(run.broker.pid, signal.SIGSTOP)
            os.kill(run.agent.pid, signal.SIGCONT)  # the request is already in its receive buffer
        run.broker.kill()
        os.kill(run.agent.pid, signal.SIGCONT)
        run.broker = env.broker()
        wait_agent_online(run, 2)
        wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"],
                   "the tunnel is up or the command exited")
        if not tunnel.is_running():
            assert tunnel.child.returncode == 69 and "GTD-E" in tunnel.log(), (tunnel.child.returncode, tunnel.log())
            wait_until(lambda: len(run.workers()) == 1, "the session without an operator ended", limit=10)
        else:
            assert len(run.workers()) == 2
            run.tunnels.append(tunnel)


@pytest.mark.parametrize("seconds", [3, pytest.param(600, marks=pytest.mark.soak)])
def test_f11_broker_away_during_a_tunnel(env, seconds):
    with FaultRun(env) as run:
        run.start()
        run.broker.kill()
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            run.load.wait_for_progress(64 << 10)
        run.end_load()
        invariants.check_idle(run)  # I7: also without a broker
        run.broker = env.broker()
        run.agent.wait_for(harness.AGENT_READY, count=2, limit=75 if seconds > 60 else RECONNECTED)
        waits = [int(w) for w in re.findall(r"retry=(\d+)ms", run.agent.log())]
        assert max(waits) <= 72000 and len(set(waits)) > len(waits) / 2, f"waits grow to a minute, with jitter: {waits}"


def test_f11_broker_away_at_first(env):
    """Both sides start without a reachable broker."""
    with FaultRun(env) as run:
        assert run.tunnel.disconnect() == 0
        run.wait_no_workers()
        assert run.agent.stop() == 0
        run.broker.kill()
        run.start_agent(wait=False)
        run.agent.wait_for("broker not reachable")
        done = env.cli("connect", "GatewayOli")
        assert done.returncode == 69 and "GTD-E20" in done.stderr, done.stderr
        invariants.check_idle(run)
        run.broker = env.broker()
        wait_agent_online(run, 1)


@contextlib.contextmanager
def silent_broker(env, has_tls):
    """Accepts every connection at the broker's port, completes the TLS handshake if @has_tls, and sends nothing."""
    wait_until(lambda: not harness.is_listening(env.broker_port), "the port is free")
    listener = socket.create_server(("127.0.0.1", env.broker_port))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certs = env.certificates("broker")
    context.load_cert_chain(certs / "cert.pem", certs / "private.key")
    held = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with contextlib.suppress(OSError):
                    held.append(context.wrap_socket(sock, server_side=True) if has_tls else sock)

    threading.Thread(target=serve, daemon=True).start()
    yield held
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for sock in held:
        sock.close()


@pytest.mark.parametrize("has_tls", [False, True], ids=["tcp", "tls"])
def test_f12_broker_accepts_and_is_silent(env, has_tls):
    with FaultRun(env) as run:
        run.start()
        run.broker.kill()
        with silent_broker(env, has_tls) as held:
            wait_until(lambda: held, "the agent's connection is accepted", limit=LIMIT)
            run.load.wait_for_progress(64 << 10)
            run.end_load()
            invariants.check_idle(run)
            run.echo_through(run.tunnel)
        run.broker = env.broker()
        wait_agent_online(run, 2)


def with_files_of_etc(**files):
    """For @preexec: a private mount namespace in which these files replace /etc/NAME."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare():
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            os._exit(99)
        for name, path in files.items():
            if libc.mount(bytes(path), f"/etc/{name.replace('_', '.')}".encode(), None, MS_BIND, None):
                os._exit(98)

    return prepare


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a process another /etc/resolv.conf")
def test_f12_resolver_unreachable(env):
    """The broker's name could be resolved at first. From then on the name server does not answer."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.77", 53))
    hosts, resolv = env.folder / "hosts", env.folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost broker.test\n")
    resolv.write_text("nameserver 127.0.0.77\noptions timeout:2 attempts:1\n")
    prepare = with_files_of_etc(hosts=hosts, resolv_conf=resolv)
    there = {"GOTTHARD_SERVER_HOST": "127.0.0.1", "GOTTHARD_MQTT_ENDPOINT": f"broker.test:{env.broker_port}"}
    with FaultRun(env, agent_env={**there, "preexec": prepare}) as run:
        run.start()
        hosts.write_text("127.0.0.1 localhost\n")
        run.broker.kill()
        silent.settimeout(LIMIT)
        assert b"\6broker\4test" in silent.recv(4096), "the agent resolves the broker's name"
        run.load.wait_for_progress(64 << 10)
        run.end_load()
        invariants.check_idle(run)
        run.echo_through(run.tunnel)
        hosts.write_text("127.0.0.1 localhost broker.test\n")
        run.broker = env.broker()
        run.agent.wait_for(harness.AGENT_READY, count=2, limit=LIMIT)
    silent.close()


def test_f13_replayed_messages(env):
    """Recorded requests and answers have no effect when published again: on their own topic, another one, or retained."""
    with FaultRun(env) as run:
        run.start()
        recorded = capture(env, f"{env.PREFIX}/d/#")
        other = run.connect("bob")
        wait_until(lambda: len(recorded.messages()) >= 2, "a request and its answer are recorded")
        assert other.disconnect() == 0
        wait_until(lambda: len(run.workers()) == 1, "that session ended")
        n_clients = run.relay.log().count("client=")
        for topic, payload in recorded.messages():
            if topic.endswith("/state"):
                continue
            for where in (topic, topic.replace("/bob", "/alice"), topic.replace("/bob", "/operator")):
                publish(env, where, payload)
                publish(env, where, payload, retain=True)
        publish(env, f"{env.PREFIX}/d/GatewayOli/req", os.urandom(8193))
        publish(env, f"{env.PREFIX}/d/GatewayOli/req", os.urandom(1 << 20))
        run.echo_through(run.tunnel)
        assert len(run.workers()) == 1 and run.relay.log().count("client=") == n_clients, "a side connected to the relay"
        run.recovery += 5  # its token bucket fills again


def test_f14_two_devices_with_one_name(env):
    """They displace each other at the broker at growing intervals. The tunnel of the first continues."""
    with FaultRun(env, n_streams=1) as run:
        run.start()
        started = time.monotonic()
        twin = env.agent("GatewayOli", **run.agent_env)
        agents = run.agent, twin

        def waits():
            return [int(w) for a in agents for w in re.findall(r"broker not reachable.* retry=(\d+)ms", a.log())]

        wait_until(lambda: max(waits(), default=0) >= 4000, "one of them waits for 4 s", limit=40)
        n_online = sum(len(re.findall("online", a.log())) for a in agents)
        assert n_online <= 4 + (time.monotonic() - started) / 5, "flapping faster than every 5 s"
        run.load.wait_for_progress(64 << 10)
        assert twin.stop() == 0
        run.recovery += 10  # the back-off of the first one
