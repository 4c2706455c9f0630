# SPDX-License-Identifier: ISC
"""The set-up of docs/by-hand.md, typed as it is written: one device and one operator, then a second of each."""

import walkthrough
from machine import wait_until
from steps import step


def wait_online(fleet, name, operator=0, limit=60):
    """Waits until the device @name is online in the operator's list."""
    user = fleet.operators[operator].name
    wait_until(lambda: f"{name} " in online(fleet.operators[operator], user), f"{name} is online for {user}", limit)


def online(operator, user):
    """Returns the lines of the operator's list that show a device as online."""
    shown = operator.run("gotthard-cli devices 2>&1", user, code=None)
    return "".join(f"{line} \n" for line in shown.splitlines() if "online" in line)


def needs_nothing(machine, service):
    """After its installation a service is neither enabled nor started, and no file waits for an administrator."""
    assert machine.settings() == {}, "a package contains settings"
    assert machine.failed_units() == ""
    if service:
        state = machine.run(f"systemctl is-enabled {service}; systemctl is-active {service}", code=None).split()
        assert state == ["disabled", "inactive"], state


@step
def unconfigured_install(fleet):
    """All packages on one machine, without any configuration: no unit fails, and purge leaves nothing."""
    new = fleet.add("new", "198.51.100.99")
    new.boot().install(*fleet.packages)
    assert new.run("systemctl is-system-running").strip() == "running"
    for service in ("gotthard-relayd", "gotthard-agentd"):
        needs_nothing(new, service)
    new.apt("purge gotthard-demo gotthard-relayd gotthard-agentd gotthard-cli")
    new.power_off()


@step(always=True, short=True)
def set_up(fleet):
    """docs/by-hand.md, steps 1 to 4: operator, broker, relay, device."""
    operator, broker, relay, device = fleet.operators[0], fleet.broker, fleet.relay, fleet.devices[0]
    fleet.boot(operator, broker, relay, device)
    broker.run("systemctl --quiet enable --now mosquitto")  # as after its installation
    walkthrough.follow(fleet, "1", operator)
    walkthrough.follow(fleet, "2", broker)
    walkthrough.install(fleet, relay, "3")
    needs_nothing(relay, "gotthard-relayd")
    walkthrough.follow(fleet, "3", relay)
    with fleet.network.visit("alice"):  # "while you are in its own network"
        walkthrough.follow(fleet, "4", device)
    wait_online(fleet, "GatewayOli")


@step(always=True)
def second_device(fleet):
    """docs/by-hand.md, "A second device": its key and certificate, then step 4 with another name."""
    pump = fleet.devices[1].boot()
    walkthrough.follow(fleet, "A second device", pump)
    with fleet.network.visit("alice"):
        walkthrough.follow(fleet, "4", pump, replace=[("GatewayOli", "Pump7"), ("gateway", "pump")])
    wait_online(fleet, "Pump7")
    assert "GatewayOli " in online(fleet.operators[0], "alice")


def has_reloaded(broker):
    """Returns true when mosquitto has read its configuration again. It does so as its own user, after a start as root."""
    log = broker.run("cat /var/log/mosquitto/mosquitto.log")
    assert "Error" not in log, log
    return "Reloading config." in log


@step(always=True)
def second_operator(fleet):
    """docs/by-hand.md, "A second operator": key, certificate, ACL, and the operator's own settings as in step 1."""
    bob = fleet.operators[1].boot()
    walkthrough.follow(fleet, "A second operator", fleet.broker)
    wait_until(lambda: has_reloaded(fleet.broker), "mosquitto reads the ACL")
    walkthrough.install(fleet, bob, "1")
    walkthrough.hand_over(fleet, "bob", "bob.key", "bob")
    terminal = walkthrough.Terminal(bob, "bob")
    folder, file = [each for each in walkthrough.commands("1", [("alice", "bob")]) if each.text.startswith("umask") or each.file == "cli.conf"]
    terminal.type(folder.text)
    terminal.type(file.text)
    terminal.close()
    wait_online(fleet, "GatewayOli", operator=1)
