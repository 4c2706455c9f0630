/* SPDX-License-Identifier: ISC */
/*
 * The receiving side of an upgrade: the image that is started with a state, to rehearse or to take
 * over. It checks the state, passes the secrets in it to the configuration, and closes all
 * descriptors that are not part of it.
 */
#pragma once

#include "snapshot/memfd.h"

struct restore {
    struct memfd memfd; /* ->fd is -1 in a first start */
};

enum { RESTORE_E_REJECTED = 1 }; /* the state is invalid; logged */

/* Opens and checks the state in descriptor @fd. Must be called before anything opens a descriptor
 * or loads the configuration. E_REJECTED, or a negative errno. */
int restore_rehearse(int fd, struct restore *ret) GT_MUST_CHECK;
/* As restore_rehearse, and takes the descriptors of the state. */
int restore_take_over(int fd, struct restore *ret) GT_MUST_CHECK;
bool restore_is_pending(const struct restore *restore);
struct gt_span restore_state(const struct restore *restore);
/* Wipes and closes the state. May be called twice. */
void restore_deinit(struct restore *restore);
