# SPDX-License-Identifier: ISC
"""Configurations with an error: at a reload, at a restart, and before an upgrade. The device stays reachable."""

from machine import wait_until
from steps import step
from steps_packages import runs_installed_program
from steps_readme import wait_online

WRONG = "log = { colour = 1; };"


def break_settings(machine, program):
    """Adds a file with an error. Returns its path."""
    path = f"/etc/gotthard/{program}.conf.d/zz-wrong.conf"
    machine.run(f"echo '{WRONG}' >{path}; chmod 640 {path}; chgrp gotthard-{program} {path}")
    return path


def said_by_reload(machine, unit, code):
    """Returns the journal of `systemctl reload`, which must exit with @code."""
    cursor = machine.run("journalctl -n 0 --show-cursor -q | sed -n 's/^-- cursor: //p'").strip()
    machine.run(f"systemctl reload {unit}", code=code)
    return machine.run(f"journalctl -q -u {unit} --after-cursor '{cursor}'")


@step
def wrong_configuration(fleet):
    """A reload fails with the reason. After a restart the agent runs with the last good one; mended files need no command."""
    device, relay, alice = fleet.devices[0], fleet.relay, fleet.operators[0]
    path = break_settings(device, "agentd")
    assert "log.colour" in said_by_reload(device, "gotthard-agentd", 1)
    device.run("systemctl restart gotthard-agentd")
    wait_online(fleet, "GatewayOli")
    assert "log.colour" in alice.run("gotthard-cli status GatewayOli", "alice")
    assert "not using the present configuration" in device.property("gotthard-agentd", "StatusText")
    device.run(f"rm {path}")
    wait_until(lambda: "log.colour" not in device.property("gotthard-agentd", "StatusText"), "the mended files are in use")
    said_by_reload(device, "gotthard-agentd", 0)
    path = break_settings(relay, "relayd")
    assert "log.colour" in said_by_reload(relay, "gotthard-relayd", 1)
    relay.run("systemctl restart gotthard-relayd", code=1)
    relay.run(f"rm {path}")
    relay.wait_active("gotthard-relayd")
    said_by_reload(relay, "gotthard-relayd", 0)
    wait_online(fleet, "GatewayOli")


def drop_in(machine, unit, text):
    """Adds a drop-in to a unit. Returns the command that removes it."""
    path = f"/etc/systemd/system/{unit}.service.d/zz-test.conf"
    machine.run(f"mkdir -p $(dirname {path}); printf '{text}' >{path}; systemctl daemon-reload")
    return f"rm {path}; rmdir $(dirname {path}); systemctl daemon-reload"


@step
def wrong_configuration_before_an_upgrade(fleet):
    """The upgrade says that it was not applied, and the program before continues. With the mended file it is applied.

    The check that fails does not start the actions of the unit: the machine does not reboot.
    """
    for machine, program in ((fleet.devices[0], "agentd"), (fleet.relay, "relayd")):
        unit = f"gotthard-{program}"
        path, pid = break_settings(machine, program), machine.property(unit, "MainPID")
        machine.put(fleet.packages.newer(getattr(fleet.packages, program)))
        remove_drop_in = drop_in(machine, unit, "[Unit]\\nFailureAction=reboot\\n")
        said = machine.apt(f"install --reinstall ./{getattr(fleet.packages, program).name}", code=100)
        machine.run(remove_drop_in)
        assert "NOT UPGRADED" in said and "log.colour" in said, said
        assert machine.property(unit, "MainPID") == pid and not runs_installed_program(machine, unit)
        wait_online(fleet, "GatewayOli")
        machine.run(f"rm {path}; dpkg --configure -a")
        wait_until(lambda: runs_installed_program(machine, unit), "the upgrade")  # pylint: disable=cell-var-from-loop
        wait_online(fleet, "GatewayOli")


