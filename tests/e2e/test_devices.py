# SPDX-License-Identifier: ISC
"""`gotthard-cli devices` lists every device that the broker knows, or states that the list is not whole."""

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import threading
import time

import pytest

import faultproxy
import harness
import mqtt_packets as mqtt
import states
from mqtt_packets import CONNACK, CONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, SUBSCRIBE
from setting_markers import effect, refuses

EXAMPLE = (harness.ROOT / "etc" / "mosquitto-example.conf").read_text()
LIMITS = {
    "shipped": "\n".join(line for line in EXAMPLE.splitlines() if line.startswith("max_")) + "\n",
    "defaults": "",
    "small": "max_queued_messages 10\nmax_inflight_messages 1\n",
}
WHOLE, NOT_WHOLE = 0, 69
NOT_AUTHORIZED = 0x87  # MQTT 5, section 3.9.3


def rows(result):
    """The devices of --json by name. Asserts that the exit status and the field `whole` agree."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = {line["device"]: line for line in lines if "device" in line}
    assert {row["whole"] for row in found.values()} <= {result.returncode == WHOLE}, result.stderr
    return found


def online(found):
    return {name for name, row in found.items() if row["online"]}


# --- mosquitto ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits,n", [("shipped", 1), ("shipped", 2000), ("defaults", 200), ("small", 200)])
def test_list_is_whole(env, limits, n):
    """At mosquitto with the shipped example, with its defaults, and with small limits."""
    fleet = states.fleet(n)
    env.broker(extra=LIMITS[limits])
    states.retain(env, fleet)
    result = env.cli("devices", "--json")
    assert result.returncode == WHOLE, result.stderr
    found = rows(result)
    assert set(found) == {state.name for state in fleet}
    assert online(found) == {state.name for state in fleet if state.is_online}


def test_reader_that_ends_early_is_no_failure(env):
    """As with `devices | head -1`: a list that is longer than a pipe holds."""
    env.broker()
    states.retain(env, states.fleet(1500))
    command = f"set -o pipefail; {harness.PROGRAMS['cli']} devices | head -1"
    result = subprocess.run(["bash", "-c", command], env=env.cli_environment(), capture_output=True, text=True, timeout=harness.LIMIT, check=False)
    assert result.returncode == WHOLE and len(result.stdout.splitlines()) == 1 and "pipe" not in result.stderr, result.stderr


def test_sum_names_devices_and_completeness(env):
    env.broker()
    states.retain(env, states.fleet(9))
    result = env.cli("devices")
    assert "9 devices, 6 online, 0 unknown; the list is whole" in result.stderr
    assert len(result.stdout.splitlines()) == 10
    assert env.cli("devices", "-q").stderr == ""


def test_pattern_selects_devices(env):
    env.broker()
    states.retain(env, states.fleet(20))
    for pattern, names in (("dev-0000?", range(10)), ("dev-0001[1-3]", (11, 12, 13)), ("*-00007", (7,)), ("dev-00005", (5,)),
                           ("DEV-*", ()), ("*", range(20))):
        result = env.cli("devices", pattern, "--json")
        assert result.returncode == WHOLE, result.stderr
        assert set(rows(result)) == {f"dev-{i:05}" for i in names}
    result = env.cli("devices", "dev-0001*", "--json", "--online")
    assert set(rows(result)) == {f"dev-{i:05}" for i in range(10, 20) if i % 3}


@effect("cli", "--online")
def test_online_option_selects_devices(env):
    env.broker()
    states.retain(env, states.fleet(6))
    result = env.cli("devices", "--online")
    assert "offline" not in result.stdout and "4 devices, 4 online" in result.stderr


# --- networks -------------------------------------------------------------------------------------


def through(env, proxy):
    return {"GOTTHARD_MQTT_ENDPOINT": f"localhost:{proxy.port}"}


def test_list_is_whole_over_a_long_round_trip(env):
    """300 ms; tests/fleet has 600."""
    env.broker()
    states.retain(env, states.fleet(120))
    proxy = faultproxy.Proxy.before_port(env.broker_port)
    proxy.command("delay", 150)
    result = env.cli("devices", "--json", **through(env, proxy))
    assert result.returncode == WHOLE and len(rows(result)) == 120, result.stderr


def test_list_is_whole_over_a_slow_link(env):
    """Data that is queued before the answers for longer than two keep-alive intervals does not end the connection."""
    fleet = [states.State(f"dev-{i}", services=[f"{'x' * 25}-{j}" for j in range(30)]) for i in range(40)]
    env.broker()
    states.retain(env, fleet)
    proxy = faultproxy.Proxy.before_port(env.broker_port)
    proxy.command("rate", 30_000)
    result = env.cli("devices", "--json", GOTTHARD_MQTT_KEEPALIVE="5s", **through(env, proxy))
    assert result.returncode == WHOLE and len(rows(result)) == 40, result.stderr


@pytest.mark.parametrize("pause_s", [.35, 1.5])
def test_list_is_whole_after_pauses(env, pause_s):
    """The network transmits for a moment and then pauses, several times."""
    env.broker()
    states.retain(env, states.fleet(400))
    proxy = faultproxy.Proxy.before_port(env.broker_port)
    proxy.command("rate", 400_000)
    end = threading.Event()

    def pause():
        while not end.wait(.3):
            proxy.command("stop", "on")
            end.wait(pause_s)
            proxy.command("stop", "off")

    thread = threading.Thread(target=pause)
    thread.start()
    try:
        result = env.cli("devices", "--json", **through(env, proxy))
    finally:
        end.set()
        thread.join()
    assert result.returncode == WHOLE and len(rows(result)) == 400, result.stderr


def test_progress_on_a_terminal(env):
    """The number of devices so far, rewritten in place, and removed before the table."""
    env.broker()
    states.retain(env, states.fleet(60))
    proxy = faultproxy.Proxy.before_port(env.broker_port)
    proxy.command("delay", 150)
    master, slave = os.openpty()
    cli = harness.Process(env, "cli", ["sh", "-c", f'exec "$0" devices 2>"$1"', harness.PROGRAMS["cli"], os.ttyname(slave)],
                          env={**env.cli_environment(**through(env, proxy)), "TERM": "xterm"})
    assert cli.wait() == WHOLE
    shown = os.read(master, 1 << 16).decode()
    assert re.search(r"\r?\S+ \d+ devices.*\r\x1b\[K60 devices, 40 online", shown, re.S), shown
    os.close(master)
    os.close(slave)


# --- a played broker ------------------------------------------------------------------------------


class Broker:
    """MQTT 5 without TLS, for one list at a time. @answer(broker, client, filters, n) returns the packets for the SUBSCRIBE
    number @n of a connection, SUBACK excluded; it may raise OSError to close the connection."""

    def __init__(self, env, answer, connack=None):
        self.answer, self.connack = answer, connack or {}
        self.sealed, self.env = {}, env
        self.refused = ()  # filters
        self.acknowledges = True  # publications
        self.subscribed, self.connections = [], []  # filters of each packet; of each connection
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _read(sock):
        first, n, shift = harness.receive_exactly(sock, 1), 0, 0
        while first and (byte := harness.receive_exactly(sock, 1)):
            n |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                return mqtt.decode(first[0], harness.receive_exactly(sock, n), 5)
        raise OSError("closed")

    def _serve(self, sock):
        n, filters = 0, []
        self.connections.append(filters)
        with contextlib.suppress(OSError), sock:
            while True:
                packet = self._read(sock)
                if packet.kind == CONNECT:
                    sock.sendall(mqtt.encode(CONNACK, 5, properties=self.connack))
                elif packet.kind == PINGREQ:
                    sock.sendall(mqtt.encode(PINGRESP, 5))
                elif packet.kind == SUBSCRIBE:
                    asked = [topic for topic, _ in packet.filters]
                    self.subscribed.append(asked)
                    filters += asked
                    n += 1
                    reasons = bytes(NOT_AUTHORIZED if topic in self.refused else 0 for topic in asked)
                    messages = self.answer(self, sock, [topic for topic in asked if topic not in self.refused], n)
                    sock.sendall(mqtt.encode(SUBACK, 5, id=packet.id, reasons=reasons) + b"".join(messages))
                elif packet.kind == PUBLISH and self.acknowledges:
                    sock.sendall(mqtt.encode(PUBACK, 5, id=packet.id))

    def publish(self, *fleet, retain=True):
        """Packets with the states of @fleet, each sealed once."""
        new = [state for state in fleet if id(state) not in self.sealed]
        for state, message in zip(new, states.seal(self.env, new)):
            self.sealed[id(state)] = (state, message)
        return [mqtt.encode(PUBLISH, 5, int(retain), topic=topic, payload=payload)
                for _, (topic, payload) in (self.sealed[id(state)] for state in fleet)]

    def cli(self, *args, **more):
        return self.env.cli(*args, GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{self.port}", GOTTHARD_AWS_CERT_PATH=None, **more)


ALL = f"{harness.Env.PREFIX}/d/+/state"


def topic_of(name):
    return f"{harness.Env.PREFIX}/d/{name}/state"


def is_exact(fleet, filters):
    return [state for state in fleet if topic_of(state.name) in filters]


def exact_only(fleet):
    """A broker that sends retained messages only for exact topics, as AWS IoT Core and RabbitMQ do."""
    return lambda broker, sock, filters, n: broker.publish(*is_exact(fleet, filters))


def whole(fleet):
    return lambda broker, sock, filters, n: broker.publish(*(fleet if ALL in filters else is_exact(fleet, filters)))


@effect("cli", "client.devices")
def test_broker_that_sends_states_by_name_only(env):
    """With the names in client.devices all states are shown, and a name without a state is unknown."""
    fleet = states.fleet(20)
    names = " ".join(state.name for state in fleet)
    broker = Broker(env, exact_only(fleet))
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names + " dev-absent")
    found = rows(result)
    assert result.returncode == WHOLE, result.stderr
    assert set(found) == {*names.split(), "dev-absent"} and found["dev-absent"]["online"] is None
    assert online(found) == {state.name for state in fleet if state.is_online}
    assert all(len(filters) <= 8 for filters in broker.subscribed)
    result = broker.cli("devices", GOTTHARD_CLIENT_DEVICES=names)
    assert "whole for the named devices" in result.stderr and "dev-absent" not in result.stdout


@refuses("cli", "client.devices")
@pytest.mark.parametrize("names", ["dev-1 dev/2", "+", "dev-1,dev-2", "x" * 129])
def test_names_that_are_invalid(env, names):
    result = env.cli("devices", GOTTHARD_CLIENT_DEVICES=names)
    assert result.returncode == 78 and "client.devices" in result.stderr


def test_pinned_devices_are_asked_by_name(env):
    fleet = states.fleet(3)
    broker = Broker(env, exact_only(fleet))
    pins = env.folder / "devices.pins"
    pins.write_text("".join(f"{state.name} {'ab' * 32} role=device\n" for state in fleet) + f"alice {'cd' * 32}\n")
    folder = env.config_folder(cli=f'trust = {{ pins = "{pins}"; }};')
    result = broker.cli("devices", "--json", GOTTHARD_CONFIG_DIR=folder)
    assert result.returncode == WHOLE and len(rows(result)) == 3, result.stderr


def test_named_device_is_asked_by_name(env):
    fleet = states.fleet(3)
    broker = Broker(env, exact_only(fleet))
    result = broker.cli("devices", "dev-00001", "--json")
    assert result.returncode == WHOLE and rows(result)["dev-00001"]["online"] is True, result.stderr


@pytest.mark.parametrize("n", [100, 400])
def test_no_connection_has_more_than_50_subscriptions(env, n):
    fleet = states.fleet(n)
    broker = Broker(env, exact_only(fleet))
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=" ".join(state.name for state in fleet))
    assert result.returncode == WHOLE and len(rows(result)) == n, result.stderr
    assert all(len(set(filters)) <= 50 for filters in broker.connections)
    assert all(len(filters) <= 8 for filters in broker.subscribed)


def test_empty_list_claims_nothing(env):
    """A broker that sends no state may send them by name only, or withhold them."""
    result = Broker(env, exact_only(states.fleet(3))).cli("devices")
    assert (result.returncode, result.stdout) == (NOT_WHOLE, ""), result.stderr
    assert "GTD-E34" in result.stderr and "client.devices" in result.stderr


@pytest.mark.parametrize("more", [[], ["dev-00001"]])
def test_list_without_a_state_is_not_whole(env, more):
    """Access rules may withhold the states of named devices as well."""
    result = Broker(env, exact_only([])).cli("devices", *more, GOTTHARD_CLIENT_DEVICES="dev-00001 dev-00002")
    assert result.returncode == NOT_WHOLE and "GTD-E34" in result.stderr, result.stderr


def test_state_published_meanwhile_is_no_answer_to_all(env):
    """At a broker that sends states by name only, one device publishes its state during the list."""
    fleet = states.fleet(3)
    broker = Broker(env, lambda broker, sock, filters, n: broker.publish(fleet[1], retain=False) if ALL in filters else [])
    result = broker.cli("devices", "--json")
    assert result.returncode == NOT_WHOLE and set(rows(result)) == {fleet[1].name}, result.stderr


def test_flood_of_states_ends_the_list(env):
    """A client publishes states that do not open, faster than the broker's answers come through."""
    fleet = states.fleet(3)

    def flood(broker, sock, filters, n):
        if n == 1:
            return broker.publish(*fleet)
        while True:  # no SUBACK
            sock.sendall(mqtt.encode(PUBLISH, 5, topic=topic_of("dev-x"), payload=bytes(60)))
            time.sleep(.1)

    result = Broker(env, flood).cli("devices", "--json")
    assert result.returncode == NOT_WHOLE and set(rows(result)) == {"dev-x", *(state.name for state in fleet)}
    assert "do not open" in result.stderr, result.stderr


