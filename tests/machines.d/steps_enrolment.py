# SPDX-License-Identifier: ISC
"""A device that is enrolled by a one-time token: packages, systemd and the set-up of docs/by-hand.md around it."""

import network
import walkthrough
from steps import step
from steps_readme import needs_nothing, wait_online


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
