/* SPDX-License-Identifier: ISC */
/*
 * The table of the settings of gotthard-cli, and the checks that involve several values.
 * `tests/generate` writes etc/cli.conf and gotthard-cli.conf(5) from the table.
 */
#include "settings.h"

#include <pwd.h>
#include <stdio.h>

#include "gotthard/signaling/message.h"
#include "gotthard/signaling/topic.h"
#include "known-devices.h"

#define MAIN_RELAY "main"
#define SECOND     1000ull
#define HOUR       (3600 * SECOND)

#define TUNNELS (COMMAND_CONNECT | COMMAND_PROXY | COMMAND_DOCTOR)
#define ENROLS  (COMMAND_ENROLL | COMMAND_ADD)
#define USES_BROKER                                                                     \
    (TUNNELS | COMMAND_DISCONNECT | COMMAND_STATUS | COMMAND_DEVICES | COMMAND_FORGET | \
     COMMAND_ACCESS | COMMAND_REVOKE | ENROLS)

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)

static char login_name[GT_NAME_MAX + 1];

static const struct gt_config_item items[] = {
    ITEM("server.host", HOST, server_host, .flag = "server-host", .commands = TUNNELS | ENROLS,
         .help = "Host of the relay that is called \"main\"."),
    ITEM("server.port", NUMBER, server_port, .flag = "server-port", .commands = TUNNELS | ENROLS,
         .fallback = "7000", .min = 1, .max = 65535, .help = "Main port of that relay."),
    ITEM("server.single_port", BOOL, is_single_port, .flag = "single-port",
         .commands = TUNNELS | COMMAND_ENROLL | COMMAND_JOIN, .fallback = "false",
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
             "Example: alps = \"relay.example.org:7000\"; Operators and devices must use the "
             "same names."),

    ITEM("client.relay", NAME, relay, .flag = "relay", .commands = TUNNELS | ENROLS,
         .fallback = MAIN_RELAY, .help = "Name of the relay at which to meet the device."),
    ITEM("client.name", NAME, client_name, .flag = "client-name",
         .commands = TUNNELS | COMMAND_DISCONNECT | COMMAND_FINGERPRINT | COMMAND_REVOKE | ENROLS,
         .fallback = login_name, .fallback_help = "the login name",
         .help = "Name of this operator.",
         .details = "Devices and their logs know the operator by this name."),
    ITEM("client.devices", STRING, devices,
         .help = "Names of devices that `devices` asks the broker for, one by one.",
         .details =
             "Separated by blanks. Necessary at a broker that sends states only by name (AWS IoT "
             "Core, RabbitMQ). Pinned devices and those seen before are asked for as well."),
    ITEM("client.port", NUMBER, client_port, .flag = "client-port", .commands = COMMAND_CONNECT,
         .fallback = "4444", .max = 65535, .help = "Local port of a tunnel; 0 is any free port.",
         .details =
             "If the default is in use, a free port is used instead. If a port that was set is "
             "in use, the command fails."),
    ITEM("client.share", BOOL, is_shared, .flag = "share", .commands = COMMAND_CONNECT,
         .fallback = "false", .help = "Let every user of this machine use the local port.",
         .details = "Otherwise a connection of another user, except root, is reset. So is one "
                    "whose user the system does not report, as in some containers."),
    ITEM("client.hold", DURATION, hold_ms, .fallback = "60s", .max = 24 * HOUR,
         .help = "Time that a session of `proxy` stays open without a connection.",
         .details =
             "Commands for the same device share one session, which a process in the background "
             "holds. With 0 it ends with its last connection."),
    ITEM("client.shared_idle", DURATION, shared_idle_ms, .fallback = "0s", .max = 24 * HOUR,
         .help = "Idle time until the shared data connection is closed; 0: never.",
         .details =
             "All connections of a tunnel begin in it, without a round trip to the device. The "
             "first one after it was closed takes three round trips more. Set it where each byte "
             "is paid for: the open connection costs about 1 MB a day at each end."),

    ITEM("crypt.key", SECRET, crypt_key, .help = "Key of this operator, or the fleet key.",
         .details =
             "`gotthard-cli keygen operator NAME` derives the operator's key, a string that begins "
             "with gk1o. Prefer it: the fleet key can do more than an operator needs. The fleet "
             "key has 64 hexadecimal digits, as `gotthard-cli keygen` prints them with the salt. "
             "The output of keygen is a valid file for both."),
    ITEM("crypt.iv", SECRET, crypt_iv, .help = "Salt of the fleet, equal on all sides.",
         .details = "It belongs to the fleet key; a key that begins with gk1o does not need it."),
    ITEM("crypt.device_keys", PATH, device_keys,
         .help = "File of the keys of this operator's devices.",
         .details =
             "Necessary with a key for some devices only. Each line has the name of a device and "
             "its key. The output of keygen operator NAME DEVICE... is a valid file for crypt.key "
             "and for this. Other users must not be able to read it."),
    ITEM("crypt.key_previous", SECRET, crypt_key_previous,
         .help = "Key before a rotation, still accepted.",
         .details = "Set it while some devices have the new key and others the old one."),
    ITEM("crypt.device_keys_previous", PATH, device_keys_previous,
         .help = "File of device keys that belongs to crypt.key_previous.",
         .details = "Set it where crypt.key_previous is a key for some devices only."),

    ITEM("mqtt.endpoint", STRING, mqtt_endpoint, .flag = "mqtt-endpoint", .commands = USES_BROKER,
         .help = "The broker: HOST[:PORT], mqtts://HOST[:PORT] or mqtt://HOST[:PORT].",
         .details =
             "Without mqtt:// the connection uses TLS. The default port is 8883, with mqtt:// "
             "1883. ssl:// is the same as mqtts://. MQTT over WebSocket is not supported."),
    ITEM("mqtt.cert_path", PATH, mqtt_cert_path, .env = "GOTTHARD_AWS_CERT_PATH",
         .flag = "cert-path", .commands = USES_BROKER | COMMAND_FINGERPRINT,
         .help = "Folder of private.key, cert.pem and ca.crt.",
         .details = "They authenticate this operator at the broker and at devices."),
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
         .max = HOUR, .help = "MQTT keep-alive interval."),

    ITEM("trust.policy", CHOICE, trust_policy, .fallback = "auto", .choices = "auto psk pin list",
         .help = "How a device proves its identity.",
         .details =
             "psk accepts every holder of the fleet key. pin accepts only certificates that "
             "trust.pins lists. list accepts only devices of the access list that trust.authority "
             "has signed; without a list it accepts none. auto is list if trust.authority is set, "
             "pin if trust.pins is set or the default file exists, else psk. `connect` reports "
             "which one authenticated the device."),
    ITEM("trust.authority", STRING, trust_authority,
         .help = "Public key that signs the access list.",
         .details =
             "A string that begins with gk1a, from `access init`. The broker sends the list, and "
             "commands keep it. The list must then name each device, and the broker must let "
             "this operator subscribe to PREFIX/fleet/access/0, 1 and so on."),
    ITEM("trust.access_max_age", DURATION, access_max_age_ms, .fallback = "0",
         .max = 3650 * 24 * HOUR, .help = "Maximum age of an access list, 0 for any.",
         .details =
             "A list that was issued longer ago proves no device. It limits for how long a broker "
             "that withholds lists can hide that a device was revoked. Set it only if the list is "
             "issued again regularly (`access refresh`)."),
    ITEM("trust.pins", PATH, trust_pins, .fallback = "/etc/gotthard/devices.pins",
         .help = "File of the devices' fingerprints.",
         .details =
             "A path that is set must exist. An empty file denies all. See devices.pins.example."),
    ITEM("trust.authority_key", PATH, trust_authority_key,
         .help = "File of the key that signs the access list.",
         .details =
             "The private key of the fleet's authority, for `access` and `revoke` on one machine. "
             "`access init` makes it. The list is beside it, in a file with .list behind its name. "
             "Other users must not be able to read the key."),

    ITEM("enroll.ca", PATH, enroll_ca, .help = "Folder of the fleet's own certificate authority.",
         .details =
             "It has ca.key and ca.crt, from `ca init` or make-certificate-example. `enroll` signs "
             "the certificates of devices and operators with it, and records them there. Other "
             "users must not be able to read ca.key."),
    ITEM("enroll.sign_command", STRING, enroll_sign_command,
         .help = "Command that signs a certificate request, in place of enroll.ca.",
         .details =
             "For another authority, such as AWS IoT Core. The shell runs it with the request "
             "(PEM) on standard input, and with NAME and KIND (device or operator) in the "
             "environment. It must print the certificate, and its chain behind it (PEM), within a "
             "minute, and end with status 0."),
    ITEM("enroll.validity", DURATION, enroll_validity_ms, .fallback = "3650d", .min = HOUR,
         .max = 7300 * 24 * HOUR, .help = "Validity of the certificates that enroll.ca issues.",
         .details = "A certificate never ends later than the authority itself."),

    ITEM("stream.buffer", SIZE, ring_size, .min = 64 << 10, .max = 64 << 20,
         .fallback_help = "16MiB, or 4MiB on a machine with less than 800MiB of memory",
         .help = "Maximum buffer of one connection in each direction.",
         .details =
             "It bounds the data in flight. A buffer begins with 256KiB, grows on a route "
             "that needs more, and shrinks when the connection is quiet. The connections of "
             "a tunnel together use at most 16 buffers of up to 4MiB, of which two may have the "
             "full size. 4MiB carry 370 Mbit/s over a round trip of 70 ms."),

    ITEM("timeouts.lifetime", DURATION, lifetime_ms, .flag = "lifetime", .commands = TUNNELS,
         .fallback = "12h", .min = SECOND, .max = 7 * 24 * HOUR,
         .help = "Maximum duration of a tunnel."),
    ITEM("timeouts.answer", DURATION, answer_timeout_ms, .flag = "answer-timeout",
         .commands = TUNNELS | COMMAND_DISCONNECT, .fallback = "20s", .min = SECOND,
         .max = 60 * SECOND, .help = "Maximum time for the answer of a device that is online.",
         .details = "Raise it for devices on very slow networks."),
    ITEM("timeouts.peer", DURATION, peer_timeout_ms, .fallback = "30s", .min = SECOND, .max = HOUR,
         .help = "Maximum time to reach the relay, and to wait for the device there.",
         .details = "For a new tunnel. An attempt that fails is repeated meanwhile."),
    ITEM("timeouts.resume_window", DURATION, resume_window_ms, .fallback = "120s", .min = SECOND,
         .max = 24 * HOUR, .help = "Maximum time to wait for a lost relay or device.",
         .details = "Connections of the tunnel are suspended meanwhile and resume afterwards."),
    ITEM("timeouts.vanished", DURATION, vanished_ms, .fallback = "90s", .min = 2 * SECOND,
         .max = HOUR, .help = "Time without an answer of a local program's machine.",
         .details = "A connection of a program on another machine that was switched off, or whose "
                    "network is gone, is reset after this time. A program that reads slowly, or "
                    "not at all, keeps its connection."),
    ITEM("timeouts.linger", DURATION, linger_ms, .fallback = "30s", .min = 100, .max = HOUR,
         .help = "Maximum time for a program to take bytes before a reset.",
         .details = "When the other side resets a connection, the bytes that it sent before are "
                    "delivered first. The time restarts whenever the program reads some."),

    ITEM("log.level", CHOICE, log_level, .flag = "log-level", .fallback = "info",
         .choices = "debug info warn error", .help = "Least severe level that is shown."),
};