def test_devices_seen_before_are_asked_by_name(env):
    """The names of a whole list are remembered. At a broker that sends states by name only, the list does not claim to be whole."""
    fleet = states.fleet(60)
    broker = Broker(env, whole(fleet))
    assert broker.cli("devices").returncode == WHOLE
    broker.answer = exact_only(fleet[:50])
    result = broker.cli("devices", "--json")
    found = rows(result)
    assert result.returncode == NOT_WHOLE and "GTD-E34" in result.stderr
    assert set(found) == {state.name for state in fleet}
    assert {name for name, row in found.items() if row["online"] is None} == {state.name for state in fleet[50:]}


def test_missing_devices_are_asked_once_at_a_broker_that_sends_all(env):
    """Names without a state do not cost a connection for every 50 of them."""
    fleet = states.fleet(3)
    broker = Broker(env, whole(fleet))
    names = " ".join(f"absent-{i}" for i in range(300))
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names)
    assert result.returncode == WHOLE and len(rows(result)) == 303, result.stderr
    assert len(broker.connections) == 1


@pytest.mark.parametrize("manners", [[], ["v5=False", "retained_delay_ms=400"]])
def test_list_at_a_broker_with_the_manners_of_aws(env, manners):
    """AWS IoT Core with the shipped policies: states by exact topic only, some time after the SUBACK."""
    env.aws_broker("connects_per_s=1000", *manners)
    env.agent("GatewayOli")
    env.agent("dev-2")
    result = env.cli("devices", "--json")
    assert (result.returncode, rows(result)) == (NOT_WHOLE, {}) and "GTD-E34" in result.stderr
    result = env.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES="GatewayOli dev-2 dev-3")
    assert result.returncode == WHOLE and online(rows(result)) == {"GatewayOli", "dev-2"}, result.stderr
    assert rows(result)["dev-3"]["online"] is None
    result = env.cli("devices", "--json")
    assert result.returncode == NOT_WHOLE and online(rows(result)) == {"GatewayOli", "dev-2"}, "seen before"


