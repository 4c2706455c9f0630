# SPDX-License-Identifier: ISC
"""ssh and the programs that use it reach DEVICE.gotthard: `ssh-config`, `known-hosts`, `ssh` and the packaged file."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import pytest

import harness
import holders
from harness import LIMIT, PROGRAMS, ROOT, wait_until
from test_cli import GOOD, run
from test_shared_sessions import n_sessions, only_holder

CLI = str(PROGRAMS["cli"])


class Device:
    """A device with a real sshd, and the files of ssh: the output of `ssh-config`, and an empty known_hosts."""

    def __init__(self, env, name="GatewayOli", host_key=None):
        self.env = env
        self.name = name
        folder = env.folder / f"home-{name}"
        folder.mkdir(mode=0o700)
        env.sshd = getattr(env, "sshd", None) or harness.Sshd(env)
        self.sshd = env.sshd
        env.agent_process = env.agent(name, GOTTHARD_AGENT_DATA_PORT=self.sshd.port, GOTTHARD_DEVICE_NAME=name,
                                      GOTTHARD_AGENT_HOST_KEYS=host_key or self.sshd.folder / "host_key.pub")
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text("")
        self.config = folder / "config"
        self.environment = env.cli_environment(GOTTHARD_TRUST_POLICY="psk")
        block = subprocess.run([CLI, "ssh-config"], check=True, capture_output=True, text=True, env=self.environment).stdout
        self.config.write_text(f"""\
