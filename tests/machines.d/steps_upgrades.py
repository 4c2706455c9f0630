# SPDX-License-Identifier: ISC
"""Upgrades of each package, typed in ssh sessions that go through Gotthard itself, while another session carries data."""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import socket
import threading
import time

from machine import wait_until
from steps import step
from steps_packages import runs_installed_program, with_conffile
from steps_readme import online, wait_online
from steps_tunnel import MIB, connected, dial, echo_service, exchange

PORT = 1880  # of the README's service web
LEAST = 200 * MIB  # of a load, in each direction
BLOCK = 256 << 10
DEVICE = "root@GatewayOli.gotthard"
UNATTENDED = "DEBIAN_FRONTEND=noninteractive"
# As a person types it in a script; without standard input; and as unattended-upgrades calls it with the usual options.
APT = f"{UNATTENDED} apt-get --yes --quiet --reinstall --allow-downgrades install ./{{}}"
DPKG = f"{UNATTENDED} dpkg --install ./{{}} <&-"
CONFFILE_DEFAULTS = APT.replace("apt-get", "apt-get -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold")
SERVICES = "gotthard-relayd", "gotthard-agentd"


# --- the load -------------------------------------------------------------------------------------


class Load:
    """Random bytes through a connection to an echo service and back, without a pause, until finish()."""

    def __init__(self, connection):
        self.connection, self.is_ending, self.n_sent, self.n_received, self.longest_pause = connection, False, 0, 0, 0.0
        self.sent, self.received, self.failures = hashlib.sha256(), hashlib.sha256(), []
        self.threads = [threading.Thread(target=self._guard, args=(each,), daemon=True) for each in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def _guard(self, function):
        try:
            function()
        except OSError as error:
            self.failures.append(f"{function.__name__}: {error} after {self.n_sent} sent and {self.n_received} received bytes")

    def _send(self):
        while not self.is_ending or self.n_sent < LEAST:
            block = os.urandom(BLOCK)
            self.sent.update(block)
            self.connection.sendall(block)
            self.n_sent += len(block)
        self.connection.shutdown(socket.SHUT_WR)

    def _receive(self):
        last = time.monotonic()
        while data := self.connection.recv(BLOCK):
            now = time.monotonic()
            self.longest_pause, last = max(self.longest_pause, now - last), now
            self.received.update(data)
            self.n_received += len(data)

    def is_moving(self):
        """Waits until further bytes arrive."""
        before = self.n_received
        wait_until(lambda: self.n_received > before or self.failures, "the load moves")
        assert not self.failures, self.failures

    def finish(self):
        """Ends it in order. Every byte was received."""
        self.is_ending = True
        for thread in self.threads:
            thread.join(300)
        assert not self.failures and not any(thread.is_alive() for thread in self.threads), self.failures
        assert self.n_received == self.n_sent >= LEAST and self.received.digest() == self.sent.digest()


@contextlib.contextmanager
def load(fleet):
    """Within the context a tunnel of alice to GatewayOli carries data in both directions. Its end checks the sums."""
    with echo_service(fleet["gateway"], PORT), connected(fleet["alice"], "alice", "GatewayOli 8080:web") as tunnel, \
            dial(fleet["alice"], 8080) as connection:
        connection.settimeout(120)
        running = Load(connection)
        running.is_moving()
        yield running
        running.is_moving()
        running.finish()
        print(f"  load: {running.n_sent // MIB} MiB each way, longest pause {running.longest_pause:.2f} s", flush=True)
        assert tunnel.process.poll() is None, tunnel.output()


# --- typing through the tunnel --------------------------------------------------------------------


def way_to(machine):
    """Returns the arguments of ssh with which alice reaches the machine through Gotthard: all but the device from there."""
    return DEVICE if machine.name == "gateway" else f"-J {DEVICE} root@{machine.name}.example.org"


def type_at(fleet, machine, command, code=0):
    """Types a command at the machine through the tunnel to GatewayOli. Returns its output."""
    return fleet["alice"].run(f"ssh -n {way_to(machine)} {shlex.quote(command)}", "alice", code=code, limit=300)


def upload(fleet, machine, deb):
    """Copies a package to the machine through the tunnel."""
    alice = fleet["alice"]
    copy = alice.root / "home/alice" / deb.name
    shutil.copy(deb, copy)
    copy.chmod(0o644)
    options, target = way_to(machine).rsplit(" ", 1) if " " in way_to(machine) else ("", DEVICE)
    alice.run(f"scp -q {options} {deb.name} {target}:", "alice")


def package_of(deb):
    return deb.name.split("_")[0]


def install(fleet, machine, deb, how=APT):
    """Installs a package by a command that is typed through the tunnel. Its settings and its success are as before."""
    before = machine.settings()
    upload(fleet, machine, deb)
    output = type_at(fleet, machine, how.format(deb.name))
    assert machine.settings() == before, "the upgrade changed settings"
    assert machine.version(package_of(deb)) == fleet.packages.field(deb, "Version")
    assert machine.run("dpkg --audit") == ""
    return output


# --- what runs ------------------------------------------------------------------------------------


def wait_upgraded(machine, deb):
    """Waits until the service of the package is active with the installed program."""
    service = package_of(deb)
    machine.wait_active(service)
    wait_until(lambda: runs_installed_program(machine, service), f"{machine.name}: {service} runs the installed program")


def software_version(machine, program):
    return machine.run(f"{program} --version").split()[-1]


def wait_reported(fleet, machine):
    """Waits until the list of devices shows the version that is installed at the device."""
    version = software_version(machine, "gotthard-agentd")
    wait_until(lambda: any("GatewayOli" in line and version in line.split() for line in online(fleet["alice"], "alice").splitlines()),
               f"GatewayOli is online with version {version}")


def check_new_session(fleet):
    """A new tunnel, with the programs that are installed now, carries data."""
    with connected(fleet["alice"], "alice", "GatewayOli 8081:web"), dial(fleet["alice"], 8081) as connection:
        exchange(connection, MIB)


def upgrade_all(fleet, debs, how=APT, is_protocol_changed=False):
    """Relay, agent and command line, one after the other, through the tunnel. The caller has the load. Between them the other
    programs are of another version, and new sessions work as well, unless the versions have different protocols."""
    for machine, deb in ((fleet.relay, debs.relayd), (fleet["gateway"], debs.agentd), (fleet["alice"], debs.cli)):
        started = time.monotonic()
        install(fleet, machine, deb, how)
        if package_of(deb) in SERVICES:
            wait_upgraded(machine, deb)
        wait_reported(fleet, fleet["gateway"])
        if not is_protocol_changed or deb == debs.cli:
            check_new_session(fleet)
        print(f"  {package_of(deb)} {debs.field(deb, 'Version')} ({time.monotonic() - started:.1f} s)", flush=True)


class Newer:
    """Later versions of all packages; their example files have other contents."""

    def __init__(self, debs):
        self.field = debs.field
        self.relayd, self.agentd, self.cli = (debs.newer(deb) for deb in (debs.relayd, debs.agentd, debs.cli))


@contextlib.contextmanager
def as_found(fleet):
    """Installs the packages of this version again at the end, also after a failure."""
    try:
        yield
    finally:
        fleet.relay.install(fleet.packages.relayd)
        fleet["gateway"].install(fleet.packages.agentd)
        fleet["alice"].install(fleet.packages.cli)
        wait_online(fleet, "GatewayOli")


# --- the steps ------------------------------------------------------------------------------------


@step(previous=True)
def upgrade_from_previous(fleet):
    """From the version before to this one: each package through the tunnel, under load; and back again. The protocol of 0.1 is
    another one: sessions that are open continue with the programs that they began with."""
    previous = fleet.packages.previous()
    with as_found(fleet):
        for machine, deb in ((fleet.relay, previous.relayd), (fleet["gateway"], previous.agentd), (fleet["alice"], previous.cli)):
            machine.install(deb)
        wait_online(fleet, "GatewayOli")
        with load(fleet):
            upgrade_all(fleet, fleet.packages, is_protocol_changed=True)
        with load(fleet):
            upgrade_all(fleet, previous, is_protocol_changed=True)


@step
def upgrade_without_a_terminal(fleet):
    """Later versions with other example files: without standard input, and with the options of unattended upgrades."""
    with as_found(fleet), load(fleet):
        upgrade_all(fleet, Newer(fleet.packages), DPKG)
        upgrade_all(fleet, Newer(fleet.packages), CONFFILE_DEFAULTS)


@contextlib.contextmanager
def bad_settings(machine, program):
    """Within the context a file of the program's settings has an unknown setting."""
    path = machine.root / f"etc/gotthard/{program}.conf.d/zz-step.conf"
    path.write_text("nonsense = 1;\n")
    try:
        yield
    finally:
        path.unlink()


@step
def upgrade_with_a_bad_configuration(fleet):
    """dpkg fails and says what to do; the version before continues, with all tunnels. After the correction it is upgraded."""
    newer = Newer(fleet.packages)
    with as_found(fleet), load(fleet) as running:
        for machine, program, deb in ((fleet.relay, "relayd", newer.relayd), (fleet["gateway"], "agentd", newer.agentd)):
            service = package_of(deb)
            pid = machine.property(service, "MainPID")
            upload(fleet, machine, deb)
            with bad_settings(machine, program):
                output = type_at(fleet, machine, DPKG.format(deb.name), code=1)
                assert f"{service}: NOT UPGRADED" in output and f"dpkg --configure {service}" in output, output
                assert machine.property(service, "MainPID") == pid and machine.property(service, "ActiveState") == "active"
                running.is_moving()
                check_new_session(fleet)
            type_at(fleet, machine, f"dpkg --configure {service}")
            wait_upgraded(machine, deb)
            wait_reported(fleet, fleet["gateway"])
            check_new_session(fleet)


@step
def upgrade_of_an_edited_conffile(fleet):
    """From packages whose settings were conffiles: an edited one stays, counts, and nothing is asked, however it is installed."""
    with as_found(fleet), load(fleet):
        for machine, program in ((fleet.relay, "relayd"), (fleet["gateway"], "agentd")):
            deb, file = getattr(fleet.packages, program), machine.root / f"etc/gotthard/{program}.conf"
            for how in (APT, DPKG, CONFFILE_DEFAULTS):
                machine.install(fleet.packages.newer(deb, with_conffile(program), "~old"))
                file.write_text(re.sub(r'#level = "info"', 'level = "debug"', file.read_text()))
                install(fleet, machine, fleet.packages.newer(deb), how)
                wait_upgraded(machine, deb)
                shown = machine.run(f"gotthard-{program} --check-config")
                assert re.search(rf' level = "debug"; .*/etc/gotthard/{program}.conf:', shown), shown
                wait_reported(fleet, fleet["gateway"])
            file.unlink()
