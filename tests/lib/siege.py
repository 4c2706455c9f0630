# SPDX-License-Identifier: ISC
"""A relay under attack, with honest clients that are measured before and during it:

    with Siege(env) as siege:             # a whole system, a live tunnel, and the normal times of honest clients
        with siege.attack(SOME_ATTACK):   # attacker.py, a process of its own
            siege.check_honest_clients()  # each connect, echoes of the live tunnel, and its reconnect
                                          # the relay's memory, its log, and the silence of the relay are checked here

The attackers share the address 127.0.0.1 with all honest clients, as behind one NAT, or change their addresses.
"""

import contextlib
import itertools
import os
import secrets
import signal
import time

import harness
import invariants
from attack import NAT, Attacker, Recorder
from bystander import Bystander
from faultproxy import Proxy
from harness import wait_until
from process_stats import is_within

IS_SANITIZED = harness.SANITIZER != "none"
PATIENCE = 4 if IS_SANITIZED else 1
GROWTH = 8192  # KiB of the relay, at most; three times that for the handshakes of peers with a key, which are 256 at most
WINDOW = 100  # echoes
IS_ALONE = "GOTTHARD_SIEGE" in os.environ  # the long form, on an otherwise idle machine
NOISE = 0.002 if IS_ALONE else 0.010  # seconds
N_CUTS = 10 if IS_ALONE else 1


class Usage:
    """What a relay uses. Only root counts its descriptors."""

    def __init__(self, relay):
        self.rss, self.cpu = harness.rss_kib(relay.pid), harness.cpu_seconds(relay.pid)
        self.n_fds = harness.descriptors(relay.pid) if os.getuid() == 0 else 0
        self.n_lines = len(relay.log().splitlines())


def p99(times):
    return sorted(times)[int(len(times) * 0.99)]


