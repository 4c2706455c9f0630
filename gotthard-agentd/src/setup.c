/* SPDX-License-Identifier: ISC */
/*
 * Creating a setup from settings; see the header. Each step fills its part, or fails with a message
 * that begins with the place of the invalid setting.
 */
#include "setup-private.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "gotthard/base/log.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/signaling/topic.h"
#include "last-good.h"

#define RELOADS_A_SECOND 8 /* further ones, in a storm of signals, repeat no warning */

int setup_fail(const struct setup *setup, char *ret_error, const char *path, const char *fmt, ...)
{
    const char *origin = gt_config_origin(setup->config, path);
    int n = snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s: %s: ", origin ? origin : "default", path);
    va_list arguments;

    va_start(arguments, fmt);
    if (n >= 0 && n < GT_CONFIG_ERROR_MAX)
        vsnprintf(ret_error + n, (size_t)(GT_CONFIG_ERROR_MAX - n), fmt, arguments);
    va_end(arguments);
    return gt_config_fault(setup->config, path);
}

/* --- keys */

static int setup_derive_keys(struct setup *setup, char *ret_error)
{
    const char *name = setup->settings->device_name;
    uint8_t client_key[GT_KEY_SIZE];

    if (setup->key.kind == GT_KEY_OPERATOR)
        return setup_fail(setup, ret_error, "crypt.key",
                          "the key of an operator, set the output of "
                          "`gotthard-cli keygen device %s`",
                          name);
    int r = gt_key_device(&setup->key, name, setup->of_device);
    if (r == 0)
        r = setup_client_key(setup, name, client_key);
    gt_wipe(client_key, sizeof(client_key));
    return r > 0 ? setup_fail(setup, ret_error, "crypt.key",
                              "not the key of the device %s, set the output of "
                              "`gotthard-cli keygen device %s`",
                              name, name)
                 : r;
}

static int setup_derive_previous(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;

    int r = gt_key_parse(s->crypt_key_previous, s->crypt_iv, &setup->previous_key);
    if (r == 0 && setup->previous_key.kind == GT_KEY_OPERATOR)
        return setup_fail(setup, ret_error, "crypt.key_previous", "the key of an operator");
    if (r == 0)
        r = gt_key_device(&setup->previous_key, s->device_name, setup->previous);
    if (r > 0)
        return setup_fail(setup, ret_error, "crypt.key_previous", "%s", gt_key_strerror(r));
    setup->has_previous = r == 0;
    return r;
}

static int setup_load_keys(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;

    int r = gt_key_parse(s->crypt_key, s->crypt_iv, &setup->key);
    if (r > 0)
        r = setup_fail(setup, ret_error, gt_key_is_of_iv(r) ? "crypt.iv" : "crypt.key", "%s",
                       gt_key_strerror(r));
    else if (r == 0)
        r = setup_derive_keys(setup, ret_error);
    if (r == 0 && s->crypt_key_previous)
        r = setup_derive_previous(setup, ret_error);
    return r;
}

/* Appends the ids of K_dev of @device by @key: a session may have been agreed by version 0.2. */
static size_t add_key_ids(const struct gt_key *key, const char *device, size_t n,
                          uint8_t ret[static SETUP_KEY_IDS_MAX][GT_KEY_ID_SIZE])
{
    uint8_t of_device[GT_KEY_SIZE];

    int r = gt_key_device(key, device, of_device);
    if (r == 0)
        r = gt_key_device_id(of_device, ret[n]);
    gt_wipe(of_device, sizeof(of_device));
    n += r == 0;
    return n + (gt_key_device_id_of_0_2(key, device, ret[n]) == 0);
}

size_t setup_key_ids(const struct setup *setup, const char *device,
                     uint8_t ret[static SETUP_KEY_IDS_MAX][GT_KEY_ID_SIZE])
{
    size_t n = add_key_ids(&setup->key, device, 0, ret);

    return setup->has_previous ? add_key_ids(&setup->previous_key, device, n, ret) : n;
}

