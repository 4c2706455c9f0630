# SPDX-License-Identifier: ISC
"""An audit, read as docs/audit.md describes it: without the code of the programs."""

import hashlib
import json
import pathlib

NONE = 64 * "0"


def files(folder):
    """The oldest first."""
    found = pathlib.Path(folder).glob("audit.log*")
    return sorted(found, key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)


def lines(folder):
    return b"".join(path.read_bytes() for path in files(folder)).splitlines(keepends=True)


def events(folder, *names):
    """All events, or those of these names; the chain must be intact."""
    found, before = [], None
    for line in lines(folder):
        event = json.loads(line)
        if before:
            assert event["prev"] == before[0] and event["seq"] == before[1] + 1, (before, line)
        elif event["seq"] == 1:
            assert event["prev"] == NONE
        before = hashlib.sha256(line).hexdigest(), event["seq"]
        found.append(event)
    return [event for event in found if not names or event["event"] in names]
