# SPDX-License-Identifier: ISC
"""Every error of gotthard-cli as an operator reads it: each id is provoked with the real programs, and the test reads its
sentence, its hint and its exit status. The operator has files, so no hint names a variable."""

import collections
import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
import netns
from harness import LIMIT, PROGRAMS, ROOT, clean_environment

Failure = collections.namedtuple("Failure", "id exit message hint text")

# The ids whose sentence is read by a test of another file.
ELSEWHERE = {
    "GTD-E45": "e2e/test_revocation.py::assert_withdrawn",
    "GTD-E47": "e2e/test_scripts.py::test_tunnel_closed_by_the_other_side",
    "GTD-E53": "faults/test_hostile_operator.py::hostile_operator",
    "GTD-E55": "e2e/test_first_connection.py::test_full_relay_is_final",
    "GTD-E56": "e2e/test_proxies.py::test_wrong_password",
    "GTD-E70": "e2e/test_resume.py::test_after_the_window_both_ends_are_broken",
    "GTD-E71": "e2e/test_limits.py::test_grace_limit_of_the_relay",
    "GTD-E72": "e2e/test_limits.py::test_idle_limit_of_the_relay",
    "GTD-E73": "e2e/test_limits.py::test_lifetime_names_the_program_whose_limit_it_was",
}
# A unit test, because it takes a device of an older version.
UNITS = {"GTD-E48": "gotthard-cli/tests/test-request.c::test_request_of_a_session_with_an_older_device"}


# --- an operator with files ------------------------------------------------------------------------


class Operator:
    """A configuration of files: cli.conf with one setting a line, and the keys in a file."""

    def __init__(self, env, name="alice", **settings):
        self.env = env
        self.folder = env.folder / env.unique("operator")
        self.folder.mkdir(mode=0o700)
        self.settings = {
            "server.host": "localhost", "server.port": env.relay_port, "client.name": name, "client.port": 0,
            "mqtt.endpoint": f"localhost:{env.broker_port}", "mqtt.cert_path": str(env.certificates(name)),
            "crypt.key_file": str(self.write("fleet.key", f"GOTTHARD_CRYPT_KEY={env.key}\nGOTTHARD_CRYPT_IV={env.iv}\n")),
            "crypt.iv_file": str(self.folder / "fleet.key")}
        self.set(**settings)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        os.chmod(path, 0o600)
        return path

    def set(self, **settings):
        """mqtt__endpoint="..."; None removes a setting."""
        for path, value in settings.items():
            self.settings[path.replace("__", ".")] = value
        self.settings = {path: value for path, value in self.settings.items() if value is not None}
        groups = {}
        for path, value in self.settings.items():
            group, name = path.split(".")
            groups.setdefault(group, []).append(f"    {name} = {value if isinstance(value, int) else json.dumps(value)};\n")
        self.lines = "".join(f"{group} = {{\n{''.join(lines)}}};\n" for group, lines in groups.items())
        self.write("cli.conf", self.lines)

    def at(self, path):
        """The setting with its place, as hints name it."""
        group, name = path.split(".")
        lines = self.lines.splitlines()
        begin = lines.index(f"{group} = {{")
        line = next(n for n in range(begin, len(lines)) if lines[n].startswith(f"    {name} ="))
        return f"{path} ({self.folder}/cli.conf:{line + 1})"

    def environment(self, **more):
        return clean_environment(GOTTHARD_CONFIG_DIR=self.folder, **more)

    def run(self, *args, **more):
        return subprocess.run([str(PROGRAMS["cli"]), *map(str, args)], capture_output=True, text=True, timeout=LIMIT * 2,
                              env=self.environment(**more), cwd=self.folder, stdin=subprocess.DEVNULL, check=False)

    def fails(self, *args, **more):
        """Runs a command that fails, and returns its last failure. Checks what holds for all of them."""
        done = self.run(*args, "--json", **more)
        return checked(done)


def checked(done):
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [event for event in events if event.get("event") == "error"]
    assert errors, done.stdout + done.stderr
    last = errors[-1]
    failure = Failure(last["id"], last["exit"], last["message"], last["hint"], done.stdout + done.stderr)
    assert done.returncode == failure.exit, failure
    for text in (failure.message, failure.hint):
        assert text and text == text.strip() and "{" not in text, failure
        assert not re.search(r"GOTTHARD_|\bDEVICE\b|OpenSSL|SSL routines|error:|\(null\)", text), failure
    return failure


