/* SPDX-License-Identifier: ISC */
/*
 * The sessions that are open: beginning them, adopting those of a listener before us, how many they
 * are and whose, which may be closed by whom, and which would not be granted any more.
 */
#pragma once

#include "inbox.h"
#include "session.h"
#include "setup.h"

struct roster {
    struct ev_loop *loop;
    const struct setup *setup; /* keeps; set anew after a reload */
    void (*on_change)(void *userdata);
    void *userdata;
    struct gt_list sessions;
    unsigned n;               /* processes, those on their way out too */
    struct session *newborn;  /* ready, and not handed over yet */
    char *folder;             /* owned; of the sessions' records, or NULL */
    struct gt_list farewells; /* of workers that could not say theirs */
};

void roster_init(struct roster *roster, struct ev_loop *loop, const struct setup *setup,
                 void (*on_change)(void *userdata), void *userdata);
/* Forgets all of them; their processes live on. */
void roster_deinit(struct roster *roster);
/* Finds the sessions that live on, and those that do not, by the records in @folder. The first
 * folder is where those of new sessions are kept; without one none are. */
void roster_adopt(struct roster *roster, const char *folder);

/* A worker that stands ready; then roster_begin. */
int roster_prepare(struct roster *roster, const struct inbox_offer *offer) GT_MUST_CHECK;
/* Hands over to it, or (@keys NULL) lets it go. */
int roster_begin(struct roster *roster, const struct inbox_offer *offer,
                 const struct gt_session_keys *keys) GT_MUST_CHECK;

/* Sessions that are not on their way out: of @operator_, or all (NULL). */
unsigned roster_count(const struct roster *roster, const char *operator_);
/* Closes session @rid, or all (NULL) that @operator_ may close: his own, or everybody's when
 * @is_admin. Returns how many, or -EPERM when @rid is another's. */
int roster_close(struct roster *roster, const char *operator_, bool is_admin, const uint8_t *rid);
void roster_close_all(struct roster *roster, const char *why);
/* What was granted by yesterday's rules and would not be by today's, ends. */
void roster_review(struct roster *roster, time_t now);
/* One line each. */
void roster_log(const struct roster *roster);
