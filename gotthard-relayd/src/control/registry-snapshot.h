/* SPDX-License-Identifier: ISC */
/*
 * The registry in a snapshot: its counters, and in their order its ports, tombstones and sessions.
 */
#pragma once

#include "control/registry.h"
#include "snapshot/saved-layout.h"

struct saved_registry {
    struct gt_addr bind; /* of session ports */
    uint64_t serial, n_created, n_unexpected;
};

extern const struct saved_layout registry_layout;

/* Writes SAVED_REGISTRY only. */
void registry_save(const struct registry *registry, struct gt_writer *writer);
/* Writes all sessions with what belongs to them. */
void registry_save_sessions(const struct registry *registry, struct gt_writer *writer);
void registry_restore(struct registry *registry, const struct saved_registry *saved);
