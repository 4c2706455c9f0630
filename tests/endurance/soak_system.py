# SPDX-License-Identifier: ISC
"""What the soak runs on: the real programs, each reached through a fault proxy, and a load that compares every byte.

    operator's two tunnels ── proxy ──► relay ◄── proxy ── device          both ──► proxy ──► broker

The device's listener runs from a copy of its binary, so that a package can replace it.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import time

import harness
from faultproxy import Proxy
from harness import LIMIT, wait_until
from invariants import is_alive, ran
from load import Echo, Shorts, Steady

DEVICE = "GatewayOli"
N_STREAMS = 4  # of each of the two tunnels
N_IDLE_PIPES = 16  # of each plane: gotthard-relayd/src/pipe.c
WINDOW = 130  # seconds: the resume window, and a little


def pss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def descriptors(pid, name):
    """How many (root only). The relay's pipes are a pool, which keeps some for the next bytes: those are looked at apart."""
    if os.getuid() != 0:
        return 0
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            kinds.append(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0])
    if name != "relay":
        return len(kinds)
    n_pipes, n_threads = kinds.count("pipe"), len(os.listdir(f"/proc/{pid}/task"))
    return len(kinds) - n_pipes + max(0, n_pipes - N_IDLE_PIPES * 2 * n_threads)


class System:
    """The programs, with what @services() of a subclass has behind the device."""

    def __init__(self, folder, seed):
        self.world = harness.World(folder)
        self.seed = seed
        self.binary = self.world.folder / "bin" / "gotthard-agentd"
        self.binary.parent.mkdir()
        self.run_folder = self.world.folder / "run"
        self.run_folder.mkdir(mode=0o700)
        self.adopted = []  # workers of a listener that is gone
        self.tunnels = []

    # the parts

    def start(self):
        world = self.world
        self.broker = world.broker()
        self.broker_proxy = Proxy.before_port(world.broker_port, seed=self.seed)
        self.start_relay()
        self.operator_proxy = Proxy.before_relay(world, seed=self.seed + 1)
        self.device_proxy = Proxy.before_relay(world, seed=self.seed + 2)
        self.proxies = {"operator": self.operator_proxy, "device": self.device_proxy}
        self.ports = {"echo": world.target(harness.echo).port, **self.services()}
        self.config = world.config_folder(agentd="services = { " + " ".join(
            f'{name} = "127.0.0.1:{port}";' for name, port in self.ports.items()) + " };\n")
        self.replace_binary()
        self.start_agent()
        self.bare = self.descriptors()
        return self

    def services(self):
        """Ports of the device's own, by name."""
        return {}

    def start_broker(self):
        self.broker = self.world.broker()

    def start_relay(self):
        self.relay = self.world.relay("--bind", "127.0.0.1")

    def replace_binary(self):
        """As dpkg does: a new file beside it, and a rename."""
        fresh = self.binary.with_suffix(".new")
        shutil.copy(harness.PROGRAMS["agentd"], fresh)
        os.rename(fresh, self.binary)

    def endpoint(self):
        return f"localhost:{self.broker_proxy.port}"

    def start_agent(self, wait=True):
        world = self.world
        self.agent = harness.Process(
            world, world.unique(f"agentd-{DEVICE}"), [self.binary], env=world.agent_environment(
                DEVICE, GOTTHARD_CONFIG_DIR=self.config, RUNTIME_DIRECTORY=self.run_folder,
                GOTTHARD_SERVER_HOST=self.device_proxy.host, GOTTHARD_MQTT_ENDPOINT=self.endpoint()))
        if wait:
            self.agent.wait_for(harness.AGENT_READY)

    def leave_workers(self):
        """Before the listener ends: those who live on without it."""
        self.adopted = self.workers()

    def workers(self):
        own = harness.children_of(self.agent.pid) if self.agent.is_running() else []
        return [pid for pid in self.adopted if is_alive(pid)] + own

    def connect(self, name, **more):
        """With as many spares as there ever are: their number is the same before and after."""
        return self.world.connect(
            DEVICE, *[f"0:{service}" for service in self.ports], name=name,
            GOTTHARD_SERVER_HOST=self.operator_proxy.host, GOTTHARD_MQTT_ENDPOINT=self.endpoint(),
            GOTTHARD_SPARES=8, **more)

    def try_connect(self):
        """A third tunnel, used once: whether it could be had."""
        tunnel = self.connect("operator", wait=False)
        try:
            wait_until(lambda: any(e["event"] == "up" for e in tunnel.events()) or not tunnel.is_running(), "a word")
            if not tunnel.is_running():
                return False
            with tunnel.dial("echo") as sock:
                sock.sendall(b"hello")
                is_good = harness.receive_exactly(sock, 5) == b"hello"
            return tunnel.close_politely() == 0 and is_good
        except (OSError, AssertionError):
            return False
        finally:
            tunnel.kill()
            self.world.processes.remove(tunnel)

    # the processes

    def parties(self):
        """What is ours, by a name that outlives a restart."""
        found = {"relay": self.relay.pid, "agent": self.agent.pid}
        found.update({f"worker {n + 1}": pid for n, pid in enumerate(self.workers())})
        found.update({f"operator {n + 1}": t.pid for n, t in enumerate(self.tunnels)})
        return found

    def resources(self):
        """Of each: descriptors (root only), KiB resident, KiB of its own and its share."""
        return {name: (descriptors(pid, name), harness.rss_kib(pid), pss_kib(pid) if os.getuid() == 0 else 0)
                for name, pid in self.parties().items()}

    def descriptors(self):
        """Descriptors of those who stay when the last tunnel is closed."""
        return {name: descriptors(pid, name) for name, pid in (("relay", self.relay.pid), ("agent", self.agent.pid))}

    def ran(self):
        return {name: ran(pid) for name, pid in self.parties().items()}

    def end(self):
        """In order: each with its good status."""
        for tunnel in self.tunnels:
            assert tunnel.close_politely() == 0, (tunnel.name, tunnel.log()[-2000:])
        wait_until(lambda: not self.workers(), "the device's workers ended", LIMIT)
        wait_until(lambda: all(now <= self.bare[name] for name, now in self.descriptors().items()),
                   f"no descriptor more than before the first tunnel, {self.bare}", LIMIT)
        assert self.agent.stop() == 0
        assert self.relay.stop() == 0

    def close(self):
        for pid in getattr(self, "adopted", []):
            if is_alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.world.close()
        for proxy in ("broker_proxy", "operator_proxy", "device_proxy"):
            if hasattr(self, proxy):
                getattr(self, proxy).close()


