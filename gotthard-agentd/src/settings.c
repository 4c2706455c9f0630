/* SPDX-License-Identifier: ISC */
/*
 * The table of the agent's settings, and the checks that involve several values. `tests/generate`
 * writes etc/agentd.conf and gotthard-agentd.conf(5) from the table.
 */
#include "settings.h"

#include <stdio.h>

#define SECOND 1000ull
#define HOUR   (3600 * SECOND)

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)

static const struct gt_config_item items[] = {
    ITEM("device.name", NAME, device_name, .env = "MACHINE_ID", .flag = "device-name",
         .help = "Name of this device.",
         .details = "Operators use it to connect, and the broker sees it as the MQTT client id. "
                    "Case matters."),
    ITEM("device.tags", MAP, tags, .env = "GOTTHARD_DEVICE_TAGS",
         .help = "Tags of this device, by which operators select devices.",
         .details =
             "Example: tags = { site = \"zurich\"; role = \"gateway\"; }; in a variable "
             "site=zurich,role=gateway. At most 16 tags with 256 characters together: names of "
             "letters, digits, _ and -, values also of . : @ + and /. Operators see them encrypted "
             "in the state of the device, also while it is offline. A reload publishes new ones."),

    ITEM("server.host", HOST, server_host, .flag = "server-host",
         .help = "Host of the relay that is called \"main\"."),
    ITEM("server.port", NUMBER, server_port, .flag = "server-port", .fallback = "7000", .min = 1,
         .max = 65535, .help = "Main port of that relay."),
    ITEM("server.single_port", BOOL, is_single_port, .flag = "single-port", .fallback = "false",
         .help = "Use the relay's main port for data connections as well.",
         .details =
             "Where a firewall blocks the relay's range of ports this is found out within two "
             "seconds; the setting saves them."),

    ITEM("server.proxy", PROXY, server_proxy,
         .standard = "https_proxy HTTPS_PROXY all_proxy ALL_PROXY",
         .fallback_help = "https_proxy or all_proxy",
         .help = "Proxy to the relay: http://[USER@]HOST:PORT, socks5://... or none.",
         .details =
             "Set it where the network lets connections out only through a proxy. The proxy "
             "resolves the relay's name, and must permit CONNECT to server.port; the relay's other "
             "ports are not needed. A user may have a password in the URL, in a file that others "
             "cannot read. Without this setting the variables https_proxy and all_proxy count, "
             "except for a relay that no_proxy lists; none is a direct connection."),
    ITEM("server.proxy_password", SECRET, server_proxy_password,
         .help = "Password of the user of server.proxy."),

    ITEM("relays", MAP, relays, .help = "Further relays by name, each with host and port.",
         .details =
             "Example: alps = \"relay.example.org:7000\"; An operator can choose one of them by "
             "name, and no other relay."),

    ITEM(
        "services", MAP, services,
        .help = "Services for operators by name, each with host and port.",
        .details =
            "Example: web = \"127.0.0.1:80\"; dns = \"udp:127.0.0.1:53\"; The agent connects to nothing else, except as "
            "agent.permit states. If services is not given, ssh is offered at agent.data_host and agent.data_port. If it is given, "
            "ssh needs an entry, or one of those two settings must be given as well. An empty "
            "group offers nothing."),

    ITEM("agent.data_host", HOST, data_host, .flag = "data-host", .fallback = "127.0.0.1",
         .help = "Host of the service ssh; see services."),
    ITEM("agent.data_port", NUMBER, data_port, .flag = "data-port", .fallback = "22", .min = 1,
         .max = 65535, .help = "Port of the service ssh; see services."),
    ITEM(
        "agent.permit", STRING, permit,
        .help = "Targets for operators beyond the services, HOST:PORTS each.",
        .details =
            "Example: permit = \"192.168.1.0/24:80,443 [fd00::/8]:22 plc.local:102\"; Entries are "
            "separated by blanks. A host is a network, an address or a name (*.local: all names "
            "below it), ports are numbers, ranges such as 8000-8010, or *. udp: before a host means UDP. The default is none. "
            "Names are resolved on this device, and the addresses must be permitted, or the name. "
            "Loopback, link-local, multicast, reserved and cloud metadata addresses are not "
            "included in wider networks, and no name leads there: they need an entry inside their "
            "range, such as 127.0.0.1:8080 or localhost:*. The device's own address in a network "
            "is included: 192.168.1.0/24:* reaches what listens there. An operator whose pin lists services needs "
            "the word permit in that list."),
    ITEM("agent.host_keys", PATHS, host_keys, .fallback = "/etc/ssh/ssh_host_*_key.pub",
         .help = "Files of public ssh host keys, separated by blanks.",
         .details =
             "Paths may contain wildcards. The keys reach operators sealed and signed, so that "
             "the first ssh login needs no confirmation of a fingerprint. The shortest keys come "
             "first. Keys that do not fit into an answer of one packet are left out."),
    ITEM("agent.keep_sessions", BOOL, keeps_sessions, .flag = "keep-sessions", .fallback = "false",
         .help = "Leave the sessions open when SIGTERM ends the agent.",
         .details = "Each session is a process of its own. Set this only where the service manager "
                    "ends the agent and none of its other processes, as the shipped unit does with "
                    "KillMode=process. Otherwise, and without a state directory, SIGTERM closes "
                    "the sessions and informs their operators."),

    ITEM("crypt.key", SECRET, crypt_key, .help = "Key of this device, or the fleet key.",
         .details =
             "`gotthard-cli keygen device NAME` derives the device's key, a string that begins "
             "with gk1d. Prefer it: the fleet key can do more than a device needs."),
    ITEM("crypt.iv", SECRET, crypt_iv, .help = "Salt of the fleet, equal on all sides.",
         .details = "It belongs to the fleet key; a key that begins with gk1d does not need it."),
    ITEM("crypt.key_previous", SECRET, crypt_key_previous,
         .help = "Key before a rotation, still accepted.",
         .details = "Set it while some operators have the new key and others the old one."),

    ITEM("mqtt.endpoint", STRING, mqtt_endpoint, .flag = "mqtt-endpoint",
         .help = "The broker: HOST[:PORT], mqtts://HOST[:PORT] or mqtt://HOST[:PORT].",
         .details =
             "Without mqtt:// the connection uses TLS. The default port is 8883, with mqtt:// "
             "1883. ssl:// is the same as mqtts://. MQTT over WebSocket is not supported."),
    ITEM(
        "mqtt.cert_path", PATH, mqtt_cert_path, .env = "GOTTHARD_AWS_CERT_PATH",
        .flag = "cert-path", .help = "Folder of private.key, cert.pem and ca.crt.",
        .details =
            "They authenticate this device at the broker, and sign its answers to operators. A pair "
            "that was renewed there is used within 30 s, when the broker has accepted it."),
    ITEM("mqtt.username", STRING, mqtt_username,
         .help = "User name at the broker, if it needs one."),
    ITEM("mqtt.password", SECRET, mqtt_password, .help = "Password at the broker."),
    ITEM("mqtt.proxy", PROXY, mqtt_proxy, .standard = "all_proxy ALL_PROXY",
         .fallback_help = "all_proxy", .help = "Proxy to the broker: as server.proxy.",
         .details =
             "It resolves the broker's name, and must permit CONNECT to the broker's port. Without "
             "this setting the variable all_proxy counts, except for a broker that no_proxy "
             "lists; none is a direct connection."),
    ITEM("mqtt.proxy_password", SECRET, mqtt_proxy_password,
         .help = "Password of the user of mqtt.proxy."),
    ITEM("mqtt.alpn", STRING, mqtt_alpn,
         .help = "ALPN protocol of the TLS connection to the broker.",
         .details = "Set it if the broker shares a port with another protocol. For AWS IoT Core on "
                    "port 443 it is x-amzn-mqtt-ca without this setting."),
    ITEM("mqtt.version", CHOICE, mqtt_version, .fallback = "auto", .choices = "auto 5 3.1.1",
         .help = "Version of MQTT.",
         .details = "auto is 5, and 3.1.1 at a broker that rejects 5 or does not answer it within "
                    "5 s."),
    ITEM("mqtt.prefix", STRING, mqtt_prefix, .fallback = "gotthard/v1",
         .help = "Prefix of all topics, equal on all sides.",
         .details = "Set it if several fleets share a broker."),
    ITEM("mqtt.keepalive", DURATION, mqtt_keepalive_ms, .fallback = "30s", .min = 5 * SECOND,
         .max = HOUR, .help = "MQTT keep-alive interval.",
         .details = "A longer one costs less data; a lost connection is then noticed later."),
    ITEM("mqtt.reconnect_spread", DURATION, reconnect_spread_ms, .fallback = "40s", .max = HOUR,
         .help = "Time over which the agents of a fleet reconnect to the broker.",
         .details =
             "When the broker closes the connection, the agent waits for a random part of this "
             "time, so that a restarted broker does not get all devices back at once. After "
             "failures the waits grow. There is no such wait when an operator waits for a session, "
             "or when only the network of the device was lost. 40s suits a small broker with 3000 "
             "devices; set 5s with less than 300 devices."),

    ITEM(
        "trust.policy", CHOICE, trust_policy, .fallback = "auto", .choices = "auto psk pin list",
        .help = "How an operator proves who they are.",
        .details =
            "psk accepts every holder of the key under any name. pin accepts only certificates "
            "that trust.pins lists. list accepts only certificates of the access list that trust.authority has "
            "signed; without such a list it accepts none. auto is list if trust.authority is set, pin if trust.pins "
            "is set or the default file exists, else "
            "psk. Set pin on a device that must never accept the key alone."),
    ITEM(
        "trust.authority", STRING, trust_authority,
        .help = "Public key that signs the access list.",
        .details =
            "A string that begins with gk1a. The fleet's authority signs the access list, which states the rights of all operators on all devices. The broker sends the "
            "list, and the agent keeps it in its state directory. A list that revokes an operator ends the sessions of "
            "this operator at once. The broker must let the device subscribe to PREFIX/fleet/access/0, 1 and so on."),
    ITEM(
        "trust.access_max_age", DURATION, access_max_age_ms, .fallback = "0",
        .max = 3650 * 24 * HOUR, .help = "Maximum age of an access list, 0 for any.",
        .details =
            "A list that was issued longer ago grants nothing, and ends sessions within 30 s. It limits for how long a "
            "broker that withholds lists can delay a revocation. The authority must issue the list again "
            "before that time is over, so set it only if that is done regularly."),
    ITEM(
        "trust.pins", PATH, trust_pins, .fallback = "/etc/gotthard/operators.pins",
        .help = "File of the operators' fingerprints.",
        .details =
            "A path that is set must exist. An empty file denies all. See operators.pins.example."),

    ITEM("limits.sessions", NUMBER, sessions_max, .fallback = "32", .min = 1, .max = 1000,
         .help = "Maximum number of open tunnels.",
         .details = "An open tunnel takes about 2 MiB of memory and two processes."),
    ITEM("limits.sessions_per_operator", NUMBER, per_operator_max, .fallback = "16", .min = 1,
         .max = 1000, .help = "Maximum number of open tunnels of one operator.",
         .details = "Each ssh over ProxyCommand has a tunnel of its own."),
    ITEM("limits.streams", NUMBER, streams_max, .fallback = "1024", .min = 1,
         .max = SETTINGS_STREAMS_MAX, .help = "Maximum number of connections in one tunnel.",
         .details = "Each takes a file descriptor at either end, and up to 256 KiB of memory while "
                    "data waits in it. Lower it on a device with little of both."),

    ITEM("stream.buffer", SIZE, stream_buffer, .min = 64 << 10, .max = 64 << 20,
         .fallback_help = "16MiB, or 4MiB on a machine with less than 800MiB of memory",
         .help = "Maximum buffer of one connection in each direction.",
         .details =
             "It bounds the data in flight. A buffer begins with 256KiB, grows on a route "
             "that needs more, and shrinks when the connection is quiet. The connections of a "
             "session together use at most 16 buffers of up to 4MiB, of which two may have the "
             "full size. 4MiB carry 370 Mbit/s over a round trip of 70 ms. Set 1MiB on a device "
             "with little memory."),

    ITEM("timeouts.lifetime", DURATION, lifetime_ms, .fallback = "12h", .min = SECOND,
         .max = 7 * 24 * HOUR, .help = "Maximum duration of a tunnel."),
    ITEM("timeouts.dial", DURATION, dial_timeout_ms, .fallback = "10s", .min = 100,
         .max = 120 * SECOND, .help = "Maximum time for a service to accept a connection."),
    ITEM("timeouts.peer", DURATION, peer_timeout_ms, .fallback = "30s", .min = SECOND, .max = HOUR,
         .help = "Maximum time to reach the relay, and to await the operator there.",
         .details = "For a new session. An attempt that fails is repeated meanwhile, and the "
                    "operator reads why it failed."),
    ITEM("timeouts.resume_window", DURATION, resume_window_ms, .fallback = "120s", .min = SECOND,
         .max = 24 * HOUR, .help = "Maximum time to wait for a lost relay or operator.",
         .details = "Connections of the tunnel are suspended meanwhile and resume afterwards."),
    ITEM("timeouts.vanished", DURATION, vanished_ms, .fallback = "90s", .min = 2 * SECOND,
         .max = HOUR, .help = "Time without an answer of a service's machine.",
         .details = "A connection to a service whose machine was switched off, or whose network is "
                    "gone, is reset after this time. A service that reads slowly, or not at all, "
                    "keeps its connection."),
    ITEM("timeouts.linger", DURATION, linger_ms, .fallback = "30s", .min = 100, .max = HOUR,
         .help = "Maximum time for a program to take bytes before a reset.",
         .details = "When the other side resets a connection, the bytes that it sent before are "
                    "delivered first. The time restarts whenever the program reads some."),

    ITEM("log.level", CHOICE, log_level, .flag = "log-level", .fallback = "info",
         .choices = "debug info warn error", .help = "Least severe level that is logged."),
};

