# SPDX-License-Identifier: ISC
"""The services under systemd: reload, credentials, watchdog, boots without their environment, stop and removal."""

import contextlib
import time

from machine import wait_until
from steps import step
from steps_readme import wait_online
from steps_tunnel import connected, dial, echo_service, exchange

AGENT, RELAY = "gotthard-agentd", "gotthard-relayd"
EXTRA = "/etc/gotthard/{}.conf.d/zz-step.conf"
PORT = 1880  # of the README's service web


@contextlib.contextmanager
def open_tunnel(fleet):
    """A tunnel of alice to GatewayOli with an open connection. Yields both; the tunnel closes as at Ctrl+C."""
    alice, gateway = fleet.operators[0], fleet.devices[0]
    with echo_service(gateway, PORT), connected(alice, "alice", "GatewayOli 8080:web") as tunnel, dial(alice, 8080) as connection:
        exchange(connection, 1 << 16)
        yield tunnel, connection


@contextlib.contextmanager
def settings(machine, program, text):
    """Within the context a service has one more file of settings. It is not reloaded."""
    path = machine.root / EXTRA.format(program).lstrip("/")
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def drop_in(machine, unit, text):
    """Within the context the unit has a drop-in, which systemd has read."""
    folder = machine.root / f"etc/systemd/system/{unit}.service.d"
    folder.mkdir(parents=True)
    (folder / "step.conf").write_text(text)
    machine.run("systemctl daemon-reload")
    try:
        yield
    finally:
        (folder / "step.conf").unlink()
        folder.rmdir()
        machine.run("systemctl daemon-reload")


def main_pid(machine, unit):
    return int(machine.property(unit, "MainPID"))


def restarts(machine, unit):
    return int(machine.property(unit, "NRestarts"))


def wait_journal(machine, unit, pattern, count=1):
    wait_until(lambda: machine.journal(unit).count(pattern) >= count, f"{machine.name}: {pattern!r} in the journal of {unit}")


# --- reload ---------------------------------------------------------------------------------------


def reload_good_and_bad(machine, unit, program, connection):
    """A good file is applied; with a bad one the command fails, and the configuration in use and the process stay."""
    seen = machine.journal(unit).count("reloaded ") + machine.journal(unit).count("took over ")
    with settings(machine, program, 'log = { level = "debug"; };'):
        machine.run(f"systemctl reload {unit}")
        wait_until(lambda: machine.journal(unit).count("reloaded ") + machine.journal(unit).count("took over ") > seen, "it is applied")
    machine.wait_active(unit)
    pid = main_pid(machine, unit)
    with settings(machine, program, "nonsense = 1;"):
        machine.run(f"systemctl reload {unit}; test $? != 0")
        assert main_pid(machine, unit) == pid and machine.property(unit, "ActiveState") == "active"
        assert "nonsense" in machine.journal(unit)
        exchange(connection)
    machine.run(f"systemctl reload {unit}")
    machine.wait_active(unit)
    exchange(connection)


@step
def reload(fleet):
    """`systemctl reload` of agent and relay: a good file, then a bad one, while a connection is open."""
    with open_tunnel(fleet) as (tunnel, connection):
        reload_good_and_bad(fleet.devices[0], AGENT, "agentd", connection)
        reload_good_and_bad(fleet.relay, RELAY, "relayd", connection)
        tunnel.wait_for("relay is being upgraded")
        assert "lost" not in tunnel.output(), tunnel.output()


@step
def reload_of_one_service(fleet):
    """A reload without the service web ends its connections, and the operator reads why; a shell stays open."""
    alice, gateway = fleet.operators[0], fleet.devices[0]
    site = gateway.root / "etc/gotthard/agentd.conf.d/site.conf"
    before = site.read_text()
    with echo_service(gateway, PORT), connected(alice, "alice", "GatewayOli 8080:web 2222:ssh") as tunnel, dial(alice, 8080) as web, \
            dial(alice, 2222) as shell:
        exchange(web, 1 << 16)
        assert shell.recv(8).startswith(b"SSH-2.0")
        try:
            site.write_text(before.replace(f' web = "127.0.0.1:{PORT}";', ""))
            gateway.run(f"systemctl reload {AGENT}")
            tunnel.wait_for("GatewayOli has withdrawn the access to web")
            with contextlib.suppress(ConnectionResetError):
                assert web.recv(1) == b""
            shell.sendall(b"SSH-2.0-step\r\n")
            assert shell.recv(1 << 16), "the shell's connection ended"
        finally:
            site.write_text(before)
            gateway.run(f"systemctl reload {AGENT}")


