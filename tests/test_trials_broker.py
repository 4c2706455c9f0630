# SPDX-License-Identifier: ISC
"""Trials of the broker: away, silent, unresolvable, restarted at the worst moments, or lying; F-10 to F-14 of docs/faults.md."""

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
from harness import LIMIT, wait_until
from invariants import IS_SANITIZED, Trial
from test_broker import capture, publish

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
AGAIN = 15 if not IS_SANITIZED else 60  # the agent's back-off after a few failures is up to 8 s


def is_back(trial, count):
    trial.agent.wait_for(harness.AGENT_READY, count=count, limit=AGAIN)


def test_f10_broker_restarted_while_idle(world):
    """It forgets the presence, and gets it again."""
    with Trial(world) as trial:
        trial.start()
        trial.broker.kill()
        trial.broker = world.broker()
        is_back(trial, 2)
        assert "online" in world.cli("status", "GatewayOli").stdout


@pytest.mark.parametrize("moment", ["before the request is heard", "between request and answer"])
def test_f10_broker_restarted_around_a_request(world, moment):
    """Whoever asks is told that the broker went, or is answered; there is never a session that nobody holds."""
    env = {"GOTTHARD_PEER_TIMEOUT": "3s"}
    with Trial(world, agent_env=env, cli_env=env) as trial:
        trial.start()
        asked = capture(world, f"{world.PREFIX}/d/+/req")
        os.kill(trial.agent.pid, signal.SIGSTOP)
        asking = world.connect("GatewayOli", "0:echo", name="bob", wait=False)
        wait_until(asked.messages, "the question is at the broker")
        if moment == "between request and answer":
            os.kill(trial.broker.pid, signal.SIGSTOP)
            os.kill(trial.agent.pid, signal.SIGCONT)  # and what the kernel holds for it is the question
        trial.broker.kill()
        os.kill(trial.agent.pid, signal.SIGCONT)
        trial.broker = world.broker()
        is_back(trial, 2)
        wait_until(lambda: not asking.is_running() or [e for e in asking.events() if e["event"] == "up"], "an outcome")
        if not asking.is_running():
            assert asking.child.returncode == 69 and "GTD-E" in asking.log(), (asking.child.returncode, asking.log())
            wait_until(lambda: len(trial.workers()) == 1, "nobody's session is given up", limit=10)
        else:
            assert len(trial.workers()) == 2
            trial.tunnels.append(asking)


@pytest.mark.parametrize("seconds", [3, pytest.param(600, marks=pytest.mark.soak)])
def test_f11_broker_away_during_a_tunnel(world, seconds):
    with Trial(world) as trial:
        trial.start()
        trial.broker.kill()
        gone = time.monotonic()
        while time.monotonic() - gone < seconds:
            trial.load.wait_for_progress(64 << 10)
        trial.end_load()
        trial.quiet()  # I7: also while nobody is there to ask
        trial.broker = world.broker()
        trial.agent.wait_for(harness.AGENT_READY, count=2, limit=75 if seconds > 60 else AGAIN)
        waits = [int(w) for w in re.findall(r"retry=(\d+)ms", trial.agent.log())]
        assert max(waits) <= 72000 and len(set(waits)) > len(waits) / 2, f"waits grow to a minute, with jitter: {waits}"


def test_f11_broker_away_at_first(world):
    """Both sides start, and ask in vain."""
    with Trial(world) as trial:
        assert trial.tunnel.close_politely() == 0
        trial.wait_no_workers()
        assert trial.agent.stop() == 0
        trial.broker.kill()
        trial.start_agent(wait=False)
        trial.agent.wait_for("broker not reachable")
        done = world.cli("connect", "GatewayOli")
        assert done.returncode == 69 and "GTD-E20" in done.stderr, done.stderr
        trial.quiet()
        trial.broker = world.broker()
        is_back(trial, 1)