# --- brokers that lose states ---------------------------------------------------------------------


def drops_some(fleet):
    """Another part of the fleet each time, as a broker whose queue is full."""
    count = iter(range(1000))

    def answer(broker, sock, filters, n):
        if ALL not in filters:
            return broker.publish(*is_exact(fleet, filters))
        turn = next(count)
        return broker.publish(*(state for i, state in enumerate(fleet) if i < 60 or i % 7 != turn % 7))

    return answer


def test_broker_that_drops_other_states_each_time(env):
    result = Broker(env, drops_some(states.fleet(300))).cli("devices", "--json")
    assert result.returncode == NOT_WHOLE and "GTD-E34" in result.stderr, result.stderr
    assert len(rows(result)) == 300, "several readings together have all"


def test_broker_that_drops_the_same_states_each_time(env):
    """Known names reveal it."""
    fleet = states.fleet(300)
    broker = Broker(env, lambda b, sock, filters, n: b.publish(*(fleet[:100] if ALL in filters else is_exact(fleet, filters))))
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=" ".join(state.name for state in fleet))
    assert result.returncode == NOT_WHOLE and "GTD-E34" in result.stderr, result.stderr
    assert len(online(rows(result))) == 200


def test_broker_that_drops_states_once(env):
    """A first reading with gaps is completed by the next ones."""
    fleet, passes = states.fleet(300), []

    def answer(broker, sock, filters, n):
        if ALL in filters:
            passes.append(n)
        return broker.publish(*(fleet[:200] if len(passes) == 1 else fleet)) if ALL in filters else []

    result = Broker(env, answer).cli("devices", "--json")
    assert result.returncode == WHOLE and len(rows(result)) == 300, result.stderr