# --- credentials ----------------------------------------------------------------------------------


@contextlib.contextmanager
def key_as_credential(machine, unit, program, key):
    """Within the context the key comes from systemd, which alone can read its file."""
    site = machine.root / f"etc/gotthard/{program}.conf.d/site.conf"
    before = site.read_text()
    lines = [line for line in before.splitlines(keepends=True) if not line.startswith("crypt")]
    assert len(lines) == len(before.splitlines()) - 1
    machine.run(f"mv /etc/gotthard/{key} /root/key.step; chown root: /root/key.step; chmod 600 /root/key.step")
    site.write_text("".join(lines))
    example = (machine.root / f"usr/share/doc/{unit}/examples/credential.conf").read_text()
    try:
        with drop_in(machine, unit, example.replace("/etc/gotthard/key", "/root/key.step")):
            yield
    finally:
        site.write_text(before)
        machine.run(f"install -m 640 -g {unit} /root/key.step /etc/gotthard/{key}; rm /root/key.step; systemctl restart {unit}")


def keeps_working(machine, unit, deb, connection):
    """Restart, reload, and the installation of the package, which for the relay is a live upgrade."""
    machine.run(f"systemctl restart {unit}")
    machine.wait_active(unit)
    exchange(connection)
    machine.run(f"systemctl reload {unit}")
    machine.wait_active(unit)
    exchange(connection)
    output = machine.install(deb)
    machine.wait_active(unit)
    exchange(connection)
    assert "rror" not in output, output


@step
def credentials(fleet):
    """The shipped drop-in with LoadCredential=: restart, reload and upgrade of relay and agent, with a connection open."""
    gateway, relay = fleet.devices[0], fleet.relay
    with key_as_credential(relay, RELAY, "relayd", "relay.key"), key_as_credential(gateway, AGENT, "agentd", "GatewayOli.key"):
        for machine, unit in ((relay, RELAY), (gateway, AGENT)):
            machine.run(f"systemctl restart {unit}")
        wait_online(fleet, "GatewayOli")
        with open_tunnel(fleet) as (_, connection):
            keeps_working(relay, RELAY, fleet.packages.relayd, connection)
            keeps_working(gateway, AGENT, fleet.packages.agentd, connection)
        upgrades = relay.journal(RELAY).count("took over ")
        relay.run(f"systemctl reload {RELAY}")
        wait_journal(relay, RELAY, "took over ", upgrades + 1)
    wait_online(fleet, "GatewayOli")


# --- watchdog -------------------------------------------------------------------------------------


def hang(machine, unit, connection):
    """Stops the main process. The watchdog has it replaced, and the connection continues."""
    before = restarts(machine, unit)
    machine.run(f"systemctl kill --signal=STOP --kill-whom=main {unit}")
    wait_until(lambda: restarts(machine, unit) > before, f"{unit} is restarted")
    machine.wait_active(unit)
    assert "watchdog" in machine.journal(unit).lower()
    exchange(connection)


@step
def watchdog(fleet):
    """A hanging agent and a hanging relay are restarted by systemd, and an open connection continues."""
    faster = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=5\n"
    with drop_in(fleet.devices[0], AGENT, faster), drop_in(fleet.relay, RELAY, faster):
        fleet.relay.run(f"systemctl restart {RELAY}")
        fleet.devices[0].run(f"systemctl restart {AGENT}")
        wait_online(fleet, "GatewayOli")
        with open_tunnel(fleet) as (_, connection):
            hang(fleet.devices[0], AGENT, connection)
            hang(fleet.relay, RELAY, connection)
    fleet.devices[0].run(f"systemctl restart {AGENT}")
    wait_online(fleet, "GatewayOli")


# --- boots ----------------------------------------------------------------------------------------


def boots_to_ready(machine):
    """The boot ends, and the agent runs and waits, whatever is missing."""
    machine.reboot()
    machine.wait_active(AGENT)
    assert machine.failed_units() == "" and restarts(machine, AGENT) == 0


@step
def boot_without_network(fleet):
    """A device that boots without a cable comes online by itself when the cable is in."""
    gateway = fleet.devices[0]
    with gateway.unplugged():
        boots_to_ready(gateway)
        assert "not reachable" in gateway.property(AGENT, "StatusText")
    wait_online(fleet, "GatewayOli")


