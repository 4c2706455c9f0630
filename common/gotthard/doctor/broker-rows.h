/* SPDX-License-Identifier: ISC */
/* The rows of a broker behind its name and its addresses; the same for both sides. */
#pragma once

#include "gotthard/doctor/broker-check.h"
#include "gotthard/doctor/checkup.h"

#define GT_BROKER_ROW_TLS     "broker TLS"
#define GT_BROKER_ROW_LOGIN   "broker login"
#define GT_BROKER_ROW_PUBLISH "publish"
#define GT_BROKER_ROW_RECEIVE "receive"

struct gt_broker_words {
    const char *host;
    bool is_tls, is_loopback;
    const char *publish, *receive; /* topics, for people */
    struct gt_check_fault
        refused; /* of missing rights; its remedy: the access rules that are needed */
    /* The broker may know this side by another name than its own; NULL: it does not. */
    const char *known_as;
    const char *own_name, *own_setting;
};

/* Returns id, exit status and hint of a failure to connect. @outcome: NULL: no answer in time. */
struct gt_check_fault gt_broker_fault(const struct gt_mqtt_outcome *outcome);
/* Adds the rows of a connection that is up or was up. */
void gt_broker_add_rows(const struct gt_broker_facts *facts, const struct gt_broker_words *words,
                        struct gt_checkup *checkup);
/* Adds the rows of a connection that did not come up, with the id and the hint of @fault and the
 * cause @text. */
void gt_broker_add_failure(const struct gt_broker_facts *facts, const struct gt_broker_words *words,
                           const struct gt_check_fault *fault, const char *text,
                           struct gt_checkup *checkup);
/* Skips the rows from @first, one of the above, on. */
void gt_broker_skip_rows(struct gt_checkup *checkup, const char *first, const char *why);
