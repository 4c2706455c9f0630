/* SPDX-License-Identifier: ISC */
/*
 * The settings of a command's connection to the broker, and the failures of it. The client id is
 * random: a broker disconnects the older of two clients with one id, and two commands of one
 * operator must not disconnect each other.
 */
#include "mqtt-connect.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/config/config-proxy.h"
#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/tls/certificate-context.h"

#define SYSTEM_CA     "/etc/ssl/certs/ca-certificates.crt"
#define N_ID_BYTES    8           /* the id has at most 23 characters, which every broker accepts */
#define BACKLOG       (64u << 20) /* bytes: the states of 100,000 devices */
#define FILE_PATH_MAX 4096
#define CA_MAX        (1024 * 1024)

static int read_authorities(const char *folder, const char **ret_path, struct identity_file *ret,
                            struct failure *ret_failure)
{
    static char path[FILE_PATH_MAX];
    const char *why = "cannot be read";

    snprintf(path, sizeof(path), "%s", SYSTEM_CA);
    if (folder && access(folder, X_OK) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, "check {mqtt.cert_path}",
                           "mqtt.cert_path: %s: %s", folder, strerror(errno));
    if (folder && snprintf(path, sizeof(path), "%s/ca.crt", folder) >= FILE_PATH_MAX)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "mqtt.cert_path is too long");
    *ret_path = path;
    if (gt_config_read_file(path, CA_MAX, false, &ret->text, &ret->n, &why) == 0)
        return 0;
    return failure_set(ret_failure, FAILURE_CONFIG, "put the CA certificate of the broker there",
                       "mqtt.cert_path: %s: %s", path, why);
}

int mqtt_connect_authorities(const struct settings *settings, struct identity_file *ret,
                             struct failure *ret_failure)
{
    const char *path;

    return read_authorities(settings->mqtt_cert_path, &path, ret, ret_failure);
}

/* Parses the files that were read; the library reads none. */
static int make_tls(const struct settings *settings, const struct identity *identity,
                    const struct gt_mqtt_url *endpoint, struct print *print,
                    struct ssl_ctx_st **ret, struct failure *ret_failure)
{
    char why[GT_CERTIFICATE_WHY];
    struct identity_file authorities = {0};
    const char *path = NULL;

    if (read_authorities(settings->mqtt_cert_path, &path, &authorities, ret_failure) != 0)
        return 1;
    struct gt_certificate_files files = {
        .authorities = gt_span(authorities.text, authorities.n),
        .certificate = gt_span(identity->certificate.text, identity->certificate.n),
        .key = gt_span(identity->private_key.text, identity->private_key.n),
    };
    int r = gt_certificate_context_new(&files, endpoint->host,
                                       *endpoint->alpn ? endpoint->alpn : NULL, ret, why);
    free(authorities.text);
    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "MQTT: %s", strerror(-r));
    if (r == GT_CERTIFICATE_E_OWN)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: cert.pem with private.key: %s",
                           settings->mqtt_cert_path, why);
    if (r > 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "put the CA certificate of the broker there", "mqtt.cert_path: %s: %s",
                           path, why);
    if (*why && settings->mqtt_cert_path)
        print_warning(print, "%s: %s", path, why);
    return 0;
}

static int make_client_id(char ret[static MQTT_CONNECT_ID], struct failure *ret_failure)
{
    uint8_t random[N_ID_BYTES];

    if (gt_random(random, sizeof(random)) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "no random numbers available");
    memcpy(ret, "gtc-", 4);
    gt_text_hex(random, sizeof(random), ret + 4);
    return 0;
}

static int find_endpoint(const struct settings *settings, struct print *print,
                         struct gt_mqtt_url *ret, struct failure *ret_failure)
{
    char why[GT_CONFIG_ERROR_MAX];

    if (!settings->mqtt_endpoint)
        return failure_set(ret_failure, FAILURE_CONFIG, "set {+mqtt.endpoint}: the broker's host",
                           "no broker: mqtt.endpoint is not set");
    const char *path = settings_broker(settings, ret, why, sizeof(why));
    if (path)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: %s", path, why);
    if (!ret->is_tls && !gt_mqtt_url_is_loopback(ret))
        print_warning(
            print,
            "mqtt://%s is not encrypted: the network can see which operator connects to which device",
            ret->host);
    return 0;
}

/* The broker may accept either, so these are warnings. */
static void warn_of_certificate(const struct settings *settings, const struct identity *identity,
                                struct print *print)
{
    static bool is_warned; /* a command may connect several times */
    char why[GT_VERIFICATION_NAME + 96];

    if (is_warned)
        return;
    is_warned = true;
    if (gt_verification_expiry(&identity->own, time(NULL), why, sizeof(why)))
        print_warning(print, "%s/cert.pem: %s", settings->mqtt_cert_path, why);
    if (identity_has_other_name(identity, settings))
        print_warning(print,
                      "%s/cert.pem is for the name \"%s\", and client.name is %s: a broker that "
                      "takes names from certificates refuses this operator",
                      settings->mqtt_cert_path, identity->own.name, settings->client_name);
}

