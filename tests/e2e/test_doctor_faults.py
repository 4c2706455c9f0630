# SPDX-License-Identifier: ISC
"""The failure table: each fault is provoked with the real programs. `doctor` names the hop, the id, the cause and a remedy;
`connect` fails with the same id and cause; and after the remedy, typed as the text has it, `doctor` finds no fault."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

import pytest

import connect_proxy
import harness
import netns
import router
from doctor import agent_doctor, assert_fails, connect_failure, doctor, faults, name_server, needs_mounts, private_files
from setting_markers import effect

DEVICE = "GatewayOli"
SHIM_CLOCK = harness.BUILD / "tests" / "preload" / "shim-clock.so"


def banner(sock):
    sock.sendall(b"SSH-2.0-example\r\n")


@pytest.fixture
def system(env):
    """A broker, a relay and a device with an ssh server, all of them in order."""
    env.broker_process = env.broker()
    env.relay_process = env.relay()
    env.ssh = env.target(banner)
    env.device = env.agent(GOTTHARD_AGENT_DATA_PORT=env.ssh.port)
    return env


def assert_healthy(env, **more):
    assert not faults(doctor(env, DEVICE, expected=0, **more))


def same(row, error):
    """`connect` reports the same failure as doctor's row."""
    assert (row["id"], row["text"], row["hint"]) == (error["id"], error["message"], error["hint"])


# --- certificates and the clock -------------------------------------------------------------------


def test_own_certificate_expired(system):
    folder = system.certificates("alice")
    ca = harness.Authority.shared().folder
    request = system.folder / "request"
    subprocess.run(["openssl", "req", "-new", "-key", folder / "private.key", "-subj", "/CN=alice", "-out", request], check=True)
    subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", ca / "ca.crt", "-CAkey", ca / "ca.key", "-set_serial", "77",
                    "-days", "0", "-out", folder / "cert.pem"], check=True, capture_output=True)
    harness.wait_until(lambda: "expired" in str(doctor(system)["certificate"]), "the certificate has expired")
    row = assert_fails(doctor(system, DEVICE, expected=78), "certificate", "GTD-E14", "cert.pem expired on",
                       "make-certificate-example --renew alice; then copy alice/cert.pem to")
    assert connect_failure(system)["id"] == row["id"]
    shutil.copy(ca / "names" / "alice" / "cert.pem", row["hint"].split(" to ")[-1])
    assert_healthy(system)


def test_clock_of_1970(system):
    shift = system.folder / "shift"
    shift.write_bytes(struct.pack("=q", -1_795_000_000))
    clock = {"LD_PRELOAD": SHIM_CLOCK, "CLOCK_SHIFT": shift}
    assert_fails(doctor(system, DEVICE, expected=78, **clock), "clock", "GTD-E13", "today is 197", "timedatectl set-ntp true")
    error = connect_failure(system, **clock)
    assert error["id"] == "GTD-E13" and "197" in error["message"]
    assert_fails(agent_doctor(system, expected=78, **clock), "clock", "GTD-E13", "today is 197")
    assert_healthy(system)  # the same command with the clock set


def test_broker_of_another_authority(system, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90", "-subj",
                    "/CN=other authority", "-keyout", tmp_path / "key", "-out", tmp_path / "ca.crt"], check=True, capture_output=True)
    folder = system.certificates("alice")
    shutil.copy(tmp_path / "ca.crt", folder / "ca.crt")
    row = assert_fails(doctor(system, DEVICE, expected=77), "broker TLS", "GTD-E22", "not a trusted authority", "ca.crt")
    same(row, connect_failure(system))
    shutil.copy(harness.Authority.shared().folder / "ca.crt", folder / "ca.crt")
    assert_healthy(system)


@needs_mounts
def test_broker_certificate_for_another_name(system):
    prefix = private_files(system, hosts="127.0.0.1 localhost\n127.0.0.1 other.test\n")
    other = {"prefix": prefix, "GOTTHARD_MQTT_ENDPOINT": f"other.test:{system.broker_port}"}
    row = assert_fails(doctor(system, DEVICE, expected=77, **other), "broker TLS", "GTD-E22", "is for localhost, broker.test, 127.0.0.1, not for other.test")
    same(row, connect_failure(system, **other))
    assert_healthy(system, prefix=prefix, GOTTHARD_MQTT_ENDPOINT=f"localhost:{system.broker_port}")


