# SPDX-License-Identifier: ISC
"""Completions: the words that gotthard-cli offers, and what bash, zsh and fish make of them."""

import os
import shutil
import subprocess
import time

import pytest

import harness
import shells
from harness import LIMIT, PROGRAMS, ROOT, clean_environment

CLI = PROGRAMS["cli"]
SCRIPTS = ROOT / "gotthard-cli" / "completions"
MEMORY = """GatewayOli 1790000000 ssh web site=zurich role=gateway
gw:2@site.example 1790000000 ssh x-y.z
without 1790000000
older 1790000000 site=bern
"""
HOSTILE = "$(touch${IFS}hacked)", "`touch${IFS}hacked`", "a;touch${IFS}hacked", "a'b", 'a"b', "-rf", "a\\b", "a*", "~root", "a|b", "a>b", "é"


@pytest.fixture
def state(tmp_path):
    """$XDG_STATE_HOME with two files of remembered devices, and with texts that must never be offered."""
    folder = tmp_path / "state" / "gotthard"
    folder.mkdir(parents=True, mode=0o700)
    hostile = "".join(f"{text} 1790000000 ssh\nhostile 1790000000 {text}\n" for text in HOSTILE)
    hostile += "".join(f"hostile 1790000000 key={text}\n" for text in HOSTILE if "=" not in text)
    (folder / "devices-0123456789abcdef").write_text(MEMORY + hostile)
    (folder / "devices-fedcba9876543210").write_text("GatewayOli 1790000000 ssh\nother 1790000000 ssh\n")
    (folder / "devices-0123456789abcdef.77").write_text("temporary 1790000000 ssh\n")
    return folder.parent


def words(state, *line, program="gotthard-cli", **variables):
    """{word: help} of the words offered for a command line, which ends at the cursor."""
    result = subprocess.run([CLI, "complete-words", program, *line], capture_output=True, text=True, timeout=LIMIT, check=True,
                            stdin=subprocess.DEVNULL, env=clean_environment(XDG_STATE_HOME=state, **variables))
    assert result.stderr == ""
    found = [row.partition("\t")[::2] for row in result.stdout.splitlines()]
    assert len(dict(found)) == len(found), "a word twice"
    return dict(found)


DEVICES = ["GatewayOli", "gw:2@site.example", "hostile", "older", "other", "without"]


@pytest.mark.parametrize("line, expected", [
    (["conn"], ["connect"]),
    (["connect", ""], DEVICES),
    (["connect", "Gate"], ["GatewayOli"]),
    (["connect", "gw:2@"], ["gw:2@site.example"]),
    (["--quiet", "--config", "status", "status", "o"], ["older", "other"]),
    (["devices", "o"], ["older", "other"]),
    (["devices", "site="], ["site=bern", "site=zurich"]),
    (["devices", "site=zurich", "r"], ["role=gateway"]),
    (["forget", "--yes", "with"], ["without"]),
    (["proxy", "GatewayOli", ""], ["ssh", "web"]),
    (["proxy", "GatewayOli", "ssh", ""], []),
    (["connect", "GatewayOli", ":"], [":ssh", ":web"]),
    (["connect", "GatewayOli", "8080:80", "0:w"], ["0:web"]),
    (["connect", "gw:2@site.example", ""], ["ssh", "x-y.z"]),
    (["connect", "unknown", ""], []),
    (["connect", "hostile", ""], []),
    (["config", ""], ["show"]),
    (["completion", ""], ["bash", "fish", "zsh"]),
    (["keygen", ""], ["device", "operator", "relay"]),
    (["keygen", "relay", ""], []),
    (["ssh", "Gate"], ["GatewayOli"]),
    (["ssh", "pi@Gate"], ["pi@GatewayOli"]),
    (["ssh", "--conf"], ["--config"]),
    (["ssh", "pi@GatewayOli", "--conf"], []),
    (["ssh", "pi@GatewayOli", ""], []),
    (["run", "--on", "site=z"], ["site=zurich"]),
    (["run", "--on", "Gate"], ["GatewayOli"]),
    (["run", "--on", "GatewayOli", "--us"], ["--user"]),
    (["connect", "--log-level", ""], ["debug", "error", "info", "warn"]),
    (["connect", "--log-level=w"], ["--log-level=warn"]),
    (["connect", "--share="], ["--share=false", "--share=true"]),
    (["connect", "--no-sh"], ["--no-share"]),
    (["connect", "--config", ""], ["/"]),
    (["connect", "--cert-path="], ["/"]),
    (["connect", "GatewayOli", "./a"], ["/"]),
    (["connect", "--", "--q"], []),
    (["connect", "--nonsense="], []),
    (["frobnicate", ""], []),
    (["server", "--"], []),
    (["version", ""], []),
])
def test_offered_words(state, line, expected):
    assert list(words(state, *line)) == expected


