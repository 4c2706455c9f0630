# SPDX-License-Identifier: ISC
"""The faults of the soak: a table of faults with their relative frequency and the limit of the recovery.

Each is a function of the system and a random generator. It causes its fault, ends it, and returns a short description.
It must not wait for the recovery, which is measured from its return.
"""

import collections
import os
import signal
import time

import harness

Fault = collections.namedtuple("Fault", "name weight function bound needs_connect is_sided")
FAULTS = {}
SIDES = ("operator", "device", "both")


def fault(name, weight=2, bound=5, needs_connect=False, is_sided=False):
    """@bound: limit of the recovery in seconds. @needs_connect: a new tunnel must be possible afterwards. @is_sided: affects
    one side's network."""
    def register(function):
        FAULTS[name] = Fault(name, weight, function, bound, needs_connect, is_sided)
        return function

    return register


def let_pass(seconds):
    """Waits for the duration of the fault."""
    time.sleep(seconds)


def networks(system, side):
    return list(system.proxies.values()) if side == "both" else [system.proxies[side]]


def command(system, side, *commands):
    for proxy in networks(system, side):
        for words in commands:
            proxy.command(words)


# --- the relay ---


@fault("relay-kill", weight=4)
def relay_kill(system, generator, side):
    away = generator.uniform(0, 3)
    system.relay.kill()
    let_pass(away)
    system.start_relay()
    return f"away for {away:.1f} s"


@fault("relay-term", weight=3)
def relay_term(system, generator, side):
    away = generator.uniform(0, 3)
    assert system.relay.stop() == 0, "the relay's status"
    let_pass(away)
    system.start_relay()
    return f"away for {away:.1f} s"


def can_upgrade():
    """SIGUSR2 kills a relay from before live upgrades."""
    man = harness.ROOT / "gotthard-relayd" / "gotthard-relayd.8.scd"
    return "SIGUSR2" in man.read_text()


@fault("relay-upgrade", weight=3)
def relay_upgrade(system, generator, side):
    relay = system.relay
    n = relay.log().count("listening port=")
    relay.send(signal.SIGUSR2)
    relay.wait_for("listening port=", count=n + 1)
    return ""


@fault("relay-stop", weight=1)
def relay_stop(system, generator, side):
    return freeze(generator, system.relay.pid)


# --- one side's network ---


@fault("cut", weight=4, is_sided=True)
def cut(system, generator, side):
    share = generator.choice((10, 30, 60, 100))
    n = sum(proxy.cut(words=[f"on={share}%"]) for proxy in networks(system, side))
    return f"{n} connections"


@fault("reset", weight=4, is_sided=True)
def reset(system, generator, side):
    share = generator.choice((10, 30, 60, 100))
    n = sum(proxy.cut(is_reset=True, words=[f"on={share}%"]) for proxy in networks(system, side))
    return f"{n} connections"


@fault("black-hole", weight=4, is_sided=True)
def black_hole(system, generator, side):
    seconds, is_cut = generator.uniform(0.5, 10), generator.random() < 0.3
    for proxy in networks(system, side):
        proxy.is_black = True
    let_pass(seconds)
    for proxy in networks(system, side):
        if is_cut:
            proxy.cut(is_reset=True)
        proxy.is_black = False
    return f"for {seconds:.1f} s{', then cut' if is_cut else ''}"


@fault("refuse", bound=8, is_sided=True)  # the back-off has grown in the meantime
def refuse(system, generator, side):
    """Resets all existing and new connections for some seconds."""
    seconds = generator.uniform(0.5, 5)
    for proxy in networks(system, side):
        proxy.is_refusing = True
        proxy.cut(is_reset=True)
    let_pass(seconds)
    for proxy in networks(system, side):
        proxy.is_refusing = False
    return f"for {seconds:.1f} s"


@fault("half-open", weight=1, bound=55, is_sided=True)
def half_open(system, generator, side):
    """All existing connections become black holes; new ones work."""
    command(system, side, "black on on=live")
    return "all, permanently"


