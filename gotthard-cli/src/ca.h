/* SPDX-License-Identifier: ISC */
/*
 * The fleet's own certificate authority, in the folder `enroll.ca`: ca.key, ca.crt, and for each
 * issued certificate a line of ca.index and a copy in ca.issued. These are the files of
 * openssl-ca(1) as make-certificate-example has them, which issues the broker's certificate, and
 * revokes any, in the same folder.
 */
#pragma once

#include "failure.h"
#include "gotthard/crypto/certificate-issuer.h"
#include "settings.h"

struct ca {
    const char *folder; /* of the settings */
    uint64_t validity_ms;
    struct gt_issuer *issuer; /* owned */
};

/* Each returns 0, or 1 with @ret_failure. */
/* Makes key and root certificate. Files that exist are never overwritten. */
int ca_create(const struct settings *settings, struct failure *ret_failure) GT_MUST_CHECK;
/* The caller calls ca_deinit() in any case. */
int ca_load(const struct settings *settings, struct ca *ret,
            struct failure *ret_failure) GT_MUST_CHECK;
/* Issues the certificate of an operator or a device for the key of @request (DER), and records it.
 * *ret: PEM; the caller frees it. */
int ca_issue(const struct ca *ca, bool is_operator, const char *name, struct gt_span request,
             char **ret, struct failure *ret_failure) GT_MUST_CHECK;
void ca_deinit(struct ca *ca);
