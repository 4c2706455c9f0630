/* SPDX-License-Identifier: ISC */
/*
 * Named targets: a service is a named local target ("ssh" = 127.0.0.1:22), a relay a named server.
 * A service of UDP is called "udp:dns". Every name that a peer sends is looked up here and nowhere
 * else. A name that is in no list has no target, so that only the configuration decides which
 * addresses are dialed.
 */
#pragma once

#include "gotthard/config/config.h"
#include "gotthard/net/host-port.h"

struct target {
    char name[GT_SERVICE_MAX + 1];
    struct gt_host_port address;
};

struct targets {
    struct target *all; /* owned */
    size_t n;
};

enum { TARGET_E_BAD = 1 }; /* the reason was written to @ret_why */

void targets_deinit(struct targets *targets);
/* Appends a copy of @target. -ENOMEM. */
int targets_add(struct targets *targets, const struct target *target) GT_MUST_CHECK;
/* Appends copies of all of @from. -ENOMEM, with a part of them appended. */
int targets_add_all(struct targets *targets, const struct targets *from) GT_MUST_CHECK;
#define TARGET_UDP "udp:" /* before a target of UDP, in settings and in requests */
/* Returns the text after TARGET_UDP, or NULL if @text does not begin with it. */
const char *target_udp(const char *text);

/* Appends every pair `name = "host:port"`, and of `name = "udp:host:port"` the target udp:name.
 * E_BAD with one sentence in @ret_why; -ENOMEM. */
int targets_add_map(struct targets *targets, const struct gt_config_map *map, char *ret_why,
                    size_t cap) GT_MUST_CHECK;
/* Returns the target called @name, or NULL. */
const struct target *targets_find(const struct targets *targets, const char *name);
/*
 * Returns the target that an operator means by @text, or NULL. @text is a name; else, if all
 * digits, the port of a target; else its "host:port". After "udp:" it means a target of UDP,
 * otherwise one of TCP.
 */
const struct target *targets_resolve(const struct targets *targets, const char *text);
/* Returns true if name, host (in any case) and port are equal. */
bool target_equals(const struct target *a, const struct target *b);

/* Between processes of the agent: a list is a u16 count and its targets. A decoder that fails keeps
 * the targets before the failure in @ret; -ENOMEM. */
void target_encode(const struct target *target, struct gt_writer *w);
void target_decode(struct gt_reader *reader, struct target *ret);
void targets_encode(const struct targets *targets, struct gt_writer *w);
int targets_decode(struct gt_reader *reader, struct targets *ret) GT_MUST_CHECK;
