# SPDX-License-Identifier: ISC
"""The main job at one broker: the steps of the table, in order, each with the time that it took or the reason of its failure."""

import contextlib
import hashlib
import json
import re
import signal
import time
import typing

import connack
import fetch
import harness
from harness import wait_until

DEVICE = "GatewayOli"
N_BYTES = 50_000_000
LIMIT = 60.
TWINS = r"is there a second device named"  # in the log of one of two devices with one name


class Step(typing.NamedTuple):
    name: str
    run: typing.Callable  # returns a note for the table, or None
    needs: tuple = ()  # names of steps that must have passed


class Job:
    """One run of the steps at one broker, with a device and two operators. Different nodes serve the device and the operators."""

    def __init__(self, env, nodes, version):
        self.env, self.nodes, self.version = env, nodes, version
        self.target = env.target(self._serve)
        self.agent = self.tunnel = self.sock = None
        self.received = []

    def _serve(self, sock):
        """The service of the device: sends and receives N_BYTES at the same time, then echoes."""
        def receive():
            self.received.append(digest(sock, N_BYTES))

        harness.in_threads(receive, lambda: harness.send_pattern(sock, "down", N_BYTES))
        harness.echo(sock)

    # the parts

    def variables(self, index, **more):
        """Of a program that connects to the node @index."""
        return {"GOTTHARD_MQTT_ENDPOINT": self.nodes.endpoint(index), "GOTTHARD_MQTT_VERSION": self.version, **more}

    def start_agent(self, **more):
        return self.env.agent(DEVICE, wait=False, **self.variables(0, GOTTHARD_AGENT_DATA_PORT=self.target.port, **more))

    def cli(self, *args, name="alice"):
        return self.env.cli(*args, name=name, **self.variables(1))

    def connect(self, name="alice"):
        tunnel = self.env.connect(DEVICE, name=name, wait=False, **self.variables(1))
        wait_until(lambda: not tunnel.is_running() or is_up(tunnel), "the tunnel is up", LIMIT)
        assert tunnel.is_running(), f"connect: exit {tunnel.child.returncode}: {failure_of(tunnel.out() + tunnel.log())}"
        return tunnel

    def state(self, *command):
        """Returns whether the command reports the device as online (None: it is not reported), and the output of the command."""
        done = self.cli(*command, "--json")
        for line in done.stdout.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if row.get("device") == DEVICE and "online" in row:
                    return row["online"], done
        return None, done

    def wait_state(self, online, *command, limit=LIMIT):
        shown = []

        def is_it():
            state, done = self.state(*command)
            shown[:] = [f"exit {done.returncode}, {failure_of(done.stdout + done.stderr)}"]
            return state is online

        try:
            wait_until(is_it, "", limit, step=0.5)
        except AssertionError:
            raise AssertionError(f"{' '.join(command)} does not report it as {'online' if online else 'offline'}: {shown[0]}") from None

    def echo(self, data):
        self.sock.sendall(data)
        assert harness.receive_exactly(self.sock, len(data)) == data, "the tunnel lost bytes"

    # the steps

    def online(self):
        self.agent = self.start_agent()
        wait_for(self.agent, harness.AGENT_READY)

    def devices(self):
        """A list without the device must state that it is not whole."""
        states = self.nodes.kind.states
        if states == "all":
            self.wait_state(True, "devices", limit=5)
            return ""
        _, done = self.state("devices")
        assert done.returncode != 0 and "not whole" in done.stdout, f"exit {done.returncode}: {failure_of(done.stdout + done.stderr)}"
        if states == "none":
            return "not whole"
        self.wait_state(True, "devices", DEVICE, limit=5)
        return states

    def status(self):
        self.wait_state(True, "status", DEVICE, limit=5)

    def up(self):
        self.tunnel = self.connect()

    def transfer(self):
        self.sock = self.tunnel.dial()
        got = []
        harness.in_threads(lambda: harness.send_pattern(self.sock, "up", N_BYTES), lambda: got.append(digest(self.sock, N_BYTES)))
        wait_until(lambda: self.received, "the device has received everything", LIMIT)
        assert got[0] == harness.digest_of_pattern("down", N_BYTES), "from the device: wrong bytes"
        assert self.received[0] == harness.digest_of_pattern("up", N_BYTES), "to the device: wrong bytes"

    def restart(self):
        """Nodes restart one after another. A new operator comes in after each."""
        for index in range(self.nodes.kind.n_nodes):
            n_online = len(re.findall(harness.AGENT_READY, self.agent.log()))
            self.nodes.stop(index)
            if self.sock:
                self.echo(b"during")
            self.nodes.start(index)
            if index == 0:  # the node of the device
                wait_for(self.agent, harness.AGENT_READY, n_online + 1)
            self.wait_state(True, "status", DEVICE)
            tunnel = self.connect("bob")
            assert tunnel.disconnect() == 0, f"bob: {failure_of(tunnel.log())}"
            if self.sock:
                self.echo(b"after")

    def will(self):
        self.agent.send(signal.SIGKILL)
        self.agent.wait()
        try:
            if self.nodes.kind.states != "none":
                self.wait_state(False, "status", DEVICE)
            else:  # no state: only an answer shows that a device is online
                assert self.cli("status", DEVICE).returncode != 0, "status reports a killed device as online"
        finally:
            self.agent = self.start_agent()
            wait_for(self.agent, harness.AGENT_READY)
        self.wait_state(True, "status", DEVICE)
        if self.sock:
            self.echo(b"after kill -9")

    def disconnect(self):
        tunnel = self.tunnel if self.tunnel.is_running() else self.connect()
        done = self.cli("disconnect", DEVICE)
        assert done.returncode == 0, f"exit {done.returncode}: {failure_of(done.stdout + done.stderr)}"
        tunnel.wait(LIMIT)

    def twins(self):
        folder = self.env.folder / "state-twin"
        folder.mkdir(mode=0o700)
        twin = self.start_agent(STATE_DIRECTORY=folder)
        try:
            wait_until(lambda: re.search(TWINS, self.agent.log() + twin.log()), "", LIMIT, step=0.2)
        except AssertionError:
            raise AssertionError(f"neither log names the cause. The last lines: {last_line(self.agent)}; {last_line(twin)}") from None
        finally:
            twin.stop()


