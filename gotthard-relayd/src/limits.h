/* SPDX-License-Identifier: ISC */
/* From the one list of settings to what each part of the relay has to keep to. */
#pragma once

#include "registry.h"
#include "settings.h"

struct quota_limits limits_of_quota(const struct settings *settings, size_t n_fds_max);
struct plane_limits limits_of_planes(const struct settings *settings);
struct member_limits limits_of_members(const struct settings *settings);
struct registry_limits limits_of_registry(const struct settings *settings);
