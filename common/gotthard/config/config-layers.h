/* SPDX-License-Identifier: ISC */
/*
 * The layers of a configuration, weakest first: variables that other programs
 * share, our own, credentials, files, flags. Each layer
 * gives texts to a configuration; config.c checks and applies them.
 */
#pragma once

#include "gotthard/config/config.h"

/* Adds all layers to @config. Returns 0, GT_CONFIG_E_BAD with a message in @ret_error, or a
 * negative errno. */
int gt_configlayers_add(struct gt_config *config, const struct gt_config_program *program,
                        const struct gt_config_args *args, char *ret_error) GT_MUST_CHECK;

/* Adds a saved text, and the variables that other programs share. @name: of the text. */
int gt_configlayers_add_saved(struct gt_config *config, const struct gt_config_program *program,
                              const char *name, struct gt_span text, char *ret_error) GT_MUST_CHECK;

/* One text for one setting. */
struct gt_config_given {
    const char *text;
    const char *origin; /* for people: "/etc/gotthard/relayd.conf:12" */
    const char *file;   /* of a secret: the file that contains it, or NULL */
    bool is_standard;   /* of a variable that other programs share */
};

/* Implemented by config.c. Adds a copy of @given to the current layer. An empty text of an item
 * that is a string is ignored, and so is an unusable one of a shared variable. Returns 0, E_BAD if
 * the layer has a text for the item already, or -ENOMEM. */
int gt_config_assign(struct gt_config *config, const struct gt_config_item *item,
                     const struct gt_config_given *given, char *ret_error) GT_MUST_CHECK;
/* Starts the next layer, which overrides the ones before. */
void gt_config_begin_layer(struct gt_config *config);
