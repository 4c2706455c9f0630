/* SPDX-License-Identifier: ISC */
/*
 * The rows of the table of outcomes (mqtt-error.h) that concern TLS: the broker's certificate, this
 * side's certificate, the clock, and servers that do not speak TLS. For mqtt-error.c only. The
 * texts of OpenSSL are not for people: a row has words of its own, and log.level debug shows them.
 */
#pragma once

#include "gotthard/mqtt/mqtt-error.h"

/* Returns the rows, in the order in which they apply. */
const struct gt_mqtt_outcome *gt_mqtt_tls_outcomes(size_t *ret_n);
/* Returns true if the broker has aborted TLS without an alert: it may have rejected this side's
 * certificate. */
bool gt_mqtt_tls_is_guess(const struct gt_mqtt_error *end);
/* Returns true if the broker has reset the TCP connection. */
bool gt_mqtt_tls_is_reset(const struct gt_mqtt_error *end);
