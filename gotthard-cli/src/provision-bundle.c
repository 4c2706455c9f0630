/* SPDX-License-Identifier: ISC */
/* The bundle of a newcomer; see provision.h. A key must not pass through a format function. */
#include <stdio.h>
#include <string.h>

#include "provision.h"

#define DEFAULT_PREFIX "gotthard/v1"

static int fail_internal(int r, struct failure *ret_failure)
{
    return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
}

/* Further settings that all machines of the fleet have in common. NULL without memory. */
static char *make_configuration(const struct settings *settings)
{
    gt_cleanup(gt_free) char *alpn = NULL, *age = NULL;
    bool has_prefix = strcmp(settings->mqtt_prefix, DEFAULT_PREFIX) != 0;
    char *text = NULL;

    if (settings->mqtt_alpn && asprintf(&alpn, " alpn = \"%s\";", settings->mqtt_alpn) < 0)
        return NULL;
    if (settings->access_max_age_ms &&
        asprintf(&age, "trust = { access_max_age = \"%llus\"; };\n",
                 (unsigned long long)settings->access_max_age_ms / 1000) < 0)
        return NULL;
    if (!has_prefix && !alpn && !age)
        return strdup("");
    int n = has_prefix || alpn
                ? asprintf(&text, "mqtt = {%s%s%s%s };\n%s", has_prefix ? " prefix = \"" : "",
                           has_prefix ? settings->mqtt_prefix : "", has_prefix ? "\";" : "",
                           alpn ? alpn : "", age ? age : "")
                : asprintf(&text, "%s", age);
    return n < 0 ? NULL : text;
}

static int derive_key(const struct provision *provision, char ret[static GT_KEY_TEXT_MAX],
                      struct failure *ret_failure)
{
    int r = 0;

    switch (provision->kind) {
    case GT_TOKEN_DEVICE: r = gt_key_format_device(&provision->key, provision->name, ret); break;
    case GT_TOKEN_OPERATOR:
        r = gt_key_format_operator(&provision->key, provision->name, true, ret);
        break;
    case GT_TOKEN_RELAY: r = gt_key_format_relay(&provision->key, ret); break;
    }
    return r == 0 ? 0
                  : failure_set(ret_failure, FAILURE_KEY, NULL, "%s",
                                r > 0 ? gt_key_strerror(r) : strerror(-r));
}

static struct gt_span text_of(const char *text)
{
    return text ? gt_span_text(text) : gt_span("", 0);
}

static int encode(const struct gt_bundle *bundle, bool is_file, uint8_t **ret, size_t *ret_n,
                  struct failure *ret_failure)
{
    char why[GT_BUNDLE_WHY] = "";
    size_t n = gt_bundle_size(bundle);
    uint8_t *bytes = malloc(n);

    if (!bytes)
        return fail_internal(-ENOMEM, ret_failure);
    int r = gt_bundle_encode(bundle, bytes, n, ret_n, why);
    if (r == 0)
        r = gt_bundle_check(bundle, is_file, why);
    if (r == 0) {
        *ret = bytes;
        return 0;
    }
    gt_wipe(bytes, n);
    free(bytes);
    return failure_set(ret_failure, FAILURE_CONFIG,
                       "check {mqtt.cert_path}, whose ca.crt is for the newcomer as well",
                       "the bundle for the newcomer: %s", why);
}

/* The entries of devices and operators beyond those of a relay. @relay: HOST:PORT. */
static void fill_bundle(const struct provision *provision, const char *relay,
                        const char *configuration, struct gt_bundle *bundle)
{
    struct gt_span *entries = bundle->entries;

    entries[GT_BUNDLE_CERTIFICATE] = text_of(provision->certificate);
    entries[GT_BUNDLE_AUTHORITIES] = gt_span(provision->authorities.text, provision->authorities.n);
    entries[GT_BUNDLE_RELAY] = gt_span_text(relay);
    entries[GT_BUNDLE_BROKER] = gt_span_text(provision->context->settings->mqtt_endpoint);
    entries[GT_BUNDLE_ACCESS_LIST] = gt_span(provision->list, provision->n_list);
    entries[GT_BUNDLE_CONFIGURATION] = gt_span_text(configuration);
}

static char *format_relay(const struct gt_host_port *relay)
{
    char *text = NULL;
    bool is_v6 = strchr(relay->host, ':') != NULL;
    int n =
        asprintf(&text, "%s%s%s:%u", is_v6 ? "[" : "", relay->host, is_v6 ? "]" : "", relay->port);

    return n < 0 ? NULL : text;
}

int provision_bundle(const struct provision *provision, struct gt_span private_key, uint8_t **ret,
                     size_t *ret_n, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *configuration = make_configuration(provision->context->settings);
    gt_cleanup(gt_free) char *relay = format_relay(&provision->relay);
    struct gt_bundle bundle = {.kind = provision->kind};
    char key[GT_KEY_TEXT_MAX];

    if (!configuration || !relay)
        return fail_internal(-ENOMEM, ret_failure);
    if (derive_key(provision, key, ret_failure) != 0)
        return 1;
    bundle.entries[GT_BUNDLE_NAME] = gt_span_text(provision->name);
    bundle.entries[GT_BUNDLE_KEY] = gt_span_text(key);
    bundle.entries[GT_BUNDLE_AUTHORITY] = gt_span_text(provision->authority);
    bundle.entries[GT_BUNDLE_PRIVATE_KEY] = private_key;
    if (provision->kind != GT_TOKEN_RELAY)
        fill_bundle(provision, relay, configuration, &bundle);
    int r = encode(&bundle, private_key.n > 0, ret, ret_n, ret_failure);
    gt_wipe(key, sizeof(key));
    return r;
}