@fault("stall", is_sided=True)
def stall(system, generator, side):
    seconds, way = generator.uniform(0.5, 5), generator.choice(("up", "down"))
    command(system, side, f"stop on way={way}")
    let_pass(seconds)
    command(system, side, "stop off")
    return f"{way} for {seconds:.1f} s"


@fault("dribble", is_sided=True)
def dribble(system, generator, side):
    chunk = generator.choice((1, 1, 3, 100))
    command(system, side, f"chunk {chunk}")
    let_pass(1)
    command(system, side, "chunk 0")
    return f"of {chunk} bytes"


@fault("slow", is_sided=True)
def slow(system, generator, side):
    """Impairs the network for some seconds; delayed bytes are then delivered at once."""
    delay, jitter, rate = generator.choice((5, 50, 300)), generator.choice((0, 10, 50)), generator.choice((0, 2, 20))
    command(system, side, f"delay {delay}", f"jitter {jitter}", f"rate {rate * 1000000}")
    let_pass(generator.uniform(1, 5))
    command(system, side, "delay 0", "jitter 0", "rate 0")
    return f"{delay}+{jitter} ms, {rate or 'no limit of'} Mbit/s"


@fault("flip", is_sided=True)
def flip(system, generator, side):
    """Flips a bit of the ciphertext of some data connections."""
    first = system.env.relay_ports
    n = 0
    for proxy in networks(system, side):
        ids = [c["id"] for c in proxy.connections(state="open") if c["port"] >= first]
        for number in generator.sample(ids, min(len(ids), generator.randrange(1, 4))):
            way, at, mask = generator.choice(("up", "down")), generator.randrange(4097), 1 << generator.randrange(8)
            n += int(proxy.command(f"flip +{at}^{mask} way={way} on={number}"))
    let_pass(0.5)
    command(system, side, "flip off")
    return f"in {n} connections"


# --- the broker ---


@fault("broker-kill", needs_connect=True)
def broker_kill(system, generator, side):
    away = generator.uniform(0, 3)
    system.broker.kill()
    let_pass(away)
    system.start_broker()
    return f"away for {away:.1f} s"


@fault("broker-term", weight=1, needs_connect=True)
def broker_term(system, generator, side):
    away = generator.uniform(0, 3)
    system.broker.stop()
    let_pass(away)
    system.start_broker()
    return f"away for {away:.1f} s"


@fault("broker-black-hole", needs_connect=True)
def broker_black_hole(system, generator, side):
    seconds = generator.uniform(0.5, 10)
    system.broker_proxy.is_black = True
    let_pass(seconds)
    system.broker_proxy.is_black = False
    return f"for {seconds:.1f} s"


@fault("broker-stop", weight=1, needs_connect=True)
def broker_stop(system, generator, side):
    return freeze(generator, system.broker.pid)


# --- the device's listener: live sessions must not notice ---


@fault("agent-term", needs_connect=True)
def agent_term(system, generator, side):
    system.leave_workers()
    assert system.agent.stop() == 0, "the agent's status"
    let_pass(generator.uniform(0, 2))
    system.start_agent(wait=False)
    return ""


@fault("agent-kill", needs_connect=True)
def agent_kill(system, generator, side):
    system.leave_workers()
    os.kill(system.agent.pid, signal.SIGKILL)
    system.agent.wait()
    let_pass(generator.uniform(0, 2))
    system.start_agent(wait=False)
    return ""


@fault("agent-replace", needs_connect=True)
def agent_replace(system, generator, side):
    """As an upgrade of the package: the file is replaced, then the listener restarts."""
    system.leave_workers()
    system.replace_binary()
    assert system.agent.stop() == 0, "the agent's status"
    system.start_agent(wait=False)
    return ""


@fault("agent-stop", weight=1, needs_connect=True)
def agent_stop(system, generator, side):
    return freeze(generator, system.agent.pid)


# --- stopped processes ---


def freeze(generator, *pids):
    seconds = generator.uniform(1, 5)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    let_pass(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return f"for {seconds:.1f} s"


@fault("worker-stop", weight=1)
def worker_stop(system, generator, side):
    return freeze(generator, generator.choice(system.workers()))


@fault("operator-stop", weight=1)
def operator_stop(system, generator, side):
    return freeze(generator, generator.choice(system.tunnels).pid)
