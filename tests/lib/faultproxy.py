# SPDX-License-Identifier: ISC
"""A faulty network between two parties: the program tests/proxy, controlled over its standard input.

It listens at one address and forwards port by port, so that a whole relay (its main port and its range) can be
behind it. Bytes are unchanged unless a command changes them; impairments imitate networks. All its
commands are in tests/proxy/commands.c; frequent ones have methods here.
"""

import itertools
import json
import random
import subprocess
import threading

import harness

PROGRAM = harness.BUILD / "tests" / "proxy" / "faultproxy"


def loopback():
    """Returns a loopback address for this test alone, with all its ports."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}.{random.randrange(2, 255)}"


def _ranges(ports):
    """[7000, 7001, 7002, 9000] -> (7000, 7002), (9000, 9000)"""
    for _, run in itertools.groupby(enumerate(sorted(ports)), lambda pair: pair[1] - pair[0]):
        run = [port for _, port in run]
        yield run[0], run[-1]


class Proxy:
    """Listens on @host at each of @ports (0: any) and forwards to @to at the same port, or at @to_port."""

    def __init__(self, host, ports, to="127.0.0.1", to_port=None, seed=1):
        self.host = host
        self.lock = threading.Lock()
        self.child = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self.child.pid
        self._is_black = self._is_refusing = False
        self.command(f"seed {seed}")
        self.ports = [int(self.command(f"listen {host}:{first}-{last}" if last > first else f"listen {host}:{first}",
                                     f"{to}:{to_port or first}"))
                      for first, last in _ranges(ports)]
        self.port = self.ports[0]

    @classmethod
    def before_relay(cls, env, host=None, **more):
        """Starts one at an address of its own, which one side uses as its relay."""
        return cls(host or loopback(), [env.relay_port, *range(env.relay_ports, env.relay_ports + env.n_relay_ports)],
                   **more)

    @classmethod
    def before_port(cls, port, **more):
        """At a free port of 127.0.0.1 (certificates hold there), e.g. for the broker's."""
        return cls("127.0.0.1", [harness.free_ports(1)], to_port=port, **more)

    def command(self, *words):
        """Sends one command. Returns the answer without "ok"; ValueError otherwise."""
        line = " ".join(str(w) for w in words)
        with self.lock:
            self.child.stdin.write(line + "\n")
            verdict, _, answer = self.child.stdout.readline().rstrip("\n").partition(" ")
        if verdict != "ok":
            raise ValueError(f"faultproxy: {line}: {answer}")
        return answer

    def status(self):
        return json.loads(self.command("status"))

    @property
    def n_accepted(self):
        return self.status()["accepted"]

    def connections(self, **wanted):
        """Returns the connections, oldest first: dictionaries with id, port, state, age, up, down, ..."""
        return [c for c in self.status()["connections"] if all(c[k] == v for k, v in wanted.items())]

    def _alive(self):
        return [c for c in self.connections() if c["state"] != "ending"]

    def cut(self, is_reset=False, choose=None, words=()):
        """Ends every connection for which @choose(number) is true, with FIN or RST."""
        if choose is not None:
            ids = [str(c["id"]) for n, c in enumerate(self._alive()) if choose(n)]
            if not ids:
                return 0
            words = [f"on={','.join(ids)}", *words]
        return int(self.command("reset" if is_reset else "cut", *words))

    def _update_new_connections(self):
        self.command("new", "refuse" if self._is_refusing else "hold" if self._is_black else "through")

    @property
    def is_black(self):
        """Holds data in both directions, and new connections."""
        return self._is_black

    @is_black.setter
    def is_black(self, value):
        self._is_black = value
        self.command("black", "on" if value else "off")
        self._update_new_connections()

    @property
    def is_refusing(self):
        """Resets new connections."""
        return self._is_refusing

    @is_refusing.setter
    def is_refusing(self, value):
        self._is_refusing = value
        self._update_new_connections()

    def clear(self):
        """Removes all impairments; ended connections stay ended."""
        for command in ("delay 0", "jitter 0", "rate 0", "chunk 0", "idle 0", "stop off", "flip off"):
            self.command(command)
        self._is_refusing = False
        self.is_black = False

    def scan(self, data):
        """Searches for @data in all forwarded bytes from now on; seen() returns the number of matches of each."""
        return int(self.command("scan", data.hex()))

    def seen(self):
        return self.status()["seen"]

    def close(self):
        if self.child.poll() is None:
            self.child.stdin.close()
            self.child.wait(harness.LIMIT)
        self.child.stdout.close()