def test_commands_of_the_original_tool_are_offered_to_its_name(state):
    assert "server" not in words(state, "")
    offered = words(state, "", program="gotthard")
    assert "server" in offered and "edge-device" in offered and "connect" in offered


def test_nothing_is_printed_on_an_error(tmp_path):
    """No folder, no home, no words, a file of another kind, and a file that others can write."""
    for variables in ({"XDG_STATE_HOME": "/nonexistent"}, {"XDG_STATE_HOME": "", "HOME": "/nonexistent"}, {"XDG_STATE_HOME": tmp_path}):
        for line in ([], ["gotthard-cli"], ["gotthard-cli", "connect", ""]):
            result = subprocess.run([CLI, "complete-words", *line], capture_output=True, text=True, timeout=LIMIT,
                                    stdin=subprocess.DEVNULL, env=clean_environment(**variables))
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    (tmp_path / "gotthard" / "devices-0123456789abcdef").mkdir(parents=True)
    assert words(tmp_path, "connect", "") == {}
    path = tmp_path / "gotthard" / "devices-fedcba9876543210"
    path.write_text(MEMORY)
    path.chmod(0o666)
    assert words(tmp_path, "connect", "") == {}
    path.chmod(0o600)
    assert "GatewayOli" in words(tmp_path, "connect", "")


def test_settings_and_keys_are_not_read(state, tmp_path):
    """A configuration with errors and a missing key do not matter, and no configuration file is opened."""
    (tmp_path / "cli.conf").write_text("nonsense")
    trace = tmp_path / "trace"
    environment = clean_environment(XDG_STATE_HOME=state, GOTTHARD_CONFIG_DIR=tmp_path, GOTTHARD_CRYPT_KEY_FILE="/nonexistent",
                                    ASAN_OPTIONS="detect_leaks=0")  # the sanitizer cannot look for leaks under strace
    assert list(words(state, "connect", "Gate", GOTTHARD_CONFIG_DIR=tmp_path, GOTTHARD_CRYPT_KEY_FILE="/nonexistent")) == ["GatewayOli"]
    if shutil.which("strace"):
        subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=open,openat,socket,connect", CLI, "complete-words", "gotthard-cli",
                        "connect", ""], capture_output=True, env=environment, timeout=LIMIT, check=True)
        text = trace.read_text()
        assert "devices-0123456789abcdef" in text
        assert "cli.conf" not in text and "/nonexistent" not in text and "socket(" not in text and "passwd" not in text


def test_words_of_a_large_fleet_come_at_once(tmp_path):
    """60,000 devices; the limit is generous for a machine under load."""
    folder = tmp_path / "gotthard"
    folder.mkdir()
    (folder / "devices-0123456789abcdef").write_text("".join(f"dev-{number:05} 1790000000 ssh web\n" for number in range(60000)))
    began = time.monotonic()
    assert len(words(tmp_path, "connect", "dev-5999")) == 10
    assert len(words(tmp_path, "connect", "")) == 60000
    assert time.monotonic() - began < 5


