/* SPDX-License-Identifier: ISC */
/* The rows of a relay at which this side was registered; the same for both sides. */
#pragma once

#include "gotthard/doctor/checkup.h"
#include "gotthard/doctor/relay-check.h"

#define GT_RELAY_ROW_KEY   "relay key"
#define GT_RELAY_ROW_PORTS "relay ports"
#define GT_RELAY_ROW_LARGE "large packets"

/* Adds the rows. @facts: of a check that was registered. @is_single_port: data connections use the
 * main port by configuration. */
void gt_relay_add_rows(const struct gt_relay_facts *facts, const struct gt_host_port *relay,
                       bool is_single_port, struct gt_checkup *checkup);
/* Skips the rows from @first, one of the above, on. */
void gt_relay_skip_rows(struct gt_checkup *checkup, const char *first, const char *why);
/* Writes the name of the interface by which this machine reaches @addr, or "INTERFACE". Returns
 * @ret (IF_NAMESIZE). */
const char *gt_interface_to(const struct gt_addr *addr, char *ret);
