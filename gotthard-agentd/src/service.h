/* SPDX-License-Identifier: ISC */
/*
 * Dials the target of one stream (net/dial.h), and passes the socket to the owner, or the RST code
 * of the failure. Targets are services of the configuration, or those that it permits: then each
 * resolved address is checked, and no other one is dialed.
 */
#pragma once

#include <ev.h>

#include "gotthard/proto/stream.h"
#include "permit.h"
#include "target.h"

struct service;

struct service_settings {
    const struct permit_target *target; /* borrowed during the call */
    const struct permit *permit; /* keeps; checks the addresses; NULL: a configured service */
    unsigned timeout_ms;         /* for resolving and all addresses */
};

/* The pointers are valid until the service is freed. */
struct service_result {
    int fd;                     /* connected, to be taken; -1: failed */
    enum gt_rst code;           /* GT_RST_NONE, or the reason */
    const struct gt_addr *addr; /* the target's; NULL if failed */
    const char *why;            /* the reason as text; NULL if connected */
};

/* The last callback. The owner frees the service inside this callback or later. */
typedef void (*service_fn)(void *userdata, struct service *service,
                           const struct service_result *result);

/* @on_done is called from the loop, or after @ret is set inside this call: a target on this machine
 * accepts or refuses at once. -ENOMEM, or a negative errno. */
int service_new(struct ev_loop *loop, const struct service_settings *settings, service_fn on_done,
                void *userdata, struct service **ret) GT_MUST_CHECK;
/* Cancels the dial if it is in progress; no callback follows. Takes NULL. */
struct service *service_free(struct service *service);

/* Returns the RST code for an errno of connect(2), positive or negative. */
enum gt_rst service_rst_code(int err);
