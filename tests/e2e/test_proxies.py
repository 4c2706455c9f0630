# SPDX-License-Identifier: ISC
"""Proxies on the way to the relay. Device and operator are in a network without DNS and without a route to the relay: whatever
does not go through the proxy fails."""

import json
import os
import re
import signal
import subprocess
import time

import connect_proxy
import harness
import netns
import pytest
from harness import wait_until
from load import Steady
from setting_markers import check, effect, private_file, refuses, shown

SLOW = 1 if harness.SANITIZER == "none" else 4
RELAY_NAME = "relay.test"  # only the proxy knows it
BROKER_NAME = "broker.test"
PROXY = "198.18.0.1"       # the middle, as the edge sees it
KINDS = {"http": connect_proxy.HttpProxy, "socks5": connect_proxy.SocksProxy}


class System:
    """A relay and a broker in the middle, device and operator at the edge, and a proxy between them."""

    def __init__(self, env, network, kind="http", has_broker=True, **more):
        self.env, self.network = env, network
        env.broker(tls=has_broker != "plain")
        self.relay = env.relay()
        if has_broker is True:  # at the edge as well
            network.forward(env.broker_port)
        for n in (0, 1):
            network.unroute(n, 100 * (n + 1))
        self.proxy = KINDS[kind](PROXY, hosts={RELAY_NAME: netns.RELAY, BROKER_NAME: "127.0.0.1"}, **more)
        self.url = f"{kind}://{PROXY}:{self.proxy.port}"
        self.there = {"GOTTHARD_SERVER_HOST": RELAY_NAME, "GOTTHARD_SERVER_PROXY": self.url}
        self.load = self.agent = self.tunnel = None

    def start_agent(self, **more):
        with netns.inside(self.network.edge):
            self.load = Steady(self.env, 2)
            self.agent = self.env.agent(**{"GOTTHARD_AGENT_DATA_PORT": self.load.target.port, **self.there, **more})

    def connect(self, wait=True, **more):
        with netns.inside(self.network.edge):
            self.tunnel = self.env.connect(wait=wait, **{**self.there, **more})
        return self.tunnel

    def start_load(self):
        with netns.inside(self.network.edge):
            self.load.start(self.tunnel)

    def finish(self):
        self.load.finish(self.tunnel)
        assert self.tunnel.disconnect() == 0

    def fail(self, **more):
        """Runs a `connect` that fails. Returns its exit status and its error event."""
        tunnel = self.connect(wait=False, **more)
        status = tunnel.wait()
        return status, next(event for event in tunnel.events() if event["event"] == "error")


@pytest.fixture
def network(env):
    network = netns.Network()
    try:
        with netns.inside(network.middle):
            yield network
            env.close()  # before its network is removed
    finally:
        network.close()


# --- the tunnel -----------------------------------------------------------------------------------


@effect("agentd", "server.proxy", "server.proxy_password")
@effect("cli", "server.proxy", "server.proxy_password")
@pytest.mark.parametrize("kind", KINDS)
def test_everything_goes_through_the_proxy(env, network, kind):
    system = System(env, network, kind, user="oli", password="p@ss:word")
    system.proxy.piecewise = True
    system.proxy.headers = b"Via: 1.1 proxy.test\r\nX-Long: " + b"x" * 3000 + b"\r\nContent-Length: 0\r\n"
    user = {"GOTTHARD_SERVER_PROXY": system.url.replace("//", "//oli@"), "GOTTHARD_SERVER_PROXY_PASSWORD": "p@ss:word"}
    system.there.update(user)
    system.start_agent()
    system.connect()
    system.start_load()
    system.load.wait_for_progress(1 << 20)
    system.finish()
    assert {host for host, _ in system.proxy.requests} == {RELAY_NAME}
    session_port = next(p for p in system.proxy.ports() if p != env.relay_port)
    assert system.proxy.ports() == sorted([env.relay_port, session_port])
    assert "path changed" not in system.agent.log()


def test_password_in_the_url_is_decoded(env, network):
    system = System(env, network, user="o li", password="p@ss:word%")
    system.there["GOTTHARD_SERVER_PROXY"] = f"http://o%20li:p%40ss%3aword%25@{PROXY}:{system.proxy.port}/"
    system.proxy.version, system.proxy.end = b"HTTP/1.0", b"\n"
    system.start_agent()
    assert system.connect().disconnect() == 0


