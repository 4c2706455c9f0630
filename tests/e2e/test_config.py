# SPDX-License-Identifier: ISC
"""Configuration by variables only, by files only, and the precedence of variables, files and flags. Invalid values are
rejected with their place."""

import os
import signal
import subprocess

import pytest

import harness
import setting_markers
from harness import PROGRAMS
from test_sessions import read_tag, tagged


def check(program, variables, *args):
    command = [PROGRAMS[program], "config", "show"] if program == "cli" else [PROGRAMS[program], "--check-config"]
    return subprocess.run([*command, *args], env=variables, capture_output=True, text=True, timeout=harness.LIMIT, check=False)


def shown(done, path):
    """The value of a setting and its origin, as one text."""
    return " ".join(setting_markers.shown(done)[path])


def test_only_files(env):
    """No variable at all: three files are enough for a tunnel."""
    env.broker()
    target = env.target(tagged("<oli!>"))
    key_file = env.folder / "fleet.key"
    key_file.write_text(env.key + "\n")
    os.chmod(key_file, 0o600)
    crypt = f'crypt = {{ key_file = "{key_file}"; iv = "{env.iv}"; }};'
    mqtt = 'mqtt = {{ endpoint = "localhost:%d"; cert_path = "{}"; }};' % env.broker_port
    server = f'server = {{ host = "localhost"; port = {env.relay_port}; }};'
    folder = env.config_folder(
        relayd=f"server = {{ port = {env.relay_port}; ports_from = {env.relay_ports}; "
               f"ports_to = {env.relay_ports + 9}; }}; {crypt}",
        agentd=f'{server} {crypt} {mqtt.format(env.certificates("GatewayOli"))} device = {{ name = "GatewayOli"; }}; '
               f'services = {{ ssh = "127.0.0.1:{target.port}"; }};',
        cli=f'{server} {crypt} {mqtt.format(env.certificates("alice"))} client = {{ name = "alice"; }};')
    variables = harness.clean_environment(GOTTHARD_CONFIG_DIR=folder)
    env.relay(env=variables)
    env.agent(env=variables)
    assert read_tag(env.connect(env=variables)) == "<oli!>"


def test_only_variables(env):
    """As the original tool: services and operator are configured by their environment."""
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_HOST="127.0.0.1", GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    port = harness.free_ports(1)
    tunnel = harness.Process(env, "operator", [PROGRAMS["cli"], "connect", "GatewayOli"],
                             env=env.cli_environment(GOTTHARD_CLIENT_PORT=port))
    tunnel.wait_for(str(port))
    harness.wait_until(lambda: harness.can_connect(port), "GOTTHARD_CLIENT_PORT listens")


def test_layers(env):
    """Default < variable < file < conf.d in name order < flag. The origin of the effective value is shown."""
    folder = env.config_folder(relayd="server = { port = 9001; };", relayd_d="")
    (folder / "relayd.conf.d").mkdir()
    base = {"GOTTHARD_CRYPT_KEY": env.key, "GOTTHARD_CRYPT_IV": env.iv}
    assert "7000" in shown(check("relayd", harness.clean_environment(**base)), "server.port")
    variables = harness.clean_environment(GOTTHARD_SERVER_PORT=9000, **base)
    line = shown(check("relayd", variables), "server.port")
    assert "9000" in line and "GOTTHARD_SERVER_PORT" in line
    variables["GOTTHARD_CONFIG_DIR"] = str(folder)
    line = shown(check("relayd", variables), "server.port")
    assert "9001" in line and "relayd.conf:1" in line
    (folder / "relayd.conf.d" / "20-b.conf").write_text("server = { port = 9003; };")
    (folder / "relayd.conf.d" / "10-a.conf").write_text("server = { port = 9002; };")
    line = shown(check("relayd", variables), "server.port")
    assert "9003" in line and "20-b.conf:1" in line
    line = shown(check("relayd", variables, "--server-port", "9004"), "server.port")
    assert "9004" in line and "--server-port" in line


