# SPDX-License-Identifier: ISC
"""A broker that refuses the device's messages, as the owner of the device and its service manager see it."""

import re
import signal

import harness
from harness import wait_until
from test_late_files import Notifications


def change_acl(env, broker, edit):
    """Applies @edit to the text of the broker's access rules, while it runs."""
    acl = env.folder / "mosquitto.acl"
    acl.write_text(edit(acl.read_text()))
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
    manager.wait_for("STATUS=offline for operators: the broker refuses the state of this device")
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
