# SPDX-License-Identifier: ISC
"""`enroll`, `join`, `add` and `ca`: the operator's side of an enrolment, with the real programs on both sides."""

import base64
import calendar
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import time

import pytest

import harness
from access_list import open_list
from enroller import Newcomer
from harness import LIMIT, PROGRAMS, ROOT, Authority, Process, clean_environment, echo, receive_exactly
from setting_markers import effect, private_file
from test_cli import error_id

CLI = PROGRAMS["cli"]
SCRIPT = ROOT / "etc" / "make-certificate-example"


class Fleet:
    """The operator "admin" with the fleet key, the tests' certificate authority, and perhaps the authority of the access list."""

    def __init__(self, env):
        self.env = env
        self.ca = env.folder / "ca"
        self.ca.mkdir(mode=0o700)
        for name in ("ca.key", "ca.crt"):
            private_file(self.ca / name, (Authority.shared().folder / name).read_text())
        self.key = env.folder / "authority.key"
        self.list = env.folder / "authority.key.list"
        self.more = {"GOTTHARD_CRYPT_IV": env.iv, "GOTTHARD_ENROLL_CA": self.ca}

    def run(self, *args, **more):
        return self.env.cli(*args, name="admin", **{**self.more, **more})

    def good(self, *args, **more):
        done = self.run(*args, **more)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done

    def init_access(self):
        self.more["GOTTHARD_TRUST_AUTHORITY_KEY"] = self.key
        self.public = self.good("access", "init").stdout.strip()

    def lines(self):
        return open_list(self.public, self.list.read_bytes())[1]

    def enroll(self, *args, **more):
        """Starts the command. With --yes, unless the test decides otherwise."""
        return Enroll(self, args, more)

    def broken(self, *args, **more):
        """Runs a command that ends before it prints a token."""
        done = self.run("enroll", *args, "--yes", **more)
        assert "gk1t" not in done.stdout
        return done


class Enroll(Process):
    def __init__(self, fleet, args, more):
        super().__init__(fleet.env, fleet.env.unique("enroll"), [CLI, "enroll", *args],
                         env=fleet.env.cli_environment("admin", **{**fleet.more, **more}))

    @property
    def token(self):
        return self.wait_for(r"^(gk1t\.\S+)$", where=self.out)[1]


@pytest.fixture
def fleet(env):
    env.broker()
    env.relay()
    return Fleet(env)


def newcomer(fleet, token, *options, **more):
    return Newcomer(fleet.env, token, *options, **more)


def agent_of(fleet, device, **more):
    variables = {"GOTTHARD_AGENT_DATA_PORT": fleet.env.target(echo).port, **more}
    return fleet.env.agent("Pump7", env=clean_environment(GOTTHARD_CONFIG_DIR=device.config, STATE_DIRECTORY=device.state, **variables))