def expect(failure, id_, exit_, message, hint):
    assert (failure.id, failure.exit) == (id_, exit_), failure
    assert re.search(message, failure.message), failure
    assert re.search(hint, failure.hint), failure


def day(path):
    """The end of a certificate, as messages write it."""
    text = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-enddate"], check=True, capture_output=True, text=True).stdout
    at = time.strptime(text.strip().split("=")[1], "%b %d %H:%M:%S %Y %Z")
    return time.strftime("%Y-%m-%d", at)


# --- certificates ----------------------------------------------------------------------------------


class OwnAuthority:
    """An authority whose certificates have any dates and names."""

    def __init__(self, folder, name="other authority"):
        self.folder = folder
        folder.mkdir()
        (folder / "ca.conf").write_text(
            f"[ca]\ndefault_ca = x\n[x]\ndir = {folder}\ndatabase = {folder}/index\nserial = {folder}/serial\n"
            f"new_certs_dir = {folder}\nprivate_key = {folder}/ca.key\ncertificate = {folder}/ca.crt\ndefault_md = sha256\n"
            f"policy = p\nunique_subject = no\ncopy_extensions = copy\n[p]\ncommonName = supplied\n")
        (folder / "index").write_text("")
        (folder / "serial").write_text("01\n")
        harness._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "4000",
                         "-subj", f"/CN={name}", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")

    def issue(self, name, first="20200101000000Z", last="20490101000000Z", host="localhost"):
        """Returns a folder of private.key, cert.pem and ca.crt."""
        folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        harness._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                         "-addext", f"subjectAltName=DNS:{host}", "-keyout", folder / "private.key", "-out", folder / "request")
        harness._openssl("ca", "-config", self.folder / "ca.conf", "-batch", "-notext", "-startdate", first, "-enddate", last,
                         "-in", folder / "request", "-out", folder / "cert.pem")
        shutil.copy(self.folder / "ca.crt", folder)
        os.chmod(folder / "private.key", 0o600)
        return folder


def broker_with(env, certificates, extra=""):
    """A mosquitto with another certificate; it trusts the authority of the environment."""
    config = env.folder / "other.conf"
    config.write_text(f"""\
user {subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()}
listener {env.broker_port} 127.0.0.1
log_dest stderr
allow_anonymous true
cafile {certificates}/ca.crt
certfile {certificates}/cert.pem
keyfile {certificates}/private.key
{extra}""")
    broker = harness.Process(env, env.unique("broker"), ["mosquitto", "-c", config])
    harness.wait_until(lambda: harness.is_listening(env.broker_port) or not broker.is_running(), "the broker listens")
    assert broker.is_running(), broker.log()
    return broker


def agent_reason(env, pattern, **more):
    """The agent's log has the same sentence, and a hint with the origin of the setting."""
    agent = env.agent(wait=False, **more)
    line = agent.wait_for(pattern)
    agent.stop()
    return line


def test_certificate_of_broker_expired(env):
    issuer = OwnAuthority(env.folder / "issuer")
    broker_with(env, issuer.issue("b.example", "20200101000000Z", "20201231000000Z"))
    operator = Operator(env)
    shutil.copy(issuer.folder / "ca.crt", operator.settings["mqtt.cert_path"])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    expect(operator.fails("connect", "GatewayOli"), "GTD-E22", 77,
           rf"^broker localhost:\d+: TLS: the certificate localhost expired on 2020-12-31 \(today is {today} here\)$",
           "renew the certificate at the broker; if the date here is wrong, set the clock")


def test_certificate_of_broker_not_yet_valid(env):
    issuer = OwnAuthority(env.folder / "issuer")
    broker_with(env, issuer.issue("b.example", "20480101000000Z"))
    operator = Operator(env)
    shutil.copy(issuer.folder / "ca.crt", operator.settings["mqtt.cert_path"])
    expect(operator.fails("connect", "GatewayOli"), "GTD-E22", 77,
           r"TLS: the certificate localhost is valid from 2048-01-01 \(today is 20..-..-.. here\)$", "set the clock of this machine")


