# SPDX-License-Identifier: ISC
"""The effect of each setting of gotthard-agentd on its broker, relay, targets and operators."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import threading
import time

import pytest

import harness
import resets
from faultproxy import Proxy
from harness import LIMIT, wait_until
from setting_markers import effect, private_file, refuses
from test_cli import error_id, make_certificate
from test_sessions import read_tag, tagged

RST_TIMEOUT = 3


def device(env, text="", name="GatewayOli", wait=True, **more):
    """Starts an agent with this configuration file over its usual variables, and with a service ssh that sends <oli!>. One that
    is not expected online has no last good configuration, which it would use instead of a wrong one."""
    if not wait:
        more.setdefault("STATE_DIRECTORY", None)
    more.setdefault("GOTTHARD_AGENT_DATA_PORT", env.target(tagged("<oli!>")).port)
    return env.agent(name, wait=wait, GOTTHARD_CONFIG_DIR=env.config_folder(agentd=text), **more)


@pytest.fixture
def fleet(env):
    """The broker and the relay."""
    env.broker_process = env.broker()
    env.relay()
    return env


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


def without_tls(env, extra=""):
    """Starts a broker without access control, or with @extra; returns the variables that select it."""
    broker = env.broker(tls=False, extra=extra)
    return broker, {"GOTTHARD_MQTT_ENDPOINT": f"mqtt://127.0.0.1:{env.broker_port}", "GOTTHARD_AWS_CERT_PATH": None}


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
    tunnel = fleet.connect()
    with tunnel.dial() as sock:
        assert harness.receive_exactly(sock, 6) == b"<oli!>"
        assert harness.n_connections_at(tunnel.event("relay")["port"]) == (1 if is_single == "true" else 2)


@effect("agentd", "relays")
@effect("cli", "relays", "client.relay")
def test_relays(fleet):
    """Both sides know a relay called alps. The relay called main is not running."""
    relays = f'relays = {{ alps = "127.0.0.1:{fleet.relay_port}"; }};'
    nowhere = harness.free_ports(1)
    device(fleet, relays, GOTTHARD_SERVER_PORT=nowhere)
    folder = fleet.config_folder(cli=relays + 'client = { relay = "alps"; };')
    tunnel = fleet.connect(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_SERVER_PORT=nowhere)
    assert read_tag(tunnel) == "<oli!>" and tunnel.disconnect() == 0
    folder = fleet.config_folder(cli=relays)
    assert read_tag(fleet.connect(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_CLIENT_RELAY="alps")) == "<oli!>"
    main = fleet.cli("connect", "GatewayOli", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_SERVER_PORT=nowhere,
                     GOTTHARD_TIMEOUTS_PEER="1s")
    assert (main.returncode, error_id(main)) == (69, "GTD-E50")


# --- keys -----------------------------------------------------------------------------------------


@effect("agentd", "crypt.key", "crypt.iv")
@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}], ids=["key", "iv"])
def test_key(fleet, wrong):
    """A device with another key or salt cannot read the operator's messages, and vice versa."""
    device(fleet, **wrong)
    result = fleet.cli("status", "GatewayOli")
    assert (result.returncode, error_id(result)) == (69, "GTD-E32"), result.stderr
    result = fleet.cli("status", "GatewayOli", **wrong)
    assert result.returncode == 0 and "online" in result.stdout


@effect("agentd", "crypt.key_previous")
@effect("cli", "crypt.key_previous")
def test_key_previous(env):
    """A device with both keys accepts an operator with the other one; an operator with both reads its state."""
    env.broker()
    other = secrets.token_hex(32)
    agent = device(env)
    new, both = {"GOTTHARD_CRYPT_KEY": other}, {"GOTTHARD_CRYPT_KEY": other, "GOTTHARD_CRYPT_KEY_PREVIOUS": env.key}
    assert error_id(env.cli("status", "GatewayOli", **new)) == "GTD-E32"
    assert "online" in env.cli("status", "GatewayOli", **both).stdout
    agent.stop()
    device(env, GOTTHARD_CRYPT_KEY_PREVIOUS=other)
    done = env.cli("disconnect", "GatewayOli", **both)
    assert done.returncode == 0, done.stderr


# --- the broker -----------------------------------------------------------------------------------


