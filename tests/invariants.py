# SPDX-License-Identifier: ISC
"""What must hold whatever breaks: a world under load, and the ten invariants that every fault test ends with.

    with Trial(world) as trial:      # broker, relay, agent; a tunnel; streams that compare each byte both ways
        trial.start()
        ... the fault, and what it must do ...
                                     # and here I1 to I10 are looked at (docs/faults.md)
"""

import base64
import collections
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import warnings

import harness
from harness import LIMIT, wait_until
from load import Steady

IS_SANITIZED = harness.SANITIZER != "none"
RECOVERY = 20 if IS_SANITIZED else 5  # what the issue calls T, in seconds
DEVICE = "GatewayOli"
STRANGER = "127.0.0.9"  # penalties fall on a source: this one is nobody's
DOCUMENTED = {"relayd": (0, 64, 69, 70, 78), "agentd": (0, 64, 70, 78), "cli": (0, 64, 69, 70, 75, 76, 77, 78, 130)}
ANSWER = "1s"  # nobody answers who has the wrong key: how long that is waited for


def program_of(process):
    return next((name for name in DOCUMENTED if process.name.startswith(name)), None)


def ran(pid):
    """CPU time in seconds and voluntary switches, of all threads; the clock of /proc/PID/stat is too coarse."""
    seconds, n_switches = 0, 0
    for task in os.listdir(f"/proc/{pid}/task") if os.path.exists(f"/proc/{pid}/task") else ():
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                seconds += int(file.read().split()[0]) / 1e9
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
                n_switches += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read(), re.MULTILINE).group(1))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return seconds, n_switches


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


WINDOW = 30  # echoes
N_WINDOWS = 4  # at least: in one alone a busy machine may well lose a moment


class Bystander(threading.Thread):
    """Another session: how long its echo takes, next to what the machine itself takes for one."""

    def __init__(self, tunnel, plain_port, canary):
        super().__init__(daemon=True)
        self.sock, self.canary = tunnel.dial("echo"), canary
        self.plain = socket.create_connection(("127.0.0.1", plain_port))
        self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.times = {"before": ([], []), "during": ([], [])}
        self.phase, self.error = "before", None
        self.is_over = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()
        self.start()

    def run(self):
        try:
            while not self.is_over.wait(0.005):
                self.may_go.wait()
                phase = self.phase
                for sock, times in zip((self.plain, self.sock), self.times[phase]):
                    begun = time.monotonic()
                    sock.sendall(self.canary)
                    assert harness.receive_exactly(sock, len(self.canary)) == self.canary, "another's bytes, or none"
                    times.append(time.monotonic() - begun)
        except BaseException as error:
            self.error = error
        finally:
            self.sock.close()
            self.plain.close()

    def has(self, n):
        assert self.error is None, self.error
        return len(self.times[self.phase][1]) >= n

    def verdict(self):
        """Worst echo of the tunnel before, and of tunnel and machine in the quietest window of the fault: what the fault does to us it
        does all the time, and what a busy machine does it does now and then."""
        plain, ours = self.times["during"]
        windows = [(max(ours[at:at + WINDOW]), max(plain[at:at + WINDOW])) for at in range(len(ours) - WINDOW + 1)]
        return max(self.times["before"][1]), *min(windows, key=lambda window: window[0] - window[1])


