/* SPDX-License-Identifier: ISC */
/*
 * Why a server's certificate was rejected: the facts for a sentence that people can act on.
 */
#pragma once

#include <time.h>

#include "gotthard/base/base.h"

struct x509_st;

#define GT_VERIFICATION_NAME 128 /* bytes with the NUL; longer names are truncated */

/* The texts of the certificate come from the server and are escaped. */
struct gt_verification {
    int error;                         /* X509_V_ERR_x (openssl/x509_vfy.h), or 0 */
    char host[GT_VERIFICATION_NAME];   /* the expected name */
    char names[GT_VERIFICATION_NAME];  /* of the certificate: alternative names, or the subject */
    char issuer[GT_VERIFICATION_NAME]; /* of the certificate */
    time_t not_before, not_after;      /* of the certificate; 0: unknown */
};

/* @certificate: the rejected one, or NULL. */
void gt_verification_set(struct gt_verification *ret, int error, const char *host,
                         struct x509_st *certificate);
/* Writes the name of the certificate's subject, escaped. */
void gt_verification_subject(const struct x509_st *certificate, char *ret, size_t cap);
/* Writes the day of @at (UTC) as "2026-11-28" to @ret (GT_VERIFICATION_DAY). Returns @ret. */
#define GT_VERIFICATION_DAY 16
const char *gt_verification_day(time_t at, char *ret);
/* The begin and the end of the certificate's validity; 0: unknown. */
time_t gt_verification_not_before(const struct x509_st *certificate);
time_t gt_verification_not_after(const struct x509_st *certificate);
