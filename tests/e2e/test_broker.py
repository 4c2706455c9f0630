# SPDX-License-Identifier: ISC
"""A broker that is down, restarts, or lies: tunnels do not notice, nothing is believed, nobody spins."""

import subprocess
import threading
import time

import harness
from harness import echo, wait_until
from test_sessions import hear, tagged


def capture(world, topic, n=1, name="god"):
    """mosquitto_sub as a client that may read all, printing topic and hex payload."""
    certs = world.certificates(name)
    process = harness.Process(world, world.unique("sub"), [
        "stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", world.broker_port, "--cafile", certs / "ca.crt", "--cert", certs / "cert.pem",
        "--key", certs / "private.key", "-t", topic, "-F", "%t %r %x", "-q", "1", "-d"])
    wait_until(lambda: "SUBACK" in process.out() + process.log() or not process.is_running(), "subscribed")

    def messages():
        found = []
        for line in process.out().splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[0].startswith(world.PREFIX) and words[1] in "01":
                found.append((words[0], bytes.fromhex(words[2])))
        return found

    process.messages = messages
    return process


def publish(world, topic, payload, retain=False, name="god"):
    certs = world.certificates(name)
    path = world.folder / world.unique("payload")
    path.write_bytes(payload)
    subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(world.broker_port), "--cafile", certs / "ca.crt",
                    "--cert", certs / "cert.pem", "--key", certs / "private.key", "-t", topic, "-q", "1", "-f", path,
                    *(["-r"] if retain else [])], check=True, timeout=harness.LIMIT)


