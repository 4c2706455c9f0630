/* SPDX-License-Identifier: ISC */
/*
 * A second handshake with a broker that has aborted the first one without a reason. The client
 * sends CONNECT together with the end of its handshake, and a broker that rejects its certificate
 * closes with CONNECT unread: the kernel then sends a reset, which can overtake the alert. For
 * mqtt-thread.c only.
 */
#pragma once

#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/mqtt/mqtt-race.h"

/* Connects to the address that @race reached once more, without MQTT, if @how ended without an
 * alert where one is expected; not through a proxy. The alert is written to the watched
 * verification. Blocks for at most 4 s. */
void gt_mqtt_probe_alert(const struct gt_mqtt_race *race, const struct gt_mqtt_error *how);