# --- access rights --------------------------------------------------------------------------------


def test_no_access_rules(system):
    """The second operator: the broker accepts the certificate, and permits nothing."""
    row = assert_fails(doctor(system, DEVICE, name="carol", expected=77), "publish", "GTD-E21", "refuses messages to",
                       '"user carol"', '"topic read gotthard/v1/d/+/rsp/carol"')
    error = connect_failure(system, name="carol")
    assert error["id"] == "GTD-E21" and "broker refused the request" in error["message"]
    with open(system.folder / "mosquitto.acl", "a", encoding="ascii") as acl:
        acl.write("\n" + "\n".join(re.findall('"([^"]+)"', row["hint"])) + "\n")
    system.broker_process.send(signal.SIGHUP)
    assert_healthy(system, name="carol")


def test_operator_without_reading_rights(system):
    """mosquitto grants the subscription, and delivers nothing: a message to oneself proves it, also without a device."""
    acl = system.folder / "mosquitto.acl"
    acl.write_text(acl.read_text().replace("topic read gotthard/v1/d/+/rsp/bob\n", ""))
    system.broker_process.send(signal.SIGHUP)
    row = assert_fails(doctor(system, name="bob", expected=77), "receive", "GTD-E21", "does not deliver messages on",
                       '"topic read gotthard/v1/d/+/rsp/bob"')
    acl.write_text(acl.read_text() + "\n" + "\n".join(re.findall('"([^"]+)"', row["hint"])) + "\n")
    system.broker_process.send(signal.SIGHUP)
    assert_healthy(system, name="bob")


def test_no_access_rules_with_an_old_protocol(system):
    """MQTT 3.1.1 cannot refuse a message: it is acknowledged and dropped. The message to oneself finds that."""
    assert_fails(doctor(system, name="carol", expected=77, GOTTHARD_MQTT_VERSION="3.1.1"), "receive", "GTD-E21",
                 "does not deliver messages on", '"user carol"')


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_broker_of_aws(env, version):
    """Its policy permits exactly the necessary actions, and it closes the connection at anything else: no false alarm."""
    broker = env.aws_broker()
    env.relay()
    target = env.target(banner)
    env.agent(GOTTHARD_AGENT_DATA_PORT=target.port, GOTTHARD_MQTT_VERSION=version)
    for args in ([], [DEVICE]):
        rows = doctor(env, *args, expected=0, GOTTHARD_MQTT_VERSION=version)
        assert not faults(rows), broker.log()
    rows = agent_doctor(env, expected=0, GOTTHARD_AGENT_DATA_PORT=target.port, GOTTHARD_MQTT_VERSION=version)
    assert rows["broker login"]["result"] in ("ok", "warning")


def test_name_is_not_that_of_the_certificate(system):
    other = {"GOTTHARD_CLIENT_NAME": "bob"}
    rows = doctor(system, DEVICE, expected=77, **other)
    assert rows["certificate"]["result"] == "warning" and 'is for the name "alice", not for bob' in rows["certificate"]["text"]
    assert_fails(rows, "receive", "GTD-E21", 'the certificate is for "alice", and client.name is bob', "GOTTHARD_CLIENT_NAME")
    assert_healthy(system, GOTTHARD_CLIENT_NAME="alice")


def test_device_whose_name_is_not_that_of_the_certificate(system):
    rows = agent_doctor(system, "GatewayOli", expected=77, MACHINE_ID="other", GOTTHARD_AGENT_DATA_PORT=system.ssh.port)
    assert_fails(rows, "publish", "GTD-E21", 'the certificate is for "GatewayOli", and device.name is other', "MACHINE_ID")


# --- names ----------------------------------------------------------------------------------------


