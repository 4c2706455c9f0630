/* SPDX-License-Identifier: ISC */
/*
 * Reads name, issuer and dates of a certificate, and checks them against the clock. Pure: from the
 * bytes of files and a given time.
 */
#pragma once

#include <time.h>

#include "gotthard/base/bytes.h"
#include "gotthard/doctor/checkup.h"
#include "gotthard/tls/certificate-context.h"

struct gt_certificate_facts {
    char name[GT_VERIFICATION_NAME];   /* the common name of the subject */
    char issuer[GT_VERIFICATION_NAME]; /* likewise */
    time_t not_before, not_after;
    bool has_own_key;   /* the private key belongs to it */
    bool is_authorized; /* one of the authorities has issued it, dates aside */
};

/* Reads the first certificate of @files, its key and the authorities. Returns 0; 1 with the reason
 * in @ret_why: one of the files is not usable; or -ENOMEM. */
int gt_certificate_facts_read(const struct gt_certificate_files *files,
                              struct gt_certificate_facts *ret,
                              char ret_why[static GT_CERTIFICATE_WHY]) GT_MUST_CHECK;

struct gt_certificate_words { /* what the rows of one side have in common */
    const char *path;         /* of the folder */
    const char *owner;        /* the name that the certificate must have */
    const char *owner_setting;
    const char *prefix;  /* the certificate may also have the name with it in front; or NULL */
    const char *renewal; /* the command that renews it */
    struct gt_check_fault refused, configuration;
};

/* Adds the row "clock". @facts: may be NULL. Returns true if the clock may be right. */
bool gt_clock_add_row(time_t now, const struct gt_certificate_facts *facts,
                      const struct gt_check_fault *fault, struct gt_checkup *checkup);
/* Adds the row "certificate". Returns true unless it is a failure. */
bool gt_certificate_add_row(time_t now, const struct gt_certificate_facts *facts,
                            const struct gt_certificate_words *words, struct gt_checkup *checkup);
/* Returns true if a broker that takes names from certificates knows this side by another name. */
bool gt_certificate_has_other_name(const struct gt_certificate_facts *facts,
                                   const struct gt_certificate_words *words);
