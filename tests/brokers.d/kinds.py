# SPDX-License-Identifier: ISC
"""The brokers: the pinned version of each, the way to fetch it, and the way to start one node of it.

A node serves MQTT over TLS on a private port of 127.0.0.1 with the certificates of the harness, keeps its data in a folder of
the run, and is ended by its pid. Restarting a node means to stop the process and to call its start function again. All
settings that a start function does not name are the broker's own defaults.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import typing

import fetch
import harness

HERE = pathlib.Path(__file__).resolve().parent
STORE = fetch.Store(fetch.cache("brokers"))
PASSWORD = "private"  # of the Java brokers' stores of keys, which are as private as the folder of the run
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
N_PORTS = 3  # of a node


@dataclasses.dataclass
class Kind:
    name: str
    source: str  # where the package comes from
    version: str
    fetch: typing.Callable  # (version) -> the program's folder, or the version found (Debian)
    start: typing.Callable  # (Nodes, index) -> harness.Process
    n_nodes: int = 1
    states: str = "all"  # retained messages for a subscriber: "all", "by name" (not through a wildcard), or "none"
    fails: tuple = ()  # steps, or "STEP 3.1.1", that the broker's own limits prevent (docs/brokers.md)


class Nodes:
    """The nodes of one broker in one run."""

    def __init__(self, env, kind, program):
        self.env, self.kind, self.program = env, kind, program
        self.certificates = env.certificates("broker")
        self.first_port = harness.free_ports(N_PORTS * kind.n_nodes)
        self.processes = [None] * kind.n_nodes

    def port(self, index, which=0):
        """Port 0 of a node is the one for MQTT."""
        return self.first_port + N_PORTS * index + which

    def folder(self, index):
        folder = self.env.folder / f"node-{index}"
        folder.mkdir(exist_ok=True)
        return folder

    def write(self, index, name, text):
        path = self.folder(index) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def spawn(self, index, *argv, **variables):
        env = {**harness.clean_environment(), **{name: str(value) for name, value in variables.items()}}
        return harness.Process(self.env, self.env.unique(f"broker-{index}"), argv, env=env)

    def start(self, index):
        process = self.processes[index] = self.kind.start(self, index)
        harness.wait_until(lambda: harness.is_listening(self.port(index)) or not process.is_running(),
                           f"{self.kind.name} listens", limit=120)
        assert process.is_running(), f"{self.kind.name} ended: {(process.log() + process.out()).strip()[-400:]}"

    def stop(self, index):
        self.processes[index].stop(limit=60)

    def endpoint(self, index):
        return f"localhost:{self.port(index % self.kind.n_nodes)}"


# --- mosquitto ------------------------------------------------------------------------------------


def mosquitto(extra):
    def start(nodes, index):
        nodes.env.broker_port = nodes.port(index)
        return nodes.env.broker(extra=extra)

    return start


# --- Go -------------------------------------------------------------------------------------------


def start_mochi(nodes, index):
    return nodes.spawn(index, nodes.program / "cmd", "-tcp", f"127.0.0.1:{nodes.port(index)}", "-ws", f"127.0.0.1:{nodes.port(index, 1)}",
                       "-info", f"127.0.0.1:{nodes.port(index, 2)}", "-tls-cert-file", nodes.certificates / "cert.pem",
                       "-tls-key-file", nodes.certificates / "private.key")


def nats_cluster(nodes, index):
    if nodes.kind.n_nodes == 1:
        return ""
    routes = ", ".join(f'"nats://127.0.0.1:{nodes.port(i, 2)}"' for i in range(nodes.kind.n_nodes))
    return f'cluster {{ name: "gotthard", listen: "127.0.0.1:{nodes.port(index, 2)}", routes: [{routes}] }}'


def start_nats(nodes, index):
    config = nodes.write(index, "nats.conf", f"""\
server_name: "node-{index}"
listen: "127.0.0.1:{nodes.port(index, 1)}"
jetstream {{ store_dir: "{nodes.folder(index)}/jetstream" }}
mqtt {{
  listen: "127.0.0.1:{nodes.port(index)}"
  tls {{
    cert_file: "{nodes.certificates}/cert.pem"
    key_file: "{nodes.certificates}/private.key"
    ca_file: "{nodes.certificates}/ca.crt"
    verify: true
  }}
}}
{nats_cluster(nodes, index)}
""")
    return nodes.spawn(index, nodes.program / "nats-server", "-c", config)


# --- JavaScript, Python, Rust ---------------------------------------------------------------------


def start_aedes(nodes, index):
    script = nodes.program / "aedes.mjs"  # beside the package, which it imports
    shutil.copy(HERE / "aedes.mjs", script)
    return nodes.spawn(index, "node", script, nodes.port(index), nodes.certificates)


def start_amqtt(nodes, index):
    config = nodes.write(index, "amqtt.yaml", f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{nodes.port(index)}
    ssl: true
    cafile: {nodes.certificates}/ca.crt
    certfile: {nodes.certificates}/cert.pem
    keyfile: {nodes.certificates}/private.key
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
""")
    return nodes.spawn(index, nodes.program / "bin" / "amqtt", "-c", config)


