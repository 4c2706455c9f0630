# SPDX-License-Identifier: ISC
"""The wrong key opens nothing, and nothing that is carried can be read on the way."""

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
from harness import echo, wait_until
from test_broker import capture
from test_sessions import hear, tagged


@pytest.fixture
def parts(world):
    world.broker()
    world.relay()
    world.agent(GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    return world


def nothing_started(world):
    agent = next(p for p in world.processes if "agentd" in p.name)
    assert not harness.children_of(agent.pid)


@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}],
                         ids=["key", "iv"])
def test_operator_with_the_wrong_key(parts, wrong):
    """Without the key nothing the operator sends is understood, and nothing he hears is: the device is as good as not there."""
    done = parts.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_CLIENT_ANSWER_TIMEOUT="2s", **wrong)
    assert done.returncode == 69 and ("GTD-E30" in done.stderr or "GTD-E32" in done.stderr), done.stderr
    nothing_started(parts)


@pytest.mark.parametrize("wrong", [{"GOTTHARD_CRYPT_KEY": "77" * 32}, {"GOTTHARD_CRYPT_IV": "77" * 16}],
                         ids=["key", "iv"])
def test_relay_with_the_wrong_key(world, wrong):
    """The relay does not know our PSK: no tunnel, and the operator is told so."""
    world.broker()
    # The worker is refused at the same time: from the same address here, and the operator shall not pay for it.
    unpunished = world.config_folder(relayd='limits = { penalty_failed = "0s"; };')
    world.relay(env=world.relay_environment(GOTTHARD_CONFIG_DIR=unpunished, **wrong))
    world.agent()
    done = world.cli("connect", "GatewayOli", "0:ssh")
    assert done.returncode == 77 and "GTD-E51" in done.stderr, done.stderr


def test_derived_keys_hold_no_more_than_they_must(world):
    """gk1r for the relay, gk1d for the device: they work, and each is refused in the others' place."""
    world.broker()
    relay_key = world.cli("keygen", "relay").stdout.strip()
    device_key = world.cli("keygen", "device", "GatewayOli").stdout.strip()
    assert relay_key.startswith("gk1r.") and device_key.startswith("gk1d.GatewayOli.")
    relay = world.relay(env=world.relay_environment(GOTTHARD_CRYPT_KEY=relay_key, GOTTHARD_CRYPT_IV=None))
    agent = world.agent(GOTTHARD_CRYPT_KEY=device_key, GOTTHARD_CRYPT_IV=None,
                        GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    assert hear(world.connect()) == "<oli!>"
    for process in (relay, agent):
        assert "more than" not in process.log()
    # a stolen device is not an operator, and not another device
    posing = world.cli("connect", "GatewayOli", GOTTHARD_CRYPT_KEY=device_key)
    assert posing.returncode == 78, posing.stderr
    other = world.agent("GatewayEli", wait=False, GOTTHARD_CRYPT_KEY=device_key)
    assert other.wait() == 78
    for args, env in ((["relayd"], world.relay_environment(GOTTHARD_CRYPT_KEY=device_key)),
                      (["agentd"], world.agent_environment("GatewayOli", GOTTHARD_CRYPT_KEY=relay_key)),
                      (["cli", "connect", "GatewayOli"], world.cli_environment(GOTTHARD_CRYPT_KEY=relay_key))):
        done = subprocess.run([harness.PROGRAMS[args[0]], *args[1:]], env=env, capture_output=True, timeout=harness.LIMIT,
                              check=False)
        assert done.returncode == 78, done.stderr


def test_fleet_key_everywhere_warns(parts):
    for name in ("relayd", "agentd"):
        process = next(p for p in parts.processes if name in p.name)
        assert "more than" in process.log(), process.log()


def test_key_rotation(world):
    """Devices get the new key while operators still hold the old one, and the other way round."""
    world.broker()
    old, new = world.key, secrets.token_hex(32)
    world.relay()
    world.agent(GOTTHARD_CRYPT_KEY=old, GOTTHARD_CRYPT_KEY_PREVIOUS=new,
                GOTTHARD_AGENT_DATA_PORT=world.target(tagged("<oli!>")).port)
    assert hear(world.connect(GOTTHARD_CRYPT_KEY=old)) == "<oli!>"
    done = world.cli("connect", "GatewayOli", GOTTHARD_CRYPT_KEY=secrets.token_hex(32), GOTTHARD_CLIENT_ANSWER_TIMEOUT="2s")
    assert done.returncode == 69


def test_server_that_ignores_the_psk(parts):
    """A TLS server with a certificate, even one by our own authority, is not the relay."""
    certs = parts.certificates("broker")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "cert.pem", certs / "private.key")
    context.set_alpn_protocols(["gotthard-r/1"])
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        while True:
            try:
                raw, _ = listener.accept()
                with context.wrap_socket(raw, server_side=True) as tls:
                    heard.append(tls.recv(100))
            except ssl.SSLError:
                continue
            except OSError:
                if listener.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    done = parts.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_SERVER_PORT=listener.getsockname()[1])
    listener.close()
    assert done.returncode == 77 and "GTD-E51" in done.stderr, done.stderr
    assert not any(heard), "not a byte was said to it"