@needs_mounts
@pytest.mark.parametrize("code, words", [(None, "no name server answers"), (2, "SERVFAIL"), (3, "the name servers do not know it")])
def test_name_service(env, code, words):
    """The resolver is silent, fails, or does not know the name: of the broker, and of the relay."""
    with contained(env):
        prefix = private_files(env, resolv__conf="nameserver 127.0.0.1\n", hosts="127.0.0.1 localhost\n", nsswitch__conf="hosts: files dns\n")
        env.broker()
        env.relay()
        names = {"GOTTHARD_MQTT_ENDPOINT": f"broker.test:{env.broker_port}", "GOTTHARD_SERVER_HOST": "relay.test"}
        with name_server(code):
            rows = doctor(env, prefix=prefix, expected=69, **names)
            assert_fails(rows, "broker name", "GTD-E20", words, "broker.test", "getent ahosts broker.test")
            assert rows["relay name"]["id"] == "GTD-E50" and words in rows["relay name"]["text"]
            assert connect_failure(env, prefix=prefix, **names)["id"] == "GTD-E20"
        rows = doctor(env, prefix=prefix, expected=0)  # an address instead of a name
        assert rows["broker name"]["result"] == "ok"


# --- the network ----------------------------------------------------------------------------------


class contained:
    """A private network in which a test runs; processes end before it does."""

    def __init__(self, env, kind=netns.Network):
        self.env, self.kind = env, kind

    def __enter__(self):
        self.network = self.kind()
        self.inside = netns.inside(self.network.middle)
        self.inside.__enter__()
        return self.network

    def __exit__(self, *error):
        self.env.close()
        self.inside.__exit__(*error)
        self.network.close()


@pytest.fixture
def routed(env):
    """The operator is behind a router (`network.edge`), everything else is not."""
    with contained(env, router.Router) as network:
        env.broker_process = env.broker()
        env.relay_process = env.relay()
        env.ssh = env.target(banner)
        env.device = env.agent(GOTTHARD_AGENT_DATA_PORT=env.ssh.port)
        network.forward(env.broker_port)
        env.network = network
        yield env


THERE = {"GOTTHARD_SERVER_HOST": netns.RELAY}


def at_edge(env, function, *args, **more):
    with netns.inside(env.network.edge):
        return function(env, *args, **{**THERE, **more})


def test_broker_is_dropped(routed):
    """A firewall drops the packets to the broker's port."""
    with socket.create_server((netns.RELAY, 0)) as listener:
        port = listener.getsockname()[1]
        endpoint = {"GOTTHARD_MQTT_ENDPOINT": f"{netns.RELAY}:{port}"}
        routed.network.block(port, port, "drop")
        row = assert_fails(at_edge(routed, doctor, DEVICE, expected=69, **endpoint), "broker TCP", "GTD-E20", "no answer",
                           f"{netns.RELAY}:{port}", "a firewall blocks port")
        assert at_edge(routed, connect_failure, **endpoint)["id"] == "GTD-E20"
        assert "open the port in the firewall" in row["hint"]
        routed.network.unblock()
        assert at_edge(routed, doctor, **endpoint)["broker TCP"]["result"] == "ok"
    at_edge(routed, assert_healthy)


def test_range_of_ports_is_dropped(routed):
    """Tunnels work over the main port: a warning, whose remedy saves the time that finding out takes."""
    routed.network.block(routed.relay_ports, routed.relay_ports + routed.n_relay_ports - 1, "drop")
    rows = at_edge(routed, doctor, DEVICE, expected=0)
    assert rows["relay ports"]["result"] == "warning" and "a firewall lets only the main port" in rows["relay ports"]["text"]
    assert "server.single_port" in rows["relay ports"]["hint"] or "GOTTHARD_SERVER_SINGLE_PORT" in rows["relay ports"]["hint"]
    assert rows["tunnel"]["result"] == "warning" and str(routed.relay_port) in rows["tunnel"]["text"]
    at_edge(routed, assert_healthy, GOTTHARD_SERVER_SINGLE_PORT="true")


def test_only_port_443_goes_out(routed):
    for pref, ports in ((10, "1-442"), (11, "444-65534")):
        routed.network.ip(routed.network.router, f"rule add pref {pref} iif south0 ipproto tcp dport {ports} blackhole")
    row = assert_fails(at_edge(routed, doctor, DEVICE, expected=69), "relay TCP", "GTD-E50", "no answer, and the machine answers at port 443",
                       f"a firewall blocks port {routed.relay_port}", "let the relay listen on port 443")
    assert at_edge(routed, connect_failure, GOTTHARD_TIMEOUTS_PEER="4s")["id"] == "GTD-E50"
    assert "443 on all sides" in row["hint"]
    routed.relay_process.stop()
    routed.device.stop()
    routed.relay_port = 443
    routed.relay()
    routed.device = routed.agent(GOTTHARD_AGENT_DATA_PORT=routed.ssh.port)
    rows = at_edge(routed, doctor, DEVICE, expected=0)
    assert set(faults(rows)) == {"relay ports", "tunnel"}  # data uses the main port
    at_edge(routed, assert_healthy, GOTTHARD_SERVER_SINGLE_PORT="true")


