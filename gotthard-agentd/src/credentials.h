/* SPDX-License-Identifier: ISC */
/*
 * The directory of private.key, cert.pem and ca.crt: the device authenticates to the broker with
 * them, and signs its replies. Each file is read once; TLS and signatures use the same parsed pair.
 * Immutable: renewed files are loaded as other credentials.
 */
#pragma once

#include <sys/stat.h>

#include "gotthard/config/mqtt-url.h"
#include "gotthard/signaling/trust.h"
#include "gotthard/tls/certificate-context.h"

#define CREDENTIALS_FILES 3

struct credentials_file { /* as it was when it was read */
    char *path;           /* owned */
    struct stat stat;
};

struct credentials {
    unsigned n_users;
    struct credentials_file files[CREDENTIALS_FILES];
    size_t n_files;
    struct ssl_ctx_st *tls;           /* owned; NULL: the broker is used without TLS */
    struct gt_signer *signer;         /* owned; NULL: no certificate, or one that cannot sign */
    bool has_pair;                    /* cert.pem and private.key */
    char unsigned_why[GT_TRUST_WHY];  /* why the certificate's key cannot sign, or empty */
    uint8_t digest[GT_KEY_SIZE];      /* SHA-256 over the files, to detect changes */
    char warning[GT_CERTIFICATE_WHY]; /* about an authority of ca.crt, or empty */
};

/* A sentence was written to @ret_why. E_FILE: a file is missing or not usable, now. */
enum { CREDENTIALS_E_BAD = 1, CREDENTIALS_E_FILE = 2 };

/*
 * @folder: may be NULL. @has_username: the broker authenticates by user name, so that a certificate
 * is optional. @broker: with TLS a CA file is required; without @folder it is the system's. The
 * caller releases *ret by credentials_free(). Returns E_BAD, E_FILE, or a
 * negative errno.
 */
int credentials_load(const char *folder, bool has_username, const struct gt_mqtt_url *broker,
                     struct credentials **ret, char *ret_why, size_t cap) GT_MUST_CHECK;
/* Returns true if a file has changed since it was read, or is gone. */
bool credentials_are_stale(const struct credentials *credentials);
/* Returns another reference to @credentials. */
struct credentials *credentials_ref(struct credentials *credentials);
/* Releases a reference. Takes NULL; returns NULL. */
struct credentials *credentials_free(struct credentials *credentials);
