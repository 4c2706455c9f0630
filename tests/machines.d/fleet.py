# SPDX-License-Identifier: ISC
"""The machines of a run: broker, relay, two devices in a home network, two operators."""

import concurrent.futures
import pathlib
import subprocess

import machine
import network
import packages
import roots

# name, user, network, last part of the address. The operator is one of the README's; the device is its GatewayOli, and Pump7.
MACHINES = (("relay", None, network.INTERNET, 1), ("broker", None, network.INTERNET, 2), ("gateway", "user", network.HOME, 11),
            ("pump", "user", network.HOME, 12), ("alice", "alice", network.INTERNET, 11), ("bob", "bob", network.INTERNET, 12))
SSH_CONFIG = "Host *.example.org\n  StrictHostKeyChecking accept-new\n"  # as a user who answers "yes"


class Fleet:
    """A device or an operator is also found by its name: fleet["pump"]."""

    def __init__(self, suite, work, folder=None):
        self.suite, self.work = suite, pathlib.Path(work)
        self.packages = packages.Packages(suite, pathlib.Path(folder)) if folder else packages.of_head(suite)
        self.base = roots.machine_root(suite, self.packages.depends())
        self.network = network.Network()
        self.machines = {}
        self.keys = []
        for name, user, net, number in MACHINES:
            self.add(name, f"{net}.{number}", user)
        for each in self.machines.values():
            self.admit_operators(each)

    def __getitem__(self, name):
        return self.machines[name]

    @property
    def relay(self):
        return self["relay"]

    @property
    def broker(self):
        return self["broker"]

    @property
    def devices(self):
        return [self["gateway"], self["pump"]]

    @property
    def operators(self):
        return [self["alice"], self["bob"]]

    def add(self, name, address, user=None):
        """Makes one more machine, which is off. Its name is NAME.example.org."""
        made = self.machines[name] = machine.Machine(self.work, name, self.base, self.network, address)
        if user:
            made.add_user(user)
        if name in ("alice", "bob"):
            self.add_key(made, user)
        return made

    def add_key(self, operator, user):
        folder = operator.root / f"home/{user}/.ssh"
        folder.mkdir(mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user, "-f", folder / "id_ed25519"], check=True)
        (folder / "config").write_text(SSH_CONFIG)
        self.keys.append((folder / "id_ed25519.pub").read_text())
        subprocess.run(["chown", "-R", f"{operator.uid(user)}:{operator.uid(user)}", folder], check=True)

    def admit_operators(self, host):
        """Their keys open root's account, for the README's scp, and that of a device's user."""
        for home in (host.root / "root", *(host.root / "home").glob("user")):
            folder = home / ".ssh"
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / "authorized_keys").write_text("".join(self.keys))
            owner = home.stat()
            subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", folder], check=True)

    def boot(self, *machines):
        """Boots machines at once; all without arguments."""
        machines = machines or self.machines.values()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(machine.Machine.boot, machines))

    def failed_units(self):
        return {each.name: failed for each in self.machines.values() if each.is_on() and (failed := each.failed_units())}

    def show_logs(self):
        for each in self.machines.values():
            if each.nspawn:
                each.show_logs()