int setup_client_key(const struct setup *setup, const char *device, uint8_t ret[static GT_KEY_SIZE])
{
    return gt_key_client(&setup->key, GT_ROLE_DEVICE, device, ret);
}

/* --- certificates */

static int setup_load_credentials(struct setup *setup, struct credentials **ret, char *ret_error)
{
    const struct settings *s = setup->settings;
    char why[GT_CONFIG_ERROR_MAX];

    int r = credentials_load(s->mqtt_cert_path, s->mqtt_username != NULL, &setup->broker, ret, why,
                             sizeof(why));
    if (r > 0)
        (void)setup_fail(setup, ret_error, "mqtt.cert_path", "%s", why);
    return r == CREDENTIALS_E_FILE ? SETUP_E_FILE : r;
}

int setup_renew_credentials(struct setup *setup, bool *ret_is_renewed,
                            char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct credentials *renewed = NULL;

    *ret_is_renewed = false;
    if (!credentials_are_stale(setup->credentials))
        return 0;
    int r = setup_load_credentials(setup, &renewed, ret_error);
    if (r)
        return r;
    r = setup_check_pair(setup, setup->credentials, renewed, ret_error);
    if (r) {
        credentials_free(renewed);
        return SETUP_E_FILE;
    }
    *ret_is_renewed = !gt_is_equal(renewed->digest, setup->credentials->digest, GT_KEY_SIZE);
    credentials_free(setup->credentials);
    setup->credentials = renewed;
    return 0;
}

/* --- the whole setup */

struct setup *setup_free(struct setup *setup)
{
    if (!setup)
        return NULL;
    tags_deinit(&setup->tags);
    hostkeys_deinit(&setup->host_keys);
    policy_deinit(&setup->policy);
    gt_trust_deinit(&setup->trust);
    free(setup->pins_path);
    credentials_free(setup->credentials);
    gt_config_free(setup->config);
    gt_wipe(setup, sizeof(*setup));
    free(setup);
    return NULL;
}

static int setup_check_topics(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    char topic[GT_TOPIC_MAX + 1];

    int r = gt_topic_rsp(s->mqtt_prefix, s->device_name, "an-operator", topic);
    return r > 0 ? setup_fail(setup, ret_error, "mqtt.prefix",
                              "\"%s\" is invalid, expected at most 4 names separated by slashes",
                              s->mqtt_prefix)
                 : r;
}

static int setup_load_tags(struct setup *setup, char *ret_error)
{
    char why[GT_CONFIG_ERROR_MAX];

    int r = tags_load(&setup->settings->tags, &setup->tags, why, sizeof(why));
    return r > 0 ? setup_fail(setup, ret_error, "device.tags", "%s", why) : r;
}

static int setup_load(struct setup *setup, char *ret_error)
{
    char why[GT_CONFIG_ERROR_MAX];

    if (settings_broker(setup->settings, &setup->broker, why, sizeof(why)))
        return -EINVAL; /* settings_check has accepted it */
    int r = setup_check_topics(setup, ret_error);
    if (r == 0)
        r = setup_load_tags(setup, ret_error);
    if (r == 0)
        r = setup_load_keys(setup, ret_error);
    if (r == 0)
        r = setup_load_credentials(setup, &setup->credentials, ret_error);
    if (r == 0)
        r = setup_load_policy(setup, ret_error);
    if (r == 0)
        r = setup_load_trust(setup, ret_error);
    if (r == 0)
        hostkeys_read(setup->settings->host_keys, &setup->host_keys);
    return r;
}

/* @config: takes. */
static int setup_new_of(struct gt_config *config, struct setup **ret, char *ret_error)
{
    struct setup *setup = calloc(1, sizeof(*setup));

    if (!setup) {
        gt_config_free(config);
        return -ENOMEM;
    }
    gt_trust_init_psk(&setup->trust);
    setup->config = config;
    setup->settings = gt_config_settings(config);
    int r = setup_load(setup, ret_error);
    if (r)
        setup_free(setup);
    else
        *ret = setup;
    return r;
}

