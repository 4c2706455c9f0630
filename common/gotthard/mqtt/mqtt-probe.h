/* SPDX-License-Identifier: ISC */
/*
 * A second handshake with a broker that has aborted the first one without a reason. The client
 * sends CONNECT together with the end of its handshake, and a broker that rejects its certificate
 * closes with CONNECT unread: the kernel then sends a reset, which can overtake the alert. For
 * mqtt-thread.c only.
 */
#pragma once

#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/mqtt/mqtt-queue.h"
#include "gotthard/mqtt/mqtt-race.h"

/*
 * If @how ended without an alert where one is expected, connects to the address that @race reached
 * once more, without MQTT; not through a proxy. @probed: of the attempt before; a known result is
 * used again, so that a broker that resets each connection gets one probe. Receives this attempt's.
 * The alert is written to the watched verification, which must be that of @how. Blocks for at most
 * 3 s, and ends when ->is_over() of @race is true.
 */
void gt_mqtt_probe_alert(const struct gt_mqtt_race *race, struct gt_mqtt_error *how,
                         struct gt_mqtt_probed *probed);
