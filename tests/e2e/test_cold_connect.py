# SPDX-License-Identifier: ISC
"""The round trips that a cold `connect` waits for (docs/round-trips.md), and what saves them: the device's last epoch, and a
connection to the relay that is begun before the answer."""

import contextlib
import json
import subprocess
import threading
import time

import pytest

import harness
from faultproxy import Proxy
from harness import echo, wait_until

DEVICE = "GatewayOli"
RTT = 0.5  # seconds


class Legs:
    """The four legs of the path, each through a proxy that delays it."""

    def __init__(self, env):
        self.operator = {"broker": Proxy.before_port(env.broker_port), "relay": Proxy.before_relay(env)}
        self.device = {"broker": Proxy.before_port(env.broker_port), "relay": Proxy.before_relay(env)}

    @staticmethod
    def settings(side):
        return {"GOTTHARD_SERVER_HOST": side["relay"].host,
                "GOTTHARD_MQTT_ENDPOINT": f"127.0.0.1:{side['broker'].port}"}

    def delay(self, *proxies):
        for proxy in proxies:
            proxy.command("delay", 1000 * RTT / 2)

    def close(self):
        for proxy in (*self.operator.values(), *self.device.values()):
            proxy.close()


class Timed:
    """A `connect` that notes when it prints each event."""

    def __init__(self, env, **more):
        self.at, self.changed = {}, threading.Condition()
        self.child = subprocess.Popen(
            [harness.PROGRAMS["cli"], "connect", "--json", DEVICE, "0:ssh"], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=env.folder, env=env.cli_environment(**more))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            now, event = time.monotonic(), json.loads(line)
            with self.changed:
                self.at.setdefault(event["event"], now)
                self.changed.notify_all()

    def trips(self, start, end):
        """Returns the round trips between two events."""
        with self.changed:
            assert self.changed.wait_for(lambda: start in self.at and end in self.at, harness.LIMIT), self.at
        return (self.at[end] - self.at[start]) / RTT

    def close(self):
        self.child.terminate()
        self.child.wait(harness.LIMIT)


@pytest.fixture
def parts(env):
    env.broker()
    env.relay_ = env.relay("--bind", "127.0.0.1")
    env.legs = Legs(env)
    env.more = Legs.settings(env.legs.operator)  # for the operator: the file of epochs belongs to one broker's address
    env.device = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **Legs.settings(env.legs.device))
    yield env
    env.legs.close()


