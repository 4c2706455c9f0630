# SPDX-License-Identifier: ISC
"""The brokers of `tests/fleet devices`: mosquitto with the shipped example and with its own defaults, and those of tests/brokers
that are in its cache. Nothing is fetched here."""

import dataclasses
import pathlib
import sys

import fleet_ground
import harness

OPERATOR = fleet_ground.OPERATOR
FETCHED = ("mochi", "nats")


@dataclasses.dataclass
class Broker:
    port: int
    operator: pathlib.Path  # folders of certificates
    devices: pathlib.Path
    version: str = ""  # where the report does not state it anyway


def _mosquitto(config_of):
    def start(ground):
        ground.mosquitto(config_of(ground))
        return Broker(ground.env.broker_port, ground.authority / OPERATOR, ground.authority / fleet_ground.DEVICES)

    return start


def _fetched(kinds, kind):
    def start(ground):
        nodes = kinds.Nodes(ground.env, kind, kind.fetch(kind.version))
        nodes.start(0)
        return Broker(nodes.port(0), ground.env.certificates(OPERATOR), ground.env.certificates("god"), kind.version)

    return start


BROKERS = {
    "mosquitto, shipped example": _mosquitto(fleet_ground.Ground.shipped_example),
    "mosquitto, its defaults": _mosquitto(fleet_ground.Ground.bare_example),
    **dict.fromkeys(FETCHED),
}


def starter(name):
    """Returns (function(ground) -> Broker, None), or (None, the reason why that broker is not in this run)."""
    if name not in FETCHED:
        return BROKERS[name], None
    sys.path.append(str(harness.ROOT / "tests" / "brokers.d"))
    try:
        import kinds
    except ModuleNotFoundError as error:
        return None, f"no module {error.name}"

    kind = kinds.KINDS[name]
    if not (kinds.STORE.folder / "go" / f"{name}-{kind.version}" / "done").exists():
        return None, f"{kind.version} is not in the cache; `tests/brokers {name}` fetches it"
    return _fetched(kinds, kind), None
