/* SPDX-License-Identifier: ISC */
/*
 * What the settings mean to each part of the relay, and how many descriptors there are to go round.
 */
#pragma once

#include "registry.h"
#include "settings.h"

struct quota_limits limits_of_quota(const struct settings *settings, size_t n_fds_max);
struct plane_limits limits_of_plane(const struct settings *settings);
struct member_limits limits_of_member(const struct settings *settings);
struct entry_limits limits_of_entry(const struct settings *settings);
struct registry_limits limits_of_registry(const struct settings *settings);

#define BUDGET_PLANES_MAX 64

struct budget {
    size_t n_planes;
    size_t n_connections; /* descriptors of connections and of sessions' listeners */
    size_t n_pipes;       /* kernel pipes of one plane */
};

enum { BUDGET_E_SMALL = 1 }; /* too few descriptors to do anything useful; logged */

/* Raises the soft limit of descriptors to the hard one, and shares out what there is. */
int budget_make(const struct settings *settings, struct budget *ret) GT_MUST_CHECK;
