# SPDX-License-Identifier: ISC
"""A tunnel that a limit ends: relay, agent and command name the same limit, by its setting. An idle tunnel has none."""

import os
import re
import signal
import socket
import time

import pytest

import harness
from harness import echo, wait_until


class Parts:
    """The three programs with settings of the test."""

    def __init__(self, env, relayd="", agentd="", cli=""):
        self.env = env
        env.broker()
        self.relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=env.config_folder(relayd=relayd)))
        self.agent = env.agent(GOTTHARD_CONFIG_DIR=env.config_folder(agentd=agentd),
                               GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
        self.options = {"GOTTHARD_CONFIG_DIR": env.config_folder(cli=cli)}

    def connect(self, **more):
        return self.env.connect(**self.options, **more)

    def refuse(self, device="GatewayOli", **more):
        return self.env.cli("connect", device, "0:ssh", **self.options, **more)


def assert_ended(tunnel, status, id_, *words):
    assert tunnel.wait() == status
    error = tunnel.event("error")
    assert error["id"] == id_
    for word in words:
        assert word in error["message"] + error["hint"], error


@pytest.mark.parametrize("program,whose", [("relayd", "of the relay"), ("agentd", "of the device"), ("cli", "of this command")])
def test_lifetime_names_the_program_whose_limit_it_was(env, program, whose):
    parts = Parts(env, **{program: 'timeouts = { lifetime = "4s"; };'})
    tunnel = parts.connect()
    assert_ended(tunnel, 69, "GTD-E73", f"timeouts.lifetime {whose}", "lifetime of the tunnel to GatewayOli has expired")
    parts.agent.wait_for('ended cause=expired .*reason="the lifetime of the session has expired"')
    parts.relay.wait_for('session=.* ended .*reason="the lifetime of the session has expired"')
    assert tunnel.event("closed")["reason"] == "expired"


def test_idle_limit_of_the_relay(env):
    parts = Parts(env, relayd='timeouts = { idle = "1s"; };')
    tunnel = parts.connect()
    assert_ended(tunnel, 69, "GTD-E72", "no connection for longer than its timeouts.idle", "0 is none")
    reason = "no connection for longer than timeouts.idle of the relay"
    parts.agent.wait_for(f'ended cause=idle .*reason="{reason}"')
    parts.relay.wait_for(f'session=.* ended .*reason="{reason}"')
    assert tunnel.event("closed")["reason"] == "idle"


def test_idle_tunnel_outlives_every_other_limit(env):
    """No setting ends a tunnel because it is idle, unless the relay's operator wants one to."""
    parts = Parts(env, relayd="""timeouts = { pairing = "1s"; session_grace = "1s"; hello = "1s"; join = "1s"; join_peer = "1s";
                                 ticket = "1s"; half_closed = "1s"; handshake = "1s"; };""",
                  agentd='timeouts = { peer = "1s"; resume_window = "1s"; vanished = "2s"; dial = "1s"; };',
                  cli='timeouts = { peer = "1s"; resume_window = "1s"; vanished = "2s"; };')
    tunnel, started = parts.connect(), time.monotonic()
    wait_until(lambda: time.monotonic() - started > 5, "several times each of them")
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
    assert tunnel.disconnect() == 0
    assert not [e for e in tunnel.events() if e["event"] in ("error", "peer-lost", "relay-lost")]


def test_pairing_limit_of_the_relay(env):
    """The device waits for a relay that never answers. The command registers again until its own limit."""
    parts = Parts(env, relayd='timeouts = { pairing = "1s"; };', cli='timeouts = { peer = "3s"; };')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env.agent("dev-elsewhere", GOTTHARD_SERVER_HOST="127.0.0.1", GOTTHARD_SERVER_PORT=silent.getsockname()[1])
        refused = parts.refuse("dev-elsewhere")
    assert refused.returncode == 69
    assert re.search("dev-elsewhere did not connect to the relay (within timeouts.pairing of the relay|.*in time.*timeouts.peer)",
                     refused.stderr), refused.stderr
    parts.relay.wait_for('session=.* ended .*reason="the other side did not come within timeouts.pairing of the relay"')


def test_pairing_limit_as_the_device_sees_it(env):
    parts = Parts(env, relayd='timeouts = { pairing = "1s"; };', agentd='timeouts = { peer = "3s"; };')
    assert parts.refuse(GOTTHARD_SERVER_PORT=harness.free_ports(1)).returncode == 69
    parts.agent.wait_for('ended cause=peer .*reason="(the other side did not come within timeouts.pairing of the relay|'
                         'the operator did not connect to the relay)"')


def test_grace_limit_of_the_relay(env):
    """The relay gives the session up earlier than the command does: the device is lost, not the relay."""
    parts = Parts(env, relayd='timeouts = { session_grace = "500ms"; };', cli='timeouts = { resume_window = "3s"; };')
    tunnel = parts.connect()
    worker, = harness.children_of(parts.agent.pid)
    parts.agent.send(signal.SIGSTOP)  # it would report the killed worker at once
    os.kill(worker, signal.SIGKILL)
    parts.relay.wait_for('session=.* ended .*reason="the other side did not return within timeouts.session_grace of the relay"')
    assert_ended(tunnel, 69, "GTD-E71", "GatewayOli is lost: the device was lost and did not return", "timeouts.resume_window")
    parts.agent.send(signal.SIGCONT)


@pytest.mark.parametrize("limit", ["sessions_per_identity", "sessions"])
def test_quota_of_the_relay(env, limit):
    parts = Parts(env, relayd=f"limits = {{ {limit} = 1; }};")
    env.agent("GatewayTwo", GOTTHARD_AGENT_DATA_PORT=env.target(echo).port)
    parts.connect()
    refused = parts.refuse("GatewayTwo")
    what = f"the relay allows 1 sessions{' per identity' if 'identity' in limit else ''}: limits.{limit}"
    assert refused.returncode == 75 and what in refused.stderr and "GatewayTwo" in refused.stderr, refused.stderr
    assert ("this operator has as many" in refused.stderr) == (limit == "sessions_per_identity")
    parts.relay.wait_for(rf'warn .*client=\S+ rejected .*reason=".*limits\.{limit}\b')


@pytest.mark.parametrize("n_ports,sessions,is_warned", [(20, None, True), (20, 21, True), (20, 20, False), (1, 2, True)])
def test_relay_with_fewer_ports_than_sessions(env, n_ports, sessions, is_warned):
    """The relay states both numbers at its start, once."""
    folder = env.config_folder(relayd=f"limits = {{ sessions = {sessions}; }};" if sessions else "")
    relay = env.relay(env=env.relay_environment(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_SERVER_PORTS_TO=env.relay_ports + n_ports - 1))
    relay.wait_for("listening")
    lines = re.findall(rf" warn .*: {n_ports} ports, fewer than limits.sessions \({sessions or 999}\)", relay.log())
    assert len(lines) == is_warned, relay.log()
