/* SPDX-License-Identifier: ISC */
/*
 * Hashes over texts with their terminators, so that no two lists of texts are the same bytes.
 */
#include "holder-path.h"

#include <stdio.h>
#include <string.h>

#include "holder-message.h"
#include "identity.h"

#define N_ID 8 /* bytes of the hash in the name */

/* With the terminator. A missing text differs from an empty one. */
static struct gt_span part(const char *text)
{
    return text ? gt_span(text, strlen(text) + 1) : gt_span("\xff", 1);
}

static int hash(const struct gt_span *parts, size_t n, uint8_t ret[static GT_KEY_SIZE])
{
    int r = gt_sha256(parts, n, ret);

    return r > 0 ? -EIO : r;
}

int holder_path(const struct settings *settings, const char *device, const char *purpose,
                const char *folder, char ret[static LOCAL_SOCKET_PATH_MAX + 1])
{
    char hex[2 * N_ID + 1], numbers[128];
    struct gt_host_port relay = {.port = 0};
    uint8_t id[GT_KEY_SIZE];

    (void)settings_relay(settings, settings->relay, &relay);
    snprintf(numbers, sizeof(numbers), "%d %u %d %llu", HOLDER_VERSION, relay.port,
             settings->is_single_port, (unsigned long long)settings->lifetime_ms);
    const struct gt_span parts[] = {
        part(numbers),
        part(device),
        part(purpose),
        part(settings->client_name),
        part(settings->mqtt_endpoint),
        part(settings->mqtt_prefix),
        part(settings->mqtt_cert_path),
        part(settings->mqtt_username),
        part(settings->mqtt_alpn),
        part(settings->mqtt_version),
        part(settings->relay),
        part(relay.host),
        part(settings->trust_policy),
        part(settings->trust_pins),
        part(settings->trust_authority),
    };
    int r = hash(parts, GT_ARRAY_SIZE(parts), id);
    if (r != 0)
        return r;
    gt_text_hex(id, N_ID, hex);
    int n = snprintf(ret, LOCAL_SOCKET_PATH_MAX + 1, "%s/%s" HOLDER_SUFFIX_SHARED, folder, hex);
    return n > LOCAL_SOCKET_PATH_MAX ? -ENAMETOOLONG : 0;
}

int holder_check(const struct gt_config *config, uint8_t ret[static GT_KEY_SIZE])
{
    const struct settings *settings = gt_config_settings(config);
    uint8_t files[GT_KEY_SIZE];
    int r = identity_digest_files(config, files);

    if (r != 0)
        return r;
    const struct gt_span parts[] = {
        gt_span(files, sizeof(files)),
        part(settings->crypt_key),
        part(settings->crypt_iv),
        part(settings->crypt_key_previous),
        part(settings->mqtt_password),
        part(settings->server_proxy.text), /* perhaps with a password */
        part(settings->server_proxy_password),
        part(settings->mqtt_proxy.text),
        part(settings->mqtt_proxy_password),
    };

    return hash(parts, GT_ARRAY_SIZE(parts), ret);
}
