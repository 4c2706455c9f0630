# SPDX-License-Identifier: ISC
"""A machine: an overlay on a root file system, booted with systemd as its first process by systemd-nspawn.

Its files and its network outlive a power-off. Everything is inside the namespaces of the run (run.py), and is gone with them."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

import netns
import network

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# A cgroup of its own must exist before nspawn starts. Nothing is registered, since the host may have no systemd.
NSPAWN = """echo $$ >{cgroup}/cgroup.procs
exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --register=no --keep-unit --directory={root} --machine={name} \
    --network-namespace-path=/run/netns/{name} --rlimit=RLIMIT_NOFILE=1024:524288 --console=pipe --resolv-conf=off --timezone=off --link-journal=no {options}"""


def wait_until(condition, description, limit=60):
    """Returns condition() as soon as it is true. Fails after @limit seconds."""
    end = time.monotonic() + limit
    while not (result := condition()):
        assert time.monotonic() < end, f"timeout: {description}"
        time.sleep(0.05)
    return result


class Process:
    """A program in the background of a machine. Its output, both streams, is in a file outside."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, limit=60):
        """Waits until the output matches the regular expression. Returns the match."""
        def found():
            match = re.search(pattern, self.output())
            assert match or self.process.poll() is None or re.search(pattern, self.output()), \
                f"it ended with {self.process.returncode} before {pattern!r}:\n{self.output()}"
            return match

        return wait_until(found, f"{pattern!r} in:\n{self.output()}", limit)

    def send_signal(self, number=signal.SIGTERM):
        """Sends a signal to the program and its children, which are a session."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, number)

    def wait(self, code=0, limit=60):
        """Waits for its end and returns the output. @code is its exit status, or None for any."""
        status = self.process.wait(limit)
        assert code is None or status == code, f"exit status {status}\n{self.output()}"
        return self.output()

    def stop(self, number=signal.SIGTERM, code=None):
        if self.process.poll() is None:
            self.send_signal(number)
        return self.wait(code)


class Machine:
    options = ""  # more options of systemd-nspawn

    def __init__(self, work, name, base, net, address):
        self.name, self.folder, self.network, self.address = name, work / name, net, address
        self.root, self.upper = self.folder / "root", self.folder / "upper"
        self.nspawn = self.leader = None
        self.n_logs = 0
        for path in (self.root, self.upper, self.folder / "work", self.folder / "logs"):
            path.mkdir(parents=True)
        options = f"lowerdir={base},upperdir={self.upper},workdir={self.folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        self.port = net.add_machine(name, address)
        self._configure()

    def _configure(self):
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (etc / "resolv.conf").unlink(missing_ok=True)
        (etc / "resolv.conf").write_text(f"nameserver {network.DNS}\n")
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", etc / "ssh/ssh_host_ed25519_key"], check=True)

    # power

    def boot(self, is_waited_for=True):
        """Boots the machine if it is off, and waits until systemd has started everything."""
        if not self.nspawn or self.nspawn.poll() is not None:
            cgroup = CGROUPS / os.environ["GOTTHARD_CGROUP"] / self.name
            cgroup.mkdir(parents=True, exist_ok=True)
            script = NSPAWN.format(cgroup=cgroup, root=self.root, name=self.name, options=self.options)
            with open(self.folder / "logs/console", "ab") as console:
                self.nspawn = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                               start_new_session=True)
            self.leader = wait_until(self._find_leader, f"{self.name}: the first process")
        if is_waited_for:
            wait_until(self.is_booted, f"{self.name}: boot")
        return self

    def _find_leader(self):
        assert self.nspawn.poll() is None, f"{self.name}: {(self.folder / 'logs/console').read_text(errors='replace')}"
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        with contextlib.suppress(OSError):
            for child in children:
                if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return None

    def is_booted(self):
        assert self.is_on(), f"{self.name} is off:\n{(self.folder / 'logs/console').read_text(errors='replace')}"
        return self.run("systemctl is-system-running 2>/dev/null", code=None).strip() in ("running", "degraded")

    def is_on(self):
        return self.nspawn is not None and self.nspawn.poll() is None

    def power_off(self):
        """Shuts it down in order: systemd stops all services."""
        if self.is_on():
            os.kill(self.leader, signal.SIGRTMIN + 4)
            self.nspawn.wait(60)

    def cut_power(self):
        """Ends all processes at once; the network has no word from them."""
        with self.unplugged():
            self.nspawn.kill()
            self.nspawn.wait(60)

    def reboot(self):
        self.power_off()
        return self.boot()

    # network

    def unplug(self):
        self.network.set_cable(self.port, False)

    def plug(self):
        self.network.set_cable(self.port, True)

    @contextlib.contextmanager
    def unplugged(self):
        """Within the context its cable is out."""
        self.unplug()
        try:
            yield
        finally:
            self.plug()

    def inside(self):
        """A context in which this thread, and sockets that it makes, are in the machine's network."""
        return netns.inside(self.name)

    def firewall(self, output="", input=""):  # pylint: disable=redefined-builtin
        """Replaces the rules (nft) for outgoing and incoming packets. No rules admit everything."""
        network.nft(f"""table inet machine {{}}
            flush table inet machine
            table inet machine {{
                chain output {{ type filter hook output priority 0; {output}
                }}
                chain input {{ type filter hook input priority 0; {input}
                }}
            }}""", self.name)

    # programs

    @staticmethod
    def home(user):
        return "/root" if user == "root" else f"/home/{user}"

    def enter(self, user, *program):
        """Returns the command that runs @program inside the machine as @user, as after a login: this run may have been started in
        the background, where SIGINT is ignored, but `connect` ends by it."""
        environment = dict(ENVIRONMENT, HOME=self.home(user), USER=user, LOGNAME=user)
        identity = []
        if user != "root":
            uid = self.uid(user)
            environment["XDG_RUNTIME_DIR"] = f"/run/user/{uid}"
            identity = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups"]
        return ["nsenter", "-t", str(self.leader), "-m", "-p", "-i", "-u", "-n", "-C", "--root", f"--wdns={self.home(user)}", "env", "-i",
                "--default-signal", *(f"{name}={value}" for name, value in environment.items()), *identity, *program]

    def uid(self, user):
        match = re.search(rf"^{user}:[^:]*:(\d+):", (self.root / "etc/passwd").read_text(), re.MULTILINE)
        assert match, f"{self.name} has no user {user}"
        return int(match[1])

    def add_user(self, user):
        """Adds a user with a home directory, while the machine is off or on. Its runtime directory comes with the boot."""
        subprocess.run(["useradd", "--root", self.root, "--create-home", "--shell", "/bin/bash", user], check=True)
        linger = self.root / "var/lib/systemd/linger"
        linger.mkdir(parents=True, exist_ok=True)
        (linger / user).touch()

    def run(self, command, user="root", code=0, limit=120):
        """Runs @command with bash inside the machine. Returns its output, both streams. @code is None for any exit status."""
        done = subprocess.run(self.enter(user, "bash", "-c", command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit, check=False)
        assert code is None or done.returncode == code, f"{self.name}: {command}\nexit status {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, command, user="root"):
        """Starts @command with bash in the background. Returns a Process."""
        self.n_logs += 1
        return Process(self.enter(user, "setsid", "bash", "-c", command), self.folder / f"logs/{self.n_logs}")

    # packages

    def put(self, *files, folder="/root"):
        """Copies files of this machine into a folder of that one."""
        for path in files:
            shutil.copy(path, self.root / folder.lstrip("/"))

    def install(self, *debs):
        """Installs packages unattended: without a terminal, without an option for conffiles. Returns apt's output."""
        shutil.rmtree(self.root / "root/debs", ignore_errors=True)
        (self.root / "root/debs").mkdir()
        self.put(*debs, folder="/root/debs")
        return self.apt("install --reinstall --allow-downgrades " + " ".join(f"./debs/{deb.name}" for deb in debs))

    def apt(self, words, code=0):
        return self.run(f"DEBIAN_FRONTEND=noninteractive apt-get --yes {words}", code=code, limit=300)

    def version(self, package):
        return self.run(f"dpkg-query --show --showformat='${{Version}}' {package}")

    def settings(self):
        """Returns owner, mode and contents of all files in /etc/gotthard."""
        found = {}
        for path in sorted((self.root / "etc/gotthard").rglob("*")):
            if path.is_file():
                status = path.stat()
                found[str(path.relative_to(self.root))] = status.st_uid, status.st_gid, status.st_mode, path.read_bytes()
        return found

    # services

    def journal(self, unit=None):
        """Returns the messages of @unit, or everything, also if the machine is off."""
        command = ["journalctl", "--no-pager", "--output=short-precise", *(["--unit", unit] if unit else [])]
        if self.is_on():
            return self.run(" ".join(command), code=None)
        return subprocess.run([*command, "--directory", self.root / "var/log/journal"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", check=False).stdout

    def property(self, unit, name):
        return self.run(f"systemctl show --property {name} --value {unit}").strip()

    def wait_active(self, unit, limit=60):
        wait_until(lambda: self.property(unit, "ActiveState") == "active", f"{self.name}: {unit} is active", limit)

    def failed_units(self):
        return self.run("systemctl list-units --failed --plain --no-legend").strip()

    def show_logs(self):
        for log in sorted((self.folder / "logs").iterdir()):
            print(f"===== {self.name}: {log.name}\n{log.read_text(errors='replace')}", file=sys.stderr)
        print(f"===== {self.name}: journal\n{self.journal()}", file=sys.stderr)
