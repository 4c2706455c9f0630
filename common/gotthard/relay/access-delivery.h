/* SPDX-License-Identifier: ISC */
/*
 * Sends an access list to one relay, on a control connection without a session, and receives the
 * effect that it had there (docs/protocol.md, sections 3 and 7). It has one result, and never
 * connects again. Its owner makes the parts; this module knows nothing about their content.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/net/host-port.h"
#include "gotthard/proto/control.h"
#include "gotthard/relay/end-reason.h"

struct gt_access_delivery;

struct gt_access_delivery_settings {  /* the relay, the name and the key are copied */
    const struct gt_host_port *relay; /* its address */
    const struct gt_proxy *proxy;     /* kept; NULL: the relay is connected directly */
    const char *name;                 /* operator */
    const uint8_t *client_key;        /* K_rc, GT_KEY_SIZE */
    size_t n_parts;                   /* 1 or more */
    unsigned timeout_ms;              /* to connect; then for the answer, and 20 ms for each part */
};

struct gt_access_delivery_events {
    /* Writes part @i, at most GT_CONTROL_PART_MAX bytes. Returns false if it cannot be made, which
     * ends the delivery. */
    bool (*make_part)(void *userdata, size_t i, uint8_t ret[static GT_CONTROL_PART_MAX],
                      size_t *ret_n);
    /* The relay's answer. No callback follows, neither here nor below; free the delivery from the
     * next turn of the loop on. */
    void (*on_answer)(void *userdata, const struct gt_access_effect *effect);
    /* There is no answer. @code is that of the relay's BYE or ERROR, or GT_CODE_NONE.
     * GT_END_CLOSED: the relay has read all parts and sends no answer, as older versions do. @why
     * is for people.
     */
    void (*on_failed)(void *userdata, enum gt_end_reason reason, enum gt_code code,
                      const char *why);
};

/* Starts to dial. The first callback comes from the loop. -ENOMEM, or as gt_tls_dial_init. */
int gt_access_delivery_new(struct ev_loop *loop, const struct gt_access_delivery_settings *settings,
                           const struct gt_access_delivery_events *events, void *userdata,
                           struct gt_access_delivery **ret) GT_MUST_CHECK;
/* Closes the connection. Not from inside the callbacks. Takes NULL; returns NULL. */
struct gt_access_delivery *gt_access_delivery_free(struct gt_access_delivery *delivery);
