/* SPDX-License-Identifier: ISC */
/*
 * The table of all that gotthard-cli can be told, and the checks that no single value can make.
 * etc/cli.conf shows every row at its default (a test compares them); the man page and `config
 * show` are made of it too.
 */
#include "settings.h"

#include <pwd.h>
#include <stdio.h>

#include "gotthard/endpoint.h"
#include "gotthard/message.h"

#define MAIN_RELAY "main"
#define SECOND     1000ull
#define HOUR       (3600 * SECOND)

#define AT(member) offsetof(struct settings, member)

static char login_name[GT_NAME_MAX + 1];

static const struct gt_config_item items[] = {
    {"server.host", "GOTTHARD_SERVER_HOST", "server-host", GT_CONFIG_HOST, AT(server_host), NULL, 0,
     0, NULL, "The relay's host."},
    {"server.port", "GOTTHARD_SERVER_PORT", "server-port", GT_CONFIG_NUMBER, AT(server_port),
     "7000", 1, 65535, NULL, "The relay's port."},
    {"server.single_port", "GOTTHARD_SERVER_SINGLE_PORT", "single-port", GT_CONFIG_BOOL,
     AT(is_single_port), "false", 0, 0, NULL,
     "Use the relay's main port for data too, where the network lets one port out only."},
    {"relays", NULL, NULL, GT_CONFIG_MAP, AT(relays), NULL, 0, 0, NULL,
     "More relays by name, host:port; \"main\" is server.host and server.port."},
    {"client.relay", "GOTTHARD_CLIENT_RELAY", "relay", GT_CONFIG_NAME, AT(relay), MAIN_RELAY, 0, 0,
     NULL, "The relay to meet the device at, by a name that both sides know."},
    {"client.name", "GOTTHARD_CLIENT_NAME", "client-name", GT_CONFIG_NAME, AT(client_name),
     login_name, 0, 0, NULL, "This operator's name; the login name when not given."},
    {"client.port", "GOTTHARD_CLIENT_PORT", "client-port", GT_CONFIG_NUMBER, AT(client_port),
     "4444", 0, 65535, NULL, "The local port of a tunnel; 0 is any free one."},
    {"client.lifetime", "GOTTHARD_CLIENT_LIFETIME", "lifetime", GT_CONFIG_DURATION, AT(lifetime_ms),
     "12h", SECOND, 7 * 24 * HOUR, NULL, "A tunnel closes by itself after this time."},
    {"client.spares", "GOTTHARD_SPARES", "spares", GT_CONFIG_NUMBER, AT(n_spares), "1", 0, 8, NULL,
     "Streams kept open for the next local connections, at least; 0 where every byte is paid for."},
    {"client.answer_timeout", "GOTTHARD_CLIENT_ANSWER_TIMEOUT", "answer-timeout",
     GT_CONFIG_DURATION, AT(answer_timeout_ms), "20s", SECOND, 60 * SECOND, NULL,
     "How long a device that is said to be online may take to answer a question."},
    {"crypt.key", "GOTTHARD_CRYPT_KEY", NULL, GT_CONFIG_SECRET, AT(crypt_key), NULL, 0, 0, NULL,
     "The fleet's key; gotthard-cli keygen makes one."},
    {"crypt.iv", "GOTTHARD_CRYPT_IV", NULL, GT_CONFIG_SECRET, AT(crypt_iv), NULL, 0, 0, NULL,
     "The fleet's public salt, equal on all sides."},
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
    {"trust.policy", "GOTTHARD_TRUST_POLICY", NULL, GT_CONFIG_CHOICE, AT(trust_policy), "auto", 0,
     0, "auto psk pin",
     "Whom to believe that he is the device: psk (who has the key), pin (who is in trust.pins), "
     "auto (pin where that file exists)."},
    {"trust.pins", "GOTTHARD_TRUST_PINS", NULL, GT_CONFIG_PATH, AT(trust_pins),
     "/etc/gotthard/devices.pins", 0, 0, NULL, "The file of the devices' fingerprints."},
    {"stream.buffer", "GOTTHARD_STREAM_BUFFER", NULL, GT_CONFIG_SIZE, AT(ring_size), "4MiB",
     64 << 10, 64 << 20, NULL,
     "Memory of one stream in each direction, at most; sixteen times that of all together."},
    {"limits.peer_timeout", "GOTTHARD_PEER_TIMEOUT", NULL, GT_CONFIG_DURATION, AT(peer_timeout_ms),
     "30s", SECOND, HOUR, NULL, "How long the device may take to come to the relay."},
    {"resume_window", "GOTTHARD_RESUME_WINDOW", NULL, GT_CONFIG_DURATION, AT(resume_window_ms),
     "120s", SECOND, 24 * HOUR, NULL,
     "How long a tunnel without its relay or its device waits before it is given up."},
    {"log.level", "GOTTHARD_LOG_LEVEL", "log-level", GT_CONFIG_CHOICE, AT(log_level), "info", 0, 0,
     "debug info warn error", "The least important lines to show."},
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

bool settings_relay(const struct settings *settings, const char *name, char *ret_host,
                    uint16_t *ret_port)
{
    const char *text = gt_config_map_get(&settings->relays, name);
    if (text)
        return gt_text_host_port(text, 0, ret_host, ret_port) == 0;
    if (strcmp(name, MAIN_RELAY) != 0 || !settings->server_host)
        return false;
    snprintf(ret_host, GT_HOST_MAX + 1, "%s", settings->server_host);
    *ret_port = (uint16_t)settings->server_port;
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
        snprintf(ret_why, cap, "relay \"%.64s\" needs the form host:port", pair->name);
        return "relays";
    }
    if (strlen(settings->relay) <= GT_RELAY_NAME_MAX)
        return NULL;
    snprintf(ret_why, cap, "a relay's name has at most %d characters", GT_RELAY_NAME_MAX);
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

static const char *settings_check(const void *data, char *ret_why, size_t cap)
{
    const struct settings *settings = data;
    struct gt_endpoint endpoint;
    if (settings->mqtt_endpoint && gt_endpoint_parse(settings->mqtt_endpoint, &endpoint) != 0) {
        snprintf(ret_why, cap, "not host, host:port, mqtts://host or mqtt://host");
        return "mqtt.endpoint";
    }
    if (!is_prefix(settings->mqtt_prefix)) {
        snprintf(ret_why, cap, "not a prefix of topics (no '+', '#' or blanks, at most 4 parts)");
        return "mqtt.prefix";
    }
    return check_relays(settings, ret_why, cap);
}

const struct gt_config_program *settings_program(void)
{
    static const struct gt_config_program program = {
        .name = "cli",
        .items = items,
        .n_items = GT_ARRAY_SIZE(items),
        .settings_size = sizeof(struct settings),
        .has_home_file = true,
        .check = settings_check,
    };
    if (!*login_name) {
        const struct passwd *user = getpwuid(getuid());
        settings_name_of_login(user ? user->pw_name : "", login_name);
    }
    return &program;
}
