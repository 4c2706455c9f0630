/* SPDX-License-Identifier: ISC */
/*
 * Why a handshake with a server failed, and what this side's certificate is: the facts for a
 * sentence that people can act on.
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
    int alert;        /* the fatal alert of the server (RFC 8446, section 6), or 0 */
    bool is_http;     /* the server answered with HTTP in place of TLS */
    bool is_answered; /* it has sent the head of a record, or other bytes */
    bool is_done;     /* the handshake is complete on this side */
};

/* A certificate of this side. The texts are escaped. */
struct gt_own_certificate {
    char name[GT_VERIFICATION_NAME]; /* of the subject; empty: there is no certificate */
    char issuer[GT_VERIFICATION_NAME];
    time_t not_before, not_after; /* 0: unknown */
};

/* @certificate: the rejected one, or NULL. */
void gt_verification_set(struct gt_verification *ret, int error, const char *host,
                         struct x509_st *certificate);
/* Writes the name of the certificate's subject, escaped. */
void gt_verification_subject(const struct x509_st *certificate, char *ret, size_t cap);
/* Writes the day of @at (UTC) as "2026-11-28" to @ret (GT_VERIFICATION_DAY). Returns @ret. */
#define GT_VERIFICATION_DAY 16
const char *gt_verification_day(time_t at, char *ret);
#define GT_VERIFICATION_IN 32
/* Writes "in 21 days", "in 1 day" or "in less than a day" for @left seconds (>= 0). Returns @ret.
 */
const char *gt_verification_in_days(time_t left, char ret[static GT_VERIFICATION_IN]);
/* Reads the facts of @certificate. */
void gt_verification_read(struct x509_st *certificate, struct gt_own_certificate *ret);
/*
 * Writes a warning if the certificate is not valid at @now, or ends within 30 days, but not before
 * the last third of its lifetime: "the certificate alice expires on 2026-12-20, in 21 days".
 * Returns false, and writes an empty text, if all is well or there is no certificate.
 */
bool gt_verification_expiry(const struct gt_own_certificate *facts, time_t now, char *ret,
                            size_t cap);
/* Returns true within 30 days before the end, but not before the last third of the lifetime. */
bool gt_verification_is_due(time_t not_before, time_t not_after, time_t now);
/* Writes the name of an alert in the words of RFC 8446, section 6: "certificate expired", or "alert
 * 200". Returns @ret. */
const char *gt_verification_alert(int alert, char *ret, size_t cap);
/* The begin and the end of the certificate's validity; 0: unknown. */
time_t gt_verification_not_before(const struct x509_st *certificate);
time_t gt_verification_not_after(const struct x509_st *certificate);