def test_broker_that_sends_late(env):
    """Retained messages that are sent after the SUBACK, on the broker's own time, and slowly."""
    fleet = states.fleet(40)

    def answer(broker, sock, filters, n):
        if ALL in filters:
            threading.Thread(target=trickle, args=(broker, sock), daemon=True).start()
        time.sleep(.1)
        return []

    def trickle(broker, sock):
        time.sleep(.3)
        for message in broker.publish(*fleet):
            time.sleep(.05)
            sock.sendall(message)

    result = Broker(env, answer).cli("devices", "--json")
    assert result.returncode == WHOLE and len(rows(result)) == 40, result.stderr


def test_connection_that_is_lost_shows_the_part(env):
    fleet = states.fleet(30)

    def answer(broker, sock, filters, n):
        if ALL in filters:
            return broker.publish(*fleet)
        raise OSError("closes")

    result = Broker(env, answer).cli("devices", "--json")
    assert result.returncode == NOT_WHOLE and len(rows(result)) == 30 and "lost" in result.stderr, result.stderr


def test_subscriptions_that_are_refused(env):
    """To all devices: the known ones are asked by name. To a known device: the list is not whole."""
    fleet = states.fleet(3)
    names = " ".join(state.name for state in fleet)
    broker = Broker(env, whole(fleet))
    broker.refused = {ALL}
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names)
    assert len(rows(result)) == 3 and result.returncode == WHOLE, result.stderr
    result = broker.cli("devices", XDG_STATE_HOME=env.folder / "none")
    assert result.returncode == 77 and "GTD-E21" in result.stderr, result.stderr
    broker.refused |= {topic_of("gotthard-cli:marker")}
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names + " dev-absent")
    assert len(rows(result)) == 4 and result.returncode == WHOLE, result.stderr
    broker.refused |= {topic_of(fleet[1].name)}
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=names)
    assert result.returncode == NOT_WHOLE and len(online(rows(result))) == 1, result.stderr


