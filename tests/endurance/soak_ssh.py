# SPDX-License-Identifier: ISC
"""What people do with it, while everything else is exchanged: an ssh session in which somebody types, and an rsync.

The line is made so slow (by the proxy, not by rsync) that the file is still on its way when the last fault is over.
"""

import hashlib
import subprocess
import threading
import time

import harness
import soak_faults
from harness import wait_until
from soak_system import System

SLACK = 60  # seconds that the file takes beside the broker's outage


class Typist(threading.Thread):
    """A shell on the device, through a terminal: each line typed must come back, once and whole."""

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
                begun = time.monotonic()
                self._type(b"line %d of what I type\n" % self.n)
                self.worst = max(self.worst, time.monotonic() - begun)
                self.n += 1
            self.child.stdin.write(b"\x04")  # end of file, as a terminal says it
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
        self.sshd = harness.Sshd(self.world)
        return {"ssh": self.sshd.port}


def make_file(path, size, dice):
    """Random bytes; their digest."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size:
            piece = dice.randbytes(min(size, 1 << 20))
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
    def __init__(self, args, system, dice):
        self.args, self.system, self.dice = args, system, dice
        self.begun = time.monotonic()

    def say(self, text):
        seconds = int(time.monotonic() - self.begun)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def begin(self):
        system = self.system
        self.tunnel = system.connect("alice")
        system.tunnels = [self.tunnel]
        port = self.tunnel.port("ssh")
        self.typist = Typist(system.sshd.ssh(port, "stty -echo -onlcr; echo ready; exec cat", tty=True))
        wait_until(lambda: self.typist.n > 3 or self.typist.error, "somebody types")
        self.source, self.sink = system.world.folder / "file", system.world.folder / "copy"
        self.digest = make_file(self.source, self.args.size, self.dice)
        rate = self.args.size * 8 / (self.args.outage + SLACK)
        system.operator_proxy.order(f"rate {rate:.0f}", "way=up")
        shell = system.sshd.ssh(port)
        self.rsync = subprocess.Popen(["rsync", "-e", " ".join(shell[:-1]), self.source, f"{shell[-1]}:{self.sink}"])
        self.say(f"rsync of {self.args.size} bytes at {rate / 1e6:.1f} Mbit/s")

    def go_on(self, what):
        """The typist is answered, and the file grows."""
        begun, n, moved = time.monotonic(), self.typist.n, self.carried()

        def is_moving():
            self.typist.check()
            assert self.rsync.poll() in (None, 0), f"rsync ended with {self.rsync.returncode}"
            return self.typist.n > n + 1 and (self.carried() > moved + (64 << 10) or self.rsync.poll() == 0)

        wait_until(is_moving, f"all goes on after {what}", 130)
        state = "on its way" if self.rsync.poll() is None else "there"
        self.say(f"{what}: all goes on after {time.monotonic() - begun:.1f} s, the file is {state}")

    def carried(self):
        return self.system.operator_proxy.status()["up"]

    def fault(self, name):
        did = soak_faults.FAULTS[name].function(self.system, self.dice, "both")
        self.go_on(f"{name} {did}".strip())

    def faults(self):
        self.go_on("the beginning")
        self.fault("relay-kill")
        self.fault("relay-term")
        if soak_faults.can_upgrade():
            self.fault("relay-upgrade")
        else:
            self.say("relay-upgrade: this relay cannot")
        self.system.broker.kill()
        gone = time.monotonic()
        for name in ("agent-term", "agent-replace", "reset", "relay-kill"):
            self.fault(name)
        while time.monotonic() - gone < self.args.outage:
            self.typist.check()
            time.sleep(1)
        self.system.start_broker()
        self.go_on(f"broker away for {time.monotonic() - gone:.0f} s")
        begun = time.monotonic()
        wait_until(self.system.try_connect, "a new tunnel", 70)
        self.say(f"a new tunnel {time.monotonic() - begun:.1f} s after the broker is back")
        for name in ("agent-replace", "agent-kill"):
            self.fault(name)

    def finish(self):
        assert self.rsync.wait(self.args.outage + 600) == 0, f"rsync ended with {self.rsync.returncode}"
        self.typist.end()
        assert digest_of(self.sink) == self.digest, "the copy is another"
        self.say(f"rsync: {self.args.size} bytes, the same digest; {self.typist.n} lines typed and answered, "
                 f"the longest wait {self.typist.worst:.1f} s")
        self.system.end()

    def clean_up(self):
        for child in (getattr(self, "rsync", None), getattr(getattr(self, "typist", None), "child", None)):
            if child and child.poll() is None:
                child.kill()
                child.wait()


def run(args, folder, dice):
    system = SshSystem(folder, args.seed)
    course = Course(args, system, dice)
    try:
        system.start()
        course.begin()
        course.faults()
        course.finish()
        print("good", flush=True)
        return True
    except AssertionError as error:
        course.say(f"BAD: {error}")
        return False
    finally:
        course.clean_up()
        system.close()
