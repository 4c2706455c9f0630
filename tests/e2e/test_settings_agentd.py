# SPDX-License-Identifier: ISC
"""What each setting of gotthard-agentd does, as its broker, its relay, its targets and its operators see it."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import time

import pytest

import harness
from faultproxy import Proxy
from harness import LIMIT, wait_until
from settings import effect, private_file, refuses
from test_cli import error_id, make_certificate
from test_sessions import hear, tagged

RST_TIMEOUT = 3


def device(world, text="", name="GatewayOli", wait=True, **more):
    """An agent with such a file over its usual variables, and with a service ssh that says <oli!>."""
    more.setdefault("GOTTHARD_AGENT_DATA_PORT", world.target(tagged("<oli!>")).port)
    return world.agent(name, wait=wait, GOTTHARD_CONFIG_DIR=world.config_folder(agentd=text), **more)


@pytest.fixture
def fleet(world):
    """The broker and the relay."""
    world.broker_process = world.broker()
    world.relay()
    return world


@contextlib.contextmanager
def listening(host):
    with socket.create_server((host, 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener, listener.getsockname()[1]


def first_byte(listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(LIMIT)
        return connection.recv(1)


def without_tls(world, extra=""):
    """A broker for anybody, or as @extra says; the variables that lead to it."""
    broker = world.broker(tls=False, extra=extra)
    return broker, {"GOTTHARD_MQTT_ENDPOINT": f"mqtt://127.0.0.1:{world.broker_port}", "GOTTHARD_AWS_CERT_PATH": None}


# --- the relay ------------------------------------------------------------------------------------


@effect("agentd", "server.host", "server.port")
def test_server(fleet):
    with listening("127.0.0.5") as (relay, port):
        device(fleet, f'server = {{ host = "127.0.0.5"; port = {port}; }};')
        fleet.connect(wait=False)
        assert first_byte(relay) == b"\x16"


@effect("agentd", "server.single_port")
@pytest.mark.parametrize("is_single", ["true", "false"])
def test_single_port(fleet, is_single):
    device(fleet, f"server = {{ single_port = {is_single}; }};")
    tunnel = fleet.connect(GOTTHARD_SPARES=0)
    with tunnel.dial() as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
        assert harness.n_connections_at(tunnel.event("relay")["port"]) == (1 if is_single == "true" else 2)


@effect("agentd", "relays")
@effect("cli", "relays", "client.relay")
def test_relays(fleet):
    """Both know a relay called alps; the one called main is not there."""
    relays = f'relays = {{ alps = "127.0.0.1:{fleet.relay_port}"; }};'
    nowhere = harness.free_ports(1)
    device(fleet, relays, GOTTHARD_SERVER_PORT=nowhere)
    folder = fleet.config_folder(cli=relays + 'client = { relay = "alps"; };')
    tunnel = fleet.connect(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_SERVER_PORT=nowhere)
    assert hear(tunnel) == "<oli!>" and tunnel.close_politely() == 0
    folder = fleet.config_folder(cli=relays)
    assert hear(fleet.connect(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_CLIENT_RELAY="alps")) == "<oli!>"
    main = fleet.cli("connect", "GatewayOli", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_SERVER_PORT=nowhere)
    assert (main.returncode, error_id(main)) == (69, "GTD-E50")


# --- keys -----------------------------------------------------------------------------------------


@effect("agentd", "crypt.key", "crypt.iv")
@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}], ids=["key", "iv"])
def test_key(fleet, wrong):
    """A device with another key or salt does not understand the operator, nor he it."""
    device(fleet, **wrong)
    result = fleet.cli("status", "GatewayOli")
    assert (result.returncode, error_id(result)) == (69, "GTD-E32"), result.stderr
    result = fleet.cli("status", "GatewayOli", **wrong)
    assert result.returncode == 0 and "online" in result.stdout


@effect("agentd", "crypt.key_previous")
@effect("cli", "crypt.key_previous")
def test_key_previous(world):
    """The device that knows both hears an operator with the other one; he who knows both reads its presence."""
    world.broker()
    other = secrets.token_hex(32)
    agent = device(world)
    new, both = {"GOTTHARD_CRYPT_KEY": other}, {"GOTTHARD_CRYPT_KEY": other, "GOTTHARD_CRYPT_KEY_PREVIOUS": world.key}
    assert error_id(world.cli("status", "GatewayOli", **new)) == "GTD-E32"
    assert "online" in world.cli("status", "GatewayOli", **both).stdout
    agent.stop()
    device(world, GOTTHARD_CRYPT_KEY_PREVIOUS=other)
    done = world.cli("disconnect", "GatewayOli", **both)
    assert done.returncode == 0, done.stderr


# --- the broker -----------------------------------------------------------------------------------


@effect("agentd", "mqtt.endpoint")
@pytest.mark.parametrize("form, wanted", [("mqtts://127.0.0.5:{}", b"\x16"), ("mqtt://127.0.0.5:{}", b"\x10"), ("127.0.0.5:{}", b"\x16")])
def test_endpoint(world, form, wanted):
    with listening("127.0.0.5") as (broker, port):
        device(world, f'mqtt = {{ endpoint = "{form.format(port)}"; }};', wait=False)
        assert first_byte(broker) == wanted  # TLS, or MQTT's CONNECT


@effect("agentd", "device.name", "mqtt.keepalive")
def test_name_and_keepalive(fleet):
    """Its client id at the broker, its topics, and the certificate's name; 7 seconds are agreed with the broker."""
    device(fleet, 'device = { name = "GatewayEli"; }; mqtt = { keepalive = "7s"; };', name="GatewayEli", MACHINE_ID="GatewayOli")
    fleet.broker_process.wait_for(r"New client connected from \S+ as GatewayEli \(p\d, c\d, k7\b")
    assert hear(fleet.connect("GatewayEli")) == "<oli!>"