class Siege:
    """@relayd: text of the relay's configuration. @seconds: duration of an attack. @delay: of each way of the clients that connect, in ms.
    @variables: of the relay. @relay_more: as for Env.relay()."""

    DEVICE = "GatewayOli"

    def __init__(self, env, relayd="", seconds=2, delay=0, variables=None, **relay_more):
        self.env, self.seconds, self.delay, self.relay_more = env, seconds, delay, relay_more
        self.variables = variables or {}
        self.echo = env.target(harness.echo)
        self.folder = env.config_folder(relayd=relayd, agentd=f'services = {{ echo = "127.0.0.1:{self.echo.port}"; }};')
        self.names = itertools.cycle(["bob", "operator"])
        self.figures = {}

    def __enter__(self):
        self.env.broker()
        self.start_relay()
        self.env.agent(self.DEVICE, GOTTHARD_CONFIG_DIR=self.folder, GOTTHARD_SERVER_HOST=NAT)
        self.proxy, self.distance = Proxy.before_relay(self.env), Proxy.before_relay(self.env)
        self.distance.command("delay", self.delay)
        self.connect()
        self.live = self.env.connect(self.DEVICE, "0:echo", GOTTHARD_SERVER_HOST=self.proxy.host)
        self.bystander = Bystander(self.live, self.echo.port, secrets.token_bytes(64))
        self.bystander.times["cut"] = ([], [])
        self._measure_normal_times()
        return self

    def __exit__(self, kind, value, trace):
        self.bystander.is_over.set()
        if kind is None:
            self.bystander.stop()
            assert self.bystander.error is None, self.bystander.error
            assert self.live.disconnect() == 0, self.live.log()
        self.proxy.close()
        self.distance.close()

    def start_relay(self):
        self.relay = self.env.relay(
            env=self.env.relay_environment(GOTTHARD_CONFIG_DIR=self.folder, GOTTHARD_SERVER_BIND=NAT, **self.variables),
            **self.relay_more)

    # honest clients

    def connect(self, name=None, **more):
        """Runs an honest `connect` and uses its tunnel. Returns the seconds until the tunnel was up."""
        started = time.monotonic()
        tunnel = self.env.connect(self.DEVICE, "0:echo", name=name or next(self.names), wait=False,
                                  **{"GOTTHARD_SERVER_HOST": self.distance.host if self.delay else NAT, **more})
        tunnel.wait_up(limit=20 * PATIENCE)
        took = time.monotonic() - started
        with tunnel.dial("echo") as sock:
            sock.sendall(b"honest")
            assert harness.receive_exactly(sock, 6) == b"honest"
        assert tunnel.disconnect() == 0, tunnel.log()
        return took

    def pause(self):
        """The device answers five requests a second."""
        time.sleep(0.2)

    def reconnect(self):
        """Cuts all connections of the live tunnel's operator. Returns the seconds until the next echo."""
        return self._interrupt(self.proxy.cut)

    def restart(self):
        """Stops the relay in order and starts another one. Returns the seconds until the live tunnel's next echo."""
        def new_relay():
            assert self.relay.stop() == 0
            self.start_relay()

        return self._interrupt(new_relay)

    def upgrade(self):
        """Upgrades the relay live. Returns the seconds until the live tunnel is registered again; its streams continue meanwhile."""
        count = self.relay.log().count("client=g1:o:alice up")
        started = time.monotonic()
        self.relay.send(signal.SIGUSR2)
        self.relay.wait_for("client=g1:o:alice up", count=count + 1)
        return time.monotonic() - started

    def _interrupt(self, fault):
        phase, self.bystander.phase = self.bystander.phase, "cut"
        fault()
        n_echoes = self._n_cut_echoes()
        started = time.monotonic()
        wait_until(lambda: self._n_cut_echoes() > n_echoes + 1, "the live tunnel continues")
        took = time.monotonic() - started
        self.bystander.phase = phase
        return took

    def _n_cut_echoes(self):
        assert self.bystander.error is None, self.bystander.error
        return len(self.bystander.times["cut"][1])

    def _measure_normal_times(self):
        connects = self._connect_for(min(self.seconds / 2, 10))
        wait_until(lambda: self.bystander.has(WINDOW), "echoes before the attack")
        self.normal = {"connect": max(connects), "reconnect": self.reconnect()}
        self.bystander.phase = "during"

    def check_time(self, what, seconds):
        """At most twice the normal time and a second: a penalty, or the second of two retries, takes longer."""
        most = PATIENCE * (2 * self.normal[what] + 1)
        assert is_within(seconds, most), f"{what} took {seconds:.2f} s, normally {self.normal[what]:.2f} s"

    def _connect_for(self, seconds):
        """Connects again and again. Returns the times."""
        started, connects = time.monotonic(), []
        while time.monotonic() - started < seconds or len(connects) < 3:
            connects.append(self.connect())
            if hasattr(self, "normal"):
                self.check_time("connect", connects[-1])
            self.pause()
        return connects

    def check_honest_clients(self):
        """Connects for the duration of the attack, and measures the echoes of the live tunnel. Then cuts it N_CUTS times."""
        connects = self._connect_for(self.seconds)
        self.check_echo()
        reconnects = [self.reconnect() for _ in range(N_CUTS)]
        self.check_time("reconnect", max(reconnects))
        self.figures |= {"connects": len(connects), "connect": max(connects), "reconnect": max(reconnects)}

    def check_echo(self):
        """The p99 of an echo is at most twice the normal one, apart from the machine's own delays: NOISE, and five times the echo of a
        direct connection at the same moment. The quietest window counts: an attack affects all windows, other tests only some.
        In the long form the p99 of the whole attack counts, with NOISE alone."""
        wait_until(lambda: self.bystander.has(WINDOW), "echoes during the attack")
        normal = p99(self.bystander.times["before"][1])
        direct, tunnel = self.bystander.times["during"]
        n = min(len(direct), len(tunnel))
        windows = [(p99(tunnel[at:at + WINDOW]), p99(direct[at:at + WINDOW])) for at in range(0, n - WINDOW + 1, 10)]
        quietest, machine = min(windows, key=lambda pair: pair[0] - pair[1])
        self.figures |= {"echo before": normal, "echo during": p99(tunnel)}
        if IS_ALONE:
            quietest, machine = p99(tunnel), 0
        limit = 2 * normal + NOISE + 5 * machine
        is_quick = quietest < limit if IS_ALONE else is_within(quietest, limit)
        assert is_quick or IS_SANITIZED, f"an echo takes {quietest:.4f} s, normally {normal:.4f} s"

    def session_port(self):
        """The port of the live tunnel's session."""
        self.relay.send(signal.SIGUSR1)
        return int(self.relay.wait_for(r"status session=.* operator=alice .*port=(\d+)").group(1))

    def sniff(self, n=3, name=None):
        """Records the first bytes of honest clients on their way. Returns the recorder."""
        with Recorder(self.env.relay_port) as recorder:
            for _ in range(n):
                self.connect(name, GOTTHARD_SERVER_PORT=recorder.port, GOTTHARD_SERVER_SINGLE_PORT="true")
                self.pause()
        assert len(recorder.hellos) >= n and len(recorder.joins) >= n, (len(recorder.hellos), len(recorder.joins))
        return recorder

    # the attack

    @contextlib.contextmanager
    def attack(self, attack):
        before, relay = Usage(self.relay), self.relay
        started = time.monotonic()
        attacker = Attacker(self.env, attack)
        try:
            yield attacker
        finally:
            counts = attacker.finish()
        seconds = time.monotonic() - started
        self._check_answers(attack, counts)
        assert counts["opened"] > 0.3 * min(attack.n, attack.rate * seconds) or attack.manner == "wait" or IS_SANITIZED, counts
        if relay is self.relay:
            self._check_relay(before, seconds, GROWTH * (3 if attack.has_key else 1))
        print({**counts, **{what: round(value, 4) for what, value in self.figures.items()}})

    @staticmethod
    def _check_answers(attack, counts):
        """A peer without a key gets no byte, or one alert where @attack says so."""
        if attack.has_key:
            return
        most = counts["opened"] * len(attack.alert)
        assert counts["answered"] <= most and bytes.fromhex(counts["answer"]) in (b"", attack.alert), counts

    def _check_relay(self, before, seconds, most):
        now = Usage(self.relay)
        growth = now.rss - before.rss
        self.figures |= {"growth in KiB": growth, "CPU": (now.cpu - before.cpu) / seconds}
        assert growth < most or IS_SANITIZED, f"the relay grew by {growth} KiB"
        lines = self.relay.log().splitlines()[before.n_lines:]
        n_anonymous = sum(n for (_, cause), n in invariants.lines_per_cause("\n".join(lines)).items())
        assert n_anonymous <= 10 * (seconds + 2), f"{n_anonymous} lines in {seconds:.1f} s"
        wait_until(lambda: Usage(self.relay).n_fds <= before.n_fds, "the relay's descriptors are back", limit=10 * PATIENCE)