static const struct gt_config_group groups[] = {
    {"device", "This device."},
    {"server", "The relay at which this device and its operators meet."},
    {"agent", "The service ssh, further targets, and the end of the agent."},
    {"crypt", "Keys."},
    {"mqtt", "The MQTT broker."},
    {"trust", "Authentication of operators."},
    {"limits", "Amounts."},
    {"stream", "Memory."},
    {"timeouts", "Durations."},
    {"log", "Logging to standard error."},
};

const char *settings_broker(const struct settings *settings, struct gt_mqtt_url *ret, char *ret_why,
                            size_t cap)
{
    const struct gt_mqtt_options options = {
        .endpoint = settings->mqtt_endpoint,
        .alpn = settings->mqtt_alpn,
        .username = settings->mqtt_username,
        .password = settings->mqtt_password,
    };

    return gt_mqtt_options_check(&options, ret, ret_why, cap);
}

static const char *settings_check(const void *data, char *ret_why, size_t cap)
{
    const struct settings *s = data;
    struct gt_mqtt_url broker;

    if (!s->device_name) {
        snprintf(ret_why, cap, "missing; set {+device.name}");
        return "device.name";
    }
    if (!gt_text_is_device_name(gt_span_text(s->device_name))) {
        snprintf(ret_why, cap, "\"%.64s\": no device may have a name that begins with %s",
                 s->device_name, GT_TEXT_RESERVED);
        return "device.name";
    }
    if (!s->crypt_key) {
        snprintf(ret_why, cap, "missing; set {+crypt.key}");
        return "crypt.key";
    }
    if (!s->mqtt_endpoint) {
        snprintf(ret_why, cap, "missing; set {+mqtt.endpoint}");
        return "mqtt.endpoint";
    }
    if (!s->server_host && s->relays.n_pairs == 0) {
        snprintf(ret_why, cap, "missing; set {+server.host}");
        return "server.host";
    }
    return settings_broker(s, &broker, ret_why, cap);
}

const struct gt_config_program *settings_program(void)
{
    static const struct gt_config_program program = {
        .name = "agentd",
        .items = items,
        .n_items = GT_ARRAY_SIZE(items),
        .settings_size = sizeof(struct settings),
        .check = settings_check,
        .groups = groups,
        .n_groups = GT_ARRAY_SIZE(groups),
        .manual = "gotthard-agentd(8)",
        .usage =
            "`gotthard-agentd --check-config` prints each value with its origin. `systemctl "
            "reload gotthard-agentd` applies a changed configuration, or rejects it as a whole "
            "if it contains an error.",
    };

    return &program;
}
