# SPDX-License-Identifier: ISC
"""Packages on machines that are in use: upgrades through the tunnel, removal, purge, files that they must not touch."""

import re
import shutil

import walkthrough
from machine import wait_until
from steps import step
from steps_readme import wait_online
from steps_tunnel import connected, dial, echo_service, exchange

SERVICES = ("relayd", "agentd")


def upgrade_quietly(machine, deb):
    """An unattended upgrade: it asks nothing, and leaves the files of the administrator as they are."""
    before = machine.settings()
    machine.install(deb)
    assert machine.settings() == before, "a file of the administrator has changed"
    package = deb.name.split("_")[0]
    assert machine.run(f"dpkg-query --show --showformat='${{db:Status-Abbrev}}' {package}").strip() == "ii"


@step(short=True)
def upgrade(fleet):
    """Each package is upgraded while a tunnel is open. Its connection continues, and new ones work."""
    alice, device, relay = fleet.operators[0], fleet.devices[0], fleet.relay
    with echo_service(device, 1880), connected(alice, "alice", "GatewayOli 8080:web"), dial(alice, 8080) as connection:
        exchange(connection)
        for machine, deb in ((relay, fleet.packages.relayd), (device, fleet.packages.agentd), (alice, fleet.packages.cli)):
            upgrade_quietly(machine, fleet.packages.newer(deb))
            exchange(connection)
            with dial(alice, 8080) as another:
                exchange(another)
    for machine, unit in ((relay, "gotthard-relayd"), (device, "gotthard-agentd")):
        assert runs_installed_program(machine, unit), f"{machine.name} runs the program from before the upgrade"
    wait_online(fleet, "GatewayOli")


def runs_installed_program(machine, unit):
    """Returns true if the program of a unit is the file that its package contains now."""
    pid = machine.property(unit, "MainPID")
    return machine.run(f"readlink /proc/{pid}/exe", code=None).strip() == f"/usr/sbin/{unit}"


@step
def unreadable_file(fleet):
    """A file of settings that only root can read is an error that names it, not a file that is left out."""
    for machine, program in ((fleet.relay, "relayd"), (fleet.devices[0], "agentd")):
        name, path = f"gotthard-{program}", f"/etc/gotthard/{program}.conf.d/unreadable.conf"
        check = f"setpriv --reuid={name} --regid={name} --init-groups {name} --check-config"
        shown = machine.run(f"install -m 600 /dev/null {path}; {check}", code=78)
        assert f"{path}: Permission denied" in shown, shown
        machine.run(f"rm {path}; {check}")


@step
def port_443(fleet):
    """README, "Only port 443 goes out": the relay's service binds port 443, also after a live upgrade with open connections."""
    alice, device, relay, part = fleet.operators[0], fleet.devices[0], fleet.relay, "Only port 443 goes out"
    files = (relay, "/etc/gotthard/relayd.conf.d/site.conf"), (device, "/etc/gotthard/agentd.conf.d/site.conf"), \
        (alice, "/home/alice/.config/gotthard/cli.conf")
    for machine, path in files:
        machine.run(f"cp -p {path} /root/before")
    walkthrough.follow(fleet, part, relay)
    line = walkthrough.settings(part)[0]
    for machine, path in files[1:]:
        machine.run(f"sed -i 's/^server = .*/{line}/' {path}")
    device.run("systemctl restart gotthard-agentd")
    wait_online(fleet, "GatewayOli")
    for machine in (alice, device):
        machine.firewall("oifname host0 ip daddr 198.51.100.1 tcp dport != 443 reject")
    with echo_service(device, 1880), connected(alice, "alice", "GatewayOli 8080:web"), dial(alice, 8080) as connection:
        exchange(connection)
        relay.install(fleet.packages.newer(fleet.packages.relayd))
        wait_until(lambda: runs_installed_program(relay, "gotthard-relayd"), "the live upgrade")
        exchange(connection)
        with dial(alice, 8080) as another:
            exchange(another)
    for machine, path in files:
        machine.firewall()
        machine.run(f"cp -p /root/before {path}")
    for machine, unit in ((relay, "gotthard-relayd"), (device, "gotthard-agentd")):
        machine.run(f"systemctl restart {unit}")
    wait_online(fleet, "GatewayOli")


