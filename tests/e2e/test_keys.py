# SPDX-License-Identifier: ISC
"""A wrong key opens no tunnel, and payload cannot be read in transit."""

import base64
import hashlib
import hmac
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import harness
from harness import echo, vectors, wait_until
from test_broker import capture
from test_sessions import read_tag, tagged


@pytest.fixture
def parts(env):
    env.broker()
    env.relay()
    env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    return env


def assert_no_worker(env):
    agent = next(p for p in env.processes if "agentd" in p.name)
    assert not harness.children_of(agent.pid)


@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}],
                         ids=["key", "iv"])
def test_operator_with_the_wrong_key(parts, wrong):
    """Without the key neither side can read the other's messages: the device looks absent."""
    done = parts.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_TIMEOUTS_ANSWER="2s", **wrong)
    assert done.returncode == 69 and ("GTD-E30" in done.stderr or "GTD-E32" in done.stderr), done.stderr
    assert_no_worker(parts)


@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}],
                         ids=["key", "iv"])
def test_relay_with_the_wrong_key(env, wrong):
    """The relay does not know our PSK: no tunnel, and an error for the operator."""
    env.broker()
    env.relay(env=env.relay_environment(**wrong))
    env.agent()
    done = env.cli("connect", "GatewayOli", "0:ssh")
    # the relay rejects the device as well, whose report may be faster: the relay is at fault
    assert (done.returncode, done.stderr.count("GTD-E51"), done.stderr.count("GTD-E54")) == (77, 1, 0), done.stderr


def test_derived_keys_are_restricted_to_their_role(env):
    """gk1r for the relay, gk1d for the device: both work, and each is rejected by the other programs."""
    env.broker()
    relay_key = env.cli("keygen", "relay").stdout.strip()
    device_key = env.cli("keygen", "device", "GatewayOli").stdout.strip()
    assert relay_key.startswith("gk1r.") and device_key.startswith("gk1d.GatewayOli.")
    relay = env.relay(env=env.relay_environment(GOTTHARD_CRYPT_KEY=relay_key, GOTTHARD_CRYPT_IV=None))
    agent = env.agent(GOTTHARD_CRYPT_KEY=device_key, GOTTHARD_CRYPT_IV=None,
                      GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    assert read_tag(env.connect()) == "<oli!>"
    for process in (relay, agent):
        assert "crypt.key is the fleet key" not in process.log()
    # a stolen device is not an operator, and not another device
    posing = env.cli("connect", "GatewayOli", GOTTHARD_CRYPT_KEY=device_key)
    assert posing.returncode == 78, posing.stderr
    other = env.agent("GatewayEli", wait=False, GOTTHARD_CRYPT_KEY=device_key)
    assert other.wait() == 78
    # an agent without a last good configuration, which it would start with
    for args, variables in ((["relayd"], env.relay_environment(GOTTHARD_CRYPT_KEY=device_key)),
                            (["agentd"], env.agent_environment("GatewayOli", GOTTHARD_CRYPT_KEY=relay_key, STATE_DIRECTORY=None)),
                            (["cli", "connect", "GatewayOli"], env.cli_environment(GOTTHARD_CRYPT_KEY=relay_key))):
        done = subprocess.run([harness.PROGRAMS[args[0]], *args[1:]], env=variables, capture_output=True, timeout=harness.LIMIT,
                              check=False)
        assert done.returncode == 78, done.stderr


def other_pair(env, name, *options):
    """Certificate and key of another kind, by the authority of this test, for the broker and for signatures."""
    folder = env.folder / "others" / name
    shutil.copytree(env.certificates(name), folder)
    authority = harness.Authority.shared().folder
    if options[0] == "ec":
        make = ["openssl", "ecparam", "-name", options[1], "-genkey", "-noout"]
    else:
        make = ["openssl", "genpkey", "-algorithm", *options]
    (folder / "private.key").write_bytes(subprocess.run(make, check=True, capture_output=True).stdout)
    subprocess.run(["openssl", "req", "-new", "-key", folder / "private.key", "-subj", f"/CN={name}", "-out", folder / "request"],
                   check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", folder / "request", "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key",
                    "-days", "2", "-set_serial", "77", "-out", folder / "cert.pem"], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("kind, signs", [
    (("ec", "secp521r1"), False), (("ec", "secp256k1"), False), (("ED448",), False), (("RSA-PSS",), False), (("ED25519",), True),
    (("ec", "secp384r1"), True)], ids=lambda value: "-".join(value) if isinstance(value, tuple) else "")
def test_each_kind_of_key_works_under_psk(env, kind, signs):
    """A certificate that TLS accepts is enough where no signature is needed. One that cannot sign is named."""
    is_tls = kind != ("ec", "secp256k1")  # TLS 1.3 has no signature scheme for it
    env.broker(tls=is_tls)
    env.relay()
    endpoint = {"GOTTHARD_MQTT_ENDPOINT": f"{'mqtts' if is_tls else 'mqtt'}://localhost:{env.broker_port}"}
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port,
                      GOTTHARD_AWS_CERT_PATH=other_pair(env, "GatewayOli", *kind), **endpoint)
    tunnel = env.connect(GOTTHARD_AWS_CERT_PATH=other_pair(env, "alice", *kind), **endpoint)
    assert read_tag(tunnel) == "<oli!>"
    assert ("does not sign" in agent.log()) == ("does not sign" in tunnel.log()) == (not signs)
    done = env.cli("fingerprint", GOTTHARD_AWS_CERT_PATH=env.folder / "others/alice")
    assert done.returncode == (0 if signs else 78), done.stderr


