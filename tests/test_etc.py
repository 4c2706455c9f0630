# SPDX-License-Identifier: ISC
"""The examples in etc/ show every setting there is, once, at its default; the broker's are taken by a broker."""

import json
import os
import pathlib
import re
import subprocess

import pytest

import harness
from test_config import check

ETC = pathlib.Path(__file__).resolve().parent.parent / "etc"


def uncommented(text):
    """A # right before a word is a setting, one before a blank is prose."""
    return re.sub(r"^(\s*)#(?=\S)", r"\1", text, flags=re.MULTILINE)


def paths(text):
    """Each setting's; an empty group is one itself."""
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
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return {line.split(" = ")[0]: line.split(" = ", 1)[1].split("   # ")[0] for line in lines}


@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_example(world, program):
    """As it is, and with every # taken away, it changes nothing; and nothing is missing in it."""
    text = (ETC / f"{program}.conf").read_text()
    # Only what has no default: an empty text in the example hides none of it.
    env = harness.clean_environment(
        GOTTHARD_CRYPT_KEY=world.key, GOTTHARD_CRYPT_IV=world.iv, GOTTHARD_MQTT_ENDPOINT="localhost",
        GOTTHARD_SERVER_HOST="localhost", GOTTHARD_AWS_CERT_PATH=world.certificates("GatewayOli"), MACHINE_ID="GatewayOli")
    bare = values(check(program, env))
    for example in (text, uncommented(text)):
        folder = world.config_folder(**{program: example})
        assert values(check(program, dict(env, GOTTHARD_CONFIG_DIR=str(folder)))) == bare

    shown = paths(uncommented(text))
    assert len(shown) == len(set(shown)), "a setting is there twice"
    assert {path.removesuffix("_file") for path in shown} == set(bare)


def test_mosquitto(world):
    """mosquitto takes the example, with the folder and the port of this test, and certificates of the example's authority."""
    folder = world.folder / "authority"
    folder.mkdir()
    for names in (["broker", "localhost"], ["GatewayOli"], ["alice"]):
        subprocess.run([ETC / "make-certificate-example", *names], cwd=folder, check=True)
    again = subprocess.run([ETC / "make-certificate-example", "alice"], cwd=folder, check=False, capture_output=True)
    assert again.returncode == 1 and b"alice" in again.stderr
    (folder / "broker/acl").write_text((ETC / "mosquitto-example.acl").read_text())
    os.chmod(folder / "broker/acl", 0o600)
    config = (ETC / "mosquitto-example.conf").read_text()
    config = config.replace("listener 8883", f"listener {world.broker_port} 127.0.0.1")
    config = config.replace("/etc/mosquitto/gotthard/", f"{folder}/broker/")
    assert "/etc/mosquitto" not in re.sub(r"^#.*", "", config, flags=re.MULTILINE)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    path = world.folder / "mosquitto-example.conf"
    path.write_text(f"user {user}\n{config}")
    broker = harness.Process(world, world.unique("broker"), ["mosquitto", "-c", path])
    harness.wait_until(lambda: harness.can_connect(world.broker_port) or not broker.is_running(), "the broker listens")
    assert broker.is_running(), broker.log()

    world.relay()
    world.agent(GOTTHARD_AWS_CERT_PATH=folder / "GatewayOli", GOTTHARD_AGENT_DATA_PORT=world.target(harness.echo).port)
    tunnel = world.connect(GOTTHARD_AWS_CERT_PATH=folder / "alice")
    with tunnel.dial() as sock:
        sock.sendall(b"through")
        assert harness.receive_exactly(sock, 7) == b"through"
    done = world.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "alice")
    assert done.returncode == 0 and "GatewayOli" in done.stdout, done.stderr
    tunnel.close_politely()


def test_aws():
    policies = json.loads((ETC / "aws-iot-policy-example.json").read_text())
    for name in ("device", "operator"):
        policy = policies[name]
        assert policy["Version"] == "2012-10-17" and policy["Statement"]
        assert len(json.dumps(policy, separators=(",", ":"))) <= 2048, "AWS takes no longer one"