def assert_echo(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert receive_exactly(sock, 5) == b"hello"


def certificate(path, *options):
    return subprocess.run(["openssl", "x509", "-in", path, "-noout", *options], check=True, capture_output=True, text=True).stdout


def enrol(fleet, name="Pump7", *args, **more):
    """Returns the device, enrolled."""
    command = fleet.enroll(name, "--yes", *args, **more)
    device = newcomer(fleet, command.token)
    assert device.wait() == 0, (device.log(), command.log())
    assert command.wait() == 0, command.log()
    return device


# --- the certificate authority --------------------------------------------------------------------


@effect("cli", "enroll.ca")
def test_ca_init_makes_an_authority_that_nobody_else_reads(env):
    folder = env.folder / "own"
    done = env.cli("ca", "init", GOTTHARD_ENROLL_CA=folder)
    assert done.returncode == 0 and done.stdout == f"{folder}/ca.crt\n", done.stderr
    assert stat.S_IMODE(os.stat(folder / "ca.key").st_mode) == 0o600 and stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert "CA:TRUE, pathlen:0" in certificate(folder / "ca.crt", "-ext", "basicConstraints")
    subprocess.run(["openssl", "verify", "-CAfile", folder / "ca.crt", folder / "ca.crt"], check=True, capture_output=True)
    before = (folder / "ca.key").read_bytes()
    done = env.cli("ca", "init", GOTTHARD_ENROLL_CA=folder)
    assert done.returncode == 78 and error_id(done) == "GTD-E17" and "never overwritten" in done.stderr
    assert (folder / "ca.key").read_bytes() == before
    done = env.cli("ca", "init")
    assert done.returncode == 78 and "enroll.ca is not set" in done.stderr
    assert env.cli("ca", "sign", GOTTHARD_ENROLL_CA=folder).returncode == 64


def own_authority(fleet):
    """The certificate authority of `ca init`, which lives for twenty years, in place of the tests' one."""
    folder = fleet.env.folder / "own"
    fleet.more["GOTTHARD_ENROLL_CA"] = folder
    fleet.good("ca", "init")
    return folder


def test_authority_is_that_of_the_script_for_the_broker(fleet):
    """make-certificate-example issues the broker's certificate in the same folder, and revokes a device that was enrolled."""
    folder = own_authority(fleet)

    def script(*args):
        return subprocess.run([SCRIPT, *args], cwd=folder, check=True, capture_output=True, text=True).stdout

    script("broker", "localhost")
    device = enrol(fleet)
    for path in (folder / "broker/cert.pem", device.config / "enrolled/cert.pem"):
        subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", folder / "ca.crt", path], check=True, capture_output=True)
    serial = certificate(device.config / "enrolled/cert.pem", "-serial").strip().split("=")[1]
    assert (folder / "ca.issued" / f"{serial}.pem").read_bytes() == (device.config / "enrolled/cert.pem").read_bytes()
    assert f"\t{serial}\tunknown\t/CN=Pump7\n" in (folder / "ca.index").read_text()
    assert "Pump7 is revoked" in script("--revoke", "Pump7")
    crl = subprocess.run(["openssl", "crl", "-in", folder / "ca.crl", "-noout", "-text"], check=True, capture_output=True, text=True).stdout
    assert serial in crl


def days_left(device):
    end = certificate(device.config / "enrolled/cert.pem", "-enddate").strip().split("=")[1]
    return (calendar.timegm(time.strptime(end, "%b %d %H:%M:%S %Y GMT")) - time.time()) / 86400


@effect("cli", "enroll.validity")
def test_validity_of_certificates(fleet):
    assert abs(days_left(enrol(fleet)) - 2) < 0.1  # no certificate outlives its authority, here the tests' one
    own_authority(fleet)
    assert abs(days_left(enrol(fleet)) - 3650) < 0.1
    assert abs(days_left(enrol(fleet, GOTTHARD_ENROLL_VALIDITY="30d")) - 30) < 0.1


# --- the whole way --------------------------------------------------------------------------------


@effect("cli", "--yes")
def test_enrolled_device_is_listed_and_reachable(fleet):
    fleet.init_access()
    fleet.good("access", "add", "operator", "admin", fleet.good("fingerprint").stdout.split()[1])
    device = enrol(fleet)
    assert fleet.lines()[1].startswith("device Pump7 ")
    text = (device.config / "agentd.conf.d/50-enrolled.conf").read_text()
    assert f'authority = "{fleet.public}"' in text
    assert certificate(device.config / "enrolled/cert.pem", "-subject").strip().endswith("CN = Pump7")
    agent_of(fleet, device).wait_for("access list serial=2 .*in force|access list.*serial=2")
    trust = {"GOTTHARD_TRUST_AUTHORITY": fleet.public}
    assert_echo(fleet.env.connect("Pump7", name="admin", **trust))


def test_enrolled_device_without_an_access_list(fleet):
    """The operator gets the line for pins."""
    command = fleet.enroll("Pump7", "--yes")
    device = newcomer(fleet, command.token)
    assert device.wait() == 0 and command.wait() == 0, device.log()
    assert re.search(r"pin files of operators: Pump7 [0-9a-f]{64}", command.log())
    agent_of(fleet, device)
    assert_echo(fleet.env.connect("Pump7"))


def test_settings_of_the_fleet_reach_the_device(fleet):
    fleet.env.PREFIX = "fleet/one"
    device = enrol(fleet, GOTTHARD_MQTT_PREFIX="fleet/one")
    assert 'prefix = "fleet/one"' in (device.config / "agentd.conf.d/40-fleet.conf").read_text()


def test_claims_of_the_newcomer_do_not_count(fleet):
    """The request's subject is another name; the certificate has that of the command line."""
    device = enrol(fleet, "GatewayOli")
    assert certificate(device.config / "enrolled/cert.pem", "-subject").strip() == "subject=CN = GatewayOli"
    assert 'name = "GatewayOli"' in (device.config / "agentd.conf.d/50-enrolled.conf").read_text()


@effect("cli", "--for")
def test_life_of_a_token(fleet):
    for args, seconds in (((), 3600), (("--for", "5min"), 300)):
        command = fleet.enroll("Pump7", "--yes", *args)
        payload = command.token.split(".")[-1]
        body = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        assert abs(int.from_bytes(body[1:5], "big") - time.time() - seconds) < 30
        command.stop()
    for text in ("30s", "8d", "soon"):
        assert fleet.broken("Pump7", "--for", text).returncode == 64


def test_events_of_json(fleet):
    command = fleet.enroll("Pump7", "--yes", "--json")
    token = json.loads(command.wait_for(r'^(.*"event": ?"token".*)$', where=command.out)[1])
    assert token["name"] == "Pump7" and token["kind"] == "device"
    device = newcomer(fleet, token["token"])
    assert device.wait() == 0 and command.wait() == 0
    events = [json.loads(line) for line in command.out().splitlines()]
    assert [event["event"] for event in events if event["event"] != "waiting"] == ["token", "request", "enrolled"]
    assert events[-1]["fingerprint"] == next(e for e in events if e["event"] == "request")["fingerprint"]


# --- who decides ----------------------------------------------------------------------------------


def shown_fingerprint(device):
    return device.wait_for(r"^  ((?:[0-9a-f]{4} ?){16})$", where=device.out)[1].strip()


@effect("cli", "--fingerprint")
def test_fingerprint_on_the_command_line_decides(fleet):
    command = fleet.enroll("Pump7", "--fingerprint", "00" * 32)
    device = newcomer(fleet, command.token)
    assert device.wait() == 77 and "another fingerprint" in device.log()
    assert command.wait() == 77 and "GTD-E18" in command.log() and "nothing was issued" in command.log()
    assert device.files() == []
    assert not (fleet.ca / "ca.index").exists()
    assert fleet.run("enroll", "Pump7", "--fingerprint", "1234").returncode == 64


def test_matching_fingerprint_is_accepted(fleet):
    """A newcomer that is asked for: the fingerprint as it is shown, with blanks."""
    terminal = OnTerminal(fleet, "Pump7")
    device = newcomer(fleet, terminal.token())
    fingerprint = shown_fingerprint(device)
    assert fingerprint in terminal.wait_for("[y/N]")
    terminal.type("y\n")
    assert device.wait() == 0, device.log()
    assert terminal.wait() == 0
    command = fleet.enroll("Pump8", "--fingerprint", fingerprint)
    device = newcomer(fleet, command.token)
    assert device.wait() == 77  # the key is a new one
    assert command.wait() == 77


class OnTerminal:
    """The command with standard input and error on a pseudo-terminal."""

    def __init__(self, fleet, *args):
        self.reader, terminal = pty.openpty()
        self.child = subprocess.Popen([CLI, "enroll", *args], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, text=True,
                                      env=fleet.env.cli_environment("admin", **{**fleet.more, "TERM": "xterm", "LANG": "C.UTF-8"}))
        os.close(terminal)
        self.text = ""

    def token(self):
        return self.child.stdout.readline().strip()

    def wait_for(self, words):
        end = time.monotonic() + LIMIT
        while words not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.reader], [], [], 1)[0]:
                self.text += os.read(self.reader, 65536).decode()
        return self.text

    def type(self, text):
        os.write(self.reader, text.encode())

    def wait(self):
        code = self.child.wait(LIMIT)
        os.close(self.reader)
        return code


