/* SPDX-License-Identifier: ISC */
/*
 * From settings to what they mean; see the header. Each step fills its part of the setup or says
 * why it cannot, naming where the value at fault came from.
 */
#include "setup.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/log.h"

#define PINS_MAX     (1024 * 1024)
#define PINS_DEFAULT "operators.pins"

#define setup_bad(setup, ret_error, path, ...) \
    setup_say(ret_error, gt_config_origin((setup)->config, path), path, __VA_ARGS__)

static GT_PRINTF(4, 5) int setup_say(char *ret_error, const char *origin, const char *path,
                                     const char *fmt, ...)
{
    int n = snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s: %s: ", origin ? origin : "default", path);
    va_list arguments;

    va_start(arguments, fmt);
    if (n >= 0 && n < GT_CONFIG_ERROR_MAX)
        vsnprintf(ret_error + n, (size_t)(GT_CONFIG_ERROR_MAX - n), fmt, arguments);
    va_end(arguments);
    return SETUP_E_BAD;
}

/* --- keys */

static int setup_derive(struct setup *setup, const char *path, const struct gt_key *key,
                        char *ret_error)
{
    const char *name = setup->settings->device_name;

    int r = gt_key_device(key, name, setup->of_device);
    if (r == 0)
        r = gt_key_client(key, GT_ROLE_DEVICE, name, setup->client_key);
    if (r > 0)
        return setup_bad(setup, ret_error, path,
                         "not a key of the device %s: give the string that "
                         "`gotthard-cli keygen device %s` prints",
                         name, name);
    setup->is_master = key->kind == GT_KEY_MASTER;
    setup->is_passphrase = key->is_passphrase;
    return r;
}

static int setup_derive_previous(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct gt_key key;

    int r = gt_key_parse(s->crypt_key_previous, s->crypt_iv, &key);
    if (r == 0)
        r = gt_key_device(&key, s->device_name, setup->previous);
    gt_key_wipe(&key);
    if (r > 0)
        return setup_bad(setup, ret_error, "crypt.key_previous", "%s", gt_key_strerror(r));
    setup->has_previous = r == 0;
    return r;
}

static int setup_load_keys(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct gt_key key;

    int r = gt_key_parse(s->crypt_key, s->crypt_iv, &key);
    if (r > 0)
        r = setup_bad(setup, ret_error, r == GT_KEY_E_IV ? "crypt.iv" : "crypt.key", "%s",
                      gt_key_strerror(r));
    else if (r == 0)
        r = setup_derive(setup, "crypt.key", &key, ret_error);
    gt_key_wipe(&key);
    if (r == 0 && s->crypt_key_previous)
        r = setup_derive_previous(setup, ret_error);
    return r;
}

/* --- certificates, and the broker they are for */

static int setup_load_credentials(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    char why[GT_CONFIG_ERROR_MAX];

    int r = credentials_load(s->mqtt_cert_path, s->mqtt_username != NULL, setup->broker.is_tls,
                             &setup->credentials, why, sizeof(why));
    return r > 0 ? setup_bad(setup, ret_error, "mqtt.cert_path", "%s", why) : r;
}

/* --- services and relays */

static int setup_add(struct targets *targets, const char *name, const char *host, uint64_t port)
{
    struct target target = {.port = (uint16_t)port};

    snprintf(target.name, sizeof(target.name), "%s", name);
    snprintf(target.host, sizeof(target.host), "%s", host);
    return targets_add(targets, &target);
}

static int setup_add_map(struct setup *setup, const char *path, const struct gt_config_map *map,
                         struct targets *targets, char *ret_error)
{
    char why[GT_CONFIG_ERROR_MAX];

    int r = targets_add_map(targets, map, why, sizeof(why));
    return r > 0 ? setup_bad(setup, ret_error, path, "%s", why) : r;
}

static int setup_load_relays(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct targets *relays = &setup->policy.relays;
    int r = 0;

    if (s->server_host && !gt_config_map_get(&s->relays, "main"))
        r = setup_add(relays, "main", s->server_host, s->server_port);
    if (r == 0)
        r = setup_add_map(setup, "relays", &s->relays, relays, ret_error);
    for (size_t i = 0; r == 0 && i < relays->n; i++)
        if (strlen(relays->all[i].name) > GT_RELAY_NAME_MAX)
            r = setup_bad(setup, ret_error, "relays", "a name has at most %d characters",
                          GT_RELAY_NAME_MAX);
    return r;
}

static int setup_load_policy(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct policy *policy = &setup->policy;

    policy->sessions_max = (unsigned)s->sessions_max;
    policy->per_operator_max = (unsigned)s->per_operator_max;
    policy->streams_max = (uint16_t)s->streams_max;
    policy->lifetime_max_s = (uint32_t)(s->lifetime_ms / 1000);
    int r = setup_load_relays(setup, ret_error);
    if (r == 0 && !gt_config_map_get(&s->services, "ssh"))
        r = setup_add(&policy->services, "ssh", s->data_host, s->data_port);
    if (r == 0)
        r = setup_add_map(setup, "services", &s->services, &policy->services, ret_error);
    return r;
}

/* --- pins */