def test_watch_whose_subscription_to_all_is_refused(env):
    """The subscriptions by name bring all states before the list is read: it is whole, and no failure."""
    fleet = states.fleet(3)
    broker = Broker(env, whole(fleet))
    broker.refused = {ALL}
    watch = harness.Process(env, "watch", [harness.PROGRAMS["cli"], "devices", "--watch", "--json"], env=env.cli_environment(
        GOTTHARD_MQTT_ENDPOINT=f"mqtt://127.0.0.1:{broker.port}", GOTTHARD_AWS_CERT_PATH=None,
        GOTTHARD_CLIENT_DEVICES=" ".join(state.name for state in fleet)))
    watch.wait_for('"event": *"listed"', where=watch.out)
    events = [json.loads(line) for line in watch.out().splitlines()]
    assert len([event for event in events if event["event"] == "device"]) == 3, events
    assert events[-1]["whole"] is True and watch.is_running(), watch.log()


def test_closed_connection_in_place_of_a_refusal(env):
    """The known devices are asked by name."""
    fleet = states.fleet(3)

    def answer(broker, sock, filters, n):
        if ALL in filters:
            raise OSError("closes")
        return broker.publish(*is_exact(fleet, filters))

    broker = Broker(env, answer)
    result = broker.cli("devices", "--json", GOTTHARD_CLIENT_DEVICES=" ".join(state.name for state in fleet))
    assert len(rows(result)) == 3 and result.returncode == WHOLE, result.stderr
    assert broker.cli("devices").returncode == 69


