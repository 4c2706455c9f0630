/* SPDX-License-Identifier: ISC */
/* Reads the facts of a rejected certificate; see the header. */
#include "gotthard/tls/verification.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "gotthard/base/text.h"

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
    *ret = (struct gt_verification){.error = error};
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