class Trial:
    """@relayd, @agentd: text of their configuration files. @n_streams of load, none before start()."""

    def __init__(self, world, n_streams=4, relayd="", agentd="", relay_env=None, agent_env=None, cli_env=None,
                 recovery=RECOVERY, relay_args=()):
        self.world, self.recovery, self.relay_args = world, recovery, relay_args
        self.cli_env = cli_env or {}
        self.canary = secrets.token_hex(32).encode()
        self.load = Steady(world, n_streams)
        self.echo = world.target(harness.echo)
        self.folder = world.config_folder(
            relayd=relayd, agentd=f'services = {{ echo = "127.0.0.1:{self.echo.port}"; }};\n{agentd}')
        self.relay_env = world.relay_environment(GOTTHARD_CONFIG_DIR=self.folder, **(relay_env or {}))
        self.agent_env = dict(GOTTHARD_CONFIG_DIR=self.folder, GOTTHARD_AGENT_DATA_PORT=self.load.target.port,
                              **(agent_env or {}))
        self.tunnels, self.wire, self.bystander, self.probe = [], None, None, None
        self.relay_host = "127.0.0.1"
        self.adopted = []  # workers of an agent that was
        self.has_started = self.has_failed_closed = False

    # the parts

    def __enter__(self):
        self._watch_wire()
        self.broker = self.world.broker()
        self.start_relay()
        self.start_agent()
        self.hear_echo()
        self.wait_no_workers()
        self.before = self.resources()
        self.tunnel = self.connect()
        return self

    def start_relay(self, **more):
        self.relay = self.world.relay(*self.relay_args, env=self.relay_env, **more)
        return self.relay

    def start_agent(self, **more):
        self.agent = self.world.agent(DEVICE, **{**self.agent_env, **more})
        return self.agent

    def connect(self, name="alice", **more):
        tunnel = self.world.connect(DEVICE, "0:ssh", "0:echo", name=name, **self.cli_env, **more)
        self.tunnels.append(tunnel)
        return tunnel

    def start(self):
        """The load begins."""
        self.load.start(self.tunnel)
        self.has_started = True
        return self

    def stand_by(self, n=40):
        """Another session begins to be measured; what comes from now on must not harm it."""
        self.bystander = Bystander(self.connect("bob"), self.echo.port, self.canary)
        wait_until(lambda: self.bystander.has(n), "the other session's echo before the fault")
        self.bystander.phase = "during"

    def workers(self):
        self.adopted = [pid for pid in self.adopted if is_alive(pid)]
        return self.adopted + (harness.children_of(self.agent.pid) if self.agent.is_running() else [])

    def wait_no_workers(self, limit=LIMIT):
        wait_until(lambda: not self.workers(), "the device's workers ended", limit)

    def hear(self, tunnel):
        """The canary goes there and comes back."""
        with tunnel.dial("echo") as sock:
            sock.sendall(self.canary)
            assert harness.receive_exactly(sock, 64) == self.canary, "the echo is another's, or cut"

    def hear_echo(self):
        """A whole new tunnel, used once."""
        tunnel = self.connect("operator")
        self.hear(tunnel)
        assert tunnel.close_politely() == 0
        self.tunnels.remove(tunnel)

    # the invariants

    def check(self):
        self.isolated()
        self.exact_or_loud()
        self.comes_back()
        self.fails_closed()
        self.quiet()
        self.end_tunnels()
        self.bounded()
        self.end_services()
        self.clean()
        self.logs()
        self.secret()

    def exact_or_loud(self):
        """I1, I2: each byte was compared with the one of its own stream; what is open goes on, and ends well."""
        assert not self.load.errors and not self.load.target.errors, (self.load.errors, self.load.target.errors)
        if self.has_started:
            self.load.wait_for_progress(1)
            self.end_load()

    def end_load(self, are_well=True):
        """Each stream comes to its end and the last byte is right; @are_well: the tunnel says so of all that it carried."""
        self.has_started = False
        if are_well:
            self.load.finish(self.tunnel)
        else:
            self.load.end()

    def comes_back(self):
        """I5: without a restart by hand a new tunnel works."""
        begun, last = time.monotonic(), None
        while time.monotonic() - begun < self.recovery:
            try:
                self.hear_echo()
                return
            except AssertionError as error:
                last = error
                time.sleep(0.4)  # the device answers five questions a second
        raise AssertionError(f"no new tunnel within {self.recovery} s") from last

    def fails_closed(self):
        """I8: a wrong key opens nothing: not at the relay's door, not with a JOIN, not at the device. Call it during the fault
        where there is somebody to ask; else it is asked at the end."""
        if self.has_failed_closed:
            return
        self.has_failed_closed = True
        n_workers, wrong = len(self.workers()), secrets.token_hex(32)
        asking = subprocess.Popen(
            [harness.PROGRAMS["cli"], "connect", DEVICE, "0:echo"], cwd=self.world.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=self.world.cli_environment("operator", GOTTHARD_CRYPT_KEY=wrong, GOTTHARD_CLIENT_ANSWER_TIMEOUT=ANSWER))
        try:
            if self.relay.is_running():
                self._knock_with(wrong)
            out, _ = asking.communicate(timeout=LIMIT)
        finally:
            asking.kill()
            asking.wait()
        assert asking.returncode in (69, 77), (asking.returncode, out)
        assert len(self.workers()) <= n_workers, "the device works for whoever has a wrong key"

    def _knock_with(self, key):
        is_v6 = ":" in self.relay_host  # which has one loopback address only: then we are nobody special
        at, bind = (f"[{self.relay_host}]", ()) if is_v6 else (self.relay_host, ("-bind", f"{STRANGER}:0"))
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{at}:{self.world.relay_port}", *bind, "-tls1_3",
             "-psk_identity", "g1:o:alice", "-psk", key, "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-alpn", "gotthard-r/1"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode != 0 and "Reused, TLSv1.3" not in done.stdout, done.stdout
        try:
            with socket.create_connection((self.relay_host, self.world.relay_port), timeout=LIMIT,
                                          source_address=None if is_v6 else (STRANGER, 0)) as sock:
                sock.sendall(b"GTJ1\x01\x01\0\0" + bytes(56))
                assert sock.recv(100) == b"", "an answer to nobody's ticket"
        except ConnectionError:
            pass

    def isolated(self):
        """I6: the other session's echo takes at most twice as long, beside what the machine itself lost."""
        if not self.bystander:
            return
        wait_until(lambda: self.bystander.has(N_WINDOWS * WINDOW), "the other session's echo during the fault")
        self.bystander.is_over.set()
        self.bystander.join(LIMIT)
        before, during, plain = self.bystander.verdict()
        print(f"another session's echo: {before * 1000:.1f} ms before, {during * 1000:.1f} ms during "
              f"(without us {plain * 1000:.1f} ms)")
        self.bystander = None
        if not IS_SANITIZED:
            assert during <= 2 * before + 5 * plain + 0.010

    def ours(self):
        pids = [p.pid for p in self.world.processes if p.is_running() and program_of(p)]
        return pids + self.workers()

    def quiet(self):
        """I7: whoever has nothing to do does nothing, in one second out of the next few."""
        found = []

        def is_quiet():
            before = {pid: ran(pid) for pid in self.ours()}
            begun = time.monotonic()
            wait_until(lambda: time.monotonic() - begun >= 1, "a second to look at", step=1)
            after = {pid: ran(pid) for pid in before if is_alive(pid)}
            found[:] = [(pid, s - before[pid][0], n - before[pid][1]) for pid, (s, n) in after.items()]
            return all(seconds < (0.1 if IS_SANITIZED else 0.005) and (n < 5 or IS_SANITIZED) for _, seconds, n in found)

        if self.bystander:
            self.bystander.may_go.clear()
        try:
            wait_until(is_quiet, "quiet", limit=12)
        except AssertionError:
            raise AssertionError(f"not quiet: pid, seconds of CPU, wake-ups in a second: {found}") from None
        finally:
            if self.bystander:
                self.bystander.may_go.set()

    def end_tunnels(self):
        for tunnel in self.tunnels:
            if tunnel.is_running():
                assert tunnel.close_politely() == 0, tunnel.log()

    def resources(self):
        """Descriptors and memory of each service."""
        return {name: (harness.descriptors(p.pid) if os.getuid() == 0 else 0, harness.rss_kib(p.pid))
                for name, p in (("relay", self.relay), ("agent", self.agent))}

    def status(self):
        """The figures that the relay tells at SIGUSR1."""
        count = self.relay.log().count("status sessions=")
        self.relay.send(signal.SIGUSR1)
        self.relay.wait_for("status sessions=", count=count + 1)
        line = re.findall("status (sessions=.*)", self.relay.log())[-1]
        return {key: int(value) for key, value in re.findall(r"(\S+?)=(\d+)", line)}

    def bounded(self):
        """I4: everything comes back."""
        self.wait_no_workers(limit=self.recovery + 5)
        left = []

        def is_back():
            status = self.status()
            left[:] = [f"{status[what]} {what}" for what in ("sessions", "members", "pairs", "tickets", "ports") if status[what]]
            for name, (n_fds, rss) in self.resources().items():
                was_fds, was_rss = self.before[name]
                if n_fds > was_fds:
                    left.append(f"{name}: {n_fds} descriptors, before {was_fds}")
                if rss > was_rss * 1.25 + 2048 and not IS_SANITIZED:
                    left.append(f"{name}: {rss} KiB, before {was_rss}")
            return not left

        try:
            wait_until(is_back, "baseline", limit=self.recovery + 5, step=0.2)
        except AssertionError:
            raise AssertionError(f"not given back: {', '.join(left)}") from None

    def end_services(self):
        for process in (self.agent, self.relay):
            assert process.stop() == 0, (process.name, process.child.returncode)

    def clean(self):
        """I9: no signal ended a program but our own SIGKILL, and each status is one of the manual's."""
        for process in self.world.processes:
            program, code = program_of(process), process.child.poll()
            if program and code not in (None, -signal.SIGKILL):
                assert code in DOCUMENTED[program], (process.name, code)
        for path in self.world.folder.glob("core*"):
            raise AssertionError(f"{path} is a core")

    def logs(self):
        """I10: few lines of one cause in one second, and nothing that a terminal would obey."""
        for process in self.world.processes:
            if not program_of(process):
                continue
            raw = process.log_path.read_bytes()
            bad = set(raw) - set(range(0x20, 0x7f)) - {0x0a}
            assert program_of(process) == "cli" or not bad, f"{process.name} logs bytes {bad}"
            assert not set(raw) & (set(range(0x20)) - {0x0a}), f"{process.name} logs control characters"
            for (second, cause), n in causes(raw.decode(errors="replace")).items():
                assert n <= 20, f"{process.name}: {n} lines at {second}: {cause}"  # two bursts touch one second

    def secret(self):
        """I3: no key and no byte of anybody's payload is in a log, or goes over the wire."""
        for process in self.world.processes:
            if program_of(process):
                text = process.log_path.read_bytes() + process.out_path.read_bytes()
                for name, needle in self.needles().items():
                    assert needle not in text, f"{process.name} says the {name}"
        if self.wire:
            self.wire.stop()
            assert "HIT" not in self.wire.out(), self.wire.out()
            n = int(re.search(r"seen (\d+) bytes", self.wire.out()).group(1))
            assert n > 5000, f"only {n} bytes were looked at"

    def needles(self):
        raw = bytes.fromhex(self.world.key)
        found = {"canary": self.canary, "key": raw, "key in hex": self.world.key.encode(),
                 "key in HEX": self.world.key.upper().encode(), "key in base64": base64.b64encode(raw).rstrip(b"="),
                 "key in url-safe base64": base64.urlsafe_b64encode(raw).rstrip(b"="),
                 "canary in base64": base64.b64encode(self.canary)[:-4]}
        for number in range(min(self.load.n_streams, 2)):
            for way in ("up", "down"):
                found[f"payload {way} {number}"] = next(harness.pattern(f"{way} {number}", 1 << 20, Steady.CHUNK))[8:72]
        return found

    def _watch_wire(self):
        world = self.world
        if os.getuid() != 0 or not shutil.which("tcpdump"):
            warnings.warn("I3: what goes over the wire is not looked at: that takes root, and tcpdump")
            return
        path = world.folder / "needles"
        path.write_text(json.dumps({name: needle.hex() for name, needle in self.needles().items()}))
        self.wire = harness.Process(world, "wire", [
            "/usr/bin/python3", os.path.join(os.path.dirname(__file__), "wire.py"), path, 3600, world.relay_port,
            f"{world.relay_ports}-{world.relay_ports + world.n_relay_ports - 1}", world.broker_port])
        self.wire.wait_for("listening", where=self.wire.out)

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.check()


def causes(log):
    """How many lines of each cause each second has; what somebody did who had shown who he is counts as no cause."""
    counts = collections.Counter()
    for second, level, words in re.findall(r"^(\S+:\d\d)\.\d+Z (\w+) [\w-]+: (.*)$", log, re.MULTILINE):
        if level == "info" and re.match(r"member=|session=|stream=|status|device=|configuration reloaded", words):
            continue
        counts[second, re.sub(r'[=:]("[^"]*"|\S+)|[0-9a-f]{8,}|\d+', "", words)] += 1
    return counts
