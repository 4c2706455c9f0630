# SPDX-License-Identifier: ISC
"""Enrolment by a one-time token: the newcomer's side, and what a thief of the token cannot do.

tests/enroller is the operator's side. It is honest here, or it is the thief.
"""

import os
import pathlib
import re
import stat
import subprocess

import pytest

import harness
from access_list import Authority
from enroller import DEVICE, OPERATOR, RELAY, Enroller, Newcomer
from harness import PROGRAMS, echo
from relayclient import Client
from setting_markers import effect

ENROLLED = ["agentd.conf.d", "agentd.conf.d/50-enrolled.conf", "enrolled", "enrolled/ca.crt", "enrolled/cert.pem",
            "enrolled/device.key", "enrolled/private.key"]


@pytest.fixture
def fleet(env):
    env.relay()
    return env


def assert_failed(newcomer, status, pattern, files=()):
    """It ended with @status and one error, and installed nothing."""
    assert newcomer.wait() == status, newcomer.log()
    assert re.search(pattern, newcomer.log()), newcomer.log()
    assert newcomer.files() == list(files)


def enrol(env, *options, name="Pump7", folder=None, **more):
    enroller = Enroller(env)
    newcomer = Newcomer(env, enroller.token, *options, folder=folder)
    enroller.answer(name, **more)
    assert newcomer.wait() == 0, newcomer.log()
    assert enroller.result() == (True, "")
    return newcomer


def agent_of(env, newcomer, **more):
    """Starts the agent with the configuration of an enrolled device."""
    return env.agent("Pump7", env=harness.clean_environment(GOTTHARD_CONFIG_DIR=newcomer.config, STATE_DIRECTORY=newcomer.state, **more))


def test_enrolled_device_is_reachable(fleet):
    fleet.broker()
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    fingerprint = enroller.request()
    shown = re.search(r"^  ((?:[0-9a-f]{4} ?){16})$", newcomer.out(), re.MULTILINE)
    assert shown and shown[1].replace(" ", "") == fingerprint
    enroller.answer(CONFIGURATION=f'services = {{ ssh = "127.0.0.1:{fleet.target(echo).port}"; }};\n')
    assert newcomer.wait() == 0, newcomer.log()
    assert enroller.result() == (True, "")
    enroller.event("end closed.*")
    assert newcomer.files() == ["agentd.conf.d", "agentd.conf.d/40-fleet.conf", *ENROLLED[1:]]
    assert "enrolled as Pump7" in newcomer.out()
    for path in newcomer.config.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path
    agent_of(fleet, newcomer)
    tunnel = fleet.connect("Pump7")
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"


def test_private_key_never_leaves_the_device(fleet):
    """The certificate's key is the one that was made here, and no frame has it."""
    newcomer = enrol(fleet)
    key = newcomer.config / "enrolled" / "private.key"
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
    certificate = subprocess.run(["openssl", "x509", "-in", newcomer.config / "enrolled" / "cert.pem", "-noout", "-pubkey"],
                                 check=True, capture_output=True, text=True).stdout
    assert public == certificate
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 or os.geteuid() == 0


