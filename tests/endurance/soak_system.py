# SPDX-License-Identifier: ISC
"""The system of the soak: the real programs, each reached through a fault proxy, and a load that compares every byte.

    operator's two tunnels ── proxy ──► relay ◄── proxy ── device          both ──► proxy ──► broker

The device's listener runs from a copy of its binary, so that a package can replace it.
"""

import contextlib
import os
import shutil
import signal
import time

import harness
from faultproxy import Proxy
from harness import LIMIT, wait_until
from load import Echo, Shorts, Steady
from process_stats import cpu_and_wakeups, is_alive, pss_kib

DEVICE = "GatewayOli"
N_STREAMS = 4  # of each of the two tunnels
N_QUIET = 20  # of the first: they stay in its shared data connection
N_IDLE_PIPES = 16  # per data thread: gotthard-relayd/src/data/pipe.c
WINDOW = 130  # seconds: the resume window and a margin


def descriptors(pid, name):
    """Returns the number of descriptors (root only), without the relay's pool of pipes, which is checked separately."""
    if os.getuid() != 0:
        return 0
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            kinds.append(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0])
    if name != "relay":
        return len(kinds)
    n_pipes, n_threads = kinds.count("pipe"), len(os.listdir(f"/proc/{pid}/task"))
    return len(kinds) - n_pipes + max(0, n_pipes - N_IDLE_PIPES * 2 * n_threads)


class System:
    """The programs, with the device's services from services() of a subclass."""

    def __init__(self, folder, seed):
        self.env = harness.Env(folder)
        self.seed = seed
        self.binary = self.env.folder / "bin" / "gotthard-agentd"
        self.binary.parent.mkdir()
        self.run_folder = self.env.folder / "run"
        self.run_folder.mkdir(mode=0o700)
        self.restored = []  # workers of an earlier listener
        self.tunnels = []

    # the parts

    def start(self):
        env = self.env
        self.broker = env.broker()
        self.broker_proxy = Proxy.before_port(env.broker_port, seed=self.seed)
        self.start_relay()
        self.operator_proxy = Proxy.before_relay(env, seed=self.seed + 1)
        self.device_proxy = Proxy.before_relay(env, seed=self.seed + 2)
        self.proxies = {"operator": self.operator_proxy, "device": self.device_proxy}
        self.ports = {"echo": env.target(harness.echo).port, **self.services()}
        self.config = env.config_folder(agentd="services = { " + " ".join(
            f'{name} = "127.0.0.1:{port}";' for name, port in self.ports.items()) + " };\n")
        self.replace_binary()
        self.start_agent()
        self.bare = self.descriptors()
        return self

    def services(self):
        """Returns the ports of the device's services by name."""
        return {}

    def start_broker(self):
        self.broker = self.env.broker()

    def start_relay(self):
        self.relay = self.env.relay("--bind", "127.0.0.1")

    def replace_binary(self):
        """As dpkg does: writes a new file beside the old one and renames it."""
        fresh = self.binary.with_suffix(".new")
        shutil.copy(harness.PROGRAMS["agentd"], fresh)
        os.rename(fresh, self.binary)

    def endpoint(self):
        return f"localhost:{self.broker_proxy.port}"

    def start_agent(self, wait=True):
        env = self.env
        self.agent = harness.Process(
            env, env.unique(f"agentd-{DEVICE}"), [self.binary], env=env.agent_environment(
                DEVICE, GOTTHARD_CONFIG_DIR=self.config, RUNTIME_DIRECTORY=self.run_folder,
                GOTTHARD_SERVER_HOST=self.device_proxy.host, GOTTHARD_MQTT_ENDPOINT=self.endpoint()))
        if wait:
            self.agent.wait_for(harness.AGENT_READY)

    def leave_workers(self):
        """Before the listener stops: records the workers that continue without it."""
        self.restored = self.workers()

    def workers(self):
        own = harness.children_of(self.agent.pid) if self.agent.is_running() else []
        return [pid for pid in self.restored if is_alive(pid)] + own

    def connect(self, name, **more):
        return self.env.connect(
            DEVICE, *[f"0:{service}" for service in self.ports], name=name,
            GOTTHARD_SERVER_HOST=self.operator_proxy.host, GOTTHARD_MQTT_ENDPOINT=self.endpoint(), **more)

    def try_connect(self):
        """Opens a third tunnel and uses it once. Returns true on success."""
        tunnel = self.connect("operator", wait=False)
        try:
            wait_until(lambda: any(e["event"] == "up" for e in tunnel.events()) or not tunnel.is_running(),
                       "the tunnel is up or the command exited")
            if not tunnel.is_running():
                return False
            with tunnel.dial("echo") as sock:
                sock.sendall(b"hello")
                is_echoed = harness.receive_exactly(sock, 5) == b"hello"
            return tunnel.disconnect() == 0 and is_echoed
        except (OSError, AssertionError):
            return False
        finally:
            tunnel.kill()
            self.env.processes.remove(tunnel)

    # the processes

    def parties(self):
        """Returns our processes by names that are kept over a restart."""
        found = {"relay": self.relay.pid, "agent": self.agent.pid}
        found.update({f"worker {n + 1}": pid for n, pid in enumerate(self.workers())})
        found.update({f"operator {n + 1}": t.pid for n, t in enumerate(self.tunnels)})
        return found

    def resources(self):
        """Returns for each process: descriptors (root only), RSS in KiB, PSS in KiB."""
        return {name: (descriptors(pid, name), harness.rss_kib(pid), pss_kib(pid) if os.getuid() == 0 else 0)
                for name, pid in self.parties().items()}

    def descriptors(self):
        """Returns the descriptors of the processes that remain after the last tunnel is closed."""
        return {name: descriptors(pid, name) for name, pid in (("relay", self.relay.pid), ("agent", self.agent.pid))}

    def cpu_and_wakeups(self):
        return {name: cpu_and_wakeups(pid) for name, pid in self.parties().items()}

    def end(self):
        """Stops all in order and checks each exit status."""
        for tunnel in self.tunnels:
            assert tunnel.disconnect() == 0, (tunnel.name, tunnel.log()[-2000:])
        wait_until(lambda: not self.workers(), "the device's workers ended", LIMIT)
        wait_until(lambda: all(now <= self.bare[name] for name, now in self.descriptors().items()),
                   f"no descriptor more than before the first tunnel, {self.bare}", LIMIT)
        assert self.agent.stop() == 0
        assert self.relay.stop() == 0

    def close(self):
        for pid in getattr(self, "restored", []):
            if is_alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.env.close()
        for proxy in ("broker_proxy", "operator_proxy", "device_proxy"):
            if hasattr(self, proxy):
                getattr(self, proxy).close()


