/* SPDX-License-Identifier: ISC */
/*
 * Turns settings and their files into a signer and pins; identity-key.c has the keys. A missing or
 * invalid one becomes a failure that names the setting. A message must never contain a key.
 */
#include "identity.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/config/protected-file.h"
#include "gotthard/tls/certificate-context.h"

#define PEM_MAX  (64 * 1024)
#define PINS_MAX (1024 * 1024)

/* Reads a file of the certificate's folder. Returns 0 with ->text NULL if it does not exist. */
static int read_credential(const char *folder, const char *name, bool is_secret,
                           struct identity_file *ret, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *path = NULL;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    if (gt_protectedfile_is_absent(path))
        return 0;
    const char *why = "cannot be read";
    if (gt_config_read_file(path, PEM_MAX, is_secret, &ret->text, &ret->n, &why) == 0)
        return 0;
    return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: %s", path, why);
}

static int make_signer(const char *folder, struct identity *ret, struct failure *ret_failure)
{
    char why[GT_TRUST_WHY];
    int r = gt_signer_new(gt_span(ret->certificate.text, ret->certificate.n),
                          gt_span(ret->private_key.text, ret->private_key.n), &ret->signer, why);

    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", folder, strerror(-r));
    if (r == GT_TRUST_E_UNSUITED) { /* TLS may accept it, and under psk nothing needs a signature */
        snprintf(ret->unsigned_why, sizeof(ret->unsigned_why), "%s", why);
        return 0;
    }
    if (r > 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "provide cert.pem and its private.key, unencrypted",
                           "%s: cert.pem with private.key: %s", folder, why);
    return 0;
}

int identity_load_signer(const struct settings *settings, struct identity *ret,
                         struct failure *ret_failure)
{
    const char *folder = settings->mqtt_cert_path;

    if (!folder)
        return 0;
    int r = read_credential(folder, "cert.pem", false, &ret->certificate, ret_failure);
    if (r == 0)
        r = read_credential(folder, "private.key", true, &ret->private_key, ret_failure);
    if (r == 0 && !ret->certificate.text != !ret->private_key.text)
        r = failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: missing %s", folder,
                        ret->private_key.text ? "cert.pem" : "private.key");
    if (r == 0 && ret->certificate.text) {
        gt_own_certificate_read(gt_span(ret->certificate.text, ret->certificate.n), &ret->own);
        r = make_signer(folder, ret, ret_failure);
    }
    return r;
}

static int load_pins(const char *path, struct gt_trust *ret, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *text = NULL;
    size_t n = 0, line = 0;
    const char *why = "cannot be read";

    if (gt_config_read_file(path, PINS_MAX, false, &text, &n, &why) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "%s: %s", path, why);
    int r = gt_trust_parse_pins(gt_span(text, n), ret, &line, &why);
    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s: %s", path, strerror(-r));
    if (r > 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "write each line as: NAME SPKI-SHA256 [role=device] [until=YYYY-MM-DD]",
                           "%s:%zu: %s", path, line, why);
    ret->pins_time = gt_protectedfile_time(path);
    return 0;
}

/* Returns the path of the pin file; the caller frees it. $GOTTHARD_CONFIG_DIR replaces
 * /etc/gotthard in the default, unless it is empty. A path that was set is used as it is, even if
 * it equals the default. */
static char *find_pins(const struct gt_config *config)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    const struct settings *settings = gt_config_settings(config);
    char *path = NULL;

    if (!folder || !*folder || gt_config_is_set(config, "trust.pins"))
        return strdup(settings->trust_pins);
    return asprintf(&path, "%s/devices.pins", folder) < 0 ? NULL : path;
}

static int load_access(const struct settings *settings, struct identity *ret,
                       struct failure *ret_failure)
{
    uint8_t authority[GT_KEY_SIZE];
    const char *why = "";

    if (!settings->trust_authority)
        return failure_set(ret_failure, FAILURE_CONFIG, "set {+trust.authority}",
                           "trust.policy: list needs trust.authority");
    if (gt_authority_parse_public(settings->trust_authority, authority, &why) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "set {trust.authority} to the line that gotthard-cli access init prints",
                           "trust.authority: %s", why);
    ret->access = operator_access_free(ret->access); /* it may be loaded again */
    int r = operator_access_new(authority, settings->access_max_age_ms / 1000, &ret->trust,
                                &ret->access);
    return r == 0
               ? 0
               : failure_set(ret_failure, FAILURE_INTERNAL, NULL, "access list: %s", strerror(-r));
}

/* `auto` is `psk` only if no path is configured and the default file does not exist. A file that
 * cannot be read is a failure. */
int identity_load_trust(const struct gt_config *config, struct identity *ret,
                        struct failure *ret_failure)
{
    const struct settings *settings = gt_config_settings(config);
    bool is_auto = strcmp(settings->trust_policy, "auto") == 0;

    if (strcmp(settings->trust_policy, "list") == 0 || (is_auto && settings->trust_authority))
        return load_access(settings, ret, ret_failure);
    ret->pins_path = find_pins(config);
    if (!ret->pins_path)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    ret->has_no_pins = is_auto && !gt_config_is_set(config, "trust.pins") &&
                       gt_protectedfile_is_absent(ret->pins_path);
    if (!ret->has_no_pins && strcmp(settings->trust_policy, "psk") != 0)
        return load_pins(ret->pins_path, &ret->trust, ret_failure);
    gt_trust_init_psk(&ret->trust);
    return 0;
}

/* --- the state of the files --------------------------------------------------------------------
 */

enum file_state { FILE_UNUSED, FILE_ABSENT, FILE_UNREADABLE, FILE_READ };

