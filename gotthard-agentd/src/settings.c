/* SPDX-License-Identifier: ISC */
/*
 * The table of all that agentd can be told, and the checks that no single value can make.
 * etc/agentd.conf shows every row at its default (a test compares them); the man page and
 * --check-config are made of it too.
 */
#include "settings.h"

#include <stdio.h>

#include "gotthard/endpoint.h"

#define SECOND 1000ull
#define HOUR   (3600 * SECOND)

#define AT(member) offsetof(struct settings, member)

static const struct gt_config_item items[] = {
    {"server.host", "GOTTHARD_SERVER_HOST", "server-host", GT_CONFIG_HOST, AT(server_host), NULL, 0,
     0, NULL, "The relay's host: the relay called \"main\"."},
    {"server.port", "GOTTHARD_SERVER_PORT", "server-port", GT_CONFIG_NUMBER, AT(server_port),
     "7000", 1, 65535, NULL, "The relay's port."},
    {"server.single_port", "GOTTHARD_SERVER_SINGLE_PORT", "single-port", GT_CONFIG_BOOL,
     AT(is_single_port), "false", 0, 0, NULL,
     "Use the relay's main port for data too, where the network lets one port out only."},
    {"relays", NULL, NULL, GT_CONFIG_MAP, AT(relays), NULL, 0, 0, NULL,
     "More relays by name, host:port: the only ones an operator can name."},
    {"crypt.key", "GOTTHARD_CRYPT_KEY", NULL, GT_CONFIG_SECRET, AT(crypt_key), NULL, 0, 0, NULL,
     "This device's key (gk1d...., from `gotthard-cli keygen device NAME`), or the fleet's."},
    {"crypt.iv", "GOTTHARD_CRYPT_IV", NULL, GT_CONFIG_SECRET, AT(crypt_iv), NULL, 0, 0, NULL,
     "The fleet's public salt; not needed with a gk1d key."},
    {"crypt.key_previous", "GOTTHARD_CRYPT_KEY_PREVIOUS", NULL, GT_CONFIG_SECRET,
     AT(crypt_key_previous), NULL, 0, 0, NULL, "The key before a rotation; still accepted."},
    {"mqtt.endpoint", "GOTTHARD_MQTT_ENDPOINT", "mqtt-endpoint", GT_CONFIG_STRING,
     AT(mqtt_endpoint), NULL, 0, 0, NULL, "The broker: host, host:port, mqtts://... or mqtt://..."},
    {"mqtt.cert_path", "GOTTHARD_AWS_CERT_PATH", "cert-path", GT_CONFIG_PATH, AT(mqtt_cert_path),
     NULL, 0, 0, NULL, "The folder of private.key, cert.pem and ca.crt."},
    {"mqtt.username", "GOTTHARD_MQTT_USERNAME", NULL, GT_CONFIG_STRING, AT(mqtt_username), NULL, 0,
     0, NULL, "The user name at the broker, where it asks for one."},
    {"mqtt.password", "GOTTHARD_MQTT_PASSWORD", NULL, GT_CONFIG_SECRET, AT(mqtt_password), NULL, 0,
     0, NULL, "The password at the broker."},
    {"mqtt.prefix", "GOTTHARD_MQTT_PREFIX", NULL, GT_CONFIG_STRING, AT(mqtt_prefix), "gotthard/v1",
     0, 0, NULL, "What all topics begin with, equal on all sides."},
    {"mqtt.keepalive", "GOTTHARD_MQTT_KEEPALIVE", NULL, GT_CONFIG_DURATION, AT(mqtt_keepalive_ms),
     "30s", 5 * SECOND, HOUR, NULL, "How often a silent connection to the broker is checked."},
    {"device.name", "MACHINE_ID", "device-name", GT_CONFIG_NAME, AT(device_name), NULL, 0, 0, NULL,
     "This device's name; its client id at the broker, exactly."},
    {"services", NULL, NULL, GT_CONFIG_MAP, AT(services), NULL, 0, 0, NULL,
     "What operators can reach, by name, host:port. Nothing else is ever dialled."},
    {"agent.data_host", "GOTTHARD_AGENT_DATA_HOST", "data-host", GT_CONFIG_HOST, AT(data_host),
     "127.0.0.1", 0, 0, NULL, "The host of the service ssh, unless `services` has one."},
    {"agent.data_port", "GOTTHARD_AGENT_DATA_PORT", "data-port", GT_CONFIG_NUMBER, AT(data_port),
     "22", 1, 65535, NULL, "The port of the service ssh, unless `services` has one."},
    {"agent.host_keys", "GOTTHARD_AGENT_HOST_KEYS", NULL, GT_CONFIG_STRING, AT(host_keys),
     "/etc/ssh/ssh_host_*_key.pub", 0, 0, NULL,
     "Public ssh host keys to vouch for to operators: paths and patterns, with blanks between."},
    {"trust.policy", "GOTTHARD_TRUST_POLICY", NULL, GT_CONFIG_CHOICE, AT(trust_policy), "auto", 0,
     0, "auto psk pin",
     "Whom to believe that he is an operator: psk (who has the key), pin (who is in trust.pins), "
     "auto (pin where that file exists)."},
    {"trust.pins", "GOTTHARD_TRUST_PINS", NULL, GT_CONFIG_PATH, AT(trust_pins),
     "/etc/gotthard/operators.pins", 0, 0, NULL,
     "The file of the operators' fingerprints; an empty one denies all."},
    {"limits.sessions", "GOTTHARD_LIMIT_SESSIONS", NULL, GT_CONFIG_NUMBER, AT(sessions_max), "8", 1,
     1000, NULL, "Tunnels open at the same time."},
    {"limits.per_operator", "GOTTHARD_LIMIT_PER_OPERATOR", NULL, GT_CONFIG_NUMBER,
     AT(per_operator_max), "2", 1, 1000, NULL, "Of those, tunnels of one operator."},
    {"limits.streams", "GOTTHARD_LIMIT_STREAMS", NULL, GT_CONFIG_NUMBER, AT(streams_max), "64", 1,
     1024, NULL, "Connections in one tunnel."},
    {"limits.lifetime", "GOTTHARD_LIMIT_LIFETIME", NULL, GT_CONFIG_DURATION, AT(lifetime_ms), "12h",
     SECOND, 7 * 24 * HOUR, NULL, "The longest that a tunnel lasts."},
    {"limits.dial_timeout", "GOTTHARD_DIAL_TIMEOUT", NULL, GT_CONFIG_DURATION, AT(dial_timeout_ms),
     "10s", 100, 120 * SECOND, NULL, "How long a service may take to accept a connection."},
    {"limits.peer_timeout", "GOTTHARD_PEER_TIMEOUT", NULL, GT_CONFIG_DURATION, AT(peer_timeout_ms),
     "30s", SECOND, HOUR, NULL, "How long an operator may take to come to the relay."},
    {"resume_window", "GOTTHARD_RESUME_WINDOW", NULL, GT_CONFIG_DURATION, AT(resume_window_ms),
     "120s", SECOND, 24 * HOUR, NULL,
     "How long a tunnel without its relay or its operator waits before it is given up."},
    {"stream.buffer", "GOTTHARD_STREAM_BUFFER", NULL, GT_CONFIG_SIZE, AT(stream_buffer), "4MiB",
     64 << 10, 64 << 20, NULL,
     "Memory of one connection in each direction, at most; sixteen times that of a session."},
    {"log.level", "GOTTHARD_LOG_LEVEL", "log-level", GT_CONFIG_CHOICE, AT(log_level), "info", 0, 0,
     "debug info warn error", "The least important lines to write."},
};