class Loaded(System):
    """Two tunnels of four streams each, which have data connections of their own. In the first, an interactive user and quiet streams
    share one, and a stream with bursts moves between both kinds; the second also has short connections."""

    def __init__(self, folder, seed, rate):
        """@rate: bytes per second of all streams together, in both directions."""
        super().__init__(folder, seed)
        each = rate / (2 * N_STREAMS) / 2
        self.steady = [Steady(self.env, N_STREAMS, each, n * N_STREAMS) for n in range(2)]
        self.shorts = Shorts(self.env, seed=seed)
        self.echo, self.quiet = None, []
        self.n_loads = 0

    def services(self):
        return {"one": self.steady[0].target.port, "two": self.steady[1].target.port, "short": self.shorts.target.port}

    def start(self):
        super().start()
        self.tunnels = [self.connect("alice"), self.connect("bob")]
        return self

    def load(self):
        self.n_loads += 1
        for number, steady in enumerate(self.steady):
            steady.start(self.tunnels[number], ("one", "two")[number])
        self.echo = Echo(self.tunnels[0].dial("echo"))
        self.quiet = [Echo(self.tunnels[0].dial("echo"), pause=1) for _ in range(N_QUIET)]
        self.quiet.append(Echo(self.tunnels[0].dial("echo"), pause=70, n=300_000))  # it moves, and moves back after a minute
        self.shorts.start(self.tunnels[1], "short")

    def check(self):
        for part in (*self.steady, self.echo, *self.quiet, self.shorts):
            part.check()
        for tunnel in self.tunnels:
            assert tunnel.is_running(), f"{tunnel.name} ended with {tunnel.child.returncode}: {tunnel.log()[-2000:]}"

    def progress_of_all(self):
        return self.steady[0].progress_of_all() + self.steady[1].progress_of_all()

    def wait_for_progress(self, n, limit=WINDOW):
        """Waits until every stream has moved @n more bytes in both directions and the user is answered. Returns the seconds."""
        started, before, n_echoes = time.monotonic(), self.progress_of_all(), self.echo.n_echoes

        def all_moved():
            self.check()
            return self.echo.n_echoes > n_echoes and all(now >= then + n for now, then in zip(self.progress_of_all(), before))

        try:
            wait_until(all_moved, "all moved", limit, step=0.01)
        except AssertionError as error:
            if "all moved" not in str(error):
                raise
            lag = [now - then for now, then in zip(self.progress_of_all(), before)]
            raise AssertionError(f"not within {limit} s: {n} bytes of each stream; they moved {lag}") from None
        return time.monotonic() - started

    def end_load(self):
        for part in (*self.steady, self.echo, *self.quiet, self.shorts):
            part.end()
        first = self.tunnels[0]  # the other one has short connections, which may be reset
        first.event("stream-ended", count=self.n_loads * (N_STREAMS + 1 + len(self.quiet)))
        bad = [e for e in first.events() if e["event"] == "stream-ended" and e["code"]]
        assert not bad, bad

    def close(self):
        for part in filter(None, (*self.steady, self.echo, *self.quiet, self.shorts)):
            part.is_over.set()  # where a violation ended the soak before end_load()
        super().close()

    def bytes_carried(self):
        return sum(self.progress_of_all()) + self.shorts.n_bytes
