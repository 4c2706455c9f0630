# SPDX-License-Identifier: ISC
"""The manners of AWS IoT Core, each with its source, and the parts of its broker that know nothing about connections.

Sources: the AWS IoT Core developer guide ("MQTT", which contains "AWS IoT differences from MQTT specifications", "Lifecycle
events", "Transport security", "AWS IoT Core policies") and "AWS IoT Core endpoints and quotas" in the AWS General Reference (in
comments: quotas).
"""

import collections
import dataclasses
import time

from mqtt_packets import PUBLISH

# Reason codes of MQTT 5, section 2.4; those that AWS sends are listed in "MQTT", "MQTT reason codes".
UNSPECIFIED, MALFORMED, PROTOCOL_ERROR, UNSUPPORTED_VERSION, NOT_AUTHORIZED = 0x80, 0x81, 0x82, 0x84, 0x87
SHUTTING_DOWN, KEEP_ALIVE_TIMEOUT, TAKEN_OVER, FILTER_INVALID, TOPIC_INVALID = 0x8B, 0x8D, 0x8E, 0x8F, 0x90
TOO_LARGE, QUOTA_EXCEEDED, ADMINISTRATIVE, QOS_UNSUPPORTED, NO_SUBSCRIBERS = 0x95, 0x97, 0x98, 0x9B, 0x10
REFUSED_VERSION_V3 = 1  # CONNACK of MQTT 3.1.1, section 3.2.2.3


@dataclasses.dataclass
class Manners:
    """Quotations are from the section "AWS IoT differences from MQTT specifications" where no other source is named."""

    v5: bool = True  # False: MQTT 3.1.1 only
    # "To receive a retained message, the subscribe request must contain a topic filter that matches the retained message topic
    # exactly."
    retained_exact: bool = True
    # "There might be a delay between the time the message broker sends a SUBACK and the time the client starts receiving new
    # matching messages."
    subscribe_delay_ms: int = 100
    retained_delay_ms: int = 0  # of a retained message after the SUBACK; "the sequence of retained message and subscribed message
    # delivery is not guaranteed" ("MQTT retained messages")
    ack_delay_ms: int = 20  # of a PUBACK: "doesn't guarantee the order in which messages and ACK are received"
    subscriptions_per_packet: int = 8  # quotas: "Subscriptions per subscribe request"
    subscriptions: int = 50  # quotas: "Subscriptions per connection"
    payload: int = 128 << 10  # quotas: "Publish request payload"
    packet: int = 149504  # CONNACK's Maximum Packet Size, as the clients of the AWS SDKs show it
    keep_alive_min_s: int = 30  # quotas: "MQTT keep alive" is 30 to 1200 s; other values are replaced
    keep_alive_max_s: int = 1200
    publishes_per_s: int = 100  # quotas: "Publish requests per second per connection"; further ones are discarded
    connects_per_s: int = 1  # quotas: "Connect requests per second per client ID"
    in_flight: int = 100  # quotas: unacknowledged PUBLISH packets, in each direction
    topic_slashes: int = 7  # quotas: "Maximum number of slashes in topic and topic filter"
    topic_bytes: int = 256  # quotas: "Topic size"
    qos: int = 1  # "supports QoS levels 0 and 1 only"; for 2 "the message broker doesn't send a PUBACK or SUBACK"
    hash_without_parent: bool = True  # sensor/# does not match sensor
    no_subscribers: bool = False  # whether a PUBACK has the reason "no matching subscribers"
    refuse_in_acks: bool = True  # MQTT 5: PUBACK and SUBACK have the refusal ("MQTT reason codes"); False: DISCONNECT
    needs_sni: bool = True  # "MQTT": "Connection attempts that don't include the SNI are refused"
    needs_alpn: bool = False  # True as on port 443 ("Protocols, port mappings, and authentication")
    will_delay_ms: int = 0  # "Lifecycle events" recommends to wait, since last wills and events may come late

    def set(self, text):
        name, value = text.split("=")
        kind = type(getattr(self, name))
        setattr(self, name, value == "True" if kind is bool else kind(value))


def topic_matches(topic_filter, topic, hash_without_parent):
    """Section 4.7 of the standard."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return len(given) > at or (len(given) == at and not hash_without_parent)
        if at >= len(given) or level not in ("+", given[at]):
            return False
    return len(wanted) == len(given)


def is_filter(text):
    levels = text.split("/")
    return bool(text) and all(level in ("+", "#") or not set(level) & set("+#") for level in levels) and "#" not in levels[:-1]


class End(Exception):
    """The connection ends. @reason: for a DISCONNECT of MQTT 5; None: none is sent."""

    def __init__(self, reason, why, has_will=True):
        super().__init__(why)
        self.reason, self.has_will = reason, has_will


@dataclasses.dataclass
class Message:
    topic: str
    payload: bytes
    qos: int
    properties: dict


class Rate:
    """Whether one more fits into @n a second."""

    def __init__(self, n):
        self.n, self.times = n, collections.deque()

    def take(self):
        now = time.monotonic()
        while self.times and now - self.times[0] >= 1:
            self.times.popleft()
        if len(self.times) >= self.n:
            return False
        self.times.append(now)
        return True


class Outbox:
    """Messages to one client: at most @window of QoS 1 are unacknowledged, further ones wait."""

    def __init__(self, send, window, packet_max):
        self.send, self.window, self.packet_max = send, window, packet_max
        self.unacknowledged, self.waiting, self.last_id = set(), collections.deque(), 0

    def put(self, message, qos, is_retained):
        self.waiting.append((message, qos, is_retained))
        self.flush()

    def acknowledge(self, identifier):
        self.unacknowledged.discard(identifier)
        self.flush()

    def flush(self):
        while self.waiting and (self.waiting[0][1] == 0 or len(self.unacknowledged) < self.window):
            message, qos, is_retained = self.waiting.popleft()
            if len(message.topic) + len(message.payload) + 32 > self.packet_max:
                continue
            identifier = self._new_id() if qos else 0
            self.send(PUBLISH, flags=qos << 1 | is_retained, topic=message.topic, id=identifier, payload=message.payload,
                      properties=message.properties)

    def _new_id(self):
        self.last_id = self.last_id % 65535 + 1
        self.unacknowledged.add(self.last_id)
        return self.last_id