@step
def remove_and_purge(fleet):
    """Removal and purge leave the files of the administrator; purge removes the agent's state. Installed again, all works."""
    for machine, program in ((fleet.devices[1], "agentd"), (fleet.operators[1], "cli"), (fleet.relay, "relayd")):
        name, before = f"gotthard-{program}", machine.settings()
        machine.apt(f"remove {name}")
        assert machine.settings() == before
        assert program != "agentd" or (machine.root / "var/lib/gotthard-agentd").exists()
        machine.install(getattr(fleet.packages, program))
        if program in SERVICES:
            machine.run(f"{name} --check-config")
        machine.apt(f"purge {name}")
        assert machine.settings() == before
        assert not (machine.root / "var/lib/gotthard-agentd").exists()
        machine.install(getattr(fleet.packages, program))
        assert machine.settings() == before
        if program in SERVICES:
            machine.run(f"systemctl enable --now {name}")
    wait_online(fleet, "Pump7", operator=1)


def with_conffile(program):
    """Returns a change of a package that makes its example of settings a conffile, as version 0.1 had it."""
    def change(tree):
        shutil.copy(tree / f"usr/share/doc/gotthard-{program}/examples/{program}.conf", tree / "etc/gotthard")
        (tree / "DEBIAN/conffiles").write_text(f"/etc/gotthard/{program}.conf\n")

    return change


@step
def old_conffiles(fleet):
    """Packages had their settings as conffiles once: an edited one is still read, and no upgrade asks. Purge leaves nothing."""
    old = fleet.add("old", "198.51.100.98").boot()
    old.install(*(fleet.packages.newer(getattr(fleet.packages, program), with_conffile(program), "~old") for program in SERVICES))
    edited, untouched = old.root / "etc/gotthard/relayd.conf", old.root / "etc/gotthard/agentd.conf"
    edited.write_text(re.sub(r'#level = "info"', 'level = "debug"', edited.read_text()))
    before = edited.read_text()
    for _ in range(2):
        old.install(*(fleet.packages.newer(getattr(fleet.packages, program)) for program in SERVICES))
        assert edited.read_text() == before and untouched.exists()
    shown = old.run("GOTTHARD_CRYPT_KEY=$(openssl rand -hex 32) GOTTHARD_CRYPT_IV=$(openssl rand -hex 16) gotthard-relayd --check-config")
    assert re.search(r' level = "debug"; .*/etc/gotthard/relayd.conf:', shown), shown
    old.install(*fleet.packages)
    old.apt("purge gotthard-demo gotthard-relayd gotthard-agentd gotthard-cli")
    left = old.run(r"find / -xdev -name '*gotthard*' -not -path '/proc/*' | grep -Ev '^/var/(lib/dpkg|log|cache)/|^/root/debs|systemd/deb-system'",
                   code=None)
    assert left == "", left
    old.power_off()


@step(last=True)
def lost_device(fleet):
    """README, "A lost device, an expiring certificate" and "Refuse a device or an operator at the relay"."""
    alice = fleet.operators[0]
    with fleet.network.visit("alice"):
        walkthrough.follow(fleet, "A lost device, an expiring certificate", fleet.broker)
        walkthrough.follow(fleet, "An expiring certificate", fleet.broker)
    fleet.devices[0].run("systemctl restart gotthard-agentd")
    wait_online(fleet, "GatewayOli")
    fleet.devices[1].run("systemctl restart gotthard-agentd")
    wait_until(lambda: re.search("not authori[sz]ed|revoked|refused|rejected", fleet.devices[1].journal("gotthard-agentd")),
               "the broker refuses the revoked certificate")
    walkthrough.follow(fleet, "Refuse a device or an operator at the relay", fleet.relay)
    alice.run("ssh user@GatewayOli.gotthard true", "alice")
