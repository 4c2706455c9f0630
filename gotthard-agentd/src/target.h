/* SPDX-License-Identifier: ISC */
/*
 * Names for places: a service is a named local target ("ssh" = 127.0.0.1:22), a relay a named
 * server. Whatever a stranger asks for is looked up here and nowhere else: a text that is in no
 * list leads nowhere, so that nothing but the configuration decides what is dialled.
 */
#pragma once

#include "gotthard/config.h"

struct target {
    char name[GT_SERVICE_MAX + 1];
    char host[GT_HOST_MAX + 1];
    uint16_t port;
};

struct targets {
    struct target *all; /* owned */
    size_t n;
};

enum { TARGET_E_BAD = 1 }; /* the reason was written to @ret_why */

void targets_deinit(struct targets *targets);
/* Copies @target to the end. -ENOMEM. */
int targets_add(struct targets *targets, const struct target *target) GT_MUST_CHECK;
/* Adds every pair `name = "host:port"`. E_BAD with one sentence. */
int targets_add_map(struct targets *targets, const struct gt_config_map *map, char *ret_why,
                    size_t cap) GT_MUST_CHECK;
/* By its name; NULL: none of that name. */
const struct target *targets_find(const struct targets *targets, const char *name);
/*
 * What an operator may write for a service: its name; else, all digits, the port of one; else the
 * "host:port" of one. NULL: none.
 */
const struct target *targets_resolve(const struct targets *targets, const char *text);
bool target_equals(const struct target *a, const struct target *b);

/* Between our own processes: a list is its count and its targets. A reader that fails leaves what
 * it had read; -ENOMEM. */
void target_encode(const struct target *target, struct gt_writer *w);
void target_decode(struct gt_reader *r, struct target *ret);
void targets_encode(const struct targets *targets, struct gt_writer *w);
int targets_decode(struct gt_reader *r, struct targets *ret) GT_MUST_CHECK;