/* All its members are bytes: there is no padding to hash. */
struct file_digest {
    uint8_t state; /* enum file_state */
    uint8_t bytes[GT_KEY_SIZE];
};

static uint64_t count_expired(struct gt_span text, time_t now)
{
    struct gt_pin *pins = NULL;
    size_t n = 0, line;
    uint64_t n_expired = 0;
    const char *why;

    if (gt_pins_parse(text, &pins, &n, &line, &why) != 0)
        return 0; /* the bytes are hashed anyway */
    for (size_t i = 0; i < n; i++)
        n_expired += pins[i].until != 0 && pins[i].until <= now;
    gt_pins_free(pins, n);
    return n_expired;
}

enum file_kind { FILE_PINS, FILE_CERTIFICATE, FILE_SECRET };

/* Of pins an expiry that has passed changes the digest. @path: NULL if it is not set. */
static int digest_file(const char *path, size_t max, enum file_kind kind, struct file_digest *ret)
{
    gt_cleanup(gt_free) char *text = NULL;
    uint64_t n_expired = 0;
    const char *why;
    size_t n = 0;

    *ret = (struct file_digest){.state = path ? FILE_ABSENT : FILE_UNUSED};
    if (!path)
        return 0;
    if (gt_protectedfile_is_absent(path))
        return 0;
    ret->state = FILE_UNREADABLE;
    int r = gt_config_read_file(path, max, kind == FILE_SECRET, &text, &n, &why);
    if (r != 0)
        return r == -ENOMEM ? r : 0;
    ret->state = FILE_READ;
    if (kind == FILE_PINS)
        n_expired =
            count_expired(gt_span(text, n), GT_MAX(time(NULL), gt_protectedfile_time(path)));
    const struct gt_span parts[] = {gt_span(&n_expired, sizeof(n_expired)), gt_span(text, n)};
    r = gt_sha256(parts, GT_ARRAY_SIZE(parts), ret->bytes);
    if (kind == FILE_SECRET)
        gt_wipe(text, n);
    return r > 0 ? -EIO : r;
}

static int digest_certificate(const char *folder, struct file_digest *ret)
{
    gt_cleanup(gt_free) char *path = NULL;

    *ret = (struct file_digest){.state = FILE_UNUSED};
    if (!folder)
        return 0;
    if (asprintf(&path, "%s/cert.pem", folder) < 0)
        return -ENOMEM;
    return digest_file(path, PEM_MAX, FILE_CERTIFICATE, ret);
}

int identity_digest_files(const struct gt_config *config, uint8_t ret[static GT_KEY_SIZE])
{
    const struct settings *settings = gt_config_settings(config);
    gt_cleanup(gt_free) char *path = find_pins(config);
    struct file_digest pins = {.state = FILE_UNUSED}, certificate, keys[2];
    uint8_t is_set = gt_config_is_set(config, "trust.pins");
    int r = 0;

    if (!path)
        return -ENOMEM;
    if (strcmp(settings->trust_policy, "psk") != 0)
        r = digest_file(path, PINS_MAX, FILE_PINS, &pins);
    if (r == 0)
        r = digest_certificate(settings->mqtt_cert_path, &certificate);
    if (r == 0)
        r = digest_file(settings->device_keys, GT_DEVICE_KEYS_TEXT_MAX, FILE_SECRET, &keys[0]);
    if (r == 0)
        r = digest_file(settings->device_keys_previous, GT_DEVICE_KEYS_TEXT_MAX, FILE_SECRET,
                        &keys[1]);
    if (r != 0)
        return r;
    const struct gt_span parts[] = {
        gt_span(&is_set, 1),
        gt_span(&pins, sizeof(pins)),
        gt_span(&certificate, sizeof(certificate)),
        gt_span(keys, sizeof(keys)),
        gt_span(path, strlen(path)),
    };
    r = gt_sha256(parts, GT_ARRAY_SIZE(parts), ret);
    return r > 0 ? -EIO : r;
}

bool identity_has_other_name(const struct identity *identity, const struct settings *settings)
{
    static const char prefix[] = "operator ";
    const char *name = identity->own.name;

    if (!*name || settings->mqtt_username || strcmp(name, "AWS IoT Certificate") == 0)
        return false;
    if (strncmp(name, prefix, sizeof(prefix) - 1) == 0)
        name += sizeof(prefix) - 1;
    return strcmp(name, settings->client_name) != 0;
}

int identity_load(const struct gt_config *config, struct print *print, struct identity *ret,
                  struct failure *ret_failure)
{
    const struct settings *settings = gt_config_settings(config);

    if (identity_load_key(settings, print, ret, ret_failure) != 0)
        return 1;
    if (identity_load_signer(settings, ret, ret_failure) != 0)
        return 1;
    if (*ret->unsigned_why)
        print_warning(print, "%s/cert.pem: %s; devices with trust.policy pin refuse this operator",
                      settings->mqtt_cert_path, ret->unsigned_why);
    return identity_load_trust(config, ret, ret_failure);
}

void identity_warn_unpinned(const struct identity *identity, const char *device,
                            struct print *print)
{
    if (identity->has_no_pins)
        print_warning(print,
                      IDENTITY_UNPINNED "%s: %s does not exist; pin the "
                                        "device there, or set trust.policy to psk",
                      device, identity->pins_path);
}

void identity_deinit(struct identity *identity)
{
    identity_forget_keys(identity);
    identity->signer = gt_signer_free(identity->signer);
    free(gt_steal(&identity->certificate.text));
    if (identity->private_key.text)
        gt_wipe(identity->private_key.text, identity->private_key.n);
    free(gt_steal(&identity->private_key.text));
    identity->access = operator_access_free(identity->access);
    gt_trust_deinit(&identity->trust);
    free(gt_steal(&identity->pins_path));
}