# --- remembered services --------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["devices"], ["status", "GatewayOli"], ["connect"]])
def test_services_of_a_device_are_offered_after_a_command(env, command):
    """Without the network: the broker has ended before the completion."""
    state = env.folder / "state"
    broker = env.broker()
    env.relay()
    echo = env.target(harness.echo).port
    env.agent(GOTTHARD_AGENT_DATA_PORT=echo,
              GOTTHARD_CONFIG_DIR=env.config_folder(agentd=f'services = {{ web = "127.0.0.1:{echo}"; modbus = "127.0.0.1:{echo}"; }};'))
    assert words(state, "connect", "") == {}
    if command == ["connect"]:
        env.connect(XDG_STATE_HOME=state).stop()
    else:
        result = env.cli(*command, XDG_STATE_HOME=state)
        assert result.returncode == 0, result.stderr
    broker.stop()
    assert list(words(state, "connect", "Gate")) == ["GatewayOli"]
    assert list(words(state, "connect", "GatewayOli", "0:")) == ["0:modbus", "0:ssh", "0:web"]
    file, = (state / "gotthard").glob("devices-*")
    assert file.stat().st_mode & 0o777 == 0o600


def test_services_are_kept_while_other_commands_run(env):
    """connect adds its device to those that are there, and writes the file only if there is something new."""
    state = env.folder / "state"
    env.broker()
    env.relay()
    for name in ("first", "GatewayOli"):
        env.agent(name, GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    assert env.cli("status", "first", XDG_STATE_HOME=state).returncode == 0
    file, = (state / "gotthard").glob("devices-*")
    for device in ("GatewayOli", "first"):
        env.connect(device, XDG_STATE_HOME=state).stop()
        before = file.stat().st_ino
    env.connect("first", XDG_STATE_HOME=state).stop()
    assert file.stat().st_ino == before
    assert [line.split()[::2] for line in file.read_text().splitlines()] == [["first", "ssh"], ["GatewayOli", "ssh"]]
    assert env.cli("devices", XDG_STATE_HOME=state).returncode == 0
    assert sorted(line.split()[::2] for line in file.read_text().splitlines()) == [["GatewayOli", "ssh"], ["first", "ssh"]]


def test_tags_of_a_device_are_offered_and_kept(env):
    """devices remembers tags. connect replaces the services of its device and keeps the tags."""
    state = env.folder / "state"
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, GOTTHARD_DEVICE_TAGS="site=zurich,role=gateway")
    assert env.cli("devices", XDG_STATE_HOME=state).returncode == 0
    assert list(words(state, "devices", "")) == ["GatewayOli", "role=gateway", "site=zurich"]
    file, = (state / "gotthard").glob("devices-*")
    file.write_text(file.read_text().replace(" ssh ", " old other "))
    assert list(words(state, "connect", "GatewayOli", "")) == ["old", "other"]
    env.connect(XDG_STATE_HOME=state).stop()
    assert file.read_text().split()[2:] == ["ssh", "role=gateway", "site=zurich"]


# --- scripts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_script_is_the_installed_file(shell):
    result = subprocess.run([CLI, "completion", shell], capture_output=True, text=True, timeout=LIMIT, check=True,
                            env=clean_environment())
    assert result.stdout == (SCRIPTS / f"gotthard-cli.{shell}").read_text()
    assert subprocess.run([shell, "-n", SCRIPTS / f"gotthard-cli.{shell}"], capture_output=True, text=True, check=True).stderr == ""


def test_unknown_shell_is_a_usage_error():
    result = subprocess.run([CLI, "completion", "tcsh"], capture_output=True, text=True, timeout=LIMIT, env=clean_environment())
    assert (result.returncode, result.stdout) == (64, "")
    assert "'bash', 'zsh' or 'fish'" in result.stderr


# --- shells ---------------------------------------------------------------------------------------