MODULES = {" ": (0, 0), "\u2580": (1, 0), "\u2584": (0, 1), "\u2588": (1, 1)}  # light ones


@effect("cli", "--qr")
def test_token_as_a_qr_code(fleet):
    """The finder patterns of three corners are there, dark on light, and nothing without a terminal."""
    terminal = OnTerminal(fleet, "Pump7", "--qr")
    terminal.token()
    terminal.wait_for("Waiting")
    lines = [line for line in re.sub(r"\x1b\[[\d;]*m", "", terminal.text).splitlines() if re.fullmatch("[ \u2580\u2584\u2588]{40,}", line)]
    rows = [[MODULES[mark][half] for mark in line] for line in lines for half in (0, 1)]
    n = len(rows[0])
    assert len(rows) - n in (0, 1) and n > 40
    finder = [[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 1], *[[1, 0, 1, 1, 1, 0, 1]] * 3, [1, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1]]
    for top, left in ((2, 2), (2, n - 9), (n - 9, 2)):
        assert [[1 - light for light in row[left:left + 7]] for row in rows[top:top + 7]] == finder
    terminal.child.terminate()
    terminal.wait()
    command = fleet.enroll("Pump7", "--yes", "--qr")
    command.wait_for("no QR code: standard error is no terminal")
    assert command.token and "\u2588" not in command.log()
    command.stop()