static const struct gt_config_group groups[] = {
    {"server", "The relay at which operators and devices meet."},
    {"client", "This operator."},
    {"crypt", "Keys."},
    {"mqtt", "The MQTT broker."},
    {"trust", "Authentication of devices."},
    {"enroll", "Enrolment of devices and operators."},
    {"stream", "Memory."},
    {"timeouts", "Durations."},
    {"log", "Logging to standard error."},
};

void settings_name_of_login(const char *login, char *ret)
{
    size_t n = 0;

    for (; *login && n < GT_NAME_MAX; login++) {
        ret[n] = *login;
        ret[n + 1] = 0;
        if (gt_text_is_name(gt_span(ret, n + 1)))
            n++;
        else if (n > 0)
            ret[n++] = '-';
    }
    ret[n] = 0;
    if (n == 0)
        strcpy(ret, "operator");
}

bool settings_relay(const struct settings *settings, const char *name, struct gt_host_port *ret)
{
    const char *text = gt_config_map_get(&settings->relays, name);

    if (text)
        return gt_text_host_port(text, 0, ret->host, &ret->port) == 0;
    if (strcmp(name, MAIN_RELAY) != 0 || !settings->server_host)
        return false;
    snprintf(ret->host, sizeof(ret->host), "%s", settings->server_host);
    ret->port = (uint16_t)settings->server_port;
    return true;
}

