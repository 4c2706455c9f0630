# SPDX-License-Identifier: ISC
"""The audit of the device and of the relay: its events, its chain, which shows changes, and faults of its file, which harm no
session. It is read by tests/lib/audit.py, which is written from docs/audit.md."""

import contextlib
import json
import os
import shutil
import signal

import pytest

import audit
import harness
from harness import PROGRAMS, wait_until
from setting_markers import effect, refuses
from test_access_list import Fleet, assert_granted, assert_refused
from test_cli import error_id
from test_faults import open_stream


@pytest.fixture
def system(env):
    env.broker()
    return env


@pytest.fixture
def relay_folder(system):
    folder = system.folder / "state-relay"
    folder.mkdir(mode=0o700)
    system.relay_process = system.relay(env=system.relay_environment(STATE_DIRECTORY=folder))
    return folder


@pytest.fixture
def fleet(system, relay_folder):
    fleet = Fleet(system)
    fleet.folder = system.folder / "state-GatewayOli"
    fleet.publish(1, fleet.operator("alice"))
    return fleet


def wait_event(folder, name, n=1, **fields):
    """Waits for @n events of that name with these members, and returns them."""
    def find():
        found = [event for event in audit.events(folder, name) if fields.items() <= event.items()]
        return found if len(found) >= n else None

    return wait_until(find, f"an event {name} {fields} in {folder}")


def verify(env, path, *args):
    return env.cli("audit", "--file", path, *args)


# --- the device ----------------------------------------------------------------------------------


def test_session_is_recorded_with_key_service_target_source_and_bytes(fleet):
    tunnel = fleet.env.connect(options=("--reason", 'mend "it"'))
    sock = open_stream(tunnel)
    sock.sendall(b"12345")
    assert harness.receive_exactly(sock, 5) == b"12345"
    (dialled,) = wait_event(fleet.folder, "dialled")
    sock.close()
    (ended,) = wait_event(fleet.folder, "ended")
    tunnel.disconnect()
    (closed,) = wait_event(fleet.folder, "closed")
    (asked,), (granted,) = audit.events(fleet.folder, "asked"), audit.events(fleet.folder, "granted")
    for event in (asked, granted, closed):
        assert event["operator"] == "alice" and event["key"] == fleet.keys["alice"] and event["purpose"] == 'mend "it"'
    for event in (granted, dialled, ended, closed):
        assert event["session"] == granted["session"] and event["serial"] == 1
    assert granted["service"] == "ssh"
    for event in (dialled, ended):
        assert event["service"] == "ssh" and event["target"] == f"127.0.0.1:{fleet.target.port}" and event["stream"] == 1
        assert event["source"].startswith("127.0.0.1:")
    assert (ended["up"], ended["down"]) == (10, 10) == (closed["up"], closed["down"])
    assert closed["streams"] == 1 and closed["reason"]
    assert [event["event"] for event in audit.events(fleet.folder)][:2] == ["start", "access-list"]
    assert verify(fleet.env, fleet.folder).returncode == 0


def test_refusals_are_recorded_with_their_reason(fleet):
    assert_refused(fleet, "bob")
    (refused,) = wait_event(fleet.folder, "refused", operator="bob")
    assert refused["reason"] == "not signed by a trusted key" and refused["serial"] == 1
    result = fleet.env.cli("connect", "GatewayOli", "0:nothing")
    assert result.returncode != 0
    (refused,) = wait_event(fleet.folder, "refused", operator="alice")
    assert refused["service"] == "nothing" and "no such service" in refused["reason"]
    assert refused["key"] == fleet.keys["alice"]


def test_refused_connection_is_recorded(fleet):
    fleet.target.close()
    tunnel = fleet.env.connect()
    with contextlib.suppress(ConnectionResetError):
        tunnel.dial().close()
    (ended,) = wait_event(fleet.folder, "ended")
    assert "source" not in ended and "refused" in ended["reason"]
    tunnel.disconnect()