int setup_new(const struct gt_config_args *args, struct setup **ret,
              char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config;
    int r = gt_config_load(settings_program(), args, &config, ret_error);

    return r ? r : setup_new_of(config, ret, ret_error);
}

static int setup_new_last_good(struct setup **ret, char *ret_error)
{
    struct gt_config *config;
    int r = last_good_load(settings_program(), &config, ret_error);

    if (r == 0)
        r = setup_new_of(config, ret, ret_error);
    if (r == 0)
        (*ret)->is_last_good = true;
    return r;
}

int setup_new_or_last_good(const struct gt_config_args *args, struct setup **ret,
                           char ret_error[static GT_CONFIG_ERROR_MAX])
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    int r = setup_new(args, ret, ret_error);

    if (r <= 0)
        return r;
    int last = setup_new_last_good(ret, error);
    if (last <= 0)
        return last;
    size_t n = strlen(ret_error);
    if (*error)
        snprintf(ret_error + n, GT_CONFIG_ERROR_MAX - n, "; and of the last good configuration: %s",
                 error);
    return last == SETUP_E_FILE ? SETUP_E_FILE : r;
}

void setup_apply_log_level(const struct setup *setup)
{
    enum gt_log_level level;

    if (gt_log_parse_level(setup->settings->log_level, &level) == 0)
        gt_log_open("gotthard-agentd", level);
}

/* Brokers such as mosquitto with use_identity_as_username take the name from the certificate. AWS
 * IoT gives the same name to all certificates that it makes. */
static void warn_other_name(const struct setup *setup)
{
    const char *device = setup->settings->device_name;
    char name[256];

    gt_certificate_context_own_name(setup->credentials->tls, name, sizeof(name));
    if (*name && strcmp(name, device) != 0 && strcmp(name, "AWS IoT Certificate") != 0)
        gt_warn(
            "%s/cert.pem is for the name \"%s\", not for the device %s: a broker that takes names "
            "from certificates refuses its messages (device.name, MACHINE_ID)",
            setup->settings->mqtt_cert_path, name, device);
}

void setup_warn_expiry(const struct setup *setup)
{
    struct gt_own_certificate own;
    char why[GT_VERIFICATION_NAME + 96];

    gt_certificate_context_own(setup->credentials->tls, &own);
    if (gt_verification_expiry(&own, time(NULL), why, sizeof(why)))
        gt_warn("device=%s %s/cert.pem: %s", setup->settings->device_name,
                setup->settings->mqtt_cert_path, why);
}

/* Names that became words of operators after configurations had them. */
static void warn_service_names(const struct setup *setup)
{
    const struct targets *services = &setup->policy.services;

    if (targets_find(services, "socks"))
        gt_warn("services: operators reach 'socks' by its port only, because the word stands for a "
                "SOCKS proxy; choose another name");
    if (targets_find(services, PERMIT_NAME))
        gt_warn("services: '" PERMIT_NAME "' is the word for permitted targets; choose another "
                "name before agent.permit is set");
}

static void warn_proxy(const struct gt_config_proxy *proxy, const char *path, const char *host)
{
    const char *variable = gt_config_proxy_unusable(proxy, host);

    if (variable)
        gt_warn(GT_CONFIG_PROXY_UNUSABLE, variable, host, path);
}

static void warn_proxies(const struct setup *setup)
{
    const struct targets *relays = &setup->policy.relays;

    warn_proxy(&setup->settings->mqtt_proxy, "mqtt.proxy", setup->broker.host);
    if (relays->n > 0)
        warn_proxy(&setup->settings->server_proxy, "server.proxy", relays->all[0].address.host);
}