def test_secrets_are_shown_as_set(env):
    for program, variables in (("relayd", env.relay_environment()), ("agentd", env.agent_environment("GatewayOli")),
                               ("cli", env.cli_environment())):
        done = check(program, variables)
        assert done.returncode == 0, done.stderr
        assert env.key not in done.stdout + done.stderr
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
def test_bad_file(env, case):
    text, where, what = BAD_FILES[case]
    folder = env.config_folder(relayd="\n" * 0 + text)
    done = check("relayd", harness.clean_environment(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_CRYPT_KEY=env.key,
                                                     GOTTHARD_CRYPT_IV=env.iv))
    assert done.returncode == 78
    assert where in done.stderr and what in done.stderr, done.stderr


@pytest.mark.parametrize("value", ["0", "65536", "+22", " 22", "22 ", "0x16", "22\n", "1e3", "99999999999999999999", "\u0662"])
@pytest.mark.parametrize("variable", ["GOTTHARD_SERVER_PORT", "GOTTHARD_SERVER_PORTS_FROM", "GOTTHARD_SERVER_PORTS_TO"])
def test_bad_number_in_a_variable(env, variable, value):
    done = check("relayd", env.relay_environment(**{variable: value}))
    assert done.returncode == 78, done.stdout
    assert variable in done.stderr


def test_start_fails_without_key(env):
    for program, variables in (("relayd", env.relay_environment()), ("agentd", env.agent_environment("GatewayOli"))):
        for key, iv in (("", env.iv), ("00" * 32, env.iv), ("short", env.iv), (env.iv * 2, env.iv * 2)):
            variables.update(GOTTHARD_CRYPT_KEY=key, GOTTHARD_CRYPT_IV=iv)
            done = subprocess.run([PROGRAMS[program]], env=variables, capture_output=True, text=True, timeout=harness.LIMIT,
                                  check=False)
            assert done.returncode == 78, done.stderr


def test_key_file_readable_by_others(env):
    key_file = env.folder / "fleet.key"
    key_file.write_text(env.key)
    os.chmod(key_file, 0o644)
    done = check("relayd", env.relay_environment(GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_KEY_FILE=key_file))
    assert done.returncode == 78 and "fleet.key" in done.stderr, done.stderr


def test_reload_reads_drop_in_files(env):
    """A folder that appears later, a later file that wins, and names of other tools; a broken file keeps the configuration."""
    folder = env.config_folder()
    drop_ins = folder / "relayd.conf.d"
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder))

    def reload(log, **more):
        relay.send(signal.SIGHUP)
        relay.wait_for(log, **more)

    drop_ins.mkdir()
    for name in ("20-b.conf~", "20-b.conf.dpkg-old", "20-b.conf.dpkg-dist", ".20-b.conf", "#20-b.conf#", "20-b.cfg", "README"):
        (drop_ins / name).write_text("nonsense")
    (drop_ins / "10-a.conf").write_text('log = { level = "error"; };')
    (drop_ins / "20-b.conf").write_text('log = { level = "info"; };')
    reload("configuration reloaded", count=1)
    for number, break_it in enumerate((lambda path: path.write_text("nonsense"), lambda path: path.mkdir(),
                                       lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to("/dev/null")), 1):
        break_it(drop_ins / f"30-broken-{number}.conf")
        reload(f"not reloaded.*30-broken-{number}.conf")
        (drop_ins / f"30-broken-{number}.conf").rename(drop_ins / f"30-broken-{number}.off")
    reload("configuration reloaded", count=2)


def test_names_with_a_dot_at_the_end(env):
    """Rooted names of the broker and of the relay: a certificate never has the dot."""
    env.broker()
    env.relay()
    rooted = {"GOTTHARD_MQTT_ENDPOINT": f"localhost.:{env.broker_port}", "GOTTHARD_SERVER_HOST": "localhost."}
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port, **rooted)
    assert read_tag(env.connect(**rooted)) == "<oli!>"


def test_duplicate_group_is_named_with_its_first_line(env):
    folder = env.config_folder(relayd="server = { port = 7100; };\n\nserver = { bind = \"*\"; };")
    done = check("relayd", env.relay_environment(GOTTHARD_CONFIG_DIR=folder))
    assert done.returncode == 78 and "relayd.conf:3: server is given twice (first at line 1)" in done.stderr, done.stderr