def rumqttd(section):
    """A listener of rumqttd serves one version of MQTT: "v4" is 3.1.1, "v5" is 5."""
    def start(nodes, index):
        config = nodes.write(index, "rumqttd.toml", f"""\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[{section}.1]
name = "mqtt"
listen = "127.0.0.1:{nodes.port(index)}"
next_connection_delay_ms = 1
[{section}.1.tls]
certpath = "{nodes.certificates}/cert.pem"
keypath = "{nodes.certificates}/private.key"
capath = "{nodes.certificates}/ca.crt"
[{section}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20480
max_inflight_count = 100
dynamic_filters = true
""")
        return nodes.spawn(index, nodes.program / "rumqttd", "-c", config)

    return start


# --- Java -----------------------------------------------------------------------------------------


def java_stores(nodes, index):
    """Returns the broker's key and the trusted authority as PKCS #12."""
    keys, trust = (nodes.folder(index) / name for name in ("keys.p12", "trust.p12"))
    if not keys.exists():
        certs = nodes.certificates
        for argv in (
            ["openssl", "pkcs12", "-export", "-in", certs / "cert.pem", "-inkey", certs / "private.key", "-certfile", certs / "ca.crt",
             "-name", "broker", "-out", keys, "-passout", f"pass:{PASSWORD}"],
            ["keytool", "-importcert", "-noprompt", "-alias", "authority", "-file", certs / "ca.crt", "-keystore", trust,
             "-storetype", "PKCS12", "-storepass", PASSWORD]):
            subprocess.run(list(map(str, argv)), check=True, capture_output=True)
    return keys, trust


def class_path(nodes):
    return nodes.program / "lib" / "*"


def start_hivemq(nodes, index):
    keys, trust = java_stores(nodes, index)
    nodes.write(index, "conf/config.xml", f"""\
<hivemq>
  <listeners><tls-tcp-listener>
    <port>{nodes.port(index)}</port><bind-address>127.0.0.1</bind-address>
    <tls>
      <keystore><path>{keys}</path><password>{PASSWORD}</password><private-key-password>{PASSWORD}</private-key-password></keystore>
      <truststore><path>{trust}</path><password>{PASSWORD}</password></truststore>
      <client-authentication-mode>REQUIRED</client-authentication-mode>
    </tls>
  </tls-tcp-listener></listeners>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
""")
    for name in ("data", "extensions"):
        (nodes.folder(index) / name).mkdir(exist_ok=True)
    return nodes.spawn(index, *JAVA, "-cp", class_path(nodes), HERE / "HiveMq.java", nodes.folder(index))


def start_artemis(nodes, index):
    keys, trust = java_stores(nodes, index)
    nodes.write(index, "etc/broker.xml", f"""\
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <security-enabled>false</security-enabled>
  <journal-type>NIO</journal-type>
  <bindings-directory>{nodes.folder(index)}/bindings</bindings-directory>
  <journal-directory>{nodes.folder(index)}/journal</journal-directory>
  <large-messages-directory>{nodes.folder(index)}/large</large-messages-directory>
  <paging-directory>{nodes.folder(index)}/paging</paging-directory>
  <acceptors><acceptor name="mqtt">tcp://127.0.0.1:{nodes.port(index)}?protocols=MQTT;sslEnabled=true;needClientAuth=true;\
keyStorePath={keys};keyStorePassword={PASSWORD};keyStoreType=PKCS12;\
trustStorePath={trust};trustStorePassword={PASSWORD};trustStoreType=PKCS12</acceptor></acceptors>
</core></configuration>
""")
    return nodes.spawn(index, *JAVA, "-cp", class_path(nodes),
                       "org.apache.activemq.artemis.core.server.embedded.Main", nodes.folder(index))


def start_moquette(nodes, index):
    keys, _ = java_stores(nodes, index)
    nodes.write(index, "config/moquette.conf", f"""\
host 127.0.0.1
port disabled
ssl_port {nodes.port(index)}
jks_path {keys}
key_store_type PKCS12
key_store_password {PASSWORD}
key_manager_password {PASSWORD}
allow_anonymous true
data_path {nodes.folder(index)}
telemetry_enabled false
""")
    return nodes.spawn(index, *JAVA, f"-Dmoquette.path={nodes.folder(index)}", "-cp", class_path(nodes), "io.moquette.broker.Server")


# --- RabbitMQ -------------------------------------------------------------------------------------


def rabbitmq_home():
    for root in (pathlib.Path("/"), STORE.debian):
        found = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        if found:
            return root, found[-1]
    raise fetch.Unavailable("the package rabbitmq-server has no server in it")


