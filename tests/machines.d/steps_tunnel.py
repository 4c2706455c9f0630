# SPDX-License-Identifier: ISC
"""README, step 5: what an operator does with a device."""

import contextlib
import hashlib
import os
import re
import socket
import threading

import walkthrough
from machine import wait_until
from steps import step
from steps_readme import online, wait_online

MIB = 1 << 20


@contextlib.contextmanager
def echo_service(machine, port):
    """A service of the machine that sends back what it gets, until its client has sent everything."""
    with machine.inside():
        listener = socket.create_server(("127.0.0.1", port))

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def dial(machine, port):
    with machine.inside():
        return socket.create_connection(("127.0.0.1", port), timeout=60)


def exchange(connection, size=4 * MIB):
    """Sends random bytes through the connection to an echo_service. It must return the same bytes."""
    data = os.urandom(size)
    threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
    received, checksum = 0, hashlib.sha256()
    while received < size:
        part = connection.recv(min(1 << 16, size - received))
        assert part, f"the connection ended after {received} bytes"
        received += len(part)
        checksum.update(part)
    assert checksum.digest() == hashlib.sha256(data).digest()


@contextlib.contextmanager
def connected(operator, user, words):
    """Holds `gotthard-cli connect` @words. Yields the Process; at the end it closes as at Ctrl+C, with exit status 0."""
    command = operator.start(f"exec gotthard-cli connect {words}", user)
    command.wait_for("tunnel is up|Tunnel|tunnel")
    yield command
    command.stop(number=2, code=0)


@step(short=True)
def tunnel(fleet):
    """README, step 5: the list, and `connect` to a service, with data in both directions."""
    listing, _, connect = walkthrough.commands("5")[:3]
    assert "GatewayOli" in fleet.operators[0].run(listing.text, "alice")
    words = connect.text.split("#")[0].split(maxsplit=2)[2].strip()
    with echo_service(fleet.devices[0], 1880), connected(fleet.operators[0], "alice", words):
        with dial(fleet.operators[0], 8080) as connection:
            exchange(connection)


@step
def ssh(fleet):
    """README, step 5: ssh and scp by the device's name ask nothing, and a file has its checksum."""
    command = walkthrough.commands("5")[1].text.split("#")[0].strip()
    alice = fleet.operators[0]
    assert alice.run(f"{command} hostname", "alice").split()[-1] == "gateway"
    sent = alice.run(f"{command} 'head -c {4 * MIB} /dev/urandom | tee data | sha256sum' 2>/dev/null", "alice")
    target = command.split()[1]
    alice.run(f"scp -q {target}:data data", "alice")
    assert alice.run("sha256sum <data", "alice") == sent
    alice.run(f"{command} exit 7", "alice", code=7)


@step
def second_pair(fleet):
    """The second operator opens the second device, while the first holds a tunnel to the first."""
    alice, bob = fleet.operators
    with connected(alice, "alice", "GatewayOli"):
        assert bob.run("ssh -o StrictHostKeyChecking=yes user@Pump7.gotthard hostname", "bob").split()[-1] == "pump"


@step
def presence(fleet):
    """`devices --watch` shows a device that is shut down, and that is back."""
    alice, pump = fleet.operators[0], fleet.devices[1]
    watch = alice.start("exec gotthard-cli devices --watch", "alice")
    watch.wait_for("Pump7.*online")
    pump.power_off()
    watch.wait_for(r"Pump7.*(offline|gone)")
    wait_until(lambda: "Pump7 " not in online(alice, "alice"), "the list has Pump7 offline")
    seen = len(watch.output())
    pump.boot()
    wait_until(lambda: "online" in watch.output()[seen:], "Pump7 is back in the watched list")
    watch.stop(number=2)
    wait_online(fleet, "Pump7")


@step
def doctor(fleet):
    """Both doctors find no fault while all is well, and the relay's while it is unplugged."""
    alice, gateway = fleet.operators[0], fleet.devices[0]
    with echo_service(gateway, 1880):
        alice.run("gotthard-cli doctor GatewayOli", "alice")
        gateway.run("gotthard-agentd --doctor")
    with fleet.relay.unplugged():
        for shown in (alice.run("gotthard-cli doctor GatewayOli", "alice", code=69), gateway.run("gotthard-agentd --doctor", code=69)):
            assert re.search(r"error: relay TCP: .*\n.*\[GTD-", shown), shown
