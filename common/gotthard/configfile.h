/* SPDX-License-Identifier: ISC */
/*
 * One configuration file: from bytes to settings of a program's table, each as text with its line.
 * The only file that knows libconfig, and nothing reaches libconfig but through configscan.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/config.h"

#define GT_CONFIGFILE_MAX (64 * 1024)

struct gt_configfile {
    const struct gt_config_program *program;
    const char *name; /* for messages and origins: a path */
    bool is_public;   /* others may read it: a secret in it is refused */
    /* @is_file: the text is the path of a file that holds the secret. What is not 0 ends the
     * reading and is returned. */
    int (*on_setting)(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error);
    void *userdata;
};

/* Takes all or reports the first thing that is wrong: E_BAD with "<name>:<line>: ..." in
 * @ret_error. */
int gt_configfile_parse(const struct gt_configfile *file, struct gt_span text,
                        char *ret_error) GT_MUST_CHECK;

/* gt_config_read_file(), and the file's mode. */
int gt_configfile_read(const char *path, size_t max, bool is_secret, char **ret_text, size_t *ret_n,
                       mode_t *ret_mode, const char **ret_why) GT_MUST_CHECK;
