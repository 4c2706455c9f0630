/* SPDX-License-Identifier: ISC */
/*
 * Where values come from, weakest first: variables, credentials, files, flags. Each layer gives
 * texts to a configuration; what becomes of them is config.c's matter.
 */
#pragma once

#include "gotthard/config.h"

int gt_configlayers_add(struct gt_config *config, const struct gt_config_program *program,
                        const struct gt_config_args *args, char *ret_error) GT_MUST_CHECK;

/* The secrets that came in the environment, which are kept for the next load. */
void gt_configlayers_forget_taken(void);

/* What config.c takes from here. An empty text gives nothing to an item that is kept as a string;
 * twice in one layer is E_BAD. */
int gt_config_give(struct gt_config *config, const struct gt_config_item *item, const char *text,
                   const char *origin, char *ret_error) GT_MUST_CHECK;
void gt_config_begin_layer(struct gt_config *config);
