/* SPDX-License-Identifier: ISC */
/*
 * One configuration file: from bytes to settings of a program's table, each as text with its line.
 * The only user of libconfig. No text must reach libconfig before gt_config_scan() accepts it.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/config/config.h"

#define GT_CONFIG_FILE_MAX (64 * 1024)

struct gt_config_file {
    const struct gt_config_program *program;
    const char *name; /* the path, for messages and origins */
    bool is_public;   /* readable by others: a secret in it is an error */
    /* Receives one setting. @is_file: the text is the path of a file that contains the secret. A
     * result other than 0 ends the parsing and is returned. */
    int (*on_setting)(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error);
    void *userdata;
};

/* Passes all settings of @text to ->on_setting. Returns 0, E_BAD with "<name>:<line>: ..." in
 * @ret_error for the first error, or a negative errno. */
int gt_config_file_parse(const struct gt_config_file *file, struct gt_span text,
                         char *ret_error) GT_MUST_CHECK;

/* Reads a file as gt_config_read_file() does, and returns its mode. */
int gt_config_file_read(const char *path, size_t max, bool is_secret, char **ret_text,
                        size_t *ret_n, mode_t *ret_mode, const char **ret_why) GT_MUST_CHECK;
