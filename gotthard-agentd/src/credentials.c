/* SPDX-License-Identifier: ISC */
/*
 * Reading the folder of certificates; see the header. The files are read here once, to be refused
 * early and in words; the MQTT library reads them again by their paths.
 */
#include "credentials.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/config.h"

#define PEM_MAX   65536
#define CA_MAX    (1024 * 1024)
#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

/* What is being loaded, and where its fault is to be told. */
struct load {
    const char *folder;
    char *why;
    size_t cap;
    struct credentials result;
};

static GT_PRINTF(2, 3) int load_bad(struct load *load, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(load->why, load->cap, fmt, arguments);
    va_end(arguments);
    return CREDENTIALS_E_BAD;
}

static int load_file(struct load *load, const char *path, size_t max, bool is_secret,
                     char **ret_text, size_t *ret_n)
{
    const char *why = NULL;

    int r = gt_config_read_file(path, max, is_secret, ret_text, ret_n, &why);
    return r > 0 ? load_bad(load, "%s: %s", path, why) : r;
}

static int load_add_digest(struct load *load, struct gt_span text)
{
    struct gt_span parts[] = {gt_span(load->result.digest, GT_KEY_SIZE), text};
    return gt_sha256(parts, GT_ARRAY_SIZE(parts), load->result.digest);
}

static int load_signer(struct load *load, struct gt_span cert, struct gt_span key)
{
    int r = gt_signer_new(cert, key, &load->result.signer);
    if (r > 0)
        return load_bad(load, "%s and private.key: %s", load->result.cert_file,
                        gt_trust_strerror(r));
    if (r == 0)
        r = load_add_digest(load, cert);
    return r ? r : load_add_digest(load, key);
}

static int load_pair(struct load *load)
{
    char *cert = NULL, *key = NULL;
    size_t n_cert = 0, n_key = 0;

    int r = load_file(load, load->result.cert_file, PEM_MAX, false, &cert, &n_cert);
    if (r == 0)
        r = load_file(load, load->result.key_file, PEM_MAX, true, &key, &n_key);
    if (r == 0)
        r = load_signer(load, gt_span(cert, n_cert), gt_span(key, n_key));
    if (key)
        gt_wipe(key, n_key);
    free(key);
    free(cert);
    return r;
}

static int load_authority(struct load *load)
{
    gt_cleanup(gt_free) char *text = NULL;
    size_t n = 0;

    int r = load_file(load, load->result.ca_file, CA_MAX, false, &text, &n);
    return r ? r : load_add_digest(load, gt_span(text, n));
}

static int load_check_folder(struct load *load)
{
    struct stat st;

    if (stat(load->folder, &st) < 0)
        return load_bad(load, "%s: %s", load->folder, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return load_bad(load,
                        "%s is not a folder: give the one of private.key, cert.pem and ca.crt",
                        load->folder);
    if (st.st_mode & S_IWOTH)
        return load_bad(load, "%s can be written by anybody: chmod o-w it", load->folder);
    return 0;
}

static char *path_join(const char *folder, const char *file)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, file) < 0 ? NULL : path;
}

/* A folder with a user name beside it may hold the authority's certificate only. */
static int load_folder(struct load *load, bool has_username)
{
    struct credentials *result = &load->result;

    int r = load_check_folder(load);
    if (r)
        return r;
    result->cert_file = path_join(load->folder, "cert.pem");
    result->key_file = path_join(load->folder, "private.key");
    if (!result->cert_file || !result->key_file)
        return -ENOMEM;
    if (!has_username || access(result->cert_file, F_OK) == 0 ||
        access(result->key_file, F_OK) == 0)
        return load_pair(load);
    free(gt_steal(&result->cert_file));
    free(gt_steal(&result->key_file));
    return 0;
}

static int load_all(struct load *load, bool has_username, bool is_tls)
{
    int r = load->folder ? load_folder(load, has_username) : 0;
    if (r || !is_tls)
        return r;
    if (!load->folder && !has_username)
        return load_bad(load, "a broker with TLS needs the folder of private.key, cert.pem and "
                              "ca.crt, or a user name");
    load->result.ca_file = load->folder ? path_join(load->folder, "ca.crt") : strdup(SYSTEM_CA);
    return load->result.ca_file ? load_authority(load) : -ENOMEM;
}

void credentials_deinit(struct credentials *credentials)
{
    gt_signer_free(credentials->signer);
    free(credentials->ca_file);
    free(credentials->cert_file);
    free(credentials->key_file);
    *credentials = (struct credentials){0};
}

int credentials_load(const char *folder, bool has_username, bool is_tls, struct credentials *ret,
                     char *ret_why, size_t cap)
{
    struct load load = {.folder = folder, .why = ret_why, .cap = cap};

    int r = load_all(&load, has_username, is_tls);
    if (r)
        credentials_deinit(&load.result);
    else
        *ret = load.result;
    return r;
}
