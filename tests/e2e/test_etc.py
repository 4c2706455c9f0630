# SPDX-License-Identifier: ISC
"""The examples in etc/ show every setting once, at its default. A broker accepts the examples for brokers."""

import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time

import pytest

import harness
from aws_policy import Policy, fill_in
from setting_markers import shown
from test_config import check
from test_hostile_broker import CONNACK, CONNECT, PINGREQ, PINGRESP, PlayedBroker, packet

ETC = pathlib.Path(__file__).resolve().parent.parent.parent / "etc"


def uncommented(text):
    """Activates all settings: a # directly before a word precedes a setting, a # before a blank precedes prose."""
    return re.sub(r"^(\s*)#(?=\S)", r"\1", text, flags=re.MULTILINE)


def paths(text):
    """Returns the path of each setting. An empty group counts as a setting."""
    group, found = "", []
    for line in text.splitlines():
        if match := re.match(r"^(\w+) = \{$", line):
            group, before = match[1] + ".", len(found)
        elif line == "};":
            found += [group[:-1]] if len(found) == before else []
            group = ""
        elif match := re.match(r"^\s*(\w+) = .*;$", line):
            found.append(group + match[1])
    return found


def values(done):
    return {path: value for path, (value, _) in shown(done).items()}


@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_example(env, program):
    """The example changes nothing, neither as it is nor with all settings activated, and it shows all settings."""
    text = (ETC / f"{program}.conf").read_text()
    # Only settings without a default: an empty text in the example overrides nothing.
    variables = harness.clean_environment(
        GOTTHARD_CRYPT_KEY=env.key, GOTTHARD_CRYPT_IV=env.iv, GOTTHARD_MQTT_ENDPOINT="localhost",
        GOTTHARD_SERVER_HOST="localhost", GOTTHARD_AWS_CERT_PATH=env.certificates("GatewayOli"), MACHINE_ID="GatewayOli")
    bare = values(check(program, variables))
    activated = uncommented(text)
    if program == "agentd":  # a configured file must exist
        activated = re.sub(r"^ *pins = .*\n", "", activated, flags=re.MULTILINE)
    for example in (text, activated):
        folder = env.config_folder(**{program: example})
        assert values(check(program, dict(variables, GOTTHARD_CONFIG_DIR=str(folder)))) == bare

    listed = paths(uncommented(text))
    assert len(listed) == len(set(listed)), "a setting is shown twice"
    assert {path.removesuffix("_file") for path in listed} == set(bare)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def start_example(env, folder, address, change=lambda text: text):
    """Starts a mosquitto with the example, whose folder is broker/ in the folder of the authority."""
    config = change((ETC / "mosquitto-example.conf").read_text())
    config = config.replace("listener 8883", f"listener {env.broker_port} {address}")
    config = config.replace("/etc/mosquitto/gotthard/", f"{folder}/broker/")
    assert "/etc/mosquitto" not in re.sub(r"^#.*", "", config, flags=re.MULTILINE)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    path = env.folder / f"mosquitto-example-{address}.conf"
    path.write_text(f"user {user}\n{config}")
    broker = harness.Process(env, env.unique("broker"), ["mosquitto", "-c", path])

    def listens():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as sock:
            return sock.connect_ex((address, env.broker_port)) == 0

    harness.wait_until(lambda: listens() or not broker.is_running(), "the broker listens")
    assert broker.is_running(), broker.log()
    return broker