@pytest.mark.parametrize("line", ["n\n", "\n", "yes, why not\n"])
def test_question_is_answered_by_yes_only(fleet, line):
    terminal = OnTerminal(fleet, "Pump7")
    device = newcomer(fleet, terminal.token())
    assert "same fingerprint? [y/N]" in terminal.wait_for("[y/N]")
    terminal.type(line)
    is_agreed = line.startswith("y")
    assert device.wait() == (0 if is_agreed else 77)
    assert terminal.wait() == (0 if is_agreed else 77)
    assert bool(device.files()) == is_agreed


def test_without_a_terminal_the_decision_is_on_the_command_line(fleet):
    done = fleet.run("enroll", "Pump7")
    assert done.returncode == 64 and "give --fingerprint, or --yes" in done.stderr and done.stdout == ""


# --- one use --------------------------------------------------------------------------------------


def test_token_is_used_once(fleet):
    command = fleet.enroll("Pump7", "--yes")
    token = command.token
    assert newcomer(fleet, token).wait() == 0 and command.wait() == 0
    second = newcomer(fleet, token)
    assert second.wait() == 77 and second.files() == []


def test_interrupted_command_makes_the_token_worthless(fleet):
    command = fleet.enroll("Pump7", "--yes")
    token = command.token
    command.wait_for("waiting at the relay")
    command.send(signal.SIGINT)
    assert command.wait() == 130 and "worthless" in command.log()
    again = fleet.enroll("Pump7", "--yes")
    assert again.token != token
    device = newcomer(fleet, token)
    device.wait_for("Waiting at|was used before", where=lambda: device.out() + device.log())
    assert device.files() == []


def test_newcomer_that_goes_away_ends_the_command(fleet):
    terminal = OnTerminal(fleet, "Pump7")
    device = newcomer(fleet, terminal.token())
    terminal.wait_for("[y/N]")
    device.stop(signal.SIGKILL)
    terminal.wait_for("GTD-E36")
    assert terminal.wait() == 69


# --- refusals before a token ----------------------------------------------------------------------


def test_only_the_fleet_key_enrols(fleet):
    done = fleet.broken("Pump7", GOTTHARD_CRYPT_KEY=fleet.env.operator_key("admin"))
    assert done.returncode == 78 and error_id(done) == "GTD-E11" and "only the fleet key" in done.stderr


def test_settings_that_are_missing_are_named(fleet):
    for variable, words in (("GOTTHARD_ENROLL_CA", "enroll.ca is not set"), ("GOTTHARD_MQTT_ENDPOINT", "mqtt.endpoint is not set"),
                            ("GOTTHARD_SERVER_HOST", "no address is configured for the relay")):
        done = fleet.broken("Pump7", **{variable: None})
        assert done.returncode == 78 and words in done.stderr, done.stderr
    (fleet.ca / "ca.key").chmod(0o644)
    done = fleet.broken("Pump7")
    assert done.returncode == 78 and error_id(done) == "GTD-E17" and "must not be accessible" in done.stderr


