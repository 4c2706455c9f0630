/* SPDX-License-Identifier: ISC */
/*
 * The keys of an operator: the fleet key, or the operator's own key with the keys of its devices.
 * Each command checks here, before it connects anywhere, that the key holds the rights which the
 * command needs. A message must never contain a part of a key.
 */
#include <string.h>

#include "gotthard/config/config.h"
#include "identity.h"

/* One key with its settings: the present one, or the one before a rotation. */
struct key_source {
    const char *what, *text;         /* of the key */
    const char *devices_what, *path; /* of the file of device keys; path: NULL if it is not set */
};

static const char *describe_kind(const struct gt_key *key)
{
    switch (key->kind) {
    case GT_KEY_MASTER: return "the fleet key";
    case GT_KEY_RELAY: return "the key of a relay";
    case GT_KEY_DEVICE: return "the key of a device";
    case GT_KEY_OPERATOR: return "the key of an operator";
    }
    return "another key";
}

static int parse_key(const struct key_source *source, const char *iv, struct gt_key *ret,
                     struct failure *ret_failure)
{
    int r = gt_key_parse(source->text, iv, ret);

    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", source->what,
                           strerror(-r));
    if (r > 0)
        return failure_set(ret_failure, FAILURE_KEY, NULL, "%s: %s",
                           gt_key_is_of_iv(r) ? "crypt.iv" : source->what, gt_key_strerror(r));
    return 0;
}

/* --- an operator's own key ----------------------------------------------------------------------
 */

static int check_name(const struct key_source *source, const char *name, const struct gt_key *key,
                      struct failure *ret_failure)
{
    if (strcmp(key->name, name) == 0)
        return 0;
    failure_set(ret_failure, FAILURE_KEY, NULL,
                "%s is the key of the operator %s, but client.name is %s", source->what, key->name,
                name);
    failure_hint(ret_failure,
                 "set {client.name} to %s, or {%s} to the output of `gotthard-cli keygen operator "
                 "%s`, which runs where the fleet key is",
                 key->name, source->what, name);
    return 1;
}

static int read_devices(const struct key_source *source, struct gt_device_keys *ret,
                        struct failure *ret_failure)
{
    char *text = NULL;
    size_t n = 0, line = 0;
    const char *why = "cannot be read";

    if (gt_config_read_file(source->path, GT_DEVICE_KEYS_TEXT_MAX, true, &text, &n, &why) != 0)
        return failure_set(ret_failure, FAILURE_KEY, "check {crypt.device_keys}", "%s: %s: %s",
                           source->devices_what, source->path, why);
    int r = gt_device_keys_parse(gt_span(text, n), ret, &line, &why);
    gt_wipe(text, n);
    free(text);
    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", source->path,
                           strerror(-r));
    if (r > 0)
        return failure_set(ret_failure, FAILURE_KEY,
                           "write each line as gotthard-cli keygen operator prints it: NAME KEY",
                           "%s:%zu: %s", source->path, line, why);
    return 0;
}

static int load_devices(const struct key_source *source, const struct gt_key *key,
                        struct gt_device_keys *ret, struct failure *ret_failure)
{
    if (source->path)
        return read_devices(source, ret, ret_failure);
    failure_set(ret_failure, FAILURE_KEY, NULL,
                "%s is the key of an operator of some devices, and %s is not set", source->what,
                source->devices_what);
    failure_hint(ret_failure,
                 "set {+%s} to the file of the keys of these devices: gotthard-cli keygen operator "
                 "%s DEVICE... prints it, where the fleet key is",
                 source->devices_what, key->name);
    return 1;
}

/* Loads the key of @source, and its device keys where it needs them. */
static int load_source(const struct key_source *source, const struct settings *settings,
                       struct gt_key *ret, struct gt_device_keys *ret_devices,
                       struct failure *ret_failure)
{
    int r = parse_key(source, settings->crypt_iv, ret, ret_failure);

    if (r == 0 && ret->kind == GT_KEY_OPERATOR)
        r = check_name(source, settings->client_name, ret, ret_failure);
    else if (r == 0 && ret->kind != GT_KEY_MASTER)
        r = failure_set(ret_failure, FAILURE_KEY,
                        "an operator needs the output of `gotthard-cli keygen operator NAME`, "
                        "which runs where the fleet key is",
                        "%s is %s", source->what, describe_kind(ret));
    if (r == 0 && !ret->has_devices)
        r = load_devices(source, ret, ret_devices, ret_failure);
    if (r != 0)
        gt_key_wipe(ret);
    return r;
}

static void warn(const struct settings *settings, const struct gt_key *key, struct print *print)
{
    if (key->is_passphrase)
        print_warning(print, "crypt.key is a passphrase, only as strong as it is hard to guess");
    if (key->kind == GT_KEY_MASTER)
        print_warning(print,
                      IDENTITY_FLEET_KEY
                      "; use an operator key (gk1o...) from `gotthard-cli keygen "
                      "operator %s`",
                      settings->client_name);
    if (key->has_devices && settings->device_keys)
        print_warning(print, "crypt.device_keys is not used: crypt.key is for every device");
}

