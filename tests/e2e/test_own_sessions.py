# SPDX-License-Identifier: ISC
"""Sessions that their operator has given up make room for the next one, and never lock the operator out."""

import os
import signal
import time

import pytest

import harness
from harness import echo, wait_until
from setting_markers import effect

DEVICE = "dev-aaaa"
TWO = "limits = { sessions_per_operator = 2; };"


def start(env, relay=True, **more):
    env.broker()
    if relay:
        env.relay()
    folder = env.config_folder(agentd=TWO)
    return env.agent(DEVICE, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, GOTTHARD_CONFIG_DIR=folder, **more)


def works(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        return harness.receive_exactly(sock, 5) == b"hello"


def n_workers(agent):
    return len(harness.children_of(agent.pid))


def test_killed_tries_before_the_tunnel_is_up(env):
    """Their sessions wait for the relay, longer than the operator does."""
    agent = start(env, relay=False)
    for _ in range(2):
        tunnel = env.connect(DEVICE, wait=False)
        tunnel.event("answered")
        tunnel.kill()
    assert n_workers(agent) == 2
    at_once = env.cli("connect", DEVICE, "0:ssh")
    assert at_once.returncode == 75, "a session of a moment ago may be about to come up"
    env.relay()
    time.sleep(3)  # not for luck: the device's limit
    third, fourth = env.connect(DEVICE), env.connect(DEVICE)
    assert works(third) and works(fourth)
    assert len(agent.wait_for("replaced by a newer request of its operator", count=2).group()) > 0
    fifth = env.cli("connect", DEVICE, "0:ssh")
    assert fifth.returncode == 75 and "GTD-E42" in fifth.stderr, "sessions that are up are not replaced"
    assert works(third) and works(fourth)


def test_killed_tunnels(env):
    """The relay keeps their sessions for two minutes."""
    agent = start(env)
    for count in (1, 2):
        env.connect(DEVICE).kill()
        agent.wait_for("operator disconnected", count=count)
    assert works(env.connect(DEVICE))


def test_another_operators_sessions_are_not_replaced(env):
    agent = start(env, GOTTHARD_LIMITS_SESSIONS=2)
    for count in (1, 2):
        env.connect(DEVICE, name="bob").kill()
        agent.wait_for("operator disconnected", count=count)
    done = env.cli("connect", DEVICE, "0:ssh", name="alice")
    assert done.returncode == 75 and "GTD-E42" in done.stderr, done.stderr


@pytest.mark.parametrize("ending", ["interrupted", "timed out"])
def test_a_request_without_an_answer_is_withdrawn(env, ending):
    """The device handles the request when the operator has left. No session remains."""
    agent = start(env)
    os.kill(agent.pid, signal.SIGSTOP)
    tunnel = env.connect(DEVICE, wait=False, GOTTHARD_TIMEOUTS_ANSWER="2s", GOTTHARD_LOG_LEVEL="debug")
    tunnel.wait_for("request repeated")
    if ending == "interrupted":
        assert tunnel.stop(signal.SIGINT) == 130
    else:
        assert tunnel.wait() == 69
    os.kill(agent.pid, signal.SIGCONT)
    agent.wait_for("agreed")
    agent.wait_for('closing reason="closed by alice"')
    wait_until(lambda: n_workers(agent) == 0, "no session remains", 10)


@effect("cli", "--all")
def test_disconnect_closes_own_sessions(env):
    agent = start(env)
    alice, bob = env.connect(DEVICE, name="alice"), env.connect(DEVICE, name="bob")
    done = env.cli("disconnect", DEVICE, name="bob")
    assert done.returncode == 0 and "closed 1 session" in done.stderr
    bob.wait()
    assert works(alice)
    done = env.cli("disconnect", DEVICE, "--all", "--reason", "maint\x1benance", name="bob")
    assert done.returncode == 0 and "closed 1 session" in done.stderr
    alice.wait()
    agent.wait_for(r'operator=alice closing reason="closed by bob: maint\?enance"')


def test_operator_who_still_waits_reads_by_whom(env):
    """The session is not up: the reason comes over MQTT."""
    start(env, relay=False)
    tunnel = env.connect(DEVICE, wait=False)
    tunnel.event("answered")
    assert env.cli("disconnect", DEVICE, "--all", "--reason", "maintenance", name="bob").returncode == 0
    assert tunnel.wait() == 69
    assert "closed by bob: maintenance" in tunnel.event("error")["message"]


@effect("cli", "--reason")
def test_reason_is_in_the_devices_log(env):
    agent = start(env)
    tunnel = env.connect(DEVICE, options=["--reason", 'disk "sda" full', "--json"])
    agent.wait_for(r'operator=alice purpose="disk \\x22sda\\x22 full"')
    tunnel.disconnect()
    env.connect(DEVICE).disconnect()
    agent.wait_for("operator=alice agreed", count=2)
    assert agent.log().count("purpose") == 1
    long = env.cli("connect", DEVICE, "--reason", "x" * 201)
    assert long.returncode == 64 and "at most 200" in long.stderr, long.stderr
