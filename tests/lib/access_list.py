# SPDX-License-Identifier: ISC
"""The authority of an access list, written from docs/protocol.md, section 7, without the code that it tests."""

import base64
import datetime
import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def time_text(seconds_ago=0):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Authority:
    def __init__(self):
        self.key = Ed25519PrivateKey.generate()
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
