# SPDX-License-Identifier: ISC
"""How far one relay goes, and how little many agents cost.

One gotthard-relayd gets sessions and joined streams from scale.c, which speaks its protocol, until there are 5,000 and
20,000 of them; after each step the relay is looked at. What a session and a stream cost must not depend on how many there
are. Then 500 agents of one process tree are connected to one mosquitto, and nobody asks them for anything.
"""

import pathlib
import shutil
import subprocess
import tempfile
import time

import candidates
import harness
import measures
from faultproxy import loopback
from groups import say

RELAY_PORTS = (1100, 9999)  # below those of harness.free_ports


class Subject(candidates.Candidate):
    """Only its processes, to look at."""

    name = "gotthard-relayd"

    def __init__(self, folder):
        super().__init__(folder, None)


def _look(subject, seconds):
    cpu, wakeups, begin = measures.cpu(subject), measures.n_wakeups(subject), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    return {
        "PSS KiB": measures.pss_kib(subject),
        "slab KiB": measures.slab_kib(),
        "descriptors": measures.n_descriptors(subject),
        "idle CPU %": 100 * measures.cpu_between(cpu, measures.cpu(subject)) / took,
        "idle wake-ups/s": (measures.n_wakeups(subject) - wakeups) / took,
    }


def _start_relay(subject):
    """At an address of its own, where the whole range of ports is free."""
    host = loopback()
    config = candidates.relay_settings(subject.world)
    with open(config / "relayd.conf", "a", encoding="ascii") as file:
        file.write(f'server = {{ bind = "{host}"; }};\n')
    relay = subject.world.relay(env=subject.world.relay_environment(
        GOTTHARD_CONFIG_DIR=config, GOTTHARD_SERVER_PORTS_FROM=RELAY_PORTS[0], GOTTHARD_SERVER_PORTS_TO=RELAY_PORTS[1]))
    subject.roots.append(relay)
    return host


def relay(n_sessions, n_streams, n_steps, seconds):
    """A list of steps, each a dictionary, and why it ended early, or None. @n_streams: in each session."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-bench-"))
    subject = Subject(folder)
    steps, why = [], None
    try:
        host = _start_relay(subject)
        steps.append({"sessions": 0, "streams": 0, **_look(subject, seconds)})
        environment = {"GOTTHARD_CRYPT_KEY": subject.world.key, "GOTTHARD_CRYPT_IV": subject.world.iv}
        arguments = [host, subject.world.relay_port, max(1, n_sessions // n_steps), n_streams, n_sessions]
        generator = subprocess.Popen([measures.TOOLS / "scale", *map(str, arguments)], env=environment, text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before = measures.cpu(subject)
        while line := generator.stdout.readline():
            _, sessions, streams, *times = line.split()
            spent = measures.cpu_between(before, measures.cpu(subject))
            steps.append({
                "sessions": int(sessions), "streams": int(streams), "CPU s of the step": spent,
                **dict(zip(("session p50 us", "session p99 us", "pair p50 us", "pair p99 us"), map(float, times))),
                **_look(subject, seconds),
            })
            say(f"scale: {sessions} sessions, {streams} streams")
            if int(sessions) >= n_sessions:
                break
            before = measures.cpu(subject)
            generator.stdin.write("\n")
            generator.stdin.flush()
        generator.stdin.close()
        generator.wait(measures.LIMIT)
        if steps[-1]["sessions"] < n_sessions:
            why = f"ended after {steps[-1]['sessions']} sessions: {generator.stderr.read().strip()}"
    finally:
        subject.close()
        shutil.rmtree(folder, ignore_errors=True)
    return steps, why


STREAMS = 64  # a session, where streams are counted
SPARE = 2400  # descriptors that a relay keeps for pipes and what else there is


def series(n_sessions, n_streams):
    """(name, sessions, streams in each): as many as one process may have descriptors for, of three a session (its port too) and
    two a stream; all at once where there is room."""
    room = candidates.N_DESCRIPTORS - SPARE
    found = [("sessions", min(n_sessions, room // 3), 0),
             ("streams", max(1, min(n_streams, (room - room // 40) // 2) // STREAMS), STREAMS)]
    if 3 * n_sessions + 2 * n_streams <= room and n_streams >= n_sessions:
        found.append(("both", n_sessions, n_streams // n_sessions))
    return found


def cost(steps, what):
    """What each of @what ("sessions" or "streams") costs at the end of the way, and in its first step: flat is the same."""
    zero, first, last = steps[0], steps[1], steps[-1]
    latency = "pair p50 us" if what == "streams" else "session p50 us"

    def each(step, figure):
        return (step[figure] - zero[figure]) / step[what]

    return {
        what: last[what],
        "PSS KiB each": each(last, "PSS KiB"),
        "PSS KiB each, first step": each(first, "PSS KiB"),
        "slab KiB each, all ends": each(last, "slab KiB"),
        "descriptors each": each(last, "descriptors"),
        "connect p50 us": last[latency],
        "connect p50 us, first step": first[latency],
        "CPU us each, last step": 1e6 * last["CPU s of the step"] / (last[what] - steps[-2][what]),
        "idle CPU %": last["idle CPU %"],
        "idle wake-ups/s": last["idle wake-ups/s"],
    }


def agents(n, seconds):
    """@n of them, with one certificate between them, idle."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-bench-"))
    subject, broker = Subject(folder), Subject(folder)
    world = subject.world
    try:
        broker.roots.append(world.broker())
        certificates = world.certificates("god")
        begin = time.monotonic()
        subject.roots = [world.agent(f"device-{number}", wait=False, GOTTHARD_AWS_CERT_PATH=certificates,
                                     GOTTHARD_MQTT_KEEPALIVE="15min", GOTTHARD_AGENT_HOST_KEYS="")
                         for number in range(n)]
        for agent in subject.roots:
            agent.wait_for(harness.AGENT_READY)
        took = time.monotonic() - begin
        time.sleep(seconds / 2)
        figures, of_broker = _look(subject, seconds), _look(broker, 0.1)
        return {
            "agents": n, "all online after s": took, "PSS KiB/agent": figures["PSS KiB"] / n,
            "descriptors/agent": figures["descriptors"] / n, "wake-ups/s/agent": figures["idle wake-ups/s"] / n,
            "CPU % of all": figures["idle CPU %"], "mosquitto PSS KiB": of_broker["PSS KiB"],
        }
    finally:
        subject.close()
        shutil.rmtree(folder, ignore_errors=True)
