/* SPDX-License-Identifier: ISC */
/*
 * Devices as a dynamic inventory of Ansible: the JSON that an inventory script prints for --list.
 * A group for each tag ("site_zurich"), and the connection variables of each device in _meta, so
 * that Ansible asks for no device by itself.
 */
#pragma once

#include "print.h"
#include "selection.h"

/* Returns the inventory of the selected devices whose state is known, or NULL without memory. */
json_t *device_inventory_json(const struct device_table *table, const struct selection *selection);
/* Writes the name of the group of a tag: KEY_VALUE with '_' for each character that Ansible does
 * not permit in a group. Returns @ret. */
const char *device_inventory_group(struct gt_span key, struct gt_span value, char *ret, size_t cap);