def test_token_from_standard_input_and_from_an_argument(fleet):
    enroller = Enroller(fleet)
    folder = fleet.folder / "by-stdin"
    folder.mkdir()
    environment = harness.clean_environment(GOTTHARD_CONFIG_DIR=folder)
    child = subprocess.Popen([PROGRAMS["agentd"], "enroll", "-"], stdin=subprocess.PIPE, env=environment,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child.stdin.write(f"  {enroller.token}\n".encode())
    child.stdin.close()
    enroller.answer()
    assert child.wait(harness.LIMIT) == 0
    enroller = Enroller(fleet)
    folder = fleet.folder / "by-argument"
    folder.mkdir()
    child = subprocess.Popen([PROGRAMS["agentd"], "enroll", enroller.token], env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    enroller.request()
    assert pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")[2].strip(b"*") == b"gk1t."
    enroller.answer()
    assert child.wait(harness.LIMIT) == 0


def test_newcomer_may_come_first(fleet):
    """It waits at the relay for the operator's command, which is not there yet."""
    enroller = Enroller(fleet)
    token = enroller.token
    enroller.event("waiting ")
    newcomer = Newcomer(fleet, token)
    newcomer.wait_for("Waiting at|has the request", where=newcomer.out)
    enroller.answer()
    assert newcomer.wait() == 0, newcomer.log()


# --- one use --------------------------------------------------------------------------------------


def test_token_is_of_use_once(fleet):
    enroller = Enroller(fleet)
    first = Newcomer(fleet, enroller.token)
    enroller.answer()
    assert first.wait() == 0, first.log()
    enroller.event("end closed.*")
    assert_failed(Newcomer(fleet, enroller.token), 77, "token was used before")


def test_second_newcomer_fails_at_once(fleet):
    """A thief is first, and waits for the operator: the device is refused, and says why."""
    enroller = Enroller(fleet)
    thief = Newcomer(fleet, enroller.token)
    enroller.request()
    assert_failed(Newcomer(fleet, enroller.token), 77, "another machine uses this token")
    enroller.answer()
    assert thief.wait() == 0


# --- a thief of the token ---------------------------------------------------------------------------


def test_answer_of_a_thief_installs_nothing(fleet):
    """The thief has the whole token, and the relay's keys: K_sess, K_rc and P. It takes the place of the operator."""
    genuine = Enroller(fleet)
    genuine.command("close")
    genuine.event("end.*")
    fleet.processes[0].stop()  # the relay forgets the session
    fleet.relay()
    thief = Enroller(fleet, stolen=genuine.token)
    newcomer = Newcomer(fleet, genuine.token)
    thief.answer()
    assert_failed(newcomer, 77, "the token is in wrong hands. Nothing was installed")


def test_garbage_installs_nothing(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.request()
    enroller.command("garbage")
    assert_failed(newcomer, 77, "Nothing was installed")


# --- the operator says no -----------------------------------------------------------------------------


def test_rejection_is_reported(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.request()
    enroller.command("reject", "the fingerprint\x1b[31m is another one")
    assert_failed(newcomer, 77, r"the operator rejected the request: the fingerprint\\x1b")


def test_end_of_the_command_is_reported(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.request()
    enroller.command("close")
    assert_failed(newcomer, 77, "the operator's command has ended")


# --- the token itself --------------------------------------------------------------------------------


def test_expired_token_is_refused_by_the_relay(fleet):
    enroller = Enroller(fleet, seconds=-1)
    assert_failed(Newcomer(fleet, enroller.token), 77, "the relay does not accept the token: it has expired")
    assert re.search(r"refused .*reason=\"its token has expired\"", fleet.processes[0].log())


def test_relay_ends_the_session_of_an_expired_token(fleet):
    enroller = Enroller(fleet, seconds=4)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.request()
    assert_failed(newcomer, 69, "no operator answered before the token expired")


def test_token_of_another_relay_is_refused(fleet):
    enroller = Enroller(fleet)
    fleet.processes[0].stop()
    fleet.relay(env=fleet.relay_environment(GOTTHARD_CRYPT_KEY="ab" * 32))
    assert_failed(Newcomer(fleet, enroller.token), 77, "of another fleet")


@pytest.mark.parametrize("kind, text", [(OPERATOR, "operator"), (RELAY, "relay")])
def test_token_of_another_kind_is_refused(fleet, kind, text):
    assert_failed(Newcomer(fleet, Enroller(fleet, kind=kind).token), 64, f"this token is for a new {text}, not for a new device")


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_damaged_token_is_refused(fleet, cut):
    assert_failed(Newcomer(fleet, Enroller(fleet).token[:-cut]), 64, "token")


def test_unreachable_relay_is_reported(env):
    enroller = Enroller(env)
    newcomer = Newcomer(env, enroller.token)
    newcomer.wait_for(f"the relay localhost:{env.relay_port} cannot be reached: .*; trying again")
    env.relay()
    enroller.answer()
    assert newcomer.wait() == 0


# --- installation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("more, pattern", [
    ({"KEY": "gk1d.other.AAAA"}, "key: not the key of this device"),
    ({"BROKER": 'localhost"; x = "'}, "broker"),
    ({"AUTHORITIES": None}, "certificate authorities: missing"),
    ({"AUTHORITIES": "nothing"}, "ca.crt"),
    ({"CONFIGURATION": "services = {"}, "40-fleet.conf"),
    ({"CONFIGURATION": 'server = { poort = 1; };'}, "40-fleet.conf"),
    ({"ACCESS_LIST": "serial 1\n"}, "access list"),
    ({"PRIVATE_KEY": "a key"}, "private key"),
])
def test_unusable_bundle_leaves_nothing_behind(fleet, more, pattern):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.answer(**more)
    assert newcomer.wait() == 78, newcomer.log()
    assert pattern in newcomer.log()
    is_installed, text = enroller.result()
    assert not is_installed and pattern in text
    assert [name for name in newcomer.files() if name != "agentd.conf.d"] == []


def test_bundle_of_another_kind_is_refused(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    key = fleet.cli("keygen", "operator", "Pump7").stdout.strip()
    enroller.answer(kind=OPERATOR, KEY=key)
    assert_failed(newcomer, 78, "the bundle is for a new operator")


def test_certificate_of_another_key_is_refused(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.answer(CERTIFICATE=(fleet.certificates("other") / "cert.pem").read_text())
    assert newcomer.wait() == 78, newcomer.log()
    assert "enrolled/50-enrolled.conf" not in newcomer.files()


@effect("agentd", "--force")
def test_enrolled_device_is_not_replaced_without_force(fleet):
    folder = enrol(fleet).config
    before = (folder / "enrolled" / "device.key").read_text()
    assert_failed(Newcomer(fleet, Enroller(fleet).token, folder=folder), 78, "enrolled already. --force replaces", ENROLLED)
    newcomer = enrol(fleet, "--force", name="Pump8", folder=folder)
    assert newcomer.files() == [re.sub("^enrolled", "enrolled-2", name) for name in ENROLLED]
    assert (folder / "enrolled-2" / "device.key").read_text() != before
    assert "Pump8" in (folder / "agentd.conf.d" / "50-enrolled.conf").read_text()


def test_failed_replacement_keeps_the_identity(fleet):
    folder = enrol(fleet).config
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token, "--force", folder=folder)
    enroller.answer(name="Pump8", AUTHORITIES="nothing")
    assert newcomer.wait() == 78
    assert newcomer.files() == ENROLLED
    assert "Pump7" in (folder / "agentd.conf.d" / "50-enrolled.conf").read_text()


def test_device_configured_by_hand_is_not_enrolled(fleet):
    folder = fleet.folder / "by-hand"
    (folder / "agentd.conf.d").mkdir(parents=True)
    site = folder / "agentd.conf.d" / "site.conf"
    site.write_text('device = { name = "Pump9"; };\n')
    newcomer = Newcomer(fleet, Enroller(fleet).token, "--force", folder=folder)
    assert_failed(newcomer, 78, f"device.name is set in {site}:1: this machine is configured by hand",
                  ["agentd.conf.d", "agentd.conf.d/site.conf"])


def test_own_settings_stay(fleet):
    """Services and the like in a file of this machine are no identity."""
    folder = fleet.folder / "own"
    (folder / "agentd.conf.d").mkdir(parents=True)
    (folder / "agentd.conf.d" / "site.conf").write_text('services = { web = "127.0.0.1:80"; };\n')
    assert "agentd.conf.d/site.conf" in enrol(fleet, folder=folder).files()


def test_access_list_of_the_bundle_is_in_force(fleet):
    """The broker has no list: the device starts with that of its bundle, and accepts no older one."""
    fleet.broker()
    authority = Authority()
    fingerprint = fleet.cli("fingerprint").stdout.split()[1]
    text = authority.list(5, f"operator alice {fingerprint}")
    folder = fleet.folder / "with-list"
    (folder / "agentd.conf.d").mkdir(parents=True)
    (folder / "agentd.conf.d" / "site.conf").write_text(f'services = {{ ssh = "127.0.0.1:{fleet.target(echo).port}"; }};\n')
    newcomer = enrol(fleet, folder=folder, AUTHORITY=authority.text, ACCESS_LIST=text.decode())
    assert (newcomer.state / "access.list").read_bytes() == text
    assert (newcomer.state / "access.serial").read_text() == f"5 {authority.text}\n"
    agent = agent_of(fleet, newcomer)
    assert "policy=list" in agent.log()
    with fleet.connect("Pump7").dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
    assert fleet.connect("Pump7", name="bob", wait=False).wait() == 77


def test_access_list_of_another_authority_is_refused(fleet):
    enroller = Enroller(fleet)
    newcomer = Newcomer(fleet, enroller.token)
    enroller.answer(AUTHORITY=Authority().text, ACCESS_LIST=Authority().list(5).decode())
    assert_failed(newcomer, 78, "access list: not signed by")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_folder_that_cannot_be_written_costs_no_token(env):
    """There is no relay: nothing was sent."""
    folder = env.folder / "read-only"
    folder.mkdir()
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"; shift; exec "$@"'
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script, "sh", folder, PROGRAMS["agentd"], "enroll", Enroller(env).token],
                          env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder), capture_output=True, text=True, check=False,
                          timeout=harness.LIMIT)
    assert done.returncode == 78 and f"{folder}: Read-only file system" in done.stderr, done.stderr


# --- a bundle file -----------------------------------------------------------------------------------


def bundle_file(env, kind, texts, mode=0o600):
    """Writes a bundle of @texts by the types of their entries; returns its path."""
    data = b"GTB1" + bytes([kind]) + b"".join(
        bytes([entry]) + len(text).to_bytes(4, "big") + text.encode() for entry, text in texts.items() if text)
    path = env.folder / env.unique("bundle-file")
    path.write_bytes(data)
    path.chmod(mode)
    return path


def write_bundle_file(env, name="Pump7", mode=0o600, **more):
    """A bundle file of a device, with a private key that was made for it. @more: other texts, by the types "e3" and so on."""
    certificates = env.certificates(name)
    texts = {1: name, 2: env.cli("keygen", "device", name).stdout.strip(), 3: (certificates / "cert.pem").read_text(),
             4: (certificates / "ca.crt").read_text(), 5: (certificates / "private.key").read_text(),
             6: f"localhost:{env.relay_port}", 7: f"localhost:{env.broker_port}",
             **{int(entry[1:]): text for entry, text in more.items()}}
    return bundle_file(env, DEVICE, texts, mode)


def install(env, path, *options, folder=None, program="agentd"):
    folder = folder or env.folder / env.unique("installed")
    folder.mkdir(exist_ok=True)
    environment = harness.clean_environment(GOTTHARD_CONFIG_DIR=folder)
    return subprocess.run([PROGRAMS[program], "--install", path, *options], env=environment, capture_output=True, text=True,
                          check=False, timeout=harness.LIMIT), folder


@effect("agentd", "--install")
def test_bundle_file_is_installed(env):
    env.broker()
    env.relay()
    path = write_bundle_file(env)
    done, folder = install(env, path)
    assert done.returncode == 0, done.stderr
    assert f"{path} contains the private key of this device: remove it" in done.stdout
    assert (folder / "enrolled" / "private.key").read_text() == (env.certificates("Pump7") / "private.key").read_text()
    env.agent("Pump7", env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder,
                                                     GOTTHARD_AGENT_DATA_PORT=env.target(echo).port))
    with env.connect("Pump7").dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
    done, _ = install(env, path, folder=folder)
    assert done.returncode == 78 and "--force" in done.stderr
    done, _ = install(env, path, "--force", folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("more, mode, pattern", [
    ({}, 0o644, "must not be accessible by others|0644"),
    ({"e5": None}, 0o600, "private key: missing"),
    ({"e3": "x"}, 0o600, "cert.pem"),
    ({"e12": "x"}, 0o600, "unknown type 12"),
])
def test_unusable_bundle_file_installs_nothing(env, more, mode, pattern):
    done, folder = install(env, write_bundle_file(env, mode=mode, **more))
    assert done.returncode == 78 and re.search(pattern, done.stderr), done.stderr
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_other_files_are_no_bundle(env):
    path = env.folder / "other"
    path.write_bytes(b"not a bundle")
    path.chmod(0o600)
    done, _ = install(env, path)
    assert done.returncode == 78 and "not a bundle" in done.stderr
    done, _ = install(env, env.folder / "missing")
    assert done.returncode == 78 and "missing" in done.stderr


SERVICE = """
mount -t tmpfs none /run && mkdir -p /run/systemd/system
cp /etc/group "$1/group" && echo gotthard-agentd:x:4242: >> "$1/group" && mount --bind "$1/group" /etc/group
shift; exec "$@"
"""


@effect("agentd", "--no-start")
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
@pytest.mark.parametrize("options, status, calls", [
    ([], 0, ["enable gotthard-agentd.service", "restart gotthard-agentd.service"]),
    (["--no-start"], 0, []),
    ([], 69, ["enable gotthard-agentd.service"]),
])
def test_service_is_started(env, options, status, calls):
    """On a machine with systemd and the group of the package, seen by a program in its own mount namespace."""
    folder = env.folder / "etc"
    folder.mkdir()
    systemctl = env.folder / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {env.folder}/calls\nexit {status}\n')
    systemctl.chmod(0o755)
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", SERVICE, "sh", env.folder, PROGRAMS["agentd"], "--install",
                           write_bundle_file(env), *options], capture_output=True, text=True, check=False, timeout=harness.LIMIT,
                          env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder, PATH=f"{systemctl.parent}:{os.environ['PATH']}"))
    assert done.returncode == status, done.stderr
    assert bool(re.search(r"Each hop from here to the operators:\n.*configuration", done.stdout)) == (status == 0 and calls != []), done.stdout
    found = env.folder / "calls"
    assert (found.read_text().splitlines() if found.exists() else []) == calls
    for path in folder.rglob("*"):
        if path.name != "agentd.conf.d":
            assert path.stat().st_gid == 4242 and stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