def test_revocation_is_recorded(fleet):
    tunnel = fleet.env.connect()
    open_stream(tunnel)
    fleet.publish(2, fleet.operator("alice"), "revoked o:alice")
    (closed,) = wait_event(fleet.folder, "closed")
    assert closed["reason"] == "the access list revokes the operator" and closed["serial"] == 2
    assert [event["serial"] for event in audit.events(fleet.folder, "access-list")] == [1, 2]


def test_disconnect_names_who_has_closed(fleet):
    tunnel = fleet.env.connect()
    assert fleet.env.cli("disconnect", "GatewayOli", "--reason", "lunch").returncode == 0
    (closed,) = wait_event(fleet.folder, "closed")
    assert closed["reason"] == "closed by alice: lunch"
    tunnel.wait()


def test_reload_and_stop_are_recorded(env):
    env.broker()
    env.relay()
    folder = env.folder / "state-GatewayOli"
    config = env.config_folder(agentd="")
    agent = env.agent(GOTTHARD_CONFIG_DIR=config)
    agent.send(signal.SIGHUP)
    wait_event(folder, "reload", reason="reloaded")
    (config / "agentd.conf").write_text("nonsense = ;")
    agent.send(signal.SIGHUP)
    (failed,) = [event for event in wait_event(folder, "reload", 2) if event["reason"] != "reloaded"]
    assert "agentd.conf" in failed["reason"]
    assert agent.stop() == 0
    wait_event(folder, "stop")


def test_audit_is_turned_off_and_on_by_a_reload(env):
    env.broker()
    env.relay()
    folder = env.folder / "state-GatewayOli"
    config = env.config_folder(agentd="")
    agent = env.agent(GOTTHARD_CONFIG_DIR=config)
    (config / "agentd.conf").write_text("audit = { files = 0; };")
    agent.send(signal.SIGHUP)
    wait_event(folder, "reload", reason="reloaded, the audit ends")
    n = len(audit.lines(folder))
    agent.send(signal.SIGHUP)
    agent.wait_for("reloaded", count=2)
    assert len(audit.lines(folder)) == n
    (config / "agentd.conf").write_text("")
    agent.send(signal.SIGHUP)
    wait_event(folder, "reload", reason="reloaded")
    assert len(audit.lines(folder)) == n + 1


def test_connections_of_a_session_that_outlives_the_agent_are_recorded(fleet):
    """Also those that end while no agent is running."""
    tunnel = fleet.env.connect()
    sock = open_stream(tunnel)
    assert fleet.agent.stop() == 0
    sock.close()
    open_stream(tunnel).close()
    fleet.agent = fleet.start()
    wait_event(fleet.folder, "restored", operator="alice", key=fleet.keys["alice"])
    open_stream(tunnel).close()
    wait_event(fleet.folder, "ended", 3)
    wait_event(fleet.folder, "dialled", 3)
    tunnel.disconnect()
    (closed,) = wait_event(fleet.folder, "closed")
    assert closed["streams"] == 3
    wait_until(lambda: not list(fleet.folder.glob("*.session*")), "the files of the session are removed")


@effect("agentd", "audit.size", "audit.files")
def test_device_rotates_its_files(env):
    env.broker()
    env.relay()
    folder = env.folder / "state-GatewayOli"
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port, GOTTHARD_AUDIT_SIZE="16KiB", GOTTHARD_AUDIT_FILES=2)
    tunnel = env.connect()
    for _ in range(60):
        open_stream(tunnel).close()
    wait_until(lambda: (folder / "audit.log.1").exists(), "the files rotate")
    wait_event(folder, "ended", 20)
    assert len(audit.files(folder)) == 2
    assert all(path.stat().st_size <= 16 << 10 for path in audit.files(folder))
    assert verify(env, folder).returncode == 0
    tunnel.disconnect()
    assert agent.stop() == 0