@step
def boot_without_names(fleet):
    """A device that boots while the name server is silent, or refuses, comes online by itself when it answers."""
    gateway = fleet.devices[0]
    for how in ("silent", "refused"):
        with fleet.network.names.failing(how):
            boots_to_ready(gateway)
            assert "not reachable" in gateway.property(AGENT, "StatusText")
        wait_until(lambda: "broker connected," in gateway.property(AGENT, "StatusText"), "the broker is connected")
    wait_online(fleet, "GatewayOli")


@step
def boot_without_broker(fleet):
    """A device that boots while the broker is off comes online by itself when the broker is back."""
    gateway = fleet.devices[0]
    fleet.broker.power_off()
    boots_to_ready(gateway)
    assert "not reachable" in gateway.property(AGENT, "StatusText")
    fleet.broker.boot()
    wait_until(lambda: "broker connected," in gateway.property(AGENT, "StatusText"), "the broker is connected", 120)
    wait_online(fleet, "GatewayOli")


@step
def late_files(fleet):
    """The key, or the folder of the certificate, appears after the boot: the agent waits for it and comes online by itself."""
    gateway = fleet.devices[0]
    for path in ("/etc/gotthard/GatewayOli.key", "/etc/gotthard/mqtt"):
        gateway.run(f"mv {path} /root/late")
        gateway.reboot()
        wait_until(lambda: "waiting: " in gateway.property(AGENT, "StatusText"), "the agent waits")
        assert path in gateway.property(AGENT, "StatusText")
        gateway.run(f"mv /root/late {path}")
        wait_until(lambda: "broker connected," in gateway.property(AGENT, "StatusText"), "the broker is connected")
    wait_online(fleet, "GatewayOli")


@step
def late_mount(fleet):
    """/etc/gotthard is empty at the boot, and its content is mounted later: the agent comes online by itself."""
    gateway = fleet.devices[0]
    gateway.run("mv /etc/gotthard /root/settings; mkdir /etc/gotthard")
    gateway.reboot()
    assert gateway.property(AGENT, "ActiveState") in ("activating", "active")
    assert "broker connected," not in gateway.property(AGENT, "StatusText")
    gateway.run("mount --bind /root/settings /etc/gotthard")
    try:
        wait_until(lambda: "broker connected," in gateway.property(AGENT, "StatusText"), "the broker is connected")
        wait_online(fleet, "GatewayOli")
    finally:
        gateway.run("umount /etc/gotthard; rmdir /etc/gotthard; mv /root/settings /etc/gotthard")
    gateway.run(f"systemctl restart {AGENT}")
    wait_online(fleet, "GatewayOli")


# --- the end --------------------------------------------------------------------------------------


def ends_tunnel(fleet, command):
    """The command closes the tunnel within seconds, and its operator reads that the device did so."""
    alice, gateway = fleet.operators[0], fleet.devices[0]
    with echo_service(gateway, PORT):
        tunnel = alice.start("exec gotthard-cli connect GatewayOli 8080:web", "alice")
        tunnel.wait_for("tunnel is up|tunnel to .* is up")
        with dial(alice, 8080) as connection:
            exchange(connection, 1 << 16)
            started = time.monotonic()
            gateway.run(command)
            assert "GTD-E47" in tunnel.wait(code=69, limit=10)
            assert time.monotonic() - started < 20
    wait_until(lambda: "gotthard" not in gateway.run("ps -e -o comm"), "no process is left")


@step
def stop_and_removal(fleet):
    """stop, remove and purge end a tunnel; restart, SIGKILL and a new package do not."""
    gateway = fleet.devices[0]
    with open_tunnel(fleet) as (_, connection):
        for command in (f"systemctl restart {AGENT}", f"systemctl kill --signal=KILL --kill-whom=main {AGENT}"):
            gateway.run(command)
            gateway.wait_active(AGENT)
            exchange(connection)
        gateway.install(fleet.packages.agentd)
        exchange(connection)
    ends_tunnel(fleet, f"systemctl stop {AGENT}")
    gateway.run(f"systemctl start {AGENT}")
    for word in ("remove", "purge"):
        wait_online(fleet, "GatewayOli")
        ends_tunnel(fleet, f"DEBIAN_FRONTEND=noninteractive apt-get --yes {word} {AGENT}")
        gateway.install(fleet.packages.agentd)
        gateway.run(f"systemctl enable --now {AGENT}")
    wait_online(fleet, "GatewayOli")