def test_certificate_of_broker_for_another_name(env):
    issuer = OwnAuthority(env.folder / "issuer")
    broker_with(env, issuer.issue("b.example", host="b.example"))
    operator = Operator(env)
    shutil.copy(issuer.folder / "ca.crt", operator.settings["mqtt.cert_path"])
    expect(operator.fails("connect", "GatewayOli"), "GTD-E22", 77,
           "TLS: the broker's certificate is for b.example, not for localhost$",
           rf"a name of the certificate into {re.escape(operator.at('mqtt.endpoint'))}; a login page of the network")


def test_certificate_of_unknown_authority(env):
    broker_with(env, OwnAuthority(env.folder / "issuer").issue("b.example"))
    operator = Operator(env)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E22", 77,
           "TLS: the certificate localhost is from other authority, which is not a trusted authority$",
           rf"into ca.crt in {re.escape(operator.at('mqtt.cert_path'))}; a login page")
    line = agent_reason(env, r'broker not reachable .*"TLS: the certificate localhost is from other authority.*')
    assert "hint=" in line.string and "GOTTHARD_AWS_CERT_PATH" in line.string


def test_clock_of_1970(env):
    """A machine without a battery for its clock, and without a time server."""
    env.broker()
    operator = Operator(env)
    shift = env.folder / "shift"
    shift.write_bytes((-int(time.time()) + 86400).to_bytes(8, "little", signed=True))
    preload = {"LD_PRELOAD": harness.BUILD / "tests/preload/shim-clock.so", "CLOCK_SHIFT": shift}
    failure = operator.fails("connect", "GatewayOli", **preload)
    expect(failure, "GTD-E13", 78, r"the clock of this machine is wrong, it shows 1970-01-0\d: the certificate .* is valid from 20",
           "^set the clock of this machine; without a clock battery it needs a time server")


# --- this side's certificate -----------------------------------------------------------------------


def own_certificate(env, operator, folder):
    """Gives the operator another certificate, with the authority of the broker."""
    shutil.copy(env.certificates("alice") / "ca.crt", folder)
    operator.set(mqtt__cert_path=str(folder))


def test_own_certificate_expired(env):
    issuer = OwnAuthority(env.folder / "issuer")
    folder = issuer.issue("alice", "20200101000000Z", "20201231000000Z")
    certs = env.certificates("broker")
    with (certs / "ca.crt").open("a") as both:
        both.write((issuer.folder / "ca.crt").read_text())
    env.broker()
    operator = Operator(env)
    own_certificate(env, operator, folder)
    failure = operator.fails("connect", "GatewayOli")
    expect(failure, "GTD-E14", 78,
           r"TLS: the broker rejects the certificate alice of this side, which expired on 2020-12-31 \(today is 20..-..-.. here\)$",
           rf"^renew cert.pem in {re.escape(operator.at('mqtt.cert_path'))}: make-certificate-example --renew FOLDER")
    assert f"{folder}/cert.pem: the certificate alice expired on 2020-12-31" in failure.text
    line = agent_reason(env, r'broker not reachable .*"TLS: the broker rejects the certificate alice of this side, which expired',
                        GOTTHARD_AWS_CERT_PATH=folder)
    assert "hint=\"renew cert.pem in GOTTHARD_AWS_CERT_PATH" in line.string
    assert "cert.pem: the certificate alice expired on 2020-12-31" in line.string


def test_own_certificate_ends_soon(env):
    """A warning 30 days ahead, by both programs; the connection works."""
    issuer = OwnAuthority(env.folder / "issuer")
    last = time.time() + 20.5 * 86400
    folder = issuer.issue("alice", "20200101000000Z", time.strftime("%Y%m%d%H%M%SZ", time.gmtime(last)))
    with (env.certificates("broker") / "ca.crt").open("a") as both:
        both.write((issuer.folder / "ca.crt").read_text())
    env.broker()
    operator = Operator(env)
    own_certificate(env, operator, folder)
    words = f"{folder}/cert.pem: the certificate alice expires on {time.strftime('%Y-%m-%d', time.gmtime(last))}, in 20 days"
    assert words in operator.run("devices").stderr
    assert words in agent_reason(env, "expires on", GOTTHARD_AWS_CERT_PATH=folder).string
    assert "expires" not in Operator(env).run("devices").stderr