static const char *settings_check(const void *data, char *ret_why, size_t cap)
{
    const struct settings *s = data;
    struct gt_endpoint endpoint;

    if (!s->device_name) {
        snprintf(ret_why, cap, "the device has no name: set MACHINE_ID or device.name");
        return "device.name";
    }
    if (!s->crypt_key) {
        snprintf(ret_why, cap,
                 "there is no key: set GOTTHARD_CRYPT_KEY, GOTTHARD_CRYPT_KEY_FILE or "
                 "crypt.key_file");
        return "crypt.key";
    }
    if (!s->mqtt_endpoint) {
        snprintf(ret_why, cap, "there is no broker: set GOTTHARD_MQTT_ENDPOINT or mqtt.endpoint");
        return "mqtt.endpoint";
    }
    if (gt_endpoint_parse(s->mqtt_endpoint, &endpoint) != 0) {
        snprintf(ret_why, cap, "not host, host:port, mqtts://host or mqtt://host");
        return "mqtt.endpoint";
    }
    if (!s->server_host && s->relays.n_pairs == 0) {
        snprintf(ret_why, cap, "there is no relay: set GOTTHARD_SERVER_HOST or server.host");
        return "server.host";
    }
    if (s->mqtt_password && !s->mqtt_username) {
        snprintf(ret_why, cap, "a password needs a user name: set mqtt.username");
        return "mqtt.password";
    }
    return NULL;
}

const struct gt_config_program settings_program = {
    .name = "agentd",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
    .check = settings_check,
};