def test_mosquitto(env):
    """mosquitto takes the example, with the folder and the port of this test, and certificates of the example's authority."""
    folder = env.folder / "authority"
    folder.mkdir()
    for names in (["broker", "localhost", "127.0.0.1"], ["GatewayOli"], ["--operator", "alice"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    os.chmod(folder / "broker/acl", 0o600)
    broker = start_example(env, folder, "127.0.0.1")

    env.relay()
    agent = env.agent(GOTTHARD_AWS_CERT_PATH=folder / "GatewayOli", GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    tunnel = env.connect(GOTTHARD_AWS_CERT_PATH=folder / "alice")
    with tunnel.dial() as sock:
        sock.sendall(b"through")
        assert harness.receive_exactly(sock, 7) == b"through"
    for host in ("localhost", "127.0.0.1"):
        done = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "alice", GOTTHARD_MQTT_ENDPOINT=f"{host}:{env.broker_port}")
        assert done.returncode == 0 and "GatewayOli" in done.stdout, done.stderr
    tunnel.disconnect()

    # A revoked device cannot reconnect; all others can.
    revoked = subprocess.run([ETC / "make-certificate-example", "--revoke", "GatewayOli"], cwd=folder, check=True, capture_output=True)
    assert b"ca.crl" in revoked.stdout
    (folder / "broker/ca.crl").write_bytes((folder / "ca.crl").read_bytes())
    broker.stop()
    start_example(env, folder, "127.0.0.1")
    agent.wait_for("revoked")
    done = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "alice")
    assert done.returncode == 69 and "no state of a device came from the broker" in done.stderr, done.stderr


def test_device_with_the_name_of_an_operator(env):
    """At mosquitto with the example, the device alice has the rights of a device, and none of the operator alice."""
    folder = env.folder / "authority"
    folder.mkdir()
    for names in (["broker", "localhost"], ["GatewayOli"], ["alice"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    (folder / "alice").rename(folder / "device-alice")
    subprocess.run([ETC / "make-certificate-example", "--operator", "alice"], cwd=folder, check=True)
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    os.chmod(folder / "broker/acl", 0o600)
    start_example(env, folder, "127.0.0.1")
    env.relay()
    agent = env.agent(GOTTHARD_AWS_CERT_PATH=folder / "GatewayOli")
    namesake = env.agent("alice", GOTTHARD_AWS_CERT_PATH=folder / "device-alice")
    done = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "alice")
    assert "GatewayOli" in done.stdout and "alice" in done.stdout, done.stdout + done.stderr
    done = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "device-alice", XDG_STATE_HOME=env.folder / "state")
    assert "GatewayOli" not in done.stdout
    done = env.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_AWS_CERT_PATH=folder / "device-alice")
    assert done.returncode == 77 and "GTD-E21" in done.stderr, done.stderr
    assert env.connect(GOTTHARD_AWS_CERT_PATH=folder / "alice").disconnect() == 0
    assert agent.log().count("session=") and "session=" not in namesake.log()


