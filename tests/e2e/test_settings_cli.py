# SPDX-License-Identifier: ISC
"""The effect of each setting and option of gotthard-cli. Settings of both ends are tested in test_settings_agentd.py."""

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
from setting_markers import effect, refuses
from test_cli import error_id, run_on_terminal
from test_sessions import read_tag, tagged
from test_settings_agentd import first_byte, listening, with_password

CLI = PROGRAMS["cli"]


@pytest.fixture
def fleet(env):
    """The broker, the relay, and a device whose service ssh sends <oli!>."""
    env.broker_process = env.broker()
    env.relay()
    env.agent_process = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    return env


def configured(env, text):
    """Returns variables that select a configuration file with this text."""
    return {"GOTTHARD_CONFIG_DIR": env.config_folder(cli=text)}


def holding(env, *args, **more):
    """Starts a `connect` with text output."""
    return harness.Process(env, env.unique("cli"), [CLI, "connect", *args], env=env.cli_environment(**more))


# --- the relay ------------------------------------------------------------------------------------


@effect("cli", "server.host", "server.port")
def test_server(fleet):
    with listening("127.0.0.5") as (relay, port):
        fleet.connect(wait=False, **configured(fleet, f'server = {{ host = "127.0.0.5"; port = {port}; }};'))
        assert first_byte(relay) == b"\x16"


@effect("cli", "server.single_port")
@pytest.mark.parametrize("is_single", ["true", "false"])
def test_single_port(fleet, is_single):
    tunnel = fleet.connect(**configured(fleet, f"server = {{ single_port = {is_single}; }};"))
    with tunnel.dial() as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
        port = int(fleet.agent_process.wait_for(r" up relay=\S+ port=(\d+)")[1])
        assert harness.n_connections_at(port) == (1 if is_single == "true" else 2)


# --- this operator --------------------------------------------------------------------------------


@effect("cli", "client.name")
def test_name(fleet):
    """The name appears in the device's log and in the line for its pins."""
    text = configured(fleet, 'client = { name = "bob"; };')
    fleet.connect(GOTTHARD_AWS_CERT_PATH=fleet.certificates("bob"), **text)
    fleet.agent_process.wait_for(r" agreed service=", count=1)
    assert "operator=bob" in fleet.agent_process.log() and "operator=alice" not in fleet.agent_process.log()
    assert fleet.cli("fingerprint", **text).stdout.startswith("bob ")
    result = fleet.cli("connect", "bob", **text)  # a device of that name would not answer it
    assert (result.returncode, error_id(result)) == (78, "GTD-E10") and "client.name" in result.stderr


@effect("cli", "client.port")
def test_port(fleet):
    port = harness.free_ports(1)
    tunnel = holding(fleet, "GatewayOli", **configured(fleet, f"client = {{ port = {port}; }};"))
    wait_until(lambda: harness.can_connect(port), "the command listens at the port")
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
    busy = fleet.cli("connect", "GatewayOli", GOTTHARD_CLIENT_PORT=port)
    assert (busy.returncode, error_id(busy)) == (75, "GTD-E60")
    assert tunnel.stop() == 0


@effect("cli", "timeouts.lifetime")
def test_lifetime(fleet):
    tunnel = fleet.connect(**configured(fleet, 'timeouts = { lifetime = "2s"; };'))
    started = time.monotonic()
    assert tunnel.wait() == 69 and "lifetime" in tunnel.event("error")["message"]
    assert time.monotonic() - started < 20
    assert "lifetime=2s" in fleet.agent_process.log()


@effect("cli", "timeouts.answer")
def test_answer_timeout(fleet):
    """A device that is online by its retained state does not answer in time. A device that answers is unaffected."""
    short_timeout = configured(fleet, 'timeouts = { answer = "2s"; };')
    assert read_tag(fleet.connect(**short_timeout)) == "<oli!>"
    with stopped(fleet.agent_process):
        started = time.monotonic()
        result = fleet.cli("connect", "GatewayOli", **short_timeout)
        assert (result.returncode, error_id(result)) == (69, "GTD-E32") and "within 2 s" in result.stderr
        assert 2 <= time.monotonic() - started < 15


@contextlib.contextmanager
def stopped(process):
    os.kill(process.pid, signal.SIGSTOP)
    yield
    os.kill(process.pid, signal.SIGCONT)