# --- relays -------------------------------------------------------------------------------------------


def relay_with(env, folder, **more):
    """Starts a relay with the configuration of an enrolment, and ports of its own."""
    return harness.Process(env, env.unique("relayd"), [PROGRAMS["relayd"]], env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder, **more))


def client_is_welcome(env, port):
    """A client with a key of the fleet gets WELCOME at @port."""
    env.clients, env.relay_port, first = [], port, env.relay_port
    child = Client(env, "g1:d:GatewayOli").child
    env.relay_port = first
    child.kill()
    return child.wait() is not None


@effect("relayd", "--force", "--no-start")
def test_relay_is_enrolled(fleet):
    """A second relay, by a token that the first one carries. Clients of the fleet may use it."""
    port, ports = harness.free_ports(1), harness.free_ports(5)
    settings = f"server = {{ port = {port}; ports_from = {ports}; ports_to = {ports + 4}; }};\n"
    enroller = Enroller(fleet, kind=RELAY)
    newcomer = Newcomer(fleet, enroller.token, "--no-start", program="relayd")
    enroller.answer_relay(CONFIGURATION=settings)
    assert newcomer.wait() == 0, newcomer.log()
    assert newcomer.files() == ["enrolled", "enrolled/relay.key", "relayd.conf.d", "relayd.conf.d/40-fleet.conf",
                                "relayd.conf.d/50-enrolled.conf"]
    relay_with(fleet, newcomer.config).wait_for(f"listening port={port} ")
    assert client_is_welcome(fleet, port)
    again = Newcomer(fleet, Enroller(fleet, kind=RELAY).token, folder=newcomer.config, program="relayd")
    assert again.wait() == 78 and "--force" in again.log()
    enroller = Enroller(fleet, kind=RELAY)
    newcomer = Newcomer(fleet, enroller.token, "--force", folder=newcomer.config, program="relayd")
    enroller.answer_relay()
    assert newcomer.wait() == 0, newcomer.log()
    assert newcomer.files() == ["enrolled-2", "enrolled-2/relay.key", "relayd.conf.d", "relayd.conf.d/40-fleet.conf",
                                "relayd.conf.d/50-enrolled.conf"]
    assert str(port) not in (newcomer.config / "relayd.conf.d" / "40-fleet.conf").read_text()


