/* SPDX-License-Identifier: ISC */
/* What people should know about settings that are good enough to run with. */
#pragma once

#include "settings.h"

void remarks_on_settings(const struct settings *settings, const struct settings_keys *keys);
/* After a reload: what does not follow it. */
void remarks_on_change(const struct settings *old, const struct settings *new);