def test_nothing_leaks(world):
    """A canary in the payload and every form of the keys: in no packet on loopback, no MQTT message and no log."""
    if not shutil.which("tcpdump"):
        pytest.skip("tcpdump is not installed")
    world.broker()
    world.relay("--log-level", "debug")
    world.agent("GatewayOli", "--log-level", "debug", GOTTHARD_AGENT_DATA_PORT=world.target(echo).port)
    ports = [world.broker_port, *range(world.relay_ports, world.relay_ports + world.n_relay_ports), world.relay_port]
    capture_file = world.folder / "pcap"
    dump = harness.Process(world, "tcpdump", ["tcpdump", "-i", "lo", "-U", "-s", "0", "-w", capture_file,
                                              " or ".join(f"port {p}" for p in ports)])
    try:
        dump.wait_for("listening on")
    except AssertionError:
        pytest.skip("no right to capture packets here")
    messages = capture(world, "#")
    canary = secrets.token_hex(32).encode()
    tunnel = world.connect(options=("--log-level", "debug"))
    with tunnel.dial() as sock:
        for _ in range(100):
            sock.sendall(canary)
            assert harness.receive_exactly(sock, 64) == canary
    tunnel.close_politely()
    wait_until(lambda: capture_file.stat().st_size > 64 * 200, "packets are captured")
    dump.stop()
    raw = bytes.fromhex(world.key)
    forms = [canary, raw, world.key.encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw).rstrip(b"=")]
    places = {"packets": capture_file.read_bytes(), "messages": b"".join(p for _, p in messages.messages())}
    places.update({p.name: p.log_path.read_bytes() + p.out_path.read_bytes() for p in world.processes
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
    """All that can be read of it, as root and with its debugger's eyes."""
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


@pytest.mark.skipif(os.getuid() != 0, reason="a process hides its memory from all but root")
@pytest.mark.skipif(harness.SANITIZER != "none", reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("how", ["variable", "file"])
def test_a_tunnel_does_not_keep_the_fleet_s_key(parts, how):
    """An operator's process runs for hours: what opens other devices is gone from it when the tunnel is up."""
    env = parts.cli_environment()
    if how == "file":
        path = parts.folder / "key"
        path.write_text(env.pop("GOTTHARD_CRYPT_KEY") + "\n")
        path.chmod(0o600)
        env["GOTTHARD_CRYPT_KEY_FILE"] = str(path)
    tunnel = parts.connect(env=env)
    assert hear(tunnel) == "<oli!>"
    salt = hashlib.sha256(b"gotthard/1 salt" + bytes.fromhex(parts.iv)).digest()
    raw = bytes.fromhex(parts.key)
    master = hmac.digest(salt, raw, "sha256")
    agent = next(p for p in parts.processes if "agentd" in p.name)
    for pid in (tunnel.pid, *harness.children_of(agent.pid)):  # the device's worker never had it
        memory = b"".join(memory_of(pid))
        assert len(memory) > 100000
        for secret in (parts.key.encode(), raw, master):
            assert secret not in memory