@refuses("agentd", "audit.files")
def test_device_without_files_records_nothing(env):
    env.broker()
    env.agent(GOTTHARD_AUDIT_FILES=0)
    assert audit.files(env.folder / "state-GatewayOli") == []


def test_flood_of_connections_is_bounded_and_counted(fleet):
    tunnel = fleet.env.connect()
    n = 500
    for _ in range(n):
        tunnel.dial().close()
    tunnel.disconnect()
    (closed,) = wait_event(fleet.folder, "closed")
    events = audit.events(fleet.folder)
    recorded = sum(event["event"] in ("dialled", "ended") for event in events)
    lost = sum(event["n"] for event in events if event["event"] == "lost")
    assert lost > 0 and recorded < 2 * n
    assert closed["streams"] > n - 20  # one that is closed at once may never begin


def test_unwritable_file_stops_nothing_and_is_named_afterwards(fleet):
    assert_granted(fleet)
    wait_event(fleet.folder, "closed")
    kept = fleet.env.folder / "kept"
    (fleet.folder / "audit.log").rename(kept)
    (fleet.folder / "audit.log").mkdir()
    assert_granted(fleet)
    fleet.agent.wait_for("audit.log cannot be written, events are counted only")
    assert fleet.agent.log().count("cannot be written") == 1
    (fleet.folder / "audit.log").rmdir()
    kept.rename(fleet.folder / "audit.log")
    wait_until(lambda: assert_granted(fleet) or audit.events(fleet.folder, "lost"), "the lost events are counted")
    fleet.agent.wait_for("audit.log is written again")
    assert verify(fleet.env, fleet.folder).returncode == 0


def test_full_disk_stops_nothing_and_is_named_afterwards(env):
    """A state directory of a few KiB, in a mount namespace of the agent."""
    if os.geteuid() != 0 or harness.SANITIZER != "none":
        pytest.skip("only root can mount a small file system")
    env.broker()
    env.relay()
    folder = env.folder / "state-GatewayOli"
    folder.mkdir(mode=0o700)
    harness.subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k,mode=0700", "tmpfs", folder], check=True)
    try:
        agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(4096 * b"x"):
                    pass
            except OSError:
                pass
        tunnel = env.connect()
        for _ in range(30):
            open_stream(tunnel).close()
        agent.wait_for("audit.log cannot be written, events are counted only")
        filler.unlink()
        wait_until(lambda: open_stream(tunnel).close() or audit.events(folder, "lost"), "the lost events are counted")
        tunnel.disconnect()
        assert verify(env, folder).returncode == 0
        assert agent.stop() == 0
    finally:
        harness.subprocess.run(["umount", "-l", folder], check=True)


def test_power_cut_is_recorded(fleet):
    assert_granted(fleet)
    wait_event(fleet.folder, "closed")
    fleet.agent.kill()
    path = fleet.folder / "audit.log"
    os.truncate(path, path.stat().st_size - 9)
    fleet.agent = fleet.start()
    fleet.agent.wait_for("audit.log: the last line is not complete")
    wait_until(lambda: b'"event":"torn"' in path.read_bytes(), "the line torn")
    result = verify(fleet.env, path)
    assert result.returncode == 0 and "not written completely" in result.stderr


# --- the verifier --------------------------------------------------------------------------------


@pytest.fixture
def recorded(fleet, tmp_path):
    """A copy of an audit with two sessions, and its lines."""
    for _ in range(2):
        assert_granted(fleet)
    wait_event(fleet.folder, "closed", 2)
    copy = tmp_path / "audit.log"
    shutil.copy(fleet.folder / "audit.log", copy)
    return fleet.env, copy, copy.read_bytes().splitlines(keepends=True)


