# SPDX-License-Identifier: ISC
"""Only variables, only files, files over variables, flags over both; what makes no sense is refused with its place."""

import os
import subprocess

import pytest

import harness
from harness import PROGRAMS
from test_sessions import hear, tagged


def check(program, env, *args):
    command = [PROGRAMS[program], "config", "show"] if program == "cli" else [PROGRAMS[program], "--check-config"]
    return subprocess.run([*command, *args], env=env, capture_output=True, text=True, timeout=harness.LIMIT, check=False)


def shown(done, path):
    for line in done.stdout.splitlines():
        if line.split("=")[0].strip() == path:
            return line
    raise AssertionError(f"{path} is not shown: {done.stdout}{done.stderr}")


def test_only_files(world):
    """No variable at all: three files are enough for a tunnel."""
    world.broker()
    target = world.target(tagged("<oli!>"))
    key_file = world.folder / "fleet.key"
    key_file.write_text(world.key + "\n")
    os.chmod(key_file, 0o600)
    crypt = f'crypt = {{ key_file = "{key_file}"; iv = "{world.iv}"; }};'
    mqtt = 'mqtt = {{ endpoint = "localhost:%d"; cert_path = "{}"; }};' % world.broker_port
    server = f'server = {{ host = "localhost"; port = {world.relay_port}; }};'
    folder = world.config_folder(
        relayd=f"server = {{ port = {world.relay_port}; ports_from = {world.relay_ports}; "
               f"ports_to = {world.relay_ports + 9}; }}; {crypt}",
        agentd=f'{server} {crypt} {mqtt.format(world.certificates("GatewayOli"))} device = {{ name = "GatewayOli"; }}; '
               f'services = {{ ssh = "127.0.0.1:{target.port}"; }};',
        cli=f'{server} {crypt} {mqtt.format(world.certificates("alice"))} client = {{ name = "alice"; }};')
    env = harness.clean_environment(GOTTHARD_CONFIG_DIR=folder)
    world.relay(env=env)
    world.agent(env=env)
    assert hear(world.connect(env=env)) == "<oli!>"


def test_only_variables(world):
    """The original tool's way, with the services and the operator in one environment each."""
    world.broker()
    world.relay()
    world.agent(GOTTHARD_AGENT_DATA_HOST="127.0.0.1", GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    port = harness.free_ports(1)
    tunnel = harness.Process(world, "operator", [PROGRAMS["cli"], "connect", "GatewayOli"],
                             env=world.cli_environment(GOTTHARD_CLIENT_PORT=port))
    tunnel.wait_for(str(port))
    harness.wait_until(lambda: harness.can_connect(port), "GOTTHARD_CLIENT_PORT listens")


def test_layers(world):
    """Default < variable < file < conf.d in name order < flag; what hides another is shown."""
    folder = world.config_folder(relayd="server = { port = 9001; };", relayd_d="")
    (folder / "relayd.conf.d").mkdir()
    base = {"GOTTHARD_CRYPT_KEY": world.key, "GOTTHARD_CRYPT_IV": world.iv}
    assert "7000" in shown(check("relayd", harness.clean_environment(**base)), "server.port")
    env = harness.clean_environment(GOTTHARD_SERVER_PORT=9000, **base)
    line = shown(check("relayd", env), "server.port")
    assert "9000" in line and "GOTTHARD_SERVER_PORT" in line
    env["GOTTHARD_CONFIG_DIR"] = str(folder)
    line = shown(check("relayd", env), "server.port")
    assert "9001" in line and "relayd.conf:1" in line
    (folder / "relayd.conf.d" / "20-b.conf").write_text("server = { port = 9003; };")
    (folder / "relayd.conf.d" / "10-a.conf").write_text("server = { port = 9002; };")
    line = shown(check("relayd", env), "server.port")
    assert "9003" in line and "20-b.conf:1" in line
    line = shown(check("relayd", env, "--server-port", "9004"), "server.port")
    assert "9004" in line and "--server-port" in line


def test_secrets_are_shown_as_set(world):
    for program, env in (("relayd", world.relay_environment()), ("agentd", world.agent_environment("GatewayOli")),
                         ("cli", world.cli_environment())):
        done = check(program, env)
        assert done.returncode == 0, done.stderr
        assert world.key not in done.stdout + done.stderr
        assert "set" in shown(done, "crypt.key")


BAD_FILES = {
    "unknown key": ("server = { prot = 1; };", "relayd.conf:1", "server.prot"),
    "wrong type": ('server = { port = "9000"; };', "relayd.conf:1", "server.port"),
    "out of range": ("server = { port = 65536; };", "relayd.conf:1", "65535"),
    "silently wrapped": ("server = { port = 4294967318; };", "relayd.conf:1", ""),
    "from over to": ("server = { ports_from = 9000; ports_to = 8000; };", "relayd.conf:1", "ports_to"),
    "range over the main port": ("server = { port = 9005; ports_from = 9000; ports_to = 9010; };", "relayd.conf:1", "port"),
    "duplicate": ("server = { port = 1000; port = 2000; };", "relayd.conf:1", ""),
    "include": ('@include "/etc"', "relayd.conf:1", "include"),
    "unclosed comment": ("/* server = { port = 9000; };", "relayd.conf:1", "comment"),
}


@pytest.mark.parametrize("case", BAD_FILES, ids=lambda c: c.replace(" ", "-"))
def test_bad_file(world, case):
    text, where, what = BAD_FILES[case]
    folder = world.config_folder(relayd="\n" * 0 + text)
    done = check("relayd", harness.clean_environment(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_CRYPT_KEY=world.key,
                                                     GOTTHARD_CRYPT_IV=world.iv))
    assert done.returncode == 78
    assert where in done.stderr and what in done.stderr, done.stderr


@pytest.mark.parametrize("value", ["0", "65536", "+22", " 22", "22 ", "0x16", "", "22\n", "1e3", "99999999999999999999", "\u0662"])
@pytest.mark.parametrize("variable", ["GOTTHARD_SERVER_PORT", "GOTTHARD_SERVER_PORTS_FROM", "GOTTHARD_SERVER_PORTS_TO"])
def test_bad_number_in_a_variable(world, variable, value):
    done = check("relayd", world.relay_environment(**{variable: value}))
    assert done.returncode == 78, done.stdout
    assert variable in done.stderr


def test_no_key_no_start(world):
    for program, env in (("relayd", world.relay_environment()), ("agentd", world.agent_environment("GatewayOli"))):
        for key, iv in (("", world.iv), ("00" * 32, world.iv), ("short", world.iv), (world.iv * 2, world.iv * 2)):
            env.update(GOTTHARD_CRYPT_KEY=key, GOTTHARD_CRYPT_IV=iv)
            done = subprocess.run([PROGRAMS[program]], env=env, capture_output=True, text=True, timeout=harness.LIMIT,
                                  check=False)
            assert done.returncode == 78, done.stderr


def test_key_file_that_others_may_read(world):
    key_file = world.folder / "fleet.key"
    key_file.write_text(world.key)
    os.chmod(key_file, 0o644)
    done = check("relayd", world.relay_environment(GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_KEY_FILE=key_file))
    assert done.returncode == 78 and "fleet.key" in done.stderr, done.stderr
