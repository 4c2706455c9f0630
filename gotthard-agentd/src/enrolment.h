/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-agentd enroll TOKEN` and `gotthard-agentd --install FILE`: this machine becomes a
 * device of a fleet (docs/protocol.md, section 8). Nothing of the running agent is used, and it may
 * be running: its configuration is replaced as a whole, and only with --force.
 */
#pragma once

#include "gotthard/config/config.h"
#include "gotthard/trust/bundle.h"

struct enrolment_options {
    const char *token;   /* the text, the path of a file, or "-"; NULL: standard input */
    const char *bundle;  /* path of a bundle file, in place of the token */
    bool is_forced;      /* replaces an earlier enrolment */
    bool is_not_started; /* leaves the service alone */
};

/* Return the exit status. Facts go to standard output, errors to standard error. */
int enrolment_run(const struct enrolment_options *options);
int enrolment_install_file(const struct enrolment_options *options);

/* The rest is for enrolment-*.c and their tests. */

/* Prints "gotthard-agentd: " and a line to standard error. */
void enrolment_print_error(const char *fmt, ...) GT_PRINTF(1, 2);

/* --- enrolment-files.c: places and files ---------------------------------------------------------
 */

struct enrolment_place {
    char folder[4096];        /* of the configuration, absolute */
    char configuration[4200]; /* the file that makes this machine a device */
    char fleet[4200];         /* further settings that the operator gave */
    bool is_default;          /* $GOTTHARD_CONFIG_DIR is not set */
};

#define ENROLMENT_WHY 600         /* bytes of a reason with its NUL */
enum { ENROLMENT_E_REFUSED = 1 }; /* a reason was written to @ret_why */

/* Finds the place. E_REFUSED, or a negative errno. */
int enrolment_find_place(struct enrolment_place *ret,
                         char ret_why[static ENROLMENT_WHY]) GT_MUST_CHECK;
/* Checks that the place is free: no file of the configuration has the settings of an identity, but
 * with @is_forced that of an earlier enrolment. Returns 0 and the configuration that this machine
 * has besides, which the caller frees; E_REFUSED, or a negative errno. */
int enrolment_check_place(const struct enrolment_place *place, bool is_forced,
                          struct gt_config **ret, char ret_why[static ENROLMENT_WHY]) GT_MUST_CHECK;
/*
 * Installs a bundle of a device that gt_bundle_check() has accepted. @private_key: of the
 * certificate, PEM. The new configuration is loaded as the agent does it, with everything that it
 * names; if that fails, the identity before is restored. E_REFUSED, or a negative errno.
 */
int enrolment_install(const struct enrolment_place *place, const struct gt_bundle *bundle,
                      struct gt_span private_key, char ret_why[static ENROLMENT_WHY]) GT_MUST_CHECK;

/* --- enrolment-service.c ---------------------------------------------------------------------- */

/* Enables and starts the service where systemd runs and this user may; otherwise states what to do.
 * Returns the exit status. */
int enrolment_start_service(const struct enrolment_options *options);