def erlang(nodes, index):
    """Writes an `erl` for an Erlang outside of /usr. Returns its folder, and the folder of Erlang's programs."""
    home = next(root / "usr/lib/erlang" for root in (pathlib.Path("/"), STORE.debian) if (root / "usr/lib/erlang/bin").exists())
    programs = next(home.glob("erts-*")) / "bin"
    erl = nodes.write(index, "bin/erl", f"""\
#!/bin/sh
ROOTDIR={home} BINDIR={programs} EMU=beam PROGNAME=erl exec {programs}/erlexec "$@"
""")
    erl.chmod(0o755)
    return erl.parent, programs


def start_rabbitmq(nodes, index):
    """A private node: its own port mapper (epmd), cookie, data and log."""
    _, home = rabbitmq_home()
    folder, (bin_folder, programs) = nodes.folder(index), erlang(nodes, index)
    config = nodes.write(index, "rabbitmq.conf", f"""\
listeners.tcp = none
mqtt.listeners.tcp = none
mqtt.listeners.ssl.1 = 127.0.0.1:{nodes.port(index)}
ssl_options.cacertfile = {nodes.certificates}/ca.crt
ssl_options.certfile = {nodes.certificates}/cert.pem
ssl_options.keyfile = {nodes.certificates}/private.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
""")
    plugins = nodes.write(index, "enabled_plugins", "[rabbitmq_mqtt].\n")
    mapper, distribution = nodes.port(index, 1), nodes.port(index, 2)
    if not harness.is_listening(mapper):
        nodes.spawn(index, programs / "epmd", "-port", mapper, "-address", "127.0.0.1")
        harness.wait_until(lambda: harness.is_listening(mapper), "Erlang's port mapper listens")
    return nodes.spawn(
        index, home / "sbin" / "rabbitmq-server", HOME=folder, PATH=f"{bin_folder}:{os.environ['PATH']}", ERL_EPMD_PORT=mapper,
        RABBITMQ_NODENAME="gotthard@localhost", RABBITMQ_DIST_PORT=distribution, RABBITMQ_CONFIG_FILE=config,
        RABBITMQ_CONF_ENV_FILE="/dev/null", RABBITMQ_ENABLED_PLUGINS_FILE=plugins, RABBITMQ_MNESIA_BASE=folder / "data",
        RABBITMQ_LOG_BASE=folder / "log", RABBITMQ_LOGS="-", RABBITMQ_ALLOW_INPUT="1",
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1} +S 1:1")


# --- the table ------------------------------------------------------------------------------------


def npm(package):
    return lambda version: STORE.from_npm(package, version)


def pip(package):
    return lambda version: STORE.from_pip(package, version)


def cargo(crate):
    return lambda version: STORE.from_cargo(crate, version)


def debian(package):
    return lambda _: STORE.from_debian(package)


def go(name, module, command=""):
    return lambda version: STORE.from_go(name, module, version, command)


def maven(name, *artifacts):
    """Artifacts without a version have the one of the broker."""
    return lambda version: STORE.from_maven(name, *(a if a.count(":") > 1 else f"{a}:{version}" for a in artifacts))


MOCHI, NATS = "github.com/mochi-mqtt/server/v2", "github.com/nats-io/nats-server/v2"
HIVEMQ, ARTEMIS, MOQUETTE = "com.hivemq:hivemq-community-edition-embedded", "org.apache.activemq:artemis-server", "io.moquette:moquette-broker"
ARTEMIS_MORE = ("org.apache.activemq:artemis-mqtt-protocol", "org.slf4j:slf4j-simple:2.0.17")

KINDS = {kind.name: kind for kind in (
    Kind("mosquitto", "Debian", "", debian("mosquitto"), mosquitto("")),
    Kind("mosquitto-no-retain", "Debian", "", debian("mosquitto"), mosquitto("retain_available false\n"), states="none",
         fails=("online 3.1.1",)),
    Kind("aedes", "npm", "1.2.0", npm("aedes"), start_aedes),
    Kind("mochi", "Go", "v2.7.9", go("mochi", MOCHI, "/cmd"), start_mochi),
    Kind("nats", "Go", "v2.15.2", go("nats", NATS), start_nats),
    Kind("nats-cluster", "Go", "v2.15.2", go("nats", NATS), start_nats, n_nodes=3),
    Kind("hivemq", "Maven", "2025.5", maven("hivemq-ce", HIVEMQ), start_hivemq),
    Kind("artemis", "Maven", "2.40.0", maven("artemis", ARTEMIS, *ARTEMIS_MORE), start_artemis),
    Kind("rabbitmq", "Debian", "", debian("rabbitmq-server"), start_rabbitmq, states="by name"),
    Kind("moquette", "Maven", "0.17", maven("moquette", MOQUETTE), start_moquette, fails=("kill -9",)),
    Kind("amqtt", "pip", "0.12.1", pip("amqtt"), start_amqtt, fails=("two of a name",)),
    Kind("rumqttd-v4", "cargo", "0.20.0", cargo("rumqttd"), rumqttd("v4")),
    Kind("rumqttd-v5", "cargo", "0.20.0", cargo("rumqttd"), rumqttd("v5")),
)}
