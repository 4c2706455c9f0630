/* SPDX-License-Identifier: ISC */
/*
 * The table of agentd's settings, and the checks that no single value can pass or fail by itself.
 */
#include "settings.h"

#include <stdio.h>
#include <strings.h>

#include "gotthard/endpoint.h"

#define MEMBER(member) offsetof(struct settings, member)

static const struct gt_config_item items[] = {
    {.path = "server.host",
     .env = "GOTTHARD_SERVER_HOST",
     .flag = "server-host",
     .type = GT_CONFIG_HOST,
     .offset = MEMBER(server_host),
     .help = "The relay's host: the relay called \"main\"."},
    {.path = "server.port",
     .env = "GOTTHARD_SERVER_PORT",
     .flag = "server-port",
     .type = GT_CONFIG_NUMBER,
     .offset = MEMBER(server_port),
     .fallback = "7000",
     .min = 1,
     .max = 65535,
     .help = "Its port."},
    {.path = "server.single_port",
     .flag = "single-port",
     .type = GT_CONFIG_BOOL,
     .offset = MEMBER(is_single_port),
     .fallback = "false",
     .help =
         "Send data connections to the relay's main port too, for networks that let one port out."},
    {.path = "relays",
     .type = GT_CONFIG_MAP,
     .offset = MEMBER(relays),
     .help =
         "More relays, by name: the only places besides server.host that an operator can name."},

    {.path = "crypt.key",
     .env = "GOTTHARD_CRYPT_KEY",
     .type = GT_CONFIG_SECRET,
     .offset = MEMBER(crypt_key),
     .help =
         "The key: this device's own (gk1d...., from `gotthard-cli keygen device NAME`) or the fleet's."},
    {.path = "crypt.iv",
     .env = "GOTTHARD_CRYPT_IV",
     .type = GT_CONFIG_STRING,
     .offset = MEMBER(crypt_iv),
     .help = "The fleet's public salt; needed with the fleet's key only."},
    {.path = "crypt.key_previous",
     .env = "GOTTHARD_CRYPT_KEY_PREVIOUS",
     .type = GT_CONFIG_SECRET,
     .offset = MEMBER(crypt_key_previous),
     .help = "The key before a rotation: messages sealed with it are still opened."},

    {.path = "mqtt.endpoint",
     .env = "GOTTHARD_MQTT_ENDPOINT",
     .flag = "mqtt-endpoint",
     .type = GT_CONFIG_STRING,
     .offset = MEMBER(mqtt_endpoint),
     .help = "The broker: host, host:port or mqtts://host:port; mqtt://host:port is without TLS."},
    {.path = "mqtt.cert_path",
     .env = "GOTTHARD_AWS_CERT_PATH",
     .flag = "cert-path",
     .type = GT_CONFIG_PATH,
     .offset = MEMBER(mqtt_cert_path),
     .help = "The folder of private.key, cert.pem and ca.crt, for the broker and for signatures."},
    {.path = "mqtt.username",
     .env = "GOTTHARD_MQTT_USERNAME",
     .flag = "mqtt-username",
     .type = GT_CONFIG_STRING,
     .offset = MEMBER(mqtt_username),
     .help = "A user name, for brokers that ask for one."},
    {.path = "mqtt.password",
     .env = "GOTTHARD_MQTT_PASSWORD",
     .type = GT_CONFIG_SECRET,
     .offset = MEMBER(mqtt_password),
     .help = "Its password."},
    {.path = "mqtt.prefix",
     .env = "GOTTHARD_MQTT_PREFIX",
     .flag = "mqtt-prefix",
     .type = GT_CONFIG_STRING,
     .offset = MEMBER(mqtt_prefix),
     .fallback = "gotthard/v1",
     .help = "What all topics begin with."},
    {.path = "mqtt.keepalive",
     .type = GT_CONFIG_DURATION,
     .offset = MEMBER(mqtt_keepalive_ms),
     .fallback = "30s",
     .min = 5000,
     .max = 3600000,
     .help = "How often the broker is asked whether it is there."},

    {.path = "device.name",
     .env = "MACHINE_ID",
     .flag = "device-name",
     .type = GT_CONFIG_NAME,
     .offset = MEMBER(device_name),
     .help = "This device's name, and its MQTT client id exactly."},

    {.path = "services",
     .type = GT_CONFIG_MAP,
     .offset = MEMBER(services),
     .help =
         "What operators can reach, by name: web = \"127.0.0.1:80\". Nothing else is ever dialled."},
    {.path = "agent.data_host",
     .env = "GOTTHARD_AGENT_DATA_HOST",
     .flag = "data-host",
     .type = GT_CONFIG_HOST,
     .offset = MEMBER(data_host),
     .fallback = "127.0.0.1",
     .help = "The host of the service \"ssh\", unless `services` has one of that name."},
    {.path = "agent.data_port",
     .env = "GOTTHARD_AGENT_DATA_PORT",
     .flag = "data-port",
     .type = GT_CONFIG_NUMBER,
     .offset = MEMBER(data_port),
     .fallback = "22",
     .min = 1,
     .max = 65535,
     .help = "Its port."},
    {.path = "agent.host_keys",
     .type = GT_CONFIG_STRING,
     .offset = MEMBER(host_keys),
     .fallback = "/etc/ssh/ssh_host_*_key.pub",
     .help =
         "Public ssh host keys to tell operators, authenticated: paths and patterns, separated by blanks."},

    {.path = "trust.policy",
     .flag = "trust-policy",
     .type = GT_CONFIG_CHOICE,
     .offset = MEMBER(trust_policy),
     .fallback = "auto",
     .choices = "auto psk pin",
     .help =
         "psk: whoever holds the key. pin: and whose certificate is pinned. auto: pin where the file exists."},
    {.path = "trust.pins",
     .flag = "trust-pins",
     .type = GT_CONFIG_PATH,
     .offset = MEMBER(trust_pins),
     .fallback = "/etc/gotthard/operators.pins",
     .help = "The operators' pins. An empty file denies all."},

    {.path = "limits.sessions",
     .type = GT_CONFIG_NUMBER,
     .offset = MEMBER(sessions_max),
     .fallback = "8",
     .min = 1,
     .max = 1000,
     .help = "Sessions at the same time."},
    {.path = "limits.per_operator",
     .type = GT_CONFIG_NUMBER,
     .offset = MEMBER(per_operator_max),
     .fallback = "2",
     .min = 1,
     .max = 1000,
     .help = "Of those, of one operator."},
    {.path = "limits.streams",
     .type = GT_CONFIG_NUMBER,
     .offset = MEMBER(streams_max),
     .fallback = "64",
     .min = 1,
     .max = 1024,
     .help = "Connections in one session."},
    {.path = "limits.lifetime",
     .type = GT_CONFIG_DURATION,
     .offset = MEMBER(lifetime_ms),
     .fallback = "12h",
     .min = 1000,
     .max = 7 * 24 * 3600000ull,
     .help = "The longest a session lasts."},
    {.path = "limits.dial_timeout",
     .type = GT_CONFIG_DURATION,
     .offset = MEMBER(dial_timeout_ms),
     .fallback = "10s",
     .min = 100,
     .max = 120000,
     .help = "How long a service may take to accept a connection."},
    {.path = "limits.peer_timeout",
     .type = GT_CONFIG_DURATION,
     .offset = MEMBER(peer_timeout_ms),
     .fallback = "30s",
     .min = 1000,
     .max = 600000,
     .help = "How long an operator who was lost may take to come back."},
    {.path = "stream.buffer",
     .type = GT_CONFIG_SIZE,
     .offset = MEMBER(stream_buffer),
     .fallback = "1MiB",
     .min = 65536,
     .max = 64 * 1024 * 1024,
     .help = "Memory of a connection in each direction: what may be on its way."},

    {.path = "log.level",
     .flag = "log-level",
     .type = GT_CONFIG_CHOICE,
     .offset = MEMBER(log_level),
     .fallback = "info",
     .choices = "debug info warn error",
     .help = "The least important line that is written."},
};

