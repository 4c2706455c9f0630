# SPDX-License-Identifier: ISC
"""Reads a log line back to its words and fields (common/gotthard/base/format.h)."""

import re

FIELD = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)=(?:"([^"]*)"|([^ "]*))')


def unescape(text):
    """Returns the bytes behind \\xHH."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode("ascii"))


def parse(line):
    """Returns the words outside fields, and the fields as a list of (name, bytes)."""
    words, fields, at = [], [], 0
    while at < len(line):
        field = FIELD.match(line, at)
        if field:
            fields.append((field[1], unescape(field[2] if field[2] is not None else field[3])))
            at = field.end()
        end = line.find(" ", at)
        end = len(line) if end < 0 else end
        if end > at:
            words.append(line[at:end])
        at = end + 1
    return words, fields
