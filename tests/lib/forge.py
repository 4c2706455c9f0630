# SPDX-License-Identifier: ISC
"""Valid ClientHellos in any number, as a holder of the key can make them: a recorded one with another random and its binder."""

import hashlib
import hmac
import os
import sys

import harness

sys.path.append(str(harness.ROOT / "common" / "tests"))
import vectors  # noqa: E402 - an independent implementation of docs/protocol.md

RANDOM = slice(11, 43)  # after the heads of record and message, and the version
BINDERS = 35  # bytes: the length of the list, the length of a binder, the binder


def expand_label(secret, label, context):
    """RFC 8446, section 7.1."""
    label = b"tls13 " + label
    return vectors.expand(secret, b"\0\x20" + bytes([len(label)]) + label + bytes([len(context)]) + context, 32)


def psk_of(env, role, name):
    """K_rc of docs/protocol.md, section 1."""
    def derive(key, label, context=b""):
        return vectors.expand(key, b"gotthard/1 " + label + b"\0" + context, 32)

    fleet = vectors.extract(vectors.sha256(b"gotthard/1 salt" + bytes.fromhex(env.iv)), bytes.fromhex(env.key))
    return derive(derive(fleet, b"relay"), b"relay-client", bytes([role]) + len(name).to_bytes(2, "big") + name.encode())


def forge(hello, psk):
    early = vectors.extract(bytes(32), psk)
    key = expand_label(expand_label(early, b"ext binder", hashlib.sha256(b"").digest()), b"finished", b"")
    forged = hello[:RANDOM.start] + os.urandom(32) + hello[RANDOM.stop:]
    return forged[:-32] + hmac.digest(key, hashlib.sha256(forged[5:-BINDERS]).digest(), "sha256")
