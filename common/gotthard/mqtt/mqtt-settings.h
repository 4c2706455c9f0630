/* SPDX-License-Identifier: ISC */
/* A connection's own copy of its settings. For mqtt.c only. */
#pragma once

#include "gotthard/mqtt/mqtt.h"

/* Copies the settings with their strings, and references the TLS context. Returns false without
 * memory. In both cases the caller calls gt_mqtt_settings_deinit(). */
bool gt_mqtt_settings_copy(const struct gt_mqtt_settings *from,
                           struct gt_mqtt_settings *ret) GT_MUST_CHECK;
/* Frees and wipes the copies. */
void gt_mqtt_settings_deinit(struct gt_mqtt_settings *settings);
