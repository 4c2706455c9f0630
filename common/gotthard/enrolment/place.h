/* SPDX-License-Identifier: ISC */
/*
 * Where an enrolment writes the configuration of a program, and whether that place is free. The
 * identity is one file, 50-enrolled.conf. Settings that the operator gives beside it are in
 * 40-fleet.conf, which is read before, so that they do not change the identity. Files of other
 * names belong to the machine's administrator.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/config/config.h"

#define GT_PLACE_WHY 600 /* bytes of a reason with its NUL */

struct gt_place {
    char folder[4096];        /* of the configuration, absolute */
    char configuration[4200]; /* the file of the identity */
    char fleet[4200];         /* further settings that the operator gave */
    bool is_default;          /* $GOTTHARD_CONFIG_DIR is not set */
    gid_t group;              /* of the service, if it exists and this is root; else (gid_t)-1 */
};

enum { GT_PLACE_E_REFUSED = 1 }; /* a reason was written to @ret_why */

/* Finds the place of gotthard-@program, "agentd" or "relayd". E_REFUSED, or a negative errno. */
int gt_place_find(const char *program, struct gt_place *ret,
                  char ret_why[static GT_PLACE_WHY]) GT_MUST_CHECK;
/* The same in the folder of this user's own configuration: for a program of users, "cli". */
int gt_place_find_home(const char *program, struct gt_place *ret,
                       char ret_why[static GT_PLACE_WHY]) GT_MUST_CHECK;
/*
 * Checks that the place can be written and is free: no file of the configuration has one of
 * @settings, those of an identity, but with @is_forced the file of an earlier enrolment. Returns 0
 * and the configuration that this machine has besides, which the caller frees; E_REFUSED, or a
 * negative errno.
 */
int gt_place_check(const struct gt_place *place, const struct gt_config_program *program,
                   const char *const *settings, size_t n_settings, bool is_forced,
                   struct gt_config **ret, char ret_why[static GT_PLACE_WHY]) GT_MUST_CHECK;
