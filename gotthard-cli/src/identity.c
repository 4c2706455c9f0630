/* SPDX-License-Identifier: ISC */
/*
 * Turns settings and their files into keys, a signer and a trust. Each thing that is missing or
 * wrong becomes one failure that names the setting. No key ever appears in a message.
 */
#include "identity.h"

#include <stdio.h>
#include <string.h>

#define PEM_MAX  (64 * 1024)
#define PINS_MAX (1024 * 1024)

static int parse_key(const char *text, const char *iv, const char *what, struct gt_key *ret,
                     struct failure *ret_failure)
{
    int err = gt_key_parse(text, iv, ret);
    if (err < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", what, strerror(-err));
    if (err > 0)
        return failure_set(ret_failure, FAILURE_KEY, NULL, "%s: %s", what, gt_key_strerror(err));
    if (ret->kind == GT_KEY_MASTER)
        return 0;
    gt_key_wipe(ret);
    return failure_set(ret_failure, FAILURE_KEY,
                       "an operator needs the fleet's key itself, not a gk1 string derived from it",
                       "%s is the key of a relay or of one device", what);
}

int identity_load_key(const struct settings *settings, struct print *print, struct identity *ret,
                      struct failure *ret_failure)
{
    if (!settings->crypt_key)
        return failure_set(
            ret_failure, FAILURE_KEY,
            "set GOTTHARD_CRYPT_KEY (or _FILE) and GOTTHARD_CRYPT_IV to the fleet's; "
            "gotthard-cli keygen makes new ones",
            "no key: crypt.key is not set");
    if (parse_key(settings->crypt_key, settings->crypt_iv, "crypt.key", &ret->key, ret_failure))
        return 1;
    if (ret->key.is_passphrase)
        print_warning(print, "crypt.key is a passphrase: as strong as it is hard to guess");
    if (!settings->crypt_key_previous)
        return 0;
    ret->has_previous = true;
    return parse_key(settings->crypt_key_previous, settings->crypt_iv, "crypt.key_previous",
                     &ret->previous, ret_failure);
}

/* A file of the certificate's folder. 0 with *ret_text NULL: there is none. */
static int read_part(const char *folder, const char *name, bool is_secret, char **ret_text,
                     size_t *ret_n, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    *ret_text = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    const char *why = "cannot be read";
    if (gt_config_read_file(path, PEM_MAX, is_secret, ret_text, ret_n, &why) == 0)
        return 0;
    return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: %s", path, why);
}

static int make_signer(const char *folder, struct gt_span certificate, struct gt_span key,
                       struct identity *ret, struct failure *ret_failure)
{
    int err = gt_signer_new(certificate, key, &ret->signer);
    if (err < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", folder, strerror(-err));
    if (err > 0)
        return failure_set(
            ret_failure, FAILURE_CONFIG,
            "cert.pem and an unencrypted private.key that belong together are needed",
            "%s: cert.pem with private.key: %s", folder, gt_trust_strerror(err));
    return 0;
}

int identity_load_signer(const struct settings *settings, struct identity *ret,
                         struct failure *ret_failure)
{
    const char *folder = settings->mqtt_cert_path;
    if (!folder)
        return 0;
    char *certificate = NULL, *key = NULL;
    size_t n_certificate = 0, n_key = 0;
    int err = read_part(folder, "cert.pem", false, &certificate, &n_certificate, ret_failure);
    if (err == 0)
        err = read_part(folder, "private.key", true, &key, &n_key, ret_failure);
    if (err == 0 && !certificate != !key)
        err = failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: there is no %s", folder,
                          key ? "cert.pem" : "private.key");
    if (err == 0 && key)
        err = make_signer(folder, gt_span(certificate, n_certificate), gt_span(key, n_key), ret,
                          ret_failure);
    if (key)
        gt_wipe(key, n_key);
    free(key);
    free(certificate);
    return err;
}

static int load_pins(const char *path, struct gt_trust *ret, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *text = NULL;
    size_t n = 0, line = 0;
    const char *why = "cannot be read";
    if (gt_config_read_file(path, PINS_MAX, false, &text, &n, &why) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: %s", path, why);
    int err = gt_trust_parse_pins(gt_span(text, n), ret, &line, &why);
    if (err < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", path, strerror(-err));
    if (err > 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "each line is: NAME SPKI-SHA256 [role=device] [until=YYYY-MM-DD]",
                           "%s:%zu: %s", path, line, why);
    return 0;
}

/* $GOTTHARD_CONFIG_DIR moves the default, as it moves all of /etc/gotthard; empty, it moves
 * nothing. What was given stays where it is, also when it is the default's own path. */
static char *find_pins(const struct gt_config *config)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    const struct settings *settings = gt_config_settings(config);
    char *path = NULL;
    if (!folder || !*folder || gt_config_is_set(config, "trust.pins"))
        return strdup(settings->trust_pins);
    return asprintf(&path, "%s/devices.pins", folder) < 0 ? NULL : path;
}

/* Only a file that is not there means that `auto` may trust the key alone; one that cannot be read
 * does not. */
static int load_trust(const struct gt_config *config, struct print *print, struct identity *ret,
                      struct failure *ret_failure)
{
    const struct settings *settings = gt_config_settings(config);
    bool is_auto = strcmp(settings->trust_policy, "auto") == 0;
    ret->pins_path = find_pins(config);
    if (!ret->pins_path)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    bool has_file = access(ret->pins_path, F_OK) == 0 || errno != ENOENT;
    if (strcmp(settings->trust_policy, "pin") == 0 || (is_auto && has_file))
        return load_pins(ret->pins_path, &ret->trust, ret_failure);
    gt_trust_init_psk(&ret->trust);
    if (is_auto)
        print_fact(print, "no %s: whoever has the fleet's key is believed to be the device",
                   ret->pins_path);
    return 0;
}

int identity_load(const struct gt_config *config, struct print *print, struct identity *ret,
                  struct failure *ret_failure)
{
    const struct settings *settings = gt_config_settings(config);
    if (identity_load_key(settings, print, ret, ret_failure) != 0)
        return 1;
    if (identity_load_signer(settings, ret, ret_failure) != 0)
        return 1;
    return load_trust(config, print, ret, ret_failure);
}

void identity_deinit(struct identity *identity)
{
    gt_key_wipe(&identity->key);
    gt_key_wipe(&identity->previous);
    identity->signer = gt_signer_free(identity->signer);
    gt_trust_deinit(&identity->trust);
    free(gt_steal(&identity->pins_path));
}

int identity_of_device(const struct identity *identity, const char *device,
                       uint8_t ret[static GT_KEY_SIZE], uint8_t ret_previous[static GT_KEY_SIZE],
                       struct failure *ret_failure)
{
    int err = gt_key_device(&identity->key, device, ret);
    if (err == 0 && identity->has_previous)
        err = gt_key_device(&identity->previous, device, ret_previous);
    if (err != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot derive the device's key");
    return 0;
}
