/* SPDX-License-Identifier: ISC */
/*
 * The sessions that are open: how many, whose, which may be closed by whom, and which would not be
 * granted any more.
 */
#pragma once

#include "policy.h"
#include "session.h"

struct roster {
    struct gt_list sessions;
    unsigned n; /* processes, those on their way out too */
};

void roster_init(struct roster *roster);
/* Forgets all of them; their processes live on. */
void roster_deinit(struct roster *roster);
void roster_add(struct roster *roster, struct session *session); /* keeps */
/* From its on_end: it frees itself. */
void roster_remove(struct roster *roster, struct session *session);

/* Sessions that are not on their way out: of @operator_, or all (NULL). */
unsigned roster_count(const struct roster *roster, const char *operator_);
/* Closes session @rid, or all (NULL) that @operator_ may close: his own, or everybody's when
 * @is_admin. Returns how many, or -EPERM when @rid is another's. */
int roster_close(struct roster *roster, const char *operator_, bool is_admin, const uint8_t *rid);
void roster_close_all(struct roster *roster, const char *why);
/* What was granted by yesterday's rules and would not be by today's, ends. */
void roster_review(struct roster *roster, const struct gt_trust *trust, const struct policy *policy,
                   time_t now);
/* One line each. */
void roster_log(const struct roster *roster);