@pytest.mark.parametrize("args, words", [
    (["enroll-6b49d200-8af81024"], "invalid name"),
    (["a/b"], "invalid name"),
    (["Pump7", "services=ssh"], "rights are a matter of the access list"),
])
def test_names_and_rights_that_are_not_possible(fleet, args, words):
    done = fleet.broken(*args)
    assert done.returncode == 64 and words in done.stderr


@effect("cli", "--replace")
def test_name_of_the_list_is_replaced_on_request_and_a_revoked_one_never(fleet):
    fleet.init_access()
    enrol(fleet)
    assert "the access list has no operator admin" in next(fleet.env.folder.glob("enroll-*.log")).read_text()
    before = fleet.lines()
    done = fleet.broken("Pump7")
    assert done.returncode == 77 and error_id(done) == "GTD-E19" and "--replace" in done.stderr
    enrol(fleet, "Pump7", "--replace")
    after = fleet.lines()
    assert len(after) == 1 and after[0].startswith("device Pump7 ") and after != before
    fleet.good("access", "remove", "device", "Pump7")
    for args in ((), ("--replace",)):
        done = fleet.broken("Pump7", *args)
        assert done.returncode == 77 and error_id(done) == "GTD-E19" and "is revoked" in done.stderr


def test_rights_are_checked_before_the_token(fleet):
    fleet.init_access()
    done = fleet.broken("--operator", "bob", "rights=all")
    assert done.returncode == 64 and "unknown word after the fingerprint" in done.stderr


# --- another authority ----------------------------------------------------------------------------


@effect("cli", "enroll.sign_command")
def test_command_that_signs_in_place_of_the_authority(fleet):
    signed = fleet.env.folder / "signed"
    command = (f"printf '%s %s' $KIND $NAME >{signed}; openssl x509 -req -CA {fleet.ca}/ca.crt -CAkey {fleet.ca}/ca.key "
               "-CAcreateserial -days 1 2>/dev/null")
    more = {"GOTTHARD_ENROLL_SIGN_COMMAND": command}
    device = enrol(fleet, **more)
    assert signed.read_text() == "device Pump7"
    assert (device.config / "enrolled/cert.pem").exists() and not (fleet.ca / "ca.index").exists()
    enrol(fleet, "Pump8", **more, GOTTHARD_ENROLL_CA=None)


def test_example_that_signs_at_aws(fleet):
    """With an `aws` that notes its calls, and signs as the tests' authority."""
    folder = fleet.env.folder / "bin"
    private_file(folder / "aws", f"""\
#!/bin/sh
printf '%s %s %s\\n' "$2" "$3" "$4" | head -n 1 >>{folder}/calls
[ "$2" = create-certificate-from-csr ] || exit 0
pem=$(printf '%s\\n' "$5" | openssl x509 -req -CA {fleet.ca}/ca.crt -CAkey {fleet.ca}/ca.key -CAcreateserial -days 1 2>/dev/null)
jq -n --arg pem "$pem" '{{certificateArn: "arn:1", certificatePem: $pem}}'
""", 0o700)
    more = {"GOTTHARD_ENROLL_SIGN_COMMAND": ROOT / "etc/aws-sign-example", "PATH": f"{folder}:{os.environ['PATH']}"}
    enrol(fleet, **more)
    calls = (folder / "calls").read_text().splitlines()
    assert calls == ["create-certificate-from-csr --set-as-active --certificate-signing-request", "create-thing --thing-name Pump7",
                     "attach-policy --policy-name gotthard-device", "attach-thing-principal --thing-name Pump7"]


@pytest.mark.parametrize("command, words", [
    ("exit 3", "it ended with status 3"),
    ("cat", "contains CERTIFICATE REQUEST"),
    ("true", "the file is empty"),
    (f"cat {ROOT}/nothing 2>/dev/null || cat $OTHER", "of another key than the request"),
])
def test_command_that_signs_badly_issues_nothing(fleet, command, words):
    fleet.init_access()
    more = {"GOTTHARD_ENROLL_CA": None, "GOTTHARD_ENROLL_SIGN_COMMAND": command, "OTHER": fleet.ca / "ca.crt"}
    running = fleet.enroll("Pump7", "--yes", **more)
    device = newcomer(fleet, running.token)
    assert device.wait() == 77 and device.files() == []
    assert running.wait() == 78 and words in running.log() and "GTD-E17" in running.log()
    assert not fleet.list.exists()