def test_own_certificate_of_another_authority(env):
    env.broker()
    operator = Operator(env)
    own_certificate(env, operator, OwnAuthority(env.folder / "issuer").issue("alice"))
    expect(operator.fails("connect", "GatewayOli"), "GTD-E21", 77,
           "TLS: the broker rejects the certificate alice of this side: it does not know the authority other authority$",
           rf"as cert.pem in {re.escape(operator.at('mqtt.cert_path'))}, or add the authority at the broker")


def test_own_certificate_missing(env):
    env.broker()
    operator = Operator(env)
    folder = operator.folder / "only-ca"
    folder.mkdir()
    shutil.copy(env.certificates("alice") / "ca.crt", folder)
    operator.set(mqtt__cert_path=str(folder))
    expect(operator.fails("connect", "GatewayOli"), "GTD-E21", 77,
           "it needs a certificate of this side, which has none$",
           rf"^put cert.pem and private.key into {re.escape(operator.at('mqtt.cert_path'))}$")


# --- other servers ---------------------------------------------------------------------------------


def server(answer):
    """A TCP server that sends `answer` to each connection after the first bytes, and closes. Returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.recv(4096)
                sock.sendall(answer)
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                try:
                    while sock.recv(4096):
                        pass
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize("answer, message, hint", [
    (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "the server answers with HTTP in place of TLS$", "a login page"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "the port does not use TLS; mqtt:// connects without it$", "check the port in "),
    (b"\x15\x03\x03\x00\x02\x02\x46", "the broker has no TLS 1.2 or newer$", "update the broker"),
    (b"\x15\x03\x03\x00\x02\x02\x50", r"the handshake with the broker failed \(internal error\)$", "check the port in "),
])
def test_server_without_mqtt_over_tls(env, answer, message, hint):
    listener, port = server(answer)
    with listener:
        operator = Operator(env, mqtt__endpoint=f"localhost:{port}")
        failure = operator.fails("connect", "GatewayOli")
        expect(failure, "GTD-E23", 76, rf"^broker localhost:{port}: TLS: {message}", hint)
        if "port" in hint:
            assert operator.at("mqtt.endpoint") in failure.hint


@pytest.mark.parametrize("answer, id_, exit_, message", [
    (b"\x20\0", "GTD-E23", 76, "the answer is not MQTT; is this the broker's port, and does it need TLS[?]$"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "GTD-E20", 69, "closed without an answer to CONNECT; is this the broker's port[?]$"),
])
def test_server_without_mqtt(env, answer, id_, exit_, message):
    listener, port = server(answer)
    with listener:
        operator = Operator(env, mqtt__endpoint=f"mqtt://127.0.0.1:{port}", mqtt__version="3.1.1")
        expect(operator.fails("connect", "GatewayOli"), id_, exit_, message,
               rf"check host and port of {re.escape(operator.at('mqtt.endpoint'))}")


def test_broker_down(env):
    operator = Operator(env)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E20", 69, rf"^broker localhost:{env.broker_port}: Connection refused$",
           rf"check that it runs. check host and port of {re.escape(operator.at('mqtt.endpoint'))}")


def test_broker_rejects_password(env):
    passwords = env.folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "alice", "right"], check=True, capture_output=True)
    os.chmod(passwords, 0o600)
    env.broker(tls=False, extra=f"allow_anonymous false\npassword_file {passwords}\n")
    operator = Operator(env, mqtt__endpoint=f"mqtt://127.0.0.1:{env.broker_port}", mqtt__username="alice")
    operator.set(mqtt__password_file=str(operator.write("password", "wrong\n")))
    # mosquitto has one answer for both, and MQTT has another one for a password
    expect(operator.fails("connect", "GatewayOli"), "GTD-E21", 77, "refused by the broker: Not authorized$",
           rf"it identifies itself by {re.escape(operator.at('mqtt.username'))}, mqtt.password \({operator.folder}/password\)")


def test_broker_rejects_client_id(env):
    env.broker(extra="clientid_prefixes device-\n")
    operator = Operator(env)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E21", 77, "refused by the broker: ",
           "permit this client")


# --- the resolver ----------------------------------------------------------------------------------


class NameServer:
    """A private network with a name server of any manner: packets to 127.0.0.1:53 get `rcode`, or no answer (None)."""

    def __init__(self, rcode):
        if os.getuid() != 0:
            pytest.skip("only root makes network namespaces")
        self.name = f"gotthard-{os.urandom(4).hex()}-dns"
        self.folder = pathlib.Path("/etc/netns") / self.name
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self.folder.mkdir(parents=True)
        (self.folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
        with netns.inside(self.name):
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind(("127.0.0.1", 53))
        self.rcode = rcode
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                packet, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            if self.rcode is not None:
                end = packet.index(b"\0", 12) + 5
                self.sock.sendto(packet[:2] + bytes([0x81, 0x80 | self.rcode]) + packet[4:6] + b"\0" * 6 + packet[12:end], peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


@pytest.mark.parametrize("rcode, why, hint", [
    (3, "there is no such name", "check the spelling in "),
    (0, "the name exists, but has no address", "check the spelling in "),
    (2, r"the name server fails \(SERVFAIL\), or cannot be reached", "check the name server of this machine"),
    (None, r"no name server has answered within \d+ s", "check the name server of this machine"),
])
def test_resolver(env, rcode, why, hint):
    operator = Operator(env, mqtt__endpoint="broker.example.org")
    with NameServer(rcode) as server:
        done = subprocess.run(["ip", "netns", "exec", server.name, str(PROGRAMS["cli"]), "connect", "GatewayOli", "--json"],
                              capture_output=True, text=True, timeout=LIMIT, env=operator.environment(), stdin=subprocess.DEVNULL,
                              check=False)
    failure = checked(done)
    expect(failure, "GTD-E20", 69, rf"^broker broker.example.org: the host name cannot be resolved \({why}\)$", hint)
    if "spelling" in hint:
        assert operator.at("mqtt.endpoint") in failure.hint


def test_broker_drops_packets(env):
    """A firewall, or a machine that is off: nothing answers the attempt to connect. A full backlog drops SYNs as well."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        operator = Operator(env, mqtt__endpoint=f"127.0.0.1:{listener.getsockname()[1]}")
        failure = operator.fails("connect", "GatewayOli")
    expect(failure, "GTD-E20", 69, r"^broker 127.0.0.1:\d+: no answer to the connection attempt within \d+ s$",
           rf"^a firewall drops the packets, or the machine is off: check host and port of {re.escape(operator.at('mqtt.endpoint'))}")