@step
def upgrade_of_an_agent_that_could_not_start_again(fleet):
    """apt prints the manager's reason, here a missing credential. It does not fail because a unit is masked."""
    device, unit, deb = fleet.devices[0], "gotthard-agentd", fleet.packages.agentd
    device.put(fleet.packages.newer(deb))
    pid = device.property(unit, "MainPID")
    remove_drop_in = drop_in(device, unit, "[Service]\\nLoadCredential=missing:/etc/missing\\n")
    said = device.apt(f"install --reinstall ./{deb.name}", code=100)
    assert "NOT UPGRADED" in said and "CREDENTIALS" in said, said
    device.run(f"{remove_drop_in}; systemctl mask {unit}")
    said = device.run("dpkg --configure -a")
    assert f"NOT UPGRADED: {unit}.service is masked" in said, said
    assert device.property(unit, "MainPID") == pid
    device.run(f"systemctl unmask {unit} && systemctl restart {unit}")
    wait_online(fleet, "GatewayOli")


@step
def limits_of_units(fleet):
    """The limits of memory and tasks are in effect as the units have them, and an idle service is far below."""
    for machine, unit in ((fleet.relay, "gotthard-relayd"), (fleet.devices[0], "gotthard-agentd")):
        total = int(machine.run("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024
        assert 0 < int(machine.property(unit, "MemoryMax")) < total
        assert 0 < int(machine.property(unit, "TasksMax")) <= 4096
        assert machine.property(unit, "Restart") == "always" and machine.property(unit, "StartLimitIntervalUSec") == "0"


SITE = "/etc/gotthard/agentd.conf.d/site.conf"
STATE = "/var/lib/gotthard-agentd"

# What breaks the device, and what mends the file that it then waits for; "" if nothing has to be done.
BREAKS = {
    "empty settings": (f": >{SITE}", ""),
    "half of the settings": (f"truncate -s $(($(stat -c %s {SITE}) / 2)) {SITE}", ""),
    "settings for root alone": (f"chown root:root {SITE}; chmod 600 {SITE}", ""),
    "no settings": (f"rm {SITE}", ""),
    "a setting twice": (f"sed -i '/^device/p' {SITE}", ""),
    "no state directory": (f"rm -rf {STATE}", ""),
    "corrupt state": (f"for file in {STATE}/*; do head -c 300 /dev/urandom >$file; done", ""),
    "no authority": ("mv $certs/ca.crt /root", "mv /root/ca.crt $certs"),
    "half of a certificate": ("cp -p $certs/cert.pem /root; truncate -s 300 $certs/cert.pem", "cp -p /root/cert.pem $certs"),
    "a key that others may read": ("chmod 644 $certs/private.key", "chmod 640 $certs/private.key"),
}


def assert_reachable(fleet, why):
    """A login through a new tunnel."""
    command = "timeout 30 ssh -o ConnectTimeout=20 user@GatewayOli.gotthard echo reached 2>&1"
    wait_until(lambda: "reached" in fleet.operators[0].run(command, "alice", code=None), f"{why}: the device is reachable", 120)


@step
def device_is_never_lost(fleet):
    """Each way of breaking the agent ends with a login, without a command on the device."""
    device, unit = fleet.devices[0], "gotthard-agentd"
    certs = device.run("sed -n 's/.*cert_path *= *\"\\([^\"]*\\)\".*/\\1/p' " + SITE).strip()
    device.run(f"rm -rf /root/etc.step; cp -a /etc/gotthard /root/etc.step")
    for why, (damage, mend) in BREAKS.items():
        device.run(f"certs={certs}; {damage}; systemctl restart {unit}")
        if mend:
            wait_until(lambda: "waiting: " in device.property(unit, "StatusText"), f"{why}: the agent waits")
            device.run(f"certs={certs}; {mend}")
        assert_reachable(fleet, why)
        device.run("rm -rf /etc/gotthard; cp -a /root/etc.step /etc/gotthard")
        wait_until(lambda: "not using" not in device.property(unit, "StatusText"), f"{why}: the mended files are in use")
    for _ in range(3):
        device.run(f"systemctl kill --signal=KILL --kill-whom=main {unit}")
        device.wait_active(unit)
    assert_reachable(fleet, "kills")
    device.run("rm -rf /root/etc.step")
