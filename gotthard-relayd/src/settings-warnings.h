/* SPDX-License-Identifier: ISC */
/* Warnings about settings that are valid but deserve attention. */
#pragma once

#include "settings.h"

void settings_warnings_log(const struct settings *settings, const struct admission *admission);
/* For a reload: logs which changed settings do not take effect at once. */
void settings_warnings_log_change(const struct settings *old, const struct settings *new);