@effect("agentd", "mqtt.endpoint")
@pytest.mark.parametrize("form, wanted", [("mqtts://127.0.0.5:{}", b"\x16"), ("mqtt://127.0.0.5:{}", b"\x10"), ("127.0.0.5:{}", b"\x16")])
def test_endpoint(env, form, wanted):
    with listening("127.0.0.5") as (broker, port):
        device(env, f'mqtt = {{ endpoint = "{form.format(port)}"; }};', wait=False)
        assert first_byte(broker) == wanted  # TLS, or MQTT's CONNECT


@effect("agentd", "device.name", "mqtt.keepalive")
def test_name_and_keepalive(fleet):
    """Client id, topics and certificate have the name. The broker confirms the keep-alive of 7 seconds."""
    device(fleet, 'device = { name = "GatewayEli"; }; mqtt = { keepalive = "7s"; };', name="GatewayEli", MACHINE_ID="GatewayOli")
    fleet.broker_process.wait_for(r"New client connected from \S+ as GatewayEli \(p\d, c\d, k7\b")
    assert read_tag(fleet.connect("GatewayEli")) == "<oli!>"


@effect("agentd", "mqtt.cert_path")
@refuses("agentd", "mqtt.cert_path")
def test_cert_path(fleet):
    """With another authority the broker rejects the certificate, and the agent rejects the broker."""
    unknown, half = fleet.folder / "unknown", fleet.folder / "half"
    for folder in (unknown, half):
        folder.mkdir()
        make_certificate(folder, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    shutil.copy(fleet.certificates("GatewayOli") / "ca.crt", unknown / "ca.crt")
    agent = device(fleet, f'mqtt = {{ cert_path = "{unknown}"; }};', wait=False)
    # The broker's reset may overtake its alert, each time on a slow machine.
    agent.wait_for("broker not reachable.*TLS: (the broker rejects the certificate|the connection was)")
    agent.kill()
    shutil.copytree(fleet.certificates("GatewayOli"), fleet.folder / "foreign")
    shutil.copy(half / "cert.pem", fleet.folder / "foreign" / "ca.crt")
    agent = device(fleet, f'mqtt = {{ cert_path = "{fleet.folder}/foreign"; }};', wait=False)
    agent.wait_for("broker not reachable.*TLS: .*certificate")
    agent.kill()
    assert "as GatewayOli" not in fleet.broker_process.log()
    (half / "ca.crt").write_bytes((half / "cert.pem").read_bytes())
    (half / "cert.pem").unlink()
    agent = device(fleet, f'mqtt = {{ cert_path = "{half}"; }};', wait=False)
    agent.wait_for(f"waiting: .*mqtt.cert_path: {half}/cert.pem: No such file")


def with_password(env):
    """A broker that authenticates oli by password."""
    path = private_file(env.folder / "passwords", "")
    subprocess.run(["mosquitto_passwd", "-b", path, "oli", "open sesame"], check=True, capture_output=True)
    return without_tls(env, f"allow_anonymous false\npassword_file {path}\n")


@effect("agentd", "mqtt.username", "mqtt.password")
@refuses("agentd", "mqtt.username", "mqtt.password")
def test_password(env):
    broker, plain = with_password(env)
    for name, password in (("oli", "open barley"), ("eli", "open sesame")):
        agent = device(env, f'mqtt = {{ username = "{name}"; password = "{password}"; }};', wait=False, **plain)
        agent.wait_for("(?i)refuse|not authori[sz]ed")
        agent.kill()
    assert "as GatewayOli" not in broker.log()
    device(env, 'mqtt = { username = "oli"; password = "open sesame"; };', **plain)
    broker.wait_for(r"as GatewayOli .*u'oli'")


@effect("agentd", "mqtt.version")
@effect("cli", "mqtt.version")
def test_version(fleet):
    """mosquitto logs the version of each client."""
    fleet.agent().kill()
    device(fleet, 'mqtt = { version = "3.1.1"; };')
    assert "online" in fleet.cli("status", "GatewayOli", GOTTHARD_MQTT_VERSION="3.1.1").stdout
    for pattern in (r"as GatewayOli \(p5", r"as GatewayOli \(p2", r"as gtc-\w+ \(p2"):  # 5, 3.1.1, 3.1.1
        fleet.broker_process.wait_for(pattern)


@effect("agentd", "mqtt.alpn")
@effect("cli", "mqtt.alpn")
def test_alpn(env):
    """The ClientHello of each program has the protocol, after its length."""
    with listening("127.0.0.5") as (broker, port):
        variables = {"GOTTHARD_MQTT_ENDPOINT": f"127.0.0.5:{port}", "GOTTHARD_MQTT_ALPN": "fleet-mqtt"}
        device(env, wait=False, **variables)
        env.connect(wait=False, **variables)
        for _ in range(2):
            connection, _ = broker.accept()
            with connection:
                connection.settimeout(LIMIT)
                hello = connection.recv(5)
                hello += harness.receive_exactly(connection, int.from_bytes(hello[3:], "big"))
            assert b"\x0afleet-mqtt" in hello


@effect("agentd", "mqtt.reconnect_spread")
def test_reconnect_spread(fleet):
    """A lost broker is tried again at any time within the hour: 1 in 14,000 runs chooses the time of an agent without spread."""
    agent = device(fleet, 'mqtt = { reconnect_spread = "1h"; };', GOTTHARD_MQTT_RECONNECT_SPREAD=None)
    fleet.broker_process.kill()
    wait = int(agent.wait_for(r"broker not reachable .*retry=(\d+)ms")[1])
    assert wait <= 3600001 and not 1000 <= wait <= 1250


def test_reconnect_is_not_spread_while_an_operator_waits(env):
    """The session cannot come up without a relay."""
    broker = env.broker()
    agent = device(env, 'mqtt = { reconnect_spread = "1h"; };', GOTTHARD_MQTT_RECONNECT_SPREAD=None, GOTTHARD_TIMEOUTS_PEER="300s")
    env.connect(wait=False)
    agent.wait_for("operator=alice agreed .*(\n.*)*relay not reachable")
    broker.kill()
    wait = int(agent.wait_for(r"broker not reachable .*retry=(\d+)ms")[1])
    assert 1000 <= wait <= 1250


@effect("agentd", "mqtt.prefix")
@effect("cli", "mqtt.prefix")
def test_prefix(env):
    _, plain = without_tls(env)
    device(env, 'mqtt = { prefix = "fleet/one"; };', **plain)
    assert "online" in env.cli("status", "GatewayOli", GOTTHARD_MQTT_PREFIX="fleet/one", **plain).stdout
    result = env.cli("status", "GatewayOli", **plain)
    assert (result.returncode, error_id(result)) == (69, "GTD-E30"), result.stdout
    assert device(env, 'mqtt = { prefix = "fleet/#"; };', wait=False, **plain).wait() == 78


# --- services for operators -----------------------------------------------------------------------


@effect("agentd", "agent.data_host", "agent.data_port")
def test_data_host_and_port(fleet):
    with listening("127.0.0.5") as (target, port):
        device(fleet, f'agent = {{ data_host = "127.0.0.5"; data_port = {port}; }};')
        with fleet.connect().dial() as sock:
            sock.sendall(b"y")
            assert first_byte(target) == b"y"


@effect("agentd", "agent.host_keys")
def test_host_keys(fleet):
    """The device's answer contains the public lines for which one packet has room, the shortest first, and no others."""
    lines = []
    for kind in ("ed25519", "ecdsa"):
        path = fleet.folder / f"host_{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        lines.append(" ".join(path.with_suffix(".pub").read_text().split()[:2]))
    device(fleet, f'agent = {{ host_keys = "{fleet.folder}/host_*.pub {fleet.folder}/host_ed25519"; }};')
    assert fleet.connect().event("answered")["host_keys"] == lines[:1]  # the certificate takes the room of the other
    for path in fleet.folder.glob("host_*"):
        path.unlink()
    assert fleet.connect().event("answered")["host_keys"] == []  # without a reload
    next(p for p in fleet.processes if "agentd" in p.name).stop()
    device(fleet, 'agent = { host_keys = "/nonexistent/*.pub"; };')
    assert fleet.connect().event("answered")["host_keys"] == []


# --- trust ----------------------------------------------------------------------------------------


@effect("agentd", "trust.policy", "trust.pins")
@refuses("agentd", "trust.policy", "trust.pins")
def test_trust(fleet):
    """auto means pin if the file exists, at any path. psk reads no file. An empty file denies all operators."""
    bob = fleet.cli("fingerprint", name="bob").stdout
    folder = fleet.config_folder(agentd="")

    def outcome(name, text):
        (folder / "agentd.conf").write_text(text)
        agent = fleet.agent(GOTTHARD_CONFIG_DIR=folder)
        result = fleet.cli("disconnect", "GatewayOli", name=name)
        agent.stop()
        return error_id(result) if result.returncode else "well"

    pins = folder / "operators.pins"
    assert outcome("alice", "") == "well"
    pins.write_text(bob)
    assert (outcome("alice", ""), outcome("bob", "")) == ("GTD-E40", "well")
    assert outcome("alice", 'trust = { policy = "psk"; };') == "well"
    elsewhere = fleet.folder / "elsewhere.pins"
    elsewhere.write_text(fleet.cli("fingerprint", name="alice").stdout)
    assert outcome("alice", f'trust = {{ pins = "{elsewhere}"; }};') == "well"
    assert outcome("bob", f'trust = {{ pins = "{elsewhere}"; }};') == "GTD-E40"
    pins.write_text("")
    assert outcome("bob", "") == "GTD-E40"
    for text, name in (('trust = { policy = "tofu"; };', "agentd.conf:1"), ('trust = { policy = ""; };', "agentd.conf:1")):
        agent = device(fleet, text, wait=False)
        assert agent.wait() == 78 and name in agent.log()
    agent = device(fleet, 'trust = { policy = "pin"; pins = "/nonexistent"; };', wait=False)
    agent.wait_for("waiting: .*trust.pins")
    agent.stop()
    pins.write_text(bob + "alice 1234\n")
    agent = fleet.agent(wait=False, GOTTHARD_CONFIG_DIR=folder, STATE_DIRECTORY=None)
    (folder / "agentd.conf").write_text("")
    agent.wait_for("waiting: .*operators.pins:2")
    assert "online" not in agent.log()


# --- limits ---------------------------------------------------------------------------------------


@effect("agentd", "limits.sessions")
def test_sessions(fleet):
    device(fleet, "limits = { sessions = 1; };")
    fleet.connect(name="alice")
    result = fleet.cli("connect", "GatewayOli", name="bob")
    assert (result.returncode, error_id(result)) == (75, "GTD-E42"), result.stderr
    assert "maximum number of sessions: limits.sessions (1) in its settings" in result.stderr


@effect("agentd", "limits.sessions_per_operator")
def test_per_operator(fleet):
    device(fleet, "limits = { sessions_per_operator = 1; };")
    fleet.connect(name="alice")
    result = fleet.cli("connect", "GatewayOli", name="alice")
    assert (result.returncode, error_id(result)) == (75, "GTD-E42"), result.stderr
    assert "limits.sessions_per_operator (1) in its settings" in result.stderr
    assert read_tag(fleet.connect(name="bob")) == "<oli!>"


@effect("agentd", "limits.streams")
def test_streams(fleet):
    """The second connection waits until the first one ends."""
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


@effect("agentd", "timeouts.lifetime")
def test_lifetime(fleet):
    device(fleet, 'timeouts = { lifetime = "2s"; };')
    tunnel = fleet.connect()
    started = time.monotonic()
    assert tunnel.wait() == 69 and "lifetime" in tunnel.event("error")["message"]
    assert time.monotonic() - started < 20


@effect("agentd", "timeouts.dial")
def test_dial_timeout(fleet):
    """A target whose queue is full does not answer."""
    with socket.socket() as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(stuck.getsockname())
        device(fleet, 'timeouts = { dial = "300ms"; };', GOTTHARD_AGENT_DATA_PORT=stuck.getsockname()[1])
        tunnel = fleet.connect()
        started = time.monotonic()
        with tunnel.dial():
            assert tunnel.event("stream-ended")["code"] == RST_TIMEOUT
        assert time.monotonic() - started < 7
        for sock in waiting:
            sock.close()


@effect("agentd", "timeouts.peer")
def test_peer_timeout(fleet):
    """An operator that is granted a session and does not connect to the relay."""
    agent = device(fleet, 'timeouts = { peer = "1s"; };')
    wrong = {"GOTTHARD_SERVER_PORT": harness.free_ports(1), "GOTTHARD_TIMEOUTS_PEER": "2s"}
    assert fleet.cli("connect", "GatewayOli", "0:ssh", **wrong).returncode == 69
    started = time.monotonic()
    agent.wait_for("ended cause=peer")
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended")
    assert time.monotonic() - started < 15


@effect("agentd", "timeouts.resume_window")
def test_resume_window(fleet):
    agent = device(fleet, 'timeouts = { resume_window = "1s"; };')
    fleet.connect().kill()
    started = time.monotonic()
    agent.wait_for("ended cause=peer")
    wait_until(lambda: not harness.children_of(agent.pid), "the worker ended")
    assert time.monotonic() - started < 15


def ended_after(env, reader, linger):
    """Resets a connection whose @reader ("agentd": the target, "cli": the client) has stopped. Returns the duration until its end."""
    may_read = threading.Event()

    def stop_reading(sock):
        may_read.wait(LIMIT)
        return resets.receive_to_end(sock)

    def send_and_reset(sock):
        resets.send_flushed(sock, bytes(600_000))
        resets.reset(sock)

    target = env.target(stop_reading if reader == "agentd" else send_and_reset)
    target.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    folder = env.config_folder(**{reader: f'timeouts = {{ linger = "{linger}"; }};'})
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=target.port, GOTTHARD_CONFIG_DIR=folder)
    tunnel = env.connect(GOTTHARD_CONFIG_DIR=folder)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", tunnel.port()))
        if reader == "agentd":
            send_and_reset(sock)
        started = time.monotonic()
        assert tunnel.event("stream-ended")["code"] == 1
        took = time.monotonic() - started
        may_read.set()
        if reader == "cli":
            received = resets.receive_to_end(sock)
            assert received.end == "reset" and len(received.data) < 600_000
    tunnel.disconnect()
    agent.stop()
    return took


