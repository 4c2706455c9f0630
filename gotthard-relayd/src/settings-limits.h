/* SPDX-License-Identifier: ISC */
/*
 * Converts the settings to the limits of each part of the relay. Start and reload both use these
 * functions, so that a reload cannot interpret a setting in another way.
 */
#pragma once

#include "control/registry.h"
#include "data/data-thread.h"
#include "limits/descriptor-budget.h"
#include "settings.h"

struct descriptor_budget_request settings_descriptor_request(const struct settings *settings);
/* @n_fds_max: the descriptors of all connections. */
struct quota_limits settings_quota_limits(const struct settings *settings, size_t n_fds_max);
struct data_thread_limits settings_data_thread_limits(const struct settings *settings);
struct client_limits settings_client_limits(const struct settings *settings);
struct session_limits settings_session_limits(const struct settings *settings);
struct registry_limits settings_registry_limits(const struct settings *settings);
