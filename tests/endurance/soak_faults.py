# SPDX-License-Identifier: ISC
"""The faults of the soak: a table of what may happen, how often next to the others, and how soon all must go on.

Each is a function of the system and the dice. It makes its fault and mends it, and returns what it did in a few
words; what it must not do is wait for the recovery, which is measured from its return.
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
    """@bound: seconds to go on. @needs_connect: afterwards a new tunnel must be had, too. @is_sided: of one network."""
    def register(function):
        FAULTS[name] = Fault(name, weight, function, bound, needs_connect, is_sided)
        return function

    return register


def last(seconds):
    """The fault goes on so long."""
    time.sleep(seconds)


def networks(system, side):
    return list(system.proxies.values()) if side == "both" else [system.proxies[side]]


def order(system, side, *orders):
    for proxy in networks(system, side):
        for words in orders:
            proxy.order(words)


# --- the relay ---


@fault("relay-kill", weight=4)
def relay_kill(system, dice, side):
    away = dice.uniform(0, 3)
    system.relay.kill()
    last(away)
    system.start_relay()
    return f"away for {away:.1f} s"


@fault("relay-term", weight=3)
def relay_term(system, dice, side):
    away = dice.uniform(0, 3)
    assert system.relay.stop() == 0, "the relay's status"
    last(away)
    system.start_relay()
    return f"away for {away:.1f} s"


def can_upgrade():
    """A relay that does not know SIGUSR2 would die of it."""
    man = harness.ROOT / "gotthard-relayd" / "gotthard-relayd.8.scd"
    return "SIGUSR2" in man.read_text()


@fault("relay-upgrade", weight=3)
def relay_upgrade(system, dice, side):
    relay = system.relay
    n = relay.log().count("listening port=")
    relay.send(signal.SIGUSR2)
    relay.wait_for("listening port=", count=n + 1)
    return ""


@fault("relay-stop", weight=1)
def relay_stop(system, dice, side):
    return freeze(dice, system.relay.pid)


# --- one side's network ---


@fault("cut", weight=4, is_sided=True)
def cut(system, dice, side):
    share = dice.choice((10, 30, 60, 100))
    n = sum(proxy.cut(words=[f"on={share}%"]) for proxy in networks(system, side))
    return f"{n} connections"


@fault("reset", weight=4, is_sided=True)
def reset(system, dice, side):
    share = dice.choice((10, 30, 60, 100))
    n = sum(proxy.cut(is_reset=True, words=[f"on={share}%"]) for proxy in networks(system, side))
    return f"{n} connections"


@fault("black-hole", weight=4, is_sided=True)
def black_hole(system, dice, side):
    seconds, is_cut = dice.uniform(0.5, 10), dice.random() < 0.3
    for proxy in networks(system, side):
        proxy.is_black = True
    last(seconds)
    for proxy in networks(system, side):
        if is_cut:
            proxy.cut(is_reset=True)
        proxy.is_black = False
    return f"for {seconds:.1f} s{', then cut' if is_cut else ''}"


@fault("refuse", bound=8, is_sided=True)  # the back-off has grown meanwhile
def refuse(system, dice, side):
    """Everybody is reset, and whoever comes anew, for a while."""
    seconds = dice.uniform(0.5, 5)
    for proxy in networks(system, side):
        proxy.is_refusing = True
        proxy.cut(is_reset=True)
    last(seconds)
    for proxy in networks(system, side):
        proxy.is_refusing = False
    return f"for {seconds:.1f} s"


@fault("half-open", weight=1, bound=55, is_sided=True)
def half_open(system, dice, side):
    """Those there are die without a word, for good; who comes anew gets through."""
    order(system, side, "black on on=live")
    return "all, for good"


@fault("stall", is_sided=True)
def stall(system, dice, side):
    seconds, way = dice.uniform(0.5, 5), dice.choice(("up", "down"))
    order(system, side, f"stop on way={way}")
    last(seconds)
    order(system, side, "stop off")
    return f"{way} for {seconds:.1f} s"


@fault("dribble", is_sided=True)
def dribble(system, dice, side):
    chunk = dice.choice((1, 1, 3, 100))
    order(system, side, f"chunk {chunk}")
    last(1)
    order(system, side, "chunk 0")
    return f"of {chunk} bytes"


@fault("slow", is_sided=True)
def slow(system, dice, side):
    """A worse line for a while; what it still has in flight then comes at once."""
    delay, jitter, rate = dice.choice((5, 50, 300)), dice.choice((0, 10, 50)), dice.choice((0, 2, 20))
    order(system, side, f"delay {delay}", f"jitter {jitter}", f"rate {rate * 1000000}")
    last(dice.uniform(1, 5))
    order(system, side, "delay 0", "jitter 0", "rate 0")
    return f"{delay}+{jitter} ms, {rate or 'no limit of'} Mbit/s"


@fault("flip", is_sided=True)
def flip(system, dice, side):
    """A bit of the ciphertext of some data connections."""
    first = system.world.relay_ports
    n = 0
    for proxy in networks(system, side):
        ids = [c["id"] for c in proxy.connections(state="open") if c["port"] >= first]
        for number in dice.sample(ids, min(len(ids), dice.randrange(1, 4))):
            way, at, mask = dice.choice(("up", "down")), dice.randrange(4097), 1 << dice.randrange(8)
            n += int(proxy.order(f"flip +{at}^{mask} way={way} on={number}"))
    last(0.5)
    order(system, side, "flip off")
    return f"in {n} connections"


# --- the broker ---


@fault("broker-kill", needs_connect=True)
def broker_kill(system, dice, side):
    away = dice.uniform(0, 3)
    system.broker.kill()
    last(away)
    system.start_broker()
    return f"away for {away:.1f} s"


@fault("broker-term", weight=1, needs_connect=True)
def broker_term(system, dice, side):
    away = dice.uniform(0, 3)
    system.broker.stop()
    last(away)
    system.start_broker()
    return f"away for {away:.1f} s"


@fault("broker-black-hole", needs_connect=True)
def broker_black_hole(system, dice, side):
    seconds = dice.uniform(0.5, 10)
    system.broker_proxy.is_black = True
    last(seconds)
    system.broker_proxy.is_black = False
    return f"for {seconds:.1f} s"


@fault("broker-stop", weight=1, needs_connect=True)
def broker_stop(system, dice, side):
    return freeze(dice, system.broker.pid)


# --- the device's listener: live sessions must not notice ---


@fault("agent-term", needs_connect=True)
def agent_term(system, dice, side):
    system.leave_workers()
    assert system.agent.stop() == 0, "the agent's status"
    last(dice.uniform(0, 2))
    system.start_agent(wait=False)
    return ""


@fault("agent-kill", needs_connect=True)
def agent_kill(system, dice, side):
    system.leave_workers()
    os.kill(system.agent.pid, signal.SIGKILL)
    system.agent.wait()
    last(dice.uniform(0, 2))
    system.start_agent(wait=False)
    return ""


@fault("agent-replace", needs_connect=True)
def agent_replace(system, dice, side):
    """As an upgrade of the package: another file of this name, then a restart."""
    system.leave_workers()
    system.replace_binary()
    assert system.agent.stop() == 0, "the agent's status"
    system.start_agent(wait=False)
    return ""


@fault("agent-stop", weight=1, needs_connect=True)
def agent_stop(system, dice, side):
    return freeze(dice, system.agent.pid)


# --- the ends themselves stand still ---


def freeze(dice, *pids):
    seconds = dice.uniform(1, 5)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    last(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return f"for {seconds:.1f} s"


@fault("worker-stop", weight=1)
def worker_stop(system, dice, side):
    return freeze(dice, dice.choice(system.workers()))


@fault("operator-stop", weight=1)
def operator_stop(system, dice, side):
    return freeze(dice, dice.choice(system.tunnels).pid)