# --- the operator's settings -----------------------------------------------------------------------


def test_no_broker(env):
    operator = Operator(env, mqtt__endpoint=None)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E10", 78, "^no broker: mqtt.endpoint is not set$",
           r"^set mqtt.endpoint in \S+/cli.conf: the broker's host$")


def test_no_relay(env):
    operator = Operator(env, server__host=None)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E10", 78, 'no address is configured for the relay "main"$',
           r"^set server.host in \S+/cli.conf$")


def test_no_key(env):
    operator = Operator(env, crypt__key_file=None)
    expect(operator.fails("connect", "GatewayOli"), "GTD-E11", 78, "^no fleet key: crypt.key is not set$",
           r"^set crypt.key_file in \S+/cli.conf; gotthard-cli keygen > fleet.key generates one for a new fleet$")


def test_key_of_zeros(env):
    operator = Operator(env)
    operator.write("fleet.key", f"GOTTHARD_CRYPT_KEY={'0' * 64}\nGOTTHARD_CRYPT_IV={env.iv}\n")
    expect(operator.fails("connect", "GatewayOli"), "GTD-E11", 78, "^crypt.key: ", rf"check crypt.key \({operator.folder}/fleet.key\)")


def test_variables_are_named_to_their_users(env):
    """Hints name variables to an operator who has no files."""
    done = env.cli("connect", "GatewayOli", "--json")
    event = [json.loads(line) for line in done.stdout.splitlines()][-1]
    assert event["id"] == "GTD-E20" and "check host and port of GOTTHARD_MQTT_ENDPOINT:" in event["hint"], event


