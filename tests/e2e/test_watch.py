# SPDX-License-Identifier: ISC
"""`devices --watch`: the list, then each change, also of the time without a broker; and `devices --inventory`."""

import json
import os
import pty
import re
import signal
import subprocess

import pytest

import harness
import states
from harness import LIMIT, PROGRAMS, Process, wait_until
from setting_markers import effect
from test_cli import error_id

EXAMPLE = harness.ROOT / "etc" / "ansible-inventory-example"


class Watch(Process):
    def __init__(self, env, *words, **more):
        super().__init__(env, env.unique("watch"), [PROGRAMS["cli"], "devices", "--watch", *words], env=env.cli_environment(**more))

    def wait_line(self, pattern):
        return self.wait_for(pattern, where=self.out)

    def events(self, name=None):
        found = [json.loads(line) for line in self.out().splitlines()]
        return [event for event in found if name in (None, event["event"])]

    def wait_event(self, name, n=1):
        return wait_until(lambda: (lambda found: found[n - 1] if len(found) >= n else None)(self.events(name)), f"event {name} number {n}")


def publish(env, *fleet):
    states.retain(env, fleet)


TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "


@effect("cli", "--watch")
def test_changes_are_lines(env):
    env.broker()
    publish(env, states.State("gw-1", epoch="11" * 16, tags=("site=zurich",)), states.State("gw-2", is_online=False))
    watch = Watch(env)
    watch.wait_for("Watching for changes")
    assert re.search(r"^gw-1 .*online .*site=zurich", watch.out(), re.M) and re.search(r"^gw-2 .*offline", watch.out(), re.M)
    n_listed = len(watch.out().splitlines())
    publish(env, states.State("gw-1", epoch="11" * 16, seq=2, tags=("site=zurich",)))  # a refresh, without a change
    publish(env, states.State("gw-2"))
    watch.wait_line(TIME + "gw-2  came online$")
    publish(env, states.State("gw-1", epoch="11" * 16, seq=3, tags=("site=bern", "a=b"), sessions=2))
    watch.wait_line(TIME + "gw-1  sessions 2, tags a=b site=bern$")
    publish(env, states.State("gw-1", epoch="11" * 16, seq=4, is_online=False, sessions=2, services=("ssh", "web")))
    watch.wait_line(TIME + "gw-1  went offline, no tags, services ssh web$")
    publish(env, states.State("gw-3", tags=("x=y",)))
    watch.wait_line(TIME + "gw-3  appeared, online, tags x=y$")
    assert len(watch.out().splitlines()) == n_listed + 4, watch.out()
    watch.send(signal.SIGINT)
    assert watch.wait() == 0