static void warn_of_proxy(const struct settings *settings, const char *host, struct print *print)
{
    static bool is_warned; /* as above */
    const char *unusable = gt_config_proxy_unusable(&settings->mqtt_proxy, host);

    if (unusable && !is_warned)
        print_warning(print, GT_CONFIG_PROXY_UNUSABLE, unusable, host, "mqtt.proxy");
    is_warned = true;
}

int mqtt_connect_prepare(const struct settings *settings, const struct identity *identity,
                         struct print *print, struct mqtt_connect_setup *ret,
                         struct failure *ret_failure)
{
    ret->tls = NULL;
    if (find_endpoint(settings, print, &ret->endpoint, ret_failure) != 0 ||
        make_client_id(ret->client_id, ret_failure) != 0)
        return 1;
    if (ret->endpoint.is_tls &&
        make_tls(settings, identity, &ret->endpoint, print, &ret->tls, ret_failure) != 0)
        return 1;
    warn_of_certificate(settings, identity, print);
    warn_of_proxy(settings, ret->endpoint.host, print);
    ret->proxy.kind = GT_PROXY_NONE;
    (void)gt_config_proxy(&settings->mqtt_proxy, settings->mqtt_proxy_password, ret->endpoint.host,
                          &ret->proxy);
    ret->mqtt = (struct gt_mqtt_settings){
        .host = ret->endpoint.host,
        .port = ret->endpoint.port,
        .proxy = ret->proxy.kind == GT_PROXY_NONE ? NULL : &ret->proxy,
        .tls = ret->tls,
        .client_id = ret->client_id,
        .username = settings->mqtt_username,
        .password = settings->mqtt_password,
        .keepalive_s = (unsigned)(settings->mqtt_keepalive_ms / 1000),
        .receive_maximum = UINT16_MAX, /* brokers drop messages behind a smaller one */
        .backlog = BACKLOG,
        .version = gt_mqtt_version_of(settings->mqtt_version),
        .is_once = true,
    };
    return 0;
}

void mqtt_connect_setup_deinit(struct mqtt_connect_setup *setup)
{
    setup->tls = gt_certificate_context_free(setup->tls);
    gt_wipe(&setup->proxy, sizeof(setup->proxy));
}

int mqtt_connect(struct ev_loop *loop, const struct settings *settings,
                 const struct identity *identity, struct print *print,
                 const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret,
                 struct failure *ret_failure)
{
    struct mqtt_connect_setup setup;

    if (mqtt_connect_prepare(settings, identity, print, &setup, ret_failure) != 0)
        return 1;
    int r = gt_mqtt_new(loop, &setup.mqtt, events, userdata, ret);
    mqtt_connect_setup_deinit(&setup);
    if (r != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "MQTT: %s", strerror(abs(r)));
    return 0;
}

static enum failure_id failure_of(enum gt_mqtt_kind kind)
{
    switch (kind) {
    case GT_MQTT_KIND_UNREACHABLE: return FAILURE_BROKER_UNREACHABLE;
    case GT_MQTT_KIND_PROXY: return FAILURE_PROXY;
    case GT_MQTT_KIND_REFUSED: return FAILURE_BROKER_REFUSED;
    case GT_MQTT_KIND_UNTRUSTED: return FAILURE_BROKER_UNTRUSTED;
    case GT_MQTT_KIND_FOREIGN: return FAILURE_BROKER_FOREIGN;
    case GT_MQTT_KIND_CERTIFICATE: return FAILURE_CERTIFICATE;
    case GT_MQTT_KIND_CLOCK: return FAILURE_CLOCK;
    case GT_MQTT_KIND_SETTINGS: return FAILURE_CONFIG;
    case GT_MQTT_KIND_INTERNAL: break;
    }
    return FAILURE_INTERNAL;
}

void mqtt_connect_failure(const struct settings *settings, const struct gt_mqtt_outcome *outcome,
                          const char *why, struct failure *ret_failure)
{
    failure_set(ret_failure, outcome ? failure_of(outcome->kind) : FAILURE_BROKER_UNREACHABLE,
                outcome ? outcome->hint : NULL, "broker %s: %s", settings->mqtt_endpoint, why);
}

void mqtt_connect_failure_of_states(const struct settings *settings, const char *why,
                                    struct failure *ret_failure)
{
    failure_set(ret_failure, FAILURE_BROKER_REFUSED, NULL,
                "broker %s: it refuses the subscription to the states of devices (%s)",
                settings->mqtt_endpoint, why);
    failure_hint(
        ret_failure,
        "add to acl_file of mosquitto, then reload it: \"topic read %s/d/+/state\" below the "
        "user %s",
        settings->mqtt_prefix,
        settings->mqtt_username ? settings->mqtt_username : settings->client_name);
}
