/* SPDX-License-Identifier: ISC */
/* See the header. The verification is OpenSSL's, for the purpose of a client. */
#include "gotthard/doctor/certificate-check.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/crypto/pem.h"

#define DAY_S        86400
#define AWS_NAME     "AWS IoT Certificate" /* of all certificates that AWS IoT issues */
#define CLOCK_REMEDY "set the clock: timedatectl set-ntp true; or date -s 'YYYY-MM-DD HH:MM:SS'"

/* --- facts ------------------------------------------------------------------------------------ */

/* @own: the certificate and its intermediate authorities. Dates are shown by themselves: they must
 * not hide an unknown authority. */
static int verify_without_dates(struct stack_st_X509 *own, struct stack_st_X509 *authorities,
                                bool *ret_is_authorized)
{
    X509 *certificate = sk_X509_value(own, 0);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    int r = store && context ? 0 : -ENOMEM;

    for (int i = 0; r == 0 && i < sk_X509_num(authorities); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(authorities, i)) != 1)
            r = -ENOMEM;
    if (r == 0 && X509_STORE_CTX_init(context, store, certificate, own) != 1)
        r = -ENOMEM;
    if (r == 0) {
        X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
        *ret_is_authorized = X509_verify_cert(context) == 1;
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    ERR_clear_error();
    return r;
}

static void read_names(X509 *certificate, struct gt_certificate_facts *ret)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME *issuer = X509_get_issuer_name(certificate);

    if (X509_NAME_get_text_by_NID(subject, NID_commonName, ret->name, sizeof(ret->name)) < 0)
        ret->name[0] = 0;
    if (X509_NAME_get_text_by_NID(issuer, NID_commonName, ret->issuer, sizeof(ret->issuer)) < 0)
        X509_NAME_oneline(issuer, ret->issuer, sizeof(ret->issuer));
    ret->not_before = gt_verification_not_before(certificate);
    ret->not_after = gt_verification_not_after(certificate);
}

int gt_certificate_facts_read(const struct gt_certificate_files *files,
                              struct gt_certificate_facts *ret,
                              char ret_why[static GT_CERTIFICATE_WHY])
{
    struct stack_st_X509 *own = NULL, *authorities = NULL;
    struct gt_certificate_facts facts = {0};
    char why[GT_PEM_WHY] = "";
    EVP_PKEY *key = NULL;

    int r = gt_pem_certificates(files->certificate, &own, why);
    if (r == 0)
        r = gt_pem_key(files->key, &key, why);
    if (r == 0 && files->authorities.n > 0)
        r = gt_pem_certificates(files->authorities, &authorities, why);
    if (r > 0)
        snprintf(ret_why, GT_CERTIFICATE_WHY, "%s", why);
    if (r == 0) {
        X509 *certificate = sk_X509_value(own, 0);

        read_names(certificate, &facts);
        facts.has_own_key = X509_check_private_key(certificate, key) == 1;
        ERR_clear_error();
        r = verify_without_dates(own, authorities, &facts.is_authorized);
    }
    EVP_PKEY_free(key);
    gt_pem_certificates_free(own);
    gt_pem_certificates_free(authorities);
    if (r == 0)
        *ret = facts;
    return r;
}

bool gt_certificate_has_other_name(const struct gt_certificate_facts *facts,
                                   const struct gt_certificate_words *words)
{
    const char *name = facts->name;
    size_t n = words->prefix ? strlen(words->prefix) : 0;

    if (strcmp(name, words->owner) == 0 || strcmp(name, AWS_NAME) == 0 || !*name)
        return false;
    return n == 0 || strncmp(name, words->prefix, n) != 0 || strcmp(name + n, words->owner) != 0;
}

/* --- rows ------------------------------------------------------------------------------------- */

