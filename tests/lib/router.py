# SPDX-License-Identifier: ISC
"""A router between two private networks, with the faults of real ones: a firewall in front of a range of ports, and a link
that drops large packets without an ICMP message.

The `middle` contains the test itself, relay, broker and one side; the `edge` is the other side's machine (or that of both),
and reaches the relay through the `router` only. Needs root; names are unique, and close() removes everything.
"""

import contextlib
import ctypes
import fcntl
import select
import socket
import struct
import subprocess
import threading

import netns

SIOCETHTOOL, ETHTOOL_STSO, ETHTOOL_SGSO = 0x8946, 0x1F, 0x24
PORTAL = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n"


def _disable_offloads(name):
    """Of an interface of the current namespace: a large packet would pass the link in one piece."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in (ETHTOOL_STSO, ETHTOOL_SGSO):
            value = (ctypes.c_uint32 * 2)(command, 0)
            fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(value)))


class Router(netns.Network):
    def _make(self):
        self.router = self.middle.replace("middle", "router")
        self.stops = []
        for name in (self.middle, self.router, self.edge):
            subprocess.run(["ip", "netns", "add", name], check=True)
            self.ip(name, "link set lo up")
        self.ip(self.middle, f"address add {netns.RELAY}/32 dev lo")
        self._link(self.middle, "core0", "north0", 0)
        self._link(self.edge, "wan0", "south0", 1)
        self.ip(self.middle, "route add default via 198.18.0.1")
        self.ip(self.edge, "route add default via 198.18.1.1")
        self.ip(self.router, f"route add {netns.RELAY}/32 via 198.18.0.2")
        self.ip(self.router, "route add local default dev lo table 100")
        subprocess.run(["ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)

    def _link(self, host, here, there, n):
        self.ip(host, f"link add {here} type veth peer name {there} netns {self.router}")
        self.ip(host, f"address add 198.18.{n}.2/24 dev {here}")
        self.ip(self.router, f"address add 198.18.{n}.1/24 dev {there}")
        self.ip(host, f"link set {here} up")
        self.ip(self.router, f"link set {there} up")
        with netns.inside(host):
            _disable_offloads(here)

    # --- the firewall

    def block(self, first, last, how):
        """What happens to packets of the edge to the ports @first to @last: "drop", "icmp", "reset"; "absorb" (a proxy
        that accepts connections and passes nothing on), "portal" (one that answers itself)."""
        action = {"drop": "blackhole", "icmp": "prohibit"}.get(how, "table 100")
        self.ip(self.router, f"rule add pref 10 ipproto tcp dport {first}-{last} {action}")
        if how in ("absorb", "portal"):
            self._proxy(first, last, PORTAL if how == "portal" else b"")

    def unblock(self):
        self.ip(self.router, "rule del pref 10")

    def _proxy(self, first, last, answer):
        with netns.inside(self.router):
            listeners = [socket.create_server(("", port)) for port in range(first, last + 1)]
        stop, stopped = socket.socketpair()
        self.stops.append(stop)

        def run():
            held = []
            while stopped not in (ready := select.select([stopped, *listeners], [], [])[0]):
                for listener in ready:
                    held.append(listener.accept()[0])
                    if answer:
                        held[-1].sendall(answer)
            for sock in (*held, *listeners, stopped):
                sock.close()

        threading.Thread(target=run, daemon=True).start()

    # --- the link

    def black_hole(self, mtu):
        """Packets of more than @mtu bytes are lost in both directions: the router's interfaces do not accept them."""
        for name in ("north0", "south0"):
            self.ip(self.router, f"link set {name} mtu {mtu}")

    def close(self):
        for stop in self.stops:
            with contextlib.suppress(OSError):
                stop.close()
        super().close()
        subprocess.run(["ip", "netns", "del", self.router], stderr=subprocess.DEVNULL)