static const char *check_relays(const struct settings *settings, char *ret_why, size_t cap)
{
    for (size_t i = 0; i < settings->relays.n_pairs; i++) {
        const struct gt_config_pair *pair = &settings->relays.pairs[i];
        char host[GT_HOST_MAX + 1];
        uint16_t port;

        if (gt_text_host_port(pair->value, 0, host, &port) == 0 &&
            strlen(pair->name) <= GT_RELAY_NAME_MAX)
            continue;
        snprintf(ret_why, cap, "%.64s = \"%.64s\": expected HOST:PORT, and a name of at most %d",
                 pair->name, pair->value, GT_RELAY_NAME_MAX);
        return "relays";
    }
    if (strlen(settings->relay) <= GT_RELAY_NAME_MAX)
        return NULL;
    snprintf(ret_why, cap, "\"%.64s\": too long, at most %d characters", settings->relay,
             GT_RELAY_NAME_MAX);
    return "client.relay";
}

/* The prefix must leave room for the topics below it. */
static bool is_prefix(const char *prefix)
{
    char longest[GT_NAME_MAX + 1], topic[GT_TOPIC_MAX + 1];

    memset(longest, 'x', sizeof(longest) - 1);
    longest[16] = 0;
    return *prefix && gt_topic_rsp(prefix, longest, longest, topic) == 0;
}

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
    const struct settings *settings = data;
    struct gt_mqtt_url broker;
    char name[GT_NAME_MAX + 1];

    const char *path = settings_broker(settings, &broker, ret_why, cap);
    if (path)
        return path;
    if (!is_prefix(settings->mqtt_prefix)) {
        snprintf(
            ret_why, cap,
            "\"%.64s\" is no topic prefix; '+', '#' and blanks are not allowed, at most 4 levels",
            settings->mqtt_prefix);
        return "mqtt.prefix";
    }
    if (known_devices_check(settings->devices, name)) {
        snprintf(ret_why, cap, "\"%s\" is no name of a device", name);
        return "client.devices";
    }
    return check_relays(settings, ret_why, cap);
}

static const struct gt_config_removed removed[] = {
    {"client.spares", "because all connections begin in a shared one"},
};

const struct gt_config_program *settings_table(void)
{
    static const struct gt_config_program program = {
        .name = "cli",
        .items = items,
        .n_items = GT_ARRAY_SIZE(items),
        .settings_size = sizeof(struct settings),
        .has_home_file = true,
        .check = settings_check,
        .groups = groups,
        .n_groups = GT_ARRAY_SIZE(groups),
        .removed = removed,
        .n_removed = GT_ARRAY_SIZE(removed),
        .manual = "gotthard-cli(1)",
        .usage = "`gotthard-cli config show` prints each value with its origin.",
    };

    return &program;
}

const struct gt_config_program *settings_program(void)
{
    if (!*login_name) {
        const struct passwd *user = getpwuid(getuid());

        settings_name_of_login(user ? user->pw_name : "", login_name);
    }
    return settings_table();
}