static int setup_parse_pins(struct setup *setup, const char *path, char *ret_error)
{
    gt_cleanup(gt_free) char *text = NULL;
    const char *why = NULL;
    size_t n = 0, line = 0;

    int r = gt_config_read_file(path, PINS_MAX, false, &text, &n, &why);
    if (r > 0)
        return setup_bad(setup, ret_error, "trust.pins", "%s: %s", path, why);
    if (r == 0) {
        r = gt_trust_parse_pins(gt_span(text, n), &setup->trust, &line, &why);
        if (r > 0)
            return setup_bad(setup, ret_error, "trust.pins", "%s:%zu: %s", path, line, why);
    }
    return r;
}

/* $GOTTHARD_CONFIG_DIR moves the default, as it moves all of /etc/gotthard; empty, it moves
 * nothing. */
static char *setup_pins_path(const struct setup *setup)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    char *path = NULL;

    if (folder && *folder && !gt_config_is_set(setup->config, "trust.pins"))
        return asprintf(&path, "%s/%s", folder, PINS_DEFAULT) < 0 ? NULL : path;
    return strdup(setup->settings->trust_pins);
}

/* Only a file that is not there means `auto` may trust the key alone; one that cannot be read does
 * not. */
static int setup_load_trust(struct setup *setup, char *ret_error)
{
    const char *policy = setup->settings->trust_policy;
    struct stat st;

    setup->pins_path = setup_pins_path(setup);
    if (!setup->pins_path)
        return -ENOMEM;
    bool is_absent = stat(setup->pins_path, &st) < 0 && errno == ENOENT;
    if (strcmp(policy, "psk") == 0 || (strcmp(policy, "auto") == 0 && is_absent)) {
        gt_trust_init_psk(&setup->trust);
        return 0;
    }
    return setup_parse_pins(setup, setup->pins_path, ret_error);
}

/* --- all of it */

struct setup *setup_free(struct setup *setup)
{
    if (!setup)
        return NULL;
    hostkeys_deinit(&setup->host_keys);
    policy_deinit(&setup->policy);
    gt_trust_deinit(&setup->trust);
    free(setup->pins_path);
    credentials_deinit(&setup->credentials);
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
    return r > 0 ? setup_bad(setup, ret_error, "mqtt.prefix",
                             "\"%s\" makes no topic of at most 7 slashes and 256 bytes",
                             s->mqtt_prefix)
                 : r;
}

static int setup_load(struct setup *setup, char *ret_error)
{
    if (gt_endpoint_parse(setup->settings->mqtt_endpoint, &setup->broker) != 0)
        return -EINVAL; /* settings_check has taken it */
    int r = setup_check_topics(setup, ret_error);
    if (r == 0)
        r = setup_load_keys(setup, ret_error);
    if (r == 0)
        r = setup_load_credentials(setup, ret_error);
    if (r == 0)
        r = setup_load_policy(setup, ret_error);
    if (r == 0)
        r = setup_load_trust(setup, ret_error);
    if (r == 0)
        hostkeys_read(setup->settings->host_keys, &setup->host_keys);
    return r;
}

int setup_new(const struct gt_config_args *args, struct setup **ret,
              char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct setup *setup = calloc(1, sizeof(*setup));
    if (!setup)
        return -ENOMEM;
    gt_trust_init_psk(&setup->trust);
    int r = gt_config_load(&settings_program, args, &setup->config, ret_error);
    if (r == 0) {
        setup->settings = gt_config_settings(setup->config);
        r = setup_load(setup, ret_error);
    }
    if (r)
        setup_free(setup);
    else
        *ret = setup;
    return r;
}

void setup_warn(const struct setup *setup)
{
    const struct settings *s = setup->settings;

    if (setup->is_passphrase)
        gt_warn("the key is a passphrase: 32 random bytes (gotthard-cli keygen) are stronger");
    if (setup->is_master)
        gt_warn(
            "this device holds the fleet's key, which is more than it needs: give it the string "
            "of `gotthard-cli keygen device %s`",
            s->device_name);
    if (setup->trust.policy == GT_POLICY_PSK)
        gt_warn("trust.policy is psk: whoever holds the key may open tunnels under any name; pin "
                "the operators' certificates in %s",
                setup->pins_path);
    else if (setup->trust.n_pins == 0)
        gt_warn("the file of pins is empty: nobody may open a tunnel");
    if (!setup->broker.is_tls && !gt_endpoint_is_loopback(&setup->broker))
        gt_warn("mqtt:// is without TLS: anybody on the way to %s sees who talks to whom",
                setup->broker.host);
}

static bool text_equals(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool setup_has_same_broker(const struct setup *a, const struct setup *b)
{
    const struct settings *x = a->settings, *y = b->settings;

    return text_equals(x->mqtt_endpoint, y->mqtt_endpoint) &&
           text_equals(x->mqtt_username, y->mqtt_username) &&
           text_equals(x->mqtt_password, y->mqtt_password) &&
           text_equals(x->device_name, y->device_name) &&
           text_equals(x->mqtt_cert_path, y->mqtt_cert_path) &&
           x->mqtt_keepalive_ms == y->mqtt_keepalive_ms &&
           gt_is_equal(a->credentials.digest, b->credentials.digest, GT_KEY_SIZE);
}

bool setup_has_same_identity(const struct setup *a, const struct setup *b)
{
    return text_equals(a->settings->device_name, b->settings->device_name) &&
           text_equals(a->settings->mqtt_prefix, b->settings->mqtt_prefix) &&
           a->has_previous == b->has_previous &&
           gt_is_equal(a->of_device, b->of_device, GT_KEY_SIZE) &&
           gt_is_equal(a->previous, b->previous, GT_KEY_SIZE);
}