def test_large_packets_are_lost(routed):
    routed.network.black_hole(1300)
    routed.network.ip(routed.network.router, "rule add pref 9 ipproto icmp blackhole")  # whose messages are filtered
    rows = at_edge(routed, doctor, expected=0)
    assert rows["large packets"]["result"] == "warning" and "large packets to the relay are lost" in rows["large packets"]["text"]
    command = re.search("ip link set dev wan0 mtu [0-9]+", rows["large packets"]["hint"])[0]
    with netns.inside(routed.network.edge):
        subprocess.run(command.split(), check=True)
    at_edge(routed, assert_healthy)


@needs_mounts
def test_ipv6_is_broken(routed):
    routed.network.ip(routed.network.edge, "address add fd00:5::2/64 dev wan0 nodad")
    hosts = "127.0.0.1 localhost\nfd00:5::99 relay.test\n" + f"{netns.RELAY} relay.test\n"
    there = {"GOTTHARD_SERVER_HOST": "relay.test"}
    rows = at_edge(routed, doctor, DEVICE, expected=0, prefix=private_files(routed, hosts=hosts), **there)
    assert rows["relay TCP"]["result"] == "warning" and "IPv6 is broken" in rows["relay TCP"]["text"], rows["relay TCP"]
    assert "remove the AAAA record" in rows["relay TCP"]["hint"] and "ping -6 -c 1 fd00:5::99" in rows["relay TCP"]["hint"]
    rows = at_edge(routed, doctor, DEVICE, expected=0, prefix=private_files(routed, hosts=hosts.replace("fd00:5::99 relay.test\n", "")), **there)
    assert rows["relay TCP"]["result"] == "ok"


def test_proxy(env):
    """The relay is behind a proxy, which is down, and then denies the connection."""
    with contained(env) as network:
        env.broker()
        env.relay()
        for n in (0, 1):
            network.unroute(n, 100 * (n + 1))
        network.forward(env.broker_port)
        proxy = connect_proxy.HttpProxy("198.18.0.1", hosts={"relay.test": netns.RELAY}, user="oli", password="right")
        there = {"GOTTHARD_SERVER_HOST": "relay.test", "GOTTHARD_SERVER_PROXY": f"http://oli@198.18.0.1:{proxy.port}"}
        with netns.inside(network.edge):
            env.agent(**there, GOTTHARD_SERVER_PROXY_PASSWORD="right")
            for run in (doctor, agent_doctor):
                assert_fails(run(env, expected=77, GOTTHARD_SERVER_PROXY_PASSWORD="wrong", **there), "relay key", "GTD-E56", "407",
                             "GOTTHARD_SERVER_PROXY")
                rows = run(env, GOTTHARD_SERVER_PROXY_PASSWORD="right", **there)
                assert rows["relay key"]["result"] == rows["relay ports"]["result"] == "ok" and "through the proxy" in rows["relay ports"]["text"]
            assert connect_failure(env, GOTTHARD_SERVER_PROXY_PASSWORD="wrong", **there)["id"] == "GTD-E56"
            proxy.stop()
            assert_fails(doctor(env, expected=69, **there), "proxy TCP", "GTD-E50", "Connection refused", "start the proxy")


