# SPDX-License-Identifier: ISC
"""What each setting and option of gotthard-cli does. Those that both ends have are in test_settings_agentd.py."""

import contextlib
import json
import os
import secrets
import signal
import socket
import time

import pytest

import harness
from harness import LIMIT, PROGRAMS, wait_until
from settings import effect, refuses
from test_cli import error_id, run_on_terminal
from test_sessions import hear, tagged
from test_settings_agentd import first_byte, listening, with_password

CLI = PROGRAMS["cli"]


@pytest.fixture
def fleet(world):
    """The broker, the relay, and a device whose service ssh says <oli!>."""
    world.broker_process = world.broker()
    world.relay()
    world.agent_process = world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    return world


def configured(world, text):
    """Such a file, over the usual variables."""
    return {"GOTTHARD_CONFIG_DIR": world.config_folder(cli=text)}


def holding(world, *args, **more):
    """A `connect` in words, not in JSON."""
    return harness.Process(world, world.unique("cli"), [CLI, "connect", *args], env=world.cli_environment(**more))


# --- the relay ------------------------------------------------------------------------------------


@effect("cli", "server.host", "server.port")
def test_server(fleet):
    with listening("127.0.0.5") as (relay, port):
        fleet.connect(wait=False, **configured(fleet, f'server = {{ host = "127.0.0.5"; port = {port}; }};'))
        assert first_byte(relay) == b"\x16"


@effect("cli", "server.single_port")
@pytest.mark.parametrize("is_single", ["true", "false"])
def test_single_port(fleet, is_single):
    tunnel = fleet.connect(**configured(fleet, f"server = {{ single_port = {is_single}; }};"), GOTTHARD_SPARES=0)
    with tunnel.dial() as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
        port = int(fleet.agent_process.wait_for(r"up: relay=\S+ port=(\d+)")[1])
        assert harness.n_connections_at(port) == (1 if is_single == "true" else 2)


# --- this operator --------------------------------------------------------------------------------


@effect("cli", "client.name")
def test_name(fleet):
    """What the device is told, and what stands in the line for its pins."""
    text = configured(fleet, 'client = { name = "bob"; };')
    fleet.connect(GOTTHARD_AWS_CERT_PATH=fleet.certificates("bob"), **text)
    fleet.agent_process.wait_for(r"agreed: ", count=1)
    assert "operator=bob" in fleet.agent_process.log() and "operator=alice" not in fleet.agent_process.log()
    assert fleet.cli("fingerprint", **text).stdout.startswith("bob ")
    result = fleet.cli("connect", "bob", **text)  # what the device of that name would not answer
    assert (result.returncode, error_id(result)) == (78, "GTD-E10") and "client.name" in result.stderr


@effect("cli", "client.port")
def test_port(fleet):
    port = harness.free_ports(1)
    tunnel = holding(fleet, "GatewayOli", **configured(fleet, f"client = {{ port = {port}; }};"))
    wait_until(lambda: harness.can_connect(port), "it listens there")
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
    busy = fleet.cli("connect", "GatewayOli", GOTTHARD_CLIENT_PORT=port)
    assert (busy.returncode, error_id(busy)) == (75, "GTD-E60")
    assert tunnel.stop() == 0


@effect("cli", "client.lifetime")
def test_lifetime(fleet):
    tunnel = fleet.connect(**configured(fleet, 'client = { lifetime = "2s"; };'))
    begun = time.monotonic()
    assert tunnel.wait() == 69 and "lifetime" in tunnel.event("error")["message"]
    assert time.monotonic() - begun < 20
    assert "lifetime=2s" in fleet.agent_process.log()


@effect("cli", "client.answer_timeout")
def test_answer_timeout(fleet):
    """Online by its last word, but it does not answer; and a device that does is not hurried by it."""
    patience = configured(fleet, 'client = { answer_timeout = "2s"; };')
    assert hear(fleet.connect(**patience)) == "<oli!>"
    with stopped(fleet.agent_process):
        begun = time.monotonic()
        result = fleet.cli("connect", "GatewayOli", **patience)
        assert (result.returncode, error_id(result)) == (69, "GTD-E32") and "within 2 s" in result.stderr
        assert 2 <= time.monotonic() - begun < 15