def test_only_the_main_port_is_permitted(env, network):
    """As at a proxy that permits CONNECT to 443 only. A 403 for the session's port costs no wait."""
    system = System(env, network)
    system.proxy.allowed_ports = {env.relay_port}
    system.start_agent()
    started = time.monotonic()
    system.connect()
    took = time.monotonic() - started
    system.start_load()
    system.load.wait_for_progress(1 << 20)
    system.finish()
    print(f"up after {took:.2f} s")
    assert took < 1.4 * SLOW  # the wait for a port that does not answer is 1.5 s
    assert [e["what"] for e in system.tunnel.events() if e["event"] == "path"] == ["main-port"]
    session_port = next(port for port in system.proxy.ports() if port != env.relay_port)
    assert f"denied a connection to {RELAY_NAME}:{session_port}: 403 Forbidden" in system.agent.log()


@pytest.mark.parametrize("kind", KINDS)
def test_tunnel_survives_a_restart_of_the_proxy(env, network, kind):
    system = System(env, network, kind)
    system.start_agent()
    system.connect()
    system.start_load()
    system.load.wait_for_progress(1 << 20)
    system.proxy.stop()
    wait_until(lambda: [e for e in system.tunnel.events() if e["event"] == "relay-lost"], "the loss is noticed")
    system.proxy.start()
    system.load.wait_for_progress(1 << 20)
    system.finish()


def test_late_bye_goes_through_the_proxy(env, network):
    """The agent's listener sends the BYE of a worker that was killed."""
    system = System(env, network)
    system.start_agent()
    system.connect()
    workers = harness.children_of(system.agent.pid)
    n_before = len(system.proxy.requests)
    started = time.monotonic()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert system.tunnel.wait() == 69
    assert time.monotonic() - started < 20 * SLOW
    assert len(system.proxy.requests) > n_before


# --- the broker -----------------------------------------------------------------------------------


