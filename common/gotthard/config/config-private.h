/* SPDX-License-Identifier: ISC */
/* A loaded configuration, for config.c and config-show.c only. */
#pragma once

#include "gotthard/config/config.h"

/* The text that one layer gave to one item. */
struct gt_config_assignment {
    char *text, *origin;
    char *file; /* of a secret: the file that contains it, or NULL */
    unsigned layer;
    bool is_standard; /* of a variable that other programs share */
};

struct gt_config_assignments {
    struct gt_config_assignment *all; /* in the order of the layers; the last one wins */
    size_t n;
    char *unusable; /* the variable that other programs share, if its value cannot be used; NULL */
};

struct gt_config {
    const struct gt_config_program *program;
    void *settings;
    struct gt_config_assignments *assignments; /* one for each item */
    unsigned layer;                            /* the current one */
    char *file;                                /* of --config, or NULL */
};
