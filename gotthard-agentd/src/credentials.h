/* SPDX-License-Identifier: ISC */
/*
 * The folder of private.key, cert.pem and ca.crt: what the device shows to the broker, and what it
 * signs its answers with.
 */
#pragma once

#include "gotthard/trust.h"

struct credentials {
    char *ca_file, *cert_file, *key_file; /* owned; NULL without */
    struct gt_signer *signer;             /* owned; NULL without a certificate */
    uint8_t digest[GT_KEY_SIZE];          /* over the files: have they changed? */
};

enum { CREDENTIALS_E_BAD = 1 }; /* a sentence was written to @ret_why */

/*
 * @folder may be NULL. @has_username: a broker that knows us by a user name needs no certificate.
 * @is_tls: an authority is needed; without a folder it is the system's.
 */
int credentials_load(const char *folder, bool has_username, bool is_tls, struct credentials *ret,
                     char *ret_why, size_t cap) GT_MUST_CHECK;
void credentials_deinit(struct credentials *credentials);