def test_fleet_key_everywhere_warns(parts):
    for name in ("relayd", "agentd"):
        process = next(p for p in parts.processes if name in p.name)
        assert "crypt.key is the fleet key" in process.log(), process.log()


def test_key_rotation(env):
    """Devices accept the new key while operators still use the old one, and vice versa."""
    env.broker()
    old, new = env.key, secrets.token_hex(32)
    env.relay()
    env.agent(GOTTHARD_CRYPT_KEY=old, GOTTHARD_CRYPT_KEY_PREVIOUS=new,
              GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<oli!>")).port)
    assert read_tag(env.connect(GOTTHARD_CRYPT_KEY=old)) == "<oli!>"
    done = env.cli("connect", "GatewayOli", GOTTHARD_CRYPT_KEY=secrets.token_hex(32), GOTTHARD_TIMEOUTS_ANSWER="2s")
    assert done.returncode == 69


def test_server_ignores_psk(parts):
    """A TLS server with a certificate, even one by our own authority, is not the relay."""
    certs = parts.certificates("broker")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "cert.pem", certs / "private.key")
    context.set_alpn_protocols(["gotthard-r/1"])
    listener = socket.create_server(("127.0.0.1", 0))
    received = []

    def serve():
        while True:
            try:
                raw, _ = listener.accept()
                with context.wrap_socket(raw, server_side=True) as tls:
                    received.append(tls.recv(100))
            except ssl.SSLError:
                continue
            except OSError:
                if listener.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    done = parts.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_SERVER_PORT=listener.getsockname()[1])
    listener.close()
    assert done.returncode == 77 and "GTD-E51" in done.stderr, done.stderr
    assert not any(received), "the operator sent it a byte"


