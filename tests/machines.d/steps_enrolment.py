# SPDX-License-Identifier: ISC
"""Enrolment by one-time tokens with packages and systemd: a device of the fleet of docs/by-hand.md, and the README's set-up."""

import network
import readme
import walkthrough
from machine import wait_until
from steps import step
from steps_readme import needs_nothing, online, wait_online


@step(last=True)
def enrolment(fleet):
    """docs/by-hand.md, "By a one-time token": one command of alice and one on the device; its service runs, also after a reboot."""
    alice = fleet.operators[0]
    meter = fleet.add("meter", f"{network.HOME}.13")
    meter.boot().install(fleet.packages.agentd)
    needs_nothing(meter, "gotthard-agentd")
    terminal = walkthrough.Terminal(alice, walkthrough.OPERATOR)
    terminal.type("cd ~/.config/gotthard")
    terminal.type(walkthrough.commands("By a one-time token")[0].text)
    terminal.close()
    command = alice.start("cd ~/.config/gotthard; exec gotthard-cli enroll --config enroll.conf --yes Meter3", "alice")
    token = command.wait_for(r"(gk1t\.\S+)\n")[1]
    said = meter.run(f"echo {token} | gotthard-agentd enroll")
    assert "enrolled as Meter3" in said, said
    command.wait()
    wait_online(fleet, "Meter3")
    assert meter.run("stat -c %U:%G:%a /etc/gotthard/enrolled/private.key").strip() == "root:gotthard-agentd:640"
    meter.reboot()
    wait_online(fleet, "Meter3")
    assert meter.failed_units() == ""
    meter.power_off()


def typed(part):
    """Returns the README's commands of a step, for the machines of this one."""
    words = [("alice", "carol"), ("broker.example.org", "hub.example.org"), ("relay.example.org", "pass.example.org")]
    return walkthrough.commands(part, words, readme.README)


@step(last=True)
def new_fleet(fleet):
    """README, steps 1 to 5, on new machines: twelve commands from nothing to the first prompt."""
    carol = fleet.add("carol", f"{network.INTERNET}.21", "carol")
    fleet.add_key(carol, "carol")
    machines = {"2": fleet.add("hub", f"{network.INTERNET}.22"), "3": fleet.add("pass", f"{network.INTERNET}.23"),
                "4": fleet.add("sensor", f"{network.HOME}.14", "user")}
    for each in machines.values():
        fleet.admit_operators(each)
    fleet.boot(carol, *machines.values())
    machines["2"].run("systemctl --quiet enable --now mosquitto")  # as after its installation
    walkthrough.install(fleet, carol, "1", readme.README)
    operator = walkthrough.Terminal(carol, "carol")
    operator.type(typed("1")[0].text)
    for part in ("2", "3"):
        walkthrough.install(fleet, machines[part], part, readme.README)
        copy, command = typed(part)
        operator.type(copy.text)
        machines[part].run(command.text)
    operator.close()
    walkthrough.install(fleet, machines["4"], "4", readme.README)
    enroll, command = (each.text.split("#")[0].strip() for each in typed("4"))
    waiting = carol.start(f"exec {enroll} --yes", "carol")
    token = waiting.wait_for(r"(gk1t\.\S+)\n")[1]
    machines["4"].run(f"echo {token} | {command}")
    waiting.wait()
    wait_until(lambda: "GatewayOli " in online(carol, "carol"), "the device is online", 60)
    carol.run("ssh user@GatewayOli.gotthard true", "carol")
    assert machines["2"].run("ls /root/broker 2>&1", code=2) and not machines["3"].failed_units()
    for each in (carol, *machines.values()):
        each.power_off()