Host *
    IdentityFile {self.sshd.client_key}
    IdentitiesOnly yes
    BatchMode yes
    UserKnownHostsFile {self.known_hosts}
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
{block}""")
        self.host = f"{self.sshd.user}@{name}.gotthard"

    def run(self, *command, data=b"", **more):
        return subprocess.run([str(part) for part in command], input=data, capture_output=True, timeout=LIMIT, check=False,
                              env={**self.environment, "GIT_SSH_COMMAND": f"ssh -F {self.config}", **more}, cwd=self.env.folder)

    def ssh(self, *args, **more):
        return self.run("ssh", "-F", self.config, *args, **more)

    def start(self, *args, **more):
        return subprocess.Popen(["ssh", "-F", self.config, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.environment, cwd=self.env.folder, start_new_session=True, **more)


@pytest.fixture
def fleet(env):
    env.broker()
    env.relay()
    return env


@pytest.fixture
def device(fleet):
    return Device(fleet)


def other_key(folder):
    path = folder / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return f"{path}.pub"


# --- the first contact ------------------------------------------------------------------------------


def test_first_contact_asks_nothing_and_stores_nothing(device):
    data = os.urandom(1 << 20)
    result = device.ssh(device.host, "cat; exit 3", data=data)
    assert (result.returncode, result.stdout, result.stderr) == (3, data, b"")
    assert device.known_hosts.read_text() == ""
    assert device.ssh(device.host, "echo again").stdout == b"again\n"
    assert n_sessions(device.env) == 1


def test_host_key_that_the_device_does_not_vouch_for_is_rejected(fleet):
    device = Device(fleet, host_key=other_key(fleet.folder))
    result = device.ssh(device.host, "echo never")
    assert (result.returncode, result.stdout) == (255, b"")
    assert b"IDENTIFICATION HAS CHANGED" in result.stderr or b"Host key verification failed" in result.stderr


def test_device_that_vouches_for_no_key_is_rejected(fleet):
    device = Device(fleet, host_key="/nonexistent/*.pub")
    result = device.ssh(device.host, "echo never")
    assert (result.returncode, result.stdout) == (255, b"") and b"host key is known" in result.stderr
    key = (device.sshd.folder / "host_key.pub").read_text().split()
    device.known_hosts.write_text(f"gatewayoli.gotthard {key[0]} {key[1]}\n")  # the operator's own knowledge
    assert device.ssh(device.host, "echo known").stdout == b"known\n"


def test_names_that_differ_in_case(fleet):
    """ssh ignores the case of host names, also for known_hosts; the two devices have different keys."""
    first = Device(fleet)
    second = Device(fleet, "gatewayoli", host_key=other_key(fleet.folder))
    assert first.ssh(first.host, "echo first").stdout == b"first\n"
    assert second.ssh(second.host, "echo second").returncode == 255
    assert first.ssh(first.host, "echo first").stdout == b"first\n"


def test_known_hosts_without_a_session_asks_nobody(device):
    result = device.run(CLI, "known-hosts", "GatewayOli.gotthard", "gatewayoli.gotthard")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert n_sessions(device.env) == 0
    device.ssh(device.host, "true")
    key = " ".join((device.sshd.folder / "host_key.pub").read_text().split()[:2])
    for host in ("gatewayoli.gotthard", "[gatewayoli.gotthard]:2222", "gatewayoli+81.gotthard"):
        result = device.run(CLI, "known-hosts", "GatewayOli.gotthard", host)
        assert result.stdout.decode() == f"{host} {key}\n"


@pytest.mark.parametrize("args", [[], ["dev", "a b"], ["dev", "*"], ["dev", "a,b"], ["dev", "@cert-authority"], ["dev", "a\nb"], ["a/b"],
                                  ["dev", "x", "y"], ["dev", ""]])
def test_known_hosts_misuse(args):
    result = run("known-hosts", *args, **GOOD)
    assert (result.returncode, result.stdout) == (64, "")


# --- programs that use ssh ----------------------------------------------------------------------------


def test_scp_and_sftp(device):
    data = os.urandom(1 << 20)
    (device.env.folder / "a file").write_bytes(data)
    target = device.env.folder / "copied"
    result = device.run("scp", "-F", device.config, "a file", f"{device.host}:{target}")
    assert result.returncode == 0, result.stderr
    assert target.read_bytes() == data
    result = device.run("sftp", "-F", device.config, "-b", "-", device.host, data=f"get {target} {target}-2\n".encode())
    assert result.returncode == 0, result.stderr
    assert pathlib.Path(f"{target}-2").read_bytes() == data
    assert n_sessions(device.env) == 1


@pytest.mark.skipif(not shutil.which("rsync"), reason="no rsync")
def test_rsync(device):
    source = device.env.folder / "tree"
    source.mkdir()
    for i in range(20):
        (source / f"file-{i}").write_bytes(os.urandom(10000))
    result = device.run("rsync", "-a", "-e", f"ssh -F {device.config}", f"{source}/", f"{device.host}:{device.env.folder}/copy/")
    assert result.returncode == 0, result.stderr
    assert all((device.env.folder / "copy" / path.name).read_bytes() == path.read_bytes() for path in source.iterdir())


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_git(device):
    repository = device.env.folder / "repository"
    subprocess.run(["git", "init", "-q", repository], check=True)
    (repository / "file").write_text("hello\n")
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "add", "file"], check=True, cwd=repository)
    subprocess.run(["git", "commit", "-qm", "x"], check=True, cwd=repository, env={**os.environ, **identity})
    result = device.run("git", "clone", "-q", f"ssh://{device.host}{repository}", "clone")
    assert result.returncode == 0, result.stderr
    assert (device.env.folder / "clone" / "file").read_text() == "hello\n"


def test_five_at_once_as_ansible(device):
    children = [device.start(device.host, f"cat; exit {i}") for i in range(5)]
    for i, child in enumerate(children):
        out, errors = child.communicate(b"number %d" % i, timeout=LIMIT)
        assert (child.returncode, out, errors) == (i, b"number %d" % i, b"")
    assert n_sessions(device.env) == 1


def test_control_master(device):
    control = f"{harness.runtime_folder()}/cm"
    options = ["-o", f"ControlPath={control}", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
    try:
        for _ in range(2):
            assert device.ssh(*options, device.host, "echo shared").stdout == b"shared\n"
        assert os.path.exists(control)
    finally:
        device.ssh("-o", f"ControlPath={control}", "-O", "exit", device.host)
    assert n_sessions(device.env) == 1


def test_forwards_beside_a_shell_as_vscode(device):
    """One ssh with a dynamic forward that stays, and further ones with commands and a forward."""
    echo = device.env.target(harness.echo)
    port = harness.free_ports(1)
    child = device.start("-N", "-L", f"{port}:127.0.0.1:{echo.port}", device.host)
    try:
        wait_until(lambda: harness.is_listening(port), "ssh listens")
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            harness.in_threads(lambda: harness.send_pattern(sock, "forward", 1 << 20),
                               lambda: harness.receive_pattern(sock, "forward", 1 << 20))
            assert device.ssh(device.host, "echo beside").stdout == b"beside\n"
    finally:
        child.terminate()
        child.communicate(timeout=LIMIT)
    assert n_sessions(device.env) == 1


def test_caller_does_not_wait_for_the_holder(device):
    """As `$(ssh ...)` and Ansible: all pipes of ssh end with it."""
    command = f'x=$(ssh -F "{device.config}" {device.host} echo inside 2>&1); echo "<$x>"'
    result = device.run("sh", "-c", command)
    assert result.stdout == b"<inside>\n" and only_holder()


def test_end_of_ssh_leaves_the_holder(device):
    child = device.start(device.host, "echo up; sleep 1000")
    assert child.stdout.readline() == b"up\n"
    pid = only_holder()
    os.killpg(child.pid, signal.SIGINT)  # Ctrl+C of a terminal
    child.communicate(timeout=LIMIT)
    assert only_holder() == pid
    assert device.ssh(device.host, "echo again").stdout == b"again\n"
    assert n_sessions(device.env) == 1


def test_killed_holder_costs_one_session_only(device):
    assert device.ssh(device.host, "true").returncode == 0
    os.kill(only_holder(), signal.SIGKILL)
    assert device.ssh(device.host, "echo again").stdout == b"again\n"


def test_failure_is_shown_by_ssh(device):
    result = device.ssh(f"{device.sshd.user}@missing.gotthard", "true")
    assert result.returncode == 255 and b"[GTD-E30]" in result.stderr


# --- `ssh` ------------------------------------------------------------------------------------------------


def own_ssh(device, *args, **more):
    """`gotthard-cli ssh` without any file of ssh."""
    key = ["-F", "none", "-i", device.sshd.client_key, "-o", f"UserKnownHostsFile={device.known_hosts}", "-o", "BatchMode=yes",
           "-o", "LogLevel=ERROR"]
    return device.run(CLI, *[part for arg in args for part in (key if arg == "KEY" else [arg])], **more)


@pytest.mark.parametrize("suffix", ["", ".gotthard"])
def test_ssh_needs_no_configuration(device, suffix):
    data = os.urandom(1 << 16)
    result = own_ssh(device, "ssh", "KEY", f"{device.sshd.user}@GatewayOli{suffix}", "cat; exit 5", data=data)
    assert (result.returncode, result.stdout, result.stderr) == (5, data, b"")


def test_ssh_passes_options_on_either_side_of_the_device(device):
    user = device.sshd.user
    for args in (["KEY", "-l", user, "GatewayOli", "echo", "-n", "hello"], ["-l", user, "GatewayOli", "KEY", "echo", "-n", "hello"],
                 [f"-l{user}", "-T", "KEY", "-p22", "GatewayOli", "--", "echo", "-n", "hello"],
                 ["--relay", "main", "--lifetime=1h", "-q", "KEY", "-Tl", user, "GatewayOli", "-4", "echo -n hello"]):
        result = own_ssh(device, "ssh", *args)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"hello", b""), args


def test_ssh_rejects_a_wrong_host_key(fleet):
    device = Device(fleet, host_key=other_key(fleet.folder))
    result = own_ssh(device, "ssh", "KEY", f"{device.sshd.user}@GatewayOli", "echo never")
    assert (result.returncode, result.stdout) == (255, b"")


def test_ssh_passes_its_settings_to_proxy(fleet):
    """From a file, whose path has characters that a shell and ssh interpret."""
    device = Device(fleet)
    folder = fleet.folder / "it's \"50%\" $HOME; & more\\"
    folder.mkdir()
    environment = {k: v for k, v in device.environment.items() if not k.startswith("GOTTHARD_CRYPT")}
    (folder / "cli.conf").write_text(f'crypt = {{ key = "{fleet.key}"; iv = "{fleet.iv}"; }};')
    os.chmod(folder / "cli.conf", 0o600)
    key = ["-F", "none", "-i", device.sshd.client_key, "-o", f"UserKnownHostsFile={device.known_hosts}", "-o", "BatchMode=yes"]
    result = subprocess.run([CLI, "ssh", "--config", "cli.conf", *key, f"{device.sshd.user}@GatewayOli", "echo hello"], cwd=folder,
                            env=environment, capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False)
    assert (result.returncode, result.stdout) == (0, b"hello\n"), result.stderr
    block = subprocess.run([CLI, "ssh-config", "--config", "cli.conf"], cwd=folder, env=environment, capture_output=True, text=True,
                           check=True).stdout
    device.config.write_text(re.sub(r"Host \*\.gotthard\n(.*\n)*", "", device.config.read_text()) + block)
    result = subprocess.run(["ssh", "-F", device.config, device.host, "echo hello"], env=environment, capture_output=True,
                            timeout=LIMIT, stdin=subprocess.DEVNULL, check=False)
    assert (result.returncode, result.stdout) == (0, b"hello\n"), result.stderr


@pytest.mark.parametrize("args", [[], ["a/b"], ["u@"], ["-l"], ["--frob", "dev"], ["--json", "dev"], ["--config"], ["--config", "a\nb", "dev"],
                                  ["--config", "${HOME}", "dev"]])
def test_ssh_misuse(args):
    result = run("ssh", *args, **GOOD)
    assert (result.returncode, result.stdout) == (64, "") and "--help" in result.stderr, result


def test_ssh_is_not_installed():
    result = run("ssh", "dev", **{**GOOD, "PATH": "/nonexistent"})
    assert result.returncode == 69 and "openssh-client" in result.stderr


# --- the packaged file --------------------------------------------------------------------------------------


def test_packaged_file_has_the_same_lines():
    packaged = [line for line in (ROOT / "etc" / "30-gotthard.conf").read_text().splitlines() if not line.startswith("#")]
    printed = run("ssh-config").stdout.replace(os.path.realpath(CLI), "/usr/bin/gotthard-cli")
    assert printed.splitlines() == packaged


def test_packaged_file_is_valid_for_ssh():
    result = subprocess.run(["ssh", "-G", "-F", ROOT / "etc" / "30-gotthard.conf", "-p", "2222", "pi@GatewayOli.gotthard"],
                            check=True, capture_output=True, text=True)
    options = dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)
    assert options["proxycommand"] == "/usr/bin/gotthard-cli proxy %n %p"
    assert options["knownhostscommand"] == "/usr/bin/gotthard-cli known-hosts %n %H"
    assert options["stricthostkeychecking"] in ("true", "yes") and options["serveraliveinterval"] == "15"
    assert options["updatehostkeys"] in ("false", "no") and options["checkhostip"] == "no"
