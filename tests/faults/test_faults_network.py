# SPDX-License-Identifier: ISC
"""Faults of the network between the parties: F-06, F-08, F-09, F-21 to F-23, F-29, F-38 and F-40 of docs/faults.md."""

import contextlib
import os
import random
import secrets
import signal
import socket
import time

import pytest

import harness
from fault_run import FaultRun
from faultproxy import Proxy
from harness import AGENT_READY, in_threads, wait_until
from invariants import RECOVERY
from process_stats import cpu_and_wakeups, is_within
from relayclient import Client
from test_tunnel import assert_broken

soak = pytest.mark.soak
SIDES = ["operator", "device"]
STEP = 12  # seconds: the longest pause between two attempts without a notification of the network's return
LENIENT = 'timeouts = { join = "2s"; join_peer = "2s"; };'


@contextlib.contextmanager
def behind_proxy(env, *sides, **more):
    """Yields a fault proxy and a run in which these sides reach the relay through it."""
    proxy = Proxy.before_relay(env)
    through_proxy = {"GOTTHARD_SERVER_HOST": proxy.host}
    for side, keyword in (("device", "agent_env"), ("operator", "cli_env")):
        if side in sides:
            more[keyword] = {**more.get(keyword, {}), **through_proxy}
    try:
        with FaultRun(env, relay_args=("--bind", "127.0.0.1"), **more) as run:
            yield proxy, run
            proxy.clear()
    finally:
        proxy.close()


def data_connections(run, proxy):
    """Those through the proxy, the oldest first: the first of a run is the shared one. They may use the main port as well."""
    control = min((c["id"] for c in proxy.connections(port=run.env.relay_port)), default=None)
    return [c for c in proxy.connections() if c["id"] != control and c["state"] != "ending"]


def let_pass(seconds):
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started >= seconds, f"{seconds} s", limit=seconds + 10)


def losses(run):
    """Returns the operator's events of a lost and of a restored relay connection."""
    return [e["event"] for e in run.tunnel.events() if e["event"].startswith("relay-")]


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=soak), pytest.param(60, marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f06_network_outage(env, side, seconds):
    """A black hole; afterwards the network works but resets every old connection. (test_network.py takes an interface down.)"""
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        proxy.is_black = True
        let_pass(seconds)
        proxy.cut(is_reset=True)
        proxy.is_black = False
        started = time.monotonic()
        run.load.wait_for_progress(64 << 10)
        assert is_within(time.monotonic() - started, STEP + RECOVERY)


@soak
@pytest.mark.parametrize("side", SIDES)
def test_f06_network_outage_beyond_the_window(env, side):
    """Permanent silence without a reset under the default window: detected after 45 s, given up 120 s later."""
    with behind_proxy(env, side) as (proxy, run):
        sock = run.tunnel.dial("echo")
        sock.sendall(run.canary)
        assert harness.receive_exactly(sock, 64) == run.canary
        started = time.monotonic()
        proxy.is_black = True
        assert_broken(sock, 200)
        assert run.tunnel.wait(60) == 69
        assert 110 < time.monotonic() - started < 45 + 120 + 15
        wait_until(lambda: not run.echo.connections, "the device's side is broken as well", limit=60)
        proxy.is_black = False


@soak
@pytest.mark.parametrize("seconds", [30, 5])
def test_f08_nat_drops_idle_connection(env, seconds):
    """30 s: heartbeats keep the connection open. 5 s: they are too rare, and streams resume after each loss."""
    with behind_proxy(env, "device", "operator") as (proxy, run):
        sock = run.tunnel.dial("echo")
        proxy.command("idle", seconds)
        for _ in range(2):
            let_pass(70)
            sock.settimeout(120)
            sock.sendall(run.canary)
            assert harness.receive_exactly(sock, 64) == run.canary
        sock.close()
        if seconds == 30:
            assert not losses(run)


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=soak)])
def test_f09_repeated_half_open_connections(env, n):
    """A device repeatedly disappears silently and reconnects: each new connection replaces the old one at once."""
    env.clients = []
    with FaultRun(env) as run:
        run.start_bystander()
        rid, previous = secrets.token_hex(16), None
        for generation in range(1, n + 1):
            device = Client(env, "g1:d:vanishing")
            device.register(rid, generation=generation)
            if previous:
                previous.kill()
                env.clients.remove(previous)
            os.kill(device.child.pid, signal.SIGSTOP)
            previous = device
        assert run.status()["clients"] <= 6, "more than two of each tunnel and the last of the repeated connections"
        os.kill(previous.child.pid, signal.SIGCONT)
        previous.do("bye", 1, rid)
        previous.receive("closed")
        previous.kill()