@pytest.fixture(params=[(shell, how) for shell in shells.SHELLS for how in ("sourced", "installed")], ids=lambda p: "-".join(p))
def shell(request, state, tmp_path):
    """A shell in whose PATH gotthard-cli is the real one for completions, and otherwise prints its arguments."""
    name, how = request.param
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "gotthard-cli"
    wrapper.write_text(f"""#!/bin/bash
case $1 in
complete-words|completion) exec {CLI} "$@" ;;
esac
printf ARGS
printf '<%s>' "${{@//[<>]/}}"
printf 'END\\n'
""")
    wrapper.chmod(0o755)
    (folder / "gotthard").symlink_to(wrapper)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "site file.conf").write_text("")
    environment = clean_environment(XDG_STATE_HOME=state, HOME=tmp_path, LC_ALL="C.UTF-8", PATH=f"{folder}:{os.environ['PATH']}",
                                    XDG_CONFIG_HOME=tmp_path / "config", XDG_DATA_HOME=tmp_path / "data")
    script = (SCRIPTS / f"gotthard-cli.{name}").read_text() if how == "installed" else None
    running = shells.Shell(name, {k: str(v) for k, v in environment.items()}, tmp_path / "work", script)
    yield running
    running.close()


def test_shell_completes_each_kind_of_word(shell):
    for line, expected in [
        ("gotthard-cli conn", ["connect"]),
        ("gotthard-cli connect --print-p", ["connect", "--print-port"]),
        ("gotthard-cli connect --log-level=w", ["connect", "--log-level=warn"]),
        ("gotthard-cli connect --log-level d", ["connect", "--log-level", "debug"]),
        ("gotthard-cli connect Gate", ["connect", "GatewayOli"]),
        ("gotthard-cli connect gw", ["connect", "gw:2@site.example"]),
        ("gotthard-cli connect gw:", ["connect", "gw:2@site.example"]),
        ("gotthard-cli connect gw:2@s", ["connect", "gw:2@site.example"]),
        ("gotthard-cli connect gw:2@", ["connect", "gw:2@site.example"]),
        ("gotthard-cli connect GatewayOli w", ["connect", "GatewayOli", "web"]),
        ("gotthard-cli connect GatewayOli 8080:w", ["connect", "GatewayOli", "8080:web"]),
        ("gotthard-cli connect GatewayOli :w", ["connect", "GatewayOli", ":web"]),
        ("gotthard-cli connect gw:2@site.example x", ["connect", "gw:2@site.example", "x-y.z"]),
        ("gotthard-cli ssh Gate", ["ssh", "GatewayOli"]),
        ("gotthard-cli ssh pi@Gate", ["ssh", "pi@GatewayOli"]),
        ("gotthard-cli devices site=z", ["devices", "site=zurich"]),
        ("gotthard-cli devices rol", ["devices", "role=gateway"]),
        ("gotthard-cli connect --config sit", ["connect", "--config", "site file.conf"]),
        ("gotthard-cli connect --config=sit", ["connect", "--config=site file.conf"]),
    ]:
        assert shell.complete(line) == expected, line


def test_shell_completes_the_name_gotthard(shell):
    """The name of the original tool, whose completion a shell loads by that name."""
    if shell.name == "fish" or shell.name == "bash":
        shell.complete("gotthard-cli conn")
    assert shell.complete("gotthard edge") == ["edge-device"]
    assert shell.complete("gotthard status Gate") == ["status", "GatewayOli"]


def test_shell_does_not_complete_what_is_unknown(shell):
    assert shell.complete("gotthard-cli frobnicate x") == ["frobnicate", "x"]
    assert shell.complete("gotthard-cli status Nobody") == ["status", "Nobody"]


def test_shell_runs_nothing_of_a_hostile_name(shell, tmp_path):
    """Completes all devices, then services of one whose remembered services are code."""
    assert shell.complete("gotthard-cli status host") == ["status", "hostile"]
    assert shell.complete("gotthard-cli connect hostile ") == ["connect", "hostile"]
    shell.complete("gotthard-cli status ", keys="\t\t\x15gotthard-cli version")
    assert not list(tmp_path.rglob("hacked"))