static const char *settings_check(const void *data, char *ret_why, size_t cap)
{
    const struct settings *s = data;
    struct gt_endpoint endpoint;

    if (!s->device_name) {
        snprintf(ret_why, cap, "the device has no name: set device.name or MACHINE_ID");
        return "device.name";
    }
    if (!s->crypt_key) {
        snprintf(ret_why, cap,
                 "there is no key: set GOTTHARD_CRYPT_KEY, GOTTHARD_CRYPT_KEY_FILE or "
                 "crypt.key_file");
        return "crypt.key";
    }
    if (!s->mqtt_endpoint) {
        snprintf(ret_why, cap, "there is no broker: set mqtt.endpoint or GOTTHARD_MQTT_ENDPOINT");
        return "mqtt.endpoint";
    }
    if (gt_endpoint_parse(s->mqtt_endpoint, &endpoint) != 0) {
        snprintf(ret_why, cap,
                 "not a broker: host, host:port, mqtts://host:port or mqtt://host:port");
        return "mqtt.endpoint";
    }
    if (!s->server_host && s->relays.n_pairs == 0) {
        snprintf(ret_why, cap, "there is no relay: set server.host or GOTTHARD_SERVER_HOST");
        return "server.host";
    }
    if (s->server_host && gt_config_map_get(&s->relays, "main")) {
        snprintf(ret_why, cap, "\"main\" is server.host; give this relay another name");
        return "relays";
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