@effect("agentd", "mqtt.cert_path")
@refuses("agentd", "mqtt.cert_path")
def test_cert_path(fleet):
    """Of another authority: the broker does not take the certificate, and we do not take the broker."""
    stranger, half = fleet.folder / "stranger", fleet.folder / "half"
    for folder in (stranger, half):
        folder.mkdir()
        make_certificate(folder, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    shutil.copy(fleet.certificates("GatewayOli") / "ca.crt", stranger / "ca.crt")
    agent = device(fleet, f'mqtt = {{ cert_path = "{stranger}"; }};', wait=False)
    agent.wait_for("broker not reachable.*TLS: .* alert ")
    agent.kill()
    shutil.copytree(fleet.certificates("GatewayOli"), fleet.folder / "foreign")
    shutil.copy(half / "cert.pem", fleet.folder / "foreign" / "ca.crt")
    agent = device(fleet, f'mqtt = {{ cert_path = "{fleet.folder}/foreign"; }};', wait=False)
    agent.wait_for("broker not reachable.*TLS: .*certificate")
    agent.kill()
    assert "as GatewayOli" not in fleet.broker_process.log()
    (half / "ca.crt").write_bytes((half / "cert.pem").read_bytes())
    (half / "cert.pem").unlink()
    assert device(fleet, f'mqtt = {{ cert_path = "{half}"; }};', wait=False).wait() == 78


def with_password(world):
    """A broker that knows oli by his password."""
    path = private_file(world.folder / "passwords", "")
    subprocess.run(["mosquitto_passwd", "-b", path, "oli", "open sesame"], check=True, capture_output=True)
    return without_tls(world, f"allow_anonymous false\npassword_file {path}\n")


@effect("agentd", "mqtt.username", "mqtt.password")
@refuses("agentd", "mqtt.username", "mqtt.password")
def test_password(world):
    broker, plain = with_password(world)
    for name, password in (("oli", "open barley"), ("eli", "open sesame")):
        agent = device(world, f'mqtt = {{ username = "{name}"; password = "{password}"; }};', wait=False, **plain)
        agent.wait_for("(?i)refuse|not authori[sz]ed")
        agent.kill()
    assert "as GatewayOli" not in broker.log()
    device(world, 'mqtt = { username = "oli"; password = "open sesame"; };', **plain)
    broker.wait_for(r"as GatewayOli .*u'oli'")


@effect("agentd", "mqtt.prefix")
@effect("cli", "mqtt.prefix")
def test_prefix(world):
    _, plain = without_tls(world)
    device(world, 'mqtt = { prefix = "fleet/one"; };', **plain)
    assert "online" in world.cli("status", "GatewayOli", GOTTHARD_MQTT_PREFIX="fleet/one", **plain).stdout
    result = world.cli("status", "GatewayOli", **plain)
    assert (result.returncode, error_id(result)) == (69, "GTD-E30"), result.stdout
    assert device(world, 'mqtt = { prefix = "fleet/#"; };', wait=False, **plain).wait() == 78


# --- what operators reach -------------------------------------------------------------------------


@effect("agentd", "agent.data_host", "agent.data_port")
def test_data_host_and_port(fleet):
    with listening("127.0.0.5") as (target, port):
        device(fleet, f'agent = {{ data_host = "127.0.0.5"; data_port = {port}; }};')
        with fleet.connect().dial() as sock:
            sock.sendall(b"y")
            assert first_byte(target) == b"y"


@effect("agentd", "agent.host_keys")
def test_host_keys(fleet):
    """The public line of each key, and nothing that is not one, comes with the device's answer."""
    lines = []
    for kind in ("ed25519", "ecdsa"):
        path = fleet.folder / f"host_{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        lines.append(" ".join(path.with_suffix(".pub").read_text().split()[:2]))
    device(fleet, f'agent = {{ host_keys = "{fleet.folder}/host_*.pub {fleet.folder}/host_ed25519"; }};')
    assert sorted(fleet.connect().event("answered")["host_keys"]) == sorted(lines)
    next(p for p in fleet.processes if "agentd" in p.name).stop()
    device(fleet, 'agent = { host_keys = "/nonexistent/*.pub"; };')
    assert fleet.connect().event("answered")["host_keys"] == []


# --- whom to believe ------------------------------------------------------------------------------


@effect("agentd", "trust.policy", "trust.pins")
@refuses("agentd", "trust.policy", "trust.pins")
def test_trust(fleet):
    """auto is pin where the file is, wherever that is; psk looks at no file; an empty file denies all."""
    bob = fleet.cli("fingerprint", name="bob").stdout
    folder = fleet.config_folder(agentd="")

    def fares(name, text):
        (folder / "agentd.conf").write_text(text)
        agent = fleet.agent(GOTTHARD_CONFIG_DIR=folder)
        result = fleet.cli("disconnect", "GatewayOli", name=name)
        agent.stop()
        return error_id(result) if result.returncode else "well"

    pins = folder / "operators.pins"
    assert fares("alice", "") == "well"
    pins.write_text(bob)
    assert (fares("alice", ""), fares("bob", "")) == ("GTD-E40", "well")
    assert fares("alice", 'trust = { policy = "psk"; };') == "well"
    elsewhere = fleet.folder / "elsewhere.pins"
    elsewhere.write_text(fleet.cli("fingerprint", name="alice").stdout)
    assert fares("alice", f'trust = {{ pins = "{elsewhere}"; }};') == "well"
    assert fares("bob", f'trust = {{ pins = "{elsewhere}"; }};') == "GTD-E40"
    pins.write_text("")
    assert fares("bob", "") == "GTD-E40"
    for text, name in (('trust = { policy = "tofu"; };', "agentd.conf:1"), ('trust = { policy = ""; };', "agentd.conf:1"),
                       ('trust = { policy = "pin"; pins = "/nonexistent"; };', "trust.pins")):
        agent = device(fleet, text, wait=False)
        assert agent.wait() == 78 and name in agent.log()
    pins.write_text(bob + "alice 1234\n")
    agent = fleet.agent(wait=False, GOTTHARD_CONFIG_DIR=folder, env=None)
    (folder / "agentd.conf").write_text("")
    assert agent.wait() == 78 and "operators.pins:2" in agent.log()


# --- limits ---------------------------------------------------------------------------------------


@effect("agentd", "limits.sessions")
def test_sessions(fleet):
    device(fleet, "limits = { sessions = 1; };")
    fleet.connect(name="alice")
    result = fleet.cli("connect", "GatewayOli", name="bob")
    assert (result.returncode, error_id(result)) == (75, "GTD-E42"), result.stderr


@effect("agentd", "limits.per_operator")
def test_per_operator(fleet):
    device(fleet, "limits = { per_operator = 1; };")
    fleet.connect(name="alice")
    result = fleet.cli("connect", "GatewayOli", name="alice")
    assert (result.returncode, error_id(result)) == (75, "GTD-E42"), result.stderr
    assert hear(fleet.connect(name="bob")) == "<oli!>"


@effect("agentd", "limits.streams")
def test_streams(fleet):
    """The second connection waits until the first one is over."""
    device(fleet, "limits = { streams = 1; };")
    tunnel = fleet.connect()
    first = tunnel.dial()
    assert harness.receive_exactly(first, 6) == b"<oli!>"
    tunnel.event("streams-full", streams=1)
    with tunnel.dial() as second:
        second.settimeout(0.5)
        with pytest.raises(socket.timeout):
            second.recv(1)
        first.close()
        second.settimeout(LIMIT)
        assert harness.receive_exactly(second, 6) == b"<oli!>"


@effect("agentd", "limits.lifetime")
def test_lifetime(fleet):
    device(fleet, 'limits = { lifetime = "2s"; };')
    tunnel = fleet.connect()
    begun = time.monotonic()
    assert tunnel.wait() == 69 and "lifetime" in tunnel.event("error")["message"]
    assert time.monotonic() - begun < 20


@effect("agentd", "limits.dial_timeout")
def test_dial_timeout(fleet):
    """A target whose queue is full says nothing at all."""
    with socket.socket() as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(stuck.getsockname())
        device(fleet, 'limits = { dial_timeout = "300ms"; };', GOTTHARD_AGENT_DATA_PORT=stuck.getsockname()[1])
        tunnel = fleet.connect()
        begun = time.monotonic()
        with tunnel.dial():
            assert tunnel.event("stream-ended")["code"] == RST_TIMEOUT
        assert time.monotonic() - begun < 7
        for sock in waiting:
            sock.close()


@effect("agentd", "limits.peer_timeout")
def test_peer_timeout(fleet):
    """An operator who is granted a session and never comes to the relay."""
    agent = device(fleet, 'limits = { peer_timeout = "1s"; };')
    assert fleet.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_SERVER_PORT=harness.free_ports(1)).returncode == 69
    begun = time.monotonic()
    agent.wait_for("ended: cause=peer")
    wait_until(lambda: not harness.children_of(agent.pid), "the worker is gone")
    assert time.monotonic() - begun < 15


