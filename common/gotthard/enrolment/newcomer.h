/* SPDX-License-Identifier: ISC */
/*
 * The newcomer's end of an enrolment (docs/protocol.md, section 8): meets the operator's command at
 * the relay, sends the request, waits for the answer and has its owner install it. One
 * implementation for gotthard-agentd, gotthard-cli and gotthard-relayd.
 *
 * The newcomer is in the role of the device of an ordinary session (tunnel/tunnel.h) whose only
 * service is "@enroll". Nothing is handed to the owner that the operator's command did not seal.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/proxy.h"
#include "gotthard/relay/end-reason.h"
#include "gotthard/trust/enrolment.h"

struct gt_newcomer;

struct gt_newcomer_settings { /* copied, except for the proxy */
    const struct gt_token *token;
    const struct gt_certificate_key *key; /* the newcomer's own; for the request */
    const struct gt_span *host_keys;      /* as gt_enrolment_request_make() */
    size_t n_host_keys;
    const struct gt_proxy *proxy; /* on the way to the relay; borrowed; NULL: none */
    bool is_single_port;
    unsigned deadline_ms; /* from now until it gives up; gt_newcomer_time_left() */
};

enum gt_newcomer_end {
    GT_NEWCOMER_INSTALLED,
    GT_NEWCOMER_NOT_ACCEPTED,  /* the relay refuses the token: expired, or of another fleet */
    GT_NEWCOMER_UNREACHABLE,   /* the relay */
    GT_NEWCOMER_IN_USE,        /* another machine uses the token at this moment */
    GT_NEWCOMER_ENDED,         /* the operator's command has ended, or ended this session */
    GT_NEWCOMER_REJECTED,      /* by the operator */
    GT_NEWCOMER_FORGED,        /* an answer that the operator's command did not make */
    GT_NEWCOMER_NOT_INSTALLED, /* the owner could not use the bundle */
    GT_NEWCOMER_EXPIRED,       /* the deadline passed */
    GT_NEWCOMER_INTERNAL,
};

/* Returns a static sentence for users; the detail of on_end may follow it. */
const char *gt_newcomer_end_text(enum gt_newcomer_end end);
/* Returns the exit status of a program that ends for this reason. */
enum gt_exit_status gt_newcomer_exit_status(enum gt_newcomer_end end);

struct gt_newcomer_events {
    /* The relay could not be reached (@why), and is tried again. May repeat. */
    void (*on_retry)(void *userdata, const char *why);
    /* At the relay; the operator's command is not there. May repeat. */
    void (*on_waiting)(void *userdata);
    /* The operator's command is there, and has the request. */
    void (*on_requested)(void *userdata);
    /* The answer: checked by gt_bundle_check(), and valid during this call. Install it. Returns
     * false if that is not possible, with a text for both sides in @ret_why (GT_ENROLMENT_TEXT_MAX
     * bytes). Once. */
    bool (*on_bundle)(void *userdata, const struct gt_bundle *bundle, char *ret_why);
    /* The last callback; @why is a detail for people, or empty. Free the newcomer from the next
     * turn of the loop on, not inside. */
    void (*on_end)(void *userdata, enum gt_newcomer_end end, const char *why);
};

/*
 * Returns how long a newcomer waits at most, in milliseconds. The relay judges the expiry: a
 * machine whose clock is wrong waits for a minute at least, and for the longest life of a token at
 * most.
 */
unsigned gt_newcomer_time_left(const struct gt_token *token, int64_t now);

/* Starts. The first callback comes from the loop. Returns 0, GT_ENROLMENT_E_BAD if the token is not
 * possible, or a negative errno. */
int gt_newcomer_new(struct ev_loop *loop, const struct gt_newcomer_settings *settings,
                    const struct gt_newcomer_events *events, void *userdata,
                    struct gt_newcomer **ret) GT_MUST_CHECK;
/* Closes at once. Takes NULL; returns NULL. */
struct gt_newcomer *gt_newcomer_free(struct gt_newcomer *newcomer);
