/* SPDX-License-Identifier: ISC */
/*
 * What a worker could not say any more, because it was killed or had no way to the relay: the
 * listener registers there in its place, and says goodbye. The operator is told at once, instead of
 * waiting for the resume window to pass.
 */
#pragma once

#include <ev.h>

#include "gotthard/key.h"
#include "gotthard/list.h"
#include "target.h"

struct farewell;

struct farewell_settings { /* copied */
    const struct target *relay;
    const char *device;
    const uint8_t *client_key; /* K_rc */
    const uint8_t *rid;
    const char *record_at; /* removed once it is said, or nobody waits any more; or NULL */
    bool was_killed;       /* and not just unheard: he is told that the device restarted */
    unsigned patience_ms;  /* after it no operator waits any more */
};

/* Begins, and is in @list until it frees itself; nobody waits for it. -ENOMEM. */
int farewell_new(struct ev_loop *loop, const struct farewell_settings *settings,
                 struct gt_list *list) GT_MUST_CHECK;
/* All of them, at once; what was not said is still recorded, for the listener that follows. */
void farewell_free_all(struct gt_list *list);