static void warn_unused_pins(const struct setup *setup)
{
    if (gt_config_is_set(setup->config, "trust.pins"))
        gt_warn("trust.pins is not used: trust.authority decides by its access list");
}

void setup_warn(const struct setup *setup)
{
    const struct settings *s = setup->settings;
    static struct gt_log_rate rate;
    unsigned n_suppressed;

    if (!gt_log_is_allowed(&rate, RELOADS_A_SECOND, &n_suppressed))
        return;
    if (setup->key.is_passphrase)
        gt_warn("crypt.key is a passphrase: a random key (gotthard-cli keygen) is stronger");
    if (setup->key.kind == GT_KEY_MASTER)
        gt_warn(
            "crypt.key is the fleet key, which gives the device more rights than it needs; use a "
            "device key (gk1d...) from `gotthard-cli keygen device %s`",
            s->device_name);
    if (setup->trust.policy == GT_POLICY_PSK)
        gt_warn("trust.policy is psk: any holder of the key can open tunnels under any name; pin "
                "the operators' certificates in %s",
                setup->pins_path);
    else if (setup->trust.policy == GT_POLICY_LIST)
        warn_unused_pins(setup);
    else if (setup->trust.n_pins == 0)
        gt_warn("%s is empty: no operator can open a tunnel", setup->pins_path);
    else if (setup->trust.pins_time > time(NULL))
        gt_warn("%s was written in the future, and the expiry of pins is judged by that time: set "
                "the clock, or touch the file",
                setup->pins_path);
    if (setup->policy.services.n == 0)
        gt_warn("services is empty: no operator can open a tunnel");
    warn_service_names(setup);
    if (*setup->credentials->unsigned_why)
        gt_warn("%s/cert.pem: %s; operators with trust.policy pin refuse this device",
                s->mqtt_cert_path, setup->credentials->unsigned_why);
    warn_proxies(setup);
    warn_other_name(setup);
    setup_warn_expiry(setup);
    if (*setup->credentials->warning)
        gt_warn("%s/ca.crt: %s", s->mqtt_cert_path, setup->credentials->warning);
    if (!setup->broker.is_tls && !gt_mqtt_url_is_loopback(&setup->broker))
        gt_warn("mqtt.endpoint is mqtt://, without TLS: the network to %s can observe which "
                "operators connect to this device",
                setup->broker.host);
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool setup_has_same_broker(const struct setup *a, const struct setup *b)
{
    const struct settings *x = a->settings, *y = b->settings;

    return is_same_text(x->mqtt_endpoint, y->mqtt_endpoint) &&
           is_same_text(x->mqtt_username, y->mqtt_username) &&
           is_same_text(x->mqtt_password, y->mqtt_password) &&
           is_same_text(x->mqtt_proxy.text, y->mqtt_proxy.text) &&
           is_same_text(x->mqtt_proxy_password, y->mqtt_proxy_password) &&
           is_same_text(x->device_name, y->device_name) &&
           is_same_text(x->mqtt_cert_path, y->mqtt_cert_path) &&
           is_same_text(x->mqtt_alpn, y->mqtt_alpn) &&
           is_same_text(x->mqtt_version, y->mqtt_version) &&
           x->reconnect_spread_ms == y->reconnect_spread_ms &&
           x->mqtt_keepalive_ms == y->mqtt_keepalive_ms &&
           gt_is_equal(a->credentials->digest, b->credentials->digest, GT_KEY_SIZE) &&
           tags_are_equal(&a->tags, &b->tags);
}

bool setup_has_same_identity(const struct setup *a, const struct setup *b)
{
    return is_same_text(a->settings->device_name, b->settings->device_name) &&
           is_same_text(a->settings->mqtt_prefix, b->settings->mqtt_prefix) &&
           a->has_previous == b->has_previous &&
           gt_is_equal(a->of_device, b->of_device, GT_KEY_SIZE) &&
           gt_is_equal(a->previous, b->previous, GT_KEY_SIZE);
}