bool gt_clock_add_row(time_t now, const struct gt_certificate_facts *facts,
                      const struct gt_check_fault *fault, struct gt_checkup *checkup)
{
    struct gt_check_fault clock = {.id = fault->id, .exit = fault->exit, .remedy = CLOCK_REMEDY};
    char today[GT_VERIFICATION_DAY], day[GT_VERIFICATION_DAY];

    gt_verification_day(now, today);
    if (gt_clock_is_wrong(now)) {
        gt_checkup_fail(checkup, "clock", &clock,
                        "the clock of this machine is wrong: today is %s here, and no certificate "
                        "is valid then",
                        today);
        return false;
    }
    if (facts && now < facts->not_before) {
        gt_checkup_warn(checkup, "clock", CLOCK_REMEDY,
                        "today is %s here, and the certificate was issued on %s: the clock may be "
                        "behind",
                        today, gt_verification_day(facts->not_before, day));
        return true;
    }
    gt_checkup_ok(checkup, "clock", "today is %s", today);
    return true;
}

static bool add_dates_row(time_t now, const struct gt_certificate_facts *facts,
                          const struct gt_certificate_words *words, struct gt_checkup *checkup)
{
    char day[GT_VERIFICATION_DAY], today[GT_VERIFICATION_DAY];
    struct gt_check_fault fault = words->refused;

    gt_verification_day(now, today);
    if (now > facts->not_after) {
        fault.remedy = words->renewal;
        gt_checkup_fail(checkup, "certificate", &fault,
                        "%s/cert.pem expired on %s (today is %s here)", words->path,
                        gt_verification_day(facts->not_after, day), today);
        return true;
    }
    if (now < facts->not_before) {
        fault.remedy = CLOCK_REMEDY;
        gt_checkup_fail(checkup, "certificate", &fault,
                        "%s/cert.pem is not valid before %s (today is %s here)", words->path,
                        gt_verification_day(facts->not_before, day), today);
        return true;
    }
    return false;
}

static void add_name_row(const struct gt_certificate_facts *facts,
                         const struct gt_certificate_words *words, struct gt_checkup *checkup)
{
    char remedy[GT_CHECK_REMEDY];

    snprintf(remedy, sizeof(remedy), "issue a certificate for %s, or set {%s} to %s", words->owner,
             words->owner_setting,
             facts->name +
                 (words->prefix && strncmp(facts->name, words->prefix, strlen(words->prefix)) == 0
                      ? strlen(words->prefix)
                      : 0));
    gt_checkup_warn(
        checkup, "certificate", remedy,
        "%s/cert.pem is for the name \"%s\", not for %s: a broker that takes names from "
        "certificates refuses messages of %s",
        words->path, facts->name, words->owner, words->owner);
}

bool gt_certificate_add_row(time_t now, const struct gt_certificate_facts *facts,
                            const struct gt_certificate_words *words, struct gt_checkup *checkup)
{
    char day[GT_VERIFICATION_DAY];

    if (!facts->has_own_key) {
        struct gt_check_fault fault = words->configuration;

        fault.remedy = "copy cert.pem and private.key of the same issue into the folder";
        gt_checkup_fail(checkup, "certificate", &fault,
                        "%s: private.key does not belong to cert.pem", words->path);
        return false;
    }
    if (add_dates_row(now, facts, words, checkup))
        return false;
    char in[GT_VERIFICATION_IN];

    gt_verification_day(facts->not_after, day);
    if (gt_verification_is_due(facts->not_before, facts->not_after, now))
        gt_checkup_warn(checkup, "certificate", words->renewal, "%s/cert.pem expires on %s, %s",
                        words->path, day, gt_verification_in_days(facts->not_after - now, in));
    else if (gt_certificate_has_other_name(facts, words))
        add_name_row(facts, words, checkup);
    else if (!facts->is_authorized && strcmp(facts->name, AWS_NAME) != 0)
        gt_checkup_warn(checkup, "certificate",
                        "if the broker rejects it: let the broker's authority issue cert.pem",
                        "%s/cert.pem was issued by %s, which is not in ca.crt: another authority",
                        words->path, facts->issuer);
    else
        gt_checkup_ok(checkup, "certificate", "%s, valid until %s", facts->name, day);
    return true;
}