def test_broker_without_retained_messages(env):
    broker = Broker(env, whole([]), {"retain_available": 0})
    result = broker.cli("devices")
    assert result.returncode == NOT_WHOLE and "keeps no retained messages" in result.stderr, result.stderr


# --- the latest state -----------------------------------------------------------------------------


EPOCH = "0a" * 16


ARRIVALS = [
    ([("live", True, 5), ("retained", False, 4)], True),
    ([("live", False, 5), ("retained", True, 4)], False),
    ([("retained", False, 4), ("live", True, 5)], True),
    ([("live", True, 5), ("live", False, 4)], True),
    ([("live", True, 5), ("live", False, 6)], False),
    ([("retained", True, 7), ("retained", False, 6)], True),
    ([("live", True, 1), ("retained", False, 900, "0b" * 16)], True),
    ([("retained", False, 900, "0b" * 16), ("live", True, 1)], True),
]


def test_stale_state_replaces_nothing(env):
    messages = [(kind == "retained", states.State(f"dev-{i}", online, seq=seq, epoch=epoch[0] if epoch else EPOCH))
                for i, (arrivals, _) in enumerate(ARRIVALS) for kind, online, seq, *epoch in arrivals]

    def answer(broker, sock, filters, n):
        return [packet for retain, state in messages for packet in broker.publish(state, retain=retain)] if n == 1 else []

    result = Broker(env, answer).cli("devices", "--json")
    assert {name: row["online"] for name, row in rows(result).items()} == {f"dev-{i}": end for i, (_, end) in enumerate(ARRIVALS)}


# --- the memory -----------------------------------------------------------------------------------


def memory_of(home):
    return list((home / "gotthard").glob("devices-*"))