static struct key_source source_of_present(const struct settings *settings)
{
    return (struct key_source){
        .what = "crypt.key",
        .text = settings->crypt_key,
        .devices_what = "crypt.device_keys",
        .path = settings->device_keys,
    };
}

static struct key_source source_of_previous(const struct settings *settings)
{
    return (struct key_source){
        .what = "crypt.key_previous",
        .text = settings->crypt_key_previous,
        .devices_what = "crypt.device_keys_previous",
        .path = settings->device_keys_previous,
    };
}

static int check_is_set(const struct settings *settings, const char *what, const char *hint,
                        struct failure *ret_failure)
{
    return settings->crypt_key
               ? 0
               : failure_set(ret_failure, FAILURE_KEY, hint, "%s: crypt.key is not set", what);
}

int identity_load_key(const struct settings *settings, struct print *print, struct identity *ret,
                      struct failure *ret_failure)
{
    const struct key_source present = source_of_present(settings);
    const struct key_source previous = source_of_previous(settings);

    if (check_is_set(settings, "no fleet key",
                     "set {+crypt.key}; gotthard-cli keygen > fleet.key generates one for a new "
                     "fleet",
                     ret_failure) ||
        load_source(&present, settings, &ret->key, &ret->devices, ret_failure))
        return 1;
    warn(settings, &ret->key, print);
    if (!settings->crypt_key_previous)
        return 0;
    ret->has_previous = true;
    return load_source(&previous, settings, &ret->previous, &ret->previous_devices, ret_failure);
}

/* Keys are not derived from the previous key, but a text that is no key is never ignored. */
static int check_previous(const struct settings *settings, struct failure *ret_failure)
{
    const struct key_source previous = source_of_previous(settings);
    struct gt_key ignored = {0};

    if (!previous.text)
        return 0;
    int r = parse_key(&previous, settings->crypt_iv, &ignored, ret_failure);
    gt_key_wipe(&ignored);
    return r;
}

int identity_load_fleet_key(const struct settings *settings, struct print *print,
                            struct gt_key *ret, struct failure *ret_failure)
{
    static const char hint[] =
        "run it where the fleet key is, with {crypt.key} and {crypt.iv} set to it";
    const struct key_source present = source_of_present(settings);

    if (check_is_set(settings, "no fleet key", hint, ret_failure) ||
        parse_key(&present, settings->crypt_iv, ret, ret_failure) ||
        check_previous(settings, ret_failure))
        return 1;
    if (ret->is_passphrase)
        print_warning(print, "crypt.key is a passphrase, only as strong as it is hard to guess");
    if (ret->kind == GT_KEY_MASTER)
        return 0;
    const char *kind = describe_kind(ret);
    gt_key_wipe(ret);
    return failure_set(ret_failure, FAILURE_KEY, hint,
                       "only the fleet key can derive other keys, and crypt.key is %s", kind);
}

/* --- one device ---------------------------------------------------------------------------------
 */

/* Returns 0, GT_KEY_E_NOT_HELD or another condition of gt_key_device(). */
static int find_key(const struct gt_key *key, const struct gt_device_keys *devices,
                    const char *device, uint8_t ret[static GT_KEY_SIZE])
{
    if (key->has_devices)
        return gt_key_device(key, device, ret);
    return gt_device_keys_find(devices, device, ret) ? 0 : GT_KEY_E_NOT_HELD;
}

bool identity_holds_device(const struct identity *identity, const char *device)
{
    uint8_t ignored[GT_KEY_SIZE];
    bool is_held =
        identity->key.has_devices || gt_device_keys_find(&identity->devices, device, ignored);

    gt_wipe(ignored, sizeof(ignored));
    return is_held;
}

int identity_check_device(const struct identity *identity, const char *device,
                          struct failure *ret_failure)
{
    if (identity_holds_device(identity, device))
        return 0;
    return failure_set_of(ret_failure, device, FAILURE_KEY,
                          "check the name, names are case-sensitive; the line of a device for "
                          "{crypt.device_keys} comes from `gotthard-cli keygen operator NAME "
                          "{device}`, which runs where the fleet key is",
                          "this operator has no key of the device %s", device);
}

int identity_device_key(const struct identity *identity, const char *device,
                        struct device_keys *ret, struct failure *ret_failure)
{
    int r = find_key(&identity->key, &identity->devices, device, ret->present);

    if (r == GT_KEY_E_NOT_HELD)
        return identity_check_device(identity, device, ret_failure);
    int previous =
        identity->has_previous
            ? find_key(&identity->previous, &identity->previous_devices, device, ret->previous)
            : GT_KEY_E_NOT_HELD;
    ret->has_previous = previous == 0;
    if (r != 0 || (previous != 0 && previous != GT_KEY_E_NOT_HELD))
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot derive the device key");
    return 0;
}

void device_keys_wipe(struct device_keys *keys)
{
    gt_wipe(keys, sizeof(*keys));
}

void identity_forget_keys(struct identity *identity)
{
    gt_key_wipe(&identity->key);
    gt_key_wipe(&identity->previous);
    gt_device_keys_deinit(&identity->devices);
    gt_device_keys_deinit(&identity->previous_devices);
}
