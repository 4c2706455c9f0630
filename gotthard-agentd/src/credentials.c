/* SPDX-License-Identifier: ISC */
/*
 * Reading the directory of certificates; see the header. The bytes that are checked here are those
 * that are used: no file is opened again.
 */
#include "credentials.h"

#include <stdarg.h>
#include <stdio.h>

#include "gotthard/config/config.h"
#include "gotthard/config/protected-file.h"

#define PEM_MAX   65536
#define CA_MAX    (1024 * 1024)
#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

struct text {   /* of a file */
    char *data; /* owned; NULL: no file */
    size_t n;
};

/* One call of credentials_load. */
struct load {
    const char *folder;
    const struct gt_mqtt_url *broker;
    char *why;
    size_t cap;
    struct text ca, certificate, key;
    struct credentials *result;
};

static GT_PRINTF(2, 3) int load_fail(struct load *load, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(load->why, load->cap, fmt, arguments);
    va_end(arguments);
    return CREDENTIALS_E_FILE;
}

/* --- reading ----------------------------------------------------------------------------- */

/* Before it is read: a change during that makes it stale. */
static int load_note_file(struct load *load, const char *path)
{
    struct credentials_file *file = &load->result->files[load->result->n_files];

    file->path = strdup(path);
    if (!file->path)
        return -ENOMEM;
    load->result->n_files++;
    if (stat(path, &file->stat) < 0)
        return load_fail(load, "%s: %s", path, strerror(errno));
    return 0;
}

static int load_file(struct load *load, const char *path, size_t max, bool is_secret,
                     struct text *ret)
{
    const char *why = NULL;

    int r = load_note_file(load, path);
    if (r)
        return r;
    r = gt_config_read_file(path, max, is_secret, &ret->data, &ret->n, &why);
    if (r > 0)
        return load_fail(load, "%s: %s", path, why);
    if (r < 0)
        return r;
    struct gt_span parts[] = {gt_span(load->result->digest, GT_KEY_SIZE),
                              gt_span(ret->data, ret->n)};
    return gt_sha256(parts, GT_ARRAY_SIZE(parts), load->result->digest);
}

static int load_named(struct load *load, const char *name, size_t max, bool is_secret,
                      struct text *ret)
{
    gt_cleanup(gt_free) char *path = NULL;

    if (asprintf(&path, "%s/%s", load->folder, name) < 0)
        return -ENOMEM;
    return load_file(load, path, max, is_secret, ret);
}

static bool has_file(const struct load *load, const char *name)
{
    gt_cleanup(gt_free) char *path = NULL;

    return asprintf(&path, "%s/%s", load->folder, name) >= 0 && !gt_protectedfile_is_absent(path);
}

static int load_check_folder(struct load *load)
{
    gt_cleanup(gt_close) int fd = -1;
    char why[GT_PROTECTEDFILE_WHY];

    return gt_protectedfile_open_folder(load->folder, &fd, why) == 0
               ? 0
               : load_fail(load, "%s: %s", load->folder, why);
}

/* With a user name, the directory may contain ca.crt only. */
static int load_pair(struct load *load, bool has_username)
{
    if (has_username && !has_file(load, "cert.pem") && !has_file(load, "private.key"))
        return 0;
    int r = load_named(load, "cert.pem", PEM_MAX, false, &load->certificate);
    return r ? r : load_named(load, "private.key", PEM_MAX, true, &load->key);
}

static int load_texts(struct load *load, bool has_username)
{
    int r = load->folder ? load_check_folder(load) : 0;

    if (r == 0 && load->folder)
        r = load_pair(load, has_username);
    if (r || !load->broker->is_tls)
        return r;
    if (load->folder)
        return load_named(load, "ca.crt", CA_MAX, false, &load->ca);
    if (!has_username) {
        (void)load_fail(load, "not set: a broker with TLS needs the directory of private.key, "
                              "cert.pem and ca.crt, or mqtt.username");
        return CREDENTIALS_E_BAD;
    }
    return load_file(load, SYSTEM_CA, CA_MAX, false, &load->ca);
}

static void load_wipe(struct load *load)
{
    if (load->key.data)
        gt_wipe(load->key.data, load->key.n);
    free(load->key.data);
    free(load->certificate.data);
    free(load->ca.data);
}

/* --- parsing ----------------------------------------------------------------------------- */

static struct gt_span span_of(const struct text *text)
{
    return gt_span(text->data, text->n);
}

static int load_signer(struct load *load)
{
    char why[GT_TRUST_WHY];

    load->result->has_pair = load->certificate.data;
    if (!load->certificate.data)
        return 0;
    int r =
        gt_signer_new(span_of(&load->certificate), span_of(&load->key), &load->result->signer, why);
    if (r == GT_TRUST_E_UNSUITED) { /* TLS may accept it, and under psk nothing needs a signature */
        snprintf(load->result->unsigned_why, GT_TRUST_WHY, "%s", why);
        return 0;
    }
    return r > 0 ? load_fail(load, "%s: cert.pem with private.key: %s", load->folder, why) : r;
}

static int load_tls(struct load *load)
{
    struct gt_certificate_files files = {
        .authorities = span_of(&load->ca),
        .certificate = span_of(&load->certificate),
        .key = span_of(&load->key),
    };
    const struct gt_mqtt_url *broker = load->broker;
    char *why = load->result->warning;

    if (!broker->is_tls)
        return 0;
    int r = gt_certificate_context_new(&files, broker->host, *broker->alpn ? broker->alpn : NULL,
                                       &load->result->tls, why);
    if (r == GT_CERTIFICATE_E_AUTHORITIES)
        return load->folder ? load_fail(load, "%s/ca.crt: %s", load->folder, why)
                            : load_fail(load, SYSTEM_CA ": %s", why);
    if (r > 0)
        return load_fail(load, "%s: cert.pem with private.key: %s", load->folder, why);
    if (!load->folder)
        *load->result->warning = 0; /* of the system's many authorities, some may be old */
    return r;
}

int credentials_load(const char *folder, bool has_username, const struct gt_mqtt_url *broker,
                     struct credentials **ret, char *ret_why, size_t cap)
{
    struct load load = {.folder = folder, .broker = broker, .why = ret_why, .cap = cap};

    load.result = calloc(1, sizeof(*load.result));
    if (!load.result)
        return -ENOMEM;
    load.result->n_users = 1;
    int r = load_texts(&load, has_username);
    if (r == 0)
        r = load_signer(&load);
    if (r == 0)
        r = load_tls(&load);
    load_wipe(&load);
    if (r)
        credentials_free(load.result);
    else
        *ret = load.result;
    return r;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) == 0 &&
           memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0;
}

bool credentials_are_stale(const struct credentials *credentials)
{
    for (size_t i = 0; i < credentials->n_files; i++) {
        struct stat now;

        if (stat(credentials->files[i].path, &now) < 0 ||
            !is_same_file(&now, &credentials->files[i].stat))
            return true;
    }
    return false;
}

struct credentials *credentials_ref(struct credentials *credentials)
{
    credentials->n_users++;
    return credentials;
}

struct credentials *credentials_free(struct credentials *credentials)
{
    if (!credentials || --credentials->n_users > 0)
        return NULL;
    gt_signer_free(credentials->signer);
    gt_certificate_context_free(credentials->tls);
    for (size_t i = 0; i < credentials->n_files; i++)
        free(credentials->files[i].path);
    free(credentials);
    return NULL;
}
