/* SPDX-License-Identifier: ISC */
/* Reads the facts of a rejected certificate; see the header. */
#include "gotthard/tls/verification.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"

#define DAY_S  86400
#define WARN_S (30 * DAY_S) /* before the end of a certificate of this side */

/* Certificates of a few days are renewed late in their lifetime. */
bool gt_verification_is_due(time_t not_before, time_t not_after, time_t now)
{
    return not_after - now < GT_MIN((time_t)WARN_S, (not_after - not_before) / 3);
}

static time_t to_time(const ASN1_TIME *at)
{
    struct tm tm;

    return ASN1_TIME_to_tm(at, &tm) == 1 ? timegm(&tm) : 0;
}

static void write_name(const X509_NAME *name, char *ret, size_t cap)
{
    char text[256] = "";

    if (X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof(text)) < 0)
        X509_NAME_oneline(name, text, sizeof(text));
    gt_text_shorten(text, ret, cap);
}

static size_t append(char *text, size_t cap, size_t n, struct gt_span more)
{
    int r = snprintf(text + n, cap - n, "%s%.*s", n > 0 ? ", " : "", (int)more.n, more.data);

    return GT_MIN(n + (size_t)GT_MAX(r, 0), cap - 1);
}

static size_t append_alternative(char *text, size_t cap, size_t n, const GENERAL_NAME *name)
{
    char address[INET6_ADDRSTRLEN];

    if (name->type == GEN_DNS)
        return append(text, cap, n,
                      gt_span(ASN1_STRING_get0_data(name->d.dNSName),
                              (size_t)ASN1_STRING_length(name->d.dNSName)));
    if (name->type != GEN_IPADD)
        return n;
    int family = ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;
    if (family == AF_INET6 && ASN1_STRING_length(name->d.iPAddress) != 16)
        return n;
    inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), address, sizeof(address));
    return append(text, cap, n, gt_span_text(address));
}

/* Its alternative names; without them its subject. */
static void write_names(X509 *certificate, char *ret, size_t cap)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    char text[256] = "";
    size_t n = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        n = append_alternative(text, sizeof(text), n, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
    if (n > 0)
        gt_text_shorten(text, ret, cap);
    else
        write_name(X509_get_subject_name(certificate), ret, cap);
}

void gt_verification_set(struct gt_verification *ret, int error, const char *host,
                         struct x509_st *certificate)
{
    *ret = (struct gt_verification){.error = error,
                                    .alert = ret->alert,
                                    .is_http = ret->is_http,
                                    .is_answered = ret->is_answered,
                                    .is_done = ret->is_done};
    snprintf(ret->host, sizeof(ret->host), "%.*s", GT_VERIFICATION_NAME - 1, host);
    if (!certificate)
        return;
    write_names(certificate, ret->names, sizeof(ret->names));
    write_name(X509_get_issuer_name(certificate), ret->issuer, sizeof(ret->issuer));
    ret->not_before = to_time(X509_get0_notBefore(certificate));
    ret->not_after = to_time(X509_get0_notAfter(certificate));
}

void gt_verification_subject(const struct x509_st *certificate, char *ret, size_t cap)
{
    write_name(X509_get_subject_name(certificate), ret, cap);
}

void gt_verification_read(struct x509_st *certificate, struct gt_own_certificate *ret)
{
    write_name(X509_get_subject_name(certificate), ret->name, sizeof(ret->name));
    write_name(X509_get_issuer_name(certificate), ret->issuer, sizeof(ret->issuer));
    ret->not_before = to_time(X509_get0_notBefore(certificate));
    ret->not_after = to_time(X509_get0_notAfter(certificate));
}

const char *gt_verification_in_days(time_t left, char ret[static GT_VERIFICATION_IN])
{
    long n = (long)(left / DAY_S);

    if (n == 0)
        snprintf(ret, GT_VERIFICATION_IN, "in less than a day");
    else
        snprintf(ret, GT_VERIFICATION_IN, "in %ld day%s", n, n == 1 ? "" : "s");
    return ret;
}

bool gt_verification_expiry(const struct gt_own_certificate *facts, time_t now, char *ret,
                            size_t cap)
{
    char day[GT_VERIFICATION_DAY], today[GT_VERIFICATION_DAY];
    char in[GT_VERIFICATION_IN];
    time_t left = facts->not_after - now;

    *ret = 0;
    gt_verification_day(now, today);
    if (!*facts->name || facts->not_after == 0)
        return false;
    gt_verification_day(facts->not_after, day);
    if (left < 0)
        snprintf(ret, cap, "the certificate %s expired on %s (today is %s here)", facts->name, day,
                 today);
    else if (facts->not_before > now)
        snprintf(ret, cap, "the certificate %s is valid from %s (today is %s here)", facts->name,
                 gt_verification_day(facts->not_before, day), today);
    else if (gt_verification_is_due(facts->not_before, facts->not_after, now))
        snprintf(ret, cap, "the certificate %s expires on %s, %s", facts->name, day,
                 gt_verification_in_days(left, in));
    return *ret != 0;
}

const char *gt_verification_alert(int alert, char *ret, size_t cap)
{
    static const struct {
        int alert;
        const char *words;
    } names[] = {
        {10, "unexpected message"},
        {20, "bad record MAC"},
        {22, "record overflow"},
        {40, "handshake failure"},
        {42, "bad certificate"},
        {43, "unsupported certificate"},
        {44, "certificate revoked"},
        {45, "certificate expired"},
        {46, "certificate unknown"},
        {47, "illegal parameter"},
        {48, "unknown authority"},
        {49, "access denied"},
        {50, "decode error"},
        {51, "decrypt error"},
        {70, "protocol version"},
        {71, "insufficient security"},
        {80, "internal error"},
        {86, "inappropriate fallback"},
        {109, "missing extension"},
        {110, "unsupported extension"},
        {112, "unrecognized name"},
        {113, "bad certificate status response"},
        {115, "unknown PSK identity"},
        {116, "certificate required"},
        {120, "no application protocol"},
    };

    snprintf(ret, cap, "alert %d", alert);
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        if (names[i].alert == alert)
            snprintf(ret, cap, "%s", names[i].words);
    return ret;
}

const char *gt_verification_day(time_t at, char *ret)
{
    struct tm tm;

    if (!gmtime_r(&at, &tm) || strftime(ret, GT_VERIFICATION_DAY, "%Y-%m-%d", &tm) == 0)
        snprintf(ret, GT_VERIFICATION_DAY, "unknown");
    return ret;
}

time_t gt_verification_not_before(const struct x509_st *certificate)
{
    return to_time(X509_get0_notBefore(certificate));
}

time_t gt_verification_not_after(const struct x509_st *certificate)
{
    return to_time(X509_get0_notAfter(certificate));
}
