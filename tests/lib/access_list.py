# SPDX-License-Identifier: ISC
"""The authority of an access list, written from docs/protocol.md, section 7, without the code that it tests."""

import base64
import datetime
import hashlib
import re
import struct
import types

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def time_text(seconds_ago=0):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Authority:
    def __init__(self, private_text=None):
        """@private_text: gk1a-private....; a new key without it."""
        self.key = Ed25519PrivateKey.generate()
        if private_text:
            self.key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(private_text.strip().removeprefix("gk1a-private.") + "="))
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.text = "gk1a." + base64.urlsafe_b64encode(public).rstrip(b"=").decode()

    def _sign(self, context, data):
        return self.key.sign(b" " * 64 + context + b"\0" + hashlib.sha256(data).digest())

    def list(self, serial, *lines, issued=None):
        """Returns a whole text."""
        body = f"serial {serial}\nissued {issued or time_text()}\n".encode() + "".join(f"{line}\n" for line in lines).encode()
        return body + b"signature " + base64.b64encode(self._sign(b"Gotthard v1, access list", body)) + b"\n"

    def parts(self, serial, text, n=1):
        """Returns the messages of a text in @n parts."""
        made = []
        for i in range(n):
            piece = text[i * len(text) // n:(i + 1) * len(text) // n]
            body = (b"GTM1\x06" + struct.pack(">QIHH", serial, len(text), i, n) + hashlib.sha256(text).digest()
                    + struct.pack(">H", len(piece)) + piece)
            made.append(body + self._sign(b"Gotthard v1, access part", body))
        return made


def _verify(authority, context, data, signature):
    """Raises an exception if it is not signed by the key gk1a.@authority."""
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(authority.removeprefix("gk1a.") + "="))
    key.verify(signature, b" " * 64 + context + b"\0" + hashlib.sha256(data).digest())


def open_list(authority, text):
    """Returns the serial and the lines of a whole text, without its head."""
    head, body, signature = re.fullmatch(rb"(serial \d+\nissued \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n)(.*\n)?signature (\S+)\n", text,
                                         re.S).groups()
    _verify(authority, b"Gotthard v1, access list", head + (body or b""), base64.b64decode(signature))
    return int(head.split()[1]), (body or b"").decode().splitlines()


def open_part(authority, message):
    """Returns the fields of one message."""
    body, signature = message[:-64], message[-64:]
    _verify(authority, b"Gotthard v1, access part", body, signature)
    serial, size, part, parts = struct.unpack_from(">QIHH", body, 5)
    assert body[:5] == b"GTM1\x06" and struct.unpack_from(">H", body, 53)[0] == len(body) - 55
    return types.SimpleNamespace(serial=serial, size=size, part=part, parts=parts, hash=body[21:53], piece=body[55:])
