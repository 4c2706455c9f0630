/* SPDX-License-Identifier: ISC */
/*
 * The other side of an upgrade: the image that is started with a state, to rehearse or to take
 * over. What it was given is checked, secrets go where the configuration looks for them, and what
 * it was not given is closed.
 */
#pragma once

#include "sealed.h"

struct heir {
    struct sealed sealed; /* .fd -1: this is a first start */
};

enum { HEIR_E_REFUSED = 1 }; /* logged */

/* Before anything else opens a descriptor or loads a configuration. */
int heir_rehearse(int fd, struct heir *ret) GT_MUST_CHECK;
int heir_take_over(int fd, struct heir *ret) GT_MUST_CHECK;
bool heir_is_one(const struct heir *heir);
struct gt_span heir_state(const struct heir *heir);
/* All was read: wipes it. */
void heir_deinit(struct heir *heir);
