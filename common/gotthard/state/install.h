/* SPDX-License-Identifier: ISC */
/*
 * Installs a new identity: a folder of keys and certificates, and the configuration files that name
 * it. The folder is new ("enrolled", or "enrolled-2" and so on beside an earlier one) and complete
 * before a configuration file is renamed into its place. So an identity is in use as a whole or not
 * at all, whenever the machine loses power, and the identity before can be restored.
 *
 * init, add and add_configuration, commit, then finish or rollback, deinit. A failure before commit
 * leaves nothing behind.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "gotthard/base/bytes.h"

#define GT_INSTALL_WHY               400 /* bytes of a reason with its NUL */
#define GT_INSTALL_FILES_MAX         8
#define GT_INSTALL_CONFIGURATION_MAX 2

struct gt_install {        /* fields are private, but ->folder */
    char folder[PATH_MAX]; /* of this identity, absolute if the base was; empty: none */
    char base[PATH_MAX];
    gid_t group;                       /* may read the files; (gid_t)-1: none */
    unsigned number;                   /* of the folder */
    char *files[GT_INSTALL_FILES_MAX]; /* owned; paths */
    size_t n_files;
    struct gt_install_configuration {
        char *path;                  /* owned */
        bool is_renamed, has_before; /* the file before is at path.before */
    } configurations[GT_INSTALL_CONFIGURATION_MAX];
    size_t n_configurations;
};

enum { GT_INSTALL_E_FILE = 1 }; /* a reason with the path was written to @ret_why */

/* Makes the folder below @base, and @base itself if it is missing. @group: of the program that
 * reads the files as another user than this one; (gid_t)-1: only this user reads them. */
int gt_install_init(struct gt_install *install, const char *base, gid_t group,
                    char ret_why[static GT_INSTALL_WHY]) GT_MUST_CHECK;
/* Removes the identity, unless it was committed and finished. */
void gt_install_deinit(struct gt_install *install);

/* Writes a file of the folder, readable by the owner and the group only. */
int gt_install_add(struct gt_install *install, const char *name, struct gt_span text,
                   char ret_why[static GT_INSTALL_WHY]) GT_MUST_CHECK;
/* Writes @text beside @path, whose folder is made if it is missing. Commit renames the files in the
 * order in which they were added: the one that names the folder comes last. */
int gt_install_add_configuration(struct gt_install *install, const char *path, struct gt_span text,
                                 char ret_why[static GT_INSTALL_WHY]) GT_MUST_CHECK;
/* The new identity is in use. On failure the one before is. */
int gt_install_commit(struct gt_install *install,
                      char ret_why[static GT_INSTALL_WHY]) GT_MUST_CHECK;
/* After commit: the one before is in use again. */
void gt_install_rollback(struct gt_install *install);
/* After commit: removes the identity before, with its keys. */
void gt_install_finish(struct gt_install *install);
