/* SPDX-License-Identifier: ISC */
/*
 * All planes together: made, started, and stopped for a moment. While they are
 * stopped all that is theirs is the control thread's, and no byte moves.
 */
#pragma once

#include "limits.h"
#include "plane.h"

struct planes {
    struct plane *all[BUDGET_PLANES_MAX];
    size_t n;
    struct mailbox *outbox; /* borrows: the control thread's */
};

/* Still as yet. Keeps @outbox and @quota. */
int planes_new(struct planes *planes, const struct settings *settings, const struct budget *budget,
               struct mailbox *outbox, struct quota *quota) GT_MUST_CHECK;
int planes_start(struct planes *planes) GT_MUST_CHECK;
/* Until no letter is on its way any more, in either direction. */
void planes_stop(struct planes *planes);
void planes_go_on(struct planes *planes);
void planes_change(struct planes *planes, const struct plane_limits *limits);
void planes_free(struct planes *planes);
