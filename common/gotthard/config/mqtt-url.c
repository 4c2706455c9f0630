/* SPDX-License-Identifier: ISC */
/*
 * Parser of the broker's address; see the header. A path, a user or another scheme in the URL is an
 * error. The parser must never ignore a part of it.
 */
#include "gotthard/config/mqtt-url.h"

#include <stdio.h>
#include <strings.h>

static bool text_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);

    return n > n_end && strcasecmp(text + n - n_end, end) == 0;
}

static bool is_aws_host(const char *host)
{
    return text_ends_with(host, ".amazonaws.com") || text_ends_with(host, ".amazonaws.com.cn");
}

static bool text_begins_with(const char *text, const char *begin)
{
    return strncasecmp(text, begin, strlen(begin)) == 0;
}

/* Skips a known scheme. Text with another scheme is not a valid host, and fails later. */
static const char *skip_scheme(const char *text, bool *ret_is_tls)
{
    static const struct {
        const char *name;
        bool is_tls;
    } schemes[] = {{"mqtts://", true},
                   {"ssl://", true},
                   {"tls://", true},
                   {"mqtt://", false},
                   {"tcp://", false}};

    *ret_is_tls = true;
    for (size_t i = 0; i < GT_ARRAY_SIZE(schemes); i++) {
        if (!text_begins_with(text, schemes[i].name))
            continue;
        *ret_is_tls = schemes[i].is_tls;
        return text + strlen(schemes[i].name);
    }
    return text;
}

int gt_mqtt_url_parse(const char *text, struct gt_mqtt_url *ret)
{
    struct gt_mqtt_url url = {0};
    const char *authority = skip_scheme(text, &url.is_tls);

    if (gt_text_host_port(authority, url.is_tls ? GT_MQTT_URL_TLS_PORT : GT_MQTT_URL_PLAIN_PORT,
                          url.host, &url.port) != 0)
        return GT_MQTT_URL_E_SYNTAX;
    if (url.is_tls && url.port == 443 && is_aws_host(url.host))
        strcpy(url.alpn, GT_MQTT_URL_AWS_ALPN);
    *ret = url;
    return 0;
}

void gt_mqtt_url_explain(const char *text, char *ret_why, size_t cap)
{
    char shown[64];

    if (strchr(text, '@'))
        snprintf(ret_why, cap,
                 "must not contain a user name or a password; set mqtt.username and "
                 "mqtt.password_file");
    else if (text_begins_with(text, "ws://") || text_begins_with(text, "wss://"))
        snprintf(ret_why, cap,
                 "\"%s\": MQTT over WebSocket is not supported by libmosquitto; use the broker's "
                 "MQTT port, mqtts://HOST[:PORT]",
                 gt_text_shorten(text, shown, sizeof(shown)));
    else
        snprintf(ret_why, cap,
                 "\"%s\" is invalid, expected HOST, HOST:PORT, mqtts://HOST[:PORT] or "
                 "mqtt://HOST[:PORT], without a path",
                 gt_text_shorten(text, shown, sizeof(shown)));
}

/* Returns true for 1 to ALPN_MAX printable characters without blanks. */
static bool is_alpn(const char *text)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return n >= 1 && n <= GT_MQTT_URL_ALPN_MAX;
}

const char *gt_mqtt_options_check(const struct gt_mqtt_options *options, struct gt_mqtt_url *ret,
                                  char *ret_why, size_t cap)
{
    struct gt_mqtt_url url = *ret;
    char shown[64];

    if (options->endpoint && gt_mqtt_url_parse(options->endpoint, &url) != 0) {
        gt_mqtt_url_explain(options->endpoint, ret_why, cap);
        return "mqtt.endpoint";
    }
    if (options->alpn && !is_alpn(options->alpn)) {
        snprintf(ret_why, cap, "\"%s\" is invalid, expected at most %d characters without blanks",
                 gt_text_shorten(options->alpn, shown, sizeof(shown)), GT_MQTT_URL_ALPN_MAX);
        return "mqtt.alpn";
    }
    if (options->alpn && options->endpoint && !url.is_tls) {
        snprintf(ret_why, cap, "requires TLS, and mqtt.endpoint has none");
        return "mqtt.alpn";
    }
    if (options->password && !options->username) {
        snprintf(ret_why, cap, "requires a user name; set mqtt.username");
        return "mqtt.password";
    }
    if (options->alpn)
        strcpy(url.alpn, options->alpn);
    *ret = url;
    return NULL;
}

bool gt_mqtt_url_is_loopback(const struct gt_mqtt_url *url)
{
    const char *host = url->host;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
        return true;
    return strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == 0;
}
