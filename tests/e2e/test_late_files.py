# SPDX-License-Identifier: ISC
"""Files that come after the start (a late mount, provisioning), half-written files, and files that disappear."""

import os
import shutil
import signal
import socket
import subprocess

import pytest

import harness
from harness import wait_until
from setting_markers import check, private_file
from test_sessions import read_tag, tagged


class Notifications:
    """What the service manager receives."""

    def __init__(self, env):
        self.path = env.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(harness.LIMIT)

    def wait_for(self, word):
        while word not in (received := self.socket.recv(4096).decode()):
            assert received


def steps_of_a_folder(folder, whole):
    """Yields what the agent must say, after each step of provisioning the folder."""
    yield f"{folder}: No such file"
    folder.mkdir()
    yield "cert.pem: No such file"
    (folder / "cert.pem").write_bytes(b"")
    yield "cert.pem.*empty|private.key: No such file"
    shutil.copy(whole / "cert.pem", folder)
    yield "private.key: No such file"
    key = (whole / "private.key").read_text()
    private_file(folder / "private.key", key[:len(key) // 2], 0o644)
    yield "private.key: mode 0644"
    (folder / "private.key").chmod(0o600)
    yield "ca.crt: No such file"
    authority = (whole / "ca.crt").read_text()
    (folder / "ca.crt").write_text(authority[:-40])
    yield "cut off"
    private_file(folder / "private.key", key)
    yield "ca.crt.*cut off"
    (folder / "ca.crt").write_text(authority)


def test_certificates_appear_after_the_start(env):
    """The agent waits, shows what it waits for, and is online when the last file is whole."""
    env.broker()
    manager = Notifications(env)
    folder = env.folder / "late"
    steps = steps_of_a_folder(folder, env.certificates("GatewayOli"))
    agent = env.agent(wait=False, GOTTHARD_AWS_CERT_PATH=folder, NOTIFY_SOCKET=manager.path)
    for wanted in steps:
        agent.wait_for(f"waiting: .*mqtt.cert_path: .*({wanted})")
        agent.send(signal.SIGHUP)  # tries at once; without it the next attempt comes by itself
    agent.wait_for(harness.AGENT_READY)
    manager.wait_for("READY=1\nSTATUS=waiting: ")
    manager.wait_for("STATUS=broker connected")
    assert agent.is_running()


def test_key_appears_after_the_start(env):
    """Relay and agent, each by its own timer: no file, an empty one, one that others may read, the right one."""
    env.broker()
    key = env.folder / "late/key"
    variables = {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_KEY_FILE": key}
    relay = harness.Process(env, "relayd-late", [harness.PROGRAMS["relayd"]], env=env.relay_environment(**variables))
    agent = env.agent(wait=False, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port, **variables)
    both = (relay, agent)
    for process in both:
        process.wait_for("waiting: .*crypt.key: .*late/key: No such file")
    private_file(key, "", 0o600)
    for process in both:
        process.wait_for("waiting: .*late/key: empty file")
    private_file(key, env.key + "\n", 0o644)
    for process in both:
        process.wait_for("waiting: .*late/key: mode 0644")
    key.chmod(0o600)
    wait_until(lambda: harness.is_listening(env.relay_port), "the relay listens")
    agent.wait_for(harness.AGENT_READY)
    assert read_tag(env.connect()) == "<oli!>"


def test_pins_appear_after_the_start(env):
    env.broker()
    pins = env.folder / "late.pins"
    agent = env.agent(wait=False, GOTTHARD_TRUST_POLICY="pin", GOTTHARD_TRUST_PINS=pins)
    agent.wait_for("waiting: .*trust.pins: .*late.pins: No such file")
    line = env.cli("fingerprint").stdout
    pins.write_text(line[:30])
    agent.wait_for("waiting: .*late.pins:1")
    pins.write_text(line)
    agent.wait_for(harness.AGENT_READY)


def test_folder_of_configuration_appears_after_the_start(env):
    """A mount: the folder that $GOTTHARD_CONFIG_DIR names is missing, then open to others, then right."""
    env.broker()
    folder = env.folder / "late"
    agent = env.agent(wait=False, GOTTHARD_CONFIG_DIR=folder)
    agent.wait_for(f"waiting: {folder}: No such file")
    folder.mkdir()
    folder.chmod(0o777)
    agent.wait_for(f"waiting: {folder}: a folder of this path has mode 0777")
    (folder / "operators.pins").write_text(env.cli("fingerprint").stdout)
    folder.chmod(0o755)
    agent.wait_for("policy=pin pins=1")
    agent.wait_for(harness.AGENT_READY)


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_wait_ends_with_a_fault_of_the_text_or_a_signal(env, program):
    """SIGTERM ends the wait with 0, and a configuration file that comes with a fault ends it with 78."""
    environment = env.relay_environment if program == "relayd" else lambda **more: env.agent_environment("GatewayOli", **more)
    conf = env.folder / "late.conf"
    start = [harness.PROGRAMS[program], "--config", conf]
    process = harness.Process(env, f"{program}-1", start, env=environment())
    process.wait_for("waiting: ")
    private_file(conf, "log = { level = 7; };")
    assert process.wait() == 78
    conf.unlink()
    process = harness.Process(env, f"{program}-2", start, env=environment())
    process.wait_for("waiting: ")
    process.send(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_half_written_secrets_are_waited_for(env, program):
    """A key of a part of its digits, of another device, or with other text; --check-config refuses each."""
    environment = env.relay_environment if program == "relayd" else lambda **more: env.agent_environment("GatewayOli", **more)
    key, iv = private_file(env.folder / "key", env.key[:-1]), private_file(env.folder / "iv", "a salt\nof two lines")
    other = subprocess.run([harness.PROGRAMS["cli"], "keygen", "device", "Other"], check=True, capture_output=True, text=True,
                           env=environment()).stdout.strip()
    variables = environment(GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_IV=None, GOTTHARD_CRYPT_KEY_FILE=key, GOTTHARD_CRYPT_IV_FILE=iv)
    process = harness.Process(env, program, [harness.PROGRAMS[program]], env=variables)
    process.wait_for("waiting: .*crypt.iv: .*several lines")
    private_file(iv, env.iv[:-1])
    process.wait_for("waiting: .*crypt.iv: resembles hex digits")
    private_file(iv, env.iv)
    process.wait_for("waiting: .*crypt.key: resembles hex digits")
    done = subprocess.run([harness.PROGRAMS[program], "--check-config"], env=variables, capture_output=True, timeout=20)
    assert done.returncode == 78
    private_file(key, other)
    process.wait_for("waiting: .*crypt.key: .*(not the key of the device|a device's key)")
    private_file(key, f"\n{env.key}\n")
    if program == "relayd":
        wait_until(lambda: harness.is_listening(env.relay_port), "the relay listens")
    else:
        process.wait_for("starting|version|listens|broker")


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_check_does_not_wait(program, tmp_path):
    missing = tmp_path / "none"
    done = check(program, GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_KEY_FILE=missing)
    assert done.returncode == 78 and f"{missing}: No such file" in done.stderr, done.stderr
    if program == "agentd":
        done = check(program, GOTTHARD_AWS_CERT_PATH=missing)
        assert done.returncode == 78 and f"{missing}: No such file" in done.stderr, done.stderr


def test_reload_with_a_missing_file_keeps_the_configuration(env):
    env.broker()
    key = private_file(env.folder / "key", env.key)
    variables = {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_KEY_FILE": key}
    relay = env.relay(env=env.relay_environment(**variables))
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port, **variables)
    key.rename(env.folder / "away")
    for process in (relay, agent):
        process.send(signal.SIGHUP)
        process.wait_for("not reloaded.*key: No such file")
    assert read_tag(env.connect()) == "<oli!>"
    os.rename(env.folder / "away", key)