@effect("agentd", "resume_window")
def test_resume_window(fleet):
    agent = device(fleet, 'resume_window = "1s";')
    fleet.connect().kill()
    begun = time.monotonic()
    agent.wait_for("ended: cause=peer")
    wait_until(lambda: not harness.children_of(agent.pid), "the worker is gone")
    assert time.monotonic() - begun < 15


@effect("agentd", "stream.buffer")
@effect("cli", "stream.buffer")
def test_buffer(world):
    """What may be on its way: on a long one it says how quick a connection is, whoever's is the smaller."""
    n, trip = 2 << 20, 0.08
    world.broker()
    world.relay("--bind", "127.0.0.1")
    target = world.target(lambda sock: harness.send_pattern(sock, "long", n))
    took = {}
    with contextlib.closing(Proxy.before_relay(world)) as network:
        network.order("delay", 1000 * trip / 2)
        for ours, theirs in (("64KiB", "16MiB"), ("16MiB", "64KiB"), ("16MiB", "16MiB")):
            agent = device(world, f'stream = {{ buffer = "{theirs}"; }};', GOTTHARD_AGENT_DATA_PORT=target.port)
            tunnel = world.connect(GOTTHARD_STREAM_BUFFER=ours, GOTTHARD_SERVER_HOST=network.host)
            with tunnel.dial() as sock:
                begun = time.monotonic()
                harness.receive_pattern(sock, "long", n)
                took[ours, theirs] = time.monotonic() - begun
            tunnel.close_politely()
            agent.stop()
    *small, large = took.values()
    assert min(small) > trip * (n / (64 << 10) - 4), took
    assert large < min(small) / 2, took


@effect("agentd", "log.level")
def test_log_level(world):
    """Of the listener and of its workers."""
    world.broker()
    world.relay()
    logs = {}
    for level in ("error", "info", "debug"):
        agent = world.agent(wait=False, GOTTHARD_CONFIG_DIR=world.config_folder(agentd=f'log = {{ level = "{level}"; }};'),
                            GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
        wait_until(lambda: "online" in world.cli("status", "GatewayOli").stdout, "it is there")
        tunnel = world.connect()
        assert hear(tunnel) == "<oli!>"
        tunnel.close_politely()
        wait_until(lambda agent=agent: not harness.children_of(agent.pid), "the worker ended")
        agent.stop()
        wait_until(lambda: "offline" in world.cli("status", "GatewayOli").stdout, "it is not there")
        logs[level] = agent.log()
    assert logs["error"] == ""
    assert " info " in logs["info"] and " dialled" in logs["info"] and " debug " not in logs["info"]
    assert "serving -> leaving" in logs["debug"] and "running -> over" in logs["debug"]