def test_command_line(env):
    done = env.cli("connect", "--json")
    assert done.returncode == 64 and "GTD-E12" in done.stdout and "missing argument" in done.stdout, done.stdout + done.stderr


# --- rights at the broker --------------------------------------------------------------------------


def test_operator_without_rights(env):
    """No line of the access rules names this operator."""
    env.broker()
    env.agent()
    operator = Operator(env, "carol", timeouts__answer="3s")
    prefix = env.PREFIX
    rights = (f'^add to acl_file of mosquitto, then reload it: "user carol", "topic write {prefix}/d/\\+/req", '
              f'"topic read {prefix}/d/\\+/rsp/carol", "topic read {prefix}/d/\\+/state"$')
    expect(operator.fails("connect", "GatewayOli"), "GTD-E21", 77, "^the broker refused the request to GatewayOli: Not authorized$", rights)


def test_operator_with_the_name_of_another(env):
    """The certificate is alice's, and the settings say bob."""
    env.broker()
    env.agent()
    operator = Operator(env, client__name="bob")
    started = time.monotonic()
    failure = operator.fails("connect", "GatewayOli")
    assert time.monotonic() - started < 15, "it waits for timeouts.answer"
    expect(failure, "GTD-E21", 77, 'the certificate is for "alice", and client.name is bob$', "correct")
    assert f"correct {operator.at('client.name')}, or cert.pem in {operator.at('mqtt.cert_path')}" in failure.hint, failure
    assert 'cert.pem is for the name "alice", and client.name is bob' in failure.text, failure


# --- the device ------------------------------------------------------------------------------------


@pytest.fixture(name="system")
def system_fixture(env):
    env.broker()
    env.relay()
    return env


def test_device_unknown(system):
    expect(Operator(system).fails("connect", "NoSuch"), "GTD-E30", 69, "^no device named NoSuch: the broker has no state of it, and it did not answer$",
           r"gotthard-cli devices \(names are case-sensitive\)")


def test_device_off(system):
    system.agent().stop()
    expect(Operator(system).fails("connect", "GatewayOli"), "GTD-E31", 69, r"^GatewayOli is offline \(", "power and the network of the device")


def test_agent_hangs(system):
    agent = system.agent()
    agent.send(signal.SIGSTOP)
    try:
        failure = Operator(system, timeouts__answer="3s").fails("connect", "GatewayOli")
    finally:
        agent.send(signal.SIGCONT)
    expect(failure, "GTD-E32", 69, "^GatewayOli is online, but did not answer within 3 s$",
           "its agent may hang, .*: gotthard-cli doctor GatewayOli finds out$")
    assert "key" not in failure.hint


def test_device_with_another_key(system):
    system.agent(GOTTHARD_CRYPT_KEY=secrets.token_hex(32))
    operator = Operator(system, timeouts__answer="3s")
    expect(operator.fails("connect", "GatewayOli"), "GTD-E32", 69, "its state message is encrypted with another key$",
           rf"check crypt.key \({operator.folder}/fleet.key\); .*gotthard-cli keygen device GatewayOli$")


def test_device_with_an_untrusted_answer(system):
    system.agent()
    operator = Operator(system, timeouts__answer="3s")
    operator.set(trust__pins=str(operator.write("devices.pins", f"GatewayOli {'0' * 64}\n")), trust__policy="pin")
    expect(operator.fails("connect", "GatewayOli"), "GTD-E33", 77, "the key of GatewayOli is not pinned in ",
           re.escape(operator.at("trust.pins")))


def test_list_is_empty(system):
    expect(Operator(system).fails("devices"), "GTD-E34", 69, "^the list is not whole: no state of a device came from the broker",
           "name the devices in client.devices")


def test_device_denies_the_operator(system):
    pins = system.folder / "operators.pins"
    pins.write_text("")
    os.chmod(pins, 0o600)
    system.agent(GOTTHARD_TRUST_PINS=pins, GOTTHARD_TRUST_POLICY="pin")
    expect(Operator(system).fails("connect", "GatewayOli"), "GTD-E40", 77, "^GatewayOli does not permit access to this operator$",
           "add a pin for this operator to the pin file of the device")


