# SPDX-License-Identifier: ISC
"""Targets beyond the services: agent.permit. The device alone decides, for each connection, by the address that it dials."""

import contextlib
import socket

import pytest

import harness
from harness import LIMIT
from setting_markers import check, effect, private_file, refuses
from test_agent import reload
from test_restart import session_files
from test_sessions import tagged
from test_tunnel import assert_broken


class At:
    """A target at another loopback address: 127.0.0.5 is as good as a machine behind the device."""

    def __init__(self, host, text):
        self.listener = socket.create_server((host, 0))
        self.listener.settimeout(LIMIT)
        self.host, self.port, self.text = host, self.listener.getsockname()[1], text

    def __str__(self):
        return f"{self.host}:{self.port}"

    def serve(self, tunnel, local):
        """Dials @local, and returns what the client receives."""
        with socket.create_connection(("127.0.0.1", local), timeout=LIMIT) as sock:
            accepted, _ = self.listener.accept()
            with accepted:
                accepted.sendall(self.text)
                return harness.receive_exactly(sock, len(self.text))


@pytest.fixture
def at():
    made = []

    def make(host="127.0.0.5", text=b"<host>"):
        made.append(At(host, text))
        return made[-1]

    yield make
    for target in made:
        target.listener.close()


@pytest.fixture
def system(env):
    env.broker()
    env.relay()
    return env


class Device:
    def __init__(self, env, permit, rights=None, more=""):
        self.env, self.folder = env, env.config_folder(agentd="")
        self.service = env.target(tagged("<ssh!>"))
        self.state = session_files(env)
        self.configure(permit, rights)
        self.agent = env.agent(GOTTHARD_AGENT_DATA_PORT=self.service.port, GOTTHARD_CONFIG_DIR=self.folder, STATE_DIRECTORY=self.state)

    def configure(self, permit, rights=None):
        text = f'agent = {{ permit = "{permit}"; }};'
        if rights is not None:
            pins = self.folder / "operators.pins"
            fingerprint = self.env.cli("fingerprint", name="alice").stdout.split()[1]
            pins.write_text(f"alice {fingerprint} {rights}\n")
            text += f' trust = {{ policy = "pin"; pins = "{pins}"; }};'
        (self.folder / "agentd.conf").write_text(text)

    def restart(self):
        assert self.agent.stop() == 0
        self.agent = self.env.agent(wait=False, GOTTHARD_AGENT_DATA_PORT=self.service.port, GOTTHARD_CONFIG_DIR=self.folder,
                                    STATE_DIRECTORY=self.state)
        self.agent.wait_for("restored pid=")


def ports(tunnel):
    return [event["port"] for event in tunnel.events() if event["event"] == "listening"]


def assert_denied(tunnel, local, count=1):
    with contextlib.suppress(ConnectionResetError):  # perhaps before connect(2) returned
        with socket.create_connection(("127.0.0.1", local), timeout=LIMIT) as sock:
            assert_broken(sock)
    tunnel.event("stream-ended", code=5, count=count)


@effect("agentd", "agent.permit")
@refuses("agentd", "agent.permit")
def test_target_is_reached_if_permitted(system, at):
    """By address, by the name localhost, and by port; nothing else. Without the setting, nothing at all."""
    target, other, local = at(), at(), at("127.0.0.1", b"<port>")
    device = Device(system, f"127.0.0.5:{target.port} localhost:{local.port}")
    tunnel = system.connect("GatewayOli", "0:ssh", f"0:{target}", f"0:localhost:{local.port}", f"0:{local.port}", f"0:{other}")
    ssh, *permitted, denied = ports(tunnel)
    assert target.serve(tunnel, permitted[0]) == b"<host>"
    assert local.serve(tunnel, permitted[1]) == b"<port>"
    assert local.serve(tunnel, permitted[2]) == b"<port>"
    with socket.create_connection(("127.0.0.1", ssh), timeout=LIMIT) as sock:
        assert harness.receive_exactly(sock, 6) == b"<ssh!>"
    assert_denied(tunnel, denied)
    tunnel.wait_for(f"GatewayOli does not permit {other}; services: ssh; agent.permit on the device permits further targets")
    assert tunnel.disconnect() == 0
    assert f'permit="127.0.0.5:{target.port} localhost:{local.port}"' in device.agent.log()
    device.agent.stop()
    system.agent(GOTTHARD_AGENT_DATA_PORT=device.service.port)
    refused = system.cli("connect", "GatewayOli", f"0:{target}")
    assert refused.returncode == 77, refused.stderr
    assert "GTD-E41" in refused.stderr and f"GatewayOli does not permit {target} to this operator" in refused.stderr
    assert "agent.permit" in refused.stderr