# --- operators ------------------------------------------------------------------------------------


class Joining(Process):
    def __init__(self, fleet, token, *options, home=None):
        self.home = home or fleet.env.folder / fleet.env.unique("home")
        self.home.mkdir(exist_ok=True, mode=0o700)
        self.config = self.home / ".config/gotthard"
        self.variables = clean_environment(HOME=self.home, XDG_STATE_HOME=self.home / "state")
        path = private_file(fleet.env.folder / fleet.env.unique("token"), f"{token}\n")
        super().__init__(fleet.env, fleet.env.unique("join"), [CLI, "join", path, *options], env=self.variables)


@effect("cli", "--operator")
def test_operator_joins_and_connects(fleet):
    """From nothing to a tunnel: a second operator needs a token and the rights at the broker."""
    fleet.init_access()
    device = enrol(fleet)
    agent = agent_of(fleet, device)
    command = fleet.enroll("--operator", "bob", "services=ssh", "--yes")
    bob = Joining(fleet, command.token)
    assert bob.wait() == 0, (bob.log(), command.log())
    assert command.wait() == 0
    assert 'permit "operator bob" to write gotthard/v1/d/+/req' in " ".join(command.log().split())
    assert re.fullmatch(r"operator bob [0-9a-f]{64} services=ssh", fleet.lines()[1])
    agent.wait_for("access list serial=2 ")
    files = {str(path.relative_to(bob.config)) for path in bob.config.rglob("*") if path.is_file()}
    assert files == {"cli.conf.d/50-enrolled.conf", "enrolled/operator.key", "enrolled/private.key", "enrolled/cert.pem", "enrolled/ca.crt"}
    for path in bob.config.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.suffix == ".conf" or path.is_dir(), path
    assert certificate(bob.config / "enrolled/cert.pem", "-subject").strip() == "subject=CN = operator bob"
    tunnel = fleet.env.connect("Pump7", env={**bob.variables, "GOTTHARD_CLIENT_PORT": "0"})
    assert_echo(tunnel)
    agent.wait_for("operator=bob")
    done = subprocess.run([CLI, "config", "show"], env=bob.variables, capture_output=True, text=True, check=True)
    assert f'authority = "{fleet.public}"' in done.stdout


@effect("cli", "--force")
def test_operator_joins_a_second_time_by_force_only(fleet):
    command = fleet.enroll("--operator", "bob", "--yes")
    bob = Joining(fleet, command.token)
    assert bob.wait() == 0 and command.wait() == 0, bob.log()
    before = (bob.config / "enrolled/private.key").read_bytes()
    command = fleet.enroll("--operator", "bob", "--yes")
    again = Joining(fleet, command.token, home=bob.home)
    assert again.wait() == 78 and "--force" in again.log()
    assert (bob.config / "enrolled/private.key").read_bytes() == before
    again = Joining(fleet, command.token, "--force", home=bob.home)
    assert again.wait() == 0 and command.wait() == 0, again.log()
    assert not (bob.config / "enrolled").exists() and (bob.config / "enrolled-2/private.key").read_bytes() != before


def test_own_configuration_is_never_overwritten(fleet):
    home = fleet.env.folder / "alice"
    private_file(home / ".config/gotthard/cli.conf", 'server = { host = "relay.example.org"; };\n')
    home.chmod(0o700)
    command = fleet.enroll("--operator", "bob", "--yes")
    bob = Joining(fleet, command.token, home=home)
    assert bob.wait() == 78 and "server.host is set in" in bob.log()
    assert sorted(path.name for path in bob.config.iterdir()) == ["cli.conf"]
    command.stop()


