# SPDX-License-Identifier: ISC
"""An operator with a key of its own (gk1o): it works for its devices, and it is no other operator."""

import base64
import json

import pytest

import harness
from harness import wait_until
from relayclient import Client
from setting_markers import effect, refuses
from test_cli import error_id
from test_relay_admission import assert_rejected, with_key
from test_sessions import read_tag, tagged


@pytest.fixture
def fleet(env):
    """Two devices with keys of their own, at a relay that has its own."""
    env.clients = []
    env.broker()
    key = env.cli("keygen", "relay").stdout.strip()
    env.relay(env=env.relay_environment(GOTTHARD_CRYPT_KEY=key, GOTTHARD_CRYPT_IV=None))
    for name, tag in (("GatewayOli", "<oli!>"), ("Pump7", "<pump>")):
        key = env.cli("keygen", "device", name).stdout.strip()
        env.agent(name, GOTTHARD_CRYPT_KEY=key, GOTTHARD_CRYPT_IV=None, GOTTHARD_AGENT_DATA_PORT=env.target(tagged(tag)).port)
    return env


def write_secret(env, text):
    path = env.folder / env.unique("secret")
    path.write_text(text)
    path.chmod(0o600)
    return path


def own_key(env, name, *devices, **more):
    """The variables of an operator whose key `keygen operator` has printed."""
    path = write_secret(env, env.cli("keygen", "operator", name, *devices).stdout)
    variables = {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": None, "GOTTHARD_CRYPT_KEY_FILE": path, **more}
    if devices:
        variables.setdefault("GOTTHARD_CRYPT_DEVICE_KEYS", path)
    return variables


def test_own_key_works_for_every_device_and_command(fleet):
    key = own_key(fleet, "alice")
    tunnel = fleet.connect(**key)
    assert read_tag(tunnel) == "<oli!>"
    assert read_tag(fleet.connect("Pump7", **key)) == "<pump>"
    assert "fleet key, which" not in tunnel.log()
    done = fleet.cli("devices", "--json", **key)
    assert done.returncode == 0 and "GatewayOli" in done.stdout and "Pump7" in done.stdout, done.stderr
    for words in (["status", "GatewayOli"], ["doctor", "GatewayOli"], ["disconnect", "GatewayOli"]):
        done = fleet.cli(*words, **key)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert tunnel.wait() == 69


def test_fleet_key_warns_the_operator_once(fleet):
    warning = "crypt.key is the fleet key, which gives this operator more rights than it needs"
    for words in (["devices"], ["status", "GatewayOli"], ["disconnect", "GatewayOli"]):
        assert fleet.cli(*words, GOTTHARD_CRYPT_KEY=fleet.key).stderr.count(warning) == 1
        assert warning not in fleet.cli(*words, "-q", GOTTHARD_CRYPT_KEY=fleet.key).stderr
        assert warning not in fleet.cli(*words, **own_key(fleet, "alice")).stderr
    assert warning not in fleet.cli("keygen", "operator", "bob").stderr


@effect("cli", "crypt.device_keys")
@refuses("cli", "crypt.device_keys")
def test_own_key_for_some_devices(fleet):
    """It reaches the devices of its file, and lists no other."""
    key = own_key(fleet, "alice", "GatewayOli")
    assert read_tag(fleet.connect(**key)) == "<oli!>"
    done = fleet.cli("devices", "--json", **key)
    assert done.returncode == 0 and "GatewayOli" in done.stdout and "Pump7" not in done.stdout, (done.stdout, done.stderr)
    for words in (["status", "GatewayOli"], ["doctor", "GatewayOli"]):
        done = fleet.cli(*words, **key)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    for words in (["connect", "Pump7"], ["disconnect", "Pump7"], ["status", "Pump7"], ["proxy", "Pump7"], ["doctor", "Pump7"]):
        done = fleet.cli(*words, **key)
        assert done.returncode == 78 and "this operator has no key of the device Pump7" in done.stdout + done.stderr, (words, done)
        assert (done.stdout + done.stderr).count("GTD-E11") == 1
    done = fleet.cli("connect", "GatewayOli", **{**key, "GOTTHARD_CRYPT_DEVICE_KEYS": None})
    assert (done.returncode, error_id(done)) == (78, "GTD-E11") and "crypt.device_keys is not set" in done.stderr
    key["GOTTHARD_CRYPT_DEVICE_KEYS"].write_text(fleet.cli("keygen", "operator", "alice", "Pump7").stdout)
    assert read_tag(fleet.connect("Pump7", **key)) == "<pump>"


def test_damaged_file_of_device_keys_is_refused_with_its_line(fleet):
    key = own_key(fleet, "alice", "GatewayOli")
    path = key["GOTTHARD_CRYPT_DEVICE_KEYS"]
    own, line = path.read_text().splitlines()
    path = key["GOTTHARD_CRYPT_DEVICE_KEYS"] = write_secret(fleet, "")
    for text, where in ((f"{line[:-1]}\n", 1), (f"# keys\n{line}\n{line}\n", 3), (f"{line}\nPump7\n", 2), (f"{line} more\n", 1),
                        (f"{line}\n{own.split('=')[1]}\n", 2)):
        path.write_text(text)
        done = fleet.cli("connect", "GatewayOli", **key)
        assert (done.returncode, error_id(done)) == (78, "GTD-E11") and f"{path}:{where}: " in done.stderr, done.stderr
        assert line.split()[1][:20] not in done.stderr, "a part of a key is shown"
    path.write_text(line)
    path.chmod(0o644)
    done = fleet.cli("connect", "GatewayOli", **key)
    assert (done.returncode, error_id(done)) == (78, "GTD-E11") and f"{path}: mode 0644" in done.stderr, done.stderr


def test_own_key_of_another_name_is_refused(fleet):
    """By the program, before it connects anywhere."""
    key = own_key(fleet, "bob")
    for words in (["connect", "GatewayOli"], ["disconnect", "GatewayOli"], ["status", "GatewayOli"], ["devices"]):
        done = fleet.cli(*words, **key)
        assert (done.returncode, error_id(done)) == (78, "GTD-E11"), done.stderr
        assert "crypt.key is the key of the operator bob, but client.name is alice" in done.stderr


def test_own_key_is_no_other_identity_at_the_relay(fleet):
    """Whatever program its holder runs: the TLS key of one name opens no other, and K_devs is no key of the relay."""
    text = fleet.cli("keygen", "operator", "bob").stdout.strip()
    material = base64.urlsafe_b64decode(text.rsplit(".", 1)[1] + "==")
    others = ("g1:o:alice", "g1:d:bob", "g1:d:GatewayOli")
    with with_key(fleet, text):  # this client takes K_rc for any name
        Client(fleet, "g1:o:bob")
        for identity in others:
            assert_rejected(fleet, identity)
    for part in (material[:32], material[32:]):
        with with_key(fleet, "gk1r." + base64.urlsafe_b64encode(part).decode()):
            for identity in ("g1:o:bob", *others):
                assert_rejected(fleet, identity)


@pytest.mark.parametrize("program", ["relayd", "agentd"])
@pytest.mark.parametrize("devices", [[], ["GatewayOli"]], ids=["every", "some"])
def test_own_key_of_an_operator_is_refused_by_relay_and_agent(env, program, devices):
    text = env.cli("keygen", "operator", "GatewayOli", *devices).stdout.splitlines()[0].split("=")[-1]
    variables = {"relayd": env.relay_environment, "agentd": lambda **more: env.agent_environment("GatewayOli", STATE_DIRECTORY=None, **more)}
    for setting in ("GOTTHARD_CRYPT_KEY", "GOTTHARD_CRYPT_KEY_PREVIOUS"):
        done = harness.subprocess.run([harness.PROGRAMS[program], "--check-config"], env=variables[program](**{setting: text}),
                                      capture_output=True, text=True, timeout=harness.LIMIT, check=False)
        message = done.stdout + done.stderr
        assert done.returncode == 78 and "operator" in message and text not in message, message


@effect("cli", "crypt.device_keys_previous")
@refuses("cli", "crypt.device_keys_previous")
@pytest.mark.parametrize("devices", [[], ["GatewayOli"]], ids=["every", "some"])
def test_previous_key_may_be_an_own_one(env, devices):
    """A device that still has the key before a rotation is listed, as its state opens."""
    env.broker()
    env.agent(wait=False)
    wait_until(lambda: "GatewayOli" in env.cli("devices", "--json", **own_key(env, "alice")).stdout, "the device is online")
    old = own_key(env, "alice", *devices)
    with with_key(env, "77" * 32):
        new = own_key(env, "alice", *devices)
    previous = {"GOTTHARD_CRYPT_KEY_PREVIOUS": old["GOTTHARD_CRYPT_KEY_FILE"].read_text().splitlines()[0].split("=")[-1]}
    if devices:
        done = env.cli("devices", **new, **previous)
        assert (done.returncode, error_id(done)) == (78, "GTD-E11") and "crypt.device_keys_previous is not set" in done.stderr
        previous["GOTTHARD_CRYPT_DEVICE_KEYS_PREVIOUS"] = write_secret(env, "nonsense")
        done = env.cli("devices", **new, **previous)
        assert (done.returncode, error_id(done)) == (78, "GTD-E11") and ":1: the second word must be a key" in done.stderr
        previous["GOTTHARD_CRYPT_DEVICE_KEYS_PREVIOUS"] = old["GOTTHARD_CRYPT_DEVICE_KEYS"]
    for more, is_known in (({}, False), (previous, True)):
        rows = [json.loads(line) for line in env.cli("devices", "--json", **new, **more).stdout.splitlines()]
        assert any(row.get("online") is True for row in rows) == is_known, rows
