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

/* Skips a known scheme. Text with another scheme is not a valid host, and fails later. */
static const char *skip_scheme(const char *text, bool *ret_is_tls)
{
    static const char tls[] = "mqtts://", plain[] = "mqtt://";

    *ret_is_tls = strncasecmp(text, plain, strlen(plain)) != 0;
    if (!*ret_is_tls)
        return text + strlen(plain);
    if (strncasecmp(text, tls, strlen(tls)) == 0)
        return text + strlen(tls);
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
        url.alpn = GT_MQTT_URL_AWS_ALPN;
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
    else
        snprintf(ret_why, cap,
                 "\"%s\" is invalid, expected HOST, HOST:PORT, mqtts://HOST[:PORT] or "
                 "mqtt://HOST[:PORT], without a path",
                 gt_text_shorten(text, shown, sizeof(shown)));
}

bool gt_mqtt_url_is_loopback(const struct gt_mqtt_url *url)
{
    const char *host = url->host;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
        return true;
    return strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == 0;
}