def test_relay_refuses_the_token_of_a_device(fleet):
    assert_failed(Newcomer(fleet, Enroller(fleet).token, program="relayd"), 64, "this token is for a new device, not for a new relay")


@pytest.mark.parametrize("more, pattern", [
    ({"KEY": "gk1r.AAAA"}, "key: not the key of this relay"),
    ({"CONFIGURATION": "server = { port = 70000; };"}, "40-fleet.conf:1: server.port"),
    ({"CERTIFICATE": "x"}, "certificate: not for a new relay"),
])
def test_unusable_bundle_of_a_relay_leaves_nothing_behind(fleet, more, pattern):
    enroller = Enroller(fleet, kind=RELAY)
    newcomer = Newcomer(fleet, enroller.token, program="relayd")
    enroller.answer_relay(**more)
    assert newcomer.wait() == 78 and pattern in newcomer.log(), newcomer.log()
    assert [name for name in newcomer.files() if name != "relayd.conf.d"] == []


@effect("relayd", "--install")
def test_relay_is_installed_by_a_file(env):
    port, ports = harness.free_ports(1), harness.free_ports(5)
    path = bundle_file(env, RELAY, {2: env.cli("keygen", "relay").stdout.strip(),
                                    10: f"server = {{ port = {port}; ports_from = {ports}; ports_to = {ports + 4}; }};\n"})
    done, folder = install(env, path, program="relayd")
    assert done.returncode == 0 and f"{path} contains the key of the relay: remove it" in done.stdout, done.stderr
    relay_with(env, folder).wait_for(f"listening port={port} ")
    done, _ = install(env, write_bundle_file(env), program="relayd")
    assert done.returncode == 78 and "a bundle for a new device" in done.stderr


@pytest.mark.parametrize("program", ["agentd", "relayd"])
@pytest.mark.parametrize("words", [["--force"], ["--no-start"], ["enroll", "a", "b"], ["enroll", "--log-level", "debug"],
                                   ["--install"], ["enroll", "/nonexistent/token"], ["enroll", "--check-config"],
                                   ["enroll", "gk1t.", "--install", "file"], ["token"], ["--reload", "--force"]])
def test_usage_errors(env, words, program):
    done = subprocess.run([PROGRAMS[program], *words], env=harness.clean_environment(GOTTHARD_CONFIG_DIR=env.folder),
                          capture_output=True, text=True, check=False, timeout=harness.LIMIT)
    assert done.returncode == 64 and done.stderr, (words, done.stderr)
