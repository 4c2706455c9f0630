# SPDX-License-Identifier: ISC
"""The networks between the machines. The Internet is a bridge in the network namespace of the run. The devices are in a home
network behind a router, which translates addresses and admits no connection from outside. Names come from a DNS server of
the run, which fails on demand.

Each machine has a named network namespace with the interface host0; it exists also while the machine is off. The names are
private to the run: /run/netns is a file system of its own (run.py)."""

import contextlib
import socket
import struct
import subprocess
import threading

DOMAIN = "example.org"
INTERNET, HOME = "198.51.100", "192.168.7"
DNS = f"{INTERNET}.53"
ROUTER_RULES = """
table ip router {
    chain outwards { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
    chain inwards { type filter hook forward priority 0; policy drop; iifname "home" accept; ct state established,related accept; }
}"""


def ip(words, namespace=None):
    subprocess.run(["ip", *(["-n", namespace] if namespace else []), *words.split()], check=True)


def add_bridge(name, namespace=None):
    """Its hardware address is fixed: without one it is the least of its ports, and would change with them. A router that loses
    the address that machines know is not reachable for up to a minute."""
    ip(f"link add {name} address 02:00:00:00:00:01 type bridge", namespace)


def nft(rules, namespace):
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True)


class Names:
    """A DNS server with the addresses of the machines. `failure` is None, "silent" or "refused"."""

    def __init__(self):
        self.addresses, self.failure = {}, None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((DNS, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if self.failure != "silent" and len(query) > 16:
                with contextlib.suppress(OSError):  # the client may have lost its address meanwhile
                    self.socket.sendto(self._answer(query), client)

    def _answer(self, query):
        """Returns the answer to @query: an address, no data for other types, or an error."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace"))
            at += 1 + query[at]
        kind = struct.unpack_from("!H", query, at + 1)[0]
        address = self.addresses.get(".".join(labels).lower())
        code = 5 if self.failure else 0 if address else 3
        is_found = code == 0 and kind == 1
        header = query[:2] + struct.pack("!5H", 0x8580 | code, 1, int(is_found), 0, 0)
        record = struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address) if is_found else b""
        return header + query[12:at + 5] + record

    @contextlib.contextmanager
    def failing(self, how):
        """Within the context the server is "silent", or each answer is "refused"."""
        self.failure = how
        try:
            yield
        finally:
            self.failure = None


class Network:
    def __init__(self):
        self.n_cables = 0
        ip("link set lo up")
        add_bridge("internet")
        for address in (f"{INTERNET}.254", DNS):
            ip(f"address add {address}/24 dev internet")
        ip("link set internet up")
        self._add_router()
        self.names = Names()

    def _add_router(self):
        ip("netns add router")
        ip("link set lo up", "router")
        add_bridge("home", "router")
        ip("link set home up", "router")
        ip(f"address add {HOME}.1/24 dev home", "router")
        self.plug("router", "wan0", f"{INTERNET}.100")
        subprocess.run(["ip", "netns", "exec", "router", "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        nft(ROUTER_RULES, "router")

    def plug(self, namespace, interface, address):
        """Connects @interface of @namespace to the network of @address. Returns (the port's name, its namespace)."""
        self.n_cables += 1
        port, is_home = f"port{self.n_cables}", address.startswith(HOME)
        where = "router" if is_home else None
        ip(f"link add {port} type veth peer name {interface} netns {namespace}", where)
        ip(f"link set {port} master {'home' if is_home else 'internet'} up", where)
        ip(f"address add {address}/24 dev {interface}", namespace)
        ip(f"link set {interface} up", namespace)
        return port, where

    def add_machine(self, name, address):
        """Makes the namespace of a machine. Returns the port of its cable."""
        ip(f"netns add {name}")
        ip("link set lo up", name)
        port = self.plug(name, "host0", address)
        gateway = f"{HOME}.1" if address.startswith(HOME) else f"{INTERNET}.254"
        ip(f"route add default via {gateway}", name)
        self.names.addresses[f"{name}.{DOMAIN}"] = address
        return port

    def set_cable(self, port, is_connected):
        ip(f"link set {port[0]} {'up' if is_connected else 'down'}", port[1])

    @contextlib.contextmanager
    def visit(self, name, address=f"{HOME}.99"):
        """Within the context the machine @name is also in the devices' home network."""
        port, where = self.plug(name, "home0", address)
        try:
            yield
        finally:
            ip(f"link del {port}", where)