@pytest.mark.parametrize("side", SIDES)
def test_f21_one_byte_at_a_time(env, side):
    """TLS, JOIN and frames, split at every offset."""
    with behind_proxy(env, side, n_streams=1) as (proxy, run):
        proxy.command("chunk 1")
        run.load.start(run.tunnel)
        run.load.wait_for_progress(64 << 10)
        run.load.is_over.set()
        late = run.connect("operator")
        run.echo_through(late)
        proxy.clear()  # a close_notify in flight on such a path is lost when its socket is closed
        assert late.disconnect() == 0
        run.end_load()


def exchange(sock, data):
    def receive():
        assert harness.receive_exactly(sock, len(data)) == data, "wrong bytes, or a truncated stream"

    in_threads(lambda: sock.sendall(data), receive)


def wait_within(limit, condition, what):
    """As wait_until(); on a busy machine the limit is longer."""
    started = time.monotonic()
    wait_until(condition, what)
    assert is_within(time.monotonic() - started, limit), what


def flip_bit(run, proxy, way, offset, is_shared):
    """Flips one bit at that byte of a new connection: the next shared one, or that to which a stream moves. The stream continues."""
    data = b"".join(harness.pattern(f"flip {way} {offset}", 1 << 18))
    n_before = proxy.n_accepted

    def is_lost():
        exchange(sock, data)
        return not any(c["id"] == n_before + 1 and c["state"] != "ending" for c in proxy.connections())

    with run.tunnel.dial("echo") as sock:
        exchange(sock, b"x")
        proxy.command("flip", f"{offset}^{1 << random.randrange(8)}", f"way={way}", "on=new")
        if is_shared:
            proxy.cut(words=["on=" + ",".join(str(c["id"]) for c in data_connections(run, proxy))])
            wait_within(STEP, lambda: proxy.n_accepted > n_before, "the next shared connection reaches the proxy")
        else:
            wait_until(lambda: exchange(sock, data) or proxy.n_accepted > n_before, "the stream moves")
        proxy.command("flip off on=new")  # the connection that replaces it is not impaired
        wait_within(STEP + RECOVERY, is_lost, "the connection with the wrong bit is lost")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("n_flips", [4, pytest.param(int(os.environ.get("GOTTHARD_SWEEP", "300")), marks=soak)])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("side", SIDES)
def test_f22_flipped_bit(env, side, way, n_flips):
    seed = int(os.environ.get("GOTTHARD_SEED", random.randrange(1 << 32)))
    print(f"GOTTHARD_SEED={seed}")
    generator = random.Random(seed)
    with behind_proxy(env, side, n_streams=1, relayd=LENIENT) as (proxy, run):
        run.start()
        for n in range(n_flips):
            flip_bit(run, proxy, way, generator.randrange((80, 4096, 60000)[n % 3]), is_shared=n % 2)


@pytest.mark.parametrize("impairment", ["delay 300", "rate 64000", "jitter 100"])
def test_f23_slow_networks(env, impairment):
    """A round trip of 600 ms, 64 kbit/s, jitter: the tunnel works, and no connection counts as lost."""
    with behind_proxy(env, "device", n_streams=1) as (proxy, run):
        proxy.command(impairment)
        sock = run.tunnel.dial("echo")
        for _ in range(3):
            sock.sendall(run.canary)
            assert harness.receive_exactly(sock, 64) == run.canary
        run.recovery = 20
        run.echo_through_new_tunnel()
        assert not losses(run)
        sock.close()
        proxy.clear()


@pytest.mark.parametrize("seconds", [3, pytest.param(40, marks=soak)])
@pytest.mark.parametrize("side", SIDES)
def test_f23_stall_is_not_a_loss(env, side, seconds):
    """No data moves for less than 45 s. Then all delayed data arrives."""
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        proxy.command("black on")
        let_pass(seconds)
        proxy.command("black off")
        run.load.wait_for_progress(64 << 10, limit=15)
        assert not losses(run)


@pytest.mark.parametrize("who, seconds", [
    *((who, 2) for who in ("relay", "worker", "cli")),
    *(pytest.param(who, 60, marks=soak) for who in ("relay", "worker", "cli", "agent"))])
def test_f29_suspended_process(env, who, seconds):
    """SIGSTOP and SIGCONT under load, as when a machine is suspended: the streams continue without a storm of timers."""
    with FaultRun(env) as run:
        run.start()
        pid = {"relay": run.relay.pid, "worker": run.workers()[0], "cli": run.tunnel.pid, "agent": run.agent.pid}[who]
        os.kill(pid, signal.SIGSTOP)
        let_pass(seconds)
        os.kill(pid, signal.SIGCONT)
        started = time.monotonic()
        run.load.wait_for_progress(64 << 10)
        assert is_within(time.monotonic() - started, STEP + RECOVERY)
        run.recovery += STEP