@effect("cli", "client.shared_idle")
@pytest.mark.parametrize("idle, n", [("0", 2), ("300ms", 0)])
def test_shared_idle(fleet, idle, n):
    """Without streams for that long, the shared data connection is closed: two sockets of the relay."""
    tunnel = fleet.connect(**configured(fleet, f'client = {{ shared_idle = "{idle}"; }};'))
    assert read_tag(tunnel) == "<oli!>"
    tunnel.event("stream-ended")
    time.sleep(0.6)  # longer than 300 ms
    port = int(fleet.agent_process.wait_for(r" up relay=\S+ port=(\d+)")[1])
    wait_until(lambda: harness.n_connections_at(port) == n, f"{n} sockets of the shared connection")
    assert read_tag(tunnel) == "<oli!>"


def test_removed_setting_is_a_warning(fleet):
    """A file for an earlier version works, with one sentence about the setting that went."""
    result = fleet.cli("devices", **configured(fleet, 'client = {\n    name = "alice";\n    spares = 4;\n};'))
    assert result.returncode == 0 and "GatewayOli" in result.stdout, result.stderr
    (warning,) = (line for line in result.stderr.splitlines() if "spares" in line)
    assert "/cli.conf:3: client.spares has no effect any more" in warning and warning.endswith("remove it"), warning


# --- keys -----------------------------------------------------------------------------------------