@effect("cli", "XDG_STATE_HOME")
def test_memory_is_private_and_written_once(env):
    home = env.folder / "state"
    broker = Broker(env, whole(states.fleet(3)))
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    file, = memory_of(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert re.fullmatch(r"(dev-0000[012] \d+ ssh\n){3}", file.read_text())
    before = file.stat().st_ino
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    assert file.stat().st_ino == before, "the same devices again are not written"


def test_memory_does_not_create_a_home(env):
    """Build systems set a home that must not exist. One that exists gets the usual folders."""
    broker = Broker(env, whole(states.fleet(3)))
    home = env.folder / "home"
    assert broker.cli("devices", HOME=home, XDG_STATE_HOME="").returncode == WHOLE
    assert not home.exists()
    home.mkdir()
    assert broker.cli("devices", HOME=home, XDG_STATE_HOME="").returncode == WHOLE
    assert len(memory_of(home / ".local/state")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME"])
def test_memory_is_not_in_the_home_of_another_user(env, variable):
    """As with `sudo -E`: root would own folders there."""
    home = env.folder / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    variables = {"XDG_STATE_HOME": "", variable: home}
    assert Broker(env, whole(states.fleet(3))).cli("devices", **variables).returncode == WHOLE
    assert not list(home.iterdir())


@pytest.mark.parametrize("change", ["file", "folder"])
def test_memory_that_others_can_write_is_not_used(env, change):
    home = env.folder / "state"
    broker = Broker(env, whole(states.fleet(3)))
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    file, = memory_of(home)
    file.write_text(file.read_text() + f"dev-planted {int(time.time())}\n")
    os.chmod(file if change == "file" else file.parent, 0o777)
    result = broker.cli("devices", "--json", XDG_STATE_HOME=home)
    assert "dev-planted" not in rows(result) and "is not used" in result.stderr
    os.chmod(file if change == "file" else file.parent, 0o700)
    result = broker.cli("devices", "--json", XDG_STATE_HOME=home)
    assert result.returncode == WHOLE and ("dev-planted" in rows(result)) == (change == "folder"), result.stderr


def test_memory_with_nonsense_is_ignored(env):
    home = env.folder / "state"
    broker = Broker(env, whole(states.fleet(3)))
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    file, = memory_of(home)
    file.write_text("\n\ndev-1\ndev-1 x\n+ 5\ndev-1 " + "9" * 30 + "\ndev/1 5\n" + "x" * 5000 + " 1\n \n5 dev-1\nend")
    result = broker.cli("devices", "--json", XDG_STATE_HOME=home)
    assert result.returncode == WHOLE and len(rows(result)) == 3, result.stderr


def test_memory_of_devices_not_seen_for_long_ends(env):
    home = env.folder / "state"
    broker = Broker(env, whole(states.fleet(1)))
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    file, = memory_of(home)
    day = 86400
    file.write_text("".join(f"dev-{days} {int(time.time()) - days * day}\n" for days in (10, 100)))
    assert broker.cli("devices", XDG_STATE_HOME=home).returncode == WHOLE
    assert re.findall(r"^\S+", file.read_text(), re.M) == ["dev-00000", "dev-10"]


@pytest.mark.parametrize("variables", [{"XDG_STATE_HOME": "/proc/nowhere"}, {"XDG_STATE_HOME": "relative", "HOME": ""}])
def test_list_without_memory(env, variables):
    result = Broker(env, whole(states.fleet(3))).cli("devices", "--json", **variables)
    assert result.returncode == WHOLE and len(rows(result)) == 3, result.stderr


def test_status_waits_for_a_slow_broker(env):
    fleet = states.fleet(2)

    def answer(broker, sock, filters, n):
        if n == 1:
            threading.Timer(2.5, lambda: sock.sendall(b"".join(broker.publish(*is_exact(fleet, filters))))).start()
        return []

    result = Broker(env, answer).cli("status", "dev-00001")
    assert result.returncode == 0 and "dev-00001 is online" in result.stdout, result.stderr


# --- forget ---------------------------------------------------------------------------------------


@effect("cli", "--yes")
def test_status_of_a_device_with_the_name_of_the_operator(env):
    """Without a state the device would be asked, which needs two names."""
    env.broker()
    result = env.cli("status", "alice")
    assert result.returncode == 78 and "which is the name of the device" in result.stderr, result.stderr


def test_forget_deletes_the_state(env):
    env.broker()
    states.retain(env, states.fleet(3))
    assert set(rows(env.cli("devices", "--json", name="god"))) == {"dev-00000", "dev-00001", "dev-00002"}
    assert env.cli("forget", "dev-00001", name="god").returncode == 64, "without a terminal only with --yes"
    result = env.cli("forget", "dev-00001", "--yes", "--json", name="god")
    assert result.returncode == 0 and json.loads(result.stdout)["device"] == "dev-00001", result.stderr
    assert set(rows(env.cli("devices", "--json", name="god"))) == {"dev-00000", "dev-00002"}, "nor is it remembered"


def test_forget_without_permission_says_so(env):
    env.broker()
    states.retain(env, states.fleet(3))
    result = env.cli("forget", "dev-00001", "--yes")
    assert result.returncode == 77 and "GTD-E21" in result.stderr and "mosquitto-example.acl" in result.stderr
    assert set(rows(env.cli("devices", "--json"))) == {"dev-00000", "dev-00001", "dev-00002"}


@pytest.mark.parametrize("acknowledges", [True, False])
def test_forget_at_a_broker_that_ignores_it(env, acknowledges):
    """MQTT 3.1.1 has no refusal: the state is read again."""
    fleet = states.fleet(1)
    broker = Broker(env, whole(fleet))
    broker.acknowledges = acknowledges
    result = broker.cli("forget", fleet[0].name, "--yes")
    assert result.returncode == 77 and "still at the broker" in result.stderr, result.stderr
