# SPDX-License-Identifier: ISC
"""A whole system under load that checks the invariants at its end. Every fault test runs in one:

    with FaultRun(env) as run:     # broker, relay, agent; a tunnel; streams that compare each byte in both directions
        run.start()
        ... the fault, and its expected effect ...
                                     # I1 to I10 are checked here (invariants.py)
"""

import base64
import json
import os
import re
import secrets
import shutil
import signal
import warnings

import harness
import invariants
from bystander import Bystander
from harness import LIMIT, wait_until
from load import Echo, Steady
from load_resets import Resets
from process_stats import is_alive, program_of


class FaultRun:
    """@relayd, @agentd: text of their configuration files. @n_streams of load, none before start(). They move to connections of
    their own; a few quiet streams stay in the shared connection."""

    N_QUIET = 3
    DEVICE = "GatewayOli"

    def __init__(self, env, n_streams=4, relayd="", agentd="", relay_env=None, agent_env=None, cli_env=None,
                 recovery=invariants.RECOVERY, relay_args=()):
        self.env, self.recovery, self.relay_args = env, recovery, relay_args
        self.cli_env = cli_env or {}
        self.canary = secrets.token_hex(32).encode()
        self.load = Steady(env, n_streams)
        self.resets = Resets(env)
        self.echo = env.target(harness.echo)
        self.folder = env.config_folder(
            relayd=relayd,
            agentd=f'services = {{ echo = "127.0.0.1:{self.echo.port}"; resets = "127.0.0.1:{self.resets.target.port}"; }};\n{agentd}')
        self.relay_env = env.relay_environment(GOTTHARD_CONFIG_DIR=self.folder, **(relay_env or {}))
        self.agent_env = dict(GOTTHARD_CONFIG_DIR=self.folder, GOTTHARD_AGENT_DATA_PORT=self.load.target.port,
                              **(agent_env or {}))
        self.tunnels, self.quiet, self.sniffer, self.bystander = [], [], None, None
        self.relay_host = "127.0.0.1"
        self.earlier_workers = []  # pids: of an agent that was killed
        self.has_started = self.is_wrong_key_checked = False
        self.is_idle_checked = True  # a test with frequent heartbeats sets it to False

    # the processes

    def __enter__(self):
        self.start_sniffer()
        self.broker = self.env.broker()
        self.start_relay()
        self.start_agent()
        self.echo_through_new_tunnel()
        self.wait_no_workers()
        self.before = self.resources()
        self.tunnel = self.connect()
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            invariants.check_all(self)

    def start_relay(self, **more):
        self.relay = self.env.relay(*self.relay_args, env=self.relay_env, **more)
        return self.relay

    def start_agent(self, **more):
        self.agent = self.env.agent(self.DEVICE, **{**self.agent_env, **more})
        return self.agent

    def connect(self, name="alice", **more):
        tunnel = self.env.connect(self.DEVICE, "0:ssh", "0:echo", "0:resets", name=name, **self.cli_env, **more)
        self.tunnels.append(tunnel)
        return tunnel

    def start(self):
        """Starts the load."""
        self.load.start(self.tunnel)
        self.quiet = [Echo(self.tunnel.dial("echo"), pause=0.1) for _ in range(self.N_QUIET)]
        wait_until(lambda: all(echo.n_echoes for echo in self.quiet), "the echo of each quiet stream")
        self.resets.start(self.tunnel, "resets")
        self.has_started = True
        return self

    def start_bystander(self, n=40):
        """Starts another session and measures it; the faults from now on must not affect it (I6)."""
        self.bystander = Bystander(self.connect("bob"), self.echo.port, self.canary)
        wait_until(lambda: self.bystander.has(n), "the bystander's echoes before the fault")
        self.bystander.phase = "during"

    def start_sniffer(self):
        """Captures the ports of relay and broker and searches for the needles (I3)."""
        env = self.env
        if os.getuid() != 0 or not shutil.which("tcpdump"):
            warnings.warn("I3: packets are not checked: that needs root and tcpdump")
            return
        path = env.folder / "needles"
        path.write_text(json.dumps({name: needle.hex() for name, needle in self.needles().items()}))
        self.sniffer = harness.Process(env, "sniffer", [
            "/usr/bin/python3", os.path.join(os.path.dirname(__file__), "sniffer.py"), path, 3600, env.relay_port,
            f"{env.relay_ports}-{env.relay_ports + env.n_relay_ports - 1}", env.broker_port])
        self.sniffer.wait_for("listening", where=self.sniffer.out)

    # use

    def echo_through(self, tunnel):
        """Sends the canary through @tunnel and back."""
        with tunnel.dial("echo") as sock:
            sock.sendall(self.canary)
            assert harness.receive_exactly(sock, 64) == self.canary, "the echo is wrong or truncated"

    def echo_through_new_tunnel(self):
        tunnel = self.connect("operator")
        self.echo_through(tunnel)
        assert tunnel.disconnect() == 0
        self.tunnels.remove(tunnel)

    # the end

    def end_load(self, is_reported=True):
        """Ends each stream and compares its last byte; @is_reported: compares the tunnel's report of the bytes as well."""
        self.has_started = False
        for echo in self.quiet:
            echo.end()
        self.resets.end(self.tunnel, "resets")
        if is_reported:
            self.load.finish(self.tunnel)
        else:
            self.load.end()

    def end_tunnels(self):
        for tunnel in self.tunnels:
            if tunnel.is_running():
                assert tunnel.disconnect() == 0, tunnel.log()

    def end_services(self):
        for process in (self.agent, self.relay):
            assert process.stop() == 0, (process.name, process.child.returncode)

    # facts

    def workers(self):
        """The pids of the device's worker processes."""
        self.earlier_workers = [pid for pid in self.earlier_workers if is_alive(pid)]
        return self.earlier_workers + (harness.children_of(self.agent.pid) if self.agent.is_running() else [])

    def wait_no_workers(self, limit=LIMIT):
        wait_until(lambda: not self.workers(), "the device's workers ended", limit)

    def our_pids(self):
        pids = [p.pid for p in self.env.processes if p.is_running() and program_of(p)]
        return pids + self.workers()

    def resources(self):
        """Descriptors (root only) and memory in KiB of each service."""
        return {name: (harness.descriptors(p.pid) if os.getuid() == 0 else 0, harness.rss_kib(p.pid))
                for name, p in (("relay", self.relay), ("agent", self.agent))}

    def status(self):
        """The counters that the relay logs at SIGUSR1."""
        count = self.relay.log().count("status sessions=")
        self.relay.send(signal.SIGUSR1)
        self.relay.wait_for("status sessions=", count=count + 1)
        line = re.findall("status (sessions=.*)", self.relay.log())[-1]
        return {key: int(value) for key, value in re.findall(r"(\S+?)=(\d+)", line)}

    def needles(self):
        """{name: bytes} that must occur in no log and in no packet."""
        raw = bytes.fromhex(self.env.key)
        found = {"canary": self.canary, "key": raw, "key in hex": self.env.key.encode(),
                 "key in HEX": self.env.key.upper().encode(), "key in base64": base64.b64encode(raw).rstrip(b"="),
                 "key in url-safe base64": base64.urlsafe_b64encode(raw).rstrip(b"="),
                 "canary in base64": base64.b64encode(self.canary)[:-4]}
        for number in range(min(self.load.n_streams, 2)):
            for direction in ("up", "down"):
                found[f"payload {direction} {number}"] = next(harness.pattern(f"{direction} {number}", 1 << 20, Steady.CHUNK))[8:72]
        return found
