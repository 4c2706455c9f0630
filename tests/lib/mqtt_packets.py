# SPDX-License-Identifier: ISC
"""The packets of MQTT 3.1.1 and 5, in both directions, described by one table.

A packet is a SimpleNamespace of its fields, with `kind`, the high four bits of the first byte, and `flags`, the low four.
Sections in comments are those of the OASIS standard, MQTT 5.0. QoS 2 and AUTH are left out.
"""

import struct
from types import SimpleNamespace

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x80, 0x90, 0xA0, 0xB0
PINGREQ, PINGRESP, DISCONNECT = 0xC0, 0xD0, 0xE0

CLEAN_START, WILL, WILL_RETAIN, PASSWORD, USERNAME = 0x02, 0x04, 0x20, 0x40, 0x80  # section 3.1.2.3


class Malformed(ValueError):
    """The bytes are no packet of this version."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Malformed("short packet")
        self.at += n
        return self.data[self.at - n:self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def is_at_end(self):
        return self.at == len(self.data)


# --- types of fields: a function that reads one and a function that writes one ---------------------


def number(layout):
    size = struct.calcsize(layout)
    return (lambda reader: struct.unpack(layout, reader.take(size))[0]), (lambda value: struct.pack(layout, value))


U8, U16, U32 = number(">B"), number(">H"), number(">I")


def read_length(reader):
    value = 0
    for shift in (0, 7, 14, 21):
        byte = reader.take(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise Malformed("a length of more than four bytes")


def write_length(n):
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (128 if n else 0))
        if not n:
            return bytes(out)


LENGTH = (read_length, write_length)
BINARY = (lambda reader: reader.take(U16[0](reader)), lambda value: U16[1](len(value)) + value)
REST = (lambda reader: reader.rest(), bytes)


def read_text(reader):
    try:
        text = BINARY[0](reader).decode()
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8") from None
    if "\0" in text:
        raise Malformed("a NUL character in text")
    return text


TEXT = (read_text, lambda value: BINARY[1](value.encode()))
PAIR = ((lambda reader: (read_text(reader), read_text(reader))), (lambda value: TEXT[1](value[0]) + TEXT[1](value[1])))


def list_of(read, write):
    def read_all(reader):
        found = []
        while not reader.is_at_end():
            found.append(read(reader))
        return found

    return read_all, lambda values: b"".join(map(write, values))


FILTERS = list_of(lambda reader: (read_text(reader), U8[0](reader)), lambda value: TEXT[1](value[0]) + U8[1](value[1]))
TOPICS = list_of(*TEXT)

PROPERTIES_BY_ID = {  # section 2.2.2.2
    0x01: ("payload_format", U8), 0x02: ("message_expiry", U32), 0x03: ("content_type", TEXT), 0x08: ("response_topic", TEXT),
    0x09: ("correlation_data", BINARY), 0x0B: ("subscription_id", LENGTH), 0x11: ("session_expiry", U32),
    0x12: ("assigned_client_id", TEXT), 0x13: ("server_keep_alive", U16), 0x15: ("authentication_method", TEXT),
    0x16: ("authentication_data", BINARY), 0x17: ("request_problem_information", U8), 0x18: ("will_delay", U32),
    0x19: ("request_response_information", U8), 0x1A: ("response_information", TEXT), 0x1C: ("server_reference", TEXT),
    0x1F: ("reason_string", TEXT), 0x21: ("receive_maximum", U16), 0x22: ("topic_alias_maximum", U16), 0x23: ("topic_alias", U16),
    0x24: ("maximum_qos", U8), 0x25: ("retain_available", U8), 0x26: ("user_property", PAIR), 0x27: ("maximum_packet_size", U32),
    0x28: ("wildcard_subscription_available", U8), 0x29: ("subscription_identifier_available", U8),
    0x2A: ("shared_subscription_available", U8),
}
PROPERTIES_BY_NAME = {name: (number_, kind) for number_, (name, kind) in PROPERTIES_BY_ID.items()}


def read_properties(reader):
    inner, found = Reader(reader.take(read_length(reader))), {}
    while not inner.is_at_end():
        number_ = inner.take(1)[0]
        if number_ not in PROPERTIES_BY_ID:
            raise Malformed(f"property 0x{number_:02x}")
        name, (read, _) = PROPERTIES_BY_ID[number_]
        found[name] = read(inner)
    return found


def write_properties(properties):
    out = b""
    for name, value in properties.items():
        number_, (_, write) = PROPERTIES_BY_NAME[name]
        out += U8[1](number_) + write(value)
    return write_length(len(out)) + out


PROPERTIES = (read_properties, write_properties)

# --- layouts: (name, type, default, condition of the packet and the version) -------------------------


def always(packet, version):
    return True


def is_v5(packet, version):
    return version == 5


def has(flag, and_v5=False):
    return lambda packet, version: packet.connect_flags & flag and (version == 5 or not and_v5)


FIELDS = {
    CONNECT: [("protocol", TEXT, "MQTT", always), ("level", U8, None, always), ("connect_flags", U8, CLEAN_START, always),
              ("keep_alive", U16, 60, always), ("properties", PROPERTIES, {}, is_v5), ("client_id", TEXT, "", always),
              ("will_properties", PROPERTIES, {}, has(WILL, True)), ("will_topic", TEXT, "", has(WILL)),
              ("will_payload", BINARY, b"", has(WILL)), ("username", TEXT, "", has(USERNAME)), ("password", BINARY, b"", has(PASSWORD))],
    CONNACK: [("session_present", U8, 0, always), ("reason", U8, 0, always), ("properties", PROPERTIES, {}, is_v5)],
    PUBLISH: [("topic", TEXT, "", always), ("id", U16, 0, lambda packet, version: packet.flags & 6),
              ("properties", PROPERTIES, {}, is_v5), ("payload", REST, b"", always)],
    PUBACK: [("id", U16, 0, always), ("reason", U8, 0, is_v5), ("properties", PROPERTIES, {}, is_v5)],
    SUBSCRIBE: [("id", U16, 0, always), ("properties", PROPERTIES, {}, is_v5), ("filters", FILTERS, [], always)],
    SUBACK: [("id", U16, 0, always), ("properties", PROPERTIES, {}, is_v5), ("reasons", REST, b"", always)],
    UNSUBSCRIBE: [("id", U16, 0, always), ("properties", PROPERTIES, {}, is_v5), ("topics", TOPICS, [], always)],
    UNSUBACK: [("id", U16, 0, always), ("properties", PROPERTIES, {}, is_v5), ("reasons", REST, b"", is_v5)],
    PINGREQ: [],
    PINGRESP: [],
    DISCONNECT: [("reason", U8, 0, is_v5), ("properties", PROPERTIES, {}, is_v5)],
}
MAY_BE_SHORT = (PUBACK, DISCONNECT)  # without the reason 0 and without properties: sections 3.4.2 and 3.14.2
FLAGS = {SUBSCRIBE: 2, UNSUBSCRIBE: 2}  # section 2.1.3


def decode(first, body, version):
    """Returns the packet. For a CONNECT @version is ignored: it names its own. Raises Malformed."""
    packet, reader = SimpleNamespace(kind=first & 0xF0, flags=first & 15), Reader(body)
    if packet.kind not in FIELDS:
        raise Malformed(f"packet type {first >> 4}")
    if packet.kind != PUBLISH and packet.flags != FLAGS.get(packet.kind, 0):
        raise Malformed("reserved flags")
    for name, (read, _), default, condition in FIELDS[packet.kind]:
        if packet.kind == CONNECT:
            version = getattr(packet, "level", version)
        is_absent = not condition(packet, version) or (packet.kind in MAY_BE_SHORT and reader.is_at_end() and name != "id")
        setattr(packet, name, default if is_absent else read(reader))
    if not reader.is_at_end():
        raise Malformed("bytes after the last field")
    return packet


def encode(kind, version, flags=None, **fields):
    """Returns the bytes of a packet; fields that are not given have their defaults."""
    packet = SimpleNamespace(flags=FLAGS.get(kind, 0) if flags is None else flags, **fields)
    if kind == CONNECT:
        packet.level = version
    body = b""
    for name, (_, write), default, condition in FIELDS[kind]:
        setattr(packet, name, getattr(packet, name, default))
        if condition(packet, version):
            body += write(getattr(packet, name))
    return bytes([kind | packet.flags]) + write_length(len(body)) + body
