# SPDX-License-Identifier: ISC
"""The data connections of a tunnel, as the relay has them: one that its streams share, and one for each stream that has moved."""

import re
import signal

from harness import n_connections_at, wait_until


def port_of(tunnel):
    return tunnel.event("relay")["port"]


def n_of(tunnel):
    """Counts the relay's sockets, two for each; only where no proxy listens at the same port."""
    return n_connections_at(port_of(tunnel)) // 2


def wait_for(tunnel, n):
    wait_until(lambda: n_of(tunnel) == n, f"the tunnel has {n} data connections")


def of_session(relay):
    """Returns the numbers in the relay's status of its only session, or of the last one: connections, load, tickets."""
    count = relay.log().count("status session=")
    relay.send(signal.SIGUSR1)
    relay.wait_for("status session=", count=count + 1)
    line = re.findall(r"status (session=.*)", relay.log())[-1]
    return {name: int(value) for name, value in re.findall(r"\b(connections|load|tickets|port)=(\d+)", line)}


def wait_for_status(relay, **wanted):
    """Waits until the status of the session has these numbers."""
    found = {}

    def has_them():
        found.update(of_session(relay))
        return all(found.get(name) == value for name, value in wanted.items())

    try:
        wait_until(has_them, "the numbers", step=0.1)
    except AssertionError as error:
        raise AssertionError(f"{found} instead of {wanted}: {error}") from None
