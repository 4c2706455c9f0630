# SPDX-License-Identifier: ISC
"""ExecReload= of the units: the running service, which alone has the credentials, checks and answers."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess

import pytest

import harness
from setting_markers import effect, private_file
from test_late_files import Notifications
from test_sessions import read_tag, tagged
from test_upgrade import PROGRAM, TOOK_OVER, install, installed
from units import reload, service

assert installed  # a fixture

BROKEN_PROGRAM = """#!/bin/sh
case $1 in --rehearse=*) exit 1 ;; esac
exec {} "$@"
"""
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    print("connected ", end="", flush=True)
    sock.sendall(b"reload\\n")
    print(sock.recv(100))
"""


class Service:
    """A daemon as its unit runs it: a runtime directory, and the key as a credential that no other process has."""

    def __init__(self, env, program):
        self.env, self.program = env, program
        self.conf = env.config_folder(**{program: ""})
        self.run = env.folder / "run"
        self.run.mkdir(mode=0o700)
        self.credentials = env.folder / "credentials"
        self.credentials.mkdir(mode=0o700)
        private_file(self.credentials / "gotthard_crypt_key", env.key, 0o400)
        private_file(self.credentials / "gotthard_crypt_iv", env.iv, 0o400)
        self.manager = Notifications(env)
        self.unit = {"RUNTIME_DIRECTORY": self.run, "NOTIFY_SOCKET": self.manager.path, "GOTTHARD_CONFIG_DIR": self.conf}
        self.main = None

    def start(self, **variables):
        secrets = {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": None, "CREDENTIALS_DIRECTORY": self.credentials}
        if self.program == "relayd":
            self.main = self.env.relay(env=self.env.relay_environment(**self.unit, **secrets, **variables))
        else:
            self.main = self.env.agent(**self.unit, **secrets, **variables)
        return self.main

    def configure(self, text):
        private_file(self.conf / f"{self.program}.conf", text)

    def reload(self):
        return reload(self.program, self.main, **self.unit)


@pytest.fixture(name="agent")
def agent_fixture(env):
    env.broker()
    made = Service(env, "agentd")
    made.start(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    return made


@pytest.fixture(name="relay")
def relay_fixture(env, installed):  # pylint: disable=redefined-outer-name
    made = Service(env, "relayd")
    made.start()
    return made


@effect("agentd", "--reload")
def test_agent_reloads_with_credentials(agent):
    agent.configure('limits = { sessions = 3; };')
    assert agent.reload() == (0, "gotthard-agentd: reloaded\n")
    agent.main.wait_for(" reloaded services")
    agent.manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    agent.manager.wait_for("READY=1")


def test_agent_rejects_a_bad_configuration_with_its_reason(env, agent):
    env.relay()
    for text, reason in (('limits = { sessions = 0; };', "limits.sessions"), ('limit', "syntax error"),
                         ('crypt = { key_file = "/nonexistent"; };', "/nonexistent: No such file")):
        agent.configure(text)
        status, said = agent.reload()
        assert status == 78 and reason in said, said
        agent.manager.wait_for("RELOADING=1")
        agent.manager.wait_for("READY=1")
    assert read_tag(env.connect()) == "<oli!>"
    agent.configure("")
    assert agent.reload()[0] == 0


@effect("relayd", "--reload")
def test_relay_is_upgraded_when_its_reload_returns(relay, installed):  # pylint: disable=redefined-outer-name
    """The next program finds the credentials as well."""
    for count in (1, 2):
        install(PROGRAM, installed)
        relay.configure(f'limits = {{ sessions = {count + 4}; }};')
        assert relay.reload() == (0, "gotthard-relayd: the configuration is in use\n")
        assert relay.main.log().count("took over sessions=") == count
    assert relay.main.is_running()


def test_relay_rejects_a_bad_configuration_with_its_reason(relay, installed):  # pylint: disable=redefined-outer-name
    relay.configure('relay = { colour = 1; };')
    status, said = relay.reload()
    assert status == 78 and "relay.colour" in said and "relayd.conf:1" in said, said
    relay.configure("")
    (relay.credentials / "gotthard_crypt_key").rename(relay.credentials / "away")
    status, said = relay.reload()
    assert status == 78 and "crypt.key" in said, said
    (relay.credentials / "away").rename(relay.credentials / "gotthard_crypt_key")
    install(private_file(relay.env.folder / "broken", BROKEN_PROGRAM.format(PROGRAM)), installed)
    status, said = relay.reload()
    assert status == 1 and "exited with status 1" in said, said
    assert not any("took over" in line for line in relay.main.log().splitlines())
    install(PROGRAM, installed)
    assert relay.reload()[0] == 0 and "took over" in relay.main.log()


def test_relay_reload_by_signal_is_one_for_the_manager(relay):
    relay.main.send(signal.SIGHUP)
    relay.manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    relay.manager.wait_for("READY=1")
    relay.main.wait_for("configuration reloaded")


@pytest.mark.parametrize("program", ["agentd", "relayd"])
def test_reloads_at_once_each_get_a_result(request, program):
    one = request.getfixturevalue("agent" if program == "agentd" else "relay")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = [each.result() for each in [pool.submit(one.reload) for _ in range(5)]]
    assert [status for status, _ in results] == [0] * 5, results
    assert one.main.is_running()


@effect("agentd", "MAINPID")
@effect("relayd", "MAINPID")
def test_process_without_a_runtime_directory_gets_the_signal(env):
    """A container, or the version before: the reload happens, but its result is not known here."""
    env.broker()
    agent = env.agent()
    status, said = reload("agentd", agent, RUNTIME_DIRECTORY=env.folder)
    assert status == 69 and f"sent SIGHUP to process {agent.pid}" in said, said
    agent.wait_for(" reloaded services")
    relay = env.relay()
    status, said = reload("relayd", relay)
    assert status == 69 and f"sent SIGUSR2 to process {relay.pid}" in said, said
    relay.wait_for(TOOK_OVER)


@pytest.mark.parametrize("program", ["agentd", "relayd"])
def test_reload_in_a_shell_names_the_command_and_the_variable(env, program):
    done = subprocess.run([str(harness.PROGRAMS[program]), "--reload"], env=harness.clean_environment(), cwd=env.folder, capture_output=True,
                          text=True, timeout=20, check=False)
    name = f"gotthard-{program}"
    assert done.returncode == 69 and f"systemctl reload {name}" in done.stderr and f"RUNTIME_DIRECTORY=/run/{name}" in done.stderr, done


def test_service_that_waits_for_files_answers(env):
    env.broker()
    agent = Service(env, "agentd")
    key = agent.credentials / "gotthard_crypt_key"
    key.chmod(0o644)
    agent.main = env.agent(wait=False, GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_IV=None, CREDENTIALS_DIRECTORY=agent.credentials,
                           **agent.unit)
    agent.main.wait_for("waiting: .*mode 0644")
    status, said = agent.reload()
    assert status == 78 and "gotthard_crypt_key" in said, said
    key.chmod(0o400)
    assert agent.reload() == (0, "gotthard-agentd: the configuration is in use\n")
    agent.main.wait_for(harness.AGENT_READY)


def test_next_process_takes_the_socket_of_a_killed_one(agent):
    agent.main.kill()
    agent.start()
    assert agent.reload()[0] == 0
    assert (agent.run / "reload.sock").is_socket()


def test_other_users_get_no_answer(agent):
    if os.getuid() != 0:
        pytest.skip("needs another user")
    agent.run.chmod(0o777)
    (agent.run / "reload.sock").chmod(0o777)
    for folder in (agent.run, *agent.run.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    n_before = agent.main.log().count("reloaded")
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", ASK,
                           agent.run / "reload.sock"], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.startswith("connected b''") or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr, done
    assert agent.main.log().count("reloaded") == n_before


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_unit_reloads_by_the_running_process(program):
    """No second process of the unit reads configuration or credentials."""
    text = pathlib.Path(harness.ROOT / "systemd" / f"gotthard-{program}.service.in").read_text()
    assert text.count("ExecReload=") == 1 and service(program)["ExecReload"] == f"@sbindir@/gotthard-{program} --reload"
    assert service(program)["RuntimeDirectory"] == f"gotthard-{program}"
    assert service(program)["RuntimeDirectoryMode"] == "0700"


@pytest.mark.parametrize("is_active, check, requests, status", [
    (True, "true", ["restart"], 0), (True, "false", [], 1), (False, "false", ["restart"], 0)])
def test_package_checks_the_configuration_before_it_restarts_the_agent(tmp_path, is_active, check, requests, status):
    """With a faulty one the running agent continues, and dpkg fails. An agent that does not run has nothing to lose."""
    script = (harness.ROOT / "debian" / "gotthard-agentd.postinst").read_text()
    script = script.replace("/usr/lib/gotthard-agentd/check-service", check)
    script = script.replace("[ -d /run/systemd/system ]", "true").replace("#DEBHELPER#", "")
    for name, text in (("systemctl", "true" if is_active else "false"), ("deb-systemd-invoke", f'echo "$1" >>{tmp_path}/requests')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "requests").touch()
    done = subprocess.run(["sh", "-c", script, "postinst", "configure", "0.1.0"], capture_output=True, text=True, timeout=20, check=False,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == status and ("NOT UPGRADED" in done.stderr) == bool(status), done
    assert (tmp_path / "requests").read_text().split() == requests
