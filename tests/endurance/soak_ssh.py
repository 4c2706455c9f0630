# SPDX-License-Identifier: ISC
"""Typical use while programs are restarted and replaced: an interactive ssh session and an rsync.

The proxy limits the rate, so that the transfer of the file is still in progress after the last fault.
"""

import hashlib
import subprocess
import threading
import time

import harness
import soak_faults
from harness import wait_until
from soak_system import System

SLACK = 60  # seconds for the file, in addition to the broker's outage


class Typist(threading.Thread):
    """A shell on the device in a terminal: each typed line must be echoed completely and once."""

    def __init__(self, argv):
        super().__init__(daemon=True)
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.is_over = threading.Event()
        self.n, self.worst, self.error = 0, 0, None
        self.start()

    def _type(self, line):
        self.child.stdin.write(line)
        self.child.stdin.flush()
        got = self.child.stdout.readline()
        assert got == line, (line, got)

    def run(self):
        try:
            while not (got := self.child.stdout.readline()).startswith(b"ready"):
                assert got, "ssh ended"
            while not self.is_over.wait(0.2):
                started = time.monotonic()
                self._type(b"line %d of what I type\n" % self.n)
                self.worst = max(self.worst, time.monotonic() - started)
                self.n += 1
            self.child.stdin.write(b"\x04")  # EOF of a terminal
            self.child.stdin.flush()
        except BaseException as error:
            self.error = error

    def check(self):
        assert self.error is None, self.error
        assert self.child.poll() is None, f"ssh ended with {self.child.returncode}"

    def end(self):
        self.check()
        self.is_over.set()
        self.join(harness.LIMIT)
        assert not self.is_alive() and self.error is None, self.error or "no echo"
        assert self.child.wait(harness.LIMIT) == 0, self.child.returncode


class SshSystem(System):
    def services(self):
        self.sshd = harness.Sshd(self.env)
        return {"ssh": self.sshd.port}


def make_file(path, size, generator):
    """Writes random bytes. Returns their digest."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size:
            piece = generator.randbytes(min(size, 1 << 20))
            file.write(piece)
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class Course:
    def __init__(self, args, system, generator):
        self.args, self.system, self.generator = args, system, generator
        self.started = time.monotonic()

    def report(self, text):
        seconds = int(time.monotonic() - self.started)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def begin(self):
        system = self.system
        self.tunnel = system.connect("alice")
        system.tunnels = [self.tunnel]
        port = self.tunnel.port("ssh")
        self.typist = Typist(system.sshd.ssh(port, "stty -echo -onlcr; echo ready; exec cat", tty=True))
        wait_until(lambda: self.typist.n > 3 or self.typist.error, "the first lines are echoed")
        self.source, self.sink = system.env.folder / "file", system.env.folder / "copy"
        self.digest = make_file(self.source, self.args.size, self.generator)
        rate = self.args.size * 8 / (self.args.outage + SLACK)
        system.operator_proxy.command(f"rate {rate:.0f}", "way=up")
        shell = system.sshd.ssh(port)
        self.rsync = subprocess.Popen(["rsync", "-e", " ".join(shell[:-1]), self.source, f"{shell[-1]}:{self.sink}"])
        self.report(f"rsync of {self.args.size} bytes at {rate / 1e6:.1f} Mbit/s")

    def check_progress(self, what):
        """The shell answers, and the file grows."""
        started, n, moved = time.monotonic(), self.typist.n, self.carried()

        def is_moving():
            self.typist.check()
            assert self.rsync.poll() in (None, 0), f"rsync ended with {self.rsync.returncode}"
            return self.typist.n > n + 1 and (self.carried() > moved + (64 << 10) or self.rsync.poll() == 0)

        wait_until(is_moving, f"recovered after {what}", 130)
        state = "in transfer" if self.rsync.poll() is None else "complete"
        self.report(f"{what}: recovered after {time.monotonic() - started:.1f} s, the file is {state}")

    def carried(self):
        return self.system.operator_proxy.status()["up"]

    def fault(self, name):
        did = soak_faults.FAULTS[name].function(self.system, self.generator, "both")
        self.check_progress(f"{name} {did}".strip())

    def faults(self):
        self.check_progress("the beginning")
        self.fault("relay-kill")
        self.fault("relay-term")
        if soak_faults.can_upgrade():
            self.fault("relay-upgrade")
        else:
            self.report("relay-upgrade: not supported by this relay")
        self.system.broker.kill()
        killed = time.monotonic()
        for name in ("agent-term", "agent-replace", "reset", "relay-kill"):
            self.fault(name)
        while time.monotonic() - killed < self.args.outage:
            self.typist.check()
            time.sleep(1)
        self.system.start_broker()
        self.check_progress(f"broker away for {time.monotonic() - killed:.0f} s")
        started = time.monotonic()
        wait_until(self.system.try_connect, "a new tunnel", 70)
        self.report(f"a new tunnel {time.monotonic() - started:.1f} s after the broker is back")
        for name in ("agent-replace", "agent-kill"):
            self.fault(name)

    def finish(self):
        assert self.rsync.wait(self.args.outage + 600) == 0, f"rsync ended with {self.rsync.returncode}"
        self.typist.end()
        assert digest_of(self.sink) == self.digest, "the copy differs"
        self.report(f"rsync: {self.args.size} bytes, the same digest; {self.typist.n} lines typed and answered, "
                 f"the longest wait {self.typist.worst:.1f} s")
        self.system.end()

    def clean_up(self):
        for child in (getattr(self, "rsync", None), getattr(getattr(self, "typist", None), "child", None)):
            if child and child.poll() is None:
                child.kill()
                child.wait()


def run(args, folder, generator):
    system = SshSystem(folder, args.seed)
    course = Course(args, system, generator)
    try:
        system.start()
        course.begin()
        course.faults()
        course.finish()
        print("good", flush=True)
        return True
    except AssertionError as error:
        course.report(f"BAD: {error}")
        return False
    finally:
        course.clean_up()
        system.close()
