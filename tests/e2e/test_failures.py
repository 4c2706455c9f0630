# SPDX-License-Identifier: ISC
"""Every error of gotthard-cli as an operator reads it: each id is provoked with the real programs, and the test reads its
sentence, its hint and its exit status. The operator has files, so no hint names a variable."""

import collections
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

import harness
from harness import LIMIT, PROGRAMS, ROOT, clean_environment

Failure = collections.namedtuple("Failure", "id exit message hint text")

# The ids whose sentence is read by a test of another file.
ELSEWHERE = {
}


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
           rf"^renew cert.pem in {re.escape(operator.at('mqtt.cert_path'))}$")
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


def test_server_without_mqtt(env):
    listener, port = server(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with listener:
        operator = Operator(env, mqtt__endpoint=f"mqtt://127.0.0.1:{port}", mqtt__version="3.1.1")
        expect(operator.fails("connect", "GatewayOli"), "GTD-E23", 76, "the answer is not MQTT|closed without an answer to CONNECT",
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