def test_wide_network_opens_no_special_address(system, at):
    """Neither by address nor by a name that leads there: loopback needs an entry of its own."""
    target = at("127.0.0.1")
    Device(system, "0.0.0.0/0:* [::/0]:* *.example:*")
    tunnel = system.connect("GatewayOli", "0:ssh", f"0:127.0.0.1:{target.port}", f"0:localhost:{target.port}",
                            f"0:[::1]:{target.port}", f"0:[::ffff:127.0.0.1]:{target.port}", f"0:0.0.0.0:{target.port}",
                            "0:169.254.169.254:80", "0:[fe80::1]:80")
    for n, port in enumerate(ports(tunnel)[1:], start=1):
        assert_denied(tunnel, port, count=n)
    target.listener.settimeout(0.01)
    with pytest.raises(TimeoutError):
        target.listener.accept()


@pytest.mark.parametrize("rights, status", [("services=ssh", 77), ("services=permit", 0), ("services=ssh,permit", 0), ("services=*", 0), ("", 0)])
def test_pin_with_services_needs_the_word_permit(system, at, rights, status):
    target = at()
    Device(system, "127.0.0.5:*", rights)
    if status:
        refused = system.cli("connect", "GatewayOli", f"0:{target}")
        assert refused.returncode == status and "GTD-E41" in refused.stderr, refused.stderr
        tunnel = system.connect("GatewayOli", "0:ssh", f"0:{target}")
        assert_denied(tunnel, ports(tunnel)[1])
    else:
        tunnel = system.connect("GatewayOli", f"0:{target}")
        assert target.serve(tunnel, ports(tunnel)[0]) == b"<host>"


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_withdrawn_targets_end_their_connections(system, at, how):
    """A list that permits all that the session was granted changes nothing. Services are not affected."""
    target = at()
    device = Device(system, f"127.0.0.5:{target.port} 10.0.0.0/9:80")
    tunnel = system.connect("GatewayOli", f"0:{target}", "0:ssh")

    def apply(permit):
        device.configure(permit)
        reload(device.agent) if how == "reload" else device.restart()

    apply(f"10.0.0.0/8:* 127.0.0.0/8:{target.port} plc.local:102")
    assert target.serve(tunnel, ports(tunnel)[0]) == b"<host>"
    with socket.create_connection(("127.0.0.1", ports(tunnel)[0]), timeout=LIMIT) as sock:
        accepted, _ = target.listener.accept()
        with accepted:
            apply("10.0.0.0/8:*")
            assert_broken(sock)
    tunnel.wait_for(f"has withdrawn the access to {target}.*GTD-E45")
    device.agent.wait_for("permitted targets or services have changed")
    assert_denied(tunnel, ports(tunnel)[0])
    assert tunnel.is_running() and harness.receive_exactly(tunnel.dial("ssh"), 6) == b"<ssh!>"


def test_check_shows_the_list(tmp_path):
    private_file(tmp_path / "agentd.conf", 'agent = { permit = "10.0.0.0/8:80,443  plc.local:102"; };')
    assert "#   permit 10.0.0.0/8:80,443\n#   permit plc.local:102\n" in check("agentd", GOTTHARD_CONFIG_DIR=tmp_path).stdout
    private_file(tmp_path / "agentd.conf", "")
    assert "#   permit: no target beyond the services\n" in check("agentd", GOTTHARD_CONFIG_DIR=tmp_path).stdout


@pytest.mark.parametrize("permit, message", [
    ("192.168.1.5/24:80", "write 192.168.1.0/24 for the network"),
    ("10.0.0.5", "ports are missing; add :80"),
    ("*:80", "all hosts are 0.0.0.0/0 and"),
    ("10.0.0.5:80, 10.0.0.6:80", "the ports must be numbers"),
])
def test_faulty_list_is_rejected_with_its_place(env, permit, message):
    folder = env.config_folder(agentd=f'\nagent = {{ permit = "{permit}"; }};')
    agent = env.agent(wait=False, GOTTHARD_CONFIG_DIR=folder)
    assert agent.wait() == 78
    assert "agentd.conf:2: agent.permit: " in agent.log() and message in agent.log()


def test_service_cannot_have_the_name_of_the_permitted_targets(env):
    services = 'services = { permit = "127.0.0.1:80"; socks = "127.0.0.1:81"; };'
    agent = env.agent(wait=False, GOTTHARD_CONFIG_DIR=env.config_folder(agentd=services + 'agent = { permit = "10.0.0.5:80"; };'))
    assert agent.wait() == 78
    assert "'permit' is the word for permitted targets" in agent.log()
    agent = env.agent(wait=False, GOTTHARD_CONFIG_DIR=env.config_folder(agentd=services))
    agent.wait_for("operators reach 'socks' by its port only")
    agent.wait_for("'permit' is the word for permitted targets; choose another name before")
    agent.wait_for('services="permit=127.0.0.1:80 socks=127.0.0.1:81"')
