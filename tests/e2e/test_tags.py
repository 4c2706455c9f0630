# SPDX-License-Identifier: ISC
"""Tags of devices: the agent's setting, the state at the broker, and selections by operators."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

import harness
import states
from harness import PROGRAMS, wait_until
from setting_markers import effect, refuses
from test_devices import rows
from test_settings_agentd import device

TAGS = 'device = {{ tags = {{ site = "{site}"; role = "gateway"; }}; }};'


def tags_of(env, name="GatewayOli"):
    row = rows(env.cli("devices", name, "--json")).get(name)
    return row and row["tags"]


@effect("agentd", "device.tags")
def test_tags_are_shown_also_when_offline_and_after_a_reload(env):
    env.broker()
    agent = device(env, TAGS.format(site="zurich"))
    assert tags_of(env) == {"site": "zurich", "role": "gateway"}
    assert re.search(r"^  tags +role=gateway site=zurich$", env.cli("status", "GatewayOli").stdout, re.M)
    folder = next(env.folder.glob("config-*"))
    (folder / "agentd.conf").write_text(TAGS.format(site="bern"))
    agent.send(signal.SIGHUP)
    wait_until(lambda: tags_of(env) == {"site": "bern", "role": "gateway"}, "the new tags")
    agent.wait_for("online broker=", count=2)  # the will belongs to the connection
    agent.kill()
    wait_until(lambda: "offline" in env.cli("status", "GatewayOli").stdout, "the will")
    assert tags_of(env) == {"site": "bern", "role": "gateway"}


@effect("agentd", "device.tags")
def test_tags_in_a_variable(env):
    env.broker()
    env.agent(GOTTHARD_DEVICE_TAGS="site=zurich,os=debian/12")
    assert tags_of(env) == {"site": "zurich", "os": "debian/12"}


def test_tags_are_not_readable_at_the_broker(env):
    """The retained payload has no part of them."""
    env.broker()
    env.agent(GOTTHARD_DEVICE_TAGS="site=a-secret-place")
    certs = env.certificates("god")
    done = subprocess.run(["mosquitto_sub", "-h", "localhost", "-p", str(env.broker_port), "--cafile", certs / "ca.crt", "--cert", certs / "cert.pem",
                           "--key", certs / "private.key", "-t", f"{env.PREFIX}/d/+/state", "-C", "1", "-N"],
                          capture_output=True, timeout=harness.LIMIT, check=True)
    assert len(done.stdout) > 60 and b"secret" not in done.stdout


@refuses("agentd", "device.tags")
@pytest.mark.parametrize("tags,why", [
    ("site=a b", "a value has at most 64"), ("1site=a", "beginning with a letter"), ("site=" + "x" * 65, "a value has at most 64"),
    (",".join(f"t{i}=x" for i in range(17)), "at most 16 tags"), (",".join(f"t{i}={'x' * 60}" for i in range(5)), "256 characters"),
    ("site=a,site=b", "device.tags"), ("site", "device.tags")])
def test_wrong_tags_are_refused(env, tags, why):
    done = subprocess.run([PROGRAMS["agentd"], "--check-config"], env=env.agent_environment("GatewayOli", GOTTHARD_DEVICE_TAGS=tags),
                          capture_output=True, text=True, timeout=harness.LIMIT, check=False)
    assert done.returncode == 78 and "device.tags" in done.stderr + done.stdout and why in done.stderr, done.stderr


def test_small_packets_lose_services_before_tags(env):
    services = " ".join(f'service-{i} = "127.0.0.1:{1000 + i}";' for i in range(40))
    env.broker(extra="max_packet_size 450\n")
    agent = device(env, f"services = {{ {services} }}; " + TAGS.format(site="zurich"))
    agent.wait_for('message=STATE larger than the broker accepts .*result="sent without host keys and services"')
    assert tags_of(env) == {"site": "zurich", "role": "gateway"}


# --- selections -----------------------------------------------------------------------------------


def tagged_fleet():
    return [states.State("gw-1", tags=("site=zurich", "role=gateway")), states.State("gw-2", tags=("site=bern", "role=gateway")),
            states.State("gw-3", is_online=False, tags=("site=zurich",)), states.State("plc-1")]


def selected(env, *words):
    result = env.cli("devices", *words, "--json")
    assert result.returncode == 0, result.stderr
    return set(rows(result))


def test_selections(env):
    env.broker()
    states.retain(env, tagged_fleet())
    assert selected(env, "site=zurich") == {"gw-1", "gw-3"}
    assert selected(env, "site=zurich", "role=gateway") == {"gw-1"}
    assert selected(env, "site=zurich", "--online") == {"gw-1"}
    assert selected(env, "site=*") == selected(env, "site=") == {"gw-1", "gw-2", "gw-3"}
    assert selected(env, "role!=gateway") == {"gw-3", "plc-1"}
    assert selected(env, "gw-[12]", "plc-1") == {"gw-1", "gw-2", "plc-1"}
    assert selected(env, "gw-*", "role=gateway") == {"gw-1", "gw-2"}
    assert selected(env, "site=paris") == set()
    result = env.cli("devices", "1a=b")
    assert result.returncode == 64 and "'1a=b': a tag's name" in result.stderr


def test_selection_says_what_it_cannot_judge(env):
    """Known names without a state have no tags to select by."""
    env.broker()
    states.retain(env, tagged_fleet())
    result = env.cli("devices", "site=zurich", GOTTHARD_CLIENT_DEVICES="gone-1 gone-2")
    assert "2 devices, 1 online" in result.stderr and "2 devices not shown: tags unknown" in result.stderr
    assert "gone" not in result.stdout
    assert "not shown" not in env.cli("devices", "site=zurich", "gw-*", GOTTHARD_CLIENT_DEVICES="gone-1").stderr


def list_on_terminal(env, columns):
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen([PROGRAMS["cli"], "devices"], stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.DEVNULL,
                          env=env.cli_environment()) as child:
        os.close(terminal)
        text = b""
        while True:
            try:
                data = os.read(reader, 65536)
            except OSError:
                break
            if not data:
                break
            text += data
    os.close(reader)
    assert child.returncode == 0
    return text.decode().splitlines()


@pytest.mark.parametrize("columns", [40, 64, 80, 120, 200])
def test_table_fits_the_terminal(env, columns):
    fleet = tagged_fleet() + [states.State("a-device-with-a-long-name-" + "x" * 40, services=tuple(f"service-{i}" for i in range(20)),
                                           tags=tuple(f"tag-{i}=value-{i}" for i in range(12)))]
    env.broker()
    states.retain(env, fleet)
    lines = list_on_terminal(env, columns)
    assert len(lines) == 1 + len(fleet) and max(map(len, lines)) <= columns, lines
    assert all(word in lines[0] for word in ("DEVICE", "STATE", "TAGS")), lines[0]
    assert ("SERVICES" in lines[0]) == (columns >= 64), lines[0]
    piped = env.cli("devices").stdout.splitlines()
    assert json.dumps(piped[1]).count("tag-") == 12 and "..." not in piped[1]
