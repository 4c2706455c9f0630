# SPDX-License-Identifier: ISC
"""Searches loopback packets for secrets, in a separate process that takes no time from the test.

    sniffer.py NEEDLES-FILE SECONDS PORT|FIRST-LAST ...

Prints "listening" when it is ready, "HIT ..." for each match, and "seen N bytes in M flows" at the end, after SECONDS or
SIGTERM. A needle that is split into several packets is found as well. Data of a flow after BUDGET bytes and packets
that the kernel drops are not searched: keys and greetings are at a flow's beginning.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

BUDGET = 2 << 20
ETH_P_ALL, SO_ATTACH_FILTER, SOL_PACKET, PACKET_IGNORE_OUTGOING = 3, 26, 263, 23


def compiled(ports):
    """Returns the kernel's packet filter program for these ports."""
    words = " or ".join(f"portrange {p}" if "-" in p else f"port {p}" for p in ports)
    text = subprocess.run(["tcpdump", "-i", "lo", "-s", "0", "-ddd", f"tcp and ({words})"], check=True,
                          capture_output=True, text=True).stdout.split("\n")
    return b"".join(struct.pack("HBBI", *map(int, line.split())) for line in text[1:] if line)


def attach(sock, program):
    import ctypes

    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def payload(frame):
    """Returns (addresses and ports, payload) of a TCP packet; (None, b"") for any other packet."""
    if frame[12:14] == b"\x08\x00":
        tcp = 14 + (frame[14] & 15) * 4
        end = 14 + struct.unpack(">H", frame[16:18])[0] or len(frame)
        ends = frame[26:34]
    elif frame[12:14] == b"\x86\xdd":
        tcp, ends = 54, frame[22:54]
        end = 54 + struct.unpack(">H", frame[18:20])[0] or len(frame)
    else:
        return None, b""
    data = tcp + (frame[tcp + 12] >> 4) * 4
    return ends + frame[tcp:tcp + 4], frame[data:end]


class Watcher:
    def __init__(self, needles):
        self.needles = needles  # name: bytes
        self.overlap = max(map(len, needles.values())) - 1
        self.flows = {}  # ends: [number of searched bytes, the last few of them]
        self.n_seen = 0

    def search(self, frame):
        ends, data = payload(frame)
        if not data:
            return
        flow = self.flows.setdefault(ends, [0, b""])
        if flow[0] > BUDGET:
            return
        flow[0] += len(data)
        self.n_seen += len(data)
        text = flow[1] + data
        for name, needle in self.needles.items():
            if needle in text:
                print("HIT", name, "from port %d to port %d" % struct.unpack(">HH", ends[-4:]), flush=True)
        flow[1] = text[-self.overlap:]


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        watcher = Watcher({name: bytes.fromhex(text) for name, text in json.load(file).items()})
    end = time.monotonic() + float(sys.argv[2])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    attach(sock, compiled(sys.argv[3:]))
    sock.bind(("lo", ETH_P_ALL))
    sock.settimeout(0.2)
    is_over = []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    os.nice(5)
    print("listening", flush=True)
    while time.monotonic() < end:
        try:
            watcher.search(sock.recv(1 << 17))
        except TimeoutError:
            if is_over:
                break
        except InterruptedError:
            pass
    print(f"seen {watcher.n_seen} bytes in {len(watcher.flows)} flows", flush=True)


if __name__ == "__main__":
    main()
