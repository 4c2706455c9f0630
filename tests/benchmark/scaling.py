# SPDX-License-Identifier: ISC
"""The limits of one relay, and the cost of many agents.

One gotthard-relayd gets sessions and joined streams from scale.c, which speaks its protocol, until there are 5,000 and
20,000 of them. The relay is measured after each step. The cost of a session and of a stream must not depend on their
number. Then 500 agents of one process tree are connected to one mosquitto and stay idle.
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
from groups import show_progress

RELAY_PORTS = (1100, 9999)  # below those of harness.free_ports


class Subject(candidates.Candidate):
    """Processes to be measured, in the form of a candidate."""

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
    """Starts a relay at its own loopback address, where the whole range of ports is free."""
    host = loopback()
    config = candidates.relay_settings(subject.env)
    with open(config / "relayd.conf", "a", encoding="ascii") as file:
        file.write(f'server = {{ bind = "{host}"; }};\n')
    relay = subject.env.relay(env=subject.env.relay_environment(
        GOTTHARD_CONFIG_DIR=config, GOTTHARD_SERVER_PORTS_FROM=RELAY_PORTS[0], GOTTHARD_SERVER_PORTS_TO=RELAY_PORTS[1]))
    subject.roots.append(relay)
    return host


def relay(n_sessions, n_streams, n_steps, seconds):
    """Returns a list of steps, each a dictionary, and the reason of an early end or None. @n_streams: in each session."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-bench-"))
    subject = Subject(folder)
    steps, why = [], None
    try:
        host = _start_relay(subject)
        steps.append({"sessions": 0, "streams": 0, **_look(subject, seconds)})
        environment = {"GOTTHARD_CRYPT_KEY": subject.env.key, "GOTTHARD_CRYPT_IV": subject.env.iv}
        arguments = [host, subject.env.relay_port, max(1, n_sessions // n_steps), n_streams, n_sessions]
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
            show_progress(f"scale: {sessions} sessions, {streams} streams")
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


STREAMS = 64  # per session, in the series with streams
SPARE = 2400  # descriptors of a relay for pipes and other purposes


def series(n_sessions, n_streams):
    """Yields (name, sessions, streams in each), limited by the descriptors of one process: three for each session, including its
    port, and two for each stream. Sessions and streams are combined if the limit allows it."""
    room = candidates.N_DESCRIPTORS - SPARE
    found = [("sessions", min(n_sessions, room // 3), 0),
             ("streams", max(1, min(n_streams, (room - room // 40) // 2) // STREAMS), STREAMS)]
    if 3 * n_sessions + 2 * n_streams <= room and n_streams >= n_sessions:
        found.append(("both", n_sessions, n_streams // n_sessions))
    return found


def cost(steps, what):
    """The cost of each of @what ("sessions" or "streams") in the first and in the last step. Equal numbers mean linear growth."""
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
    """Measures @n idle agents, which share one certificate."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-bench-"))
    subject, broker = Subject(folder), Subject(folder)
    env = subject.env
    try:
        broker.roots.append(env.broker())
        certificates = env.certificates("god")
        begin = time.monotonic()
        subject.roots = [env.agent(f"device-{number}", wait=False, GOTTHARD_AWS_CERT_PATH=certificates,
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
