# SPDX-License-Identifier: ISC
"""Brokers that are down, restart, or forge messages: tunnels continue, forgeries are rejected, no process spins."""

import subprocess
import threading
import time

import harness
from harness import echo, wait_until
from test_sessions import read_tag, tagged


def capture(env, topic, n=1, name="god"):
    """Starts mosquitto_sub with access to all topics; it prints topics and hex payloads."""
    certs = env.certificates(name)
    process = harness.Process(env, env.unique("sub"), [
        "stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", env.broker_port, "--cafile", certs / "ca.crt", "--cert", certs / "cert.pem",
        "--key", certs / "private.key", "-t", topic, "-F", "%t %r %x", "-q", "1", "-d"])
    wait_until(lambda: "SUBACK" in process.out() + process.log() or not process.is_running(), "subscribed")

    def messages():
        found = []
        for line in process.out().splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[0].startswith(env.PREFIX) and words[1] in "01":
                found.append((words[0], bytes.fromhex(words[2])))
        return found

    process.messages = messages
    return process


def publish(env, topic, payload, retain=False, name="god"):
    certs = env.certificates(name)
    path = env.folder / env.unique("payload")
    path.write_bytes(payload)
    subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(env.broker_port), "--cafile", certs / "ca.crt",
                    "--cert", certs / "cert.pem", "--key", certs / "private.key", "-t", topic, "-q", "1", "-f", path,
                    *(["-r"] if retain else [])], check=True, timeout=harness.LIMIT)