STEPS = (
    Step("online", Job.online),
    Step("devices", Job.devices, ("online",)),
    Step("status", Job.status, ("online",)),
    Step("connect", Job.up, ("online",)),
    Step("50 MB", Job.transfer, ("connect",)),
    Step("restart", Job.restart, ("online",)),
    Step("kill -9", Job.will, ("online",)),
    Step("disconnect", Job.disconnect, ("connect",)),
    Step("two of a name", Job.twins, ("online",)),
)


def is_up(tunnel):
    return any(event.get("event") == "up" for event in tunnel.events())


def digest(sock, n):
    """Returns the SHA-256 of the next @n bytes. The time-out of a socket ends a hanging transfer."""
    state = hashlib.sha256()
    while n > 0:
        data = sock.recv(min(n, 1 << 18))
        assert data, f"{n} bytes are missing"
        state.update(data)
        n -= len(data)
    return state.hexdigest()


def wait_for(process, pattern, count=1):
    try:
        process.wait_for(pattern, limit=LIMIT, count=count)
    except AssertionError:
        raise AssertionError(f"{process.name} is not online within {LIMIT:.0f} s: {last_line(process)}") from None


def last_line(process):
    return failure_of(process.log())


def failure_of(text):
    """The error in a program's output: its last object, or its last line without time, level and program."""
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^\S+ \w+ gotthard-\w+: ", "", lines[-1])[:300] if lines else "no output"


def run(env, nodes, version):
    """Runs all steps with mqtt.version @version. Returns {step: ("pass", time, note) or ("fail", "limit" or "skip", reason, "")},
    the versions of MQTT that the broker accepts, and its limits."""
    env.relay()
    for index in range(nodes.kind.n_nodes):
        nodes.start(index)
    results, job = {}, Job(env, nodes, version)
    for step in STEPS:
        missing = [name for name in step.needs if results[name][0] != "pass"]
        if missing:
            results[step.name] = ("skip", f"requires {missing[0]}", "")
            continue
        begin = time.monotonic()
        try:
            note = step.run(job)
            results[step.name] = ("pass", f"{time.monotonic() - begin:.1f} s", note or "")
        except (AssertionError, OSError, fetch.Unavailable) as error:
            is_limit = {step.name, f"{step.name} {version}"} & set(nodes.kind.fails)
            outcome = "limit" if is_limit else "fail"
            results[step.name] = (outcome, " ".join(str(error).split()), "")
    return results, *connack.versions(nodes.port(0), env.certificates("alice"))