@effect("cli", "crypt.key", "crypt.iv")
@pytest.mark.parametrize("wrong", ["key", "iv"])
def test_key(fleet, wrong):
    """The operator derives keys from it, and seals and opens messages with it."""
    right = {"key": fleet.key, "iv": fleet.iv}
    for values, code in ((right, 0), ({**right, wrong: secrets.token_hex(len(right[wrong]) // 2)}, 69)):
        text = configured(fleet, 'crypt = {{ key = "{key}"; iv = "{iv}"; }};'.format(**values))
        result = fleet.cli("status", "GatewayOli", **text)
        assert result.returncode == code, result.stderr
        assert code == 0 or error_id(result) == "GTD-E32"


# --- the broker -----------------------------------------------------------------------------------


@effect("cli", "mqtt.endpoint")
@pytest.mark.parametrize("form, wanted", [("mqtts://127.0.0.5:{}", b"\x16"), ("mqtt://127.0.0.5:{}", b"\x10"), ("127.0.0.5:{}", b"\x16")])
def test_endpoint(env, form, wanted):
    with listening("127.0.0.5") as (broker, port):
        env.connect(wait=False, **configured(env, f'mqtt = {{ endpoint = "{form.format(port)}"; }};'))
        assert first_byte(broker) == wanted


@effect("cli", "mqtt.cert_path")
@refuses("cli", "mqtt.cert_path")
def test_cert_path(env):
    """The broker authenticates the command by its certificate, and the command the broker by the authority. GTD-E34: the broker
    accepts the command, and has no states."""
    broker = env.broker()
    for folder, code, wanted in ((env.certificates("alice"), 69, "GTD-E34"), (env.folder / "none", 78, "GTD-E10")):
        result = env.cli("devices", **configured(env, f'mqtt = {{ cert_path = "{folder}"; }};'))
        assert (result.returncode, error_id(result)) == (code, wanted), result.stderr
    broker.wait_for("u'alice'")
    for missing in ("private.key", "cert.pem", "ca.crt"):
        half = env.certificates(f"half-{missing}")
        (half / missing).unlink()
        result = env.cli("connect", "GatewayOli", GOTTHARD_AWS_CERT_PATH=half)
        assert (result.returncode, error_id(result)) == (78, "GTD-E10") and missing in result.stderr, result.stderr
    unknown = env.certificates("unknown")
    harness._openssl("req", "-x509", "-key", unknown / "private.key", "-days", "2", "-subj", "/CN=alice", "-out",
                     unknown / "self.pem")
    # the broker rejects the command; the command rejects the broker
    for name, id_ in (("cert.pem", "GTD-E21"), ("ca.crt", "GTD-E22")):
        before = (unknown / name).read_bytes()
        (unknown / name).write_bytes((unknown / "self.pem").read_bytes())
        result = env.cli("devices", GOTTHARD_AWS_CERT_PATH=unknown)
        assert (result.returncode, error_id(result)) == (77, id_), result.stderr
        (unknown / name).write_bytes(before)


@effect("cli", "mqtt.username", "mqtt.password", "mqtt.keepalive")
@refuses("cli", "mqtt.username", "mqtt.password")
def test_password(env):
    broker, plain = with_password(env)
    for name, password, code, wanted in (("oli", "open sesame", 69, "GTD-E34"), ("oli", "open barley", 77, "GTD-E21"),
                                       ("eli", "open sesame", 77, "GTD-E21")):
        text = f'mqtt = {{ username = "{name}"; password = "{password}"; keepalive = "7s"; }};'
        result = env.cli("devices", **plain, **configured(env, text))
        assert (result.returncode, error_id(result)) == (code, wanted), result.stderr
    broker.wait_for(r"as gtc-\w+ \(p\d, c\d, k7, u'oli'\)")


# --- trust ----------------------------------------------------------------------------------------


@effect("cli", "trust.policy", "trust.pins")
@refuses("cli", "trust.policy", "trust.pins")
def test_trust(fleet):
    """auto means pin if the file exists, at any path. psk reads no file. An empty file denies all devices."""
    good, bad = (f"GatewayOli {fleet.cli('fingerprint', name=name).stdout.split()[1]} role=device\n"
                 for name in ("GatewayOli", "alice"))
    folder, elsewhere = fleet.config_folder(cli=""), fleet.folder / "elsewhere.pins"
    fleet.agent_process.stop()  # untrusted workers still wait at the relay
    fleet.agent(GOTTHARD_LIMITS_SESSIONS=100, GOTTHARD_LIMITS_SESSIONS_PER_OPERATOR=100)

    def outcome(text=""):
        (folder / "cli.conf").write_text(text)
        tunnel = fleet.connect(wait=False, GOTTHARD_CONFIG_DIR=folder, GOTTHARD_TIMEOUTS_ANSWER="2s")
        wait_until(lambda: not tunnel.is_running() or any(e["event"] == "up" for e in tunnel.events()),
                   "the tunnel is up or the command exited")
        tunnel.send(signal.SIGINT)
        return "well" if tunnel.wait() == 0 else tunnel.event("error")["id"]

    pins = folder / "devices.pins"
    assert outcome() == "well"
    for text, expected in ((good, "well"), (bad, "GTD-E33"), ("", "GTD-E33"), (good + "nonsense\n", "GTD-E10")):
        pins.write_text(text)
        assert outcome() == expected
    pins.write_text(bad)
    assert outcome('trust = { policy = "psk"; };') == "well"
    assert outcome('trust = { policy = "pin"; };') == "GTD-E33"
    elsewhere.write_text(good)
    assert outcome(f'trust = {{ pins = "{elsewhere}"; }};') == "well"
    elsewhere.unlink()
    assert outcome(f'trust = {{ policy = "pin"; pins = "{elsewhere}"; }};') == "GTD-E10"
    pins.write_text("nonsense\n")  # an explicit path is not moved, even if it equals the default
    result = fleet.cli("connect", "dev-gone", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_TRUST_PINS="/etc/gotthard/devices.pins")
    assert str(pins) not in result.stderr
    pins.unlink()
    for text in ('trust = { policy = "tofu"; };', 'trust = { policy = ""; };', 'trust = { policy = "PSK"; };'):
        (folder / "cli.conf").write_text(text)
        result = fleet.cli("connect", "GatewayOli", GOTTHARD_CONFIG_DIR=folder)
        assert (result.returncode, error_id(result)) == (78, "GTD-E10") and "cli.conf:1" in result.stderr


# --- limits, log ----------------------------------------------------------------------------------


@effect("cli", "timeouts.peer")
def test_peer_timeout(fleet):
    """A device that grants a session and does not connect to the relay."""
    fleet.agent("dev-lost", GOTTHARD_SERVER_PORT=harness.free_ports(1))
    started = time.monotonic()
    result = fleet.cli("connect", "dev-lost", "0:ssh", **configured(fleet, 'timeouts = { peer = "1s"; };'))
    assert (result.returncode, error_id(result)) == (69, "GTD-E54"), result.stderr
    assert time.monotonic() - started < 15


@effect("cli", "timeouts.resume_window")
def test_resume_window(fleet):
    tunnel = fleet.connect(**configured(fleet, 'timeouts = { resume_window = "1s"; };'))
    started = time.monotonic()
    worker, = harness.children_of(fleet.agent_process.pid)
    fleet.agent_process.send(signal.SIGSTOP)  # it would report the killed worker at once
    os.kill(worker, signal.SIGKILL)
    assert tunnel.wait() == 69 and tunnel.event("error")["id"] == "GTD-E71"
    assert time.monotonic() - started < 15


@effect("cli", "log.level")
def test_log_level(fleet):
    logs = {}
    for level in ("error", "info", "debug"):
        tunnel = holding(fleet, "--print-port", "GatewayOli", **configured(fleet, f'log = {{ level = "{level}"; }};'))
        wait_until(lambda tunnel=tunnel: tunnel.out().endswith("\n"), "the tunnel is up")
        assert tunnel.stop() == 0
        logs[level] = tunnel.log()
    assert logs["error"] == ""
    assert "tunnel to GatewayOli is up" in logs["info"] and " debug " not in logs["info"]
    assert "joining -> up" in logs["debug"]


# --- options without a setting --------------------------------------------------------------------


@effect("cli", "--json")
def test_json(fleet):
    """Each line of standard output is a JSON object, for each command with output, including errors."""
    tunnel = fleet.connect()
    tunnel.disconnect()
    names = [event["event"] for event in tunnel.events()]
    assert len(names) == len(tunnel.out().splitlines())
    assert names == ["requesting", "listening", "broker", "answered", "relay", "up", "closing", "totals", "closed"]
    assert tunnel.log() == ""
    for command in (["status", "GatewayOli"], ["devices"]):
        plain, json_output = fleet.cli(*command).stdout, fleet.cli(*command, "--json").stdout
        assert json.loads(json_output)["device"] == "GatewayOli" and not plain.startswith("{")
    assert json.loads(fleet.cli("disconnect", "GatewayOli", "--json").stdout)["sessions"] == 0
    error = fleet.cli("connect", "missing", "--json")
    assert json.loads(error.stdout.splitlines()[-1])["id"] == "GTD-E30"


@effect("cli", "--print-port")
def test_print_port(fleet):
    """Standard output has only a line for each local port, not before the tunnel is up."""
    tunnel = holding(fleet, "--print-port", "GatewayOli", "0:ssh", "0:22")
    wait_until(lambda: len(tunnel.out().split("\n")) == 3, "two ports")
    for port in map(int, tunnel.out().split()):
        assert harness.can_connect(port)
    silent = holding(fleet, "GatewayOli")
    silent.wait_for("is up")
    assert silent.out() == ""


@effect("cli", "--bind")
def test_bind(fleet):
    """The command listens at this address only; by default at loopback of both families."""
    tunnel = fleet.connect(options=("--bind", "127.0.0.5"))
    port = tunnel.port()
    assert harness.can_connect(port, "127.0.0.5") and not harness.can_connect(port)
    assert tunnel.event("listening")["address"] == "127.0.0.5"
    port = fleet.connect().port()
    assert harness.can_connect(port) and not harness.can_connect(port, "127.0.0.5")


@effect("cli", "--quiet")
def test_idle(fleet):
    for option in ("-q", "--quiet"):
        tunnel = holding(fleet, option, "--print-port", "GatewayOli")
        wait_until(lambda tunnel=tunnel: tunnel.out().endswith("\n"), "the tunnel is up")
        assert tunnel.stop() == 0 and tunnel.log() == ""
        result = fleet.cli("connect", option, "missing")
        assert result.returncode == 69 and len(result.stderr.splitlines()) == 1


@effect("cli", "--no-color", "NO_COLOR", "TERM")
@pytest.mark.parametrize("variables, args, has_color", [
    ({}, [], True), ({}, ["--no-color"], False), ({"NO_COLOR": "1"}, [], False), ({"NO_COLOR": ""}, [], True),
    ({"TERM": "dumb"}, [], False), ({"TERM": ""}, [], False),
])
def test_color(variables, args, has_color):
    _, text = run_on_terminal("connect", *args, "dev", GOTTHARD_CRYPT_KEY="short", **variables)
    assert "GTD-E11" in text and ("\x1b" in text) == has_color, text
