/* SPDX-License-Identifier: ISC */
/*
 * The operator's end of an enrolment (docs/protocol.md, section 8; the newcomer's end is
 * enrolment/newcomer.h): waits at the relay until the token expires, takes one request, and sends
 * one answer. It knows no terminal and no certificate authority.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/net/host-port.h"
#include "gotthard/relay/end-reason.h"
#include "gotthard/trust/enrolment.h"

struct gt_registrar;

struct gt_registrar_settings {    /* copied, except for the proxy */
    const struct gt_token *token; /* its private half is the caller's, for gt_registrar_answer() */
    const struct gt_host_port *relay; /* where this side reaches it; that of the token may differ */
    const struct gt_proxy *proxy;     /* borrowed; NULL: none */
    bool is_single_port;
    const char *name;          /* this operator's */
    const uint8_t *client_key; /* K_rc of that name */
    unsigned left_ms;          /* until the token expires */
};

enum gt_registrar_end {
    GT_REGISTRAR_INSTALLED,     /* the newcomer has installed the answer */
    GT_REGISTRAR_NOT_INSTALLED, /* it could not */
    GT_REGISTRAR_UNCONFIRMED,   /* the answer was sent, and no result came */
    GT_REGISTRAR_REJECTED,      /* gt_registrar_reject() was called, and the newcomer notified */
    GT_REGISTRAR_MALFORMED,     /* its request was none of a newcomer with this token */
    GT_REGISTRAR_EXPIRED,       /* no newcomer came */
    GT_REGISTRAR_BROKEN,        /* the newcomer, or the relay, was lost before the answer */
    GT_REGISTRAR_REFUSED,       /* the relay refuses this operator */
    GT_REGISTRAR_INTERNAL,
};

struct gt_registrar_events {
    /* The relay cannot be reached (@why), and is tried again. May repeat. */
    void (*on_retry)(void *userdata, const char *why);
    /* At the relay; the newcomer is not there. May repeat. */
    void (*on_waiting)(void *userdata);
    /* A newcomer is there. */
    void (*on_met)(void *userdata);
    /* Its request: checked, valid until the registrar is freed. Call gt_registrar_answer() or
     * gt_registrar_reject(), now or later. Once. */
    void (*on_request)(void *userdata, const struct gt_enrolment_request *request);
    /* The last callback; @why is a detail for people, or empty. Free the registrar from the next
     * turn of the loop on, not inside. */
    void (*on_end)(void *userdata, enum gt_registrar_end end, const char *why);
};

/* Starts. The first callback comes from the loop. Returns 0 or a negative errno. */
int gt_registrar_new(struct ev_loop *loop, const struct gt_registrar_settings *settings,
                     const struct gt_registrar_events *events, void *userdata,
                     struct gt_registrar **ret) GT_MUST_CHECK;
/* Seals @bundle (encoded) for the request and sends it. @private_key is wiped: no other answer is
 * possible. Returns 0, GT_ENROLMENT_E_BAD if the newcomer's key is of low order, or a negative
 * errno. No effect after on_end. */
int gt_registrar_answer(struct gt_registrar *registrar, uint8_t private_key[static GT_KEY_SIZE],
                        struct gt_span bundle) GT_MUST_CHECK;
/* Sends the reason to the newcomer in place of an answer. No effect after on_end. */
void gt_registrar_reject(struct gt_registrar *registrar, const char *why);
/* Ends at once. Takes NULL; returns NULL. */
struct gt_registrar *gt_registrar_free(struct gt_registrar *registrar);