def resolves(env, name, *addresses):
    """The variables of a program that resolves @name, in this order of addresses. The file may be written again."""
    path = env.folder / "names"
    path.write_text(f"{name} {' '.join(addresses)}\n")
    shims = [str(harness.BUILD / "tests" / "preload" / f"shim-{name}.so")
             for name in ("names", *(["wait"] if harness.SANITIZER == "thread" else []))]
    return {"LD_PRELOAD": ":".join(shims), "NAMES": path}


def swallow(address, *ports):
    """Listeners whose queues are full, to which the kernel does not answer. Returns the sockets, to be closed by the caller."""
    sockets = []
    for port in ports:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        sockets.append(listener)
        for _ in range(3):
            sockets.append(socket.socket(listener.family))
            sockets[-1].setblocking(False)
            sockets[-1].connect_ex((address, port))
    return sockets


@pytest.mark.parametrize("family", ["IPv4 only", "IPv6 only", "IPv6 refuses", "IPv6 black hole"])
def test_f38_families_of_addresses(env, family):
    """The relay's name has both addresses, one of which may be unreachable."""
    bind, host = {"IPv4 only": ("127.0.0.1", "127.0.0.1"), "IPv6 only": ("::1", "::1")}.get(family, ("127.0.0.1", "relay.test"))
    relay_host = {"GOTTHARD_SERVER_HOST": host}
    if host == "relay.test":
        relay_host |= resolves(env, host, "::1", "127.0.0.1")
    full = []
    if family == "IPv6 black hole":
        full = swallow("::1", env.relay_port, *range(env.relay_ports, env.relay_ports + env.n_relay_ports))
    with FaultRun(env, relay_args=("--bind", bind), agent_env=relay_host, cli_env=relay_host, n_streams=2) as run:
        run.relay_host = bind
        run.start()
        started = time.monotonic()
        run.echo_through_new_tunnel()
        print(f"{family}: {time.monotonic() - started:.2f} s for a tunnel")
        run.load.wait_for_progress(64 << 10)
    for sock in full:
        sock.close()


@pytest.mark.parametrize("first, tls", [("swallows", True), ("swallows", False), ("refuses", True)])
def test_f38_first_address_of_the_broker_fails(env, first, tls):
    """The broker's name has an address that does not work before the one that does: a delay of 0.25 s."""
    env.broker(tls)
    full = swallow("127.0.0.2", env.broker_port) if first == "swallows" else []
    both = resolves(env, "broker.test", "127.0.0.2", "::1", "127.0.0.1")
    broker = {"GOTTHARD_MQTT_ENDPOINT": f"{'mqtts' if tls else 'mqtt'}://broker.test:{env.broker_port}"}
    try:
        started = time.monotonic()
        env.agent(**both, **broker)
        result = env.cli("status", "GatewayOli", **both, **broker)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() - started < 4
    finally:
        for sock in full:
            sock.close()


def test_f38_all_addresses_of_the_broker_swallow(env):
    """Neither address answers; the agent is idle meanwhile, and online soon after one of them works."""
    full = [*swallow("127.0.0.2", env.broker_port), *swallow("127.0.0.1", env.broker_port)]
    agent = env.agent(wait=False, GOTTHARD_MQTT_ENDPOINT=f"broker.test:{env.broker_port}", **resolves(env, "broker.test", "127.0.0.2", "127.0.0.1"))
    try:
        agent.wait_for("started")
        time.sleep(1)
        before = cpu_and_wakeups(agent.pid)
        time.sleep(1)
        after = cpu_and_wakeups(agent.pid)
        assert after[0] - before[0] < 0.05 and after[1] - before[1] < 20
    finally:
        for sock in full:
            sock.close()
    env.broker()
    agent.wait_for(AGENT_READY)


def test_f38_name_of_the_broker_is_unknown_at_first(env):
    env.broker()
    agent = env.agent(wait=False, GOTTHARD_MQTT_ENDPOINT=f"broker.test:{env.broker_port}", **resolves(env, "broker.test"))
    agent.wait_for("the host name cannot be resolved")
    resolves(env, "broker.test", "127.0.0.1")
    agent.wait_for(AGENT_READY)


@soak
@pytest.mark.parametrize("who", ["relay", "device", "operator"])
def test_f40_power_failure(env, who):
    """One party stops and its network drops packets, for a minute. Then both work again, and the old connections are reset."""
    side = "device" if who == "relay" else who
    with behind_proxy(env, side) as (proxy, run):
        run.start()
        pids = {"relay": [run.relay.pid], "device": [run.agent.pid, *run.workers()], "operator": [run.tunnel.pid]}[who]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        proxy.is_black = True
        let_pass(60)
        proxy.cut(is_reset=True)
        proxy.is_black = False
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        started = time.monotonic()
        run.load.wait_for_progress(64 << 10)
        assert is_within(time.monotonic() - started, STEP + RECOVERY)
        run.recovery += STEP