def test_nothing_leaks(env):
    """A canary in the payload and every form of the keys: in no packet on loopback, no MQTT message and no log."""
    if not shutil.which("tcpdump"):
        pytest.skip("tcpdump is not installed")
    env.broker()
    env.relay("--log-level", "debug")
    env.agent("GatewayOli", "--log-level", "debug", GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    ports = [env.broker_port, *range(env.relay_ports, env.relay_ports + env.n_relay_ports), env.relay_port]
    capture_file = env.folder / "pcap"
    dump = harness.Process(env, "tcpdump", ["tcpdump", "-i", "lo", "-U", "-s", "0", "-w", capture_file,
                                            " or ".join(f"port {p}" for p in ports)])
    try:
        dump.wait_for("listening on")
    except AssertionError:
        pytest.skip("no right to capture packets here")
    messages = capture(env, "#")
    canary = secrets.token_hex(32).encode()
    tunnel = env.connect(options=("--log-level", "debug"))
    with tunnel.dial() as sock:
        for _ in range(100):
            sock.sendall(canary)
            assert harness.receive_exactly(sock, 64) == canary
    tunnel.disconnect()
    wait_until(lambda: capture_file.stat().st_size > 64 * 200, "packets are captured")
    dump.stop()
    raw = bytes.fromhex(env.key)
    forms = [canary, raw, env.key.encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw).rstrip(b"=")]
    places = {"packets": capture_file.read_bytes(), "messages": b"".join(p for _, p in messages.messages())}
    places.update({p.name: p.log_path.read_bytes() + p.out_path.read_bytes() for p in env.processes
                   if p.name.startswith(("relayd", "agentd", "cli"))})
    assert len(places["packets"]) > 20000
    for place, content in places.items():
        for form in forms:
            assert form not in content, f"{place} shows {form[:12]}..."


def test_secrets_are_not_in_the_environment_of_a_running_service(parts):
    if os.getuid() != 0:
        pytest.skip("only root sees the environment of a process that is not dumpable")
    for name in ("relayd", "agentd"):
        process = next(p for p in parts.processes if name in p.name)
        with open(f"/proc/{process.pid}/environ", "rb") as environ:
            assert parts.key.encode() not in environ.read()
        with open(f"/proc/{process.pid}/cmdline", "rb") as cmdline:
            assert parts.key.encode() not in cmdline.read()


def memory_of(pid):
    """Yields the content of all writable mappings, as a debugger run by root reads them."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            span, rights = line.split()[:2]
            first, last = (int(x, 16) for x in span.split("-"))
            if not rights.startswith("rw"):
                continue
            try:
                mem.seek(first)
                yield mem.read(last - first)
            except (OSError, OverflowError):
                continue


@pytest.mark.skipif(os.getuid() != 0, reason="only root can read the memory of a process that is not dumpable")
@pytest.mark.skipif(harness.SANITIZER != "none", reason="a sanitizer keeps freed memory")
@pytest.mark.parametrize("how", ["variable", "file", "own"])
def test_tunnel_erases_fleet_key(parts, how):
    """An operator's process runs for hours. Keys of other devices are erased from its memory when the tunnel is up."""
    variables = parts.cli_environment(**({} if how == "own" else {"GOTTHARD_CRYPT_KEY": parts.key}))
    own = variables["GOTTHARD_CRYPT_KEY"]
    if how == "file":
        path = parts.folder / "key"
        path.write_text(variables.pop("GOTTHARD_CRYPT_KEY") + "\n")
        path.chmod(0o600)
        variables["GOTTHARD_CRYPT_KEY_FILE"] = str(path)
    tunnel = parts.connect(env=variables)
    assert read_tag(tunnel) == "<oli!>"
    salt = hashlib.sha256(b"gotthard/1 salt" + bytes.fromhex(parts.iv)).digest()
    raw = bytes.fromhex(parts.key)
    master = hmac.digest(salt, raw, "sha256")
    devices = vectors.X(master, b"devices", b"", 32)
    agent = next(p for p in parts.processes if "agentd" in p.name)
    for pid in (tunnel.pid, *harness.children_of(agent.pid)):  # the device's worker never had it
        memory = b"".join(memory_of(pid))
        assert len(memory) > 100000
        for secret in (parts.key.encode(), raw, master, devices, own.encode()):
            assert secret not in memory