def test_service_unknown(system):
    system.agent()
    expect(Operator(system).fails("connect", "GatewayOli", "printer"), "GTD-E41", 77, '^GatewayOli does not offer the service "printer" to this operator$',
           "gotthard-cli status GatewayOli")


def test_device_has_too_many_sessions(system):
    system.agent(GOTTHARD_LIMITS_SESSIONS=1)
    system.connect(name="bob")
    failure = Operator(system).fails("connect", "GatewayOli")
    expect(failure, "GTD-E42", 75, "^GatewayOli has reached its maximum number of sessions: limits.sessions",
           "gotthard-cli status GatewayOli shows the sessions; gotthard-cli disconnect GatewayOli --all closes everybody's")
    assert "bob, ssh, up" in system.cli("status", "GatewayOli").stdout or "1 of other operators" in system.cli("status", "GatewayOli").stdout
    assert "closed 1 session" in system.cli("disconnect", "GatewayOli", "--all").stderr
    system.connect(name="alice")


def test_operator_has_too_many_sessions(system):
    """The command of the hint frees a place."""
    system.agent(GOTTHARD_LIMITS_SESSIONS_PER_OPERATOR=1)
    system.connect(name="alice")
    failure = Operator(system).fails("connect", "GatewayOli")
    expect(failure, "GTD-E42", 75, "limits.sessions_per_operator", "^close your sessions: gotthard-cli disconnect GatewayOli$")
    assert "closed 1 session" in system.cli("disconnect", "GatewayOli").stderr
    system.connect(name="alice")


def test_relay_name_unknown_to_the_device(system):
    system.agent()
    operator = Operator(system)
    operator.set(client__relay="alps")
    operator.write("cli.conf", operator.lines + f'relays = {{ alps = "localhost:{system.relay_port}"; }};\n')
    expect(operator.fails("connect", "GatewayOli"), "GTD-E43", 77, '^GatewayOli has no relay named "alps" in its settings$',
           "configure the relay under the same name on both sides")


def test_device_cannot_start_a_session(system):
    agent = system.agent()
    n = max(int(fd) for fd in os.listdir(f"/proc/{agent.pid}/fd")) + 1
    subprocess.run(["prlimit", "--pid", str(agent.pid), f"--nofile={n - 3}"], check=True)  # no descriptor for a worker
    failure = Operator(system).fails("connect", "GatewayOli")
    expect(failure, "GTD-E44", 75, "^GatewayOli could not open a session$", "log of the device")
    assert 'refused service=ssh relay=main reason="Too many open files"' in agent.log()


# --- the relay -------------------------------------------------------------------------------------


def test_relay_down(env):
    env.broker()
    env.agent()
    operator = Operator(env, timeouts__peer="1s")
    expect(operator.fails("connect", "GatewayOli"), "GTD-E50", 69, rf"^relay localhost:{env.relay_port}: [Cc]onnection refused",
           rf"check {re.escape(operator.at('server.host'))} and {re.escape(operator.at('server.port'))}")


def test_relay_of_another_fleet(env):
    env.broker()
    env.relay(env=env.relay_environment(GOTTHARD_CRYPT_KEY=secrets.token_hex(32)))
    env.agent()
    failure = Operator(env, timeouts__peer="2s").fails("connect", "GatewayOli")
    expect(failure, "GTD-E51", 77, rf"localhost:{env.relay_port} rejects this operator and GatewayOli alike",
           "gotthard-cli keygen relay > relay.key")


def test_relay_has_no_free_port(env):
    env.broker()
    env.relay(env=env.relay_environment(GOTTHARD_SERVER_PORTS_FROM=env.relay_ports, GOTTHARD_SERVER_PORTS_TO=env.relay_ports))
    env.agent()
    env.connect(name="bob")
    expect(Operator(env).fails("connect", "GatewayOli"), "GTD-E52", 75, "port",
           "server.ports_from and server.ports_to of the relay")


def test_device_does_not_reach_the_relay(env):
    env.broker()
    env.relay()
    closed = harness.free_ports(1)
    env.agent(GOTTHARD_SERVER_PORT=closed)
    failure = Operator(env, timeouts__peer="3s").fails("connect", "GatewayOli")
    expect(failure, "GTD-E54", 69, rf"^GatewayOli cannot reach its relay localhost:{closed} \(connection refused\); here it is localhost:{env.relay_port}$",
           "server.host and server.port on the device, then systemctl reload gotthard-agentd")


