# SPDX-License-Identifier: ISC
"""Asks a broker which versions of MQTT it accepts, and which limits it states in the CONNACK of MQTT 5 (section 3.2.2.3)."""

import socket
import ssl
import struct

PROPERTIES = {  # identifier: name, bytes (0: text, -1: two texts)
    0x11: ("session expiry", 4), 0x12: ("client id", 0), 0x13: ("keep alive", 2), 0x1A: ("response information", 0),
    0x1C: ("server reference", 0), 0x1F: ("reason", 0), 0x21: ("receive maximum", 2), 0x22: ("topic aliases", 2),
    0x24: ("maximum QoS", 1), 0x25: ("retain available", 1), 0x26: ("user property", -1), 0x27: ("maximum packet size", 4),
    0x28: ("wildcards", 1), 0x29: ("subscription identifiers", 1), 0x2A: ("shared subscriptions", 1),
}
LIMITS = ("receive maximum", "maximum QoS", "retain available", "maximum packet size", "keep alive")


def _text(data):
    length = struct.unpack(">H", data[:2])[0]
    return data[2:2 + length].decode(errors="replace"), data[2 + length:]


def _properties(data):
    """Parses the properties of a CONNACK, whose length fits in one byte here."""
    found, data = {}, data[1:1 + data[0]] if data else b""
    while data:
        name, size = PROPERTIES[data[0]]
        data = data[1:]
        if size > 0:
            found[name], data = int.from_bytes(data[:size], "big"), data[size:]
        else:
            for _ in range(1 - size):
                found[name], data = _text(data)
    return found


def _connect(port, certificates, level):
    context = ssl.create_default_context(cafile=certificates / "ca.crt")
    context.load_cert_chain(certificates / "cert.pem", certificates / "private.key")
    client_id = b"probe"
    body = b"\0\4MQTT" + bytes([level, 2]) + struct.pack(">H", 60) + (b"\0" if level == 5 else b"") + struct.pack(">H", len(client_id)) + client_id
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(bytes([0x10, len(body)]) + body)
            answer = sock.recv(1024)
            if answer[:1] == b"\x20":
                sock.sendall(b"\xe0\0")
            return answer


def versions(port, certificates):
    """Returns {"5": accepted?, "3.1.1": accepted?} and the limits of MQTT 5."""
    accepted, limits = {}, {}
    for name, level in (("5", 5), ("3.1.1", 4)):
        try:
            answer = _connect(port, certificates, level)
        except OSError:
            answer = b""
        accepted[name] = len(answer) >= 4 and answer[0] == 0x20 and answer[3] == 0 and (level == 4 or len(answer) > 4)
        if accepted[name] and level == 5:
            limits = {name: value for name, value in _properties(answer[4:]).items() if name in LIMITS}
    return accepted, limits