def test_broker_down_at_start(world):
    world.relay()
    agent = world.agent(wait=False, GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    agent.wait_for("(?i)broker|mqtt")
    done = world.cli("connect", "GatewayOli")
    assert done.returncode == 69 and "GTD-E20" in done.stderr, done.stderr
    world.broker()
    agent.wait_for(harness.AGENT_READY, limit=harness.LIMIT + 10)
    assert hear(world.connect()) == "<oli!>"


def test_waiting_for_a_broker_costs_nothing(world):
    """Down, then accepting and silent: the agent waits, it does not spin."""
    agent = world.agent(wait=False)
    agent.wait_for("(?i)broker|mqtt")
    cpu, begun = harness.cpu_seconds(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3, "three seconds of waiting")
    assert harness.cpu_seconds(agent.pid) - cpu < 0.1
    import socket

    silent = socket.create_server(("127.0.0.1", world.broker_port))
    accepted = []
    threading.Thread(target=lambda: accepted.append(silent.accept()), daemon=True).start()
    wait_until(lambda: accepted, "the agent tries the silent broker", limit=90)
    cpu, begun = harness.cpu_seconds(agent.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3, "three seconds of silence")
    assert harness.cpu_seconds(agent.pid) - cpu < 0.1
    silent.close()


def test_broker_restart_during_a_tunnel(world):
    broker = world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    tunnel = world.connect()
    with tunnel.dial() as sock:
        sock.sendall(b"before")
        assert harness.receive_exactly(sock, 6) == b"before"
        broker.kill()
        sock.sendall(b"during")
        assert harness.receive_exactly(sock, 6) == b"during"
        world.broker()
        agent.wait_for(harness.AGENT_READY, count=2, limit=harness.LIMIT + 10)
        sock.sendall(b"after!")
        assert harness.receive_exactly(sock, 6) == b"after!"
    assert tunnel.is_running()
    world.connect(name="bob").close_politely()


def time_of_status(world):
    begun = time.monotonic()
    assert world.cli("status", "GatewayOli").returncode == 0
    return time.monotonic() - begun


def test_a_broker_with_nagle_costs_no_more(world):
    """Most brokers leave Nagle's algorithm on: their second packet waits until the first is acknowledged, which must
    not be put off for 40 ms, as kernels like to."""
    world.broker()
    world.agent()
    other = harness.World(world.folder / "other")
    try:
        other.broker(extra="set_tcp_nodelay false\n")
        other.agent()
        times = {other: [], world: []}
        while len(times[world]) < 7 or min(times[other]) - min(times[world]) > 0.06:
            assert len(times[world]) < 60, times  # a busy machine is quick once, built-in waiting never is
            for place, figures in times.items():
                figures.append(time_of_status(place))
    finally:
        other.close()


def sessions_of(agent):
    return len(harness.children_of(agent.pid))


def test_replayed_duplicated_retained_and_damaged_messages(world):
    """What the broker recorded, it can send again, twice, retained, elsewhere, cut, padded and with any bit flipped: no
    second session comes of it, and the device goes on serving."""
    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    recorder = capture(world, f"{world.PREFIX}/d/+/req")
    tunnel = world.connect()
    wait_until(recorder.messages, "the REQ is recorded")
    topic, req = recorder.messages()[0]
    assert sessions_of(agent) == 1
    # the broker can end a session's beginning, never make one
    publish(world, topic, req)
    publish(world, topic, req)
    publish(world, topic, req, retain=True)
    assert sessions_of(agent) == 1
    assert tunnel.close_politely() == 0
    wait_until(lambda: sessions_of(agent) == 0, "the worker ended")
    publish(world, topic, req)
    damaged = [req[:i] + bytes([req[i] ^ 1 << bit]) + req[i + 1:]
               for i in (0, 4, 5, 36, len(req) // 2, len(req) - 1) for bit in (0, 7)]
    damaged += [req[:n] for n in (0, 1, 4, 5, 37, 52, len(req) - 1)] + [req + b"\0", b"\0" * 8193, b"\xff" * 100000]
    for payload in damaged:
        publish(world, topic, payload)
    # a message for another device, with this one's seal
    publish(world, topic.replace("GatewayOli", "GatewayEli"), req)
    # every one of them was heard before this one is answered
    again = wait_until(lambda: try_connect(world), "the device serves on", limit=harness.LIMIT)
    assert hear(again) == "<oli!>"
    assert sessions_of(agent) == 1


def try_connect(world):
    """The token bucket may still be empty after a flood: the operator then hears nothing, and asks again."""
    tunnel = world.connect(wait=False)
    wait_until(lambda: not tunnel.is_running() or [e for e in tunnel.events() if e["event"] == "up"], "an answer")
    return tunnel if tunnel.is_running() else None


def test_retained_request_meets_a_new_agent(world):
    """A REQ left retained at the broker is delivered to an agent when it comes: dropped."""
    world.broker()
    world.relay()
    first = world.agent()
    recorder = capture(world, f"{world.PREFIX}/d/+/req")
    world.connect().close_politely()
    topic, req = wait_until(recorder.messages, "recorded")[0]
    first.stop()
    publish(world, topic, req, retain=True)
    second = world.agent()
    tunnel = world.connect()
    assert sessions_of(second) == 1
    tunnel.close_politely()


def test_poisoned_presence_and_answers(world):
    """Forged and damaged STATE and ACK messages are not believed by the operator."""
    world.broker()
    world.relay()
    agent = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    states = capture(world, f"{world.PREFIX}/d/+/state")
    topic, state = wait_until(states.messages, "the presence")[0]
    publish(world, topic.replace("GatewayOli", "GatewayEli"), state, retain=True)
    done = world.cli("connect", "GatewayEli")
    assert done.returncode == 69, done.stderr
    flipped = state[:40] + bytes([state[40] ^ 1]) + state[41:]
    publish(world, topic, flipped, retain=True)
    tunnel = world.connect()  # by way of the NAK, which tells the epoch
    assert hear(tunnel) == "<oli!>"
    assert sessions_of(agent) == 1


def test_mqtt_without_tls_on_loopback(world):
    world.broker(tls=False)
    world.relay()
    endpoint = f"mqtt://127.0.0.1:{world.broker_port}"
    world.agent(GOTTHARD_MQTT_ENDPOINT=endpoint, GOTTHARD_AWS_CERT_PATH=None,
                GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    assert hear(world.connect(GOTTHARD_MQTT_ENDPOINT=endpoint, GOTTHARD_AWS_CERT_PATH=None)) == "<oli!>"