@contextlib.contextmanager
def silent_broker(world, has_tls):
    """Takes every connection at the broker's port, with a right certificate or without a word, and says nothing."""
    wait_until(lambda: not harness.is_listening(world.broker_port), "the port is free")
    listener = socket.create_server(("127.0.0.1", world.broker_port))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certs = world.certificates("broker")
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
def test_f12_broker_accepts_and_is_silent(world, has_tls):
    with Trial(world) as trial:
        trial.start()
        trial.broker.kill()
        with silent_broker(world, has_tls) as held:
            wait_until(lambda: held, "the agent is taken in", limit=LIMIT)
            trial.load.wait_for_progress(64 << 10)
            trial.end_load()
            trial.quiet()
            trial.hear(trial.tunnel)
        trial.broker = world.broker()
        is_back(trial, 2)


def with_files_of_etc(**files):
    """In its own mount namespace, other files lie at /etc/NAME."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare():
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            os._exit(99)
        for name, path in files.items():
            if libc.mount(bytes(path), f"/etc/{name.replace('_', '.')}".encode(), None, MS_BIND, None):
                os._exit(98)

    return prepare


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a process another /etc/resolv.conf")
def test_f12_resolver_is_dead(world):
    """The broker's name was known, and is asked of a name server that says nothing from now on."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.77", 53))
    hosts, resolv = world.folder / "hosts", world.folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    resolv.write_text("nameserver 127.0.0.77\noptions timeout:2 attempts:1\n")
    prepare = with_files_of_etc(hosts=hosts, resolv_conf=resolv)
    there = {"GOTTHARD_SERVER_HOST": "127.0.0.1"}
    with Trial(world, agent_env={**there, "preexec": prepare}) as trial:
        trial.start()
        hosts.write_text("127.0.0.1 elsewhere\n")
        trial.broker.kill()
        silent.settimeout(LIMIT)
        assert b"localhost" in silent.recv(4096), "the agent asks who the broker is"
        trial.load.wait_for_progress(64 << 10)
        trial.end_load()
        trial.quiet()
        trial.hear(trial.tunnel)
        hosts.write_text("127.0.0.1 localhost\n")
        trial.broker = world.broker()
        trial.agent.wait_for(harness.AGENT_READY, count=2, limit=LIMIT)
    silent.close()


def test_f13_recorded_messages_are_played_again(world):
    """Request and answer of another time, at the right topic, at a wrong one, twice, retained: nobody moves for it."""
    with Trial(world) as trial:
        trial.start()
        heard = capture(world, f"{world.PREFIX}/d/#")
        other = trial.connect("bob")
        wait_until(lambda: len(heard.messages()) >= 2, "a request and its answer are recorded")
        assert other.close_politely() == 0
        wait_until(lambda: len(trial.workers()) == 1, "that session is over")
        n_members = trial.relay.log().count("member=")
        for topic, payload in heard.messages():
            if topic.endswith("/state"):
                continue
            for where in (topic, topic.replace("/bob", "/alice"), topic.replace("/bob", "/operator")):
                publish(world, where, payload)
                publish(world, where, payload, retain=True)
        publish(world, f"{world.PREFIX}/d/GatewayOli/req", os.urandom(8193))
        publish(world, f"{world.PREFIX}/d/GatewayOli/req", os.urandom(1 << 20))
        trial.hear(trial.tunnel)
        assert len(trial.workers()) == 1 and trial.relay.log().count("member=") == n_members, "nobody dialled"
        trial.recovery += 5  # its token bucket fills again


def test_f14_two_devices_with_one_name(world):
    """They take the broker from each other, ever more slowly; the tunnel of the first goes on."""
    with Trial(world, n_streams=1) as trial:
        trial.start()
        begun = time.monotonic()
        twin = world.agent("GatewayOli", **trial.agent_env)
        agents = trial.agent, twin

        def waits():
            return [int(w) for a in agents for w in re.findall(r"broker not reachable.* retry=(\d+)ms", a.log())]

        wait_until(lambda: max(waits(), default=0) >= 4000, "one of them waits", limit=40)
        n_online = sum(len(re.findall("online", a.log())) for a in agents)
        assert n_online <= 4 + (time.monotonic() - begun) / 5, "no flapping faster than every 5 s"
        trial.load.wait_for_progress(64 << 10)
        assert twin.stop() == 0
        trial.recovery += 10  # as long as the first one waits
