/* SPDX-License-Identifier: ISC */
/*
 * The settings of a command's connection to the broker, and what its failures mean. The client id
 * is random: two runs of one operator must never throw each other out.
 */
#include "broker.h"

#include <stdio.h>
#include <string.h>

#define SYSTEM_CA      "/etc/ssl/certs/ca-certificates.crt"
#define N_ID_BYTES     8 /* all in all below the 23 characters that every broker takes */
#define CLIENT_ID_SIZE (sizeof("gtc-") + 2 * N_ID_BYTES)
#define FILE_PATH_MAX  4096

struct files {
    char ca[FILE_PATH_MAX], certificate[FILE_PATH_MAX], key[FILE_PATH_MAX];
};

static const char *file_in(const char *folder, const char *name, char *ret)
{
    if (!folder || snprintf(ret, FILE_PATH_MAX, "%s/%s", folder, name) >= FILE_PATH_MAX)
        return NULL;
    return access(ret, R_OK) == 0 ? ret : NULL;
}

static int find_files(const struct settings *settings, const struct gt_endpoint *endpoint,
                      struct files *files, struct gt_mqtt_settings *ret,
                      struct failure *ret_failure)
{
    const char *folder = settings->mqtt_cert_path;
    if (!endpoint->is_tls)
        return 0;
    if (folder && access(folder, X_OK) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "mqtt.cert_path: %s: %s", folder,
                           strerror(errno));
    ret->ca_file = file_in(folder, "ca.crt", files->ca);
    ret->cert_file = file_in(folder, "cert.pem", files->certificate);
    ret->key_file = file_in(folder, "private.key", files->key);
    if (folder && !ret->ca_file)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "ca.crt is the authority of the broker's certificate",
                           "mqtt.cert_path: %s/ca.crt cannot be read", folder);
    if (!ret->ca_file)
        ret->ca_file = SYSTEM_CA;
    return 0;
}

static int make_client_id(char ret[static CLIENT_ID_SIZE], struct failure *ret_failure)
{
    uint8_t random[N_ID_BYTES];
    if (gt_random(random, sizeof(random)) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "no random numbers");
    memcpy(ret, "gtc-", 4);
    gt_text_hex(random, sizeof(random), ret + 4);
    return 0;
}

static int find_endpoint(const struct settings *settings, struct print *print,
                         struct gt_endpoint *ret, struct failure *ret_failure)
{
    if (!settings->mqtt_endpoint)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "set GOTTHARD_MQTT_ENDPOINT to the broker's host",
                           "no broker: mqtt.endpoint is not set");
    if (gt_endpoint_parse(settings->mqtt_endpoint, ret) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "mqtt.endpoint is not understood");
    if (!ret->is_tls && !gt_endpoint_is_loopback(ret))
        print_warning(print,
                      "mqtt://%s is not encrypted: who talks to whom is seen by all on the way",
                      ret->host);
    return 0;
}

int broker_connect(struct ev_loop *loop, const struct settings *settings, struct print *print,
                   const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret,
                   struct failure *ret_failure)
{
    struct gt_endpoint endpoint;
    struct files files;
    char client_id[CLIENT_ID_SIZE];
    if (find_endpoint(settings, print, &endpoint, ret_failure) != 0)
        return 1;
    struct gt_mqtt_settings mqtt = {
        .host = endpoint.host,
        .port = endpoint.port,
        .is_tls = endpoint.is_tls,
        .alpn = endpoint.alpn,
        .client_id = client_id,
        .username = settings->mqtt_username,
        .password = settings->mqtt_password,
        .keepalive_s = (unsigned)(settings->mqtt_keepalive_ms / 1000),
        .is_once = true,
    };
    if (find_files(settings, &endpoint, &files, &mqtt, ret_failure) != 0 ||
        make_client_id(client_id, ret_failure) != 0)
        return 1;
    int err = gt_mqtt_new(loop, &mqtt, events, userdata, ret);
    if (err != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "MQTT: %s", strerror(abs(err)));
    return 0;
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

void broker_failure(const struct settings *settings, const char *why, struct failure *ret_failure)
{
    enum failure_id id = FAILURE_BROKER_UNREACHABLE;
    if (begins_with(why, "refused") || begins_with(why, "TLS:") || strstr(why, "refuses"))
        id = FAILURE_BROKER_REFUSED;
    else if (begins_with(why, "a certificate, key"))
        id = FAILURE_CONFIG;
    failure_set(ret_failure, id, NULL, "broker %s: %s", settings->mqtt_endpoint, why);
}