def test_end_of_the_reader_ends_it(env):
    env.broker()
    publish(env, states.State("gw-1"))
    with subprocess.Popen([PROGRAMS["cli"], "devices", "--watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env.cli_environment()) as child:
        for line in child.stderr:
            if b"Watching for changes" in line:
                break
        child.stdout.close()
        assert child.wait(LIMIT) == 0


def test_agent_that_is_killed_goes_offline(env):
    env.broker()
    agent = env.agent()
    watch = Watch(env)
    watch.wait_for("Watching for changes")
    agent.kill()
    watch.wait_line(TIME + "GatewayOli  went offline$")
    env.agent()
    watch.wait_line(TIME + "GatewayOli  came online$")


def test_events_for_programs(env):
    env.broker()
    publish(env, states.State("gw-1", tags=("site=zurich",)))
    watch = Watch(env, "--json")
    assert watch.wait_event("listed")["devices"] == 1
    device = watch.wait_event("device")
    assert (device["device"], device["online"], device["tags"]) == ("gw-1", True, {"site": "zurich"})
    publish(env, states.State("gw-1", is_online=False))
    changed = watch.wait_event("changed")
    assert (changed["device"], changed["online"], changed["tags"], changed["changes"]) == ("gw-1", False, {}, ["online", "tags"])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in watch.events())
    assert watch.stop(signal.SIGINT) == 0


def test_only_selected_devices_are_watched(env):
    env.broker()
    publish(env, states.State("gw-1", tags=("site=zurich",)), states.State("gw-2", tags=("site=bern",)))
    watch = Watch(env, "site=zurich")
    watch.wait_for("Watching for changes")
    publish(env, states.State("gw-2", is_online=False, tags=("site=bern",)))
    publish(env, states.State("gw-1", tags=("site=bern",)))
    watch.wait_line("gw-1  tags site=bern, no longer selected$")
    publish(env, states.State("gw-1", is_online=False, tags=("site=bern",)))
    publish(env, states.State("gw-2", tags=("site=zurich",)))
    watch.wait_line("gw-2  came online, tags site=zurich$")
    assert len(watch.out().splitlines()) == 4, watch.out()


def test_changes_without_a_broker_are_seen_afterwards(env):
    """The broker restarts without its memory; devices have other states meanwhile."""
    broker = env.broker()
    publish(env, states.State("gw-1"), states.State("gw-2"))
    watch = Watch(env)
    watch.wait_for("Watching for changes")
    broker.stop()
    watch.wait_for("warn .*The broker was lost")
    env.broker()
    publish(env, states.State("gw-1"), states.State("gw-2", is_online=False))
    watch.wait_for("Connected to the broker again")
    watch.wait_line(TIME + "gw-2  went offline$")
    publish(env, states.State("gw-1", is_online=False))
    watch.wait_line(TIME + "gw-1  went offline$")
    assert len(watch.out().splitlines()) == 5, watch.out()
    assert watch.stop(signal.SIGINT) == 0


def test_loss_of_the_broker_is_an_event(env):
    broker = env.broker()
    watch = Watch(env, "--json")
    watch.wait_event("listed")
    broker.stop()
    assert watch.wait_event("broker-lost")["reason"]
    env.broker()
    watch.wait_event("broker-connected")
    publish(env, states.State("gw-9"))
    assert watch.wait_event("changed")["changes"] == ["appeared"]


@pytest.mark.parametrize("manners", [[], ["v5=False"]])
def test_watch_at_a_broker_that_sends_states_by_name_only(env, manners):
    """As AWS IoT Core: retained messages come for exact topics only, live ones also for the wildcard."""
    env.aws_broker(*manners)
    agent = env.agent()
    watch = Watch(env, "--json", GOTTHARD_CLIENT_DEVICES="GatewayOli")
    assert watch.wait_event("device")["device"] == "GatewayOli"
    watch.wait_event("listed")
    agent.kill()
    assert watch.wait_event("changed")["online"] is False
    assert watch.stop(signal.SIGINT) == 0


def test_broker_that_refuses_all_devices_is_asked_for_names(env):
    """An operator whose access rules permit single devices only."""
    broker = env.broker()
    acl = env.folder / "mosquitto.acl"
    acl.write_text(acl.read_text().replace(f"topic read {env.PREFIX}/d/+/state", f"topic read {env.PREFIX}/d/gw-1/state"))
    broker.wait_for("running")  # before that SIGHUP ends it
    broker.send(signal.SIGHUP)
    broker.wait_for("Reloading config")
    publish(env, states.State("gw-1"))
    watch = Watch(env, "--json", GOTTHARD_CLIENT_DEVICES="gw-1")
    watch.wait_event("listed")
    publish(env, states.State("gw-1", is_online=False))
    assert watch.wait_event("changed")["device"] == "gw-1"


def test_watch_without_a_broker_ends(env):
    result = env.cli("devices", "--watch")
    assert result.returncode == 69 and error_id(result) == "GTD-E20"
    assert env.cli("devices", "--watch", "--inventory").returncode == 64


def test_watch_on_a_terminal(env):
    """Standard output and error on one terminal: changes are lines below the table."""
    env.broker()
    publish(env, states.State("gw-1"))
    reader, terminal = pty.openpty()
    with subprocess.Popen([PROGRAMS["cli"], "devices", "--watch"], stdin=terminal, stdout=terminal, stderr=terminal,
                          env=env.cli_environment(TERM="xterm", LANG="C.UTF-8"), start_new_session=True) as child:
        os.close(terminal)
        text = ""
        while "Press Ctrl+C to end." not in text:
            text += os.read(reader, 65536).decode()
        publish(env, states.State("gw-1", is_online=False))
        while "went offline" not in text:
            text += os.read(reader, 65536).decode()
        child.send_signal(signal.SIGINT)
        assert child.wait(LIMIT) == 0
    os.close(reader)
    lines = re.sub(r"[^\n]*\r\x1b\[K", "", text.replace("\r\n", "\n")).splitlines()
    assert lines[0].startswith("DEVICE") and re.match(TIME + "gw-1  went offline", lines[-1]), lines


# --- the inventory of Ansible ---------------------------------------------------------------------


def check_inventory(text):
    """The structure of the documentation: groups with hosts or children, hostvars in _meta, and no host without them."""
    inventory = json.loads(text)
    variables = inventory["_meta"]["hostvars"]
    groups = {name: group for name, group in inventory.items() if name != "_meta"}
    assert set(groups["all"]["children"]) == set(groups) - {"all"}
    for name, group in groups.items():
        assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) and set(group) <= {"hosts", "children", "vars"}
        assert set(group.get("hosts", [])) <= set(variables)
    for name, host in variables.items():
        assert host["ansible_host"] == f"{name}.gotthard"
        assert any(name in group.get("hosts", []) for group in groups.values())
    return groups, variables