def test_tokens_of_another_kind_are_refused(fleet):
    command = fleet.enroll("Pump7", "--yes")
    bob = Joining(fleet, command.token)
    assert bob.wait() == 77 and "for a new device" in bob.log()
    command.stop()
    command = fleet.enroll("--operator", "bob", "--yes")
    device = newcomer(fleet, command.token)
    assert device.wait() != 0 and "for a new operator" in device.log() and device.files() == []
    command.stop()
    for word in ("gk1t.localhost:7000.AAAA", "/nonexistent"):
        done = subprocess.run([CLI, "join", word], env=clean_environment(), capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 77 and error_id(done) == "GTD-E18" and done.stdout == ""


def test_rejected_operator_gets_nothing(fleet):
    command = fleet.enroll("--operator", "bob", "--fingerprint", "00" * 32)
    bob = Joining(fleet, command.token)
    assert bob.wait() == 77 and "GTD-E18" in bob.log()
    assert not bob.config.exists() or list(bob.config.rglob("*.key")) == []
    assert command.wait() == 77


# --- without a network ----------------------------------------------------------------------------


@effect("cli", "--output")
def test_device_is_added_without_a_network(fleet):
    fleet.init_access()
    fleet.good("access", "add", "operator", "admin", fleet.good("fingerprint").stdout.split()[1])
    path = fleet.env.folder / "Pump7.bundle"
    done = fleet.good("add", "device", "Pump7", "--output", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "private key of the device" in done.stderr
    assert b"PRIVATE KEY" in path.read_bytes() and fleet.env.key.encode() not in path.read_bytes()
    config, state = fleet.env.folder / "installed", fleet.env.folder / "installed-state"
    config.mkdir()
    state.mkdir(mode=0o700)
    variables = {"GOTTHARD_CONFIG_DIR": config, "STATE_DIRECTORY": state}
    done = subprocess.run([PROGRAMS["agentd"], "--install", path], env=clean_environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fleet.env.agent("Pump7", env=clean_environment(GOTTHARD_AGENT_DATA_PORT=fleet.env.target(echo).port, **variables))
    assert_echo(fleet.env.connect("Pump7", name="admin", GOTTHARD_TRUST_AUTHORITY=fleet.public))


def test_add_never_overwrites_a_file(fleet):
    path = private_file(fleet.env.folder / "there", "text")
    done = fleet.run("add", "device", "Pump7", "--output", path)
    assert done.returncode == 64 and "never overwritten" in done.stderr and path.read_text() == "text"
    assert fleet.run("add", "device", "Pump7").returncode == 64
    assert fleet.run("add", "operator", "bob", "--output", fleet.env.folder / "x").returncode == 64
    assert not (fleet.ca / "ca.index").exists()


def test_first_relay_is_added_by_a_file(fleet):
    """It has the relay's key only, and authenticates the fleet's operators."""
    path = fleet.env.folder / "relay.bundle"
    fleet.good("add", "relay", "main", "--output", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and b"gk1r." in path.read_bytes() and b"PRIVATE" not in path.read_bytes()
    config = fleet.env.folder / "relay-config"
    config.mkdir()
    done = subprocess.run([PROGRAMS["relayd"], "--install", path], env=clean_environment(GOTTHARD_CONFIG_DIR=config), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fleet.env.relay_port = harness.free_ports(1)
    fleet.env.relay(env=clean_environment(GOTTHARD_CONFIG_DIR=config, GOTTHARD_SERVER_PORT=fleet.env.relay_port,
                                          GOTTHARD_SERVER_PORTS_FROM=fleet.env.relay_ports, GOTTHARD_SERVER_PORTS_TO=fleet.env.relay_ports + 19))
    enrol(fleet)


@effect("cli", "--new-relay")
def test_further_relay_is_enrolled_through_the_first(fleet):
    command = fleet.enroll("second", "--new-relay", "--yes")
    relay = newcomer(fleet, command.token, program="relayd")
    assert relay.wait() == 0 and command.wait() == 0, (relay.log(), command.log())
    assert (relay.config / "enrolled/relay.key").read_text().startswith("gk1r.")
    assert not (fleet.ca / "ca.index").exists()
    assert fleet.run("enroll", "x", "--new-relay", "--operator", "--yes").returncode == 64
