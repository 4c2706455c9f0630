/* SPDX-License-Identifier: ISC */
/*
 * What the operator of a session may reach: the services and permitted targets of the parameters,
 * until a reload of the agent changes them. The listener then writes the new grant to the session
 * file and signals WORKER_CHANGE: also a listener that did not start this worker can do that.
 */
#pragma once

#include "permit.h"
#include "worker-parameters.h"

struct worker_streams;

struct worker_grant {
    struct targets services;  /* owned */
    struct permit permit;     /* owned; other targets */
    struct targets withdrawn; /* owned: services of earlier grants, in case they are asked for */
};

/* -ENOMEM; PERMIT_E_BAD, logged: the text was checked when the agent loaded it. */
int worker_grant_init(struct worker_grant *grant,
                      const struct worker_parameters *parameters) GT_MUST_CHECK;
void worker_grant_deinit(struct worker_grant *grant);
/* Applies the grant of the session file, if it is a new one: ends the streams of everything that is
 * no longer granted, and acknowledges. Without an acknowledgement the listener ends the session. */
void worker_grant_apply(struct worker_grant *grant, struct worker_streams *streams);

/* Returns true if a stream to @service, or to the target @target of @addr, is granted. @service:
 * NULL: a permitted target. @addr: NULL: it is not connected yet. */
bool worker_grant_has_service(const struct worker_grant *grant, const struct target *service);
bool worker_grant_has_target(const struct worker_grant *grant, const struct permit_target *target,
                             const struct gt_addr *addr);