TAMPERED = {
    "changed": lambda lines: [line.replace(b"alice", b"mally") for line in lines],
    "removed": lambda lines: lines[:3] + lines[4:],
    "inserted": lambda lines: lines[:3] + [lines[3], lines[3]] + lines[4:],
    "exchanged": lambda lines: lines[:2] + [lines[3], lines[2]] + lines[4:],
    "garbage": lambda lines: lines[:3] + [b"\x1b]0;owned\x07\n"] + lines[3:],
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_is_found(recorded, case):
    env, copy, lines = recorded
    assert verify(env, copy).returncode == 0
    copy.write_bytes(b"".join(TAMPERED[case](lines)))
    result = verify(env, copy)
    assert result.returncode == 76 and error_id(result) == "GTD-E37", result.stderr
    assert "\x1b" not in result.stdout + result.stderr


@effect("cli", "--file", "--since", "--verify")
def test_lines_are_printed_from_a_time_on(recorded):
    env, copy, lines = recorded
    whole = verify(env, copy)
    assert whole.stdout.encode() == b"".join(lines)
    assert verify(env, copy, "--verify").stdout == ""
    time = json.loads(lines[3])["time"]
    later = [line for line in lines if json.loads(line)["time"] >= time[:-5]]
    assert verify(env, copy, "--since", time[:-5] + "Z").stdout.encode() == b"".join(later)
    assert verify(env, copy, "--since", "1h").stdout == whole.stdout
    assert verify(env, copy, "--since", "2100-01-01").stdout == ""
    assert verify(env, copy, "--since", "yesterday").returncode == 64
    last = json.loads(verify(env, copy, "--verify", "--json").stdout)
    assert last["event"] == "verified" and last["lines"] == len(lines) == last["seq"]
    assert last["hash"] == audit.hashlib.sha256(lines[-1]).hexdigest()


@effect("cli", "--known")
def test_known_line_shows_an_audit_that_was_written_again(recorded):
    """With all hashes, so that the chain alone is intact."""
    env, copy, lines = recorded
    last = json.loads(verify(env, copy, "--verify", "--json").stdout)["hash"]
    assert verify(env, copy, "--known", last).returncode == 0
    forged, prev = [], audit.NONE
    for line in lines:
        event = json.loads(line.replace(b"alice", b"mally")) | {"prev": prev}
        forged.append(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        prev = audit.hashlib.sha256(forged[-1]).hexdigest()
    copy.write_bytes(b"".join(forged))
    assert verify(env, copy).returncode == 0
    result = verify(env, copy, "--known", last)
    assert result.returncode == 76 and "lacks the line of --known" in result.stderr
    copy.write_bytes(b"".join(lines[:-1]))  # its end was cut off
    assert verify(env, copy).returncode == 0 and verify(env, copy, "--known", last).returncode == 76
    assert verify(env, copy, "--known", "abc").returncode == 64


def test_file_that_is_no_audit_is_reported(env, tmp_path):
    result = verify(env, tmp_path / "absent")
    assert result.returncode == 69 and error_id(result) == "GTD-E38"
    (tmp_path / "empty").touch()
    result = verify(env, tmp_path / "empty")
    assert result.returncode == 69 and "has no line" in result.stderr
    assert verify(env, PROGRAMS["cli"]).returncode == 76


# --- reading through the tunnel ------------------------------------------------------------------


@pytest.mark.parametrize("role", ["auditor", "admin"])
def test_auditor_reads_the_audit_through_the_tunnel(fleet, role):
    assert_granted(fleet)
    wait_event(fleet.folder, "closed")
    fleet.publish(2, fleet.operator("alice"), fleet.operator("bob", f"role={role}"))
    result = fleet.env.cli("audit", "GatewayOli", name="bob")
    assert result.returncode == 0, result.stderr
    read = result.stdout.encode().splitlines(keepends=True)
    assert read == audit.lines(fleet.folder)[:len(read)] and len(read) > 6
    assert "is intact up to number" in result.stderr
    (granted,) = wait_event(fleet.folder, "granted", operator="bob")  # the reading itself
    assert granted["service"] == "@audit" and granted["key"] == fleet.keys["bob"]
    wait_event(fleet.folder, "closed", operator="bob")
    later = fleet.env.cli("audit", "GatewayOli", "--since", "2100-01-01", "--json", name="bob")
    assert json.loads(later.stdout)["lines"] > len(read)


def test_auditor_may_read_only(fleet):
    fleet.publish(2, fleet.operator("alice"), fleet.operator("bob", "role=auditor"))
    assert fleet.env.cli("connect", "GatewayOli", "0:ssh", name="bob").returncode == 77
    fleet.publish(3, fleet.operator("alice"), fleet.operator("bob", "role=auditor services=ssh"))
    assert_granted(fleet, "bob")


def test_operator_without_the_role_may_not_read(fleet):
    result = fleet.env.cli("audit", "GatewayOli")
    assert result.returncode == 77 and "the role auditor or admin" in result.stderr and result.stdout == ""
    (refused,) = wait_event(fleet.folder, "refused", operator="alice")
    assert refused["service"] == "@audit"
    assert fleet.env.cli("audit", "GatewayOli", name="bob").returncode == 77


def test_nobody_reads_with_the_key_alone(env):
    """Under psk any holder of the key has any name."""
    env.broker()
    env.relay()
    env.agent(GOTTHARD_TRUST_POLICY="psk")
    result = env.cli("audit", "GatewayOli")
    assert result.returncode == 77 and result.stdout == ""


def test_pins_grant_the_reading(env):
    env.broker()
    env.relay()
    fingerprint = env.cli("fingerprint").stdout.split()[1]
    pins = env.folder / "operators.pins"
    pins.write_text(f"alice {fingerprint} role=auditor\n")
    env.agent(GOTTHARD_TRUST_PINS=pins)
    result = env.cli("audit", "GatewayOli")
    assert result.returncode == 0 and '"event":"start"' in result.stdout, result.stderr


def test_tampering_on_the_device_is_found_by_the_auditor(fleet):
    fleet.publish(2, fleet.operator("alice", "role=admin"))
    assert_granted(fleet)
    wait_event(fleet.folder, "closed")
    path = fleet.folder / "audit.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + [b"\x1b]0;owned\x07 not a line\n", lines[3].replace(b"alice", b"mally")] + lines[4:]))
    result = fleet.env.cli("audit", "GatewayOli")
    assert result.returncode == 76 and error_id(result) == "GTD-E37"
    assert "\x1b" not in result.stdout + result.stderr
    fleet.agent.wait_for("audit.log: the chain is broken, lines were changed or removed")


def test_large_audit_is_read_whole_while_it_grows(fleet):
    """More than the buffers on the way hold; the length is that of the beginning."""
    fleet.publish(2, fleet.operator("alice", "role=admin"))
    fleet.agent.stop()
    size = 8 << 20
    chain, path = [], fleet.folder / "audit.log"
    before = audit.events(fleet.folder)[-1]
    prev = audit.hashlib.sha256(path.read_bytes().splitlines(keepends=True)[-1]).hexdigest()
    for seq in range(before["seq"] + 1, before["seq"] + 1 + size // 400):
        line = (json.dumps({"seq": seq, "time": before["time"], "event": "asked", "reason": 200 * "x", "prev": prev},
                           separators=(",", ":")) + "\n").encode()
        prev = audit.hashlib.sha256(line).hexdigest()
        chain.append(line)
    with path.open("ab") as file:
        file.write(b"".join(chain))
    fleet.agent = fleet.env.agent(GOTTHARD_AGENT_DATA_PORT=fleet.target.port, GOTTHARD_TRUST_AUTHORITY=fleet.authority.text,
                                  GOTTHARD_AUDIT_SIZE="64MiB")
    result = fleet.env.cli("audit", "GatewayOli", "--verify")
    assert result.returncode == 0, result.stderr
    assert int(result.stderr.split("up to number ")[1].split(",")[0]) >= before["seq"] + len(chain)


# --- the relay -----------------------------------------------------------------------------------


def test_relay_records_clients_and_sessions(fleet, relay_folder):
    assert_granted(fleet)
    (closed,) = wait_event(relay_folder, "closed")
    assert closed["operator"] == "alice" and closed["device"] == "GatewayOli" and closed["port"] > 0
    assert closed["streams"] == 1 and closed["reason"] and closed["up"] > 10 and closed["down"] > 10  # with those of TLS
    (paired,) = audit.events(relay_folder, "paired")
    assert paired["session"] == closed["session"] and paired["port"] == closed["port"]
    ups = wait_event(relay_folder, "client-up", 2)
    assert {event["client"] for event in ups} == {"g1:o:alice", "g1:d:GatewayOli"}
    assert all(event["address"] and event["software"] for event in ups)
    wait_event(relay_folder, "client-down", 2)
    assert audit.events(relay_folder)[0]["event"] == "start"
    device = audit.events(fleet.folder, "granted")[0]
    assert device["session"] == closed["session"]


def test_relay_records_refusals(system):
    folder = system.folder / "state-relay"
    folder.mkdir(mode=0o700)
    system.relay(env=system.relay_environment(STATE_DIRECTORY=folder, GOTTHARD_LIMITS_SESSIONS=1))
    system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(harness.echo).port)
    tunnel = system.connect()
    assert system.cli("connect", "GatewayOli", "0:ssh", name="bob").returncode != 0
    refused = wait_event(folder, "refused")
    assert {event["client"] for event in refused} <= {"g1:o:bob", "g1:d:GatewayOli"}
    assert "limits.sessions" in refused[0]["reason"] and refused[0]["code"] > 0
    tunnel.disconnect()


def test_relay_records_reload_upgrade_and_stop(fleet, relay_folder):
    relay = fleet.env.relay_process
    relay.send(signal.SIGHUP)
    wait_event(relay_folder, "reload", reason="reloaded")
    tunnel = fleet.env.connect()
    relay.send(signal.SIGUSR2)
    wait_event(relay_folder, "upgrade")
    open_stream(tunnel).close()
    tunnel.disconnect()
    (closed,) = wait_event(relay_folder, "closed")
    assert closed["up"] > 10
    assert relay.stop() == 0
    wait_event(relay_folder, "stop")
    assert verify(fleet.env, relay_folder).returncode == 0


@effect("relayd", "audit.size", "audit.files")
def test_relay_rotates_its_files(system):
    folder = system.folder / "state-relay"
    folder.mkdir(mode=0o700)
    system.relay(env=system.relay_environment(STATE_DIRECTORY=folder, GOTTHARD_AUDIT_SIZE="16KiB", GOTTHARD_AUDIT_FILES=2))
    system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(harness.echo).port)

    def rotates():
        tunnel = system.connect()
        tunnel.disconnect()
        return (folder / "audit.log.1").exists()

    wait_until(rotates, "the files rotate", limit=3 * harness.LIMIT)
    assert len(audit.files(folder)) == 2
    assert all(path.stat().st_size <= 16 << 10 for path in audit.files(folder))
    assert verify(system, folder).returncode == 0


@refuses("relayd", "audit.files")
def test_relay_without_files_or_folder_records_nothing(system):
    folder = system.folder / "state-relay"
    folder.mkdir(mode=0o700)
    relay = system.relay(env=system.relay_environment(STATE_DIRECTORY=folder, GOTTHARD_AUDIT_FILES=0))
    assert relay.stop() == 0
    assert audit.files(folder) == []
    folder.chmod(0o777)
    relay = system.relay(env=system.relay_environment(STATE_DIRECTORY=folder))
    relay.wait_for("no audit is written: .*must not be writable by others")
    assert audit.files(folder) == []