@contextlib.contextmanager
def stopped(process):
    os.kill(process.pid, signal.SIGSTOP)
    yield
    os.kill(process.pid, signal.SIGCONT)


@effect("cli", "client.spares")
@pytest.mark.parametrize("n", [0, 1, 3])
def test_spares(fleet, n):
    """Streams that are there before anybody needs them: two connections at the relay's port for each."""
    fleet.connect(**configured(fleet, f"client = {{ spares = {n}; }};"))
    port = int(fleet.agent_process.wait_for(r"up: relay=\S+ port=(\d+)")[1])
    wait_until(lambda: harness.n_connections_at(port) == 2 * n, f"{n} spares are joined")


# --- keys -----------------------------------------------------------------------------------------


@effect("cli", "crypt.key", "crypt.iv")
@pytest.mark.parametrize("wrong", ["key", "iv"])
def test_key(fleet, wrong):
    """What the operator derives, seals and opens with it."""
    right = {"key": fleet.key, "iv": fleet.iv}
    for values, code in ((right, 0), ({**right, wrong: secrets.token_hex(len(right[wrong]) // 2)}, 69)):
        text = configured(fleet, 'crypt = {{ key = "{key}"; iv = "{iv}"; }};'.format(**values))
        result = fleet.cli("status", "GatewayOli", **text)
        assert result.returncode == code, result.stderr
        assert code == 0 or error_id(result) == "GTD-E32"


# --- the broker -----------------------------------------------------------------------------------


@effect("cli", "mqtt.endpoint")
@pytest.mark.parametrize("form, wanted", [("mqtts://127.0.0.5:{}", b"\x16"), ("mqtt://127.0.0.5:{}", b"\x10"), ("127.0.0.5:{}", b"\x16")])
def test_endpoint(world, form, wanted):
    with listening("127.0.0.5") as (broker, port):
        world.connect(wait=False, **configured(world, f'mqtt = {{ endpoint = "{form.format(port)}"; }};'))
        assert first_byte(broker) == wanted


@effect("cli", "mqtt.cert_path")
@refuses("cli", "mqtt.cert_path")
def test_cert_path(world):
    """The broker knows us by it, and we know the broker by the authority in it."""
    broker = world.broker()
    for folder, code, told in ((world.certificates("alice"), 0, None), (world.folder / "none", 78, "GTD-E10")):
        result = world.cli("devices", **configured(world, f'mqtt = {{ cert_path = "{folder}"; }};'))
        assert (result.returncode, error_id(result)) == (code, told), result.stderr
    broker.wait_for("u'alice'")
    for missing in ("private.key", "cert.pem", "ca.crt"):
        half = world.certificates(f"half-{missing}")
        (half / missing).unlink()
        result = world.cli("connect", "GatewayOli", GOTTHARD_AWS_CERT_PATH=half)
        assert (result.returncode, error_id(result)) == (78, "GTD-E10") and missing in result.stderr, result.stderr
    stranger = world.certificates("stranger")
    harness._openssl("req", "-x509", "-key", stranger / "private.key", "-days", "2", "-subj", "/CN=alice", "-out",
                     stranger / "self.pem")
    for name in ("cert.pem", "ca.crt"):  # the broker refuses us; we refuse the broker
        before = (stranger / name).read_bytes()
        (stranger / name).write_bytes((stranger / "self.pem").read_bytes())
        result = world.cli("devices", GOTTHARD_AWS_CERT_PATH=stranger)
        assert (result.returncode, error_id(result)) == (77, "GTD-E21"), result.stderr
        (stranger / name).write_bytes(before)


@effect("cli", "mqtt.username", "mqtt.password", "mqtt.keepalive")
@refuses("cli", "mqtt.username", "mqtt.password")
def test_password(world):
    broker, plain = with_password(world)
    for name, password, code, told in (("oli", "open sesame", 0, None), ("oli", "open barley", 77, "GTD-E21"),
                                       ("eli", "open sesame", 77, "GTD-E21")):
        text = f'mqtt = {{ username = "{name}"; password = "{password}"; keepalive = "7s"; }};'
        result = world.cli("devices", **plain, **configured(world, text))
        assert (result.returncode, error_id(result)) == (code, told), result.stderr
    broker.wait_for(r"as gtc-\w+ \(p\d, c\d, k7, u'oli'\)")


# --- whom to believe ------------------------------------------------------------------------------


@effect("cli", "trust.policy", "trust.pins")
@refuses("cli", "trust.policy", "trust.pins")
def test_trust(fleet):
    """auto is pin where the file is, wherever that is; psk looks at no file; an empty file believes nobody."""
    good, bad = (f"GatewayOli {fleet.cli('fingerprint', name=name).stdout.split()[1]} role=device\n"
                 for name in ("GatewayOli", "alice"))
    folder, elsewhere = fleet.config_folder(cli=""), fleet.folder / "elsewhere.pins"
    fleet.agent_process.stop()  # those that he does not believe wait for him at the relay
    fleet.agent(GOTTHARD_LIMIT_SESSIONS=100, GOTTHARD_LIMIT_PER_OPERATOR=100)

    def fares(text=""):
        (folder / "cli.conf").write_text(text)
        tunnel = fleet.connect(wait=False, GOTTHARD_CONFIG_DIR=folder)
        wait_until(lambda: not tunnel.is_running() or any(e["event"] == "up" for e in tunnel.events()), "up or over")
        tunnel.send(signal.SIGINT)
        return "well" if tunnel.wait() == 0 else tunnel.event("error")["id"]

    pins = folder / "devices.pins"
    assert fares() == "well"
    for text, outcome in ((good, "well"), (bad, "GTD-E33"), ("", "GTD-E33"), (good + "nonsense\n", "GTD-E10")):
        pins.write_text(text)
        assert fares() == outcome
    pins.write_text(bad)
    assert fares('trust = { policy = "psk"; };') == "well"
    assert fares('trust = { policy = "pin"; };') == "GTD-E33"
    elsewhere.write_text(good)
    assert fares(f'trust = {{ pins = "{elsewhere}"; }};') == "well"
    elsewhere.unlink()
    assert fares(f'trust = {{ policy = "pin"; pins = "{elsewhere}"; }};') == "GTD-E10"
    pins.write_text("nonsense\n")  # what is given is not moved, also when it is the default's own path
    result = fleet.cli("connect", "dev-gone", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_TRUST_PINS="/etc/gotthard/devices.pins")
    assert str(pins) not in result.stderr
    pins.unlink()
    for text in ('trust = { policy = "tofu"; };', 'trust = { policy = ""; };', 'trust = { policy = "PSK"; };'):
        (folder / "cli.conf").write_text(text)
        result = fleet.cli("connect", "GatewayOli", GOTTHARD_CONFIG_DIR=folder)
        assert (result.returncode, error_id(result)) == (78, "GTD-E10") and "cli.conf:1" in result.stderr


# --- limits, log ----------------------------------------------------------------------------------


@effect("cli", "limits.peer_timeout")
def test_peer_timeout(fleet):
    """A device that grants a session and never comes to the relay."""
    fleet.agent("dev-lost", GOTTHARD_SERVER_PORT=harness.free_ports(1))
    begun = time.monotonic()
    result = fleet.cli("connect", "dev-lost", "0:ssh", **configured(fleet, 'limits = { peer_timeout = "1s"; };'))
    assert (result.returncode, error_id(result)) == (69, "GTD-E71"), result.stderr
    assert time.monotonic() - begun < 15


@effect("cli", "resume_window")
def test_resume_window(fleet):
    tunnel = fleet.connect(**configured(fleet, 'resume_window = "1s";'))
    begun = time.monotonic()
    worker, = harness.children_of(fleet.agent_process.pid)
    fleet.agent_process.send(signal.SIGSTOP)  # who would say at once that it was killed
    os.kill(worker, signal.SIGKILL)
    assert tunnel.wait() == 69 and tunnel.event("error")["id"] == "GTD-E71"
    assert time.monotonic() - begun < 15


@effect("cli", "log.level")
def test_log_level(fleet):
    logs = {}
    for level in ("error", "info", "debug"):
        tunnel = holding(fleet, "--print-port", "GatewayOli", **configured(fleet, f'log = {{ level = "{level}"; }};'))
        wait_until(lambda tunnel=tunnel: tunnel.out().endswith("\n"), "it is up")
        assert tunnel.stop() == 0
        logs[level] = tunnel.log()
    assert logs["error"] == ""
    assert "tunnel to GatewayOli is up" in logs["info"] and " debug " not in logs["info"]
    assert "joining -> up" in logs["debug"]


# --- options that are no settings -----------------------------------------------------------------


@effect("cli", "--json")
def test_json(fleet):
    """Each line of standard output is an object, of each command that has something to tell; errors too."""
    tunnel = fleet.connect()
    tunnel.close_politely()
    names = [event["event"] for event in tunnel.events()]
    assert len(names) == len(tunnel.out().splitlines())
    assert names == ["requesting", "listening", "broker", "answered", "relay", "up", "closing", "closed"]
    assert tunnel.log() == ""
    for command in (["status", "GatewayOli"], ["devices"]):
        plain, told = fleet.cli(*command).stdout, fleet.cli(*command, "--json").stdout
        assert json.loads(told)["device"] == "GatewayOli" and not plain.startswith("{")
    assert json.loads(fleet.cli("disconnect", "GatewayOli", "--json").stdout)["sessions"] == 0
    error = fleet.cli("connect", "nobody", "--json")
    assert json.loads(error.stdout.splitlines()[-1])["id"] == "GTD-E30"


@effect("cli", "--print-port")
def test_print_port(fleet):
    """Each local port on a line, nothing else on standard output, and not before it is up."""
    tunnel = holding(fleet, "--print-port", "GatewayOli", "0:ssh", "0:22")
    wait_until(lambda: len(tunnel.out().split("\n")) == 3, "two ports")
    for port in map(int, tunnel.out().split()):
        assert harness.can_connect(port)
    silent = holding(fleet, "GatewayOli")
    silent.wait_for("is up")
    assert silent.out() == ""


@effect("cli", "--bind")
def test_bind(fleet):
    """There, and not on loopback; without it on loopback of both families and nowhere else."""
    tunnel = fleet.connect(options=("--bind", "127.0.0.5"))
    port = tunnel.port()
    assert harness.can_connect(port, "127.0.0.5") and not harness.can_connect(port)
    assert tunnel.event("listening")["address"] == "127.0.0.5"
    port = fleet.connect().port()
    assert harness.can_connect(port) and not harness.can_connect(port, "127.0.0.5")


@effect("cli", "--quiet")
def test_quiet(fleet):
    for option in ("-q", "--quiet"):
        tunnel = holding(fleet, option, "--print-port", "GatewayOli")
        wait_until(lambda tunnel=tunnel: tunnel.out().endswith("\n"), "it is up")
        assert tunnel.stop() == 0 and tunnel.log() == ""
        result = fleet.cli("connect", option, "nobody")
        assert result.returncode == 69 and len(result.stderr.splitlines()) == 1


@effect("cli", "--no-color", "NO_COLOR", "TERM")
@pytest.mark.parametrize("env, args, has_color", [
    ({}, [], True), ({}, ["--no-color"], False), ({"NO_COLOR": "1"}, [], False), ({"NO_COLOR": ""}, [], True),
    ({"TERM": "dumb"}, [], False), ({"TERM": ""}, [], False),
])
def test_color(env, args, has_color):
    _, text = run_on_terminal("connect", *args, "dev", GOTTHARD_CRYPT_KEY="short", **env)
    assert "GTD-E11" in text and ("\x1b" in text) == has_color, text