@effect("cli", "--inventory")
def test_inventory(env):
    env.broker()
    publish(env, states.State("gw-1", tags=("site=zurich", "os=debian/12")), states.State("gw-2", tags=("site=zurich",), is_online=False),
            states.State("GatewayOli"))
    result = env.cli("devices", "--inventory", GOTTHARD_CLIENT_DEVICES="gone-1")
    assert result.returncode == 0
    groups, variables = check_inventory(result.stdout)
    assert groups["site_zurich"]["hosts"] == ["gw-1", "gw-2"] and groups["os_debian_12"]["hosts"] == ["gw-1"]
    assert groups["ungrouped"]["hosts"] == ["GatewayOli"]
    assert groups["gotthard_online"]["hosts"] == ["GatewayOli", "gw-1"] and groups["gotthard_offline"]["hosts"] == ["gw-2"]
    assert set(variables) == {"gw-1", "gw-2", "GatewayOli"}
    assert variables["gw-1"]["gotthard"]["tags"] == {"site": "zurich", "os": "debian/12"} and variables["gw-2"]["gotthard"]["online"] is False
    _, variables = check_inventory(env.cli("devices", "--inventory", "--online", "site=*").stdout)
    assert set(variables) == {"gw-1"}
    assert check_inventory(env.cli("devices", "--inventory", "site=paris").stdout)[1] == {}


def test_inventory_that_is_not_whole_fails(env):
    """A playbook must not run on a part of the fleet without notice."""
    env.broker()
    publish(env, states.State("gw-1"))
    proxy_free = env.cli("devices", "--inventory", GOTTHARD_MQTT_ENDPOINT="localhost:1")
    assert proxy_free.returncode == 69 and proxy_free.stdout == ""


def test_inventory_script(env):
    """The example answers --list and --host, as the protocol of inventory scripts has it."""
    env.broker()
    publish(env, states.State("gw-1", tags=("site=zurich",)))
    folder = env.folder / "bin"
    folder.mkdir()
    (folder / "gotthard-cli").symlink_to(PROGRAMS["cli"])
    variables = env.cli_environment()
    variables["PATH"] = f"{folder}:{variables['PATH']}"

    def script(*args):
        return subprocess.run([EXAMPLE, *args], env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)

    for args in (["--list"], []):
        assert check_inventory(script(*args).stdout)[0]["site_zurich"]["hosts"] == ["gw-1"]
    assert json.loads(script("--host", "gw-1").stdout) == {}
    assert script("--frob").returncode == 64