@effect("agentd", "mqtt.proxy", "mqtt.proxy_password")
@effect("cli", "mqtt.proxy", "mqtt.proxy_password")
@pytest.mark.parametrize("tls", ["tls", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_broker_is_reached_through_the_proxy(env, network, kind, tls):
    """Nothing listens at the edge, and the name of the broker without TLS is known to the proxy only."""
    system = System(env, network, kind, has_broker=tls, user="oli", password="p@ss")
    system.proxy.piecewise = True
    url = system.url.replace("//", "//oli:p%40ss@")
    host = "localhost" if tls == "tls" else BROKER_NAME
    system.there.update(GOTTHARD_SERVER_PROXY=url, GOTTHARD_MQTT_PROXY=system.url.replace("//", "//oli@"),
                        GOTTHARD_MQTT_PROXY_PASSWORD="p@ss",
                        GOTTHARD_MQTT_ENDPOINT=f"{'mqtts' if tls == 'tls' else 'mqtt'}://{host}:{env.broker_port}")
    if tls == "plain":
        system.there["GOTTHARD_AWS_CERT_PATH"] = None
    system.start_agent()
    system.connect()
    system.start_load()
    system.load.wait_for_progress(1 << 20)
    assert [h for h, port in system.proxy.requests if port == env.broker_port] == [host, host]
    system.proxy.cut()
    system.agent.wait_for("online", count=2)
    system.load.wait_for_progress(1 << 20)
    system.finish()


def test_variable_of_the_machine_counts_for_the_broker(env, network):
    system = System(env, network, "socks5", has_broker="tls")
    system.start_agent(ALL_PROXY=system.url)
    assert system.connect(all_proxy=f"socks5h://{PROXY}:{system.proxy.port}").disconnect() == 0
    n = len(system.proxy.requests)
    status, error = system.fail(all_proxy=system.url, no_proxy="localhost")
    assert status == 69 and error["id"] == "GTD-E20" and "proxy" not in error["message"], error
    assert len(system.proxy.requests) == n


@refuses("agentd", "mqtt.proxy_password")
@refuses("cli", "mqtt.proxy_password")
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_password_on_the_way_to_the_broker(env, network, kind):
    system = System(env, network, kind, has_broker="tls", user="oli", password="right")
    system.there["GOTTHARD_MQTT_PROXY"] = system.url.replace("//", "//oli:hidden@")
    with netns.inside(network.edge):
        agent = env.agent(wait=False, **system.there)
    name = f"proxy {PROXY}:{system.proxy.port}"
    reason = {"http": f"{name} denied a connection to localhost:{env.broker_port}: 407 Proxy Authentication Required",
              "socks5": f"{name} rejected the user name or the password \\(localhost:{env.broker_port}\\)"}[kind]
    agent.wait_for(f'broker not reachable .*reason="{reason}"')
    status, error = system.fail()
    assert status == 77 and error["id"] == "GTD-E56" and "GOTTHARD_MQTT_PROXY" in error["hint"], error
    assert re.fullmatch(f"broker localhost:{env.broker_port}: {reason}", error["message"])
    assert "hidden" not in agent.log() + system.tunnel.log() + system.tunnel.out()


def test_failures_on_the_way_to_the_broker(env, network):
    """Down, without a name, silent, and not a proxy. A silent one does not delay the end of the command."""
    system = System(env, network, "socks5", has_broker="tls")
    system.there["GOTTHARD_MQTT_PROXY"] = system.url
    name = f"proxy {PROXY}:{system.proxy.port}"
    system.proxy.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    status, error = system.fail()
    assert (status, error["id"]) == (69, "GTD-E20") and f"{name} does not speak SOCKS5" in error["message"], error
    system.proxy.answer, system.proxy.hosts = None, {"localhost": "127.0.0.2"}
    status, error = system.fail()
    assert status == 69 and f"{name} cannot reach it: connection refused" in error["message"], error
    status, error = system.fail(GOTTHARD_MQTT_PROXY="http://proxy.test:3128")
    assert status == 69 and "proxy proxy.test:3128: the host name cannot be resolved" in error["message"], error
    system.proxy.hangs = True
    tunnel = system.connect(wait=False)
    wait_until(lambda: len(system.proxy.sockets) > 2, "the proxy has the connection")
    started = time.monotonic()
    tunnel.stop(signal.SIGINT)
    assert time.monotonic() - started < 4 * SLOW
    system.proxy.hangs = False
    system.proxy.stop()
    status, error = system.fail()
    assert status == 69 and f"{name}: Connection refused" in error["message"] and "GOTTHARD_MQTT_PROXY" in error["hint"], error


def test_doctor_goes_through_the_proxy(env, network):
    """From both sides. The names of broker and relay are known to the proxy only."""
    system = System(env, network, "http", has_broker="plain")
    there = {**system.there, "GOTTHARD_MQTT_PROXY": system.url, "GOTTHARD_AWS_CERT_PATH": None,
             "GOTTHARD_MQTT_ENDPOINT": f"mqtt://{BROKER_NAME}:{env.broker_port}"}
    device = env.agent_environment("GatewayOli", GOTTHARD_SERVICES=None, **there)
    with netns.inside(network.edge):
        operator = env.cli("doctor", "--json", **there).stdout
        device = subprocess.run([harness.PROGRAMS["agentd"], "--doctor"], env=device, capture_output=True, text=True, check=False,
                                timeout=harness.LIMIT).stdout
    rows = [event for event in map(json.loads, operator.splitlines()) if event["event"] == "check"]
    results = [(row["check"], row["result"]) for row in rows]
    assert results.count(("proxy TCP", "ok")) == 2 and ("broker login", "ok") in results and ("relay key", "ok") in results, results
    assert device.count("proxy TCP") == 2 and not re.search("(broker|relay) TCP", device), device
    assert {(BROKER_NAME, env.broker_port), (RELAY_NAME, env.relay_port)} <= set(system.proxy.requests)


# --- which proxy ----------------------------------------------------------------------------------


@effect("agentd", "NO_PROXY")
@effect("cli", "NO_PROXY")
def test_variables_of_the_machine_count(env, network):
    """https_proxy is the default; no_proxy and none are direct connections, which fail here."""
    system = System(env, network)
    system.there["GOTTHARD_SERVER_PROXY"] = None
    variable = {"https_proxy": f"{PROXY}:{system.proxy.port}"}
    system.start_agent(**variable, no_proxy="example.org,.other.test")
    assert system.connect(**variable).disconnect() == 0
    denying = connect_proxy.HttpProxy(PROXY)
    denying.allowed_ports = set()
    status, error = system.fail(https_proxy=f"http://{PROXY}:{denying.port}")
    assert status == 77 and "https_proxy" in error["hint"], error
    n = len(system.proxy.requests)
    for direct in ({"no_proxy": ".test"}, {"NO_PROXY": "a,relay.test"}, {"GOTTHARD_SERVER_PROXY": "none"}):
        status, error = system.fail(**variable, **direct, GOTTHARD_TIMEOUTS_PEER="2s")
        assert status == 69 and "proxy" not in error["message"], error
    requests = system.proxy.requests[n:]
    assert len(requests) <= 6 and {port for _, port in requests} <= {env.relay_port}  # the device alone
    assert system.connect(**variable, GOTTHARD_SERVER_PROXY=system.url, no_proxy="*").disconnect() == 0


@pytest.mark.parametrize("program", ["agentd", "cli"])
def test_origin_of_a_proxy_is_shown_without_its_password(program, tmp_path):
    variables = {"HTTPS_PROXY": "http://oli:hid%64en@p.test:8", "ALL_PROXY": "socks://gate.test"}
    output = check(program, env=variables).stdout
    assert '# proxy is "http://oli@p.test:8" with a password   # HTTPS_PROXY' in output and "hid" not in output
    output = check(program, env={"https_proxy": "", **variables, "HTTPS_PROXY": ""}).stdout
    assert 'proxy = "socks://gate.test";   # ALL_PROXY' in output
    text = 'server = { proxy = "http://oli:hidden@p.test:8"; };'
    path = private_file(tmp_path / f"{program}.conf", text)
    folder = {"GOTTHARD_CONFIG_DIR": str(tmp_path)}
    assert "hidden" not in check(program, env=folder).stdout
    path.chmod(0o644)
    result = check(program, env=folder)
    assert result.returncode == 78 and "must not be readable by others" in result.stderr and "proxy_password_file" in result.stderr
    assert "hidden" not in result.stdout + result.stderr


@pytest.mark.parametrize("program", ["agentd", "cli"])
def test_unusable_variable_of_the_machine_is_no_error(program):
    """The other programs of the machine can use it: curl knows https:// proxies."""
    variables = {"https_proxy": "https://oli:hidden@p.test:8"}
    for no_proxy in ("", "*"):
        result = check(program, env={**variables, "no_proxy": no_proxy})
        assert result.returncode == 0 and "hidden" not in result.stdout + result.stderr, result
        assert shown(result)["server.proxy"][1] == "default"
    assert shown(check(program, env={**variables, "GOTTHARD_SERVER_PROXY": "none"}))["server.proxy"] == ("none", "GOTTHARD_SERVER_PROXY")


# --- failures -------------------------------------------------------------------------------------


@refuses("agentd", "server.proxy_password")
@refuses("cli", "server.proxy_password")
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_password(env, network, kind):
    system = System(env, network, kind, user="oli", password="right")
    system.start_agent(GOTTHARD_SERVER_PROXY=system.url.replace("//", "//oli:right@"))
    started = time.monotonic()
    status, error = system.fail(GOTTHARD_SERVER_PROXY=system.url.replace("//", "//oli:hidden@"))
    assert time.monotonic() - started < 8 * SLOW  # it is final
    assert status == 77 and error["id"] == "GTD-E56"
    name = f"proxy {PROXY}:{system.proxy.port}"
    assert {"http": f"{name} denied a connection to {RELAY_NAME}:{env.relay_port}: 407 Proxy Authentication Required",
            "socks5": f"{name} rejected the user name or the password ({RELAY_NAME}:{env.relay_port})"}[kind] == error["message"]
    assert "GOTTHARD_SERVER_PROXY and GOTTHARD_SERVER_PROXY_PASSWORD (not set)" in error["hint"]
    assert "hidden" not in system.tunnel.log() + system.tunnel.out()


def test_proxy_is_down(env, network):
    system = System(env, network)
    system.start_agent()
    system.proxy.stop()
    status, error = system.fail(GOTTHARD_TIMEOUTS_PEER="2s")
    assert status == 69
    assert f"proxy {PROXY}:{system.proxy.port}: Connection refused" in error["message"]
    assert "GOTTHARD_SERVER_PROXY" in error["hint"]


def test_proxy_does_not_answer(env, network):
    system = System(env, network)
    system.start_agent()
    system.proxy.hangs = True
    status, error = system.fail(GOTTHARD_TIMEOUTS_PEER="3s")
    assert status == 69
    assert f"proxy {PROXY}:{system.proxy.port} could not make a connection to {RELAY_NAME}:{env.relay_port}: no answer" \
        in error["message"]


@pytest.mark.parametrize("answer, text", [
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", "502 Bad Gateway"),
    (b"HTTP/1.1 503\r\n\r\n", "503"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "its answer is not HTTP"),
    (b"", "closed without an answer"),
    (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 2000 + b"\r\n", "its answer is too long"),
    # the alert that follows the answer belongs to the tunnel
    (b"HTTP/1.1 200 OK\r\n\r\n\x15\x03\x03\x00\x02\x02\x28", "intercepts TLS"),
])
def test_answers_of_a_proxy(env, network, answer, text):
    system = System(env, network)
    system.start_agent()
    system.proxy.answer = answer
    status, error = system.fail(GOTTHARD_TIMEOUTS_PEER="2s")
    assert status in (69, 77)
    assert f"proxy {PROXY}:{system.proxy.port}" in error["message"] and text in error["message"], error


def test_operator_reads_the_device_s_proxy(env, network):
    system = System(env, network)
    denying = connect_proxy.HttpProxy(PROXY, hosts=system.proxy.hosts)
    denying.allowed_ports = set()
    system.start_agent(GOTTHARD_SERVER_PROXY=f"http://{PROXY}:{denying.port}")
    status, error = system.fail()
    assert status == 69 and error["id"] == "GTD-E54"
    assert f"proxy {PROXY}:{denying.port} denied a connection to {RELAY_NAME}:{env.relay_port}: 403 Forbidden" in error["message"]
    assert re.search(r"ended cause=proxy", system.agent.log())
