# SPDX-License-Identifier: ISC
"""A broker that refuses the device's messages, as the owner of the device and its service manager see it."""

import json
import re
import signal

import harness
import pytest
from harness import wait_until
from test_broker import capture
from test_hostile_broker import STATE, agent_of, is_answering, played  # noqa: F401 (a fixture)
from test_late_files import Notifications


def change_acl(env, broker, edit):
    """Applies @edit to the text of the broker's access rules, while it runs."""
    acl = env.folder / "mosquitto.acl"
    acl.write_text(edit(acl.read_text()))
    broker.wait_for("running")  # before that SIGHUP ends it
    broker.send(signal.SIGHUP)


def test_refused_state_is_repeated_until_the_broker_accepts_it(env):
    """The certificate has another name than the device, so that the broker refuses STATE. It is never said to be
    online, and it is as soon as the broker accepts the message, without a restart."""
    broker = env.broker()
    manager = Notifications(env)
    agent = env.agent(wait=False, GOTTHARD_AWS_CERT_PATH=env.certificates("another"), NOTIFY_SOCKET=manager.path)
    agent.wait_for('warn .*cert.pem is for the name "another", not for the device GatewayOli')
    refusal = agent.wait_for(r"error .*the broker refuses its STATE .*retry=\d+s.*")
    assert f"topic={env.PREFIX}/d/GatewayOli/state" in agent.log()
    assert re.search("reason=\"Not authorized", agent.log()), refusal
    manager.wait_for("STATUS=offline for operators: the broker refuses STATE (Not authorized")
    agent.send(signal.SIGUSR1)
    agent.wait_for("status .*connected=1 .*state=refused")
    assert not re.search(harness.AGENT_READY, agent.log())
    change_acl(env, broker, lambda rules: f"{rules}\nuser another\ntopic readwrite {env.PREFIX}/d/GatewayOli/#\n")
    agent.wait_for(harness.AGENT_READY)
    manager.wait_for("STATUS=broker connected")
    assert env.cli("status", "GatewayOli").returncode == 0
    assert len(re.findall("refuses its STATE", agent.log())) <= 4


def test_refused_answer_is_reported_with_its_topic(env):
    broker = env.broker()
    change_acl(env, broker, lambda rules: rules.replace("/rsp/+", "/rsp/bob"))
    env.relay()
    agent = env.agent()
    wait_until(lambda: env.cli("connect", "GatewayOli", "0:ssh", GOTTHARD_TIMEOUTS_ANSWER="2s").returncode and
               "refuses an answer" in agent.log(), "the answer is refused")
    assert re.search(rf"error .*the broker refuses an answer topic={env.PREFIX}/d/GatewayOli/rsp/alice "
                     'reason="Not authorized', agent.log())
    assert agent.is_running()


@pytest.mark.parametrize("reason, text", [(b"\x87", "Not authorized"), (b"\x97", "Quota exceeded")])
def test_refused_subscription_is_repeated(env, played, reason, text):  # noqa: F811
    """No request would reach the device, so that it is not online. The connection stays."""
    broker = played(lambda b, sock: None)
    broker.suback = reason
    agent = agent_of(env, broker)
    agent.wait_for(rf'error .*receives no requests there: the broker refuses its subscription broker=.* topic=.*/req .*reason="{text}')
    broker.suback = b"\1"
    agent.wait_for(harness.AGENT_READY)
    assert broker.n_connections == 1 and broker.n_subscriptions == 2
    assert "refuses its subscription" not in agent.log().split("online")[1]
    is_answering(agent)


@pytest.mark.parametrize("reason", [0x80, 0x97])
def test_each_refusal_of_state_is_reported(env, played, reason):  # noqa: F811
    broker = played(lambda b, sock: None)
    broker.puback = bytes([reason])
    agent = agent_of(env, broker)
    agent.wait_for(r"error .*the broker refuses its STATE topic=.*/state retry=\d+s reason=")
    assert not re.search(harness.AGENT_READY, agent.log())
    broker.puback = b"\x10"  # no subscriber: the broker has it
    agent.wait_for(harness.AGENT_READY)
    assert [topic for topic, _ in broker.published].count(STATE) == 2
    is_answering(agent)


def test_broker_without_retained_messages(env):
    """The agent connects without a retained will, publishes STATE without retaining it, and warns once."""
    broker = env.broker(extra="retain_available false\n")
    states = capture(env, f"{env.PREFIX}/d/+/state")
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    agent.wait_for("warn .*the broker keeps no retained messages")
    wait_until(states.messages, "STATE is published")
    with env.connect().dial() as sock:  # the epoch comes with a NAK
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
    wait_until(lambda: len(states.messages()) > 1, "STATE is published again")
    done = env.cli("status", "GatewayOli", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["online"] is True and json.loads(done.stdout)["services"] == ["ssh"], done.stdout
    assert env.cli("status", "GatewayEli").returncode == 69
    broker.kill()
    env.broker(extra="retain_available false\n")
    agent.wait_for(harness.AGENT_READY, count=2, limit=harness.LIMIT + 10)
    assert len(re.findall("keeps no retained messages", agent.log())) == 1


@pytest.mark.parametrize("n_services, result", [(1, "sent without host keys"),
                                                (12, "sent without host keys and services")])
def test_broker_with_small_packets(env, n_services, result):
    """Answer and STATE lose their host keys, and then the services; the tunnel is up all the same."""
    (env.folder / "host.pub").write_text(f"ssh-rsa {'A' * 160} device\n")
    port = env.target(harness.echo).port
    services = " ".join(f'ssh{"-another-name-of-it" * bool(n)}{n or ""} = "127.0.0.1:{port}";' for n in range(n_services))
    config = env.folder / "agentd.conf"
    config.write_text(f"services = {{ {services} }};\n")
    env.broker(extra="max_packet_size 800\n")
    env.relay()
    agent = env.agent("GatewayOli", "--config", config, GOTTHARD_AGENT_HOST_KEYS=env.folder / "host.pub")
    tunnel = env.connect()
    agent.wait_for(f'warn .*operator=alice message=ACK larger than the broker accepts bytes=\\d+ limit=\\d+ result="{result}"')
    answered = tunnel.event("answered")
    assert answered["host_keys"] == [], answered
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