class Loaded(System):
    """Two tunnels of four streams each; who types has one in the first, short connections come and go in the second."""

    def __init__(self, folder, seed, rate):
        """@rate: bytes a second of all streams together, both ways."""
        super().__init__(folder, seed)
        each = rate / (2 * N_STREAMS) / 2
        self.steady = [Steady(self.world, N_STREAMS, each, n * N_STREAMS) for n in range(2)]
        self.shorts = Shorts(self.world, seed=seed)
        self.echo = None
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
        self.shorts.start(self.tunnels[1], "short")

    def check(self):
        for part in (*self.steady, self.echo, self.shorts):
            part.check()
        for tunnel in self.tunnels:
            assert tunnel.is_running(), f"{tunnel.name} ended with {tunnel.child.returncode}: {tunnel.log()[-2000:]}"

    def moved(self):
        return self.steady[0].moved() + self.steady[1].moved()

    def wait_for_progress(self, n, limit=WINDOW):
        """Every stream moves @n bytes more both ways, and who types is answered. The seconds that took."""
        begun, before, n_echoes = time.monotonic(), self.moved(), self.echo.n_echoes

        def all_moved():
            self.check()
            return self.echo.n_echoes > n_echoes and all(now >= then + n for now, then in zip(self.moved(), before))

        try:
            wait_until(all_moved, "all moved", limit, step=0.01)
        except AssertionError as error:
            if "all moved" not in str(error):
                raise
            lag = [now - then for now, then in zip(self.moved(), before)]
            raise AssertionError(f"not within {limit} s: {n} bytes of each stream; they moved {lag}") from None
        return time.monotonic() - begun

    def end_load(self):
        for part in (*self.steady, self.echo, self.shorts):
            part.end()
        first = self.tunnels[0]  # the other has short connections, which may end otherwise
        first.event("stream-ended", count=self.n_loads * (N_STREAMS + 1))
        bad = [e for e in first.events() if e["event"] == "stream-ended" and e["code"]]
        assert not bad, bad

    def bytes_carried(self):
        return sum(self.moved()) + self.shorts.n_bytes