def test_broker_down_at_start(env):
    env.relay()
    agent = env.agent(wait=False, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    agent.wait_for("(?i)broker|mqtt")
    done = env.cli("connect", "GatewayOli")
    assert done.returncode == 69 and "GTD-E20" in done.stderr, done.stderr
    env.broker()
    agent.wait_for(harness.AGENT_READY, limit=harness.LIMIT + 10)
    assert read_tag(env.connect()) == "<oli!>"


def test_waiting_for_broker_uses_no_cpu(env):
    """The broker is down, then accepts and stays silent: the agent waits without using the CPU."""
    agent = env.agent(wait=False)
    agent.wait_for("(?i)broker|mqtt")
    cpu, started = harness.cpu_seconds(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3, "three seconds have passed")
    assert harness.cpu_seconds(agent.pid) - cpu < 0.1
    import socket

    silent = socket.create_server(("127.0.0.1", env.broker_port))
    accepted = []
    threading.Thread(target=lambda: accepted.append(silent.accept()), daemon=True).start()
    wait_until(lambda: accepted, "the agent tries the silent broker", limit=90)
    cpu, started = harness.cpu_seconds(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3, "three seconds have passed")
    assert harness.cpu_seconds(agent.pid) - cpu < 0.1
    silent.close()


def test_broker_restart_leaves_tunnel_open(env):
    broker = env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    tunnel = env.connect()
    with tunnel.dial() as sock:
        sock.sendall(b"before")
        assert harness.receive_exactly(sock, 6) == b"before"
        broker.kill()
        sock.sendall(b"during")
        assert harness.receive_exactly(sock, 6) == b"during"
        env.broker()
        agent.wait_for(harness.AGENT_READY, count=2, limit=harness.LIMIT + 10)
        sock.sendall(b"after!")
        assert harness.receive_exactly(sock, 6) == b"after!"
    assert tunnel.is_running()
    env.connect(name="bob").disconnect()


def time_of_status(env):
    started = time.monotonic()
    assert env.cli("status", "GatewayOli").returncode == 0
    return time.monotonic() - started


def test_broker_with_nagle_adds_no_delay(env):
    """Most brokers leave Nagle's algorithm on: their second packet waits for the acknowledgement of the first. The kernel
    would delay that by 40 ms, so the library must not let it."""
    env.broker()
    env.agent()
    other = harness.Env(env.folder / "other")
    try:
        other.broker(extra="set_tcp_nodelay false\n")
        other.agent()
        times = {other: [], env: []}
        while len(times[env]) < 7 or min(times[other]) - min(times[env]) > 0.06:
            assert len(times[env]) < 60, times  # a busy machine is fast at least once, a built-in delay never is
            for place, figures in times.items():
                figures.append(time_of_status(place))
    finally:
        other.close()


def sessions_of(agent):
    return len(harness.children_of(agent.pid))


def test_replayed_duplicated_retained_and_damaged_messages(env):
    """The broker sends a recorded REQ again: twice, retained, to another topic, cut, padded, with bits flipped. None starts
    a second session, and the device stays available."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    recorder = capture(env, f"{env.PREFIX}/d/+/req")
    tunnel = env.connect()
    wait_until(recorder.messages, "the REQ is recorded")
    topic, req = recorder.messages()[0]
    assert sessions_of(agent) == 1
    # the broker can prevent a session, never start one
    publish(env, topic, req)
    publish(env, topic, req)
    publish(env, topic, req, retain=True)
    assert sessions_of(agent) == 1
    assert tunnel.disconnect() == 0
    wait_until(lambda: sessions_of(agent) == 0, "the worker has exited")
    publish(env, topic, req)
    damaged = [req[:i] + bytes([req[i] ^ 1 << bit]) + req[i + 1:]
               for i in (0, 4, 5, 36, len(req) // 2, len(req) - 1) for bit in (0, 7)]
    damaged += [req[:n] for n in (0, 1, 4, 5, 37, 52, len(req) - 1)] + [req + b"\0", b"\0" * 8193, b"\xff" * 100000]
    for payload in damaged:
        publish(env, topic, payload)
    # a message for another device, sealed for this one
    publish(env, topic.replace("GatewayOli", "GatewayEli"), req)
    # all of them were received before this one is answered
    again = wait_until(lambda: try_connect(env), "the device is still available", limit=harness.LIMIT)
    assert read_tag(again) == "<oli!>"
    assert sessions_of(agent) == 1


def try_connect(env):
    """The token bucket may still be empty after a flood: the request then gets no answer and is sent again."""
    tunnel = env.connect(wait=False)
    wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"], "an answer")
    return tunnel if tunnel.is_running() else None


def test_retained_request_is_dropped_by_new_agent(env):
    """A retained REQ is delivered to an agent when it connects, and dropped."""
    env.broker()
    env.relay()
    first = env.agent()
    recorder = capture(env, f"{env.PREFIX}/d/+/req")
    env.connect().disconnect()
    topic, req = wait_until(recorder.messages, "recorded")[0]
    first.stop()
    publish(env, topic, req, retain=True)
    second = env.agent()
    tunnel = env.connect()
    assert sessions_of(second) == 1
    tunnel.disconnect()


def test_forged_state_and_ack_are_rejected(env):
    """The operator rejects forged and damaged STATE and ACK messages."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    states = capture(env, f"{env.PREFIX}/d/+/state")
    topic, state = wait_until(states.messages, "the STATE message")[0]
    publish(env, topic.replace("GatewayOli", "GatewayEli"), state, retain=True)
    done = env.cli("connect", "GatewayEli")
    assert done.returncode == 69, done.stderr
    flipped = state[:40] + bytes([state[40] ^ 1]) + state[41:]
    publish(env, topic, flipped, retain=True)
    tunnel = env.connect()  # through a NAK, which has the epoch
    assert read_tag(tunnel) == "<oli!>"
    assert sessions_of(agent) == 1


def test_mqtt_without_tls_on_loopback(env):
    env.broker(tls=False)
    env.relay()
    endpoint = f"mqtt://127.0.0.1:{env.broker_port}"
    env.agent(GOTTHARD_MQTT_ENDPOINT=endpoint, GOTTHARD_AWS_CERT_PATH=None,
              GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    assert read_tag(env.connect(GOTTHARD_MQTT_ENDPOINT=endpoint, GOTTHARD_AWS_CERT_PATH=None)) == "<oli!>"