@effect("agentd", "INVOCATION_ID")
def test_proxy_variables_of_the_service(env):
    """The running service has no proxy; the shell of the check names one that does not exist."""
    shell = {"https_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    with contained(env) as network, netns.inside(network.edge):
        env.broker()
        env.relay()
        target = env.target(banner)
        assert_fails(agent_doctor(env, GOTTHARD_AGENT_DATA_PORT=target.port, **shell), "proxy TCP", "GTD-E50", "Connection refused")
        env.agent(GOTTHARD_AGENT_DATA_PORT=target.port, INVOCATION_ID="1" * 32)
        rows = agent_doctor(env, expected=0, GOTTHARD_AGENT_DATA_PORT=target.port, **shell)
        assert "its proxy variables are used" in rows["agent"]["text"], rows["agent"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_proxy_variables_of_another_user(env):
    """Any user can start a process with the agent's name: its proxy would get the connections of root's check."""
    with contained(env) as network, netns.inside(network.edge):
        env.broker()
        env.relay()
        target = env.target(banner)
        pretender = subprocess.Popen(["sh", "-c", "echo gotthard-agentd >/proc/$$/comm; echo; read line"], user=65534, group=65534,
                                     extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     env={"PATH": os.environ["PATH"], "INVOCATION_ID": "1" * 32, "https_proxy": "http://127.0.0.1:9"})
        try:
            pretender.stdout.readline()
            rows = agent_doctor(env, GOTTHARD_AGENT_DATA_PORT=target.port)
        finally:
            pretender.communicate(timeout=harness.LIMIT)
        assert rows["agent"]["text"].startswith(f"process {pretender.pid} runs; it is of another user"), rows["agent"]
        assert rows["relay TCP"]["result"] == "ok" and "proxy TCP" not in rows, rows


# --- relay and device -----------------------------------------------------------------------------


def test_relay_is_down(system):
    system.relay_process.stop()
    row = assert_fails(doctor(system, DEVICE, expected=69), "relay TCP", "GTD-E50", "Connection refused", "systemctl start gotthard-relayd")
    assert connect_failure(system, GOTTHARD_TIMEOUTS_PEER="3s")["id"] == row["id"]
    rows = agent_doctor(system, expected=69, GOTTHARD_AGENT_DATA_PORT=system.ssh.port)
    assert_fails(rows, "relay TCP", "GTD-E50", "Connection refused", "systemctl start gotthard-relayd")
    system.relay()
    assert_healthy(system)


def test_wrong_key(system):
    other = {"GOTTHARD_CRYPT_KEY": "77" * 32}
    rows = doctor(system, DEVICE, expected=77, **other)
    assert_fails(rows, "relay key", "GTD-E51", "probably a wrong key")
    error = connect_failure(system, **other)
    assert (rows["device"]["id"], rows["device"]["text"]) == (error["id"], error["message"].replace("3 s", "20 s"))
    assert "another key" in error["message"]
    assert_healthy(system)


def test_relay_of_another_fleet(system):
    system.relay_process.stop()
    other = system.relay(env=system.relay_environment(GOTTHARD_CRYPT_KEY="77" * 32))
    rows = doctor(system, DEVICE, expected=77)
    assert_fails(rows, "relay key", "GTD-E51", "probably a wrong key", "gotthard-cli keygen relay > relay.key")
    row = rows["device to relay"]
    assert row["id"] == "GTD-E51" and "rejects this operator and GatewayOli alike" in row["text"], row
    assert "gotthard-cli keygen relay > relay.key" in row["hint"], row
    other.stop()
    system.relay()
    assert_healthy(system)


def test_device_is_off(system):
    system.device.stop()
    row = assert_fails(doctor(system, DEVICE, expected=69), "device", "GTD-E31", "GatewayOli is offline")
    same(row, connect_failure(system))
    system.agent(GOTTHARD_AGENT_DATA_PORT=system.ssh.port)
    assert_healthy(system)


def test_agent_hangs(system):
    system.device.send(signal.SIGSTOP)
    row = assert_fails(doctor(system, DEVICE, expected=69, GOTTHARD_TIMEOUTS_ANSWER="3s"), "device", "GTD-E32", "did not answer within 3 s")
    same(row, connect_failure(system))
    system.device.send(signal.SIGCONT)
    assert_healthy(system)


def test_device_cannot_reach_the_relay(system):
    system.device.stop()
    nowhere = harness.free_ports(1)
    blocked = {"GOTTHARD_SERVER_PORT": nowhere, "GOTTHARD_TIMEOUTS_PEER": "3s", "GOTTHARD_AGENT_DATA_PORT": system.ssh.port}
    device = system.agent(**blocked)
    row = assert_fails(doctor(system, DEVICE, expected=69, GOTTHARD_TIMEOUTS_PEER="6s"), "device to relay", "GTD-E54",
                       f"GatewayOli cannot reach its relay localhost:{nowhere}", "server.host and server.port on the device")
    error = connect_failure(system, GOTTHARD_TIMEOUTS_PEER="6s")
    assert (row["id"], row["text"]) == (error["id"], error["message"])
    assert_fails(agent_doctor(system, expected=69, **blocked), "relay TCP", "GTD-E50", "Connection refused")
    device.stop()
    system.agent(GOTTHARD_AGENT_DATA_PORT=system.ssh.port)
    assert_healthy(system)


def test_target_refuses(system):
    system.ssh.close()
    row = assert_fails(doctor(system, DEVICE, expected=69), "service ssh", "GTD-E46", "refused", "gotthard-agentd --doctor")
    assert "ssh on GatewayOli" in row["text"]
    assert_fails(agent_doctor(system, expected=69, GOTTHARD_AGENT_DATA_PORT=system.ssh.port), "service ssh", "GTD-E46",
                 "Connection refused", "ss -ltnp")
    with socket.create_server(("127.0.0.1", system.ssh.port)):
        rows = agent_doctor(system, expected=0, GOTTHARD_AGENT_DATA_PORT=system.ssh.port)
    assert rows["service ssh"]["result"] == "ok"


def test_interrupt_closes_the_session(system):
    """Ctrl+C while the services are checked: exit 130, and the device's session ends at once."""
    system.device.stop()
    silent = system.target(lambda sock: sock.recv(1))
    device = system.agent(GOTTHARD_AGENT_DATA_PORT=silent.port)
    process = harness.Process(system, system.unique("doctor"), [harness.PROGRAMS["cli"], "doctor", "--json", DEVICE],
                              env=system.cli_environment())
    process.wait_for('"tunnel"', where=process.out)
    process.send(signal.SIGINT)
    assert process.wait(5) == 130
    device.wait_for("session=.* ended cause=closed", limit=5)
    assert '"checked"' not in process.out()


def test_ssh_server_that_says_nothing(system):
    system.device.stop()
    silent = system.target(lambda sock: sock.recv(1))
    system.agent(GOTTHARD_AGENT_DATA_PORT=silent.port)
    rows = doctor(system, DEVICE, expected=0)
    assert rows["service ssh"]["result"] == "warning" and "no ssh banner" in rows["service ssh"]["text"]


def test_target_that_is_not_connected_yet(system):
    """Its queue of connections is full, and the device waits longer than doctor: no row claims that it accepts connections."""
    system.device.stop()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as clients:
        for _ in range(2):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        folder = system.config_folder(agentd=f'services = {{ web = "127.0.0.1:{full.getsockname()[1]}"; }};')
        system.agent(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_TIMEOUTS_DIAL="60s")
        rows = doctor(system, DEVICE, expected=0)
    assert rows["service web"]["result"] == "warning" and "has not connected" in rows["service web"]["text"], rows


def test_configuration_is_faulty(env):
    folder = env.config_folder(cli='mqtt = { endpoint = "localhost"; keepalive = "nonsense"; };',
                               agentd='mqtt = { endpoint = "localhost"; keepalive = "nonsense"; };')
    for rows in (doctor(env, expected=78, GOTTHARD_CONFIG_DIR=folder), agent_doctor(env, expected=78, GOTTHARD_CONFIG_DIR=folder)):
        assert_fails(rows, "configuration", "GTD-E10", ".conf:1", "mqtt.keepalive")


def test_target_of_udp_is_not_checked(system):
    system.device.stop()
    folder = system.config_folder(agentd=f'services = {{ ssh = "127.0.0.1:{system.ssh.port}"; dns = "udp:127.0.0.1:9"; }};')
    system.agent(GOTTHARD_CONFIG_DIR=folder)
    for rows in (doctor(system, DEVICE, expected=0), agent_doctor(system, expected=0, GOTTHARD_CONFIG_DIR=folder)):
        assert rows["service ssh"]["result"] == "ok" and rows["service udp:dns"]["result"] == "skipped"


def test_further_targets_are_listed(env):
    rows = agent_doctor(env, GOTTHARD_AGENT_PERMIT="192.0.2.0/24:80,443")
    assert rows["permit"]["result"] == "ok" and "192.0.2.0/24:80,443" in rows["permit"]["text"]
    assert "permit" not in agent_doctor(env)


def test_agent_does_not_run(env):
    """In a network of its own no other agent runs; then the check has the agent's client id."""
    with contained(env):
        env.broker()
        rows = agent_doctor(env)
        assert rows["agent"]["result"] == "warning" and "systemctl start gotthard-agentd" in rows["agent"]["hint"]
        assert rows["broker login"]["result"] == "ok"