def test_relay_may_not_use_its_port(env):
    """The relay's own message at its start; the port is free, and needs a privilege."""
    if os.getuid() != 0:
        pytest.skip("needs a process without capabilities")
    done = subprocess.run(["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", "--", PROGRAMS["relayd"]],
                          capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False,
                          env=env.relay_environment(GOTTHARD_SERVER_PORT=443))
    if "cannot listen" not in done.stderr:
        pytest.skip("this machine lets everybody use low ports")
    assert done.returncode != 0
    assert re.search(r'cannot listen on \* port 443 reason="Permission denied" hint="a port below 1024 needs CAP_NET_BIND_SERVICE, '
                     r'which the shipped unit has', done.stderr), done.stderr


# --- this machine ----------------------------------------------------------------------------------


def test_local_port_in_use(system):
    system.agent()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        expect(Operator(system).fails("connect", "GatewayOli", f"{port}:ssh"), "GTD-E60", 75, rf"{port}", "another local port, or 0")


def test_local_address_of_another_machine(system):
    system.agent()
    expect(Operator(system).fails("connect", "GatewayOli", "--bind", "192.0.2.1"), "GTD-E61", 77, "192.0.2.1", "--bind takes a numeric address of this machine")


def test_target_of_a_service_is_down(system):
    """`connect` does not try the target before a program does; `doctor` does. The names of ssh's hosts are accepted."""
    closed = harness.free_ports(1)
    system.agent(GOTTHARD_AGENT_DATA_PORT=closed)
    done = Operator(system).run("proxy", "GatewayOli")
    assert done.returncode == 69 and ("[GTD-E46] connection to ssh failed: the target refused the connection; start the program on GatewayOli, "
                                      "or see gotthard-cli doctor GatewayOli") in done.stderr, done.stderr
    assert Operator(system).run("status", "GatewayOli.gotthard").returncode == 0
    done = Operator(system).run("doctor", "GatewayOli.gotthard")
    text = " ".join(done.stdout.split())
    assert done.returncode == 69 and re.search(r"ssh on GatewayOli: the target refused the connection .*start the program on the device.*\[GTD-E46\]", text), done.stdout


def test_no_descriptor_for_a_socket(system):
    """An error that is not of one port."""
    shim = {"LD_PRELOAD": harness.BUILD / "tests/preload/shim-fail.so", "FAIL_CALL": "socket", "FAIL_AT": 1,
            "FAIL_DONE": system.folder / "done", "FAIL_TALLY": system.folder / "tally"}
    if harness.SANITIZER != "none":
        pytest.skip("the sanitizer must be the first library")
    expect(Operator(system).fails("connect", "GatewayOli", **shim), "GTD-E99", 70, "^cannot listen on localhost port 0: Too many open files$",
           "^raise the limit of open files: ulimit -n$")


# --- all of them -----------------------------------------------------------------------------------


def test_every_id_has_a_test():
    """A new id needs a test that reads its sentence: here, or in a file that ELSEWHERE or UNITS names."""
    here = pathlib.Path(__file__).read_text()
    provoked = here[:here.index("# --- all of them")].partition("ELSEWHERE")[2].partition("}")[2]
    numbers = re.findall(r"FAILURE_\w+ = (\d+),", (ROOT / "gotthard-cli/src/failure.h").read_text())
    assert len(numbers) > 25
    for number in numbers:
        id_ = f"GTD-E{number}"
        if id_ in ELSEWHERE:
            assert id_ not in provoked, f"{id_} has a test here"
            name, function = ELSEWHERE[id_].split("::")
            text = (ROOT / "tests" / name).read_text()
            body = re.search(rf"def {function}\(.*?(?=\n(?:def|class|@|# ---)|\Z)", text, re.S)
            assert body and id_ in body[0], ELSEWHERE[id_]
        elif id_ in UNITS:
            name, function = UNITS[id_].split("::")
            assert re.search(rf"\[{id_}\].*?\nstatic void {function}\(", (ROOT / name).read_text(), re.S), UNITS[id_]
        else:
            assert id_ in provoked, f"no test for {id_}"