@pytest.fixture
def memory(tmp_path, parts):
    """The folder of remembered devices and epochs of one operator, after a first session."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    parts.more["XDG_STATE_HOME"] = folder
    with contextlib.closing(Timed(parts, **parts.more)) as first:
        first.trips("broker", "up")
        wait_until(lambda: epochs(folder), "the epoch is remembered")
    return folder


def epochs(folder):
    """Returns the file of epochs, or None."""
    return next(iter((folder / "gotthard").glob("epochs-" + "[0-9a-f]" * 16)), None)


def agreed(device):
    return device.log().count(" agreed service=ssh ")


def expect_trips(env, answered, up, **more):
    """Expects so many round trips from the broker to the answer, and to the tunnel. A busy machine adds to them, never takes off."""
    found = []
    for _ in range(5):
        with contextlib.closing(Timed(env, **more)) as command:
            found.append((command.trips("broker", "answered"), command.trips("broker", "up")))
        assert found[-1][0] > answered - 0.05 and found[-1][1] > up - 0.05, found
        if found[-1][0] < answered + 0.8 and found[-1][1] < up + 0.8:
            break
    print(f"RTT {RTT} s: {found}")
    assert found[-1][0] < answered + 0.8 and found[-1][1] < up + 0.8, found


@pytest.mark.parametrize("is_alike, answered, up", [(True, 2, 8), (False, 1, 6)])
def test_round_trips_with_a_remembered_epoch(parts, memory, is_alike, answered, up):
    """All four legs are alike, or only those of the operator are slow. Neither waits for the state; the relay's TCP and TLS take
    no time of their own but for what the answer is quicker by."""
    legs = parts.legs
    legs.delay(*legs.operator.values(), *(legs.device.values() if is_alike else ()))
    expect_trips(parts, answered, up, **parts.more)


def test_round_trips_without_a_remembered_epoch(parts):
    """One more, for the state: the folder cannot be written."""
    legs = parts.legs
    legs.delay(*legs.operator.values(), *legs.device.values())
    expect_trips(parts, 3, 9, XDG_STATE_HOME="/proc/none", **parts.more)


def test_stale_epoch_costs_nothing_and_opens_one_session(parts, memory):
    """A restarted device has another epoch. Its state names it."""
    legs = parts.legs
    before = epochs(memory).read_text()
    parts.device.stop()
    device = parts.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=parts.target(echo).port, **Legs.settings(legs.device))
    legs.delay(*legs.operator.values(), *legs.device.values())
    with contextlib.closing(Timed(parts, **parts.more)) as command:
        answered = command.trips("broker", "answered")
        command.trips("broker", "up")
        assert agreed(device) == 1
        wait_until(lambda: epochs(memory).read_text() != before, "the new epoch is remembered")
    print(f"{answered:.2f} round trips")
    assert answered >= 2.95  # the first request, with the old epoch, opened nothing


@pytest.mark.parametrize("text", ["", "GatewayOli", "GatewayOli zz\n", "GatewayOli " + 32 * "0" + "\n", "\0" * 100, "x" * 300000],
                         ids=("empty", "name", "no-epoch", "zeros", "binary", "large"))
def test_wrong_contents_are_ignored_and_mended(parts, memory, text):
    path = epochs(memory)
    path.write_text(text)
    tunnel = parts.connect(DEVICE, **parts.more)
    wait_until(lambda: len(path.read_bytes()) == len(DEVICE) + 1 + 32 + 1, "the epoch is remembered again")
    assert path.stat().st_mode & 0o7777 == 0o600
    assert tunnel.disconnect() == 0
    assert "epoch" not in tunnel.log()
    assert agreed(parts.device) == 2


def test_epoch_is_forgotten_with_the_device(parts, memory):
    assert DEVICE in epochs(memory).read_text()
    parts.device.stop()
    done = parts.cli("forget", "--yes", DEVICE, name="god", **parts.more)
    assert done.returncode == 0, done.stderr
    assert DEVICE not in epochs(memory).read_text()


def test_remembered_epoch_does_not_hide_an_offline_device(parts, memory):
    """The retained state decides about the reported failure."""
    parts.device.stop()
    done = parts.cli("connect", DEVICE, "0:ssh", **parts.more)
    assert done.returncode == 69 and "GTD-E31" in done.stderr and "offline" in done.stderr, done.stderr


def test_unreachable_relay_is_not_reported_before_the_answer(parts, memory):
    """The device denies the request: that is the reason, although the relay has refused connections before it."""
    legs = parts.legs
    legs.operator["relay"].is_refusing = True
    legs.delay(legs.device["broker"])
    done = parts.cli("connect", DEVICE, "0:web", **parts.more)
    assert done.returncode == 77 and "web" in done.stderr, done.stderr
    assert "relay" not in done.stdout + done.stderr, done.stderr
    assert legs.operator["relay"].n_accepted > 0
    done = parts.cli("connect", DEVICE, "0:ssh", GOTTHARD_TIMEOUTS_PEER="3s", **parts.more)
    assert done.returncode == 69 and "GTD-E50" in done.stderr, done.stderr
    assert 0 < done.stderr.index(" answered within ") < done.stderr.index("cannot reach relay "), done.stderr


def test_relay_connection_of_a_refused_request_ends_without_a_session(parts, memory):
    legs = parts.legs
    sessions = parts.relay_.log().count("session=")
    legs.delay(legs.device["broker"])
    done = parts.cli("connect", DEVICE, "0:web", **parts.more)
    assert done.returncode == 77 and "web" in done.stderr, done.stderr
    parts.relay_.wait_for(r"client=g1:o:alice up", count=2)
    parts.relay_.wait_for(r"client=g1:o:alice down.*closed by peer")
    assert parts.relay_.log().count("session=") == sessions


def test_relay_that_closes_the_early_connection_is_connected_again(parts, memory):
    """It is lost while the answer is awaited, which is not reported."""
    legs = parts.legs
    legs.delay(legs.device["broker"])
    tunnel = parts.connect(DEVICE, wait=False, **parts.more)
    wait_until(lambda: legs.operator["relay"].cut(), "a connection to the relay ends")
    tunnel.wait_up()
    assert not [event for event in tunnel.events() if event["event"] == "relay-retry"], tunnel.out()
    assert tunnel.disconnect() == 0
