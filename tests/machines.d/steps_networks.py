# SPDX-License-Identifier: ISC
"""Networks that let little out: one port of the relay, port 443 only, or a proxy only."""

import contextlib
import subprocess
import time

import connect_proxy
import walkthrough
from network import INTERNET
from steps import step
from steps_readme import wait_online
from steps_services import AGENT, RELAY, open_tunnel
from steps_tunnel import exchange

SITES = {"gateway": "etc/gotthard/agentd.conf.d/site.conf", "alice": "home/alice/.config/gotthard/cli.conf",
         "relay": "etc/gotthard/relayd.conf.d/site.conf", "broker": "etc/mosquitto/conf.d/gotthard.conf"}
PROXY, PROXY_PORT = f"{INTERNET}.254", 3128


def site(machine):
    """The file of settings that the README made there."""
    return machine.root / SITES[machine.name]


def edit(machine, change):
    """Replaces each line of the machine's settings by change(line)."""
    lines = [change(line) for line in site(machine).read_text().splitlines()]
    site(machine).write_text("\n".join(lines) + "\n")


def restart(fleet):
    fleet.broker.run("systemctl restart mosquitto")
    fleet.relay.run(f"systemctl restart {RELAY}")
    fleet.devices[0].run(f"systemctl restart {AGENT}")


@contextlib.contextmanager
def settings_kept(fleet):
    """At the end the settings of all machines are as before, and the services use them."""
    before = {name: site(fleet[name]).read_text() for name in SITES}
    try:
        yield
    finally:
        for name, text in before.items():
            site(fleet[name]).write_text(text)
        restart(fleet)
    wait_online(fleet, "GatewayOli")


@contextlib.contextmanager
def only(packets, *machines):
    """Within the context new packets (nft) leave the machines only if they match; others are dropped."""
    for each in machines:
        each.firewall(output=f'oifname "lo" accept; ct state established,related accept; {packets} accept; drop;')
    try:
        yield
    finally:
        for each in machines:
            each.firewall()


def carries_data(fleet, limit=30):
    """A tunnel comes up within @limit seconds and carries data. Returns the output of `connect`."""
    started = time.monotonic()
    with open_tunnel(fleet) as (tunnel, connection):
        assert time.monotonic() - started < limit
        exchange(connection)
    return tunnel.output()


@step
def one_port_of_the_relay(fleet):
    """The range of session ports is dropped on both sides: a tunnel comes up within seconds over the main port."""
    with only("udp dport 53 accept; tcp dport { 8883, 7000 }", fleet.operators[0], fleet.devices[0]):
        assert "7000" in carries_data(fleet)


@step
def only_port_443(fleet):
    """README, "Only port 443 goes out": broker and relay at 443, and nothing else leaves the two sides."""
    part = "Only port 443 goes out"
    server = walkthrough.settings(part)[0].strip()
    sysctl = ["ip", "netns", "exec", "broker", "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=443"]
    subprocess.run(sysctl, check=True)  # the README's, which a container may not set itself
    with settings_kept(fleet):
        walkthrough.follow(fleet, part, fleet.relay)
        edit(fleet.broker, lambda line: line.replace("8883", "443"))
        for each in fleet.devices[0], fleet.operators[0]:
            edit(each, lambda line: server if line.startswith("server") else line.replace(":8883", ":443"))
        with only("udp dport 53 accept; tcp dport 443", fleet.operators[0], fleet.devices[0]):
            restart(fleet)
            wait_online(fleet, "GatewayOli")
            carries_data(fleet)


def through_proxy(line):
    """Adds the proxy to the groups of the relay and of the broker."""
    return line.replace(" };", f' proxy = "http://{PROXY}:{PROXY_PORT}"; }};') if line.startswith(("server", "mqtt")) else line


@step
def only_a_proxy(fleet):
    """README, the same part: only a proxy reaches the Internet. It permits two ports and resolves the names."""
    proxy = connect_proxy.HttpProxy(PROXY, PROXY_PORT, hosts=fleet.network.names.addresses)
    proxy.allowed_ports = {7000, 8883}
    with settings_kept(fleet):
        for each in fleet.devices[0], fleet.operators[0]:
            edit(each, through_proxy)
        with only(f"ip daddr {PROXY} tcp dport {PROXY_PORT}", fleet.operators[0], fleet.devices[0]):
            restart(fleet)
            wait_online(fleet, "GatewayOli")
            carries_data(fleet)
    proxy.stop()
    assert {("relay.example.org", 7000), ("broker.example.org", 8883)} <= set(proxy.requests)