def connect_as(env, folder, client_id, keep_alive=60):
    """Connects to the broker with the certificate in @folder. Returns the socket, after CONNACK."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "cert.pem", folder / "private.key")
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", env.broker_port)), server_hostname="localhost")
    sock.sendall(packet(CONNECT, b"\0\4MQTT\5\2" + keep_alive.to_bytes(2, "big") + b"\0" + len(client_id).to_bytes(2, "big") +
                        client_id.encode()))
    assert PlayedBroker._read(sock)[0] == CONNACK
    return sock


def test_device_with_the_longest_keepalive(env):
    """mosquitto from 2.0.21 on may disconnect a client whose keep-alive is max_keepalive itself, at any change of the second."""
    folder = env.folder / "authority"
    folder.mkdir()
    for names in (["broker", "localhost"], ["GatewayOli"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    os.chmod(folder / "broker/acl", 0o600)
    broker = start_example(env, folder, "127.0.0.1")
    longest = re.search(r"to (\d+)h", re.search(r"duration, .*GOTTHARD_MQTT_KEEPALIVE", (ETC / "agentd.conf").read_text())[0])
    with connect_as(env, folder / "GatewayOli", "GatewayOli", 3600 * int(longest[1])) as sock:
        end = int(time.time()) + 4
        while time.time() < end:
            sock.sendall(packet(PINGREQ, b""))
            assert PlayedBroker._read(sock) == (PINGRESP, b""), broker.log()


def test_device_uses_the_client_id_of_another_one(env):
    """The example has a line that prevents this. Then the other device stays online."""
    folder = env.folder / "authority"
    folder.mkdir()
    for names in (["broker", "localhost"], ["GatewayOli"], ["Stolen"], ["--operator", "alice"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    os.chmod(folder / "broker/acl", 0o600)
    start_example(env, folder, "127.0.0.1", lambda text: text.replace("#use_username_as_clientid", "use_username_as_clientid"))
    env.relay()
    agent = env.agent(GOTTHARD_AWS_CERT_PATH=folder / "GatewayOli")
    for _ in range(3):
        with connect_as(env, folder / "Stolen", "GatewayOli"):
            done = env.cli("status", "GatewayOli", GOTTHARD_AWS_CERT_PATH=folder / "alice")
            assert done.returncode == 0, done.stdout + done.stderr
    assert env.connect(GOTTHARD_AWS_CERT_PATH=folder / "alice").disconnect() == 0
    assert "not reachable" not in agent.log()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_mosquitto_at_an_ipv6_address(env):
    folder = env.folder / "authority"
    folder.mkdir()
    for names in (["broker", "::1"], ["--operator", "alice"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    start_example(env, folder, "::1")
    done = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "alice", GOTTHARD_MQTT_ENDPOINT=f"[::1]:{env.broker_port}")
    assert done.returncode == 69 and "no state of a device came from the broker" in done.stderr, done.stderr


def aws_policy(kind, change=lambda text: text):
    policies = json.loads(fill_in(change((ETC / "aws-iot-policy-example.json").read_text()), "alice"))
    return Policy(policies[kind])


def thing(name, **more):
    """The variables of a connection whose certificate is attached to the thing @name."""
    return {"iot:ClientId": name, "iot:Connection.Thing.ThingName": name, "iot:Connection.Thing.IsAttached": "true", **more}


def test_aws_device_with_the_name_of_an_operator():
    """A policy is attached to a certificate: the name of a thing gives no right of an operator."""
    for action, resource in (("Publish", "topic/gotthard/v1/d/GatewayOli/req"), ("Publish", "topic/gotthard/v1/d/alice/req"),
                             ("Subscribe", "topicfilter/gotthard/v1/d/GatewayOli/rsp/alice"),
                             ("Receive", "topic/gotthard/v1/d/GatewayOli/rsp/alice"),
                             ("Receive", "topic/gotthard/v1/d/GatewayOli/state")):
        assert aws_policy("operator").allows(action, resource, thing("GatewayOli")), (action, resource)
        assert not aws_policy("device").allows(action, resource, thing("alice")), (action, resource)


def test_aws_device_connects_with_its_last_will():
    """AWS permits a last will only to a policy with a condition that names it. Nothing else is permitted with it."""
    def connects(policy, name="GatewayOli", client_id="GatewayOli", attributes=("LastWill",), **more):
        variables = {**thing(name), "iot:ConnectAttributes": list(attributes), **more}
        return policy.allows("Connect", f"client/{client_id}", variables)

    device, operator = aws_policy("device"), aws_policy("operator")
    assert connects(device) and connects(device, attributes=())
    assert not connects(device, attributes=("LastWill", "PersistentConnect"))
    assert not connects(device, client_id="GatewayEli") and not connects(device, client_id="gtc-1")
    assert not connects(device, **{"iot:Connection.Thing.IsAttached": "false"})
    assert connects(operator, "alice", "gtc-0123456789abcdef", ())
    assert not connects(operator, "alice", "gtc-0123456789abcdef") and not connects(operator, "alice", "GatewayOli", ())

    without = aws_policy("device", lambda text: re.sub(r',\s*"ForAllValues:StringEquals": \{.*\}', "", text))
    assert connects(without, attributes=()) and not connects(without)


def test_aws():
    policies = json.loads((ETC / "aws-iot-policy-example.json").read_text())
    for name in ("device", "operator"):
        policy = policies[name]
        assert policy["Version"] == "2012-10-17" and policy["Statement"]
        assert len(json.dumps(policy, separators=(",", ":"))) <= 2048, "AWS takes no longer one"