@effect("agentd", "timeouts.linger")
@effect("cli", "timeouts.linger")
@pytest.mark.parametrize("reader", ["agentd", "cli"])
def test_linger(env, reader):
    """A program that stopped reading is reset after this time, once the other side has reset the connection."""
    env.broker()
    env.relay()
    assert ended_after(env, reader, "200ms") < 1.5 <= ended_after(env, reader, "2s")


@effect("agentd", "stream.buffer")
@effect("cli", "stream.buffer")
def test_buffer(env):
    """The data in flight limits a connection on a long path; the smaller setting of the two ends applies."""
    n, trip = 2 << 20, 0.08
    env.broker()
    env.relay("--bind", "127.0.0.1")
    target = env.target(lambda sock: harness.send_pattern(sock, "long", n))
    took = {}
    with contextlib.closing(Proxy.before_relay(env)) as network:
        network.command("delay", 1000 * trip / 2)
        for ours, theirs in (("64KiB", "16MiB"), ("16MiB", "64KiB"), ("16MiB", "16MiB")):
            agent = device(env, f'stream = {{ buffer = "{theirs}"; }};', GOTTHARD_AGENT_DATA_PORT=target.port)
            tunnel = env.connect(GOTTHARD_STREAM_BUFFER=ours, GOTTHARD_SERVER_HOST=network.host)
            with tunnel.dial() as sock:
                started = time.monotonic()
                harness.receive_pattern(sock, "long", n)
                took[ours, theirs] = time.monotonic() - started
            tunnel.disconnect()
            agent.stop()
    *small, large = took.values()
    assert min(small) > trip * (n / (64 << 10) - 4), took
    assert large < min(small) / 2, took


@effect("agentd", "log.level")
def test_log_level(env):
    """The level applies to the listener and its workers."""
    env.broker()
    env.relay()
    logs = {}
    for level in ("error", "info", "debug"):
        agent = env.agent(wait=False, GOTTHARD_CONFIG_DIR=env.config_folder(agentd=f'log = {{ level = "{level}"; }};'),
                          GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
        wait_until(lambda: "online" in env.cli("status", "GatewayOli").stdout, "the device is online")
        tunnel = env.connect()
        assert read_tag(tunnel) == "<oli!>"
        tunnel.disconnect()
        wait_until(lambda agent=agent: not harness.children_of(agent.pid), "the worker ended")
        agent.stop()
        wait_until(lambda: "offline" in env.cli("status", "GatewayOli").stdout, "the device is offline")
        logs[level] = agent.log()
    assert logs["error"] == ""
    assert " info " in logs["info"] and " ended target=" in logs["info"] and " debug " not in logs["info"]
    assert "serving -> going offline" in logs["debug"] and "running -> ended" in logs["debug"]
