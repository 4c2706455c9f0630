# SPDX-License-Identifier: ISC
"""A broker for tests with the manners of AWS IoT Core, each of them a switch. It runs as a process of its own:

    aws_broker.py --port N --certificates FOLDER --policies FILE --operators alice,bob [--manner NAME=VALUE]...

The manners and their sources: aws_manners.py. The log has mosquitto's words, for which tests wait. Retained messages are kept
in a file of the folder.

SIGTERM stops it; clients of MQTT 5 receive "server shutting down". SIGUSR1 disconnects every client as an administrative action
and continues. SIGUSR2 reads the folder's file `inactive` again.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import secrets
import signal
import ssl
import sys
import time

from aws_manners import (ADMINISTRATIVE, FILTER_INVALID, KEEP_ALIVE_TIMEOUT, MALFORMED, NO_SUBSCRIBERS, NOT_AUTHORIZED,
                         PROTOCOL_ERROR, QOS_UNSUPPORTED, QUOTA_EXCEEDED, REFUSED_VERSION_V3, SHUTTING_DOWN, TAKEN_OVER, TOO_LARGE,
                         TOPIC_INVALID, UNSUPPORTED_VERSION, End, Manners, Message, Outbox, Rate, is_filter, topic_matches)
from aws_policy import CONNECT_ATTRIBUTES, Policy, fill_in
import mqtt_packets as mqtt
from mqtt_packets import CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE

CONNECT_LIMIT_S = 10
OBSERVER = "god"  # a test that watches all topics: its subscriptions are effective at once, and get retained messages
WRITE_BUFFER_MAX = 4 << 20  # of one client that does not read


def log(text):
    print(f"{int(time.time())}: {text}", file=sys.stderr, flush=True)


class Client:
    """One connection, from TLS to its end."""

    def __init__(self, broker, reader, writer):
        self.broker, self.reader, self.writer = broker, reader, writer
        self.manners = broker.manners
        self.version, self.id, self.will, self.is_closed = 4, None, None, False
        self.subscriptions = {}  # filter: (QoS, time from which it is effective)
        self.publishes = Rate(self.manners.publishes_per_s)
        self.peer = writer.get_extra_info("peername")
        certificate = writer.get_extra_info("peercert") or {}
        self.name = dict(pair[0] for pair in certificate.get("subject", ())).get("commonName")
        self.policy = broker.policy_of(self.name)
        if self.name == OBSERVER:
            self.manners = dataclasses.replace(self.manners, retained_exact=False, subscribe_delay_ms=0)

    # --- sending and ending

    def send(self, kind, **fields):
        if self.is_closed:
            return
        self.writer.write(mqtt.encode(kind, self.version, **fields))
        if self.writer.transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            self.close(QUOTA_EXCEEDED, "does not read")

    def close(self, reason, why):
        """Ends the connection from outside of its task; MQTT 5 has the reason in a DISCONNECT."""
        if self.is_closed:
            return
        if reason is not None and self.version == 5 and self.id is not None:
            self.send(DISCONNECT, reason=reason)
        self.is_closed = True
        log(f"Client {self.id or '<unknown>'} disconnected: {why}.")
        self.writer.close()
        self.reader.feed_eof()  # the task ends now, not after the exchange of close_notify

    async def read(self):
        first = (await self.reader.readexactly(1))[0]
        n, shift = 0, 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 21:
                raise End(MALFORMED, "malformed length")
        if n > self.manners.packet:
            raise End(TOO_LARGE, "packet too large")
        return mqtt.decode(first, await self.reader.readexactly(n), self.version)

    async def run(self):
        """Returns the last will if it is to be published."""
        try:
            await self._serve()
        except End as end:
            self.close(end.reason, str(end))
            return self.will if end.has_will else None
        except mqtt.Malformed as error:
            self.close(MALFORMED, f"malformed packet: {error}")
        except (asyncio.TimeoutError, TimeoutError):
            self.close(KEEP_ALIVE_TIMEOUT, "exceeded timeout")
        except (asyncio.IncompleteReadError, OSError):
            self.close(None, "connection lost")
        return self.will

    async def _serve(self):
        self._check_tls()
        await asyncio.wait_for(self._connect(), CONNECT_LIMIT_S)
        handlers = {PUBLISH: self._on_publish, PUBACK: lambda p: self.outbox.acknowledge(p.id), SUBSCRIBE: self._on_subscribe,
                    UNSUBSCRIBE: self._on_unsubscribe, PINGREQ: lambda p: self.send(PINGRESP), DISCONNECT: self._on_disconnect}
        while not self.is_closed:
            # Lifecycle: MQTT_KEEP_ALIVE_TIMEOUT after 1.5 times the interval.
            packet = await asyncio.wait_for(self.read(), self.keep_alive * 1.5)
            if packet.kind not in handlers:
                raise End(PROTOCOL_ERROR, "unexpected packet")
            handlers[packet.kind](packet)

    # --- CONNECT

    def _check_tls(self):
        """An unregistered or inactive certificate is found after the handshake, and the connection is closed without a reason
        ("Diagnosing connectivity issues")."""
        tls = self.writer.get_extra_info("ssl_object")
        if self.manners.needs_sni and not getattr(tls, "sni", None):
            raise End(None, "no SNI")
        if self.manners.needs_alpn and not tls.selected_alpn_protocol():
            raise End(None, "no ALPN")
        if self.policy is None:
            raise End(None, f"certificate {self.name} is not registered or inactive")

    async def _connect(self):
        packet = await self.read()
        if packet.kind != CONNECT or packet.protocol != "MQTT":
            raise End(None, "no CONNECT")
        if packet.level != 4 and not (packet.level == 5 and self.manners.v5):
            self.version = 5 if packet.level == 5 else 4
            self.send(CONNACK, reason=UNSUPPORTED_VERSION if packet.level == 5 else REFUSED_VERSION_V3)
            raise End(None, "unsupported version")
        self.version = packet.level
        is_assigned = not packet.client_id
        identifier = packet.client_id or f"aws-{secrets.token_hex(8)}"
        self._authorize(packet, identifier)
        self.keep_alive = self._agreed_keep_alive(packet.keep_alive)
        properties = packet.properties
        self.outbox = Outbox(self.send, min(self.manners.in_flight, properties.get("receive_maximum", 65535)),
                             properties.get("maximum_packet_size", 1 << 28))
        self.broker.take_over(identifier, self)
        self.id = identifier
        if packet.connect_flags & mqtt.WILL:
            self.will = Message(packet.will_topic, packet.will_payload, packet.connect_flags >> 3 & 3, packet.will_properties)
            self.will_is_retained = bool(packet.connect_flags & mqtt.WILL_RETAIN)
        log(f"New client connected from {self.peer[0]}:{self.peer[1]} as {self.id} (p{5 if self.version == 5 else 2}, "
            f"c{int(bool(packet.connect_flags & mqtt.CLEAN_START))}, k{packet.keep_alive}, u'{self.name}').")
        self.send(CONNACK, properties=self._connack_properties(packet, is_assigned))

    def _authorize(self, packet, identifier):
        attributes = [name for name, is_given in (("LastWill", packet.connect_flags & mqtt.WILL),
                                                  ("PersistentConnect", not packet.connect_flags & mqtt.CLEAN_START)) if is_given]
        # "The value of clientId in the MQTT connect message must exactly match the thing name"
        is_attached = identifier == self.name
        self.variables = {"iot:ClientId": identifier, "iot:Certificate.Subject.CommonName": self.name,
                          "iot:Connection.Thing.IsAttached": "true" if is_attached else "false",
                          **({"iot:Connection.Thing.ThingName": identifier} if is_attached else {})}
        why = None
        if not self.policy.allows("Connect", f"client/{identifier}", {**self.variables, CONNECT_ATTRIBUTES: attributes}):
            why, reason = f"{identifier} not authorised", NOT_AUTHORIZED
        elif packet.connect_flags >> 3 & 3 > self.manners.qos:
            why, reason = "QoS of the will", QOS_UNSUPPORTED
        elif not self.broker.connect_rate(identifier).take():
            why, reason = f"{identifier} connects too often", QUOTA_EXCEEDED
        if why:
            if self.version == 5:
                self.send(CONNACK, reason=reason)
            raise End(None, why)  # MQTT 3.1.1: a plain close

    def _agreed_keep_alive(self, requested):
        """Quotas: 0 and more than the maximum mean the maximum, less than the minimum means the minimum."""
        m = self.manners
        return m.keep_alive_max_s if requested == 0 else min(max(requested, m.keep_alive_min_s), m.keep_alive_max_s)

    def _connack_properties(self, packet, is_assigned):
        m = self.manners
        return {"receive_maximum": m.in_flight, "maximum_qos": m.qos, "retain_available": 1, "maximum_packet_size": m.packet,
                "topic_alias_maximum": 0, "wildcard_subscription_available": 1, "subscription_identifier_available": 0,
                "shared_subscription_available": 1, "session_expiry": 0,
                **({"server_keep_alive": self.keep_alive} if self.keep_alive != packet.keep_alive else {}),
                **({"assigned_client_id": self.id} if is_assigned else {})}

    def _on_disconnect(self, packet):
        raise End(None, "by itself", has_will=packet.reason == 4)  # section 3.14.2.1: "Disconnect with Will Message"

    def _refuse_qos(self):
        """MQTT 3.1.1 has no word for it: the packet is not answered."""
        if self.version == 5:
            raise End(QOS_UNSUPPORTED, "QoS not supported")

    # --- PUBLISH

    def may(self, action, resource):
        return self.policy.allows(action, resource, self.variables)

    def publish_refusal(self, message, is_retained):
        """Returns a reason code, or 0."""
        m = self.manners
        if len(message.topic.encode()) > m.topic_bytes or message.topic.count("/") > m.topic_slashes:
            return TOPIC_INVALID
        if not message.topic or set(message.topic) & set("+#") or "topic_alias" in message.properties:
            return TOPIC_INVALID
        if not self.may("Publish", f"topic/{message.topic}"):
            return NOT_AUTHORIZED
        if is_retained and not self.may("RetainPublish", f"topic/{message.topic}"):
            return NOT_AUTHORIZED
        return 0

    def _on_publish(self, packet):
        qos, is_retained = packet.flags >> 1 & 3, bool(packet.flags & 1)
        message = Message(packet.topic, packet.payload, qos, packet.properties)
        if qos > self.manners.qos:
            self._refuse_qos()
            return
        if len(packet.payload) > self.manners.payload:
            raise End(TOO_LARGE, "payload too large")
        if not self.publishes.take():
            self._acknowledge(packet, QUOTA_EXCEEDED if self.version == 5 else None)
            return
        reason = self.publish_refusal(message, is_retained)
        if reason:
            log(f"Denied PUBLISH from {self.id} (q{qos}, r{int(is_retained)}, '{packet.topic}')")
            if self.version != 5 or qos == 0 or not self.manners.refuse_in_acks:
                raise End(reason, "not authorised")
            self._acknowledge(packet, reason)
            return
        log(f"Received PUBLISH from {self.id} (q{qos}, r{int(is_retained)}, '{packet.topic}', {len(packet.payload)} bytes)")
        n = self.broker.publish(message, is_retained)
        self._acknowledge(packet, NO_SUBSCRIBERS if n == 0 and self.manners.no_subscribers else 0)

    def _acknowledge(self, packet, reason):
        """@reason None: the message is discarded without an answer."""
        if packet.flags & 6 and reason is not None:
            self.broker.later(self.manners.ack_delay_ms, lambda: self.send(PUBACK, id=packet.id, reason=reason))

    # --- SUBSCRIBE

    def _on_subscribe(self, packet):
        m = self.manners
        new = {name for name, _ in packet.filters} - set(self.subscriptions)
        if not packet.filters or len(packet.filters) > m.subscriptions_per_packet or len(self.subscriptions) + len(new) > m.subscriptions:
            raise End(QUOTA_EXCEEDED, "too many subscriptions")
        if any(options & 3 > m.qos for _, options in packet.filters):
            self._refuse_qos()
            return
        reasons = [self._subscribe_refusal(name) for name, _ in packet.filters]
        if any(reasons) and not (self.version == 5 and m.refuse_in_acks):
            raise End(NOT_AUTHORIZED, "not authorised")
        effective, retained = time.monotonic() + m.subscribe_delay_ms / 1000, []
        for (name, options), reason in zip(packet.filters, reasons):
            if not reason:
                is_new = name not in self.subscriptions
                self.subscriptions[name] = (options & 3, effective)
                if options >> 4 == 0 or (options >> 4 == 1 and is_new):  # Retain Handling, section 3.8.3.1
                    retained.append(name)
        self.send(SUBACK, id=packet.id, reasons=[reason or options & 3 for (_, options), reason in zip(packet.filters, reasons)])
        self.broker.later(m.retained_delay_ms, lambda: [self._send_retained(name) for name in retained])

    def _subscribe_refusal(self, name):
        m = self.manners
        if not is_filter(name) or len(name.encode()) > m.topic_bytes or name.count("/") > m.topic_slashes:
            return FILTER_INVALID
        return 0 if self.may("Subscribe", f"topicfilter/{name}") else NOT_AUTHORIZED

    def _on_unsubscribe(self, packet):
        reasons = [0 if self.subscriptions.pop(name, None) else 0x11 for name in packet.topics]
        self.send(UNSUBACK, id=packet.id, reasons=reasons)

    def _send_retained(self, name):
        for topic, message in list(self.broker.retained.items()):
            is_wanted = topic == name if self.manners.retained_exact else topic_matches(name, topic, True)
            if is_wanted and name in self.subscriptions and self.may("Receive", f"topic/{topic}"):
                self.outbox.put(message, min(message.qos, self.subscriptions[name][0]), True)

    def deliver(self, message):
        """Returns whether a subscription matched. Receive is checked at each delivery ("AWS IoT Core policy actions")."""
        now = time.monotonic()
        found = [qos for name, (qos, effective) in self.subscriptions.items()
                 if effective <= now and topic_matches(name, message.topic, self.manners.hash_without_parent)]
        if not found or not self.may("Receive", f"topic/{message.topic}"):
            return False
        self.outbox.put(message, min(message.qos, max(found)), False)
        return True


class Broker:
    def __init__(self, options):
        self.manners = Manners()
        for text in options.manner:
            self.manners.set(text)
        self.options = options
        self.clients, self.connections, self.rates, self.retained = {}, set(), {}, {}
        self.inactive = set()
        self.read_inactive()
        self.retained_path = options.certificates / "retained.json"
        self._load_retained()

    # --- the registry: certificates, their policies, and the things with their names

    def read_inactive(self):
        path = self.options.certificates / "inactive"
        self.inactive = set(path.read_text().split()) if path.exists() else set()

    def policy_of(self, name):
        """Returns None for a certificate that is unknown or inactive. Names of operators have the operators' policy, `admin` also the
        authority's, `god` and `tester` may do everything, every other name belongs to a device."""
        if name is None or name in self.inactive:
            return None
        if name in ("god", "tester"):
            return Policy({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
                {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*",
                 "Condition": {"ForAllValues:StringEquals": {CONNECT_ATTRIBUTES: ["LastWill", "PersistentConnect"]}}}]})
        is_operator = name in self.options.operators.split(",")
        policies = json.loads(fill_in(self.options.policies.read_text(), name))
        policy = policies["operator" if is_operator else "device"]
        if name == "admin":
            policy["Statement"] += policies["authority"]["Statement"]
        return Policy(policy)

    def connect_rate(self, identifier):
        return self.rates.setdefault(identifier, Rate(self.manners.connects_per_s))

    def take_over(self, identifier, client):
        """"The new client connection is accepted and the previously connected client is disconnected." """
        old = self.clients.get(identifier)
        self.clients[identifier] = client
        if old:
            old.close(TAKEN_OVER, "session taken over")

    # --- messages

    def later(self, delay_ms, function):
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1000, function)
        else:
            function()

    def publish(self, message, is_retained):
        """Returns the number of clients that received it."""
        if is_retained:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
            self._store_retained()
        return sum(client.deliver(message) for client in list(self.clients.values()))

    def publish_will(self, client):
        """A will that its client may not publish is dropped, and one that it may not retain is only delivered."""
        will = client.will
        if not client.publish_refusal(will, False):
            self.publish(will, client.will_is_retained and client.may("RetainPublish", f"topic/{will.topic}"))

    def _store_retained(self):
        """Retained messages belong to the account: they outlive a connection to another endpoint, here a restart."""
        rows = [[m.topic, m.payload.hex(), m.qos] for m in self.retained.values()]
        temporary = self.retained_path.with_suffix(".new")
        temporary.write_text(json.dumps(rows))
        os.replace(temporary, self.retained_path)

    def _load_retained(self):
        if self.retained_path.exists():
            for topic, payload, qos in json.loads(self.retained_path.read_text()):
                self.retained[topic] = Message(topic, bytes.fromhex(payload), qos, {})

    # --- connections

    async def on_connection(self, reader, writer):
        client = Client(self, reader, writer)
        self.connections.add(client)
        try:
            will = await client.run()
        finally:
            self.connections.discard(client)
            if self.clients.get(client.id) is client:
                del self.clients[client.id]
            writer.close()
        if will:
            self.later(self.manners.will_delay_ms, lambda: self.publish_will(client))

    def close_all(self, reason, why):
        for client in list(self.connections):
            client.close(reason, why)

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = self.options.certificates
        context.load_cert_chain(folder / "cert.pem", folder / "private.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["x-amzn-mqtt-ca", "mqtt"])
        context.sni_callback = lambda tls, name, _: setattr(tls, "sni", name)
        return context

    async def run(self):
        server = await asyncio.start_server(self.on_connection, "localhost", self.options.port, ssl=self.tls(), limit=1 << 20,
                                            ssl_shutdown_timeout=1)
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: self.close_all(ADMINISTRATIVE, "administrative action"))
        loop.add_signal_handler(signal.SIGUSR2, self.read_inactive)
        log("aws_broker running")
        await stopped.wait()
        server.close()
        self.close_all(SHUTTING_DOWN, "shutting down")
        await asyncio.sleep(0.05)  # the last packets leave


def main():
    parser = argparse.ArgumentParser(description="A broker with the manners of AWS IoT Core.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificates", type=pathlib.Path, required=True, help="folder of cert.pem, private.key and ca.crt")
    parser.add_argument("--policies", type=pathlib.Path, required=True, help="a JSON file of the policies device, operator and authority")
    parser.add_argument("--operators", default="", help="common names, separated by commas")
    parser.add_argument("--manner", action="append", default=[], metavar="NAME=VALUE")
    asyncio.run(Broker(parser.parse_args()).run())


if __name__ == "__main__":
    main()
