# SPDX-License-Identifier: ISC
"""`status DEVICE` asks the device: round trip, sessions with streams and bytes, relays; and who may see which sessions."""

import json
import os
import re
import signal

import harness
from harness import wait_until
from test_sessions import read_tag, start, tagged


def status(env, *args, name="alice", **more):
    result = env.cli("status", "dev-aaaa", "--json", *args, name=name, **more)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_answer_of_a_device(env):
    start(env, "dev-aaaa")
    found = status(env)
    assert found["answered"] is True and 0 < found["round_trip_s"] < harness.LIMIT
    assert (found["sessions"], found["session_list"], found["other_sessions"]) == (0, [], 0)
    assert [(relay["name"], relay["address"], relay["state"]) for relay in found["relays"]] == [
        ("main", f"localhost:{env.relay_port}", "unknown")]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["clock"])
    text = env.cli("status", "dev-aaaa").stdout
    assert re.search(r"^  answered  in \d+ ms$", text, re.M) and re.search("not used since", text), text
    assert re.search(r"^  agent     running for \d+ m?s$", text, re.M), text


def test_sessions_with_streams_and_bytes(env):
    port = env.target(harness.echo).port
    env.broker()
    env.relay()
    env.agent("dev-aaaa", GOTTHARD_AGENT_DATA_PORT=port)
    tunnel = env.connect("dev-aaaa")
    with tunnel.dial() as sock:
        harness.send_pattern(sock, 1, 300_000)
        assert harness.receive_exactly(sock, 300_000)
        # a stream that is open: its bytes are counted before its end
        session = wait_until(lambda: next((s for s in status(env)["session_list"] if s.get("down", 0) >= 300_000), None), "the bytes")
        assert (session["operator"], session["service"], session["state"], session["streams"]) == ("alice", "ssh", "up", 1)
        assert session["up"] >= 300_000 and session["age_s"] < harness.LIMIT
        text = env.cli("status", "dev-aaaa").stdout
        assert re.search(r"^    alice, ssh, up for .*, 1 stream, up 293 KiB, down 293 KiB$", text, re.M), text
        relay = status(env)["relays"][0]
        assert relay["state"] == "reached", relay
    wait_until(lambda: status(env)["session_list"][0]["streams"] == 0, "the end of the stream")


def test_lost_relay_is_reported(env):
    env.broker()
    relay = env.relay()
    env.agent("dev-aaaa", GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port)
    env.connect("dev-aaaa")
    relay.kill()
    failed = wait_until(lambda: next((r for r in status(env)["relays"] if r["state"] == "failed"), None), "the loss of the relay")
    assert failed["reason"]
    assert re.search(rf"relay +main localhost:{env.relay_port}: failed .* ago: ", env.cli("status", "dev-aaaa").stdout)
    env.relay()
    wait_until(lambda: status(env)["relays"][0]["state"] == "reached", "the relay is back")


def test_operators_under_pins_see_their_own_sessions(env):
    """Of the others the number only; an admin sees all."""
    env.broker()
    env.relay()
    pins = env.folder / "operators.pins"
    lines = [env.cli("fingerprint", name=name).stdout for name in ("alice", "bob", "operator")]
    pins.write_text(lines[0] + lines[1] + lines[2].rstrip("\n") + " role=admin\n")
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=env.target(tagged("<aaaa>")).port)
    assert read_tag(env.connect("dev-aaaa", name="alice")) == "<aaaa>"
    for name, listed, n_others in (("alice", ["alice"], 0), ("bob", [], 1), ("operator", ["alice"], 0)):
        found = status(env, name=name)
        assert ([s["operator"] for s in found["session_list"]], found["other_sessions"], found["sessions"]) == (listed, n_others, 1), name
    assert "    1 of other operators" in env.cli("status", "dev-aaaa", name="bob").stdout


def test_operators_without_pins_see_all_sessions(env):
    """The fleet key alone decides: every holder is the operator."""
    start(env, "dev-aaaa")
    tunnel = env.connect("dev-aaaa", name="alice")
    assert read_tag(tunnel) == "<aaaa>"
    assert [s["operator"] for s in status(env, name="bob")["session_list"]] == ["alice"]


def test_operator_without_a_pin_gets_no_status(env):
    env.broker()
    pins = env.folder / "operators.pins"
    pins.write_text(env.cli("fingerprint", name="alice").stdout)
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    env.agent("dev-aaaa", GOTTHARD_CONFIG_DIR=folder)
    found = status(env, name="bob")
    assert found["online"] is True and found["answered"] is False and "session_list" not in found
    assert "no answer to the query" in env.cli("status", "dev-aaaa", name="bob").stderr


def test_silent_device_is_shown_by_its_state(env):
    """As before the query existed: it is online by its state, which is what its exit status says."""
    env.broker()
    agent = env.agent("dev-aaaa")
    os.kill(agent.pid, signal.SIGSTOP)
    result = env.cli("status", "dev-aaaa")
    os.kill(agent.pid, signal.SIGCONT)
    assert result.returncode == 0 and "dev-aaaa is online" in result.stdout
    assert "no answer to the query" in result.stderr and "answered" not in result.stdout


def test_restored_session_has_no_usage(env):
    """A restarted agent does not know the bytes of the sessions before it, and does not invent them."""
    port = env.target(tagged("<aaaa>")).port
    env.broker()
    env.relay()
    agent = env.agent("dev-aaaa", GOTTHARD_AGENT_DATA_PORT=port)
    tunnel = env.connect("dev-aaaa")
    assert read_tag(tunnel) == "<aaaa>"
    agent.stop()
    env.agent("dev-aaaa", GOTTHARD_AGENT_DATA_PORT=port)
    session = status(env)["session_list"][0]
    assert (session["operator"], session["service"], session["state"]) == ("alice", "", "up") and "up" not in session
    assert read_tag(tunnel) == "<aaaa>"
