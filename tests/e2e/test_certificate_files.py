# SPDX-License-Identifier: ISC
"""The files of certificates: faults, reloads that must not cost the connection to the broker, and renewal on disk."""

import contextlib
import hashlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from harness import AGENT_READY
from setting_markers import private_file
from test_cli import error_id
from test_settings_agentd import with_password

DEVICE = "GatewayOli"
REASONS = {  # of a file that is no use as ca.crt
    "empty": "the file is empty",
    "web page": "web page",
    "cut off": "line 1: the block CERTIFICATE is cut off",
    "second cut off": "is cut off",
    "CR lines": "CR alone",
    "key": "contains PRIVATE KEY",
    "DER": "DER",
    "damaged": "line 1: the certificate is damaged",
    "own certificate": "contains no root certificate",
    "indented": "line 1: text or blanks before",
}


def spoil(folder, how):
    """Replaces ca.crt."""
    path = folder / "ca.crt"
    good = path.read_bytes()
    path.chmod(0o600)  # a private key must not be readable by others
    path.write_bytes({
        "empty": lambda: b"",
        "web page": lambda: b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
        "cut off": lambda: good[:len(good) // 2],
        "second cut off": lambda: good + good[:len(good) // 2],
        "CR lines": lambda: good.replace(b"\n", b"\r"),
        "key": lambda: (folder / "private.key").read_bytes(),
        "DER": lambda: subprocess.run(["openssl", "x509", "-outform", "DER"], input=good, check=True, capture_output=True).stdout,
        "damaged": lambda: good.replace(b"MII", b"MIX", 1),
        "own certificate": lambda: (folder / "cert.pem").read_bytes(),
        "indented": lambda: b"".join(b"  " + line for line in good.splitlines(True)),
    }[how]())
    return good


def another_authority(env):
    """Returns a folder with the files of another authority: ca.crt, and a pair for DEVICE."""
    authority = harness.Authority()
    folder = env.folder / "another"
    shutil.copytree(authority.certificates(DEVICE), folder)
    return folder


def fingerprint(folder):
    key = subprocess.run(["openssl", "x509", "-in", folder / "cert.pem", "-noout", "-pubkey"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.stdout, check=True, capture_output=True)
    return hashlib.sha256(der.stdout).hexdigest()


def refuse_subscriptions(listener):
    """A broker that accepts a client (MQTT 5) and refuses its subscription."""
    with contextlib.suppress(OSError):
        while True:
            connection = listener.accept()[0]
            connection.recv(4096)
            connection.sendall(bytes.fromhex("2003000000"))  # CONNACK
            subscribe = connection.recv(4096)
            connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x87")  # SUBACK, not authorized
            connection.recv(4096)
            connection.close()


def is_reachable(env):
    return env.cli("status", DEVICE).returncode == 0


def online(agent):
    return agent.log().count(" online ")


@pytest.mark.parametrize("how", REASONS)
def test_bad_authority_is_named(env, how):
    folder = env.certificates(DEVICE)
    spoil(folder, how)
    result = subprocess.run([harness.PROGRAMS["agentd"], "--check-config"], env=env.agent_environment(DEVICE), capture_output=True,
                            text=True, timeout=20)
    assert result.returncode != 0 and "ca.crt" in result.stderr and REASONS[how] in result.stderr, result.stderr
    spoil(env.certificates("alice"), how)
    result = env.cli("devices")
    assert (result.returncode, error_id(result)) == (78, "GTD-E10") and REASONS[how] in result.stderr, result.stderr


def test_unusual_files_are_accepted(env):
    """CRLF, a byte order mark, several authorities, text around them; an expired one is only a warning."""
    env.broker()
    folder, more = env.certificates(DEVICE), env.folder / "old"
    more.mkdir()
    for command in ("req -newkey rsa:2048 -nodes -keyout key -out request -subj", "x509 -req -in request -signkey key -days 0 -out crt"):
        words = command.split() + (["/CN=old authority"] if command.endswith("subj") else [])
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=more)
    good = (folder / "ca.crt").read_bytes()
    text = b"\xef\xbb\xbf# ours, and an old one\n" + (more / "crt").read_bytes() + b"\n" + good + b"# the end"
    (folder / "ca.crt").write_bytes(text.replace(b"\n", b"\r\n"))
    agent = env.agent(DEVICE)
    assert "the authority old authority expired on" in agent.log()


@pytest.mark.parametrize("how", ["empty", "second cut off", "web page"])
def test_reload_with_bad_authority_keeps_the_connection(env, how):
    broker = env.broker()
    agent = env.agent(DEVICE)
    good = spoil(env.certificates(DEVICE), how)
    agent.send(signal.SIGHUP)
    agent.wait_for("not reloaded.*" + REASONS[how])
    assert is_reachable(env) and online(agent) == 1
    assert f"Client {DEVICE} " not in broker.log()  # mosquitto's words at the end of a connection
    (env.certificates(DEVICE) / "ca.crt").write_bytes(good)
    agent.send(signal.SIGHUP)
    agent.wait_for(r" reloaded services")
    assert is_reachable(env)


def test_reload_with_wrong_authority_keeps_the_connection(env):
    """A well-formed ca.crt of another authority: the broker is rejected, and the device stays reachable all the time."""
    broker = env.broker()
    agent = env.agent(DEVICE)
    path = env.certificates(DEVICE) / "ca.crt"
    good = path.read_bytes()
    shutil.copy(another_authority(env) / "ca.crt", path)
    agent.send(signal.SIGHUP)
    agent.wait_for("TLS: .* not a trusted authority.*connection before the change stays")
    assert is_reachable(env) and online(agent) == 1
    assert f"Client {DEVICE} " not in broker.log()
    broker.kill()
    env.broker()
    agent.wait_for(AGENT_READY, count=2)  # by the authority before
    path.write_bytes(good + (env.folder / "another" / "ca.crt").read_bytes())
    agent.send(signal.SIGHUP)
    agent.wait_for(AGENT_READY, count=3)
    assert is_reachable(env)
    time.sleep(1.5)  # longer than a retry of the replaced connection
    assert online(agent) == 3 and is_reachable(env)


def test_reload_with_wrong_password_keeps_the_connection(env):
    _, plain = with_password(env)
    folder = env.config_folder()
    text = 'mqtt = {{ username = "oli"; password = "{}"; }};'
    config = private_file(folder / "agentd.conf", text.format("open sesame"))
    agent = env.agent(DEVICE, GOTTHARD_CONFIG_DIR=folder, **plain)
    config.write_text(text.format("open barley"))
    agent.send(signal.SIGHUP)
    agent.wait_for("refused by the broker: .*stays in use")
    assert online(agent) == 1
    config.write_text(text.format("open sesame"))
    agent.send(signal.SIGHUP)
    agent.wait_for(AGENT_READY, count=2)


def test_reload_with_a_broker_that_grants_nothing_keeps_the_connection(env):
    """At another broker the device may connect, but not subscribe."""
    env.broker()
    folder = env.config_folder(agentd=f'mqtt = {{ endpoint = "localhost:{env.broker_port}"; }};')
    agent = env.agent(DEVICE, GOTTHARD_CONFIG_DIR=folder, GOTTHARD_MQTT_ENDPOINT=None)
    other = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=refuse_subscriptions, args=(other,), daemon=True).start()
    (folder / "agentd.conf").write_text(f'mqtt = {{ endpoint = "mqtt://127.0.0.1:{other.getsockname()[1]}"; }};')
    agent.send(signal.SIGHUP)
    agent.wait_for("refuses its subscription.*stays in use")
    assert is_reachable(env) and online(agent) == 1
    other.close()


def test_reload_with_wrong_name_of_the_broker_keeps_the_connection(env):
    env.broker()
    folder = env.config_folder(agentd=f'mqtt = {{ endpoint = "localhost:{env.broker_port}"; }};')
    agent = env.agent(DEVICE, GOTTHARD_CONFIG_DIR=folder, GOTTHARD_MQTT_ENDPOINT=None)
    for host, why in (("localhost.:1", "Connection refused"), ("nowhere.invalid", "cannot be resolved"),
                      (f"127.0.0.2:{env.broker_port}", "refused")):
        (folder / "agentd.conf").write_text(f'mqtt = {{ endpoint = "{host}"; }};')
        agent.send(signal.SIGHUP)
        agent.wait_for(f"{host.split(':')[0]}.*{why}.*stays in use")
        assert is_reachable(env)
    (folder / "agentd.conf").write_text(f'mqtt = {{ endpoint = "127.0.0.1:{env.broker_port}"; }};')
    agent.send(signal.SIGHUP)
    agent.wait_for(r"online broker=127\.0\.0\.1:")
    assert is_reachable(env)


def test_reload_with_new_name_and_wrong_authority_keeps_the_old_name(env):
    env.broker()
    text = 'device = {{ name = "{}"; }}; mqtt = {{ cert_path = "{}"; }};'
    folder = env.config_folder(agentd=text.format(DEVICE, env.certificates(DEVICE)))
    agent = env.agent(DEVICE, GOTTHARD_CONFIG_DIR=folder, MACHINE_ID=None, GOTTHARD_AWS_CERT_PATH=None)
    other = env.certificates("GatewayEli")
    good = (other / "ca.crt").read_bytes()
    shutil.copy(another_authority(env) / "ca.crt", other / "ca.crt")
    (folder / "agentd.conf").write_text(text.format("GatewayEli", other))
    agent.send(signal.SIGHUP)
    agent.wait_for("not a trusted authority")
    assert is_reachable(env)
    (other / "ca.crt").write_bytes(good)
    agent.send(signal.SIGHUP)
    agent.wait_for("device=GatewayEli online")
    assert env.cli("status", "GatewayEli").returncode == 0
    result = env.cli("status", DEVICE)
    assert result.returncode == 69, result.stdout + result.stderr


def test_renewed_pair_is_used_for_tls_and_signatures(env):
    """The pair on disk is replaced, by halves, without a reload. The new one comes from an authority that the broker trusts only
    after its restart, and its signatures are pinned."""
    broker = env.broker()
    env.relay()
    target = env.target(lambda connection: None)
    folder, new = env.certificates(DEVICE), another_authority(env)
    pins = env.folder / "devices.pins"
    agent = env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=target.port)
    trust = {"GOTTHARD_TRUST_POLICY": "pin", "GOTTHARD_TRUST_PINS": pins}
    pins.write_text(f"{DEVICE} {fingerprint(folder)} role=device\n")
    env.connect(DEVICE, **trust).disconnect()
    shutil.copy(new / "cert.pem", folder / "cert.pem")  # half: the old key
    broker.kill()
    agent.wait_for("changed certificates are not used yet.*does not belong")
    broker = env.broker()
    agent.wait_for(AGENT_READY, count=2)  # with the old pair
    env.connect(DEVICE, **trust).disconnect()
    broker.kill()
    shutil.copy(new / "private.key", folder / "private.key")
    authorities = env.certificates("broker") / "ca.crt"
    old = authorities.read_bytes()
    authorities.write_bytes((new / "ca.crt").read_bytes())
    broker = env.broker()
    agent.wait_for("certificates renewed")
    agent.wait_for(AGENT_READY, count=3)
    broker.kill()
    authorities.write_bytes(old + authorities.read_bytes())  # for alice, whose certificate is old
    env.broker()
    agent.wait_for(AGENT_READY, count=4)
    pins.write_text(f"{DEVICE} {fingerprint(new)} role=device\n")
    env.connect(DEVICE, **trust)
